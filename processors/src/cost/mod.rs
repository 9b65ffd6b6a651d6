//! The `cost` processor: from a span's attributes to an exact, explainable amount.
//!
//! ```yaml
//! processors:
//!   cost:            # no settings
//! ```
//!
//! | written attribute | type | meaning |
//! |---|---|---|
//! | `gen_ai.usage.cost.amount` | double | cost of the call; `.currency` = `USD`, `.source` = `local` (OTel proposal) |
//! | `weir.cost.input`, `.output`, `.cache_read`, `.cache_write` | double | its parts, in USD |
//! | `weir.cost.status` | string | `priced`, or why there is no cost ([`CostStatus`]) |
//! | `weir.cost.price_id` | string | the catalog's price: `openai/o3@2025-06-10` |
//! | `weir.cost.catalog` | string | the catalog's version: date and content hash |
//! | `weir.usage.input_tokens`, `.output_tokens` | int | only where the span's own counts leave out cached or reasoning tokens |
//!
//! Amounts are computed exactly, in 10⁻¹² USD; the doubles are the nearest ones, so that rounding them to twelve decimal
//! places gives the exact amount back (below 1,000 USD a span). A span that is no model call stays as it is, byte for
//! byte. A cost that the application wrote itself is kept; one that another Weir wrote is not computed again.
//!
//! ```text
//! attributes ──UsageReader──▶ Reading { usage, provider, models, address }
//!                                │
//!                 Catalog ──Matcher──▶ Match { model }
//!                                │
//!     end time ──Catalog::price_at──▶ PriceRef ──price──▶ Cost { input, output, cache_read, cache_write, total }
//! ```
//!
//! [`Pricer`] ties these together. It is a pure function of the span and the catalog's version (invariant I8): no
//! clock, no network, no floating point. What cannot be known has a [`CostStatus`] and no cost, never a cost of 0.

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
mod status;
mod usage;

pub use self::catalog::{Catalog, CatalogError};
pub use self::explain::{Explanation, explain};
pub use self::matcher::{Match, MatchStep, Matcher};
pub use self::money::Usd;
pub use self::node::build;
pub use self::price::{Cost, price};
pub use self::pricer::{Priced, Pricer};
pub use self::status::CostStatus;
pub use self::usage::{GivenCost, OUTPUT_PREFIXES, Reading, Resolution, Rule, Usage, UsageReader};
