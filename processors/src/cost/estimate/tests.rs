mod images;
mod tools;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json::{Limits, to_protobuf};
use weir_pipeline::signal::Signal;

use super::*;
use crate::cost::UsageReader;

/// A span of a chat completion with these attributes: strings, or arrays of strings.
fn span_with(name: &str, model: &str, attributes: &[(&str, Json)]) -> Batch {
    let value = |value: &Json| match value {
        Json::Array(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": texts } })
        }
        text => json!({ "stringValue": text }),
    };
    let all: Vec<_> = [("gen_ai.operation.name", json!("chat")), ("gen_ai.request.model", json!(model))]
        .iter()
        .chain(attributes)
        .map(|(key, of)| json!({ "key": key, "value": value(of) }))
        .collect();
    let span = json!({ "traceId": "01".repeat(16), "spanId": "02".repeat(8), "name": name, "attributes": all });
    let request = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] }).to_string();
    let bytes = to_protobuf(message_of(Signal::Traces), request.as_bytes(), Limits::default()).unwrap();
    Batch::decode(Signal::Traces, bytes.into()).unwrap()
}

/// Input tokens and method.
fn estimated(name: &str, model: &str, attributes: &[(&str, Json)]) -> Option<(u64, &'static str)> {
    let batch = span_with(name, model, attributes);
    let span = batch.spans().next().unwrap();
    let mut reader = UsageReader::default();
    reader.visit_all(span);
    let estimate = estimate(span, &reader.finish(""))?;
    Some((estimate.usage.input.unwrap(), estimate.method))
}

/// Attributes and more of them.
fn and<'a>(attributes: &[(&'a str, Json)], more: &[(&'a str, Json)]) -> Vec<(&'a str, Json)> {
    [attributes, more].concat()
}

#[test]
fn vocabularies_go_by_the_family_of_the_model() {
    for (model, vocabulary) in [
        ("gpt-4o-mini", Some(Vocabulary::O200k)),
        ("openai/gpt-4.1-nano", Some(Vocabulary::O200k)),
        ("ft:gpt-4o-2024-08-06:org::id", Some(Vocabulary::O200k)),
        ("GPT-4-0613", Some(Vocabulary::Cl100k)),
        ("gpt-3.5-turbo-instruct", Some(Vocabulary::Cl100k)),
        ("gpt-35-turbo", Some(Vocabulary::Cl100k)),
        ("gpt-4o-audio-preview", None),
        ("gpt-5-mini", None),
        ("o3", None),
        ("gpt-oss-20b", None),
        ("my-gpt-4o", None),
        ("claude-3-5-haiku", None),
        ("", None),
    ] {
        assert_eq!(Vocabulary::of(&name_of(model)), vocabulary, "{model}");
    }
}

#[test]
fn tokens_are_openais() {
    let o200k = Vocabulary::O200k.tokenizer();
    assert_eq!(count(o200k, ""), 0);
    // The example of the cookbook.
    assert_eq!(count(Vocabulary::Cl100k.tokenizer(), "tiktoken is great!"), 6);
    // A text that is cut into pieces has a token more at each cut, at most.
    let long = "one two three four five. ".repeat(4_000);
    let whole = o200k.count_ordinary(&long) as u64;
    let pieces = (long.len() / PIECE) as u64 + 1;
    let cut = count(o200k, &long);
    assert!((whole..=whole + pieces).contains(&cut), "{cut} for {whole}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The tokenizer's patterns look back and ahead: no text may make them give up.
    #[test]
    fn no_text_is_too_much(part in "[ \t\r\n\u{3000}a-zA-Z0-9'.é漢🦀]{1,4}", times in 1usize..40_000) {
        let text = part.repeat(times.min(MAX_BYTES / part.len()));
        prop_assert!(count(Vocabulary::O200k.tokenizer(), &text) > 0);
    }
}
