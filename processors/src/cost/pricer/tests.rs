use proptest::prelude::*;

use super::*;

const NANOS: u64 = 1_000_000_000;
/// 2025-06-09 and 2025-06-10, when the price of o3 fell.
const BEFORE: u64 = 20_248 * 86_400 * NANOS;
const AFTER: u64 = BEFORE + 86_400 * NANOS;

/// Model, provider, counts (input, output, cache read, cache write), time, price id and total.
type Case = (&'static str, &'static str, [i64; 4], u64, &'static str, &'static str);

fn attributes<'a>(provider: &'a str, model: &'a str, counts: [i64; 4]) -> Vec<(&'static [u8], Value<'a>)> {
    let [input, output, read, write] = counts.map(Value::Int);
    vec![
        (b"gen_ai.operation.name", Value::Str("chat".into())),
        (b"gen_ai.provider.name", Value::Str(provider.into())),
        (b"gen_ai.request.model", Value::Str(model.into())),
        (b"gen_ai.usage.input_tokens", input),
        (b"gen_ai.usage.output_tokens", output),
        (b"gen_ai.usage.cache_read.input_tokens", read),
        (b"gen_ai.usage.cache_creation.input_tokens", write),
    ]
}

#[test]
fn spans_by_hand() {
    let mut pricer = Pricer::new(Catalog::embedded().unwrap());
    let cases: &[Case] = &[
        // 1000×2.5 + 100×10 micro-USD
        ("openai", "gpt-4o", [1_000, 100, 0, 0], AFTER, "openai/gpt-4o", "0.0035"),
        // 125×2.5 + 1024×1.25 + 8×10
        ("openai", "gpt-4o", [1_149, 8, 1_024, 0], AFTER, "openai/gpt-4o", "0.0016725"),
        // 10 and 40 until 2025-06-09, then 2 and 8
        ("openai", "o3", [1_000, 100, 0, 0], BEFORE, "openai/o3", "0.014"),
        ("openai", "o3", [1_000, 100, 0, 0], AFTER, "openai/o3@2025-06-10", "0.0028"),
        // 0.135 and 0.55; from 00:30 to 16:30 0.27 and 1.1
        ("deepseek", "deepseek-chat", [1_000, 100, 0, 0], AFTER, "deepseek/deepseek-chat", "0.00019"),
        ("deepseek", "deepseek-chat", [1_000, 100, 0, 0], AFTER + 3_600 * NANOS, "deepseek/deepseek-chat#1", "0.00038"),
        // 4×0.8 + 1165×1 + 207×4 micro-USD
        (
            "anthropic",
            "claude-3-5-haiku-20241022",
            [1_169, 207, 0, 1_165],
            AFTER,
            "anthropic/claude-3-5-haiku-latest",
            "0.0019962",
        ),
        // Raw Bedrock counts: 4×0.8 + 18131×0.08 + 50×4
        (
            "aws.bedrock",
            "claude-3-5-haiku-20241022-v1:0",
            [4, 50, 18_131, 0],
            AFTER,
            "aws/regional.anthropic.claude-3-5-haiku-20241022-v1:0",
            "0.00165368",
        ),
        // 12 per thousand requests, 1 and 1
        ("perplexity", "sonar", [10, 20, 0, 0], AFTER, "perplexity/sonar", "0.01203"),
    ];
    for (provider, model, counts, time, price_id, total) in cases {
        let priced = pricer.price(attributes(provider, model, *counts), "", *time);
        let cost = priced.cost.map(|cost| cost.total.to_string());
        assert_eq!((priced.price_id, cost.as_deref()), (Some(*price_id), Some(*total)), "{provider} {model}");
    }
}

