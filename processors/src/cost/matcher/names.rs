//! Names that emitters give to providers and models, as data.

/// How a provider name is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProviderName<'a> {
    /// A provider that may be in the catalog under this id or name.
    Named(&'a str),
    /// A library that calls many providers, or nothing at all: look elsewhere.
    Framework,
}

/// Reads a lower-case provider name. The table first, then the part before the first dot (`openai.responses`,
/// `anthropic.messages`: the Vercel AI SDK appends the API).
pub(super) fn provider(name: &str) -> ProviderName<'_> {
    if name.is_empty() || FRAMEWORKS.contains(&name) {
        return ProviderName::Framework;
    }
    let head = name.split_once('.').map_or(name, |(head, _)| head);
    let id = alias(name).or_else(|| alias(head));
    ProviderName::Named(id.unwrap_or(if name.contains("azure") { "azure" } else { name }))
}

/// The catalog id for a provider name or a LiteLLM prefix.
pub(in crate::cost) fn alias(name: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(_, names)| names.contains(&name)).map(|(id, _)| *id)
}

/// Whether models with this prefix run elsewhere than at any provider of the catalog.
pub(super) fn is_unpriced_prefix(prefix: &str) -> bool {
    UNPRICED_PREFIXES.contains(&prefix)
}

/// Whether the provider offers the models of vendors under names with the vendor's in front.
pub(super) fn is_reseller(id: &str) -> bool {
    id == "openrouter"
}

/// The provider whose models are called so, where no rule of the catalog claims them.
pub(super) fn provider_of_family(model: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|(family, _)| model.starts_with(family)).map(|(_, id)| *id)
}

/// The provider of a host that the catalog's patterns miss: regional endpoints, newer domains.
pub(super) fn provider_of_host(host: &str) -> Option<&'static str> {
    let under = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    HOSTS.iter().find(|(domain, _)| under(domain)).map(|(_, id)| *id)
}

/// The vendor prefix of a Bedrock model id that lost it (OpenLLMetry strips it).
pub(super) fn bedrock_vendor(model: &str) -> Option<&'static str> {
    BEDROCK_VENDORS.iter().find(|(family, _)| model.starts_with(family)).map(|(_, vendor)| *vendor)
}

/// Libraries and gateways that stand in the provider's place.
const FRAMEWORKS: &[&str] = &[
    "langchain",
    "langgraph",
    "crewai",
    "agno",
    "litellm",
    "llamaindex",
    "llama_index",
    "structured_llm",
    "haystack",
    "autogen",
    "dspy",
    "smolagents",
    "openai_agents",
    "pydantic-ai",
    "pydantic_ai",
    "semantic_kernel",
    "strands",
    "strands-agents",
    "traceloop",
    "vercel",
    "gateway",
    "unknown",
    "_other",
];

/// Catalog id, then every other name of it: OpenTelemetry's, those of instrumentations, LiteLLM's prefixes.
const ALIASES: &[(&str, &[&str])] = &[
    ("openai", &["openai", "text-completion-openai", "chatopenai"]),
    (
        "azure",
        &[
            "azure",
            "azure.ai.openai",
            "az.ai.openai",
            "azure.ai.inference",
            "az.ai.inference",
            "azure_ai",
            "azure_openai",
            "azure-openai",
        ],
    ),
    ("anthropic", &["anthropic", "anthropic_text", "claude"]),
    (
        "aws",
        &[
            "aws",
            "aws.bedrock",
            "aws_bedrock",
            "bedrock",
            "bedrock_converse",
            "amazon_bedrock",
            "amazon-bedrock",
            "converse",
        ],
    ),
    (
        "google",
        &[
            "google",
            "gcp",
            "gcp.gemini",
            "gcp.vertex_ai",
            "gcp.gen_ai",
            "gemini",
            "vertex",
            "vertexai",
            "vertex_ai",
            "vertex_ai_beta",
            "google_genai",
            "google_vertexai",
            "google-vertex",
        ],
    ),
    ("x-ai", &["x-ai", "x_ai", "xai"]),
    ("mistral", &["mistral", "mistral_ai", "mistralai", "codestral"]),
    ("deepseek", &["deepseek"]),
    ("groq", &["groq"]),
    ("cohere", &["cohere", "cohere_chat", "cohere_llm"]),
    ("together", &["together", "togetherai", "together_ai", "together-ai"]),
    ("fireworks", &["fireworks", "fireworks_ai", "fireworks-ai"]),
    ("perplexity", &["perplexity"]),
    ("moonshotai", &["moonshotai", "moonshot_ai", "moonshot"]),
    ("voyageai", &["voyageai", "voyage", "voyage_ai"]),
    ("openrouter", &["openrouter"]),
    ("cerebras", &["cerebras"]),
    ("minimax", &["minimax"]),
    ("novita", &["novita"]),
    ("zai", &["zai", "z.ai", "z_ai"]),
    ("zhipuai", &["zhipuai", "zhipu"]),
    ("ovhcloud", &["ovhcloud"]),
];

