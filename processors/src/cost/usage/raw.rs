//! Counts that stand inside a text: the provider's usage object as JSON, and the sum of a crew's calls.
//!
//! Keys of their own come first; a text fills in what they left out. Texts are parsed only where they are present, and
//! only up to [`MAX_TEXT`] bytes; one that is not of the expected shape says nothing, since it is a second source.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_pipeline::batch::view::Text;

use super::keys::{Count, Money, Name};
use super::number;
use super::reader::UsageReader;
use crate::cost::money::MAX_TOKENS;

/// Longer texts are no usage objects.
const MAX_TEXT: usize = 64 * 1024;

/// The usage objects of OpenAI (chat and responses), Anthropic and Google in one: their names do not clash.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawUsage<'a> {
    #[serde(alias = "prompt_tokens", alias = "promptTokenCount")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens", alias = "candidatesTokenCount")]
    output_tokens: Option<u64>,
    #[serde(alias = "totalTokenCount")]
    total_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    #[serde(rename = "cachedContentTokenCount")]
    cached_content: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: Option<u64>,
    #[serde(alias = "prompt_tokens_details")]
    input_tokens_details: Option<Details>,
    #[serde(alias = "completion_tokens_details")]
    output_tokens_details: Option<Details>,
    cache_creation: Option<CacheCreation>,
    server_tool_use: Option<ServerTools>,
    #[serde(borrow)]
    service_tier: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Option<u64>,
}

/// What the providers' packages of the Vercel AI SDK leave beside the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    openai: Option<OpenAiMetadata<'a>>,
    #[serde(borrow)]
    azure: Option<OpenAiMetadata<'a>>,
    #[serde(borrow)]
    anthropic: Option<AnthropicMetadata<'a>>,
    bedrock: Option<BedrockMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OpenAiMetadata<'a> {
    #[serde(borrow, rename = "serviceTier")]
    service_tier: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnthropicMetadata<'a> {
    #[serde(borrow)]
    usage: Option<RawUsage<'a>>,
    #[serde(rename = "cacheReadInputTokens")]
    read: Option<u64>,
    #[serde(rename = "cacheCreationInputTokens")]
    write: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BedrockMetadata {
    usage: Option<CachedTokens>,
}

/// Cached tokens in the SDK's spelling, which before version 6 has no key of its own for those that were written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CachedTokens {
    #[serde(rename = "cacheReadInputTokens")]
    read: Option<u64>,
    #[serde(rename = "cacheWriteInputTokens")]
    write: Option<u64>,
}

/// Fills in what the texts know.
pub(super) fn complete(reader: &mut UsageReader<'_>) {
    if let Some(json) = text(reader.name(Name::RawUsage)) {
        complete_from_raw(reader, json.as_str());
    }
    if let Some(json) = text(reader.name(Name::ProviderMetadata)) {
        complete_from_metadata(reader, json.as_str());
    }
    if let Some(repr) = text(reader.name(Name::CrewUsage)) {
        complete_from_repr(reader, repr.as_str());
    }
    if let Some(json) = text(reader.name(Name::CostDetails)) {
        complete_costs(reader, json.as_str());
    }
}

fn text(text: Text<'_>) -> Option<Text<'_>> {
    (1..=MAX_TEXT).contains(&text.len()).then_some(text)
}

fn complete_from_raw<'a>(reader: &mut UsageReader<'a>, json: &'a str) {
    if let Ok(raw) = serde_json::from_str::<RawUsage<'a>>(json) {
        // Logfire's own input and output have keys; what is here is of the provider, which may count otherwise.
        raw.details(reader);
        if reader.count(Count::Input).is_none() && reader.count(Count::Output).is_none() {
            raw.fill(reader);
        }
    }
}

