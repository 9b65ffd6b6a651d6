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
//! 3. the uncached part is given and equals the input (Vercel AI SDK);
//! 4. the total adds up only if the subset is added (`input + cached + output = total`,
//!    `input + output + reasoning = total`);
//! 5. Google models report a total above `input + output`: the difference is thinking, billed as output.
//!
//! Not read: `gen_ai.aggregated_usage.*` (a sum over child spans), `gen_ai.usage.raw`, and
//! `gen_ai.usage.details.audio_tokens` (does not say of which direction).
//!
//! One span alone tells whether it is an [aggregate](CostStatus::Aggregate). That a framework span and an SDK span both
//! stand for the same call (LangChain over OpenAI, native Anthropic spans beside an instrumentation) shows only across
//! spans, by `gen_ai.response.id`, and is not decided here: both are priced.

mod keys;
mod number;
#[cfg(test)]
mod tests;

use weir_pipeline::batch::view::{Text, Value};

use self::keys::{COUNTS, Count, Field, NAMES, Name};
use self::number::Number;
use super::CostStatus;

/// Counts of tokens of one model call. `None` = not reported, which is not the same as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached and audio included.
    pub input: Option<u64>,
    /// All output tokens, reasoning and audio included.
    pub output: Option<u64>,
    /// The part of the input that was read from the provider's cache.
    pub cache_read: Option<u64>,
    /// The part of the input that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// The part of `cache_write` that is kept for an hour, which costs more.
    pub cache_write_1h: Option<u64>,
    /// The part of the output that is reasoning.
    pub reasoning: Option<u64>,
    /// The part of the input that is audio.
    pub audio_in: Option<u64>,
    /// The part of the output that is audio.
    pub audio_out: Option<u64>,
    /// Input and output together; larger where the provider reports more than the two.
    pub total: Option<u64>,
}

/// What a span says about its model call. Texts are as on the wire and empty where absent.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The counts, or why there are none: `not_llm`, `aggregate`, `no_usage` or `invalid`.
    pub usage: Result<Usage, CostStatus>,
    /// Provider as named by the emitter; may be a framework (`langchain`).
    pub provider: Text<'a>,
    /// Provider as named by LangChain's metadata.
    pub langchain_provider: Text<'a>,
    /// Model that was asked for.
    pub request_model: Text<'a>,
    /// Model that answered.
    pub response_model: Text<'a>,
    /// Base URL or host the call went to.
    pub address: Text<'a>,
    /// `gen_ai.operation.name`, else `llm.request.type`.
    pub operation: Text<'a>,
    /// Input and output tokens as the span reports them, before they are normalised.
    pub reported: [Option<u64>; 2],
    /// Whether the span already had attributes of the kind Weir writes (`gen_ai.usage.cost.*`, `weir.*`).
    pub has_output_keys: bool,
}

/// Collects from a span's attributes what [`Reading`] needs.
#[derive(Debug, Clone, Copy)]
pub struct UsageReader<'a> {
    /// Ranks of the keys that were read, counts and names apart; [`UNSET`] where none was.
    count_ranks: [u8; COUNTS],
    name_ranks: [u8; NAMES],
    counts: [u64; COUNTS],
    names: [Text<'a>; NAMES],
    /// A bit for each count whose value is none.
    invalid: u16,
    has_output_keys: bool,
}

/// What an attribute's key says to a [`UsageReader`].
#[derive(Debug, Clone, Copy)]
pub struct Meaning(
    /// `None` for what Weir writes itself.
    Option<(Field, u8)>,
);

impl Meaning {
    /// What a key means; `None` if nothing.
    pub fn of(key: &[u8]) -> Option<Self> {
        match keys::find(key) {
            None => is_output_key(key).then_some(Self(None)),
            found => Some(Self(found)),
        }
    }
}

/// A rank worse than any.
const UNSET: u8 = u8::MAX;

/// Prefixes of the attributes which Weir writes.
pub const OUTPUT_PREFIXES: [&str; 3] = ["gen_ai.usage.cost.", "weir.cost.", "weir.usage."];

/// Scopes that add cached tokens to the input even for Bedrock: they normalise all providers alike.
const INCLUSIVE_SCOPES: [&str; 6] = ["langchain", "llamaindex", "litellm", "openinference", "pydantic", "logfire"];

impl Default for UsageReader<'_> {
    fn default() -> Self {
        Self {
            count_ranks: [UNSET; COUNTS],
            name_ranks: [UNSET; NAMES],
            counts: [0; COUNTS],
            names: [Text::default(); NAMES],
            invalid: 0,
            has_output_keys: false,
        }
    }
}

impl<'a> UsageReader<'a> {
    /// Looks at one attribute.
    #[inline]
    pub fn visit(&mut self, key: &[u8], value: Value<'a>) {
        if let Some(meaning) = Meaning::of(key) {
            self.visit_known(meaning, value);
        }
    }

