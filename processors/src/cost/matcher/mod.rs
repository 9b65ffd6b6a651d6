//! From the names on a span to a model of the catalog.
//!
//! Deterministic, a function of the names and the catalog:
//!
//! 1. **Provider.** The name on the span, read with the table in `names` and then the catalog's own rules. If it is
//!    OpenAI's, which every compatible endpoint claims to be, the address of the call decides: a known host is its
//!    owner's, another public host is [`CostStatus::UnknownProvider`], and an address inside the user's own network
//!    (loopback, private, single-label) says nothing, since proxies and gateways live there. If the name is a
//!    framework's, or absent: the address, LangChain's metadata, the prefix of the model (`openai/gpt-4o-mini`), and
//!    last the first provider that claims models of this name. Names and hosts that the user declared come before all
//!    of this, also for servers inside the own network.
//! 2. **Model.** The response's, then the request's; on Bedrock the request's first, since only it has the region.
//!    Names are tried as they are, then without path, prefix, Bedrock region and version, then without a date, then
//!    with dashes for dots. Within a provider the first model in file order wins.
//!    `deepseek/deepseek-r1:free` is an offer of a reseller with a price of its own, if any: the names of such offers are
//!    the reseller's alone, and the vendor in them is never asked.
//! 3. **Fallback.** One step to the providers whose prices hold too (Azure → OpenAI), then to that of a prefix.
//!
//! [`Recall`](super::recall) remembers answers, unknown names included, so that an unknown model costs no more than a
//! known one.

mod address;
mod names;
mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::view::Text;

use self::address::Endpoint;
use self::names::ProviderName;
pub(super) use self::names::alias as provider_alias;
use super::catalog::{Catalog, ModelId, ProviderId};
use super::{CostStatus, Reading};

/// How a model's name was recognised, the most certain first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchStep {
    /// As it stood on the span.
    Exact,
    /// Without prefix, path, region or version.
    Rewritten,
    /// Without its date, or with dashes for dots.
    Undated,
    /// At a provider that the span's own falls back to.
    Fallback,
}

impl MatchStep {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Rewritten => "rewritten",
            Self::Undated => "undated",
            Self::Fallback => "fallback",
        }
    }
}

/// A model that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The model.
    pub model: ModelId,
    /// How its name was recognised.
    pub step: MatchStep,
    /// Whether the provider had to be inferred, because the span named none or a framework.
    pub inferred_provider: bool,
}

impl Match {
    /// How sure the match is, as one stable word: the step, with `inferred_` before it if the provider was inferred.
    pub const fn confidence(&self) -> &'static str {
        match (self.inferred_provider, self.step) {
            (false, step) => step.as_str(),
            (true, MatchStep::Exact) => "inferred_exact",
            (true, MatchStep::Rewritten) => "inferred_rewritten",
            (true, MatchStep::Undated) => "inferred_undated",
            (true, MatchStep::Fallback) => "inferred_fallback",
        }
    }
}

/// Finds models.
#[derive(Debug)]
pub struct Matcher {
    catalog: Arc<Catalog>,
}

/// Longer names are no names of a provider or model.
const MAX_NAME: usize = 255;

impl Matcher {
    /// A matcher of this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// The model that a span's call used, or why there is none: `no_model`, `unknown_provider` or `unknown_model`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, reading: &Reading<'_>) -> Result<Match, CostStatus> {
        Search { catalog: &self.catalog, reading }.run()
    }

    /// The catalog it searches.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }
}

/// One search.
struct Search<'s, 'a> {
    catalog: &'s Catalog,
    reading: &'s Reading<'a>,
}

impl Search<'_, '_> {
    fn run(&self) -> Result<Match, CostStatus> {
        let request = lower(self.reading.request_model).ok_or(CostStatus::UnknownModel)?;
        let response = lower(self.reading.response_model).ok_or(CostStatus::UnknownModel)?;
        if request.is_empty() && response.is_empty() {
            return Err(CostStatus::NoModel);
        }
        let named = lower(self.reading.provider).ok_or(CostStatus::UnknownProvider)?;
        let (provider, inferred_provider) = match (self.catalog.declared_provider(&named), names::provider(&named)) {
            (Some(declared), _) => (declared, false),
            (None, ProviderName::Named(name)) => (self.named(name, &request)?, false),
            (None, ProviderName::Framework) => (self.inferred(&request, &response)?, true),
        };
        let models =
            if self.catalog.provider_name(provider) == "aws" { [&request, &response] } else { [&response, &request] };
        for model in models {
            if let Some((model, step)) = self.find(provider, model) {
                return Ok(Match { model, step, inferred_provider });
            }
        }
        // A proxy behind the provider's API may forward to the one in the model's prefix.
        for model in models {
            if let Some(other) = self.provider_of_prefix(model)?
                && other != provider
                && let Some((model, step)) = self.find(other, model)
            {
                return Ok(Match { model, step, inferred_provider: true });
            }
        }
        Err(CostStatus::UnknownModel)
    }

