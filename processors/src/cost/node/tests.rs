mod catalog;
mod findings;

use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::wire::{put_bytes, put_uint};
use weir_pipeline::config::Node;
use weir_pipeline::node::Context;
use weir_pipeline::signal::Signal;

use super::*;
use crate::cost::Usd;

/// 2025-06-10
const TIME: u64 = 1_749_513_600_000_000_000;

#[derive(Clone)]
struct TestSpan {
    trace: u8,
    id: u8,
    parent: Option<u8>,
    scope: &'static str,
    attributes: Vec<(String, TestValue)>,
}

#[derive(Clone)]
enum TestValue {
    Text(String),
    Int(i64),
    Double(f64),
}

impl From<&str> for TestValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for TestValue {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<f64> for TestValue {
    fn from(n: f64) -> Self {
        Self::Double(n)
    }
}

impl TestSpan {
    /// A call of gpt-4o: 1,000 tokens in, 100 out, 0.0035 USD.
    fn call(trace: u8, id: u8) -> Self {
        let span = Self { trace, id, parent: None, scope: "test", attributes: Vec::new() };
        span.with("gen_ai.operation.name", "chat")
            .with("gen_ai.provider.name", "openai")
            .with("gen_ai.request.model", "gpt-4o")
            .with("gen_ai.usage.input_tokens", 1_000)
            .with("gen_ai.usage.output_tokens", 100)
    }

    fn with(mut self, key: &str, value: impl Into<TestValue>) -> Self {
        self.attributes.retain(|(k, _)| k != key);
        self.attributes.push((key.to_owned(), value.into()));
        self
    }

    fn below(self, parent: u8) -> Self {
        Self { parent: Some(parent), ..self }
    }

    fn scope(self, scope: &'static str) -> Self {
        Self { scope, ..self }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &[self.trace; 16]);
        put_bytes(&mut out, 2, &[self.id; 8]);
        if let Some(parent) = self.parent {
            put_bytes(&mut out, 4, &[parent; 8]);
        }
        for (number, time) in [(0x39, TIME - 1_000), (0x41, TIME)] {
            out.push(number);
            out.extend_from_slice(&time.to_le_bytes());
        }
        for (key, value) in &self.attributes {
            put_bytes(&mut out, 9, &attribute(key, value));
        }
        let (mut scope, mut spans) = (Vec::new(), Vec::new());
        put_bytes(&mut scope, 1, self.scope.as_bytes());
        put_bytes(&mut spans, 1, &scope);
        put_bytes(&mut spans, 2, &out);
        spans
    }
}

fn attribute(key: &str, value: &TestValue) -> Vec<u8> {
    let (mut any, mut out) = (Vec::new(), Vec::new());
    match value {
        TestValue::Text(text) => put_bytes(&mut any, 1, text.as_bytes()),
        TestValue::Int(n) => put_uint(&mut any, 3, *n as u64),
        TestValue::Double(n) => {
            any.push(0x21);
            any.extend_from_slice(&n.to_le_bytes());
        }
    }
    put_bytes(&mut out, 1, key.as_bytes());
    put_bytes(&mut out, 2, &any);
    out
}

fn request(resource: &[(&str, &str)], spans: &[TestSpan]) -> Batch {
    let (mut attributes, mut body, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in resource {
        put_bytes(&mut attributes, 1, &attribute(key, &(*value).into()));
    }
    put_bytes(&mut body, 1, &attributes);
    for span in spans {
        put_bytes(&mut body, 2, &span.encode());
    }
    put_bytes(&mut out, 1, &body);
    Batch::decode(Signal::Traces, out.into()).unwrap()
}

struct Rig {
    telemetry: Telemetry,
    processor: Box<dyn Processor>,
}

impl Rig {
    fn new(yaml: &str) -> Self {
        Self::within(Context::new("cost", Telemetry::default(), Environment::with(|| TIME, 1)), yaml)
    }

    fn within(context: Context, yaml: &str) -> Self {
        let telemetry = context.telemetry.clone();
        let node = Node::parse("test.yaml", yaml).unwrap();
        let section = Section { node: &node, path: "processors::cost", signals: &[], context };
        Self { telemetry, processor: build(&section).unwrap().create(0) }
    }

    /// The attributes that the spans have in the end, of those that are about costs.
    fn run(&mut self, batch: Batch) -> Vec<Vec<(String, String)>> {
        let mut spans = Vec::new();
        self.processor.process(batch, &mut |batch| {
            let batch = Batch::decode(Signal::Traces, batch.encode()).unwrap();
            spans = batch.spans().map(costs).collect();
        });
        spans
    }

    fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let fits = |key: &weir_pipeline::telemetry::Key| {
            key.name == name && labels.iter().all(|(k, v)| key.labels.iter().any(|(key, value)| key == k && value == v))
        };
        self.telemetry.snapshot().iter().filter(|(key, _)| fits(key)).map(|(_, n)| n).sum()
    }
}

