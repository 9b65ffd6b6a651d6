//! The `content_policy` processor on the whole corpus of real payloads: where content is dropped or hashed no sentence of
//! it is left in the bytes, and where it is kept the bytes are the same.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use support::{batches, corpus};
use weir_pipeline::batch::{Batch, Span};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_processors::cost::{CostStatus, Usage, UsageReader};

fn processor(yaml: &str, telemetry: &Telemetry) -> Box<dyn Processor> {
    let context = Context::new("it", telemetry.clone(), Environment::with(|| 1_000, 1));
    let node = Node::parse("test.yaml", yaml).unwrap();
    let section = Section { node: &node, path: "processors::it", signals: &[], context };
    weir_processors::content_policy::build(&section).unwrap().create(0)
}

fn run(processor: &mut dyn Processor, batch: Batch) -> Batch {
    let mut out = Vec::new();
    processor.process(batch, &mut |batch| out.push(batch));
    assert_eq!(out.len(), 1);
    Batch::decode(Signal::Traces, out[0].encode()).unwrap()
}

// === The content, found in another way than the processor finds it ===

/// The keys that the content columns of the tables and the estimates are made of, and those of documents and tools.
const CONTENT: &[(&str, &str)] = &[
    ("gen_ai.input.messages", ""),
    ("gen_ai.output.messages", ""),
    ("gen_ai.system_instructions", ""),
    ("gen_ai.prompt.", ".content"),
    ("gen_ai.prompt.", ".arguments"),
    ("gen_ai.prompt.", ".user"),
    ("gen_ai.completion.", ".content"),
    ("gen_ai.completion.", ".arguments"),
    ("gen_ai.tool.call.arguments", ""),
    ("gen_ai.tool.call.result", ""),
    ("gen_ai.tool.definitions", ""),
    ("gen_ai.task.input", ""),
    ("gen_ai.task.output", ""),
    ("llm.input_messages.", ".message.content"),
    ("llm.output_messages.", ".message.content"),
    ("llm.input_messages.", "message_content.text"),
    ("llm.output_messages.", "message_content.text"),
    ("llm.prompts.", ".prompt.text"),
    ("llm.choices.", ".completion.text"),
    ("llm.request.functions.", ".description"),
    ("llm.tools.", ".json_schema"),
    ("ai.prompt", ""),
    ("ai.prompt.messages", ""),
    ("ai.response.text", ""),
    ("ai.response.object", ""),
    ("ai.response.reasoning", ""),
    ("ai.response.toolCalls", ""),
    ("ai.toolCall.args", ""),
    ("ai.toolCall.result", ""),
    ("pydantic_ai.all_messages", ""),
    ("final_result", ""),
    ("tool_arguments", ""),
    ("tool_response", ""),
    ("traceloop.entity.input", ""),
    ("traceloop.entity.output", ""),
    ("input.value", ""),
    ("output.value", ""),
    ("embedding.embeddings.", ".text"),
    ("mcp.response.value", ""),
];

fn is_content(key: &str) -> bool {
    CONTENT.iter().any(|(start, end)| match *end {
        "" => key == *start,
        end => key.starts_with(start) && key.ends_with(end),
    })
}

/// The sentences of a text, or of the texts in it if it is JSON: pieces of several words without a character that JSON
/// would write otherwise.
fn sentences(text: &str, found: &mut BTreeSet<String>) {
    match serde_json::from_str::<Json>(text) {
        Ok(json @ (Json::Object(_) | Json::Array(_) | Json::String(_))) => sentences_of(&json, found),
        _ => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | ',' | '.' | '?' | '!' | '-');
            let pieces = text.split(|c| !is_plain(c)).map(str::trim);
            found.extend(pieces.filter(|p| p.len() >= 16 && p.split(' ').count() > 2).map(str::to_owned));
        }
    }
}

fn sentences_of(json: &Json, found: &mut BTreeSet<String>) {
    match json {
        Json::String(text) => sentences(text, found),
        Json::Array(items) => items.iter().for_each(|item| sentences_of(item, found)),
        Json::Object(entries) => entries.values().for_each(|item| sentences_of(item, found)),
        _ => {}
    }
}

