//! Spellings of a model's name, from the one on the span to ever plainer ones.

use super::{MatchStep, names};

/// The spellings to try, in order, each once. `model` is lower-case, `is_prefix` knows what may stand before its `/`.
pub(super) fn spellings(model: &str, is_bedrock: bool, is_prefix: impl Fn(&str) -> bool) -> Vec<(String, MatchStep)> {
    let mut out = Spellings(Vec::with_capacity(8));
    out.add(model, MatchStep::Exact);

    let mut name = without_path(model);
    out.add(name, MatchStep::Rewritten);
    // `bedrock/converse/us.anthropic.…` has two.
    while let Some((prefix, rest)) = name.split_once('/') {
        if !is_prefix(prefix) {
            break;
        }
        name = rest;
        out.add(name, MatchStep::Rewritten);
    }
    if is_bedrock {
        name = without_region(name);
        out.add(name, MatchStep::Rewritten);
        if let Some(vendor) = names::bedrock_vendor(name) {
            out.add(&format!("{vendor}.{name}"), MatchStep::Rewritten);
        }
        name = without_version(name);
        out.add(name, MatchStep::Rewritten);
    }
    let undated = without_date(name);
    out.add(undated, MatchStep::Undated);
    if name.contains('.') {
        out.add(&name.replace('.', "-"), MatchStep::Undated);
        out.add(&undated.replace('.', "-"), MatchStep::Undated);
    }
    out.0
}

/// Whether the name is that of a reseller's offer: `…:free`, `…:nitro`, `…:online`. Not what else has a colon: versions
/// (`…-v1:0`, `…-v1:0:28k`), sizes (`llama3:8b`), fine-tuned models (`ft:gpt-4o:org::id`) and ARNs.
pub(super) fn is_offer(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    !name.starts_with("ft:") && !name.starts_with("arn:") && name.split_once(':').is_some_and(|(_, tail)| is_word(tail))
}

struct Spellings(Vec<(String, MatchStep)>);

impl Spellings {
    fn add(&mut self, name: &str, step: MatchStep) {
        if !name.is_empty() && !self.0.iter().any(|(known, _)| known == name) {
            self.0.push((name.to_owned(), step));
        }
    }
}

/// `models/gemini-2.5-pro`, `publishers/google/models/…`, `arn:aws:bedrock:…:inference-profile/us.anthropic.…`
fn without_path(model: &str) -> &str {
    if let Some(at) = model.rfind("models/").filter(|at| *at == 0 || model.as_bytes().get(at - 1) == Some(&b'/')) {
        return model.get(at + "models/".len()..).unwrap_or(model);
    }
    if model.starts_with("arn:") {
        return model.rsplit('/').next().unwrap_or(model);
    }
    model
}

/// Cross-region inference profiles. `global.` stays: it has prices of its own.
fn without_region(model: &str) -> &str {
    const REGIONS: [&str; 8] = ["us.", "eu.", "apac.", "au.", "jp.", "ca.", "us-gov.", "regional."];
    REGIONS.iter().find_map(|region| model.strip_prefix(region)).unwrap_or(model)
}

/// `-v1`, `-v1:0`
fn without_version(model: &str) -> &str {
    let base = model.rsplit_once(':').filter(|(_, tail)| is_digits(tail)).map_or(model, |(base, _)| base);
    base.rsplit_once("-v").filter(|(_, tail)| is_digits(tail)).map_or(model, |(base, _)| base)
}

/// `@20250929`, `@latest`, `-2024-08-06`, `-20240806`
fn without_date(model: &str) -> &str {
    if let Some((base, _)) = model.rsplit_once('@') {
        return base;
    }
    let Some((base, tail)) = model.rsplit_once('-') else { return model };
    if tail.len() == 8 && is_digits(tail) {
        return base;
    }
    let is_part = |part: &str, len: usize| part.len() == len && is_digits(part);
    let year_month = || {
        let (base, month) = base.rsplit_once('-')?;
        let (base, year) = base.rsplit_once('-')?;
        (is_part(tail, 2) && is_part(month, 2) && is_part(year, 4)).then_some(base)
    };
    year_month().unwrap_or(model)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(model: &str, is_bedrock: bool) -> Vec<String> {
        spellings(model, is_bedrock, |prefix| names::alias(prefix).is_some())
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn prefixes_paths_and_dates_come_off() {
        assert_eq!(plain("gpt-4o", false), ["gpt-4o"]);
        assert_eq!(plain("gpt-4o-2024-08-06", false), ["gpt-4o-2024-08-06", "gpt-4o"]);
        assert_eq!(plain("openai/gpt-4o-mini", false), ["openai/gpt-4o-mini", "gpt-4o-mini"]);
        assert_eq!(plain("models/gemini-pro", false), ["models/gemini-pro", "gemini-pro"]);
        assert_eq!(plain("meta-llama/llama-3", false), ["meta-llama/llama-3"], "no provider's prefix");
        assert_eq!(plain("claude-x@20250929", false), ["claude-x@20250929", "claude-x"]);
        assert_eq!(
            plain("projects/p/locations/l/publishers/google/models/gemini-2.5-pro", false).get(1..),
            Some(["gemini-2.5-pro".to_owned(), "gemini-2-5-pro".to_owned()].as_slice())
        );
    }

    #[test]
    fn bedrock_names_lose_region_and_version_and_get_their_vendor_back() {
        let names = plain("arn:aws:bedrock:us-east-1:1:inference-profile/us.meta.llama3-2-1b-instruct-v1:0", true);
        assert!(names.contains(&"us.meta.llama3-2-1b-instruct-v1:0".to_owned()));
        assert!(names.contains(&"meta.llama3-2-1b-instruct".to_owned()));
        assert!(plain("nova-lite-v1:0", true).contains(&"amazon.nova-lite-v1:0".to_owned()));
    }

    #[test]
    fn offers_end_with_a_word() {
        for offer in ["deepseek/deepseek-r1:free", "openrouter/anthropic/claude-sonnet-4.5:nitro", "x:thinking"] {
            assert!(is_offer(offer), "{offer}");
        }
        for other in [
            "gpt-4o",
            "llama3:8b",
            "ollama/llama3:8b",
            "anthropic.claude-3-sonnet-20240229-v1:0",
            "anthropic.claude-3-sonnet-20240229-v1:0:28k",
            "ft:gpt-4o-mini-2024-07-18:org::id",
            "openai/ft:gpt-4o-mini-2024-07-18:org::id",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0",
            "arn:aws:bedrock:us-east-1:1:x",
            ":",
            "a:",
        ] {
            assert!(!is_offer(other), "{other}");
        }
    }

    #[test]
    fn odd_names_do_no_harm() {
        for model in ["/", "//", "models/", "-", "@", "arn:", "-v", ":", "openai/", "é@ü", "a/models/b", "1234-56-78"]
        {
            assert!(spellings(model, true, |_| true).iter().all(|(name, _)| !name.is_empty()), "{model}");
        }
    }
}