    /// Looks at an attribute whose key is known to mean something.
    #[inline]
    pub fn visit_known(&mut self, meaning: Meaning, value: Value<'a>) {
        match meaning.0 {
            Some((field, rank)) => self.take(field, rank, value),
            None => self.has_output_keys = true,
        }
    }

    fn take(&mut self, field: Field, rank: u8, value: Value<'a>) {
        match field {
            Field::Count(count) => {
                let at = count as usize;
                let (Some(best), Some(slot)) = (self.count_ranks.get_mut(at), self.counts.get_mut(at)) else { return };
                if rank > *best {
                    return;
                }
                let (number, invalid) = match Number::read(value) {
                    Number::Tokens(n) => (n, 0),
                    Number::Invalid => (0, 1 << at),
                    Number::Absent => return,
                };
                (*best, *slot) = (rank, number);
                self.invalid = self.invalid & !(1 << at) | invalid;
            }
            Field::Name(name) => {
                let at = name as usize;
                let (Some(best), Some(slot)) = (self.name_ranks.get_mut(at), self.names.get_mut(at)) else { return };
                if let Value::Str(text) = value
                    && rank <= *best
                    && !text.is_empty()
                {
                    (*best, *slot) = (rank, text);
                }
            }
        }
    }

    /// Decides what the span is and what it used. `scope_name` is the instrumentation scope's, empty if unknown.
    pub fn finish(&self, scope_name: &str) -> Reading<'a> {
        let (operation, request_type) = (self.name(Name::Operation), self.name(Name::RequestType));
        Reading {
            usage: self.usage(scope_name),
            provider: self.name(Name::Provider),
            langchain_provider: self.name(Name::LangchainProvider),
            request_model: self.name(Name::RequestModel),
            response_model: self.name(Name::ResponseModel),
            address: self.name(Name::Address),
            operation: if operation.is_empty() { request_type } else { operation },
            reported: [self.count(Count::Input), self.count(Count::Output)],
            has_output_keys: self.has_output_keys,
        }
    }

    fn usage(&self, scope_name: &str) -> Result<Usage, CostStatus> {
        // Without a count there is nothing to bill, so only the kind of span is of interest.
        let any_count = self.count_ranks != [UNSET; COUNTS];
        match self.role(scope_name, any_count) {
            Role::Unrelated => Err(CostStatus::NotLlm),
            Role::Outer if any_count => Err(CostStatus::Aggregate),
            Role::Outer => Err(CostStatus::NotLlm),
            Role::Call if !any_count => Err(CostStatus::NoUsage),
            Role::Call if self.invalid != 0 => Err(CostStatus::Invalid),
            Role::Call => self.normalised(scope_name),
        }
    }

    fn role(&self, scope_name: &str, any_count: bool) -> Role {
        let has = |name: Name| !self.name(name).is_empty();

        // Every model call of the Vercel AI SDK has an outer span (`ai.generateText`) and inner ones
        // (`ai.generateText.doGenerate`) with the same counts.
        if has(Name::VercelOperation) {
            let inner = self.name(Name::VercelOperation).as_bytes().windows(3).any(|w| w == b".do");
            return if inner { Role::Call } else { Role::Outer };
        }
        if is_outer(self.name(Name::Operation)) {
            return Role::Outer;
        }
        if is_model_call(self.name(Name::Operation))
            || is_model_call(self.name(Name::RequestType))
            || matches!(self.name(Name::OpenInferenceKind).as_bytes(), b"LLM" | b"EMBEDDING" | b"RERANKER")
        {
            return Role::Call;
        }
        // Other kinds of OpenInference and all kinds of Traceloop wrap something.
        if has(Name::OpenInferenceKind) || has(Name::TraceloopKind) || has(Name::AgentRun) {
            return Role::Outer;
        }
        if scope_name == "pydantic-ai" && !has(Name::Operation) {
            return Role::Outer;
        }
        if any_count || has(Name::RequestModel) || has(Name::ResponseModel) { Role::Call } else { Role::Unrelated }
    }

    fn normalised(&self, scope_name: &str) -> Result<Usage, CostStatus> {
        let reported_total = self.count(Count::Total);
        let cache_read = self.count(Count::CacheRead);
        let cache_write = self.count(Count::CacheWrite);
        let reasoning = self.count(Count::Reasoning);
        let (mut input, mut output) = (self.count(Count::Input), self.count(Count::Output));
        if input.unwrap_or(0) == 0 && output.unwrap_or(0) == 0 && reported_total.unwrap_or(0) == 0 {
            return Err(CostStatus::NoUsage);
        }

        let cached = cache_read.unwrap_or(0) + cache_write.unwrap_or(0);
        if let Some(n) = input
            && cached > 0
            && self.excludes_cached(scope_name, n, cached)
        {
            input = Some(n + cached);
        }

        if self.input_only() {
            input = input.or(reported_total);
        } else {
            // One direction and the total tell the other; a direction and no total do not.
            input = input.or_else(|| reported_total?.checked_sub(output?));
            output = output.or_else(|| reported_total?.checked_sub(input?));
            let (Some(n), Some(out)) = (input, output) else { return Err(CostStatus::NoUsage) };
            let beyond = reported_total.unwrap_or(0).saturating_sub(n + out);
            let reasoned = reasoning.unwrap_or(0);
            if reasoned > 0 && (beyond == reasoned || reasoned > out) {
                output = Some(out + reasoned);
            } else if beyond > 0 && self.is_google() {
                output = Some(out + beyond);
            }
        }

        let sum = input.unwrap_or(0) + output.unwrap_or(0);
        Ok(Usage {
            input,
            output,
            cache_read,
            cache_write,
            cache_write_1h: self.count(Count::CacheWrite1h),
            reasoning,
            audio_in: self.count(Count::AudioIn),
            audio_out: self.count(Count::AudioOut),
            total: Some(reported_total.map_or(sum, |total| total.max(sum))),
        })
    }

    fn excludes_cached(&self, scope_name: &str, input: u64, cached: u64) -> bool {
        if self.is_raw_bedrock(scope_name) || cached > input {
            return true;
        }
        if let Some(uncached) = self.count(Count::Uncached) {
            return uncached == input;
        }
        match (self.count(Count::Total), self.count(Count::Output)) {
            (Some(total), Some(output)) => total == input + output + cached,
            _ => false,
        }
    }

    fn is_raw_bedrock(&self, scope_name: &str) -> bool {
        if scope_name.ends_with(".bedrock") || scope_name.ends_with(".botocore") {
            return true;
        }
        matches!(self.name(Name::Provider).as_bytes(), b"aws.bedrock" | b"aws_bedrock" | b"bedrock")
            && !INCLUSIVE_SCOPES.iter().any(|part| scope_name.contains(part))
    }

    fn is_google(&self) -> bool {
        let holds = |name: Name, part: &[u8]| {
            self.name(name).as_bytes().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part))
        };
        self.name(Name::Provider).as_bytes().starts_with(b"gcp.")
            || holds(Name::Provider, b"google")
            || holds(Name::Provider, b"vertex")
            || holds(Name::Provider, b"gemini")
            || holds(Name::ResponseModel, b"gemini")
            || holds(Name::RequestModel, b"gemini")
    }

    fn input_only(&self) -> bool {
        is_input_only(self.name(Name::Operation))
            || is_input_only(self.name(Name::RequestType))
            || matches!(self.name(Name::OpenInferenceKind).as_bytes(), b"EMBEDDING" | b"RERANKER")
            || self.name(Name::VercelOperation).as_bytes().ends_with(b".doEmbed")
    }

    fn name(&self, name: Name) -> Text<'a> {
        self.names.get(name as usize).copied().unwrap_or_default()
    }

    /// The count, if it is one. Invalid ones were refused before.
    fn count(&self, count: Count) -> Option<u64> {
        let at = count as usize;
        self.counts.get(at).copied().filter(|_| self.count_ranks.get(at) != Some(&UNSET))
    }
}

