//! The cost of model calls: from a span's attributes to an exact, explainable amount.
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

pub mod catalog;
mod matcher;
pub mod money;
mod price;
mod pricer;
mod status;
mod usage;

pub use self::catalog::{Catalog, CatalogError};
pub use self::matcher::{Match, MatchStep, Matcher};
pub use self::money::Usd;
pub use self::price::{Cost, price};
pub use self::pricer::{Priced, Pricer};
pub use self::status::CostStatus;
pub use self::usage::{OUTPUT_PREFIXES, Reading, Usage, UsageReader};
