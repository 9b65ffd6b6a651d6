//! What a user lays over the catalog: own prices, discounts, servers, names.
//!
//! ```yaml
//! currency: {code: EUR, usd: 1.08}      # the rates below are in euros; one is worth 1.08 USD
//!
//! providers:                            # what the catalog does not know
//!   - id: local
//!     names: [ollama, vllm]             # what spans call it, also as a prefix: `ollama/llama3`
//!     hosts: [gpu.internal, "10.1.2.3:8000"]
//!     free: true                        # every model that has no price below costs nothing
//!   - id: reseller
//!     hosts: [llm.reseller.example]
//!     fallback: [openai, anthropic]     # whose prices hold where it has none
//!
//! aliases:                              # deployments: names that only you know
//!   - {provider: azure, name: chat-prod, model: openai/gpt-4o}
//!
//! prices:
//!   - provider: openai
//!     model: gpt-4o                     # the catalog's id; another one makes a new model, before all others
//!     project: checkout                 # only for this project's spans
//!     valid_from: 2026-01-01            # UTC date or instant; the price before it stays what it was
//!     valid_until: 2027-01-01
//!     daily: ["16:30", "00:30"]         # UTC, the end excluded
//!     rates: {input: 2, output: 8, cache_read: 0.5}
//!     tiers:                            # by all input tokens; `from` instead of `above` includes the number itself
//!       - {above: 200000, rates: {input: 4, output: 12}}
//!     service_tiers: {batch: {multiplier: 0.5, except: [cache_read]}}
//!     source: contract 42
//!   - {provider: reseller, model: house-model, match: ["house-*"], rates: {input: 1, output: 2}}
//!
//! service_tiers:                        # for prices that the catalog has
//!   - {provider: anthropic, models: ["claude-*"], tiers: {batch: {multiplier: 0.5}}, source: https://…}
//!
//! discounts:                            # of all rates and fees
//!   - {provider: azure, models: ["gpt-4*"], multiplier: 0.85, project: checkout, valid_from: 2026-01-01}
//! ```
//!
//! Rates are in units of the currency per million tokens, fees (`per_thousand_requests`, `per_thousand_web_searches`)
//! per thousand, all as plain decimals. Amounts are kept in USD; a price says in its source which currency it came from.
//!
//! Of the prices that hold at the end of a call, the project's come before the others, and among these the last
//! one counts: what is laid over comes before what was there, discounts before the prices they are of. Discounts do not
//! multiply each other: of two that hold, the later one counts. A pattern that fits no model is an error, as is every
//! name that is not known.

mod apply;
mod raw;
#[cfg(test)]
mod tests;

use weir_pipeline::config::{ConfigError, Node};

use self::raw::Raw;
use super::CatalogBuilder;

/// Prices, discounts, providers and names to be laid over a catalog.
#[derive(Debug, Clone)]
pub struct Overlay {
    raw: Raw,
    node: Node,
    path: String,
    /// What the ids of its prices end with.
    label: &'static str,
}

impl Overlay {
    /// Reads an overlay that is at `path` in the configuration, or at the top of a file of its own (`""`).
    ///
    /// # Errors
    /// A key or value that cannot be used, with its place.
    pub fn from_node(node: &Node, path: &str) -> Result<Self, ConfigError> {
        Ok(Self { raw: node.parse_as(path)?, node: node.clone(), path: path.to_owned(), label: "+overlay" })
    }

    /// The overlay of the catalog's own making, whose price ids are those of the catalog.
    pub fn without_label(mut self) -> Self {
        self.label = "";
        self
    }

    /// An error about an item of a list.
    fn error(&self, list: &str, at: usize, message: impl Into<String>) -> ConfigError {
        let node = self.node.get(list).and_then(|list| list.items().get(at)).unwrap_or(&self.node);
        let separator = if self.path.is_empty() { "" } else { "::" };
        node.error(&format!("{}{separator}{list}[{at}]", self.path), message)
    }
}

impl CatalogBuilder<'_> {
    /// Lays an overlay over what there is.
    ///
    /// # Errors
    /// It names a provider or model that is not there, or contradicts itself; the error has the place. The builder is
    /// not to be used then.
    pub fn overlay(&mut self, overlay: &Overlay) -> Result<(), ConfigError> {
        apply::apply(overlay, self.change())
    }
}
