//! Which attributes are content: tables of keys, as the instrumentations write them.
//!
//! A family is a stem and everything below it: `gen_ai.prompt` means that very key, `gen_ai.prompt.0.content` and
//! whatever else an instrumentation may come to put there. Of a family all is content but the leaves that are named as
//! harmless, so that a key nobody has heard of is not let through.

use std::sync::LazyLock;

use foldhash::HashMap;

/// Keys that begin alike.
struct Family {
    stem: &'static str,
    /// What stands behind the stem of keys that are no content. `N` is any number.
    harmless: &'static [&'static str],
}

const fn family(stem: &'static str, harmless: &'static [&'static str]) -> Family {
    Family { stem, harmless }
}

/// All of it is content.
const NONE: &[&str] = &[];

/// A message whose parts are attributes, as OpenLLMetry writes it.
const MESSAGE: &[&str] = &[
    "N.finish_reason",
    "N.id",
    "N.name",
    "N.role",
    "N.tool_call_id",
    "N.tool_calls.N.id",
    "N.tool_calls.N.name",
    "N.tool_calls.N.type",
    "id",
    "name",
    "version",
    // Verdicts of Azure's filters: categories and severities.
    "N.content_filter_results",
    "prompt_filter_results",
];

/// The same as OpenInference writes it.
const OPENINFERENCE_MESSAGE: &[&str] = &[
    "N.message.contents.N.message_content.type",
    "N.message.contents.N.tool_call.function.name",
    "N.message.contents.N.tool_call.id",
    "N.message.finish_reason",
    "N.message.function_call_name",
    "N.message.name",
    "N.message.role",
    "N.message.tool_call_id",
    "N.message.tool_calls.N.tool_call.function.name",
    "N.message.tool_calls.N.tool_call.id",
];

const FUNCTIONS: &[&str] = &["N.name"];
const DOCUMENTS: &[&str] = &["N.document.id", "N.document.score"];

/// The families, in the order of their stems; no stem lies within another.
const FAMILIES: &[Family] = &[
    // Vercel AI SDK. Metadata of providers may quote the answer (log-probabilities, citations).
    family("ai.documents", NONE),
    family("ai.embedding", NONE),
    family("ai.embeddings", NONE),
    family("ai.prompt", &["format", "toolChoice"]),
    family(
        "ai.response",
        &[
            "avgCompletionTokensPerSecond",
            "avgOutputTokensPerSecond",
            "finishReason",
            "id",
            "model",
            "msToFinish",
            "msToFirstChunk",
            "timestamp",
        ],
    ),
    family("ai.result", &["finishReason", "id", "model"]),
    family("ai.schema", &["name"]),
    family("ai.toolCall", &["id", "name"]),
    family("ai.value", NONE),
    family("ai.values", NONE),
    // logfire and pydantic-ai.
    family("all_messages", NONE),
    family("all_messages_events", NONE),
    family("braintrust.input", NONE),
    family("braintrust.input_json", NONE),
    family("braintrust.output", NONE),
    family("braintrust.output_json", NONE),
    family("completion", NONE),
    // Its objects are written as their programs print them, with whatever they hold.
    family(
        "crewai",
        &[
            "agent.allow_code_execution",
            "agent.allow_delegation",
            "agent.cache",
            "agent.id",
            "agent.max_iter",
            "agent.max_retry_limit",
            "agent.multimodal",
            "agent.reasoning",
            "agent.role",
            "agent.verbose",
            "crew.cache",
            "crew.id",
            "crew.memory",
            "crew.name",
            "crew.planning",
            "crew.process",
            "crew.share_crew",
            "crew.stream",
            "crew.token_usage",
            "crew.verbose",
            "task.agent",
            "task.async_execution",
            "task.delegations",
            "task.human_input",
            "task.id",
            "task.markdown",
            "task.retry_count",
            "task.tools_errors",
            "task.used_tools",
        ],
    ),
    // What was looked up in vector databases; vectors can be turned back into text.
    family("db.chroma.delete.where_document", NONE),
    family("db.chroma.get.where_document", NONE),
    family("db.chroma.query.where_document", NONE),
    family("db.query.embeddings", NONE),
    family("db.query.result", &["distance", "id", "score"]),
    family("db.search.result", &["distance", "id", "score"]),
    family("db.weaviate.query", NONE),
    family("document", &["id", "score"]),
    family("embedding.embeddings", NONE),
    family("embedding.text", NONE),
    family("embedding.vector", NONE),
    family("final_result", NONE),
    // Google's agent kit.
    family("gcp.vertex.agent.data", NONE),
    family("gcp.vertex.agent.llm_request", NONE),
    family("gcp.vertex.agent.llm_response", NONE),
    family("gcp.vertex.agent.tool_call_args", NONE),
    family("gcp.vertex.agent.tool_response", NONE),
    // OpenTelemetry and OpenLLMetry.
    family("gen_ai.agent.description", NONE),
    family("gen_ai.agent.instructions", NONE),
    family("gen_ai.assistant.message", NONE),
    // Of a custom list of words, those that were met.
    family("gen_ai.bedrock.guardrail.input_filter", NONE),
    family("gen_ai.bedrock.guardrail.output_filter", NONE),
    family("gen_ai.choice", NONE),
    family("gen_ai.completion", MESSAGE),
    family("gen_ai.completion_json", NONE),
    family("gen_ai.content", NONE),
    family("gen_ai.embeddings", &["dimension.count"]),
    family("gen_ai.evaluation.explanation", NONE),
    family("gen_ai.event.content", NONE),
    family("gen_ai.guardrail.input", NONE),
    family("gen_ai.guardrail.output", NONE),
    family("gen_ai.input", NONE),
    family("gen_ai.memory", &["id"]),
    family("gen_ai.output", &["type"]),
    family("gen_ai.prompt", MESSAGE),
    family("gen_ai.prompt_json", NONE),
    family("gen_ai.reasoning", NONE),
    family("gen_ai.request.functions", FUNCTIONS),
    family("gen_ai.request.messages", NONE),
    family("gen_ai.request.structured_output_schema", NONE),
    family("gen_ai.request.tools", NONE),
    family("gen_ai.response.content", NONE),
    family("gen_ai.response.messages", NONE),
    family("gen_ai.response.text", NONE),
    family("gen_ai.retrieval", NONE),
    family("gen_ai.system.message", NONE),
    family("gen_ai.system_instructions", NONE),
    family("gen_ai.task", &["id", "kind", "name", "parent.id", "status"]),
    family("gen_ai.tool", &["call.id", "call.name", "name", "type"]),
    family("gen_ai.user.message", NONE),
    family("haystack.component.input", NONE),
    family("haystack.component.output", NONE),
    // OpenInference and whoever took its words over.
    family("input.value", NONE),
    family("langfuse.observation.input", NONE),
    family("langfuse.observation.output", NONE),
    family("langfuse.trace.input", NONE),
    family("langfuse.trace.output", NONE),
    family("llm.choices", NONE),
    family("llm.completions", MESSAGE),
    family("llm.content", NONE),
    family("llm.function_call", NONE),
    family("llm.input_messages", OPENINFERENCE_MESSAGE),
    // Google's hold the instructions, others the tools.
    family("llm.invocation_parameters", NONE),
    family("llm.output_messages", OPENINFERENCE_MESSAGE),
    family("llm.prompt", NONE),
    family("llm.prompt_template", &["version"]),
    family("llm.prompts", MESSAGE),
    family("llm.request.functions", FUNCTIONS),
    family("llm.request.structured_output_schema", NONE),
    family("llm.tools", NONE),
    family("lmnr.span.input", NONE),
    family("lmnr.span.output", NONE),
    family("mcp.request.argument", NONE),
    family("mcp.request.arguments", NONE),
    family("mcp.response.value", NONE),
    family("mlflow.spanInputs", NONE),
    family("mlflow.spanOutputs", NONE),
    family("model_request_parameters", NONE),
    family("openai.agent.handoffs", NONE),
    family("output.value", NONE),
    family("prompt", &["id", "name", "url", "vendor", "version"]),
    family("pydantic_ai.all_messages", NONE),
    // As logfire writes them: JSON with the messages in it.
    family("request_data", NONE),
    family("reranker.input_documents", DOCUMENTS),
    family("reranker.output_documents", DOCUMENTS),
    family("reranker.query", NONE),
    family("response_data", NONE),
    family("retrieval.documents", DOCUMENTS),
    family("system_instructions", NONE),
    family("tool", &["call.id", "id", "name", "type"]),
    family("tool_arguments", NONE),
    family("tool_call.function.arguments", NONE),
    family("tool_response", NONE),
    // The decorators of the Traceloop SDK, and prompts that it manages.
    family("traceloop.entity.input", NONE),
    family("traceloop.entity.output", NONE),
    family("traceloop.prompt.template", NONE),
    family("traceloop.prompt.template_variables", NONE),
    family(
        "weaviate.data",
        &[
            "crud_data.create.class_name",
            "crud_data.delete.class_name",
            "crud_data.replace.class_name",
            "crud_data.update.class_name",
        ],
    ),
];

/// Length of the longest stem.
const LONGEST: usize = {
    let (mut longest, mut at) = (0, 0);
    while at < FAMILIES.len() {
        if FAMILIES[at].stem.len() > longest {
            longest = FAMILIES[at].stem.len();
        }
        at += 1;
    }
    longest
};

/// Events that are content as a whole, in order: all their attributes but those named below.
const EVENTS: &[&str] = &[
    "db.query.embeddings",
    "db.query.result",
    "db.search.result",
    "gen_ai.assistant.message",
    "gen_ai.choice",
    "gen_ai.client.inference.operation.details",
    "gen_ai.content.completion",
    "gen_ai.content.completion.chunk",
    "gen_ai.content.prompt",
    "gen_ai.system.message",
    "gen_ai.tool.message",
    "gen_ai.user.message",
    "llm.content.completion",
    "llm.content.completion.chunk",
    "llm.content.prompt",
];

/// Attributes of such events that are no content.
const HARMLESS_IN_EVENTS: &[&str] = &["event.name", "finish_reason", "id", "index", "name", "role", "tool_call_id"];

/// Beginnings of keys that [`FAMILIES`] speaks of, in such events too.
const KNOWN_IN_EVENTS: &[&str] = &["db.", "gen_ai.", "server."];

/// Says that an attribute of this key is content. In the form that a `KeyReader` asks in.
pub(super) fn content(key: &[u8]) -> Option<()> {
    // Of a request of few spans each key is asked about: a search among a hundred stems for each dot takes microseconds.
    static BY_STEM: LazyLock<HashMap<&[u8], &Family>> =
        LazyLock::new(|| FAMILIES.iter().map(|family| (family.stem.as_bytes(), family)).collect());
    let by_stem = &*BY_STEM;
    let ends = key.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at).chain([key.len()]);
    // No stem is longer, and a client may send a key of nothing but dots.
    for end in ends.take_while(|end| *end <= LONGEST) {
        let (stem, rest) = key.split_at(end);
        if let Some(family) = by_stem.get(stem) {
            let leaf = rest.strip_prefix(b".");
            let is_harmless = leaf.is_some_and(|leaf| family.harmless.iter().any(|pattern| fits(pattern, leaf)));
            return (!is_harmless).then_some(());
        }
    }
    None
}

