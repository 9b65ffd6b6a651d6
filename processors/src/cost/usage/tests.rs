use proptest::prelude::*;
use weir_pipeline::batch::view::Value;

use super::*;
use crate::cost::money::MAX_TOKENS;

fn read<'a>(scope: &str, attributes: &[(&'a str, Value<'a>)]) -> Reading<'a> {
    let mut reader = UsageReader::default();
    for (key, value) in attributes {
        reader.visit(key.as_bytes(), *value);
    }
    reader.finish(scope)
}

fn counts<'a>(scope: &str, attributes: &[(&'a str, i64)]) -> Result<Usage, CostStatus> {
    let attributes: Vec<(&str, Value<'a>)> = attributes.iter().map(|(k, n)| (*k, Value::Int(*n))).collect();
    read(scope, &attributes).usage
}

fn text(value: &str) -> Value<'_> {
    Value::Str(value.into())
}

const INPUT: &str = "gen_ai.usage.input_tokens";
const OUTPUT: &str = "gen_ai.usage.output_tokens";
const TOTAL: &str = "gen_ai.usage.total_tokens";
const READ: &str = "gen_ai.usage.cache_read.input_tokens";
const WRITE: &str = "gen_ai.usage.cache_creation.input_tokens";
const REASONING: &str = "gen_ai.usage.reasoning_tokens";

#[test]
fn cached_input_is_made_a_part_of_the_input() {
    // OpenAI: the input includes it.
    let usage = counts("", &[(INPUT, 1_149), (OUTPUT, 8), (READ, 1_024)]).unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.total), (Some(1_149), Some(1_024), Some(1_157)));
    // Bedrock: raw counts, input and total exclude it.
    let raw = [(INPUT, 4), (OUTPUT, 50), (WRITE, 18_131), (TOTAL, 54)];
    let usage = counts("opentelemetry.instrumentation.bedrock", &raw).unwrap();
    assert_eq!((usage.input, usage.cache_write, usage.total), (Some(18_135), Some(18_131), Some(18_185)));
    // The emitter decides even where nothing proves it.
    let usage = counts("opentelemetry.instrumentation.bedrock", &[(INPUT, 100), (OUTPUT, 1), (READ, 10)]).unwrap();
    assert_eq!(usage.input, Some(110));
    // Anyone: a part larger than the whole is no part.
    assert_eq!(counts("", &[(INPUT, 4), (OUTPUT, 1), (READ, 5)]).unwrap().input, Some(9));
    // The total tells.
    let with_total = |total| counts("", &[(INPUT, 100), (OUTPUT, 10), (READ, 40), (TOTAL, total)]).unwrap().input;
    assert_eq!(with_total(150), Some(140));
    assert_eq!(with_total(110), Some(100));
    // The uncached part tells.
    let with_uncached = |uncached| {
        let key = "ai.usage.inputTokenDetails.noCacheTokens";
        counts("ai", &[(INPUT, 100), (OUTPUT, 10), (READ, 40), (key, uncached)]).unwrap().input
    };
    assert_eq!(with_uncached(100), Some(140));
    assert_eq!(with_uncached(60), Some(100));
}

#[test]
fn bedrock_behind_a_framework_is_inclusive() {
    let attributes = [
        ("gen_ai.provider.name", text("aws.bedrock")),
        (INPUT, Value::Int(100)),
        (OUTPUT, Value::Int(1)),
        (READ, Value::Int(10)),
    ];
    let input = |scope| read(scope, &attributes).usage.unwrap().input;
    assert_eq!(input("opentelemetry.instrumentation.langchain"), Some(100));
    assert_eq!(input("my.app"), Some(110));
}

/// A call of the Vercel AI SDK 5 that has read or written 800 tokens of the cache beside 1,000 others.
fn vercel<'a>(provider: &'a str, more: &[(&'a str, Value<'a>)]) -> Reading<'a> {
    let call = [
        ("ai.operationId", text("ai.generateText.doGenerate")),
        ("ai.model.provider", text(provider)),
        ("ai.usage.inputTokens", Value::Int(1_000)),
        ("ai.usage.outputTokens", Value::Int(100)),
        ("ai.usage.totalTokens", Value::Int(1_100)),
    ];
    read("ai", &[&call[..], more].concat())
}