/// What part a span plays in its trace.
enum Role {
    /// It is one call of a model.
    Call,
    /// It wraps others, or sums them up.
    Outer,
    /// It has nothing to do with models.
    Unrelated,
}

#[inline]
fn is_output_key(key: &[u8]) -> bool {
    OUTPUT_PREFIXES.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}

/// Operations of `gen_ai.operation.name` and `llm.request.type` that call a model and have text as output.
fn is_model_call(operation: Text<'_>) -> bool {
    let has_output = matches!(
        operation.as_bytes(),
        b"chat"
            | b"text_completion"
            | b"generate_content"
            | b"completion"
            | b"responses"
            | b"transcription"
            | b"speech"
    );
    has_output || is_input_only(operation)
}

/// Those whose output is no tokens.
fn is_input_only(operation: Text<'_>) -> bool {
    matches!(operation.as_bytes(), b"embeddings" | b"embedding" | b"embed" | b"rerank")
}

/// Operations that contain model calls or have nothing to do with any. Usage on them is their children's.
fn is_outer(operation: Text<'_>) -> bool {
    matches!(
        operation.as_bytes(),
        b"invoke_agent"
            | b"create_agent"
            | b"invoke_workflow"
            | b"execute_tool"
            | b"execute_task"
            | b"handoff"
            | b"goto"
            | b"guard"
            | b"guardrail.run"
            | b"retrieval"
            | b"vector_db_retrieve"
    )
}
