//! The whole corpus of real payloads against the usage that the providers themselves returned, and its traces through
//! the processor: each call is billed once.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value as Json;
use support::{batches, corpus};
use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::{Batch, Span};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_processors::cost::{CostStatus, Reading, Usage, UsageReader};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn read<'a>(span: Span<'a>) -> Reading<'a> {
    let mut reader = UsageReader::default();
    reader.visit_all(span);
    reader.finish(span.scope_name().as_str())
}

// === Usage ===

/// The provider's usage object as input, output, cache read, cache write, reasoning; input includes cached tokens and
/// output includes thinking.
fn truth(raw: &Json) -> [u64; 5] {
    let n = |path: &str| raw.pointer(path).and_then(Json::as_u64).unwrap_or(0);
    if raw.get("promptTokenCount").is_some() {
        let thoughts = n("/thoughtsTokenCount");
        let output = n("/candidatesTokenCount") + thoughts;
        return [n("/promptTokenCount"), output, n("/cachedContentTokenCount"), 0, thoughts];
    }
    if raw.get("billed_units").is_some() {
        return [n("/billed_units/input_tokens"), n("/billed_units/output_tokens"), 0, 0, 0];
    }
    if raw.get("prompt_tokens").is_some() {
        let cached = n("/prompt_tokens_details/cached_tokens");
        let reasoning = n("/completion_tokens_details/reasoning_tokens");
        return [n("/prompt_tokens"), n("/completion_tokens"), cached, 0, reasoning];
    }
    if raw.get("total_tokens").is_some() {
        let cached = n("/input_tokens_details/cached_tokens");
        return [n("/input_tokens"), n("/output_tokens"), cached, 0, n("/output_tokens_details/reasoning_tokens")];
    }
    let (read, write) = (n("/cache_read_input_tokens"), n("/cache_creation_input_tokens"));
    [n("/input_tokens") + read + write, n("/output_tokens"), read, write, 0]
}

const FIELDS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];

/// What is different, by name; `no_usage` and the like where there is none.
fn difference(usage: &Result<Usage, CostStatus>, truth: [u64; 5]) -> String {
    let usage = match usage {
        Ok(usage) => usage,
        Err(status) => return status.to_string(),
    };
    let ours = [usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning];
    let differs = |at: &usize| ours[*at].unwrap_or(0) != truth[*at];
    (0..FIELDS.len()).filter(differs).map(|at| FIELDS[at]).collect::<Vec<_>>().join(",")
}

/// Emitters whose spans do not say what the provider said: scope, what is different, how many spans, why.
const EXCEPTIONS: &[(&str, &str, usize, &str)] = &[
    ("opentelemetry.instrumentation.anthropic", "output", 29, "adds the counts of two events of a stream"),
    ("opentelemetry.instrumentation.anthropic", "no_usage", 6, "streams have no usage in versions of 2024"),
    ("opentelemetry.instrumentation.openai.v1", "no_usage", 3, "streams have no usage in versions of 2024"),
    ("opentelemetry.instrumentation.openai.v1", "reasoning", 2, "not reported by versions of 2024"),
    ("opentelemetry.instrumentation.openai_v2", "reasoning", 4, "not reported"),
    ("opentelemetry.util.genai.handler", "reasoning", 4, "not reported"),
    ("@traceloop/instrumentation-openai", "reasoning", 6, "not reported"),
];

#[test]
fn usage_is_what_the_provider_returned() {
    let batches = batches();
    let lines = corpus::files("usage_truth.jsonl").remove("usage_truth.jsonl").unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let mut different = BTreeMap::<(String, String), usize>::new();
    for line in lines.lines() {
        let line: Json = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let batch = &batches[&text("file")];
        let span = batch.spans().find(|s| hex(s.fields().span_id) == text("span_id")).unwrap();
        let difference = difference(&read(span).usage, truth(&line["raw_usage"]));
        if !difference.is_empty() {
            *different.entry((text("scope"), difference)).or_default() += 1;
        }
    }
    let expected: BTreeMap<_, _> =
        EXCEPTIONS.iter().map(|(scope, what, n, _)| ((scope.to_string(), what.to_string()), *n)).collect();
    assert_eq!(different, expected);
    assert_eq!(lines.lines().count(), 751);
}

// === Billed once ===

/// A span as it left the processor.
#[derive(Debug, Clone, PartialEq)]
struct Out {
    trace: String,
    id: String,
    response: String,
    time: [u64; 2],
    status: String,
    amount: Option<f64>,
    deferred_to: Option<String>,
    usage: Option<[u64; 2]>,
}