fn sentences_in(batch: &Batch) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for span in batch.spans() {
        for (key, value) in span.attributes().filter(|(key, _)| is_content(key.as_str())) {
            assert!(!key.is_empty());
            sentences(&value.to_text(), &mut found);
        }
        for event in span.events().filter(|event| event.name() == "db.query.result") {
            event.attributes().iter().for_each(|(_, value)| sentences(&value.to_text(), &mut found));
        }
    }
    found
}

/// Exceptions and status messages are left alone by the processor, and quote what they please.
fn without_exceptions(mut batch: Batch) -> Batch {
    batch.for_each_mut(|span| {
        span.set_status(0, "");
        span.edit_events(|event, attributes| {
            if event.name() == "exception" {
                attributes.remove("exception.message");
                attributes.remove("exception.stacktrace");
            }
        });
    });
    batch
}

/// Where a sentence is left, for the message of a failure.
fn keys_with(batch: &Batch, sentence: &str) -> Vec<String> {
    let holds = |value: &str| value.contains(sentence);
    let mut keys = Vec::new();
    for span in batch.spans() {
        keys.extend(span.attributes().filter(|(_, v)| holds(&v.to_text())).map(|(key, _)| key.to_string()));
        for event in span.events() {
            let of_event = event.attributes().iter().filter(|(_, v)| holds(&v.to_text()));
            keys.extend(of_event.map(|(key, _)| format!("{}: {key}", event.name())));
        }
    }
    keys
}

#[test]
fn no_sentence_of_dropped_or_hashed_content_is_left() {
    let mut sentences = 0;
    let mut left = BTreeMap::<String, BTreeSet<String>>::new();
    for (file, batch) in batches() {
        let found = sentences_in(&batch);
        sentences += found.len();
        let before = String::from_utf8_lossy(&batch.encode()).into_owned();
        assert!(found.iter().all(|sentence| before.contains(sentence.as_str())), "{file}: the search finds nothing");
        for action in ["drop", "hash"] {
            let mut processor = processor(&format!("content: {action}"), &Telemetry::default());
            let after = without_exceptions(run(&mut *processor, batch.fork()));
            let bytes = after.encode();
            let text = String::from_utf8_lossy(&bytes);
            for sentence in found.iter().filter(|sentence| text.contains(sentence.as_str())) {
                let keys = keys_with(&after, sentence);
                left.entry(format!("{keys:?}")).or_default().insert(format!("{file}: {sentence}"));
            }
        }
    }
    assert!(left.is_empty(), "{left:#?}");
    assert!(sentences > 1_000, "only {sentences} sentences were looked for");
}

/// Keys of values of more than 64 bytes that dropping content leaves: each was looked at. One that is missing here may be
/// content under a key that the processor does not know.
const LONG: &[&str] = &[
    "crewai.crew.token_usage",
    "db.milvus.search.search_params",
    "db.weaviate.schema.create.schema",
    "db.weaviate.schema.create_class.schema_class",
    "exception.message",
    "exception.stacktrace",
    "gen_ai.headers",
    "gen_ai.openai.api_base",
    "gen_ai.prompt.prompt_filter_results",
    "gen_ai.request.model",
    "gen_ai.usage.raw",
    "http.url",
    "llm.headers",
    "logfire.json_schema",
    "logfire.msg_template",
    "traceloop.association.properties.lc_versions",
    "traceloop.entity.path",
];

#[test]
fn what_is_left_and_long_is_known() {
    let mut long = BTreeSet::new();
    for (_, batch) in batches() {
        let after = run(&mut *processor("content: drop", &Telemetry::default()), batch);
        for span in after.spans() {
            let of_events = span.events().flat_map(|event| event.attributes().iter());
            let texts = span.attributes().chain(of_events).filter(|(_, value)| value.to_text().len() > 64);
            long.extend(texts.map(|(key, _)| key.to_string()));
        }
    }
    assert_eq!(long.iter().map(String::as_str).collect::<Vec<_>>(), LONG);
}

