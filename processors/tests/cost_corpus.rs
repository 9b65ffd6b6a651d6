//! Real spans of public instrumentations, joined with the usage that the provider itself returned: the normalised usage
//! must be the provider's, whatever convention the span speaks.
//!
//! `fixtures/cost_spans.jsonl` has one span a line: its attributes (long strings cut, they carry no counts) and, where
//! the provider's answer was recorded, `truth`: its usage with cached tokens counted as input and thinking as output.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use weir_pipeline::batch::view::Value;
use weir_processors::cost::{Catalog, CostStatus, Pricer, Usage};

#[derive(Deserialize)]
struct Span {
    name: String,
    span: String,
    scope: String,
    end: u64,
    attributes: Vec<(String, Attribute)>,
    truth: Option<Truth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Attribute {
    String(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    Empty(()),
}

#[derive(Deserialize)]
struct Truth {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    reasoning: u64,
}

impl Attribute {
    fn value(&self) -> Value<'_> {
        match self {
            Self::String(text) => Value::Str(text.as_str().into()),
            Self::Int(n) => Value::Int(*n),
            Self::Double(n) => Value::Double(*n),
            Self::Bool(b) => Value::Bool(*b),
            Self::Empty(()) => Value::Empty,
        }
    }
}

fn spans() -> Vec<Span> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cost_spans.jsonl");
    let text = fs::read_to_string(path).expect("the fixture is there");
    text.lines().map(|line| serde_json::from_str(line).expect("every line is a span")).collect()
}

/// Spans whose usage is the provider's, of the fixture's.
const EQUAL: usize = 60;

/// How many spans of the fixture have which status.
const STATUSES: &[(&str, usize)] = &[
    ("aggregate", 8),
    ("no_model", 1),
    ("no_usage", 35),
    ("not_llm", 51),
    ("priced", 101),
    ("unknown_model", 8),
    ("unknown_provider", 5),
];

/// What is different between the span's usage and the provider's; empty if nothing.
fn difference(usage: &Usage, truth: &Truth) -> String {
    let mut out = Vec::new();
    let mut compare = |what: &str, ours: Option<u64>, theirs: u64| {
        if ours.unwrap_or(0) != theirs {
            out.push(format!("{what} {} for {theirs}", ours.map_or("none".into(), |n| n.to_string())));
        }
    };
    compare("input", usage.input, truth.input);
    compare("output", usage.output, truth.output);
    compare("cache_read", usage.cache_read, truth.cache_read);
    compare("cache_write", usage.cache_write, truth.cache_write);
    compare("reasoning", usage.reasoning, truth.reasoning);
    out.join(", ")
}

/// Emitters whose spans do not say what the provider said: scope, what is different, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("logfire.openai", "reasoning none", "reported only in the JSON text `gen_ai.usage.raw`"),
    ("opentelemetry.instrumentation.openai_v2", "reasoning none", "not reported"),
    ("opentelemetry.util.genai.handler", "reasoning none", "not reported"),
    ("@traceloop/instrumentation-openai", "reasoning none", "not reported"),
    ("opentelemetry.instrumentation.openai.v1", "reasoning none", "not reported by versions of 2024"),
    ("opentelemetry.instrumentation.anthropic", "output ", "adds the counts of several events of a stream"),
    ("opentelemetry.instrumentation.anthropic", "no_usage", "streams of versions of 2024 have no usage"),
    ("opentelemetry.instrumentation.openai.v1", "no_usage", "streams of versions of 2024 have no usage"),
];

#[test]
fn usage_is_the_providers() {
    let mut pricer = Pricer::new(Catalog::embedded().unwrap());
    let (mut equal, mut seen) = (0, vec![false; EXCEPTIONS.len()]);
    for span in spans() {
        let Some(truth) = &span.truth else { continue };
        let attributes = span.attributes.iter().map(|(key, value)| (key.as_bytes(), value.value()));
        let priced = pricer.price(attributes, &span.scope, span.end);
        let difference = match priced.status {
            CostStatus::NoUsage => "no_usage".to_owned(),
            _ => difference(&priced.usage, truth),
        };
        if difference.is_empty() {
            equal += 1;
            continue;
        }
        let exception =
            EXCEPTIONS.iter().position(|(scope, what, _)| *scope == span.scope && difference.starts_with(what));
        let at = exception.unwrap_or_else(|| panic!("{} ({}, {}): {difference}", span.name, span.scope, span.span));
        // Of what is excused, only one number may be off.
        assert!(!difference.contains(", "), "{}: {difference}", span.name);
        seen[at] = true;
    }
    assert_eq!(equal, EQUAL, "spans whose usage is the provider's");
    let stale: Vec<_> = EXCEPTIONS.iter().zip(seen).filter(|(_, seen)| !seen).collect();
    assert!(stale.is_empty(), "no longer different: {stale:?}");
}

#[test]
fn every_span_has_the_status_it_had() {
    let mut pricer = Pricer::new(Catalog::embedded().unwrap());
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    for span in spans() {
        let attributes = span.attributes.iter().map(|(key, value)| (key.as_bytes(), value.value()));
        let priced = pricer.price(attributes, &span.scope, span.end);
        *statuses.entry(priced.status.as_str()).or_default() += 1;
        assert_eq!(priced.cost.is_some(), priced.status == CostStatus::Priced, "{}", span.name);
        assert!(!priced.has_output_keys, "{}", span.name);
        if let Some(cost) = priced.cost {
            assert!(cost.total > Default::default(), "{}: all these models cost something", span.name);
        }
        // pydantic-ai and logfire compute a cost of their own with the same price list, of another date.
        let theirs = span.attributes.iter().find_map(|(key, value)| match value {
            Attribute::Double(usd) if key == "operation.cost" => Some(*usd),
            _ => None,
        });
        if let (Some(theirs), Some(ours)) = (theirs, priced.cost) {
            let ours = ours.total.to_f64();
            assert!((ours - theirs).abs() <= theirs * 1e-9, "{}: {ours} for {theirs}", span.name);
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), STATUSES);
}