fn processor() -> Box<dyn Processor> {
    let context = Context::new("cost", Telemetry::default(), Environment::with(|| 1_000, 1));
    let section = Section { node: &Node::null("test.yaml"), path: "processors::cost", signals: &[], context };
    weir_processors::cost::build(&section).unwrap().create(0)
}

fn run(processor: &mut dyn Processor, batch: Batch) -> Vec<Out> {
    let mut spans = Vec::new();
    processor.process(batch, &mut |batch| {
        let encoded = Batch::decode(Signal::Traces, batch.encode()).unwrap();
        spans.extend(encoded.spans().map(out));
    });
    spans
}

fn out(span: Span<'_>) -> Out {
    let fields = span.fields();
    let text = |key: &str| span.attr(key).and_then(|v| v.as_str()).map(str::to_owned);
    let reading = read(span);
    Out {
        trace: hex(fields.trace_id),
        id: format!("{}/{}", hex(fields.trace_id), hex(fields.span_id)),
        response: reading.response_id.to_string(),
        time: [fields.start_time_unix_nano, fields.end_time_unix_nano],
        status: text("weir.cost.status").unwrap_or_default(),
        amount: span.attr("gen_ai.usage.cost.amount").map(|v| match v {
            Value::Double(usd) => usd,
            other => panic!("{other:?}"),
        }),
        deferred_to: text("weir.cost.deferred_to"),
        usage: reading.usage.ok().map(|u| [u.input.unwrap_or(0), u.output.unwrap_or(0)]),
    }
}

/// Whether two spans of one response id are of one call, as a person reading the trace sees it: they are in one trace,
/// or one lies within the other.
fn same_call(a: &Out, b: &Out) -> bool {
    let within = |a: &Out, b: &Out| a.time[0] >= b.time[0] && a.time[1] <= b.time[1];
    a.response == b.response && (a.trace == b.trace || within(a, b) || within(b, a))
}

fn check(file: &str, spans: &[Out]) {
    let by_id: BTreeMap<_, _> = spans.iter().map(|s| (s.id.as_str(), s)).collect();
    for span in spans {
        let has_cost = matches!(span.status.as_str(), "priced" | "");
        assert!(span.amount.is_none() || has_cost, "{file}: {span:?}");
        if let Some(to) = &span.deferred_to {
            let to = by_id.get(to.as_str()).unwrap_or_else(|| panic!("{file}: {span:?} defers to nobody"));
            assert!(to.amount.is_some(), "{file}: {span:?} defers to {to:?}");
        }
        if span.status == "duplicate" {
            assert!(span.deferred_to.is_some(), "{file}: {span:?}");
        }
    }
    let calls: Vec<_> = spans.iter().filter(|s| !s.response.is_empty() && s.usage.is_some()).collect();
    for call in &calls {
        let same: Vec<_> = calls.iter().filter(|other| same_call(call, other)).collect();
        // A span without a response id, which only stands around these, may have come first.
        let around = same.iter().filter_map(|s| by_id.get(s.deferred_to.as_deref()?)).find(|s| s.response.is_empty());
        let billed = same.iter().filter(|s| s.amount.is_some()).count() + usize::from(around.is_some());
        let unpriced = same.iter().all(|s| s.amount.is_none() && s.deferred_to.is_none());
        assert!(billed == 1 || unpriced, "{file}: {billed} of {same:?}");
        assert!(around.is_none_or(|around| around.usage == call.usage), "{file}: {call:?} defers to {around:?}");
    }
}

/// How many spans of the corpus have which status, where each file is a process of its own; those that are no calls of
/// models have none.
const STATUSES: &[(&str, usize)] = &[
    ("", 1_082),
    ("aggregate", 146),
    ("duplicate", 39),
    ("no_model", 17),
    ("no_usage", 229),
    ("priced", 869),
    ("unknown_model", 56),
    ("unknown_provider", 60),
];

#[test]
fn each_call_is_billed_once() {
    let (mut statuses, mut deferred) = (BTreeMap::<String, usize>::new(), 0);
    for (file, batch) in batches() {
        let spans = run(&mut *processor(), batch);
        check(&file, &spans);
        for span in &spans {
            *statuses.entry(span.status.clone()).or_default() += 1;
            deferred += usize::from(span.deferred_to.is_some());
        }
    }
    let statuses: Vec<_> = statuses.iter().map(|(status, n)| (status.as_str(), *n)).collect();
    assert_eq!(statuses, STATUSES);
    // Of the agents and the like six have no priced call below them.
    assert_eq!(deferred, 179);
}

