//! What the processors cost that every configuration has: `cargo bench -p weir-processors --bench chain`.
//!
//! One request of 100 LLM spans of about 1.7 KB; divide by 100. `none` is what indexing alone costs, and each of the
//! others indexes, runs and encodes.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{put_bytes, put_uint};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_processors::{attributes, filter, probabilistic_sampler, resource, span};

/// What the binary runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS: u64 = 100;

fn wrap(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, body);
    out
}

fn attribute(number: u32, key: &str, any: &[u8]) -> Vec<u8> {
    wrap(number, &[wrap(1, key.as_bytes()), wrap(2, any)].concat())
}

/// A request as OpenLLMetry sends it: 24 attributes a span, most of the bytes in messages.
fn request() -> Bytes {
    let text = |key: &str, value: &str| attribute(9, key, &wrap(1, value.as_bytes()));
    let int = |key: &str, value: u64| {
        let mut any = Vec::new();
        put_uint(&mut any, 3, value);
        attribute(9, key, &any)
    };
    let spans: Vec<u8> = (0..SPANS)
        .flat_map(|n| {
            let message = "The weir keeps the level of the stream and measures what passes over it. ".repeat(4);
            let mut span =
                wrap(1, &(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes());
            span.extend(wrap(2, &(n + 1).to_be_bytes()));
            span.extend(wrap(5, if n % 10 == 0 { b"GET /health" } else { b"openai.chat" }));
            put_uint(&mut span, 6, 3);
            for (key, value) in [
                ("gen_ai.system", "openai"),
                ("gen_ai.request.model", "gpt-4o-mini"),
                ("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
                ("gen_ai.response.id", "chatcmpl-0123456789abcdef0123456789abcdef"),
                ("llm.request.type", "chat"),
                ("gen_ai.openai.api_base", "https://api.openai.com/v1/"),
                ("gen_ai.prompt.0.role", "system"),
                ("gen_ai.prompt.0.content", &message),
                ("gen_ai.prompt.1.role", "user"),
                ("gen_ai.prompt.1.content", &message),
                ("gen_ai.completion.0.role", "assistant"),
                ("gen_ai.completion.0.finish_reason", "stop"),
                ("gen_ai.completion.0.content", &message),
                ("traceloop.workflow.name", "answer_question"),
                ("traceloop.entity.path", "retrieve.generate"),
                ("traceloop.association.properties.user_id", "user-4711"),
                ("traceloop.association.properties.session_id", "session-0815"),
                ("http.status_code", "200"),
            ] {
                span.extend(text(key, value));
            }
            for (key, value) in [
                ("gen_ai.request.max_tokens", 1024),
                ("gen_ai.usage.input_tokens", 412),
                ("gen_ai.usage.output_tokens", 96),
                ("llm.usage.total_tokens", 508),
            ] {
                span.extend(int(key, value));
            }
            wrap(2, &span)
        })
        .collect();
    let resource: Vec<u8> = [("service.name", "checkout"), ("deployment.environment.name", "prod"), ("host.name", "a")]
        .iter()
        .flat_map(|(key, value)| attribute(1, key, &wrap(1, value.as_bytes())))
        .collect();
    wrap(1, &[wrap(1, &resource), wrap(2, &spans)].concat()).into()
}

type Build = fn(&Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError>;

fn processor(build: Build, yaml: &str) -> Box<dyn Processor> {
    let node = Node::parse("bench.yaml", yaml).unwrap();
    let context = Context::new("bench", Telemetry::default(), Environment::with(|| 0, 1));
    build(&Section { node: &node, path: "processors::bench", signals: &[], context }).unwrap().create(0)
}

/// A name, processors, and how many of the 100 spans they keep at least and at most.
type Case = (&'static str, Vec<Box<dyn Processor>>, RangeInclusive<usize>);

fn cases() -> Vec<Case> {
    const ATTRIBUTES: &str = "actions:
      - {key: team, value: search, action: insert}
      - {key: traceloop.association.properties.user_id, action: hash}
      - {key: gen_ai.prompt.0.content, action: delete}
      - {key: http.status_code, action: convert, converted_type: int}
      - {key: absent, value: x, action: update}";
    const FILTER: &str = "spans: {exclude: {match_type: regexp, span_names: [^GET /health], services: [^check]}}";
    const BY_ATTRIBUTE: &str =
        "spans: {include: {match_type: strict, attributes: [{key: gen_ai.system, value: openai}]}}";
    let sampler =
        |mode: &str| processor(probabilistic_sampler::build, &format!("{{mode: {mode}, sampling_percentage: 50}}"));
    let attributes = || processor(attributes::build, ATTRIBUTES);
    vec![
        ("none", vec![], 100..=100),
        ("attributes, 5 actions", vec![attributes()], 100..=100),
        (
            "resource, 2 actions",
            vec![processor(
                resource::build,
                "attributes: [{key: env, value: prod, action: upsert}, {key: host.name, action: delete}]",
            )],
            100..=100,
        ),
        (
            "span, name of attributes",
            vec![processor(
                span::build,
                "name: {from_attributes: [llm.request.type, gen_ai.request.model], separator: ' '}",
            )],
            100..=100,
        ),
        ("filter by name and service", vec![processor(filter::build, FILTER)], 90..=90),
        ("filter by attribute", vec![processor(filter::build, BY_ATTRIBUTE)], 100..=100),
        ("sampler hash_seed 50 %", vec![sampler("hash_seed")], 30..=70),
        ("sampler proportional 50 %", vec![sampler("proportional")], 30..=70),
        (
            "filter, attributes, sampler",
            vec![processor(filter::build, FILTER), attributes(), sampler("proportional")],
            25..=65,
        ),
    ]
}

fn chain(c: &mut Criterion) {
    let bytes = request();
    let mut group = c.benchmark_group(format!("chain/{SPANS} spans of {} bytes", bytes.len() as u64 / SPANS));
    group.throughput(Throughput::Elements(SPANS));
    for (name, mut chain, kept) in cases() {
        let mut run = || {
            let mut batch = Some(Batch::decode(Signal::Traces, black_box(&bytes).clone()).unwrap());
            for processor in &mut chain {
                let mut out = None;
                if let Some(batch) = batch {
                    processor.process(batch, &mut |b| out = Some(b));
                }
                batch = out;
            }
            batch.map(|b| (b.len(), b.encode()))
        };
        let (len, _) = run().unwrap();
        assert!(kept.contains(&len), "{name} keeps {len}");
        group.bench_function(name, |b| b.iter(&mut run));
    }
    group.finish();
}

criterion_group!(benches, chain);
criterion_main!(benches);