#[test]
fn version_5_of_the_vercel_ai_sdk_passes_on_what_anthropic_and_bedrock_count() {
    let cached = [("ai.usage.cachedInputTokens", Value::Int(800))];
    for provider in ["anthropic.messages", "vertex.anthropic.messages", "Anthropic", "amazon-bedrock"] {
        let reading = vercel(provider, &cached);
        assert_eq!(reading.usage.unwrap().input, Some(1_800), "{provider}");
        assert_eq!(reading.resolution.input, Rule::SdkExcludes, "{provider}");
    }
    for provider in ["openai.responses", "google.generative-ai", "openrouter.chat"] {
        assert_eq!(vercel(provider, &cached).usage.unwrap().input, Some(1_000), "{provider}");
    }
    // Version 6 has keys of its own, and counts them in.
    let new = [("ai.usage.inputTokenDetails.cacheReadTokens", Value::Int(800)), cached[0]];
    assert_eq!(vercel("anthropic.messages", &new).usage.unwrap().input, Some(1_000));
    let uncached = ("ai.usage.inputTokenDetails.noCacheTokens", Value::Int(200));
    assert_eq!(vercel("anthropic.messages", &[cached[0], uncached]).usage.unwrap().input, Some(1_000));
}

#[test]
fn what_anthropic_counted_itself_tells_whether_the_input_includes_cached_tokens() {
    let key = "ai.response.providerMetadata";
    let written = r#"{"anthropic":{"usage":{"input_tokens":1000,"cache_creation_input_tokens":600,"cache_read_input_tokens":0},"cacheCreationInputTokens":600}}"#;
    // Behind a gateway too, whose name does not tell.
    for provider in ["anthropic.messages", "gateway"] {
        let reading = vercel(provider, &[("ai.usage.cachedInputTokens", Value::Int(0)), (key, text(written))]);
        let usage = reading.usage.unwrap();
        assert_eq!((usage.input, usage.cache_write), (Some(1_600), Some(600)), "{provider}");
        assert_eq!(reading.resolution.input, Rule::UncachedIsInput, "{provider}");
    }
    let included = r#"{"anthropic":{"usage":{"input_tokens":400,"cache_creation_input_tokens":600}}}"#;
    assert_eq!(vercel("anthropic.messages", &[(key, text(included))]).usage.unwrap().input, Some(1_000));
    // Without the usage object only the written tokens are told, by the SDK.
    for (provider, metadata) in [
        ("anthropic.messages", r#"{"anthropic":{"cacheCreationInputTokens":600}}"#),
        ("amazon-bedrock", r#"{"bedrock":{"usage":{"cacheWriteInputTokens":600}}}"#),
    ] {
        let usage = vercel(provider, &[(key, text(metadata))]).usage.unwrap();
        assert_eq!((usage.input, usage.cache_write), (Some(1_600), Some(600)), "{provider}");
    }
}

#[test]
fn thinking_is_made_a_part_of_the_output() {
    // OpenAI: included.
    let usage = counts("", &[(INPUT, 5), (OUTPUT, 228), (REASONING, 192), (TOTAL, 233)]).unwrap();
    assert_eq!((usage.output, usage.reasoning), (Some(228), Some(192)));
    // The total says it is not.
    let usage = counts("", &[(INPUT, 5), (OUTPUT, 36), (REASONING, 192), (TOTAL, 233)]).unwrap();
    assert_eq!(usage.output, Some(228));
    // More reasoning than output.
    assert_eq!(counts("", &[(INPUT, 5), (OUTPUT, 36), (REASONING, 192)]).unwrap().output, Some(228));
    // Gemini: only the total has it.
    let gemini = [(INPUT, Value::Int(5)), (OUTPUT, Value::Int(877)), (TOTAL, Value::Int(1_940))];
    let google = [&gemini[..], &[("gen_ai.provider.name", text("gcp.gen_ai"))]].concat();
    assert_eq!(read("", &google).usage.unwrap().output, Some(1_935));
    let other = [&gemini[..], &[("gen_ai.provider.name", text("openai"))]].concat();
    let usage = read("", &other).usage.unwrap();
    assert_eq!((usage.output, usage.total), (Some(877), Some(1_940)), "a larger total is kept");
}

#[test]
fn ranks_decide_whatever_the_order() {
    let (new, old) = ((INPUT, 7), ("gen_ai.usage.prompt_tokens", 9));
    for attributes in [[new, old, (OUTPUT, 1)], [old, new, (OUTPUT, 1)], [old, (OUTPUT, 1), new]] {
        assert_eq!(counts("", &attributes).unwrap().input, Some(7));
    }
    assert_eq!(counts("", &[(INPUT, 1), (INPUT, 2), (OUTPUT, 1)]).unwrap().input, Some(2), "of one key the last");
    let empty = read("", &[("gen_ai.response.model", text("")), ("ai.response.model", text("m"))]);
    assert_eq!(empty.response_model, "m");
}

#[test]
fn what_is_missing_is_not_zero() {
    let call = ("gen_ai.operation.name", text("chat"));
    assert_eq!(read("", &[call]).usage, Err(CostStatus::NoUsage));
    assert_eq!(counts("", &[(INPUT, 5)]), Err(CostStatus::NoUsage), "a chat has output");
    assert_eq!(counts("", &[(INPUT, 0), (OUTPUT, 0), (TOTAL, 0)]), Err(CostStatus::NoUsage));
    assert_eq!(counts("", &[(TOTAL, 9)]), Err(CostStatus::NoUsage));
    assert_eq!(counts("", &[(INPUT, 5), (TOTAL, 9)]).unwrap().output, Some(4));
    assert_eq!(counts("", &[(OUTPUT, 5), (TOTAL, 9)]).unwrap().input, Some(4));
    let embeddings = ("gen_ai.operation.name", text("embeddings"));
    let usage = read("", &[embeddings, ("llm.usage.total_tokens", Value::Int(8))]).usage.unwrap();
    assert_eq!((usage.input, usage.output), (Some(8), None));
}

#[test]
fn impossible_counts_are_invalid() {
    for value in [Value::Int(-1), Value::Double(f64::NAN), Value::Double(1.5), text("many"), Value::Int(i64::MAX)] {
        let usage = read("", &[(INPUT, value), (OUTPUT, Value::Int(1))]).usage;
        assert_eq!(usage, Err(CostStatus::Invalid), "{value:?}");
    }
}

#[test]
fn only_calls_are_billed() {
    let usage = [(INPUT, Value::Int(5)), (OUTPUT, Value::Int(6))];
    let with = |more: &[(&'static str, Value<'static>)]| read("", &[&usage[..], more].concat()).usage.map(drop);
    let model = ("gen_ai.request.model", text("gpt-4o"));
    for outer in [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.operation.name", "execute_tool"),
        ("traceloop.span.kind", "workflow"),
        ("traceloop.span.kind", "agent"),
        ("openinference.span.kind", "CHAIN"),
        ("ai.operationId", "ai.generateText"),
        ("ai.operationId", "ai.streamObject"),
        ("all_messages_events", "[]"),
    ] {
        let outer = (outer.0, text(outer.1));
        assert_eq!(with(&[outer, model]), Err(CostStatus::Aggregate), "{outer:?}");
        assert_eq!(read("", &[outer, model]).usage, Err(CostStatus::NotLlm), "{outer:?} without usage");
    }
    for call in [
        &[("ai.operationId", text("ai.generateText.doGenerate"))][..],
        &[("openinference.span.kind", text("LLM"))],
        &[("traceloop.span.kind", text("task")), ("gen_ai.operation.name", text("chat"))],
        &[("traceloop.span.kind", text("task")), ("llm.request.type", text("chat"))],
        &[],
    ] {
        assert_eq!(with(call), Ok(()), "{call:?}");
    }
    let aggregated = [("gen_ai.aggregated_usage.input_tokens", Value::Int(5)), ("http.method", text("GET"))];
    assert_eq!(read("", &aggregated).usage, Err(CostStatus::NotLlm));
}

#[test]
fn own_attributes_are_noticed() {
    assert!(read("", &[("weir.cost.total", Value::Double(1.0))]).has_output_keys);
    assert!(read("", &[("gen_ai.usage.cost.amount", Value::Double(1.0))]).has_output_keys);
    assert!(!read("", &[("gen_ai.usage.cost", Value::Double(1.0)), ("weir.costs", text(""))]).has_output_keys);
}

fn any_value() -> impl Strategy<Value = (u8, i64, f64, String)> {
    (0u8..5, prop_oneof![any::<i64>(), 0..100_000i64], any::<f64>(), ".{0,12}")
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(
        attributes in proptest::collection::vec((0usize..40, any_value()), 0..40),
        scope in prop_oneof![Just("opentelemetry.instrumentation.bedrock"), Just("ai"), Just("")],
    ) {
        const KEYS: [&str; 20] = [
            INPUT, OUTPUT, TOTAL, READ, WRITE, REASONING, "gen_ai.usage.prompt_tokens", "llm.usage.total_tokens",
            "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.operation.name",
            "traceloop.span.kind", "ai.operationId", "server.address", "llm.request.type",
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens", "llm.token_count.prompt_details.audio",
            "ai.usage.inputTokenDetails.noCacheTokens", "gen_ai.usage.audio_output_tokens",
        ];
        let mut reader = UsageReader::default();
        for (key, (kind, int, double, string)) in &attributes {
            let value = match kind {
                0 => Value::Int(*int),
                1 => Value::Double(*double),
                2 => text(string),
                3 => Value::Bool(*int > 0),
                _ => Value::Empty,
            };
            reader.visit(KEYS.get(*key).map_or(string.as_bytes(), |k| k.as_bytes()), value);
        }
        if let Ok(usage) = reader.finish(scope).usage {
            let sum = usage.input.unwrap_or(0) + usage.output.unwrap_or(0);
            prop_assert!(usage.total >= Some(sum));
            prop_assert!(sum <= 8 * MAX_TOKENS);
            prop_assert!(usage.input.is_none_or(|n| n >= usage.cache_read.unwrap_or(0)));
        }
    }
}
