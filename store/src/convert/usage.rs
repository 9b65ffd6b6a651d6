//! Tokens, money and the kind of work, derived from what a span says.

use rust_decimal::Decimal;

use super::any::{Any, text};
use super::known::{NORMALISED, Slot};
use crate::schema::MONEY;

/// Reads the value of a slot and the rank of the key it came from.
pub(super) trait Facts<'a> {
    fn fact(&self, slot: Slot) -> Option<(Any<'a>, u8)>;

    fn value(&self, slot: Slot) -> Option<Any<'a>> {
        self.fact(slot).map(|(value, _)| value)
    }

    fn str(&self, slot: Slot) -> Option<&'a str> {
        self.value(slot).and_then(Any::as_str)
    }
}

/// Tokens: inputs include cached ones, outputs include reasoning; `None` is unknown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: Option<i64>,
    pub(super) output: Option<i64>,
    pub(super) cache_read: Option<i64>,
    pub(super) cache_write: Option<i64>,
    pub(super) reasoning: Option<i64>,
    pub(super) audio_input: Option<i64>,
    pub(super) audio_output: Option<i64>,
    pub(super) total: Option<i64>,
}

impl Usage {
    pub(super) fn of<'a>(facts: &impl Facts<'a>) -> Self {
        // The Vercel AI SDK repeats the usage of its model calls on the span around them.
        let repeats = facts.str(Slot::AiOperationId).is_some_and(|id| !is_model_call(id))
            && facts.fact(Slot::InputTokens).is_none_or(|(_, rank)| rank >= FIRST_AI_RANK);
        if repeats {
            return Self::default();
        }
        let count = |slot| facts.value(slot).and_then(Any::as_count);
        let mut usage = Self {
            input: count(Slot::InputTokens),
            output: count(Slot::OutputTokens),
            cache_read: count(Slot::CacheReadTokens),
            cache_write: count(Slot::CacheWriteTokens),
            reasoning: count(Slot::ReasoningTokens),
            audio_input: count(Slot::AudioInputTokens),
            audio_output: count(Slot::AudioOutputTokens),
            total: count(Slot::TotalTokens),
        };
        let normalised = |slot| facts.fact(slot).is_some_and(|(_, rank)| rank == NORMALISED);
        if !normalised(Slot::InputTokens) && !normalised(Slot::OutputTokens) {
            let bedrock = facts.str(Slot::Provider).is_some_and(|p| p.eq_ignore_ascii_case("aws.bedrock"));
            usage.make_inclusive(bedrock);
        }
        usage
    }

    /// Undoes what instrumentations leave out (seen against the providers' own numbers).
    fn make_inclusive(&mut self, cache_excluded: bool) {
        // Gemini's thinking is in the total alone, and is billed as output.
        if let (Some(input), Some(output), Some(total)) = (self.input, self.output, self.total) {
            self.output = Some(output.max(total.saturating_sub(input)));
        }
        // More cached than there is input proves that the input does not count them; Bedrock never does.
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        if let Some(input) = self.input.filter(|input| cached > *input || (cache_excluded && cached > 0)) {
            self.input = Some(input.saturating_add(cached));
            self.total = None;
        }
        if self.total.is_none() && (self.input.is_some() || self.output.is_some()) {
            self.total = Some(self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0)));
        }
    }
}

/// The rank from which on usage keys are those of the AI SDK.
const FIRST_AI_RANK: u8 = 4;

fn is_model_call(ai_operation: &str) -> bool {
    [".doGenerate", ".doStream", ".doEmbed"].iter().any(|end| ai_operation.ends_with(end))
}

/// A US dollar amount in units of the money columns' last digit. `None` if it is no amount or does not fit.
pub(super) fn money(value: Any<'_>) -> Option<i128> {
    let amount = match value {
        Any::Str(s) => parse(text(s).trim())?,
        // Display is the shortest text that reads back as the same number, and has no exponent.
        Any::Double(d) if d.is_finite() => parse(&d.to_string())?,
        Any::Int(i) => Decimal::from(i),
        _ => return None,
    };
    let mut amount = amount.round_dp(MONEY.1 as u32);
    amount.rescale(MONEY.1 as u32);
    let fits = amount.scale() == MONEY.1 as u32 && amount.mantissa().unsigned_abs() < 10u128.pow(MONEY.0.into());
    fits.then(|| amount.mantissa())
}

fn parse(amount: &str) -> Option<Decimal> {
    amount.parse().or_else(|_| Decimal::from_scientific(amount)).ok()
}

/// The kind of work a span stands for.
pub(super) fn span_type<'a>(facts: &impl Facts<'a>) -> &'static str {
    let traceloop = facts.str(Slot::TraceloopKind).and_then(|kind| match kind {
        "workflow" => Some("workflow"),
        "task" => Some("task"),
        "agent" => Some("agent"),
        "tool" => Some("tool"),
        _ => None,
    });
    let operation = || match facts.str(Slot::OperationName)? {
        "chat" | "text_completion" | "generate_content" | "completion" => Some("llm"),
        "embeddings" | "embedding" => Some("embedding"),
        "rerank" => Some("rerank"),
        "invoke_agent" | "create_agent" | "handoff" => Some("agent"),
        "execute_tool" => Some("tool"),
        "execute_task" => Some("task"),
        "invoke_workflow" => Some("workflow"),
        "vector_db_retrieve" | "retrieval" => Some("vectordb"),
        _ => None,
    };
    let request = || match facts.str(Slot::RequestType)? {
        "chat" | "completion" => Some("llm"),
        "embedding" => Some("embedding"),
        "rerank" => Some("rerank"),
        _ => None,
    };
    let openinference = || match facts.str(Slot::OpenInferenceKind)? {
        "LLM" => Some("llm"),
        "EMBEDDING" => Some("embedding"),
        "RERANKER" => Some("rerank"),
        "TOOL" => Some("tool"),
        "AGENT" => Some("agent"),
        "RETRIEVER" => Some("vectordb"),
        "CHAIN" | "PROMPT" | "GUARDRAIL" | "EVALUATOR" => Some("task"),
        _ => None,
    };
    let vercel = || match facts.str(Slot::AiOperationId)? {
        id if id.ends_with(".doEmbed") => Some("embedding"),
        id if is_model_call(id) => Some("llm"),
        "ai.toolCall" => Some("tool"),
        _ => Some("task"),
    };
    let database = || match facts.str(Slot::DbSystem)?.to_ascii_lowercase().as_str() {
        "chroma" | "milvus" | "qdrant" | "pinecone" | "weaviate" | "lancedb" | "marqo" => Some("vectordb"),
        _ => None,
    };
    let model = || {
        let known = |slot| facts.fact(slot).is_some();
        (known(Slot::Provider) && (known(Slot::RequestModel) || known(Slot::ResponseModel))).then_some("llm")
    };
    traceloop
        .or_else(operation)
        .or_else(request)
        .or_else(openinference)
        .or_else(vercel)
        .or_else(database)
        .or_else(model)
        .unwrap_or("other")
}