/// Whether an attribute of an event that is content as a whole is content too.
pub(super) fn content_in_event(key: &[u8]) -> bool {
    let is_known = HARMLESS_IN_EVENTS.iter().any(|name| name.as_bytes() == key)
        || KNOWN_IN_EVENTS.iter().any(|start| key.starts_with(start.as_bytes()));
    !is_known || content(key).is_some()
}

/// Whether an event of this name is content as a whole.
pub(super) fn is_content_event(name: &[u8]) -> bool {
    EVENTS.binary_search_by(|event| event.as_bytes().cmp(name)).is_ok()
}

/// Compares segment by segment; `N` in the pattern stands for digits.
fn fits(pattern: &str, key: &[u8]) -> bool {
    let (mut wanted, mut found) = (pattern.as_bytes().split(|b| *b == b'.'), key.split(|b| *b == b'.'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(b"N"), Some(number)) if !number.is_empty() && number.iter().all(u8::is_ascii_digit) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order_and_no_family_lies_within_another() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.stem < b.stem));
        assert!(EVENTS.is_sorted());
        for family in FAMILIES {
            let within =
                |other: &&Family| family.stem.strip_prefix(other.stem).is_some_and(|rest| rest.starts_with('.'));
            assert_eq!(FAMILIES.iter().find(within).map(|other| other.stem), None, "{}", family.stem);
        }
    }

    #[test]
    fn a_long_key_takes_no_longer_than_its_length() {
        // Hashing each beginning of it would take hours.
        let dots = vec![b'.'; 16 << 20];
        assert!(content(&dots).is_none());
        assert!(content(&[b"gen_ai.prompt", &dots[..]].concat()).is_some());
        let longest = FAMILIES.iter().map(|family| family.stem).find(|stem| stem.len() == LONGEST).unwrap();
        assert!(content(longest.as_bytes()).is_some());
    }

    #[test]
    fn prompts_and_completions_are_content_in_every_convention() {
        for key in [
            "gen_ai.prompt",
            "gen_ai.prompt.0.content",
            "gen_ai.prompt.17.tool_calls.3.arguments",
            "gen_ai.prompt.0.user",
            "gen_ai.completion.0.content",
            "gen_ai.completion.0.tool_calls.0.arguments",
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.tool.definitions",
            "gen_ai.tool.description",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "gen_ai.task.input",
            "gen_ai.retrieval.documents",
            "llm.request.functions.0.description",
            "llm.request.functions.0.parameters",
            "input.value",
            "output.value",
            "llm.input_messages.0.message.content",
            "llm.input_messages.0.message.contents.1.message_content.text",
            "llm.input_messages.0.message.contents.0.message_content.image.image.url",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
            "llm.prompts",
            "llm.prompts.0.prompt.text",
            "llm.choices.0.completion.text",
            "llm.tools.0.tool.json_schema",
            "retrieval.documents.0.document.content",
            "reranker.query",
            "embedding.embeddings.0.embedding.text",
            "embedding.embeddings.0.embedding.vector",
            "traceloop.entity.input",
            "traceloop.entity.output",
            "traceloop.prompt.template_variables.name",
            "ai.prompt",
            "ai.prompt.messages",
            "ai.prompt.tools",
            "ai.response.text",
            "ai.response.toolCalls",
            "ai.response.object",
            "ai.toolCall.args",
            "ai.toolCall.result",
            "all_messages_events",
            "pydantic_ai.all_messages",
            "final_result",
            "tool_arguments",
            "tool_response",
            "prompt",
            "request_data",
            "response_data",
            "mcp.response.value",
            "crewai.crew.tasks_output",
            // Nobody has heard of these, or they hide behind a harmless word.
            "gen_ai.prompt.0.thoughts",
            "gen_ai.completion.0.content.name",
            "gen_ai.completion.x.role",
            "gen_ai.completion..role",
            "gen_ai.prompt.0.role.x",
            "gen_ai.prompt.",
            "llm.input_messages.0.message.novelty",
        ] {
            assert!(content(key.as_bytes()).is_some(), "{key}");
        }
    }

    #[test]
    fn what_tells_about_a_call_is_no_content() {
        for key in [
            "",
            ".",
            "gen_ai.prompt_caching",
            "gen_ai.prompt.0.role",
            "gen_ai.prompt.0.tool_call_id",
            "gen_ai.completion.0.finish_reason",
            "gen_ai.completion.12.tool_calls.0.name",
            "gen_ai.output.type",
            "gen_ai.tool.name",
            "gen_ai.tool.call.id",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.response.id",
            "gen_ai.response.finish_reasons",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.cost.amount",
            "gen_ai.conversation.id",
            "llm.token_count.prompt",
            "llm.usage.total_tokens",
            "llm.request.functions.0.name",
            "llm.output_messages.0.message.role",
            "ai.response.finishReason",
            "ai.response.model",
            "ai.usage.inputTokens",
            "ai.toolCall.name",
            "input.mime_type",
            "traceloop.entity.name",
            "traceloop.prompt.version",
            "traceloop.association.properties.user_id",
            "crewai.crew.token_usage",
            "weir.cost.status",
            "exception.message",
            "tool.name",
            "tools",
        ] {
            assert!(content(key.as_bytes()).is_none(), "{key}");
        }
    }

    #[test]
    fn events_of_content_keep_what_is_harmless() {
        for name in ["gen_ai.content.prompt", "gen_ai.user.message", "gen_ai.choice", "db.query.result"] {
            assert!(is_content_event(name.as_bytes()), "{name}");
        }
        assert!(!is_content_event(b"exception"));
        for key in ["content", "message", "gen_ai.prompt", "tool_calls", "color_tag", "gen_ai.input.messages"] {
            assert!(content_in_event(key.as_bytes()), "{key}");
        }
        for key in ["role", "index", "gen_ai.system", "gen_ai.usage.input_tokens", "db.query.result.score"] {
            assert!(!content_in_event(key.as_bytes()), "{key}");
        }
    }
}
