//! What can be wrong with a catalog.

use crate::cost::money::RateError;

/// Why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Not JSON of the expected shape.
    #[error("the price catalog is not readable: {0}; its format is described in `cost::catalog::format`")]
    Json(#[from] serde_json::Error),
    /// Another version of the format.
    #[error("the price catalog has format {0}, this version reads formats 1 and 2; convert it again")]
    Format(u32),
    /// A rate that is none.
    #[error("price `{price}`: {source}")]
    Rate {
        /// Id of the price.
        price: String,
        /// What is wrong.
        source: RateError,
    },
    /// Tiers that contradict each other.
    #[error("price `{price}`: {problem}")]
    Tiers {
        /// Id of the price.
        price: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A service tier that cannot be computed.
    #[error("price `{price}`, service tier `{tier}`: {problem}")]
    ServiceTier {
        /// Id of the price.
        price: String,
        /// Name of the service tier.
        tier: String,
        /// What is wrong.
        problem: String,
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
    /// The catalog's own date is none.
    #[error("the price catalog's date `{0}` is not a date such as 2026-08-21")]
    Date(String),
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
    /// An alias of a model that is not there.
    #[error("provider `{provider}`: the alias `{name}` is for `{model}`, which is not in the catalog")]
    Alias {
        /// The provider.
        provider: String,
        /// The alias.
        name: String,
        /// What it names.
        model: String,
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
    #[error("the price catalog is too large: more than {1} {0}")]
    TooMany(&'static str, usize),
}