#[test]
fn a_status_comes_with_what_is_known() {
    let mut pricer = Pricer::new(Catalog::embedded().unwrap());
    let unknown = pricer.price(attributes("openai", "gpt-nonsense", [10, 20, 0, 0]), "", AFTER);
    assert_eq!((unknown.status, unknown.cost, unknown.price_id), (CostStatus::UnknownModel, None, None));
    assert_eq!((unknown.usage.input, unknown.usage.output), (Some(10), Some(20)));
    assert_eq!(unknown.span_model, "gpt-nonsense");

    let voyage = pricer.price(attributes("voyageai", "voyage-3-lite", [10, 20, 0, 0]), "", AFTER);
    assert_eq!((voyage.status, voyage.cost), (CostStatus::NoRate, None));
    assert_eq!((voyage.price_id, voyage.provider), (Some("voyageai/voyage-3-lite"), Some("voyageai")));

    let other = pricer.price([(&b"http.method"[..], Value::Str("GET".into()))], "", AFTER);
    assert_eq!(other.status, CostStatus::NotLlm);
}

proptest! {
    #[test]
    fn whatever_comes_there_is_an_answer(
        (provider, model, address) in (".{0,300}", ".{0,300}", ".{0,300}"),
        counts in proptest::array::uniform4(any::<i64>()),
        time: u64,
    ) {
        let mut pricer = Pricer::new(Catalog::embedded().unwrap());
        let mut attributes = attributes(&provider, &model, counts);
        attributes.push((b"server.address", Value::Str(address.as_str().into())));
        let priced = pricer.price(attributes, &provider, time);
        prop_assert_eq!(priced.cost.is_some(), priced.status == CostStatus::Priced);
    }
}

/// A span of few possible names, so that several have the same, or the same but for one.
fn few_names() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    const TEXTS: [(&str, &[&str]); 12] = [
        ("gen_ai.provider.name", &["openai", "aws.bedrock", "gcp.gemini", "langchain"]),
        ("gen_ai.request.model", &["gpt-4o", "gpt-4.1", "gemini-2.5-flash", "nonsense"]),
        ("gen_ai.response.model", &["gpt-4o-2024-08-06", "gpt-4.1-2025-04-14"]),
        ("gen_ai.operation.name", &["chat", "embeddings", "invoke_agent"]),
        ("llm.request.type", &["chat", "rerank"]),
        ("openinference.span.kind", &["LLM", "CHAIN"]),
        ("ai.operationId", &["ai.streamText", "ai.streamText.doStream"]),
        ("traceloop.span.kind", &["workflow", "task"]),
        ("crewai.crew.token_usage", &["total_tokens=30 prompt_tokens=10 completion_tokens=20", "none"]),
        ("logfire.span_type", &["log", "span"]),
        ("openai.response.service_tier", &["batch", "default"]),
        ("server.address", &["api.openai.com", "example.com"]),
    ];
    TEXTS
        .map(|(key, texts)| {
            proptest::option::weighted(0.4, proptest::sample::select(texts)).prop_map(move |text| (key, text))
        })
        .prop_map(|texts| texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect())
}

proptest! {
    #[test]
    fn what_is_remembered_is_what_would_be_found_out(
        spans in proptest::collection::vec(
            (few_names(), proptest::collection::vec(0..100_i64, 0..3), prop_oneof![Just("ai"), Just("pydantic-ai"), Just("x.bedrock")]),
            1..40,
        ),
    ) {
        let catalog = Catalog::embedded().unwrap();
        let mut pricer = Pricer::new(Arc::clone(&catalog));
        for (names, counts, scope) in &spans {
            let keys = [&b"gen_ai.usage.input_tokens"[..], b"gen_ai.usage.output_tokens"];
            let counts = keys.into_iter().zip(counts.iter().map(|n| Value::Int(*n)));
            let texts = names.iter().map(|(key, text)| (key.as_bytes(), Value::Str((*text).into())));
            let attributes: Vec<_> = texts.chain(counts).collect();
            let fresh = Pricer::new(Arc::clone(&catalog));
            let mut reader = UsageReader::default();
            attributes.iter().for_each(|(key, value)| reader.visit(key, *value));
            let found_out = fresh.price_reading(&reader.finish(scope), AFTER);
            let remembered = pricer.price(attributes, scope, AFTER);
            prop_assert_eq!(format!("{:?}", remembered), format!("{:?}", found_out));
        }
    }
}
