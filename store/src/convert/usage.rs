//! Tokens, money and the kind of work, derived from what a span says.

use rust_decimal::Decimal;

use super::any::{Any, text};
use super::known::{NORMALISED, Slot};
use crate::schema::MONEY;

/// No call has more tokens, as for the `cost` processor: whatever says so would only spoil sums.
const MAX_TOKENS: i64 = 1_000_000_000_000;

/// Reads the value of a slot and the rank of the key it came from.
pub(super) trait Facts<'a> {
    fn fact(&self, slot: Slot) -> Option<(Any<'a>, u8)>;

    fn value(&self, slot: Slot) -> Option<Any<'a>> {
        self.fact(slot).map(|(value, _)| value)
    }

    /// The text of a slot. It is UTF-8, which nobody here depends on.
    fn text(&self, slot: Slot) -> Option<&'a [u8]> {
        match self.value(slot) {
            Some(Any::Str(text)) => Some(text),
            _ => None,
        }
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
        let repeats = facts.text(Slot::AiOperationId).is_some_and(|id| !is_model_call(id))
            && facts.fact(Slot::InputTokens).is_none_or(|(_, rank)| rank >= FIRST_AI_RANK);
        if repeats {
            return Self::default();
        }
        let count = |slot| facts.value(slot).and_then(Any::as_count).filter(|count| *count <= MAX_TOKENS);
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
            let bedrock = facts.text(Slot::Provider).is_some_and(|p| p.eq_ignore_ascii_case(b"aws.bedrock"));
            usage.make_inclusive(bedrock);
        }
        usage
    }

    /// Undoes what instrumentations leave out (seen against the providers' own numbers).
    fn make_inclusive(&mut self, cache_excluded: bool) {
        // More cached than there is input, or a total that counts both, proves that the input does not count what is
        // cached; Bedrock never does.
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        if let Some(input) = self.input.filter(|_| cached > 0) {
            let inclusive = input.saturating_add(cached);
            let sum = inclusive.saturating_add(self.output.unwrap_or(0));
            if cached > input || cache_excluded || self.output.is_some() && self.total == Some(sum) {
                self.input = Some(inclusive);
                // A total that leaves them out as well is none.
                self.total = self.total.filter(|total| *total >= sum);
            }
        }
        // Gemini's thinking is in the total alone, and is billed as output.
        if let (Some(input), Some(output), Some(total)) = (self.input, self.output, self.total) {
            self.output = Some(output.max(total.saturating_sub(input)));
        }
        if self.total.is_none() && (self.input.is_some() || self.output.is_some()) {
            self.total = Some(self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0)));
        }
    }
}

/// The rank from which on usage keys are those of the AI SDK.
const FIRST_AI_RANK: u8 = 4;

fn is_model_call(ai_operation: &[u8]) -> bool {
    [".doGenerate", ".doStream", ".doEmbed"].iter().any(|end| ai_operation.ends_with(end.as_bytes()))
}

/// A US dollar amount in units of the money columns' last digit. `None` if it is no amount or does not fit.
pub(super) fn money(value: Any<'_>) -> Option<i128> {
    let amount = match value {
        Any::Str(s) => match plain_money(s) {
            Some(amount) => return Some(amount.into()),
            None => parse(text(s).trim())?,
        },
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

/// What encoders of money write: up to six digits, a point, up to twelve digits. `None` if it is anything else.
fn plain_money(amount: &[u8]) -> Option<i64> {
    let (sign, digits) = match amount {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b"0"));
    let (whole_digits, places) = (usize::from(MONEY.0) - MONEY.1 as usize, MONEY.1 as usize);
    if whole.is_empty() || whole.len() > whole_digits || fraction.is_empty() || fraction.len() > places {
        return None;
    }
    let mut units = 0i64;
    for byte in whole.iter().chain(fraction) {
        if !byte.is_ascii_digit() {
            return None;
        }
        units = units * 10 + i64::from(byte - b'0');
    }
    // At most 18 digits in all, which an `i64` has room for.
    Some(sign * units * 10i64.pow((places - fraction.len()) as u32))
}

fn parse(amount: &str) -> Option<Decimal> {
    amount.parse().or_else(|_| Decimal::from_scientific(amount)).ok()
}

const VECTOR_DATABASES: [&str; 7] = ["chroma", "milvus", "qdrant", "pinecone", "weaviate", "lancedb", "marqo"];

/// The kind of work a span stands for.
pub(super) fn span_type<'a>(facts: &impl Facts<'a>) -> &'static str {
    let traceloop = facts.text(Slot::TraceloopKind).and_then(|kind| match kind {
        b"workflow" => Some("workflow"),
        b"task" => Some("task"),
        b"agent" => Some("agent"),
        b"tool" => Some("tool"),
        _ => None,
    });
    let operation = || match facts.text(Slot::OperationName)? {
        b"chat" | b"text_completion" | b"generate_content" | b"completion" => Some("llm"),
        b"embeddings" | b"embedding" => Some("embedding"),
        b"rerank" => Some("rerank"),
        b"invoke_agent" | b"create_agent" | b"handoff" => Some("agent"),
        b"execute_tool" => Some("tool"),
        b"execute_task" => Some("task"),
        b"invoke_workflow" => Some("workflow"),
        b"vector_db_retrieve" | b"retrieval" => Some("vectordb"),
        _ => None,
    };
    let request = || match facts.text(Slot::RequestType)? {
        b"chat" | b"completion" => Some("llm"),
        b"embedding" => Some("embedding"),
        b"rerank" => Some("rerank"),
        _ => None,
    };
    let openinference = || match facts.text(Slot::OpenInferenceKind)? {
        b"LLM" => Some("llm"),
        b"EMBEDDING" => Some("embedding"),
        b"RERANKER" => Some("rerank"),
        b"TOOL" => Some("tool"),
        b"AGENT" => Some("agent"),
        b"RETRIEVER" => Some("vectordb"),
        b"CHAIN" | b"PROMPT" | b"GUARDRAIL" | b"EVALUATOR" => Some("task"),
        _ => None,
    };
    let vercel = || match facts.text(Slot::AiOperationId)? {
        id if id.ends_with(b".doEmbed") => Some("embedding"),
        id if is_model_call(id) => Some("llm"),
        b"ai.toolCall" => Some("tool"),
        _ => Some("task"),
    };
    let database = || {
        let system = facts.text(Slot::DbSystem)?;
        VECTOR_DATABASES.iter().any(|known| system.eq_ignore_ascii_case(known.as_bytes())).then_some("vectordb")
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