fn costs(span: Span<'_>) -> Vec<(String, String)> {
    let is_cost = |key: &str| key.contains("cost") || key.starts_with("weir.");
    let text = |value: Value<'_>| match value {
        Value::Str(text) => text.to_string(),
        Value::Double(n) => format!("{n}"),
        Value::Int(n) => format!("{n}"),
        other => format!("{other:?}"),
    };
    let mut costs: Vec<_> = span.attributes().map(|(key, value)| (key.to_string(), text(value))).collect();
    costs.retain(|(key, _)| is_cost(key) && key != "weir.cost.catalog");
    let keys = costs.len();
    costs.sort();
    costs.dedup_by(|a, b| a.0 == b.0);
    assert_eq!(costs.len(), keys, "no key is written twice: {costs:?}");
    costs
}

fn get<'a>(span: &'a [(String, String)], key: &str) -> Option<&'a str> {
    span.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

fn pairs(span: &[(String, String)]) -> Vec<(&str, &str)> {
    span.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[test]
fn families_of_attributes_are_chosen() {
    let run = |yaml: &str| Rig::new(yaml).run(request(&[], &[TestSpan::call(1, 1)])).remove(0);
    let otel = [
        ("gen_ai.usage.cost.amount", "0.0035"),
        ("gen_ai.usage.cost.currency", "USD"),
        ("gen_ai.usage.cost.source", "local"),
    ];
    let weir = [
        ("weir.cost.input", "0.0025"),
        ("weir.cost.output", "0.001"),
        ("weir.cost.price_id", "openai/gpt-4o"),
        ("weir.cost.status", "priced"),
    ];
    assert_eq!(pairs(&run("")), [&otel[..], &weir].concat());
    assert_eq!(pairs(&run("attributes: [otel]")), otel);
    // The total has a key of its own where the proposal's is not written.
    assert_eq!(pairs(&run("attributes: [weir]")), [&weir[..], &[("weir.cost.total", "0.0035")]].concat());
    assert_eq!(pairs(&run("attributes: [legacy]")), [("gen_ai.usage.cost", "0.0035")]);
    let open_inference =
        [("llm.cost.completion", "0.001"), ("llm.cost.prompt", "0.0025"), ("llm.cost.total", "0.0035")];
    assert_eq!(pairs(&run("attributes: [openinference]")), open_inference);
    let langfuse = [("langfuse.observation.cost_details", r#"{"input":0.0025,"output":0.001,"total":0.0035}"#)];
    assert_eq!(pairs(&run("attributes: [langfuse]")), langfuse);
    assert!(run("attributes: []").is_empty());
}

#[test]
fn a_given_cost_is_kept_or_replaced_or_taken() {
    let given = |key: &str| TestSpan::call(1, 1).with(key, 0.004).with("gen_ai.usage.cost.currency", "USD");
    let run = |yaml: &str, key: &str| Rig::new(yaml).run(request(&[], &[given(key)])).remove(0);

    let own = run("", "gen_ai.usage.cost.amount");
    assert_eq!(get(&own, "gen_ai.usage.cost.amount"), Some("0.004"));
    assert_eq!(get(&own, "gen_ai.usage.cost.source"), None, "it says nothing of a cost it did not write");
    assert_eq!(get(&own, "weir.cost.given_difference"), Some("0.0005"));
    assert_eq!(get(&own, "weir.cost.input"), Some("0.0025"));
    assert_eq!(get(&own, "weir.cost.total"), Some("0.0035"), "the computed cost is not lost");
    assert_eq!(get(&own, "weir.cost.given"), Some("0.004"));

    let other_key = run("", "operation.cost");
    assert_eq!(get(&other_key, "operation.cost"), Some("0.004"));
    assert_eq!(get(&other_key, "gen_ai.usage.cost.amount"), Some("0.0035"));
    assert_eq!(get(&other_key, "weir.cost.total"), None);
    assert_eq!(get(&other_key, "weir.cost.given"), Some("0.004"));

    let local = run("given_cost: prefer_local", "gen_ai.usage.cost.amount");
    assert_eq!(get(&local, "gen_ai.usage.cost.amount"), Some("0.0035"));
    assert_eq!(get(&local, "gen_ai.usage.cost.source"), Some("local"));
    assert_eq!(get(&local, "weir.cost.given"), Some("0.004"), "what was given is told all the same");

    let taken = run("given_cost: prefer_given", "operation.cost");
    assert_eq!(get(&taken, "gen_ai.usage.cost.amount"), Some("0.004"));
    assert_eq!(get(&taken, "gen_ai.usage.cost.source"), Some("application"));
    assert_eq!(get(&taken, "weir.cost.status"), Some("given"));
    assert_eq!(get(&taken, "weir.cost.input"), None, "whose parts are not known");

    let unknown = given("operation.cost").with("gen_ai.request.model", "my-model");
    let taken = Rig::new("given_cost: prefer_given").run(request(&[], &[unknown])).remove(0);
    assert_eq!(get(&taken, "gen_ai.usage.cost.amount"), Some("0.004"));

    let euro = given("operation.cost").with("gen_ai.usage.cost.currency", "EUR");
    let taken = Rig::new("given_cost: prefer_given").run(request(&[], &[euro])).remove(0);
    assert_eq!(get(&taken, "weir.cost.status"), Some("priced"), "other currencies are not compared");
    assert_eq!(get(&taken, "weir.cost.given"), None);

    let spans = [given("operation.cost"), TestSpan { id: 2, parent: Some(1), ..given("operation.cost") }];
    let both = Rig::new("").run(request(&[], &spans));
    let found: Vec<_> = both.iter().map(|s| (get(s, "weir.cost.status"), get(s, "weir.cost.given"))).collect();
    assert_eq!(found, [(Some("priced"), Some("0.004")), (Some("duplicate"), Some("0.004"))]);
}

#[test]
fn given_costs_are_compared() {
    let mut rig = Rig::new("");
    let spans: Vec<_> = [0.0035, 0.004, 0.001]
        .iter()
        .zip(1..)
        .map(|(usd, id)| TestSpan::call(id, id).with("operation.cost", *usd))
        .collect();
    rig.run(request(&[], &spans));
    for result in ["equal", "higher", "lower"] {
        assert_eq!(rig.counter("weir_cost_given_spans", &[("result", result), ("model", "gpt-4o")]), 1, "{result}");
    }
    assert_eq!(rig.counter("weir_cost_given_picousd", &[]), 8_500_000_000);
    assert_eq!(rig.counter("weir_cost_given_computed_picousd", &[]), 3 * 3_500_000_000);
}

#[test]
fn the_most_exact_span_of_a_batch_is_billed_and_the_others_name_it() {
    let spans = [
        TestSpan::call(1, 1).scope("opentelemetry.instrumentation.langchain").with("gen_ai.response.id", "r"),
        TestSpan::call(1, 2).below(1).with("gen_ai.response.id", "r"),
        TestSpan::call(2, 3).scope("com.anthropic.sdk.python").with("gen_ai.response.id", "r"),
        TestSpan::call(1, 4).with("traceloop.span.kind", "agent").with("gen_ai.operation.name", "invoke_agent"),
    ];
    let mut rig = Rig::new("");
    let out = rig.run(request(&[], &spans));
    let status: Vec<_> = out.iter().map(|span| get(span, "weir.cost.status").unwrap()).collect();
    assert_eq!(status, ["duplicate", "duplicate", "priced", "aggregate"]);
    let third = format!("{}/{}", "02".repeat(16), "03".repeat(8));
    let deferred = [("weir.cost.deferred_to", third.as_str()), ("weir.cost.status", "duplicate")];
    assert_eq!(pairs(&out[0]), deferred);
    assert_eq!(pairs(&out[1]), deferred);
    assert_eq!(get(&out[3], "weir.cost.deferred_to"), None, "there is no call below it");
    assert_eq!(rig.counter("weir_cost_picousd", &[]), 3_500_000_000, "counted once");
    assert_eq!(rig.counter("weir_cost_spans", &[("status", "duplicate")]), 2);

    let out = Rig::new("billed_once: {enabled: false}").run(request(&[], &spans));
    assert_eq!(out.iter().filter(|span| get(span, "weir.cost.status") == Some("priced")).count(), 3);
}

#[test]
fn what_comes_twice_is_written_twice_and_counted_once() {
    let mut rig = Rig::new("");
    let spans = [TestSpan::call(1, 1).below(2), TestSpan::call(1, 2)];
    let first = rig.run(request(&[], &spans));
    assert_eq!(first, rig.run(request(&[], &spans)));
    assert_eq!(get(&first[0], "weir.cost.status"), Some("priced"));
    assert_eq!(get(&first[1], "weir.cost.status"), Some("duplicate"));
    assert_eq!(rig.counter("weir_cost_picousd", &[]), 3_500_000_000);
    assert_eq!(rig.counter("weir_cost_tokens", &[("type", "input")]), 1_000);
}

#[test]
fn a_change_of_settings_forgets_no_call() {
    let context = |id: &str, host: &weir_pipeline::host::Host| Context {
        host: host.clone(),
        ..Context::new(id, Telemetry::default(), Environment::with(|| TIME, 1))
    };
    let host = Context::new("", Telemetry::default(), Environment::with(|| TIME, 1)).host;
    let status = |mut rig: Rig, span: u8| {
        let out = rig.run(request(&[], &[TestSpan::call(1, span).with("gen_ai.response.id", "r")])).remove(0);
        (rig, get(&out, "weir.cost.status").unwrap().to_owned())
    };
    let dearer = "{attributes: [weir], catalog: {overlay: {prices: [{provider: openai, model: gpt-4o, rates: {input: 9, output: 9}}]}}}";
    let (_first, billed) = status(Rig::within(context("cost", &host), ""), 1);
    let (_second, again) = status(Rig::within(context("cost", &host), dearer), 2);
    assert_eq!([billed.as_str(), &again], ["priced", "duplicate"]);
    let (_, other) = status(Rig::within(context("cost/other", &host), ""), 3);
    assert_eq!(other, "priced", "another processor has calls of its own");
    let (_, other) = status(Rig::within(context("cost", &host), "billed_once: {max_calls: 7}"), 4);
    assert_eq!(other, "priced", "other limits are another memory");
}

#[test]
fn costs_and_tokens_are_counted_by_project_environment_provider_and_model() {
    let mut rig = Rig::new("");
    let resource = [("service.namespace", "shop"), ("deployment.environment.name", "prod")];
    let unknown = TestSpan::call(2, 2).with("gen_ai.request.model", "gpt-nonsense");
    rig.run(request(&resource, &[TestSpan::call(1, 1), unknown]));
    rig.run(request(&[("service.namespace", "shop"), ("weir.project", "other")], &[TestSpan::call(3, 3)]));
    let labels = [("project", "shop"), ("environment", "prod"), ("provider", "openai"), ("model", "gpt-4o")];
    assert_eq!(rig.counter("weir_cost_picousd", &labels), 3_500_000_000);
    assert_eq!(rig.counter("weir_cost_tokens", &[labels[0], ("type", "output"), labels[3]]), 100);
    assert_eq!(rig.counter("weir_cost_picousd", &[("project", "other"), ("environment", "")]), 3_500_000_000);
    let reason = [("reason", "unknown_model"), ("model", "gpt-nonsense")];
    assert_eq!(rig.counter("weir_cost_unpriced_spans", &reason), 1);
}

#[test]
fn label_sets_are_bounded() {
    let mut rig = Rig::new("max_metric_series: 10");
    for n in 0..100 {
        let span = TestSpan::call(n, 1).with("gen_ai.request.model", format!("model-{n}").as_str());
        rig.run(request(&[], &[span]));
    }
    let series = rig.telemetry.snapshot().iter().filter(|(key, _)| key.name == "weir_cost_picousd").count();
    assert_eq!(series, 11);
    let overflow = [("project", "overflow"), ("model", "overflow"), ("reason", "unknown_model")];
    assert_eq!(rig.counter("weir_cost_unpriced_spans", &overflow), 90);
}

#[test]
fn bad_counts_are_a_status_and_nothing_is_lost() {
    let bad: [TestValue; 6] =
        [f64::NAN.into(), (-1.0).into(), (-5).into(), i64::MIN.into(), "2 tokens".into(), 9.3e18.into()];
    for value in bad {
        let mut span = TestSpan::call(1, 1);
        span.attributes.push(("gen_ai.usage.input_tokens".to_owned(), value));
        let out = Rig::new("").run(request(&[], &[span]));
        assert_eq!(get(&out[0], "weir.cost.status"), Some("invalid"));
        assert_eq!(out[0].len(), 1);
    }
    let more_audio = TestSpan::call(1, 1).with("gen_ai.usage.audio.input_tokens", 1_001);
    let out = Rig::new("").run(request(&[], &[more_audio]));
    assert_eq!(pairs(&out[0]), [("weir.cost.status", "inconsistent")]);
}

#[test]
fn settings_are_checked() {
    let parse = |yaml: &str| Settings::parse(&Node::parse("test.yaml", yaml).unwrap(), "processors::cost");
    let settings = parse("").unwrap();
    assert!(settings.attributes.otel && settings.attributes.weir && !settings.attributes.legacy);
    assert_eq!(parse("billed_once: {window: 1m}").unwrap().billed_once.unwrap().window, 60_000_000_000);
    assert_eq!(parse("billed_once: {enabled: false, window: 0s}").unwrap().billed_once, None);
    for (yaml, expected) in [
        ("attributes: [otlp]", "otlp"),
        ("given_cost: maybe", "maybe"),
        ("billed_once: {window: 0s}", "processors::cost::billed_once::window"),
        ("billed_once: {max_calls: 0}", "greater than zero"),
        ("billed_onse: {}", "billed_once"),
        ("max_metric_series: 0", "greater than zero"),
    ] {
        let error = parse(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[test]
fn differences_of_rounding_are_none() {
    let usd = Usd::from_pico;
    assert_eq!(meter::difference(usd(3_500_000_001), usd(3_500_000_000)), 0);
    assert_eq!(meter::difference(usd(3_500_000_004), usd(3_500_000_000)), 4);
    assert_eq!(meter::difference(usd(1), usd(2)), -1);
}

#[cfg(feature = "estimate")]
#[test]
fn calls_without_usage_are_estimated_if_wanted() {
    let silent = |id: u8| {
        let mut span = TestSpan::call(id, id)
            .with("gen_ai.prompt.0.role", "user")
            .with("gen_ai.prompt.0.content", "hello world")
            .with("gen_ai.completion.0.content", "hello world");
        span.attributes.retain(|(key, _)| !key.starts_with("gen_ai.usage"));
        span
    };
    let stream = silent(2).with("gen_ai.is_streaming", "true");
    let status = |yaml: &str| {
        let out = Rig::new(yaml).run(request(&[], &[silent(1), stream.clone(), TestSpan::call(3, 3)]));
        out.iter().map(|span| get(span, "weir.cost.status").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(status(""), ["no_usage", "no_usage", "priced"]);
    assert_eq!(status("estimate: streams"), ["no_usage", "estimated", "priced"]);
    assert_eq!(status("estimate: on"), ["estimated", "estimated", "priced"]);
    let out = Rig::new("estimate: on").run(request(&[], &[silent(1)])).remove(0);
    // Two words, and 4 and 3 for the chat: 9 and 2 tokens at 2.5 and 10 USD per million.
    assert_eq!(get(&out, "weir.usage.input_tokens"), Some("9"));
    assert_eq!(get(&out, "weir.usage.output_tokens"), Some("2"));
    assert_eq!(get(&out, "weir.usage.method"), Some("tiktoken/o200k_base"));
    assert_eq!(get(&out, "gen_ai.usage.cost.amount"), Some("0.0000425"));
    // With the usage on another span of the call there is nothing to estimate.
    let id = |span: TestSpan| span.with("gen_ai.response.id", "r");
    let out = Rig::new("estimate: on").run(request(&[], &[id(silent(1)), id(TestSpan::call(2, 2))]));
    assert_eq!(get(&out[0], "weir.cost.status"), Some("duplicate"));
    // The method says what else was counted.
    let tools = r#"[{"name":"now","description":"The time","parameters":{"type":"object","properties":{}}}]"#;
    let out = Rig::new("estimate: on").run(request(&[], &[silent(1).with("gen_ai.tool.definitions", tools)])).remove(0);
    // 9 for the chat; 7 for a tool and three for its text, and 12 for all.
    assert_eq!(get(&out, "weir.usage.input_tokens"), Some("31"));
    assert_eq!(get(&out, "weir.usage.method"), Some("tiktoken/o200k_base+tools"));
    // What no rule counts is not guessed at.
    for (key, value) in [
        ("gen_ai.tool.definitions", r#"[{"type":"web_search"}]"#),
        ("gen_ai.prompt.1.tool_calls.0.name", "f"),
        ("gen_ai.prompt.1.content", r#"[{"type":"image_url","image_url":{"url":"x"}}]"#),
        ("gen_ai.request.model", "o3"),
        ("gen_ai.request.model", "gpt-5"),
    ] {
        let out = Rig::new("estimate: on").run(request(&[], &[silent(1).with(key, value)]));
        assert_eq!(get(&out[0], "weir.cost.status"), Some("no_usage"), "{key}");
    }
}

#[cfg(not(feature = "estimate"))]
#[test]
fn a_build_without_tokenizers_says_so() {
    let parse = |yaml: &str| Settings::parse(&Node::parse("test.yaml", yaml).unwrap(), "processors::cost");
    assert_eq!(parse("estimate: off").unwrap().estimate, Estimation::Off);
    assert!(parse("estimate: on").unwrap_err().to_string().contains("feature `estimate`"));
}