    fn named(&self, name: &str, request: &str) -> Result<ProviderId, CostStatus> {
        let provider = self.catalog.provider_by_id(name).or_else(|| self.catalog.provider_by_name(name));
        let id = provider.map(|p| self.catalog.provider_name(p));
        // The Anthropic SDK has a Bedrock client, whose spans say `anthropic`.
        if id == Some("anthropic") && request.contains("anthropic.claude") {
            return self.catalog.provider_by_id("aws").ok_or(CostStatus::UnknownProvider);
        }
        if id.is_some_and(|id| id != "openai") {
            return provider.ok_or(CostStatus::UnknownProvider);
        }
        match (self.endpoint(), provider) {
            (Endpoint::Provider(owner), _) => Ok(owner),
            (Endpoint::Silent, Some(provider)) => Ok(provider),
            (Endpoint::Silent, None) | (Endpoint::Unknown, _) => Err(CostStatus::UnknownProvider),
        }
    }

    fn inferred(&self, request: &str, response: &str) -> Result<ProviderId, CostStatus> {
        match self.endpoint() {
            Endpoint::Provider(owner) => return Ok(owner),
            Endpoint::Unknown => return Err(CostStatus::UnknownProvider),
            Endpoint::Silent => {}
        }
        let metadata = lower(self.reading.langchain_provider).ok_or(CostStatus::UnknownProvider)?;
        if let Some(declared) = self.catalog.declared_provider(&metadata) {
            return Ok(declared);
        }
        if let ProviderName::Named(name) = names::provider(&metadata) {
            let provider = self.catalog.provider_by_id(name).or_else(|| self.catalog.provider_by_name(name));
            return provider.ok_or(CostStatus::UnknownProvider);
        }
        for model in [request, response] {
            if let Some(provider) = self.provider_of_prefix(model)? {
                return Ok(provider);
            }
        }
        let claims = |model: &str| {
            let by_family = || self.catalog.provider_by_id(names::provider_of_family(model)?);
            let is_nobodys = model.is_empty() || (model.contains('/') && rewrite::is_offer(model));
            self.catalog.provider_by_model(model).or_else(by_family).filter(|_| !is_nobodys)
        };
        claims(response).or_else(|| claims(request)).ok_or(CostStatus::UnknownModel)
    }

    fn endpoint(&self) -> Endpoint {
        let address = self.reading.address.as_str();
        let end = address.floor_char_boundary(MAX_NAME);
        address::endpoint(self.catalog, address.get(..end).unwrap_or_default())
    }

    /// The provider that a LiteLLM prefix names, an error if it names one that has no prices. Not the vendor in the name
    /// of a reseller's offer.
    fn provider_of_prefix(&self, model: &str) -> Result<Option<ProviderId>, CostStatus> {
        let Some((prefix, _)) = model.split_once('/') else { return Ok(None) };
        if let Some(declared) = self.catalog.declared_provider(prefix) {
            return Ok(Some(declared));
        }
        if names::is_unpriced_prefix(prefix) {
            return Err(CostStatus::UnknownProvider);
        }
        let id = names::alias(prefix).filter(|id| !rewrite::is_offer(model) || names::is_reseller(id));
        Ok(id.and_then(|id| self.catalog.provider_by_id(id)))
    }

    fn find(&self, provider: ProviderId, model: &str) -> Option<(ModelId, MatchStep)> {
        if model.is_empty() {
            return None;
        }
        let is_bedrock = self.catalog.provider_name(provider) == "aws";
        let is_offer = rewrite::is_offer(model);
        let is_prefix = |name: &str| {
            names::alias(name).is_some_and(|id| !is_offer || names::is_reseller(id))
                || self.catalog.declared_provider(name).is_some()
        };
        let spellings = rewrite::spellings(model, is_bedrock, is_prefix);
        let find_at = |provider| {
            let named = |(name, step): &(String, _)| Some((self.catalog.find_model(provider, name)?, *step));
            let any = || Some((self.catalog.any_model(provider)?, MatchStep::Exact));
            spellings.iter().find_map(named).or_else(any)
        };
        find_at(provider).or_else(|| {
            let (model, _) = self.catalog.fallback(provider).iter().find_map(|other| find_at(*other))?;
            Some((model, MatchStep::Fallback))
        })
    }
}

/// The name trimmed and in lower case; `None` if it is too long to be one.
fn lower(name: Text<'_>) -> Option<String> {
    (name.len() <= MAX_NAME).then(|| name.as_str().trim().to_lowercase())
}
