use super::*;
use crate::cost::UsageReader;

const NO_NAMES: Names<'_> = Names { provider: "", langchain: "", request: "", response: "", address: "" };

#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    provider: &'a str,
    langchain: &'a str,
    request: &'a str,
    response: &'a str,
    address: &'a str,
}

impl<'a> Names<'a> {
    fn reading(self) -> Reading<'a> {
        Reading {
            provider: self.provider.into(),
            langchain_provider: self.langchain.into(),
            request_model: self.request.into(),
            response_model: self.response.into(),
            address: self.address.into(),
            ..UsageReader::default().finish("")
        }
    }
}

fn matcher() -> Matcher {
    Matcher::new(Catalog::embedded().unwrap())
}

/// `provider/model`, or the status.
fn find(matcher: &Matcher, names: Names<'_>) -> String {
    match matcher.find(&names.reading()) {
        Err(status) => status.to_string(),
        Ok(found) => {
            let catalog = matcher.catalog();
            let provider = catalog.provider_name(catalog.provider_of(found.model).unwrap());
            format!("{provider}/{}", catalog.model_name(found.model))
        }
    }
}

fn named(provider: &str, model: &str) -> String {
    find(&matcher(), Names { provider, request: model, ..NO_NAMES })
}

#[test]
fn models_by_name() {
    let cases = [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("OpenAI", "GPT-4o-2024-08-06", "openai/gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("azure.ai.openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
        ("openai.responses", "gpt-4.1-nano-2025-04-14", "openai/gpt-4.1-nano"),
        ("openai", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini"),
        ("openai", "gpt-5-mini-2031-01-01", "openai/gpt-5-mini"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("anthropic.messages", "claude-3-5-haiku-latest", "anthropic/claude-3-5-haiku-latest"),
        ("azure.ai.openai", "gpt-35-turbo", "openai/gpt-3.5-turbo"),
        ("az.ai.openai", "o3-mini", "azure/o3-mini"),
        ("gcp.vertex_ai", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gcp.gemini", "publishers/google/models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gcp.vertex_ai", "claude-3-5-sonnet@20240620", "google/claude-3-5-sonnet"),
        ("aws.bedrock", "nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
        ("aws.bedrock", "llama3-2-1b-instruct-v1:0", "aws/meta.llama3-2-1b-instruct-v1:0"),
        ("aws.bedrock", "us.amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
        ("aws.bedrock", "claude-3-sonnet-20240229-v1:0", "aws/regional.anthropic.claude-3-sonnet-20240229-v1:0"),
        (
            "aws.bedrock",
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "aws.bedrock",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-20250514-v1:0",
            "aws/regional.anthropic.claude-opus-4-20250514-v1:0",
        ),
        ("anthropic", "anthropic.claude-3-haiku-20240307-v1:0", "aws/regional.anthropic.claude-3-haiku-20240307-v1:0"),
        ("x_ai", "grok-4.3-20260101", "x-ai/grok-4.3"),
        ("mistral_ai", "mistral-large-latest", "mistral/mistral-large"),
        ("openai", "gpt-nonsense", "unknown_model"),
        ("openai", "", "no_model"),
        ("Ollama", "llama3", "unknown_provider"),
        ("AlephAlpha", "luminous-base", "unknown_provider"),
        ("writer", "palmyra-x4", "unknown_provider"),
    ];
    for (provider, model, expected) in cases {
        assert_eq!(named(provider, model), expected, "{provider} {model}");
    }
}

#[test]
fn offers_of_a_reseller_have_no_price_of_the_vendors() {
    let cases = [
        ("openrouter", "deepseek/deepseek-r1:free", "unknown_model"),
        ("openrouter", "anthropic/claude-sonnet-4.5:free", "unknown_model"),
        ("openrouter", "anthropic/claude-sonnet-4.5:nitro", "unknown_model"),
        ("openrouter", "openrouter/anthropic/claude-sonnet-4.5:free", "unknown_model"),
        // The catalog has these.
        ("openrouter", "anthropic/claude-sonnet-4.5:beta", "openrouter/anthropic/claude-sonnet-4.5"),
        ("litellm", "openrouter/anthropic/claude-sonnet-4.5:beta", "openrouter/anthropic/claude-sonnet-4.5"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
        // Who calls it by another's API, or does not say whose it is.
        ("openai", "deepseek/deepseek-r1:free", "unknown_model"),
        ("openai", "openai/gpt-4o:floor", "unknown_model"),
        ("anthropic", "anthropic/claude-sonnet-4.5:free", "unknown_model"),
        ("langchain", "deepseek/deepseek-r1:free", "unknown_model"),
        ("", "anthropic/claude-sonnet-4.5:online", "unknown_model"),
        ("litellm", "openrouter/deepseek/deepseek-r1:free", "unknown_model"),
        ("litellm", "ollama/llama3:latest", "unknown_provider"),
        // Other colons.
        ("openai", "openai/ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini"),
        ("litellm", "bedrock/us.amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
        ("litellm", "deepseek/deepseek-r1", "deepseek/deepseek-reasoner"),
    ];
    for (provider, model, expected) in cases {
        assert_eq!(named(provider, model), expected, "{provider} {model}");
    }
}

#[test]
fn frameworks_do_not_name_the_provider() {
    let cases = [
        ("langchain", "", "gpt-4o-mini", "openai/gpt-4o-mini"),
        ("", "", "claude-3-opus-20240229", "anthropic/claude-3-opus-latest"),
        ("litellm", "", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("litellm", "", "groq/openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("litellm", "", "text-embedding-ada-002", "openai/text-embedding-ada-002"),
        ("litellm", "", "bedrock/converse/us.amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
        ("Langchain", "anthropic", "claude-3-opus-20240229", "anthropic/claude-3-opus-latest"),
        // A local model that is called like a hosted one.
        ("langchain", "ollama", "mistral-small", "unknown_provider"),
        ("litellm", "", "ollama/mistral-small", "unknown_provider"),
        ("crewai", "", "something-else", "unknown_model"),
    ];
    for (provider, langchain, request, expected) in cases {
        let names = Names { provider, langchain, request, ..NO_NAMES };
        assert_eq!(find(&matcher(), names), expected, "{names:?}");
    }
}

#[test]
fn the_address_tells_who_answers_to_openais_name() {
    let cases = [
        ("https://api.openai.com/v1/", "gpt-4o", "openai/gpt-4o"),
        ("https://api.deepseek.com", "deepseek-chat", "deepseek/deepseek-chat"),
        ("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-5", "openrouter/anthropic/claude-sonnet-5"),
        ("https://x.openai.azure.com/openai", "gpt-35-turbo", "openai/gpt-3.5-turbo"),
        ("http://127.0.0.1:8080/v1", "gpt-4o", "openai/gpt-4o"),
        ("http://localhost:8000/v1", "meta-llama/Llama-3.2-1B-Instruct", "unknown_model"),
        // A LiteLLM proxy inside.
        ("http://litellm:4000", "anthropic/claude-3-opus-20240229", "anthropic/claude-3-opus-latest"),
        ("https://llm.example.com/v1", "gpt-4o", "unknown_provider"),
    ];
    for (address, request, expected) in cases {
        let names = Names { provider: "openai", request, address, ..NO_NAMES };
        assert_eq!(find(&matcher(), names), expected, "{names:?}");
    }
    // It says nothing against a provider whose API is its own.
    let gateway =
        Names { provider: "anthropic", request: "claude-3-opus", address: "https://gw.example.com", ..NO_NAMES };
    assert_eq!(find(&matcher(), gateway), "anthropic/claude-3-opus-latest");
    // Nor does a framework's silence make a public host OpenAI.
    let unnamed = Names { request: "gpt-4o", address: "https://llm.example.com", ..NO_NAMES };
    assert_eq!(find(&matcher(), unnamed), "unknown_provider");
}

#[test]
fn the_response_is_believed_before_the_request() {
    let both = Names { provider: "openai", request: "gpt-4o", response: "gpt-4o-mini-2024-07-18", ..NO_NAMES };
    assert_eq!(find(&matcher(), both), "openai/gpt-4o-mini");
    let deployment =
        Names { provider: "azure.ai.openai", request: "my-deployment", response: "gpt-35-turbo", ..NO_NAMES };
    assert_eq!(find(&matcher(), deployment), "openai/gpt-3.5-turbo");
    let odd = Names { provider: "aws.bedrock", request: "nova-lite-v1:0", response: "/opt/ml/model", ..NO_NAMES };
    assert_eq!(find(&matcher(), odd), "aws/amazon.nova-lite-v1:0");
}

#[test]
fn absurd_names_are_unknown() {
    let long = "é".repeat(10_000);
    assert_eq!(named("openai", &long), "unknown_model");
    assert_eq!(named(&long, "gpt-4o"), "unknown_provider");
    let names = Names { provider: "openai", request: "gpt-4o", address: &long, ..NO_NAMES };
    assert_eq!(find(&matcher(), names), "openai/gpt-4o", "a label without a dot is no public host");
}

#[test]
fn the_step_is_the_confidence() {
    let confidence = |provider, request| {
        let found = matcher().find(&Names { provider, request, ..NO_NAMES }.reading());
        found.map(|found| found.confidence()).unwrap_or_else(CostStatus::as_str)
    };
    assert_eq!(confidence("openai", "gpt-4o"), "exact");
    assert_eq!(confidence("openai", "openai/gpt-4o"), "rewritten");
    assert_eq!(confidence("openai", "gpt-5-mini-2031-01-01"), "undated");
    assert_eq!(confidence("azure", "gpt-35-turbo"), "fallback");
    assert_eq!(confidence("", "gpt-4o"), "inferred_exact");
    assert_eq!(confidence("litellm", "openai/gpt-4o"), "inferred_rewritten");
    assert_eq!(confidence("openai", "gpt-nonsense"), "unknown_model");
}
