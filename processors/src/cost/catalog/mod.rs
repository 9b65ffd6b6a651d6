//! The price catalog: who the providers are, how their models are recognised, and what a token costs when.
//!
//! The file is described in [`format`]. The one in the binary is made from genai-prices (MIT, see `THIRD_PARTY.md`) and
//! from `processors/catalog/overlay.yaml`, which has what genai-prices lacks: service tiers, batch processing, newer
//! tiers, each with its source. Users lay [overlays](Overlay) of their own over it ([`CatalogBuilder`]).
//!
//! Loaded, it is a handful of flat arrays over one text, about 250 KB for 1,300 models: nothing is boxed per model.

mod builder;
mod decimal;
mod error;
mod files;
pub mod format;
mod history;
mod litellm;
mod live;
mod load;
mod overlay;
mod rule;
mod select;
pub(in crate::cost) mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod time;
mod view;

use std::sync::{Arc, OnceLock};

use regex::bytes::{RegexSet, RegexSetBuilder};

pub use self::builder::CatalogBuilder;
pub use self::decimal::decimal;
pub use self::error::CatalogError;
pub use self::files::Loaded;
pub use self::litellm::Litellm;
pub use self::live::{CatalogWatch, LiveCatalog, Refresh};
pub use self::overlay::Overlay;
pub(super) use self::select::RateSet;
pub use self::select::{Call, PriceRef, ProjectId, Service, ServiceId};
pub use self::settings::{CatalogSettings, OverlaySource, Place};
pub use self::time::instant;
pub use self::view::{PriceView, RateView};

use self::rule::{Children, Rule, Rules, Str};
use super::money::Rate;

/// The catalog in the binary.
const EMBEDDED: &str = include_str!("../../../catalog/catalog.json");

/// A loaded price catalog.
#[derive(Debug)]
pub struct Catalog {
    version: Box<str>,
    source: Box<str>,
    /// Seconds since the epoch of the date of the source.
    date: i64,
    rules: Rules,
    providers: Box<[Provider]>,
    models: Box<[Model]>,
    prices: Box<[Price]>,
    service_prices: Box<[ServicePrice]>,
    entries: Box<[Entry]>,
    rates: Box<[Rate]>,
    /// Names of the service tiers.
    services: Box<[Box<str>]>,
    /// Names of the projects that have prices of their own; their ids begin at 1.
    projects: Box<[Box<str>]>,
    /// Names and hosts of providers that a user declared.
    declared_names: Box<[(Str, ProviderId)]>,
    declared_hosts: Box<[(Str, ProviderId)]>,
    aliases: Box<[(ProviderId, Str, ModelId)]>,
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
    InputImage,
    OutputImage,
    CacheAudioRead,
    CacheImageRead,
    Request,
    WebSearch,
}

/// Number of [`Unit`]s. Their names are the first of [`format::RATE_NAMES`], in the same order.
pub(super) const UNITS: usize = 14;

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
    /// Empty where it is that of the catalog.
    source: Str,
    /// Seconds since the epoch; the extremes where there is no limit.
    valid_from: i64,
    valid_until: i64,
    /// Seconds of the day; the second excluded, across midnight where it is the smaller one.
    daily: Option<(u32, u32)>,
    /// 0 for all projects.
    project: u16,
    entries: Children,
    services: Children,
}

/// A price's rates in a service tier.
#[derive(Debug, Clone, Copy)]
struct ServicePrice {
    id: Str,
    /// Empty where it is that of the price.
    source: Str,
    name: u8,
    entries: Children,
}

/// One rate of a price; a tiered rate has several entries, by ascending `start`.
#[derive(Debug, Clone, Copy)]
struct Entry {
    unit: Unit,
    /// [`MARGINAL`], [`FROM`]
    flags: u8,
    rate: u16,
    /// Counts where the input has more tokens than this; 0 for the base, which always counts.
    start: u32,
}

/// The tier's price is for the tokens beyond its start only.
const MARGINAL: u8 = 1;
/// The tier is written with the number where it begins, which is one more than `start`.
const FROM: u8 = 2;

impl Catalog {
    /// The catalog in the binary, loaded once.
    pub fn embedded() -> Result<Arc<Self>, CatalogError> {
        static LOADED: OnceLock<Arc<Catalog>> = OnceLock::new();
        if let Some(catalog) = LOADED.get() {
            return Ok(Arc::clone(catalog));
        }
        // Its patterns are checked by a test, not at every start.
        let catalog = Arc::new(CatalogBuilder::embedded()?.load()?);
        Ok(Arc::clone(LOADED.get_or_init(|| catalog)))
    }

