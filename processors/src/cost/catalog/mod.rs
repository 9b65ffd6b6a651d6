//! The price catalog: who the providers are, how their models are recognised, and what a token costs when.
//!
//! The file is described in [`format`]; the one in the binary is made from genai-prices (MIT, see `THIRD_PARTY.md`).
//! Loaded, it is a handful of flat arrays over one text, about 200 KB for 1,300 models: nothing is boxed per model.

pub mod format;
mod load;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use regex::bytes::{RegexSet, RegexSetBuilder};

use self::rule::{Children, Rule, Rules, Str};
use super::money::{Rate, RateError};

/// The catalog in the binary.
const EMBEDDED: &str = include_str!("../../../catalog/catalog.json");

/// A loaded price catalog.
#[derive(Debug)]
pub struct Catalog {
    version: Box<str>,
    rules: Rules,
    providers: Box<[Provider]>,
    models: Box<[Model]>,
    prices: Box<[Price]>,
    entries: Box<[Entry]>,
    rates: Box<[Rate]>,
    /// One automaton for the addresses of all providers, built when the first address is asked.
    addresses: OnceLock<Option<RegexSet>>,
}

/// Position of a provider in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProviderId(u16);

/// Position of a model in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelId(u32);

/// What a rate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Unit {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    InputAudio,
    OutputAudio,
    OutputReasoning,
    Request,
}

/// Number of [`Unit`]s.
pub(super) const UNITS: usize = 9;

#[derive(Debug)]
struct Provider {
    id: Str,
    address: Box<str>,
    provider_match: Option<Rule>,
    model_match: Option<Rule>,
    fallback: Box<[ProviderId]>,
    first_model: u32,
    models: u32,
}

#[derive(Debug, Clone, Copy)]
struct Model {
    id: Str,
    rule: Rule,
    provider: ProviderId,
    prices: Children,
}

#[derive(Debug, Clone, Copy)]
struct Price {
    id: Str,
    /// Days since the epoch.
    valid_from: Option<i32>,
    /// Seconds of the day; the second excluded.
    daily: Option<(u32, u32)>,
    entries: Children,
}

/// One rate of a price; a tiered rate has several entries, by ascending `start`.
#[derive(Debug, Clone, Copy)]
struct Entry {
    unit: Unit,
    rate: u16,
    /// Counts where the input has more tokens than this; 0 for the base, which always counts.
    start: u32,
}

/// A price that was valid at some time.
#[derive(Debug, Clone, Copy)]
pub struct PriceRef<'a> {
    catalog: &'a Catalog,
    price: &'a Price,
}

impl Catalog {
    /// The catalog in the binary, loaded once.
    pub fn embedded() -> Result<Arc<Self>, CatalogError> {
        static LOADED: OnceLock<Arc<Catalog>> = OnceLock::new();
        if let Some(catalog) = LOADED.get() {
            return Ok(Arc::clone(catalog));
        }
        // Its patterns are checked by a test, not at every start.
        let catalog = Arc::new(load::load(EMBEDDED)?);
        Ok(Arc::clone(LOADED.get_or_init(|| catalog)))
    }

    /// Reads a catalog file of the user's and checks it completely.
    pub fn parse(json: &str) -> Result<Self, CatalogError> {
        let catalog = load::load(json)?;
        for pattern in &catalog.rules.patterns {
            pattern.check().map_err(|source| CatalogError::Pattern { pattern: pattern.source.to_string(), source })?;
        }
        catalog
            .address_set()
            .map_err(|source| CatalogError::Pattern { pattern: "addresses of the providers".into(), source })?;
        Ok(catalog)
    }

    /// Date of the source and the first 12 hex digits of the file's SHA-256: `2026-08-21-0123456789ab`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Number of models.
    pub fn model_count(&self) -> usize {
        self.models.len()
    }

    /// Every model, in file order.
    pub fn models(&self) -> impl Iterator<Item = ModelId> {
        (0..self.models.len() as u32).map(ModelId)
    }

    /// The id of a provider, as in genai-prices: `openai`, `aws`, `x-ai`.
    pub fn provider_name(&self, provider: ProviderId) -> &str {
        self.providers.get(usize::from(provider.0)).map_or("", |p| self.rules.str(p.id))
    }

    /// The id of a model within its provider: `gpt-4o`.
    pub fn model_name(&self, model: ModelId) -> &str {
        self.model(model).map_or("", |m| self.rules.str(m.id))
    }

    /// The provider of a model.
    pub fn provider_of(&self, model: ModelId) -> Option<ProviderId> {
        self.model(model).map(|m| m.provider)
    }

