//! The catalog's file format: JSON, one model a line, read by [`Catalog::parse`](super::Catalog::parse) and written by
//! [`CatalogBuilder::to_json`](super::CatalogBuilder::to_json).
//!
//! ```json
//! {"format": 2,
//!  "source": {"name": "…", "date": "2026-08-21", "license": "MIT", "sha256": "…"},
//!  "providers": [
//!   {"id": "x-ai", "name": "xAI", "address": "https://api\\.x\\.ai",
//!    "provider_match": {"contains": "xai"}, "model_match": {"starts_with": "grok-"}, "fallback": [],
//!    "models": [
//! {"id":"grok-4.20","match":{"equals":"grok-4.20"},"prices":[
//!   {"id":"x-ai/grok-4.20","rates":{"input":"2","output":"6"}},
//!   {"id":"x-ai/grok-4.20@2026-04-30","valid_from":"2026-04-30","source":"https://…",
//!    "rates":{"input":{"base":"1.25","tiers":[{"start":200000,"price":"2.5"}],"operator":">="},"output":"2.5"},
//!    "service_tiers":{"batch":{"multiplier":"0.8"},"priority":{"rates":{"input":"3"}}}}]}
//!    ]}
//!  ]}
//! ```
//!
//! * Rules are `equals`, `starts_with`, `ends_with`, `contains`, `regex`, `or`, `and`; they see lower-cased names, and
//!   the first model of a provider that matches wins.
//! * Rates are decimal **strings** in USD per million tokens (`per_thousand_*`: per thousand).
//! * A tiered rate is `{"base", "tiers", "operator", "mode"}`. What counts is the whole input, cached tokens included,
//!   for every rate of the call. `operator` is `>` (the tier begins above `start`, the default) or `>=` (it begins at
//!   `start`). `mode` is `cliff` (the tier's price is that of all tokens, the default) or `marginal`: the first `start`
//!   tokens *of this rate* cost the base, those beyond them the tier's price, whatever the operator.
//! * `service_tiers` are prices of other ways of processing, by the names that the providers use: `flex`, `priority`,
//!   `batch`. Each token rate of the price counts `multiplier` times, but for those under `rates`, which take the place
//!   of the price's own, and those named in `except`, which stay. Fees (`per_thousand_*`) are never multiplied.
//! * Of a model's prices the last one that is valid at the span's end counts, else the first if it has not expired.
//!   `valid_from` is a UTC date (`2026-04-30`) or instant (`2026-04-30T12:00:00Z`), `valid_until` likewise and excluded;
//!   `daily` is a UTC window `["16:30:00", "00:30:00"]`, its end excluded, across midnight if it ends before it starts.
//!   A price with a `project` holds only for that project's spans.
//! * A price's `id` is `provider/model` for the first, `provider/model@date` for a dated one and `provider/model#n`
//!   (n-th, from 0) for another. History is only ever appended to, so an id keeps its meaning.
//! * A provider that a user declared has `names` (what spans call it) and `hosts` (`gpu.internal`, `10.1.2.3:8000`);
//!   `aliases` are names of deployments: `{"name": "chat-prod", "model": "openai/gpt-4o"}`.
//!
//! Format 1, which lacks service tiers, operators, modes, expiry and everything of users, is read as well: it is a part
//! of format 2.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// The version that is written.
pub(super) const FORMAT: u32 = 2;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File<'a> {
    pub(super) format: u32,
    #[serde(borrow)]
    pub(super) source: Source<'a>,
    #[serde(borrow)]
    pub(super) providers: Vec<Provider<'a>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) date: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) license: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) sha256: Cow<'a, str>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    /// A pattern for URLs; empty if none is known.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub(super) address: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_match: Option<Match<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) model_match: Option<Match<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fallback: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hosts: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Alias<'a>>,
    #[serde(borrow)]
    pub(super) models: Vec<Model<'a>>,
}