#[test]
fn span_by_span_each_call_is_billed_once_too() {
    for (file, mut batch) in batches() {
        let mut processor = processor();
        let mut spans = Vec::new();
        while !batch.is_empty() {
            let rest = batch.split_off(1);
            spans.extend(run(&mut *processor, batch));
            batch = rest;
        }
        check(&file, &spans);
    }
}

#[test]
fn what_is_sent_twice_is_written_twice_alike() {
    for (file, batch) in batches() {
        let mut processor = processor();
        let first = run(&mut *processor, batch.fork());
        let mut again = run(&mut *processor, batch);
        // An agent that came before its calls could not name one.
        for (again, first) in again.iter_mut().zip(&first).filter(|(_, first)| first.status == "aggregate") {
            again.deferred_to.clone_from(&first.deferred_to);
        }
        assert_eq!(first, again, "{file}");
    }
}

// === Estimates ===

/// Estimates against the counts that the provider returned, over the spans that have both: all of the outputs, and the
/// inputs of the capture where the requests are those that the recorded answers belong to.
#[cfg(feature = "estimate")]
#[test]
fn estimates_are_near_what_the_provider_counted() {
    use weir_processors::cost::estimate::estimate;

    let (mut inputs, mut outputs, mut far) = ([0; 2], [0; 2], Vec::new());
    for (file, batch) in batches() {
        let is_original = file.starts_with("traces/openai__");
        for span in batch.spans() {
            let reading = read(span);
            let (Ok(usage), Some(estimate)) = (reading.usage, estimate(span, &reading)) else { continue };
            let is_near = |ours: Option<u64>, theirs: Option<u64>| {
                let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
                ours.abs_diff(theirs) * 20 <= theirs || ours.abs_diff(theirs) <= 3
            };
            outputs[usize::from(!is_near(estimate.usage.output, usage.output))] += 1;
            if is_original {
                let near = is_near(estimate.usage.input, usage.input);
                inputs[usize::from(!near)] += 1;
                far.extend((!near).then(|| format!("{file} {}", span.name())));
            }
        }
    }
    // A server of another maker, and two calls whose instructions are not on the span.
    let expected = [
        "traces/openai__181.pb openai.response",
        "traces/openai__182.pb openai.response",
        "traces/openai__44.pb openai.chat",
    ];
    assert_eq!(far, expected);
    assert_eq!((inputs, outputs), ([19, 3], [272, 7]), "near and far");
}

/// Captures whose applications send the tools that the recorded answers belong to, and how many of their spans have
/// tools that the rule covers; several replay the same answers. The others send stand-ins, with one letter for a
/// description.
#[cfg(feature = "estimate")]
const WITH_TOOLS: &[(&str, usize)] = &[
    ("langchain", 2),
    ("litellm-run", 2),
    ("logfire-openai", 3),
    ("openinference-openai", 1),
    ("traceloop-node", 3),
    ("traceloop-node-b", 2),
    ("traceloop-openai-0400", 2),
    ("traceloop-openai-0624", 1),
    ("traceloop-sdk-0400", 5),
    ("traceloop-sdk-wire", 5),
];

/// The inputs of calls that offer tools, whatever the model answered (mostly calls of them), against the counts that
/// the provider returned. There is none that is far.
#[cfg(feature = "estimate")]
#[test]
fn inputs_with_tools_are_near_what_the_provider_counted() {
    use weir_processors::cost::estimate::input;

    let is_stand_in = |span: Span<'_>| {
        let is_letter = |text: &str| text.contains(r#""description":"d""#);
        ["gen_ai.tool.definitions", "ai.prompt.tools"].iter().any(|key| match span.attr(key) {
            Some(Value::Array(texts)) => texts.iter().any(|text| text.as_str().is_some_and(is_letter)),
            value => value.and_then(Value::as_str).is_some_and(is_letter),
        })
    };
    let (mut near, mut far) = (BTreeMap::<String, usize>::new(), Vec::new());
    for (file, batch) in batches() {
        for span in batch.spans().filter(|span| !is_stand_in(*span)) {
            let reading = read(span);
            let (Ok(usage), Some((ours, method))) = (reading.usage, input(span, &reading)) else { continue };
            let theirs = usage.input.unwrap();
            if !method.contains("+tools") {
                continue;
            }
            if ours.abs_diff(theirs) <= 3 {
                let (_, name) = file.split_once('/').unwrap();
                *near.entry(name.split_once("__").unwrap().0.to_owned()).or_default() += 1;
            } else {
                far.push(format!("{file} {}: {ours} for {theirs}", span.name()));
            }
        }
    }
    let near: Vec<_> = near.iter().map(|(capture, n)| (capture.as_str(), *n)).collect();
    assert_eq!((near.as_slice(), far), (WITH_TOOLS, Vec::new()));
}
