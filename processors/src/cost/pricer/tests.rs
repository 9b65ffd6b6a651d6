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
