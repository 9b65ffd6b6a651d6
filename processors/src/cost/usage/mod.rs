//! What a span says about the model call it stands for: counts of tokens, provider, models, endpoint.
//!
//! One pass over the attributes ([`UsageReader::visit`]), then one decision ([`UsageReader::finish`]). All conventions
//! in use are read at once, by key: OpenTelemetry GenAI (`gen_ai.*`, old and new), OpenLLMetry (`gen_ai.*`,
//! `llm.usage.*`), OpenInference (`llm.token_count.*`), Vercel AI SDK (`ai.*`), pydantic-ai and logfire. Where a field
//! has several keys the one of the lowest rank counts; of one key given twice, the last.
//!
//! [`Usage`] is normalised: **input includes cached tokens, output includes reasoning**, as the GenAI conventions say
//! and most emitters do. Those that do not are recognised, in this order:
//!
//! 1. the emitter is known to exclude cached tokens (the Bedrock instrumentations pass on the raw counts);
//! 2. a subset larger than its set proves that it is no subset (`cache_read + cache_write > input`,
//!    `reasoning > output`);
//! 3. the uncached part is given and equals the input (Vercel AI SDK, also in what it keeps of Anthropic's answer);
//! 4. the total adds up only if the subset is added (`input + cached + output = total`,
//!    `input + output + reasoning = total`);
//! 5. the Vercel AI SDK before version 6, which has no `ai.usage.inputTokenDetails.*`, on Anthropic or Bedrock: it
//!    passes on their raw counts, and its total is the sum of the two;
//! 6. Google models report a total above `input + output`: the difference is thinking, billed as output.
//!
//! What no key of its own tells is filled in from texts that hold a usage object (`raw`). Not read:
//! `gen_ai.aggregated_usage.*` (a sum over child spans) and `gen_ai.usage.details.audio_tokens` (does not say of which
//! direction).
//!
//! One span alone tells whether it is an [aggregate](CostStatus::Aggregate). That a framework's span and an SDK's both
//! stand for one call shows only across spans, and is decided in [`calls`](super::calls).

mod facts;
mod keys;
mod normalise;
mod number;
mod raw;
mod reader;
mod role;
#[cfg(test)]
mod tests;

use weir_pipeline::batch::view::Text;

pub(super) use self::facts::{Facts, Naming};
pub(super) use self::number::money;
pub use self::reader::{Meaning, UsageReader};
use super::{CostStatus, Usd};

/// Counts of one model call. `None` = not reported, which is not the same as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones, audio and images included.
    pub input: Option<u64>,
    /// All output tokens, reasoning, audio and images included.
    pub output: Option<u64>,
    /// The part of the input that was read from the provider's cache.
    pub cache_read: Option<u64>,
    /// The part of the input that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// The part of `cache_write` that is kept for an hour, which costs more. The rest is kept for five minutes.
    pub cache_write_1h: Option<u64>,
    /// The part of the output that is reasoning.
    pub reasoning: Option<u64>,
    /// The part of the input that is audio.
    pub audio_in: Option<u64>,
    /// The part of the output that is audio.
    pub audio_out: Option<u64>,
    /// The part of the input that is images.
    pub image_in: Option<u64>,
    /// The part of the output that is images.
    pub image_out: Option<u64>,
    /// The part of both `cache_read` and `audio_in`.
    pub cached_audio: Option<u64>,
    /// The part of both `cache_read` and `image_in`.
    pub cached_image: Option<u64>,
    /// Web searches that the provider made.
    pub web_searches: Option<u64>,
    /// Requests to the provider; not reported means one.
    pub requests: Option<u64>,
    /// Input and output together; larger where the provider reports more than the two.
    pub total: Option<u64>,
}

impl Usage {
    /// The part of `cache_write` that is kept for five minutes.
    pub fn cache_write_5m(&self) -> Option<u64> {
        self.cache_write.map(|all| all.saturating_sub(self.cache_write_1h.unwrap_or(0)))
    }
}

