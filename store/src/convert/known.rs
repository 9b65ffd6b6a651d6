//! Attributes that columns are filled from, and the order in which rivals are believed.
//!
//! The conventions of many instrumentations meet here (OpenLLMetry old and new, OpenTelemetry, OpenInference, Vercel AI,
//! Traceloop, Pydantic AI, Anthropic's own). Of the keys of one slot the first that a span has is taken.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

/// A fact about a span that some attribute tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Slot {
    WorkflowName,
    EntityName,
    EntityPath,
    AgentName,
    PromptKey,
    PromptVersion,
    ConversationId,
    SessionId,
    UserId,
    Provider,
    RequestModel,
    ResponseModel,
    PriceKey,
    PriceVersion,
    FinishReason,
    Streaming,
    Temperature,
    TopP,
    MaxTokens,
    TtftSeconds,
    TtftMillis,
    InputTokens,
    OutputTokens,
    CacheReadTokens,
    CacheWriteTokens,
    ReasoningTokens,
    AudioInputTokens,
    AudioOutputTokens,
    TotalTokens,
    InputCost,
    OutputCost,
    CacheReadCost,
    CacheWriteCost,
    TotalCost,
    CostCurrency,
    CostSource,
    CostStatus,
    CostDeferredTo,
    CostCaveat,
    GivenCost,
    OtherTotalCost,
    OtherInputCost,
    OtherOutputCost,
    CostDetails,
    TraceloopKind,
    OperationName,
    RequestType,
    OpenInferenceKind,
    AiOperationId,
    DbSystem,
    Input,
    Output,
    ToolDefinitions,
}

/// Number of slots.
pub(crate) const SLOTS: usize = Slot::ToolDefinitions as usize + 1;

// Which of them are filled is a word.
const _: () = assert!(SLOTS <= u64::BITS as usize);

/// The rank of `weir.usage.*`: already inclusive, nothing to correct.
pub(crate) const NORMALISED: u8 = 0;