impl Provider<'_> {
    /// A provider of this id that nothing else is known of; spans call it by its id.
    pub(super) fn named(id: &str) -> Self {
        Self {
            id: Cow::Owned(id.to_owned()),
            name: Cow::Owned(id.to_owned()),
            address: Cow::Borrowed(""),
            provider_match: None,
            model_match: None,
            fallback: Vec::new(),
            names: vec![Cow::Owned(id.to_lowercase())],
            hosts: Vec::new(),
            aliases: Vec::new(),
            models: Vec::new(),
        }
    }
}

/// A name under which a provider serves a model, possibly another provider's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alias<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    /// `provider/model`
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) r#match: Match<'a>,
    #[serde(borrow)]
    pub(super) prices: Vec<Price<'a>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) project: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) valid_from: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) valid_until: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) daily: Option<[Cow<'a, str>; 2]>,
    /// Where the price is from, for people.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) rates: Rates<'a>,
    #[serde(borrow, default, skip_serializing_if = "ServiceTiers::is_empty")]
    pub(super) service_tiers: ServiceTiers<'a>,
}

/// Service tiers by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ServiceTiers<'a>(pub(super) Vec<(Cow<'a, str>, ServiceTier<'a>)>);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTier<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) multiplier: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub(super) except: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Rates::is_empty")]
    pub(super) rates: Rates<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Cow<'a, str>>,
}

/// The names a rate can have in the file. Those after `per_thousand_web_searches` are there for completeness: spans do
/// not carry such counts.
pub const RATE_NAMES: &[&str] = &[
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "output_reasoning",
    "input_image",
    "output_image",
    "cache_audio_read",
    "cache_image_read",
    "per_thousand_requests",
    "per_thousand_web_searches",
    "input_video",
    "output_video",
    "output_citation",
];

/// The entry of [`RATE_NAMES`] of this name.
pub(super) fn rate_name(name: &str) -> Option<&'static str> {
    RATE_NAMES.iter().find(|known| **known == name).copied()
}

/// Rates by name. A map with a handful of entries out of many possible ones: a struct of options would be a kilobyte,
/// 1,300 times.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates<'a>(pub(super) Vec<(&'static str, RateText<'a>)>);

/// A rate as its text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RateText<'a> {
    Plain(Cow<'a, str>),
    Tiered(Tiered<'a>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tiered<'a> {
    #[serde(borrow)]
    pub(super) base: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) tiers: Vec<Tier<'a>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) operator: Operator,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier<'a> {
    pub(super) start: u32,
    #[serde(borrow)]
    pub(super) price: Cow<'a, str>,
}

/// Where a tier begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Operator {
    #[default]
    #[serde(rename = ">")]
    Above,
    #[serde(rename = ">=")]
    From,
}

/// Which tokens a tier's price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    #[default]
    Cliff,
    Marginal,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Rates<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ServiceTiers<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Rates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, rate) in &self.0 {
            match rate {
                RateText::Plain(text) => map.serialize_entry(name, text)?,
                RateText::Tiered(tiered) => map.serialize_entry(name, tiered)?,
            }
        }
        map.end()
    }
}

impl Serialize for ServiceTiers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, tier)| (name, tier)))
    }
}

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
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let Some(name) = rate_name(&key) else {
                return Err(de::Error::unknown_field(&key, RATE_NAMES));
            };
            if rates.iter().any(|(known, _)| *known == name) {
                return Err(de::Error::duplicate_field(name));
            }
            rates.push((name, map.next_value()?));
        }
        Ok(Rates(rates))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ServiceTiers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ServiceTiersVisitor)
    }
}

struct ServiceTiersVisitor;

impl<'de> Visitor<'de> for ServiceTiersVisitor {
    type Value = ServiceTiers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("service tiers by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tiers: Vec<(Cow<'de, str>, ServiceTier<'de>)> = Vec::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if tiers.iter().any(|(known, _)| *known == name) {
                return Err(de::Error::custom(format!("the service tier `{name}` occurs twice")));
            }
            tiers.push((name, map.next_value()?));
        }
        Ok(ServiceTiers(tiers))
    }
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
        Ok(RateText::Plain(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(RateText::Plain(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Tiered::deserialize(MapAccessDeserializer::new(map)).map(RateText::Tiered)
    }
}
