//! A price file of LiteLLM (`model_prices_and_context_window.json`) that the user supplies, laid over the catalog.
//!
//! The file is a flat map from `provider/model` to USD per token, as JSON numbers; they are read from their text, never
//! through a float. It has no dates: its prices hold at all times. Each entry becomes a model of its own, recognised by
//! exactly its key, with and without the provider's prefix, and comes before the catalog's models: whoever supplies the
//! file wants its prices.
//!
//! | read | as |
//! |---|---|
//! | `input_cost_per_token`, `output_cost_per_token` | `input`, `output` |
//! | `cache_read_input_token_cost`, `cache_creation_input_token_cost`, `…_above_1hr` | `cache_read`, `cache_write`, `cache_write_1h` |
//! | `…_cost_per_audio_token`, `…_cost_per_image_token`, `output_cost_per_reasoning_token` | their rates |
//! | `…_above_200k_tokens` | a tier, by all input tokens |
//! | `…_flex`, `…_priority`, `…_batches` | service tiers `flex`, `priority`, `batch` |
//! | `tiered_pricing: [{range: [0, 32000], …}]` | tiers |
//!
//! Not read: prices per second, page, character, pixel or query, which spans have no counts of. An entry without any
//! price of tokens is passed over, and so is one that cannot be used; those are told apart in [`Litellm`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde_json::value::RawValue;

use super::format::{self, Match, Mode, Model, Operator, Price, RateText, ServiceTier, Tier, Tiered};
use super::{CatalogBuilder, CatalogError, decimal};
use crate::cost::matcher::provider_alias;
use crate::cost::money::Rate;

/// What became of a LiteLLM file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Litellm {
    /// Entries that were taken.
    pub models: usize,
    /// Entries without prices of tokens.
    pub unpriced: usize,
    /// Entries that cannot be used, and why; the catalog's prices hold for them.
    pub problems: Vec<String>,
}

/// More entries than any such file has.
const MAX_ENTRIES: usize = 60_000;

/// Texts of the keys that are rates, and what they are. Longer keys that begin so are suffixed ones.
const RATES: [(&str, &str); 10] = [
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cache_read"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
    ("cache_creation_input_token_cost", "cache_write"),
    ("input_cost_per_audio_token", "input_audio"),
    ("output_cost_per_audio_token", "output_audio"),
    ("output_cost_per_reasoning_token", "output_reasoning"),
    ("input_cost_per_image_token", "input_image"),
    ("output_cost_per_image_token", "output_image"),
];

const SERVICES: [(&str, &str); 3] = [("_flex", "flex"), ("_priority", "priority"), ("_batches", "batch")];

impl CatalogBuilder<'_> {
    /// Lays a price file of LiteLLM over what there is.
    ///
    /// # Errors
    /// It is not JSON, or not such a map.
    pub fn litellm(&mut self, json: &str) -> Result<Litellm, CatalogError> {
        let entries: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
        if entries.len() > MAX_ENTRIES {
            return Err(CatalogError::TooMany("entries of the LiteLLM file", MAX_ENTRIES));
        }
        let mut result = Litellm::default();
        let file = self.change();
        let ids = file.providers.iter().flat_map(|p| &p.models).flat_map(|m| &m.prices).map(|p| p.id.to_string());
        let mut ids: HashSet<String> = ids.collect();
        let mut models: BTreeMap<String, Vec<Model<'static>>> = BTreeMap::new();
        for (key, entry) in entries.iter().filter(|(key, _)| *key != "sample_spec") {
            match model(key, entry, &mut ids) {
                Ok(None) => result.unpriced += 1,
                Err(problem) => result.problems.push(format!("`{key}`: {problem}")),
                Ok(Some((provider, model))) => {
                    result.models += 1;
                    models.entry(provider).or_default().push(model);
                }
            }
        }
        for (id, models) in models {
            let position = file.providers.iter().position(|p| p.id == id);
            match position.and_then(|at| file.providers.get_mut(at)) {
                Some(provider) => drop(provider.models.splice(0..0, models)),
                None => file.providers.push(format::Provider { models, ..format::Provider::named(&id) }),
            }
        }
        Ok(result)
    }
}

