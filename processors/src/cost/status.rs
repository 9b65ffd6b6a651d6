//! Why a span has a cost, or why it has none.

use std::fmt;

/// The outcome of pricing one span. Nothing that is unknown is ever written as a cost of 0: it has one of these names
/// instead. A model which the catalog lists as free is [`Self::Priced`] at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CostStatus {
    /// A cost was computed.
    Priced,
    /// A cost was computed from counts that were estimated, because the span has none.
    Estimated,
    /// The cost that the application gave was taken, as the configuration wants it.
    Given,
    /// Another span of the same call carries the cost.
    Duplicate,
    /// No call of a model: nothing is written to such a span.
    NotLlm,
    /// The span repeats or sums up the usage of other spans (agent, workflow, outer Vercel AI span). Only they are billed,
    /// also where none of them was seen.
    Aggregate,
    /// A model was called but the span does not say how many tokens it used, or says zero for all of them.
    NoUsage,
    /// The span does not name a model.
    NoModel,
    /// The provider, or the host behind an OpenAI-compatible endpoint, is not in the catalog.
    UnknownProvider,
    /// The provider is in the catalog, the model is not.
    UnknownModel,
    /// The catalog has the model but no rate for a kind of token the span reports.
    NoRate,
    /// The counts contradict each other, for instance more cached than input tokens where input includes them.
    Inconsistent,
    /// A token count is not a number of tokens (negative, NaN, fractional, absurdly large, not numeric), or the cost is
    /// not one of a span ([`Usd::MAX_OF_SPAN`](super::Usd::MAX_OF_SPAN)).
    Invalid,
}

impl CostStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Priced,
        Self::Estimated,
        Self::Given,
        Self::Duplicate,
        Self::NotLlm,
        Self::Aggregate,
        Self::NoUsage,
        Self::NoModel,
        Self::UnknownProvider,
        Self::UnknownModel,
        Self::NoRate,
        Self::Inconsistent,
        Self::Invalid,
    ];

    /// Whether a span of this status carries a cost.
    pub const fn has_cost(self) -> bool {
        matches!(self, Self::Priced | Self::Estimated | Self::Given)
    }

    /// Whether a model was called and nobody knows for how much.
    pub const fn is_unpriced(self) -> bool {
        !self.has_cost() && !matches!(self, Self::NotLlm | Self::Aggregate | Self::Duplicate)
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// A sentence for people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Priced => "this span carries the cost of its call",
            Self::Estimated => "this span carries the cost of its call, computed from estimated counts",
            Self::Given => "this span carries the cost that the application gave",
            Self::Duplicate => "another span of the same call carries the cost",
            Self::NotLlm => "no call of a model",
            Self::Aggregate => "it repeats or sums up the usage of other spans, and only they are billed",
            Self::NoUsage => "the span does not say how many tokens the call used",
            Self::NoModel => "the span does not name a model",
            Self::UnknownProvider => "the catalog does not have the provider, or the host behind the endpoint",
            Self::UnknownModel => "the catalog has the provider but not the model",
            Self::NoRate => "the catalog has no price for this time, or no rate for a kind of token",
            Self::Inconsistent => "the counts contradict each other",
            Self::Invalid => "a count is not a number of tokens, or so large that the call would cost a million USD",
        }
    }

    /// The stable name, as written to spans and used as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Priced => "priced",
            Self::Estimated => "estimated",
            Self::Given => "given",
            Self::Duplicate => "duplicate",
            Self::NotLlm => "not_llm",
            Self::Aggregate => "aggregate",
            Self::NoUsage => "no_usage",
            Self::NoModel => "no_model",
            Self::UnknownProvider => "unknown_provider",
            Self::UnknownModel => "unknown_model",
            Self::NoRate => "no_rate",
            Self::Inconsistent => "inconsistent",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for CostStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::CostStatus;

    #[test]
    fn names_are_distinct_and_snake_case() {
        let mut names: Vec<_> = CostStatus::ALL.iter().map(|s| s.as_str()).collect();
        assert!(names.iter().all(|n| n.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CostStatus::ALL.len());
        for (number, status) in CostStatus::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
            assert_eq!(CostStatus::from_name(status.as_str()), Some(status));
        }
    }
}