#[test]
fn kept_content_is_the_very_bytes() {
    for yaml in ["content: keep", "tenants: [{project: another, content: drop}]"] {
        let mut processor = processor(yaml, &Telemetry::default());
        for (file, batch) in batches() {
            let bytes = batch.encode();
            processor.process(batch, &mut |after| assert_eq!(after.encode().as_ptr(), bytes.as_ptr(), "{file}"));
        }
    }
}

// === What is there instead ===

/// The values of a span's attributes by key; of repeated keys the last.
fn attributes(span: Span<'_>) -> BTreeMap<String, String> {
    span.attributes().map(|(key, value)| (key.to_string(), value.to_text().into_owned())).collect()
}

#[test]
fn hashes_are_those_of_the_values_and_dropping_takes_the_same_keys() {
    let (mut hashes, mut keys) = (BTreeMap::<String, String>::new(), BTreeSet::new());
    let telemetry = Telemetry::default();
    let (mut dropping, mut hashing) = (processor("content: drop", &telemetry), processor("content: hash", &telemetry));
    for (file, batch) in batches() {
        let dropped = run(&mut *dropping, batch.fork());
        let hashed = run(&mut *hashing, batch.fork());
        for ((before, dropped), hashed) in batch.spans().zip(dropped.spans()).zip(hashed.spans()) {
            let (before, dropped, hashed) = (attributes(before), attributes(dropped), attributes(hashed));
            assert_eq!(before.keys().collect::<Vec<_>>(), hashed.keys().collect::<Vec<_>>(), "{file}");
            for (key, value) in &before {
                match dropped.get(key) {
                    Some(kept) => assert_eq!((kept, &hashed[key]), (value, value), "{file}: {key}"),
                    None => {
                        let hex: String = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
                        assert_eq!(hashed[key], format!("sha256:{hex}"), "{file}: {key}");
                        let earlier = hashes.insert(hashed[key].clone(), value.clone());
                        assert!(earlier.is_none_or(|earlier| earlier == *value), "{file}: {key}");
                        keys.insert(key.clone());
                    }
                }
            }
        }
    }
    // Many calls of the corpus say the same thing.
    assert!(hashes.len() > 500 && keys.len() > 100, "{} contents under {} keys", hashes.len(), keys.len());
    let snapshot = telemetry.snapshot();
    let count = |action: &str| -> u64 {
        let of_action = |(_, label): &(_, String)| label == action;
        let ours = snapshot.iter().filter(|(k, _)| k.name == "weir_content_policy_spans");
        ours.filter(|(k, _)| k.labels.iter().any(|(n, v)| of_action(&(n, v.to_string())))).map(|(_, n)| *n).sum()
    };
    assert_eq!(count("drop"), count("hash"));
    assert_eq!(count("drop") + count("hash") + count("none"), 2 * corpus::SPANS as u64);
}

/// Who hides what a call used in what else is content, and in how many spans: the Vercel AI SDK in metadata of providers.
const HIDDEN: &[(&str, usize)] = &[("ai", 2)];

#[test]
fn models_and_usage_are_no_content() {
    let read = |span: Span<'_>| -> (Result<Usage, CostStatus>, String, String) {
        let mut reader = UsageReader::default();
        reader.visit_all(span);
        let reading = reader.finish(span.scope_name().as_str());
        (reading.usage, reading.request_model.to_string(), reading.response_model.to_string())
    };
    let mut different = BTreeMap::<String, usize>::new();
    for (_, batch) in batches() {
        let after = run(&mut *processor("content: drop", &Telemetry::default()), batch.fork());
        for (before, after) in batch.spans().zip(after.spans()) {
            if read(before) != read(after) {
                *different.entry(before.scope_name().to_string()).or_default() += 1;
            }
        }
    }
    let expected: BTreeMap<_, _> = HIDDEN.iter().map(|(scope, n)| ((*scope).to_owned(), *n)).collect();
    assert_eq!(different, expected);
}