/// LiteLLM prefixes of servers of one's own, and of providers the catalog does not have: `ollama/mistral` must not be
/// priced as Mistral's.
const UNPRICED_PREFIXES: &[&str] = &[
    "ollama",
    "ollama_chat",
    "vllm",
    "hosted_vllm",
    "lm_studio",
    "llamafile",
    "xinference",
    "oobabooga",
    "triton",
    "petals",
    "sagemaker",
    "sagemaker_chat",
    "replicate",
    "databricks",
    "watsonx",
    "nvidia_nim",
    "custom_openai",
    "openai_like",
    "litellm_proxy",
];

const HOSTS: &[(&str, &str)] = &[
    ("openai.com", "openai"),
    ("azure.com", "azure"),
    ("azure-api.net", "azure"),
    ("amazonaws.com", "aws"),
    ("together.ai", "together"),
    ("fireworks.ai", "fireworks"),
    ("moonshot.ai", "moonshotai"),
    ("moonshot.cn", "moonshotai"),
];

const FAMILIES: &[(&str, &str)] = &[
    ("text-embedding-3-", "openai"),
    ("text-embedding-ada-", "openai"),
    ("chatgpt-", "openai"),
    ("ft:gpt-", "openai"),
];

const BEDROCK_VENDORS: &[(&str, &str)] = &[
    ("claude", "anthropic"),
    ("nova", "amazon"),
    ("titan", "amazon"),
    ("llama", "meta"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("pixtral", "mistral"),
    ("ministral", "mistral"),
    ("magistral", "mistral"),
    ("command", "cohere"),
    ("gpt-oss", "openai"),
    ("qwen", "qwen"),
    ("palmyra", "writer"),
    ("gemma", "google"),
    ("nemotron", "nvidia"),
    ("r1", "deepseek"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_names_of_the_field_are_known() {
        let cases = [
            ("openai", "openai"),
            ("openai.chat", "openai"),
            ("openai.responses", "openai"),
            ("azure.ai.openai", "azure"),
            ("azure-openai.chat", "azure"),
            ("my-azure", "azure"),
            ("anthropic.messages", "anthropic"),
            ("aws.bedrock", "aws"),
            ("amazon-bedrock", "aws"),
            ("gcp.gen_ai", "google"),
            ("google.generative-ai", "google"),
            ("x_ai", "x-ai"),
            ("mistral_ai", "mistral"),
            ("togetherai", "together"),
            ("writer", "writer"),
        ];
        for (name, id) in cases {
            assert_eq!(provider(name), ProviderName::Named(id), "{name}");
        }
        for name in ["", "langchain", "crewai", "litellm"] {
            assert_eq!(provider(name), ProviderName::Framework, "{name}");
        }
    }

    #[test]
    fn hosts_are_whole_domains() {
        assert_eq!(provider_of_host("eu.api.openai.com"), Some("openai"));
        assert_eq!(provider_of_host("openai.com"), Some("openai"));
        assert_eq!(provider_of_host("notopenai.com"), None);
        assert_eq!(provider_of_host("openai.com.example.org"), None);
    }
}