    /// The price of a model that was valid at a time (nanoseconds since the epoch, UTC).
    pub fn price_at(&self, model: ModelId, time_unix_nano: u64) -> Option<PriceRef<'_>> {
        let prices = self.model(model)?.prices.of(&self.prices);
        let price = match prices {
            [only] => only,
            _ => prices.iter().rev().find(|p| p.is_valid_at(time_unix_nano)).or(prices.first())?,
        };
        Some(PriceRef { catalog: self, price })
    }

    /// Bytes of heap that the loaded catalog takes, without patterns compiled on demand.
    pub fn heap_bytes(&self) -> usize {
        let boxed: usize = self.providers.iter().map(|p| p.address.len() + size_of_val(&*p.fallback)).sum();
        boxed
            + self.version.len()
            + self.rules.text.len()
            + size_of_val(&*self.rules.rules)
            + self.rules.patterns.iter().map(|p| size_of_val(p) + p.source.len()).sum::<usize>()
            + size_of_val(&*self.providers)
            + size_of_val(&*self.models)
            + size_of_val(&*self.prices)
            + size_of_val(&*self.entries)
            + size_of_val(&*self.rates)
    }

    /// The provider with exactly this id.
    pub(super) fn provider_by_id(&self, id: &str) -> Option<ProviderId> {
        self.find_provider(|p| self.rules.str(p.id) == id)
    }

    /// The first provider whose own rule takes this lower-case provider name.
    pub(super) fn provider_by_name(&self, name: &str) -> Option<ProviderId> {
        self.find_provider(|p| p.provider_match.is_some_and(|rule| self.rules.matches(rule, name)))
    }

    /// The first provider that claims models of this lower-case name.
    pub(super) fn provider_by_model(&self, model: &str) -> Option<ProviderId> {
        self.find_provider(|p| p.model_match.is_some_and(|rule| self.rules.matches(rule, model)))
    }

    /// The first provider whose API is at this URL.
    pub(super) fn provider_by_url(&self, url: &str) -> Option<ProviderId> {
        let set = self.addresses.get_or_init(|| self.address_set().ok()).as_ref()?;
        set.matches(url.as_bytes()).iter().next().map(|at| ProviderId(at as u16))
    }

    /// The first model of the provider whose rule takes this lower-case name.
    pub(super) fn find_model(&self, provider: ProviderId, name: &str) -> Option<ModelId> {
        let provider = self.providers.get(usize::from(provider.0))?;
        let (first, count) = (provider.first_model, provider.models);
        let models = self.models.get(first as usize..(first + count) as usize)?;
        let at = models.iter().position(|m| self.rules.matches(m.rule, name))?;
        Some(ModelId(first + at as u32))
    }

    /// Providers whose prices hold where this one has none.
    pub(super) fn fallback(&self, provider: ProviderId) -> &[ProviderId] {
        self.providers.get(usize::from(provider.0)).map_or(&[], |p| &p.fallback)
    }

    fn model(&self, model: ModelId) -> Option<&Model> {
        self.models.get(model.0 as usize)
    }

    fn find_provider(&self, matches: impl Fn(&Provider) -> bool) -> Option<ProviderId> {
        self.providers.iter().position(matches).map(|at| ProviderId(at as u16))
    }

    fn address_set(&self) -> Result<RegexSet, regex::Error> {
        let patterns = self.providers.iter().map(|p| whole_host(&p.address));
        RegexSetBuilder::new(patterns).unicode(false).size_limit(1 << 20).build()
    }
}

/// Most patterns end with the host's name: `https://api.openai.com` must not match `https://api.openai.com.example.org`.
fn whole_host(pattern: &str) -> String {
    if pattern.ends_with("$)") || pattern.ends_with("\\.") {
        pattern.to_owned()
    } else {
        format!("(?:{pattern})(?:/|$)")
    }
}

impl<'a> PriceRef<'a> {
    /// The stable id of this price: `openai/o3@2025-06-10`.
    pub fn id(self) -> &'a str {
        self.catalog.rules.str(self.price.id)
    }

    /// The rates of a call with this many input tokens, by [`Unit`].
    #[inline]
    pub(super) fn rates(self, input_tokens: u64) -> [Option<Rate>; UNITS] {
        let mut rates = [None; UNITS];
        for entry in self.price.entries.of(&self.catalog.entries) {
            if (entry.start == 0 || input_tokens > u64::from(entry.start))
                && let Some(slot) = rates.get_mut(entry.unit as usize)
            {
                *slot = self.catalog.rates.get(usize::from(entry.rate)).copied();
            }
        }
        rates
    }
}

impl Price {
    fn is_valid_at(&self, time_unix_nano: u64) -> bool {
        let seconds = time_unix_nano / 1_000_000_000;
        // At most 213,503: a `u64` of nanoseconds ends in the year 2554.
        let (day, second) = ((seconds / 86_400) as i32, (seconds % 86_400) as u32);
        self.valid_from.is_none_or(|from| day >= from)
            && self.daily.is_none_or(|(from, to)| (from..to).contains(&second))
    }
}

/// Why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Not JSON of the expected shape.
    #[error("the price catalog is not readable: {0}; its format is described in `cost::catalog::format`")]
    Json(#[from] serde_json::Error),
    /// Another version of the format.
    #[error("the price catalog has format {0}, this version reads format 1; convert it again")]
    Format(u32),
    /// A rate that is none.
    #[error("price `{price}`: {source}")]
    Rate {
        /// Id of the price.
        price: String,
        /// What is wrong.
        source: RateError,
    },
    /// A tier that does not start above the one before.
    #[error("price `{price}`: tiers must start above 0 and ascend")]
    Tiers {
        /// Id of the price.
        price: String,
    },
    /// A date or a time of day that is none.
    #[error("price `{price}`: `{text}` is not a {expected}")]
    Time {
        /// Id of the price.
        price: String,
        /// What is in the file.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Two prices of one id.
    #[error("the price id `{0}` occurs twice; ids must be unique")]
    DuplicatePrice(String),
    /// A model without a price.
    #[error("model `{0}` has no prices; give it at least one")]
    NoPrices(String),
    /// A fallback to a provider that is not there.
    #[error("provider `{provider}` falls back to `{fallback}`, which is not in the catalog")]
    Fallback {
        /// The provider.
        provider: String,
        /// What it names.
        fallback: String,
    },
    /// A bad regular expression.
    #[error("`{pattern}` is not a regular expression that can be used: {source}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// What is wrong.
        source: regex::Error,
    },
    /// More than the compact form can hold.
    #[error("the price catalog is too large: more than 65535 {0}")]
    TooMany(&'static str),
}
