//! How near to the provider a span is, by who made it.

/// Kinds of emitters, the most exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The SDK's own span: it has the provider's usage object.
    Native,
    /// An instrumentation of the SDK, or anything not known.
    Provider,
    /// A log of a stream's end in the form of a span (logfire).
    StreamLog,
    /// A library or proxy that speaks to several providers.
    Gateway,
    /// A framework: it has what its own types keep of the usage.
    Framework,
}

/// Parts of scope names. The first that fits decides.
const SCOPES: &[(&str, Rank)] = &[
    ("com.anthropic.sdk", Rank::Native),
    ("litellm", Rank::Gateway),
    ("langchain", Rank::Framework),
    ("langgraph", Rank::Framework),
    ("llamaindex", Rank::Framework),
    ("llama_index", Rank::Framework),
    ("crewai", Rank::Framework),
    ("openai_agents", Rank::Framework),
    ("openai.agents", Rank::Framework),
    ("agno", Rank::Framework),
    ("haystack", Rank::Framework),
    ("pydantic-ai", Rank::Framework),
    ("traceloop.tracer", Rank::Framework),
    ("node-server-sdk", Rank::Framework),
];

impl Rank {
    /// By the scope's name; `is_log` says that the span is a log that has the form of one.
    pub fn of(scope_name: &str, is_log: bool) -> Self {
        if is_log {
            return Self::StreamLog;
        }
        // The Vercel AI SDK is a framework over its own provider packages, whose calls only it sees.
        if scope_name == "ai" {
            return Self::Framework;
        }
        SCOPES.iter().find(|(part, _)| scope_name.contains(part)).map_or(Self::Provider, |(_, rank)| *rank)
    }

    /// Whether the span may be one of two of a stream that share neither id nor parent.
    pub(super) const fn is_half_of_a_stream(self) -> bool {
        matches!(self, Self::Native | Self::StreamLog)
    }
}
