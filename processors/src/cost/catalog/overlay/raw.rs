//! An overlay as it is written. Every value is checked where it stands, so that its error has its place.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::cost::catalog::format::{RATE_NAMES, rate_name};
use crate::cost::catalog::time;
use crate::cost::money::{Factor, Rate};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) currency: Option<Currency>,
    #[serde(default)]
    pub(super) providers: Vec<Provider>,
    #[serde(default)]
    pub(super) aliases: Vec<Alias>,
    #[serde(default)]
    pub(super) prices: Vec<Price>,
    #[serde(default)]
    pub(super) service_tiers: Vec<ServiceTiers>,
    #[serde(default)]
    pub(super) discounts: Vec<Discount>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Currency {
    pub(super) code: Name,
    /// What one unit of it is worth in USD.
    pub(super) usd: Checked<Worth>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) id: Name,
    #[serde(default)]
    pub(super) names: Vec<Name>,
    #[serde(default)]
    pub(super) hosts: Vec<Name>,
    #[serde(default)]
    pub(super) free: bool,
    #[serde(default)]
    pub(super) fallback: Vec<Name>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alias {
    pub(super) provider: Name,
    pub(super) name: Name,
    pub(super) model: Name,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) provider: Name,
    pub(super) model: Name,
    #[serde(default)]
    pub(super) r#match: Vec<Name>,
    pub(super) project: Option<Name>,
    pub(super) valid_from: Option<Checked<Instant>>,
    pub(super) valid_until: Option<Checked<Instant>>,
    pub(super) daily: Option<(Checked<TimeOfDay>, Checked<TimeOfDay>)>,
    pub(super) rates: Rates,
    #[serde(default)]
    pub(super) tiers: Vec<Tier>,
    #[serde(default)]
    pub(super) service_tiers: Named<ServiceTier>,
    pub(super) source: Option<Name>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier {
    pub(super) above: Option<u32>,
    pub(super) from: Option<u32>,
    #[serde(default)]
    pub(super) marginal: bool,
    pub(super) rates: Rates,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTier {
    pub(super) multiplier: Option<Checked<Factor>>,
    #[serde(default)]
    pub(super) except: Vec<RateName>,
    #[serde(default)]
    pub(super) rates: Rates,
    #[serde(default)]
    pub(super) tiers: Vec<Tier>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTiers {
    pub(super) provider: Name,
    /// All of them where none are named.
    #[serde(default)]
    pub(super) models: Vec<Name>,
    pub(super) tiers: Named<ServiceTier>,
    pub(super) source: Option<Name>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discount {
    pub(super) provider: Name,
    /// All of them where none are named.
    #[serde(default)]
    pub(super) models: Vec<Name>,
    pub(super) project: Option<Name>,
    pub(super) multiplier: Checked<Factor>,
    pub(super) valid_from: Option<Checked<Instant>>,
    pub(super) valid_until: Option<Checked<Instant>>,
    pub(super) source: Option<Name>,
}

/// A text of 1 to 255 bytes without spaces around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

/// The name of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateName(pub(super) &'static str);

/// A value and the text it was read from.
#[derive(Debug, Clone)]
pub(super) struct Checked<T> {
    pub(super) text: String,
    pub(super) value: T,
}

/// What one unit of a currency is worth in USD, which is not nothing: all prices would be 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth(pub(super) Factor);

/// Seconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant(pub(super) i64);

/// A time of day; its text is what the catalog's file has.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeOfDay;

/// What is read from a text.
pub(super) trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

impl FromText for Rate {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|e| e.to_string())
    }
}

impl FromText for Factor {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|e| e.to_string())
    }
}

impl FromText for Worth {
    fn from_text(text: &str) -> Result<Self, String> {
        let worth = Factor::parse(text).ok().filter(|factor| *factor != Factor::ZERO).map(Self);
        worth.ok_or_else(|| {
            "what a unit of the currency is worth in USD is a plain decimal above 0 and at most 1000 with at most 9 \
             decimals, such as 1.08"
                .to_owned()
        })
    }
}

impl FromText for Instant {
    fn from_text(text: &str) -> Result<Self, String> {
        let instant = time::instant(text).map(Self);
        instant
            .ok_or_else(|| "expected a UTC date such as 2026-09-01 or instant such as 2026-09-01T12:00:00Z".to_owned())
    }
}

impl FromText for TimeOfDay {
    fn from_text(text: &str) -> Result<Self, String> {
        let second = time::second(text).map(|_| Self);
        second.ok_or_else(|| "expected a UTC time of day in quotes such as \"16:30\"".to_owned())
    }
}

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 255 || text.trim() != text {
            return Err("expected a text of 1 to 255 bytes without spaces around it".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for RateName {
    fn from_text(text: &str) -> Result<Self, String> {
        let name = rate_name(text).map(Self);
        name.ok_or_else(|| format!("`{text}` is not the name of a rate; those are: {}", RATE_NAMES.join(", ")))
    }
}

impl<'de, T: FromText> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = T::from_text(&text).map_err(de::Error::custom)?;
        Ok(Self { text, value })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Checked::deserialize(deserializer).map(|checked| checked.value)
    }
}

impl<'de> Deserialize<'de> for RateName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Checked::deserialize(deserializer).map(|checked| checked.value)
    }
}

/// Values by name, in their order.
#[derive(Debug, Clone)]
pub(super) struct Named<T>(pub(super) Vec<(Name, T)>);

/// Rates by name, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates(pub(super) Vec<(&'static str, Rate)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rates: Vec<(RateName, Checked<Rate>)> = deserializer.deserialize_map(Pairs(PhantomData))?;
        Ok(Self(rates.into_iter().map(|(name, rate)| (name.0, rate.value)).collect()))
    }
}

struct Pairs<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
    type Value = Vec<(K, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}