/// The provider and the model of an entry; `None` if it has no prices of tokens.
fn model(key: &str, entry: &RawValue, ids: &mut HashSet<String>) -> Result<Option<(String, Model<'static>)>, String> {
    if key.is_empty() || key.len() > 255 {
        return Err("its name is empty or longer than 255 bytes".to_owned());
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(entry.get()).map_err(|_| "it is not an object".to_owned())?;
    let Some(litellm_provider) = fields.get("litellm_provider").and_then(|text| text_of(text)) else {
        return Err("it has no `litellm_provider`".to_owned());
    };
    let prices = Prices::read(&fields)?;
    if prices.standard.is_empty() {
        return Ok(None);
    }
    let provider = provider_id(&litellm_provider);
    let name = match key.split_once('/') {
        Some((prefix, rest)) if prefix == litellm_provider || provider_alias(prefix) == Some(&provider) => rest,
        _ => key,
    };
    let id = format!("{provider}/{name}+litellm");
    let id = if ids.contains(&id) { format!("{provider}/{key}+litellm") } else { id };
    if !ids.insert(id.clone()) {
        return Err("another entry has the same name".to_owned());
    }
    let mut names = vec![Match::Equals(Cow::Owned(name.to_owned()))];
    if name != key {
        names.push(Match::Equals(Cow::Owned(key.to_owned())));
    }
    let price = prices.into_price(id)?;
    Ok(Some((provider, Model { id: name.to_owned().into(), r#match: Match::Or(names), prices: vec![price] })))
}

/// The catalog's id: `vertex_ai-anthropic_models` and the like name the provider before the first dash.
fn provider_id(litellm_provider: &str) -> String {
    let name = litellm_provider.to_lowercase();
    let head = name.split_once('-').map_or(&*name, |(head, _)| head);
    provider_alias(&name).or_else(|| provider_alias(head)).map_or_else(|| name.clone(), str::to_owned)
}

/// Prices by rate: the base and those above a number of input tokens.
type ByRate = BTreeMap<&'static str, (Option<String>, BTreeMap<u32, String>)>;

#[derive(Default)]
struct Prices {
    standard: ByRate,
    services: BTreeMap<&'static str, ByRate>,
}

impl Prices {
    fn read(fields: &BTreeMap<String, &RawValue>) -> Result<Self, String> {
        let mut prices = Self::default();
        for (key, value) in fields {
            let Some((rate, suffix)) = rate_of(key) else { continue };
            let Some((start, service)) = suffix_of(suffix) else { continue };
            if value.get() == "null" {
                continue;
            }
            let by_rate = match service {
                None => &mut prices.standard,
                Some(service) => prices.services.entry(service).or_default(),
            };
            by_rate.set(rate, start, usd_per_million(key, value)?);
        }
        if let Some(ranges) = fields.get("tiered_pricing") {
            prices.ranges(ranges)?;
        }
        Ok(prices)
    }

    /// `[{"range": [0, 32000], "input_cost_per_token": …}, …]`
    fn ranges(&mut self, ranges: &RawValue) -> Result<(), String> {
        let objects: Vec<&RawValue> =
            serde_json::from_str(ranges.get()).map_err(|_| "`tiered_pricing` is not a list".to_owned())?;
        for object in objects {
            let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())
                .map_err(|_| "`tiered_pricing` has an item that is no object".to_owned())?;
            let Some(range) = fields.remove("range") else { continue };
            let range: [f64; 2] =
                serde_json::from_str(range.get()).map_err(|_| "`range` is not a pair of numbers".to_owned())?;
            let [start, _] = range;
            if !(0.0..=f64::from(u32::MAX)).contains(&start) || start.fract() != 0.0 {
                return Err("`range` begins with something else than a number of tokens".to_owned());
            }
            for (key, value) in &fields {
                if let Some((rate, "")) = rate_of(key) {
                    let start = (start > 0.0).then_some(start as u32);
                    self.standard.set(rate, start, usd_per_million(key, value)?);
                }
            }
        }
        Ok(())
    }

    fn into_price(self, id: String) -> Result<Price<'static>, String> {
        let standard = rates(self.standard, None)?;
        let mut service_tiers = format::ServiceTiers::default();
        for (name, by_rate) in self.services {
            let tier = ServiceTier { rates: rates(by_rate, Some(&standard))?, ..ServiceTier::default() };
            service_tiers.0.push((Cow::Borrowed(name), tier));
        }
        Ok(Price {
            id: id.into(),
            project: None,
            valid_from: None,
            valid_until: None,
            daily: None,
            source: Some(Cow::Borrowed("a LiteLLM price file")),
            rates: standard,
            service_tiers,
        })
    }
}

trait Set {
    fn set(&mut self, rate: &'static str, start: Option<u32>, price: String);
}

impl Set for ByRate {
    fn set(&mut self, rate: &'static str, start: Option<u32>, price: String) {
        let (base, tiers) = self.entry(rate).or_default();
        match start {
            None => *base = Some(price),
            Some(start) => drop(tiers.insert(start, price)),
        }
    }
}

/// Rates whose base, where only tiers are given, is that of the standard ones.
fn rates(by_rate: ByRate, standard: Option<&format::Rates<'static>>) -> Result<format::Rates<'static>, String> {
    let mut out = format::Rates::default();
    for (name, (base, tiers)) in by_rate {
        let of_standard = || {
            let (_, rate) = standard?.0.iter().find(|(known, _)| *known == name)?;
            Some(match rate {
                RateText::Plain(text) => text.to_string(),
                RateText::Tiered(tiered) => tiered.base.to_string(),
            })
        };
        let base = base.or_else(of_standard).ok_or_else(|| format!("`{name}` has a tier and no price below it"))?;
        let tier = |(start, price): (u32, String)| Tier { start, price: price.into() };
        let tiers: Vec<_> = tiers.into_iter().map(tier).collect();
        let rate = if tiers.is_empty() {
            RateText::Plain(base.into())
        } else {
            RateText::Tiered(Tiered { base: base.into(), tiers, operator: Operator::Above, mode: Mode::Cliff })
        };
        out.0.push((name, rate));
    }
    Ok(out)
}

/// The rate that a key is of, and what its name ends with.
fn rate_of(key: &str) -> Option<(&'static str, &str)> {
    RATES.iter().find_map(|(start, rate)| Some((*rate, key.strip_prefix(start)?)))
}

/// `_above_200k_tokens`, `_flex`, or both, in this order or the other; `None` if it is something else.
fn suffix_of(suffix: &str) -> Option<(Option<u32>, Option<&'static str>)> {
    let service = SERVICES.iter().find_map(|(end, name)| Some((suffix.strip_suffix(end)?, Some(*name))));
    let (rest, service) = service.unwrap_or((suffix, None));
    if rest.is_empty() {
        return Some((None, service));
    }
    let number = rest.strip_prefix("_above_")?.strip_suffix("_tokens")?;
    let (number, unit) = number.strip_suffix('k').map_or((number, 1), |number| (number, 1_000));
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let start = number.parse::<u32>().ok()?.checked_mul(unit).filter(|start| *start > 0)?;
    Some((Some(start), service))
}

fn usd_per_million(key: &str, number: &RawValue) -> Result<String, String> {
    // Some entries have their numbers in quotes.
    let text = text_of(number).unwrap_or_else(|| number.get().to_owned());
    let rate = decimal(&text, 6).map_err(|e| format!("`{key}`: {e}"))?;
    Rate::parse(&rate).map_err(|e| format!("`{key}`: {e}"))?;
    Ok(rate)
}

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests;