/// What a span says about its model call. Texts are as on the wire and empty where absent.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The counts, or why there are none: `not_llm`, `aggregate`, `no_usage`, `inconsistent` or `invalid`.
    pub usage: Result<Usage, CostStatus>,
    /// Provider as named by the emitter; may be a framework (`langchain`).
    pub provider: Text<'a>,
    /// Provider as named by LangChain's metadata.
    pub langchain_provider: Text<'a>,
    /// Model that was asked for.
    pub request_model: Text<'a>,
    /// Model that answered.
    pub response_model: Text<'a>,
    /// The provider's id of the answer, which all spans of one call share.
    pub response_id: Text<'a>,
    /// Base URL or host the call went to.
    pub address: Text<'a>,
    /// `gen_ai.operation.name`, else `llm.request.type`.
    pub operation: Text<'a>,
    /// Service tier that answered: `default`, `priority`, `flex`, `batch` …
    pub service_tier: Text<'a>,
    /// Service tier that was asked for, which is not always the one that answers.
    pub requested_service_tier: Text<'a>,
    /// Whether the provider's batch API was used.
    pub batch: bool,
    /// Whether the answer came as a stream.
    pub is_stream: bool,
    /// The cost that the application gives.
    pub given_cost: Option<GivenCost<'a>>,
    /// How the counts were made to include cached and reasoning tokens.
    pub resolution: Resolution,
    /// Input and output tokens as the span reports them, before they are normalised.
    pub reported: [Option<u64>; 2],
    /// Whether the span already had attributes of the kind Weir writes (`gen_ai.usage.cost.*`, `weir.*`).
    pub has_output_keys: bool,
    /// The status that another Weir wrote to the span.
    pub earlier_status: Text<'a>,
    /// Whether the span is a log in the form of one, as logfire sends at the end of a stream.
    pub is_log: bool,
}

/// A cost that stood on the span before Weir saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenCost<'a> {
    /// All of it; the sum of the parts where only they are given.
    pub total: Usd,
    /// The input's part.
    pub input: Option<Usd>,
    /// The output's part.
    pub output: Option<Usd>,
    /// ISO 4217 code; empty means US dollars. Other currencies are not compared.
    pub currency: Text<'a>,
    /// The attribute it was read from.
    pub key: &'static str,
}

impl GivenCost<'_> {
    /// Whether the amounts are US dollars.
    pub fn is_usd(&self) -> bool {
        self.currency.is_empty() || self.currency.as_bytes().eq_ignore_ascii_case(b"usd")
    }
}

/// How counts were normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Whether cached tokens were added to the input.
    pub input: Rule,
    /// Whether reasoning tokens were added to the output.
    pub output: Rule,
}

/// What decided whether a count includes its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// There are no parts to decide about.
    #[default]
    AsReported,
    /// Nothing says otherwise: the count includes them, as the conventions demand.
    Inclusive,
    /// This emitter passes on the raw counts of a provider that excludes them.
    EmitterExcludes,
    /// The Vercel AI SDK before version 6, on a provider that excludes them.
    SdkExcludes,
    /// The parts are larger than the count.
    LargerThanWhole,
    /// The uncached part is given and equals the count.
    UncachedIsInput,
    /// The total is the sum only if the parts are added.
    TotalAddsUp,
    /// The total of a Google model is larger than the sum: the difference is thinking.
    TotalIsLarger,
    /// The count is missing, and is the total less the other one.
    TotalLessOther,
}

impl Rule {
    /// Whether the parts were added.
    pub const fn is_exclusive(self) -> bool {
        matches!(
            self,
            Self::EmitterExcludes
                | Self::SdkExcludes
                | Self::LargerThanWhole
                | Self::UncachedIsInput
                | Self::TotalAddsUp
                | Self::TotalIsLarger
        )
    }

    /// For people to read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsReported => "as reported",
            Self::Inclusive => "includes its parts: nothing says otherwise",
            Self::EmitterExcludes => "excludes its parts: this emitter passes on the provider's raw counts",
            Self::SdkExcludes => {
                "excludes its parts: the Vercel AI SDK before version 6 passes on Anthropic's and Bedrock's raw counts"
            }
            Self::LargerThanWhole => "excludes its parts: they are larger than it",
            Self::UncachedIsInput => "excludes its parts: it equals the uncached part",
            Self::TotalAddsUp => "excludes its parts: the total adds up only with them",
            Self::TotalIsLarger => "excludes thinking: a Google model's total is larger than the sum",
            Self::TotalLessOther => "the total less the other count",
        }
    }
}

/// Prefixes of the attributes which Weir writes.
pub const OUTPUT_PREFIXES: [&str; 3] = ["gen_ai.usage.cost.", "weir.cost.", "weir.usage."];
