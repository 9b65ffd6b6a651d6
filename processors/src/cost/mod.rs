//! The `cost` processor: from a span's attributes to an exact, explainable amount.
//!
//! ```yaml
//! processors:
//!   cost:
//!     attributes: [otel, weir]   # families below; [] writes nothing
//!     given_cost: keep           # keep, prefer_local, prefer_given
//!     estimate: off              # off, on, streams
//!     billed_once:
//!       enabled: true
//!       window: 10m              # how long a call is remembered
//!       max_calls: 50000
//!     max_metric_series: 2000    # label sets; further ones are counted under `overflow`
//!     catalog:                   # the prices; without it those in the binary
//!       path: prices.json        # a catalog file instead, or its URL
//!       litellm: litellm.json    # a price file of LiteLLM, laid over it, or its URL
//!       overlay: own.yaml        # own prices, discounts, servers: a file, or the overlay itself
//!       refresh_interval: 5m
//!       max_age: 720h            # older prices are warned of
//!       history: history.json    # keeps what a refresh replaced
//!       cache_dir: prices        # keeps copies of what is fetched
//! ```
//!
//! | family | written attribute | type | meaning |
//! |---|---|---|---|
//! | `otel` | `gen_ai.usage.cost.amount` | double | cost of the call; `.currency` = `USD`, `.source` = `local` or `application` (OTel proposal) |
//! | `weir` | `weir.cost.input`, `.output`, `.cache_read`, `.cache_write` | double | its parts, in USD |
//! | | `weir.cost.total` | double | cost of the call, where `gen_ai.usage.cost.amount` is not written or is the application's own |
//! | | `weir.cost.status` | string | `priced`, or why there is no cost ([`CostStatus`]) |
//! | | `weir.cost.deferred_to` | string | `<trace id>/<span id>` of the span that carries the cost instead ([`calls`]) |
//! | | `weir.cost.price_id` | string | the catalog's price: `openai/o3@2025-06-10` |
//! | | `weir.cost.catalog` | string | the catalog's version: date and content hash |
//! | | `weir.cost.confidence` | string | how the model was recognised, if not by its name as given ([`Match::confidence`]) |
//! | | `weir.cost.caveat` | string | `tier_unknown`: the catalog has no price of the service tier, this is the standard one; `fee_unknown`: web searches are not in it; `tier_and_fee_unknown` |
//! | | `weir.cost.given` | double | the cost the application gave, in USD |
//! | | `weir.cost.given_difference` | double | the cost the application gave less the computed one, where they differ |
//! | | `weir.usage.input_tokens`, `.output_tokens` | int | only where the span's own counts leave out cached or reasoning tokens, or were estimated |
//! | | `weir.usage.method` | string | how estimated counts were made: `tiktoken/o200k_base`, with `+tools` and `+images` where the provider's rules for these were used |
//! | `legacy` | `gen_ai.usage.cost` | double | cost of the call |
//! | `openinference` | `llm.cost.total`, `.prompt`, `.completion`, `.prompt_details.cache_read`, `.cache_write` | double | OpenInference's; the prompt's cost includes its cached parts |
//! | `langfuse` | `langfuse.observation.cost_details` | string | Langfuse's JSON object of costs |
//!
//! Amounts are computed exactly, in 10⁻¹² USD; the doubles are the nearest ones, so that rounding them to twelve decimal
//! places gives the exact amount back (below 1,000 USD a span). A span that is no model call stays as it is, byte for
//! byte; a cost that another Weir wrote stands, if it is an amount.
//!
//! **Billed once.** Of the spans that one call leaves, exactly one carries the cost: [`calls`] has the rules and their
//! limits. Two destinations that want different attributes have a `cost` processor each, in pipelines of their own.
//!
//! **Given costs** (`operation.cost`, `gen_ai.usage.cost*`, `llm.cost.*`, Langfuse's) are compared with the computed one,
//! in metrics and in `weir.cost.given_difference`; `weir.cost.given` repeats them under one key. `keep` leaves them where they are and writes the computed cost under
//! all other keys; `prefer_local` writes it over them; `prefer_given` takes the given cost as the cost, in attributes and
//! metrics alike, with the status `given`. Costs in other currencies than USD are only kept.
//!
//! **Prices** are chosen by the call's own end, its service tier (batch, else the one that answered, else the one asked
//! for) and its project: [`catalog`] has the data, [`catalog::format`] the file, [`catalog::Overlay`] what users lay over
//! it, [`catalog::CatalogSettings`] the settings, [`catalog::LiveCatalog`] the refresh and its metrics.
//!
//! **Estimates** (feature `estimate`): off by default; see the module `estimate` for what is estimated and what not.
//!
//! **Metrics** are listed in `node/meter.rs`: cost, tokens, unpriced spans and given costs by project, environment,
//! provider and model. The project is the resource's `weir.project`, else `service.namespace`; the environment its
//! `deployment.environment.name`, else `deployment.environment`.
//!
//! ```text
//! attributes ──UsageReader──▶ Reading { usage, provider, models, address, tiers }
//!                                │
//!                 Catalog ──Matcher──▶ Match { model }
//!                                │
//!     end time, tier ──Catalog::price_for──▶ PriceRef ──price──▶ Cost { input, output, cache_read, cache_write, total }
//!                                                                  │
//!                                                  Calls ──claim──▶ billed, duplicate or aggregate
//! ```
//!
//! [`Pricer`] is a pure function of the span and the catalog's version (invariant I8): no clock, no network, no floating
//! point. Which of several spans carries the cost depends on the order in which they come. What cannot be known has a
//! [`CostStatus`] and no cost, never a cost of 0. [`explain`](fn@explain) shows each step; [`Recost`] computes stored
//! costs again.

pub mod calls;
pub mod catalog;
#[cfg(feature = "estimate")]
pub mod estimate;
mod explain;
mod matcher;
pub mod money;
mod node;
mod price;
mod pricer;
mod pricing;
mod recall;
mod recost;
mod status;
mod usage;

pub use self::catalog::{Catalog, CatalogError};
pub use self::explain::{Explanation, explain};
pub use self::matcher::{Match, MatchStep, Matcher};
pub use self::money::Usd;
pub use self::node::{build, build_with, schema};
pub use self::price::{Cost, price};
pub use self::pricer::{Found, Priced, Pricer};
pub use self::pricing::Pricing;
pub use self::recost::{Recost, Recosted, Stored};
pub use self::status::CostStatus;
pub use self::usage::{GivenCost, Meaning, OUTPUT_PREFIXES, Reading, Resolution, Rule, Usage, UsageReader};