fn complete_from_metadata<'a>(reader: &mut UsageReader<'a>, json: &'a str) {
    let Ok(metadata) = serde_json::from_str::<Metadata<'a>>(json) else { return };
    let openai = metadata.openai.or(metadata.azure);
    reader.fill_name(Name::ServedTier, openai.and_then(|m| m.service_tier));
    let (raw, spelled) =
        metadata.anthropic.map_or((None, None), |m| (m.usage, Some(CachedTokens { read: m.read, write: m.write })));
    if let Some(raw) = raw {
        raw.details(reader);
        // Anthropic's input is the uncached part: it tells whether the SDK's includes the cached one.
        if reader.count(Count::Input).is_some() {
            reader.fill(Count::Uncached, raw.input_tokens.filter(|n| *n <= MAX_TOKENS));
        }
    }
    for cached in [spelled, metadata.bedrock.and_then(|m| m.usage)].into_iter().flatten() {
        reader.fill(Count::CacheRead, cached.read.filter(|n| *n <= MAX_TOKENS));
        reader.fill(Count::CacheWrite, cached.write.filter(|n| *n <= MAX_TOKENS));
    }
}

impl<'a> RawUsage<'a> {
    /// What no count of input and output tells.
    fn details(&self, reader: &mut UsageReader<'a>) {
        let input = self.input_tokens_details.as_ref();
        let output = self.output_tokens_details.as_ref();
        let creation = self.cache_creation.as_ref();
        let tools = self.server_tool_use.as_ref();
        for (count, n) in [
            (
                Count::CacheRead,
                self.cache_read_input_tokens.or(self.cached_content).or(input.and_then(|d| d.cached_tokens)),
            ),
            (Count::CacheWrite, self.cache_creation_input_tokens),
            (Count::CacheWrite5m, creation.and_then(|c| c.ephemeral_5m_input_tokens)),
            (Count::CacheWrite1h, creation.and_then(|c| c.ephemeral_1h_input_tokens)),
            (Count::Reasoning, output.and_then(|d| d.reasoning_tokens).or(self.thoughts)),
            (Count::AudioIn, input.and_then(|d| d.audio_tokens)),
            (Count::AudioOut, output.and_then(|d| d.audio_tokens)),
            (Count::ImageIn, input.and_then(|d| d.image_tokens)),
            (Count::ImageOut, output.and_then(|d| d.image_tokens)),
            (Count::WebSearches, tools.and_then(|t| t.web_search_requests)),
        ] {
            reader.fill(count, n.filter(|n| *n <= MAX_TOKENS));
        }
        reader.fill_name(Name::ServedTier, self.service_tier);
    }

    fn fill(&self, reader: &mut UsageReader<'a>) {
        for (count, n) in [
            (Count::Input, self.input_tokens),
            (Count::Output, self.output_tokens),
            (Count::Total, self.total_tokens),
            // Anthropic's input is the uncached part, and has these names for the others.
            (Count::Uncached, self.input_tokens.filter(|_| self.cache_read_input_tokens.is_some())),
        ] {
            reader.fill(count, n.filter(|n| *n <= MAX_TOKENS));
        }
    }
}

/// `total_tokens=140 prompt_tokens=96 cached_prompt_tokens=0 completion_tokens=44 successful_requests=4`
fn complete_from_repr(reader: &mut UsageReader<'_>, repr: &str) {
    for (name, text) in repr.split_ascii_whitespace().filter_map(|pair| pair.split_once('=')) {
        let count = match name {
            "total_tokens" => Count::Total,
            "prompt_tokens" => Count::Input,
            "cached_prompt_tokens" => Count::CacheRead,
            "completion_tokens" => Count::Output,
            "successful_requests" => Count::Requests,
            _ => continue,
        };
        reader.fill(count, text.parse().ok().filter(|n| *n <= MAX_TOKENS));
    }
}

/// `{"input": 0.01, "output": 0.03, "total": 0.04}`; without a total the sum.
fn complete_costs(reader: &mut UsageReader<'_>, json: &str) {
    let Ok(costs) = serde_json::from_str::<BTreeMap<&str, f64>>(json) else { return };
    let usd = |name: &str| costs.get(name).copied().and_then(number::usd);
    let sum = costs.values().copied().map(number::usd).try_fold(crate::cost::Usd::ZERO, |sum, usd| Some(sum + usd?));
    reader.fill_money(Money::Total, usd("total").or(sum.filter(|_| !costs.is_empty())));
    reader.fill_money(Money::Input, usd("input"));
    reader.fill_money(Money::Output, usd("output"));
}
