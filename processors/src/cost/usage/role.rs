//! What part a span plays in its trace, as far as it tells itself.

use weir_pipeline::batch::view::Text;

use super::keys::Name;
use super::reader::UsageReader;

/// What part a span plays in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is one call of a model.
    Call,
    /// It is one if it has counts, else it has nothing to do with models.
    CallIfCounted,
    /// It wraps others, or sums them up.
    Outer,
}

impl Role {
    /// Decides by the kinds and operations that the span names.
    pub(super) fn of(reader: &UsageReader<'_>, scope_name: &str) -> Self {
        let has = |name: Name| !reader.name(name).is_empty();

        // Every model call of the Vercel AI SDK has an outer span (`ai.generateText`) and inner ones
        // (`ai.generateText.doGenerate`) with the same counts.
        if has(Name::VercelOperation) {
            let inner = reader.name(Name::VercelOperation).as_bytes().windows(3).any(|w| w == b".do");
            return if inner { Self::Call } else { Self::Outer };
        }
        if is_outer(reader.name(Name::Operation)) {
            return Self::Outer;
        }
        if is_model_call(reader.name(Name::Operation))
            || is_model_call(reader.name(Name::RequestType))
            || matches!(reader.name(Name::OpenInferenceKind).as_bytes(), b"LLM" | b"EMBEDDING" | b"RERANKER")
        {
            return Self::Call;
        }
        // Other kinds of OpenInference and all kinds of Traceloop wrap something.
        if has(Name::OpenInferenceKind) || has(Name::TraceloopKind) || has(Name::AgentRun) || has(Name::CrewUsage) {
            return Self::Outer;
        }
        if scope_name == "pydantic-ai" && !has(Name::Operation) {
            return Self::Outer;
        }
        if has(Name::RequestModel) || has(Name::ResponseModel) { Self::Call } else { Self::CallIfCounted }
    }
}

/// Whether the call's output is no tokens: embeddings and the like.
pub(super) fn is_input_only(reader: &UsageReader<'_>) -> bool {
    is_input_only_operation(reader.name(Name::Operation))
        || is_input_only_operation(reader.name(Name::RequestType))
        || matches!(reader.name(Name::OpenInferenceKind).as_bytes(), b"EMBEDDING" | b"RERANKER")
        || reader.name(Name::VercelOperation).as_bytes().ends_with(b".doEmbed")
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
    has_output || is_input_only_operation(operation)
}

/// Those whose output is no tokens.
fn is_input_only_operation(operation: Text<'_>) -> bool {
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
