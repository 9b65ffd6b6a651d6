//! The catalog's file format: JSON, one model a line, read by [`Catalog::parse`](super::Catalog::parse) and written by
//! `examples/convert_genai_prices.rs`.
//!
//! ```json
//! {"format": 1,
//!  "source": {"name": "…", "date": "2026-08-21", "license": "MIT", "sha256": "…"},
//!  "providers": [
//!   {"id": "openai", "name": "OpenAI", "address": "https://api\\.openai\\.com",
//!    "provider_match": {"contains": "openai"}, "model_match": {"starts_with": "gpt-"}, "fallback": [],
//!    "models": [
//! {"id":"o3","match":{"equals":"o3"},"prices":[{"id":"openai/o3","rates":{"input":"10","output":"40"}},{"id":"openai/o3@2025-06-10","valid_from":"2025-06-10","rates":{"input":"2","output":"8"}}]}
//!    ]}
//!  ]}
//! ```
//!
//! * Rules are `equals`, `starts_with`, `ends_with`, `contains`, `regex`, `or`, `and`; they see lower-cased names, and
//!   the first model of a provider that matches wins.
//! * Rates are decimal **strings** in USD per million tokens (`per_thousand_*`: per thousand), plain or as
//!   `{"base": "3", "tiers": [{"start": 200000, "price": "6"}]}`: above `start` input tokens the whole call costs the
//!   tier's price.
//! * Of a model's prices the last one that is valid at the span's end counts, else the first. `valid_from` is a UTC
//!   date, `daily` a UTC window `["00:30:00", "16:30:00"]`, its end excluded.
//! * A price's `id` is `provider/model` for the first, `provider/model@date` for a dated one and `provider/model#n`
//!   (n-th, from 0) for another. History is only ever appended to, so an id keeps its meaning.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File<'a> {
    pub(super) format: u32,
    #[serde(borrow)]
    pub(super) source: Source<'a>,
    #[serde(borrow)]
    pub(super) providers: Vec<Provider<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source<'a> {
    #[serde(borrow, rename = "name")]
    pub(super) _name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) date: Cow<'a, str>,
    #[serde(borrow, rename = "license")]
    pub(super) _license: Cow<'a, str>,
    #[serde(borrow, rename = "sha256")]
    pub(super) _sha256: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow, rename = "name")]
    pub(super) _name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) address: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) provider_match: Option<Match<'a>>,
    #[serde(borrow)]
    pub(super) model_match: Option<Match<'a>>,
    #[serde(borrow, default)]
    pub(super) fallback: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) models: Vec<Model<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) r#match: Match<'a>,
    #[serde(borrow)]
    pub(super) prices: Vec<Price<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Match<'a> {
    #[serde(borrow)]
    Equals(Cow<'a, str>),
    #[serde(borrow)]
    StartsWith(Cow<'a, str>),
    #[serde(borrow)]
    EndsWith(Cow<'a, str>),
    #[serde(borrow)]
    Contains(Cow<'a, str>),
    #[serde(borrow)]
    Regex(Cow<'a, str>),
    #[serde(borrow)]
    Or(Vec<Match<'a>>),
    #[serde(borrow)]
    And(Vec<Match<'a>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) valid_from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) daily: Option<[Cow<'a, str>; 2]>,
    #[serde(borrow)]
    pub(super) rates: Rates<'a>,
}

/// The names a rate can have in the file. Those after `per_thousand_requests` are there for completeness: spans do not
/// carry such counts.
pub const RATE_NAMES: &[&str] = &[
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "output_reasoning",
    "per_thousand_requests",
    "cache_audio_read",
    "cache_image_read",
    "input_image",
    "input_video",
    "output_image",
    "output_video",
    "output_citation",
    "per_thousand_web_searches",
];

/// Rates by name. A map with a handful of entries out of many possible ones: a struct of options would be a kilobyte,
/// 1,300 times.
#[derive(Debug)]
pub(super) struct Rates<'a>(pub(super) Vec<(&'static str, RateText<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Rates<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RatesVisitor)
    }
}

struct RatesVisitor;

impl<'de> Visitor<'de> for RatesVisitor {
    type Value = Rates<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rates by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rates: Vec<(&'static str, RateText<'de>)> = Vec::with_capacity(4);
        while let Some(key) = map.next_key::<&str>()? {
            let Some(name) = RATE_NAMES.iter().find(|name| **name == key) else {
                return Err(de::Error::unknown_field(key, RATE_NAMES));
            };
            if rates.iter().any(|(known, _)| known == name) {
                return Err(de::Error::duplicate_field(name));
            }
            rates.push((name, map.next_value()?));
        }
        Ok(Rates(rates))
    }
}

/// A rate as its text.
#[derive(Debug)]
pub(super) enum RateText<'a> {
    Plain(&'a str),
    Tiered(Tiered<'a>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tiered<'a> {
    pub(super) base: &'a str,
    #[serde(borrow)]
    pub(super) tiers: Vec<Tier<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier<'a> {
    pub(super) start: u32,
    pub(super) price: &'a str,
}

impl<'de: 'a, 'a> Deserialize<'de> for RateText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

struct RateVisitor;

impl<'de> Visitor<'de> for RateVisitor {
    type Value = RateText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate: a decimal in a string, or `base` and `tiers`")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(RateText::Plain(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Tiered::deserialize(MapAccessDeserializer::new(map)).map(RateText::Tiered)
    }
}