const READING_ORDER: &[(Slot, &[&str])] = &[
    (Slot::WorkflowName, &["traceloop.workflow.name"]),
    (Slot::EntityName, &["traceloop.entity.name"]),
    (Slot::EntityPath, &["traceloop.entity.path"]),
    (Slot::AgentName, &["gen_ai.agent.name"]),
    (Slot::PromptKey, &["traceloop.prompt.key"]),
    (Slot::PromptVersion, &["traceloop.prompt.version"]),
    (Slot::ConversationId, &["gen_ai.conversation.id"]),
    (
        Slot::SessionId,
        &[
            "session.id",
            "traceloop.association.properties.session_id",
            "traceloop.association.properties.sessionId",
            "ai.telemetry.metadata.sessionId",
        ],
    ),
    (
        Slot::UserId,
        &[
            "user.id",
            "traceloop.association.properties.user_id",
            "traceloop.association.properties.userId",
            "ai.telemetry.metadata.userId",
            "enduser.id",
        ],
    ),
    (Slot::Provider, &["gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"]),
    (
        Slot::RequestModel,
        &["gen_ai.request.model", "llm.request.model_name", "embedding.model_name", "ai.model.id", "model_name"],
    ),
    (Slot::ResponseModel, &["gen_ai.response.model", "llm.response.model_name", "ai.response.model", "llm.model_name"]),
    (Slot::PriceKey, &["weir.cost.price_id"]),
    (Slot::PriceVersion, &["weir.cost.catalog"]),
    (
        Slot::FinishReason,
        &[
            "gen_ai.response.finish_reasons",
            "gen_ai.completion.0.finish_reason",
            "llm.finish_reason",
            "ai.response.finishReason",
            "anthropic.message.stop_reason",
        ],
    ),
    (Slot::Streaming, &["gen_ai.is_streaming", "llm.is_streaming", "gen_ai.request.stream"]),
    (Slot::Temperature, &["gen_ai.request.temperature", "ai.settings.temperature"]),
    (Slot::TopP, &["gen_ai.request.top_p", "ai.settings.topP"]),
    (Slot::MaxTokens, &["gen_ai.request.max_tokens", "ai.settings.maxOutputTokens"]),
    (Slot::TtftSeconds, &["gen_ai.response.time_to_first_chunk"]),
    (Slot::TtftMillis, &["ai.response.msToFirstChunk"]),
    (
        Slot::InputTokens,
        &[
            "weir.usage.input_tokens",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
            "ai.usage.inputTokens",
            "ai.usage.promptTokens",
            "llm.usage.prompt_tokens",
        ],
    ),
    (
        Slot::OutputTokens,
        &[
            "weir.usage.output_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
            "ai.usage.outputTokens",
            "ai.usage.completionTokens",
            "llm.usage.completion_tokens",
        ],
    ),
    (
        Slot::CacheReadTokens,
        &[
            "weir.usage.cache_read_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
            "ai.usage.inputTokenDetails.cacheReadTokens",
            "ai.usage.cachedInputTokens",
            "gen_ai.usage.details.cache_read_tokens",
        ],
    ),
    (
        Slot::CacheWriteTokens,
        &[
            "weir.usage.cache_write_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "llm.token_count.prompt_details.cache_write",
            "ai.usage.inputTokenDetails.cacheWriteTokens",
        ],
    ),
    (
        Slot::ReasoningTokens,
        &[
            "weir.usage.reasoning_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
            "ai.usage.outputTokenDetails.reasoningTokens",
            "ai.usage.reasoningTokens",
            "gen_ai.usage.details.reasoning_tokens",
        ],
    ),
    (Slot::AudioInputTokens, &["weir.usage.audio_input_tokens", "llm.token_count.prompt_details.audio"]),
    (Slot::AudioOutputTokens, &["weir.usage.audio_output_tokens", "llm.token_count.completion_details.audio"]),
    (
        Slot::TotalTokens,
        &[
            "weir.usage.total_tokens",
            "gen_ai.usage.total_tokens",
            "llm.usage.total_tokens",
            "llm.token_count.total",
            "ai.usage.totalTokens",
        ],
    ),
    (Slot::InputCost, &["weir.cost.input"]),
    (Slot::OutputCost, &["weir.cost.output"]),
    (Slot::CacheReadCost, &["weir.cost.cache_read"]),
    (Slot::CacheWriteCost, &["weir.cost.cache_write"]),
    (Slot::TotalCost, &["weir.cost.total", "gen_ai.usage.cost.amount"]),
    (Slot::CostCurrency, &["gen_ai.usage.cost.currency"]),
    (Slot::CostSource, &["gen_ai.usage.cost.source"]),
    (Slot::CostStatus, &["weir.cost.status"]),
    (Slot::CostDeferredTo, &["weir.cost.deferred_to"]),
    (Slot::CostCaveat, &["weir.cost.caveat"]),
    (Slot::GivenCost, &["weir.cost.given"]),
    (Slot::OtherTotalCost, &["gen_ai.usage.cost", "gen_ai.usage.total_cost", "llm.cost.total", "operation.cost"]),
    (Slot::OtherInputCost, &["gen_ai.usage.input_cost", "llm.cost.prompt"]),
    (Slot::OtherOutputCost, &["gen_ai.usage.output_cost", "llm.cost.completion"]),
    (Slot::CostDetails, &["langfuse.observation.cost_details"]),
    (Slot::TraceloopKind, &["traceloop.span.kind"]),
    (Slot::OperationName, &["gen_ai.operation.name"]),
    (Slot::RequestType, &["llm.request.type"]),
    (Slot::OpenInferenceKind, &["openinference.span.kind"]),
    (Slot::AiOperationId, &["ai.operationId"]),
    (Slot::DbSystem, &["db.system", "db.system.name"]),
];

static KNOWN: LazyLock<HashMap<&'static [u8], (Slot, u8), FixedState>> = LazyLock::new(|| {
    let mut known = HashMap::with_hasher(FixedState::default());
    for (slot, keys) in READING_ORDER {
        // Keys without a normalised form start at rank 1, so that rank 0 means one thing.
        let first = u8::from(keys.first().is_some_and(|key| !key.starts_with("weir.usage.")));
        known.extend(keys.iter().zip(first..).map(|(key, rank)| (key.as_bytes(), (*slot, rank))));
    }
    for (slot, rank, source) in super::content::texts() {
        known.insert(source.as_bytes(), (slot, rank));
    }
    known
});

/// The slot that a key fills, and its rank among the keys that do: the lowest wins.
pub(crate) fn slot_of(key: &[u8]) -> Option<(Slot, u8)> {
    KNOWN.get(key).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_fills_two_slots() {
        let keys =
            READING_ORDER.iter().map(|(_, keys)| keys.len()).sum::<usize>() + super::super::content::texts().count();
        assert_eq!(KNOWN.len(), keys);
    }
}