    /// Reads a catalog file of the user's and checks it completely.
    pub fn parse(json: &str) -> Result<Self, CatalogError> {
        CatalogBuilder::parse(json)?.build()
    }

    /// Compiles what is else compiled when it is first asked.
    fn check(&self) -> Result<(), CatalogError> {
        for pattern in &self.rules.patterns {
            pattern.check().map_err(|source| CatalogError::Pattern { pattern: pattern.source.to_string(), source })?;
        }
        self.address_set()
            .map(drop)
            .map_err(|source| CatalogError::Pattern { pattern: "addresses of the providers".into(), source })
    }

    /// Date of the source and the first 12 hex digits of the SHA-256 of the content: `2026-08-21-0123456789ab`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the catalog is from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The date of the source, in seconds since the epoch.
    pub fn date_unix_seconds(&self) -> i64 {
        self.date
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

    /// Bytes of heap that the loaded catalog takes, without patterns compiled on demand.
    pub fn heap_bytes(&self) -> usize {
        let boxed: usize = self.providers.iter().map(|p| p.address.len() + size_of_val(&*p.fallback)).sum();
        let names = |names: &[Box<str>]| names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum::<usize>();
        boxed
            + self.version.len()
            + self.source.len()
            + self.rules.text.len()
            + size_of_val(&*self.rules.rules)
            + self.rules.patterns.iter().map(|p| size_of_val(p) + p.source.len()).sum::<usize>()
            + size_of_val(&*self.providers)
            + size_of_val(&*self.models)
            + size_of_val(&*self.prices)
            + size_of_val(&*self.service_prices)
            + size_of_val(&*self.entries)
            + size_of_val(&*self.rates)
            + names(&self.services)
            + names(&self.projects)
            + size_of_val(&*self.declared_names)
            + size_of_val(&*self.declared_hosts)
            + size_of_val(&*self.aliases)
    }

    /// The provider with exactly this id.
    pub fn provider_by_id(&self, id: &str) -> Option<ProviderId> {
        self.find_provider(|p| self.rules.str(p.id) == id)
    }

    /// The provider of this id or another of its names.
    pub fn provider(&self, name: &str) -> Option<ProviderId> {
        let name = name.trim().to_lowercase();
        let by_id = |name: &str| self.provider_by_id(name).or_else(|| self.declared_provider(name));
        by_id(&name).or_else(|| by_id(super::matcher::provider_alias(&name)?)).or_else(|| self.provider_by_name(&name))
    }

    /// The provider that a user declared under this lower-case name.
    pub(super) fn declared_provider(&self, name: &str) -> Option<ProviderId> {
        self.declared_names.iter().find(|(known, _)| self.rules.str(*known) == name).map(|(_, id)| *id)
    }

    /// The provider that a user declared at this lower-case host, or host and port.
    pub(super) fn declared_host(&self, host: &str) -> Option<ProviderId> {
        self.declared_hosts.iter().find(|(known, _)| self.rules.str(*known) == host).map(|(_, id)| *id)
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

    /// The model that this lower-case name stands for at the provider: the user's alias, else the first model whose
    /// rule takes it, but for one that takes every name.
    pub(super) fn find_model(&self, provider: ProviderId, name: &str) -> Option<ModelId> {
        let is_alias = |of: ProviderId, alias: Str| of == provider && self.rules.str(alias) == name;
        if let Some((_, _, model)) = self.aliases.iter().find(|(of, alias, _)| is_alias(*of, *alias)) {
            return Some(*model);
        }
        self.find_in(provider, |rule| !rule.takes_everything() && self.rules.matches(rule, name))
    }

    /// The model that takes every name, which a provider of free models has.
    pub(super) fn any_model(&self, provider: ProviderId) -> Option<ModelId> {
        self.find_in(provider, Rule::takes_everything)
    }

    fn find_in(&self, provider: ProviderId, takes: impl Fn(Rule) -> bool) -> Option<ModelId> {
        let provider = self.providers.get(usize::from(provider.0))?;
        let (first, count) = (provider.first_model, provider.models);
        let models = self.models.get(first as usize..(first + count) as usize)?;
        let at = models.iter().position(|m| takes(m.rule))?;
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
    if pattern.is_empty() {
        // Nothing comes after the end: a pattern that never matches keeps the positions those of the providers.
        "$.".to_owned()
    } else if pattern.ends_with("$)") || pattern.ends_with("\\.") {
        pattern.to_owned()
    } else {
        format!("(?:{pattern})(?:/|$)")
    }
}
