//! What pricing one span costs: `cargo bench -p weir-processors --bench cost`.
//!
//! Times differ by the machine and the hour. The last group therefore decodes the same request with prost as well, and
//! what travels is the ratio to that: index, price and encode are to take 0.15 of prost's decode and encode.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::wire::{put_bytes, put_uint};
use weir_pipeline::batch::{Batch, KeyReader};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::graph::Section;
use weir_pipeline::node::Context;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_processors::cost::catalog::ProjectId;
use weir_processors::cost::{Catalog, CostStatus, Meaning, Pricer, UsageReader};

/// What the binary runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2025-06-10
const TIME: u64 = 1_749_513_600_000_000_000;

enum Attribute {
    Text(String),
    Int(i64),
    Bool(bool),
}

impl Attribute {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(s) => Value::Str(s.as_str().into()),
            Self::Int(n) => Value::Int(*n),
            Self::Bool(b) => Value::Bool(*b),
        }
    }
}

/// A chat as OpenLLMetry writes it: 25 attributes, most of them messages.
fn openllmetry(model: &str, operation: &str) -> Vec<(String, Attribute)> {
    let text = |s: &str| Attribute::Text(s.to_owned());
    let mut out = vec![
        ("llm.request.type".to_owned(), text(operation)),
        ("gen_ai.system".to_owned(), text("OpenAI")),
        ("gen_ai.request.model".to_owned(), text(model)),
        ("gen_ai.request.temperature".to_owned(), text("0.2")),
        ("llm.headers".to_owned(), text("None")),
        ("llm.is_streaming".to_owned(), Attribute::Bool(false)),
        ("gen_ai.openai.api_base".to_owned(), text("https://api.openai.com/v1/")),
    ];
    for n in 0..4 {
        out.push((format!("gen_ai.prompt.{n}.role"), text("user")));
        out.push((format!("gen_ai.prompt.{n}.content"), text(&"a question ".repeat(20))));
    }
    out.extend([
        ("gen_ai.response.model".to_owned(), text(model)),
        ("gen_ai.response.id".to_owned(), text("chatcmpl-AAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("gen_ai.openai.system_fingerprint".to_owned(), text("fp_0123456789")),
        ("llm.usage.total_tokens".to_owned(), Attribute::Int(1_157)),
        ("gen_ai.usage.prompt_tokens".to_owned(), Attribute::Int(1_149)),
        ("gen_ai.usage.completion_tokens".to_owned(), Attribute::Int(8)),
        ("gen_ai.usage.cache_read_input_tokens".to_owned(), Attribute::Int(1_024)),
        ("gen_ai.completion.0.finish_reason".to_owned(), text("stop")),
        ("gen_ai.completion.0.role".to_owned(), text("assistant")),
        ("gen_ai.completion.0.content".to_owned(), text(&"an answer ".repeat(20))),
    ]);
    out
}

fn views(attributes: &[(String, Attribute)]) -> Vec<(&[u8], Value<'_>)> {
    attributes.iter().map(|(key, attribute)| (key.as_bytes(), attribute.value())).collect()
}

fn price(c: &mut Criterion) {
    let catalog = Catalog::embedded().expect("the embedded catalog loads");
    let cases = [
        ("priced", "gpt-4o-2024-08-06", "chat", CostStatus::Priced),
        ("tiered_and_dated", "gpt-5.6-luna", "chat", CostStatus::Priced),
        ("unknown_model", "a-model-nobody-knows-2024-08-06", "chat", CostStatus::UnknownModel),
    ];
    for (name, model, operation, status) in cases {
        let attributes = openllmetry(model, operation);
        let views = views(&attributes);
        assert_eq!(views.len(), 25);
        let mut pricer = Pricer::new(catalog.clone());
        assert_eq!(pricer.price(views.iter().copied(), "", TIME).status, status);
        c.bench_function(&format!("cost/span/{name}"), |b| {
            b.iter(|| {
                let priced = pricer.price(black_box(&views).iter().copied(), "openai", black_box(TIME));
                (priced.status, priced.cost.map(|cost| cost.total.to_f64()), priced.price_id.map(str::len))
            });
        });
    }
}

fn parts(c: &mut Criterion) {
    let catalog = Catalog::embedded().expect("the embedded catalog loads");
    let attributes = openllmetry("gpt-4o-2024-08-06", "chat");
    let views = views(&attributes);
    c.bench_function("cost/usage", |b| {
        b.iter(|| {
            let mut reader = UsageReader::default();
            for (key, value) in black_box(&views) {
                reader.visit(key, *value);
            }
            reader.finish("").usage
        });
    });

    let prompts: Vec<_> = views.iter().copied().filter(|(key, _)| key.starts_with(b"gen_ai.prompt.")).collect();
    c.bench_function(&format!("cost/usage/{} keys of others", prompts.len()), |b| {
        let mut reader = UsageReader::default();
        b.iter(|| {
            for (key, value) in black_box(&prompts) {
                reader.visit(key, *value);
            }
        });
    });

    let plain: Vec<_> =
        views.iter().copied().filter(|(key, _)| !key.starts_with(b"gen_ai.") && !key.starts_with(b"llm.u")).collect();
    let mut pricer = Pricer::new(catalog.clone());
    let mut n = 0u64;
    c.bench_function("cost/span/a new model name each time", |b| {
        b.iter(|| {
            n += 1;
            let model = format!("a-model-nobody-knows-{n}");
            let more = [
                (&b"gen_ai.system"[..], Value::Str("openai".into())),
                (b"gen_ai.request.model", Value::Str(model.as_str().into())),
                (b"gen_ai.usage.input_tokens", Value::Int(5)),
                (b"gen_ai.usage.output_tokens", Value::Int(5)),
            ];
            pricer.price(plain.iter().copied().chain(more), "", TIME).status
        });
    });
    c.bench_function("cost/price display", |b| {
        let mut pricer = Pricer::new(catalog.clone());
        let cost = pricer.price(views.iter().copied(), "", TIME).cost.expect("it is priced");
        b.iter(|| black_box(&cost).total.to_string());
    });
    let json = include_str!("../catalog/catalog.json");
    c.bench_function("cost/catalog parse and check", |b| b.iter(|| Catalog::parse(json).map(|c| c.model_count())));
}

/// A request of 100 such spans, about 1.7 KB each.
fn request() -> Bytes {
    let field = |number: u32, body: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, body);
        out
    };
    let attribute = |(key, attribute): &(String, Attribute)| {
        let mut value = Vec::new();
        match attribute {
            Attribute::Text(s) => put_bytes(&mut value, 1, s.as_bytes()),
            Attribute::Int(n) => put_uint(&mut value, 3, *n as u64),
            Attribute::Bool(b) => put_uint(&mut value, 2, u64::from(*b)),
        }
        field(9, &[field(1, key.as_bytes()), field(2, &value)].concat())
    };
    let span = |n: u8| {
        let mut attributes = openllmetry("gpt-4o-2024-08-06", "chat");
        for (key, value) in &mut attributes {
            if key == "gen_ai.response.id" {
                *value = Attribute::Text(format!("chatcmpl-AAAAAAAAAAAAAAAAAAAAAAAAAA{n:03}"));
            }
        }
        let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
        let ids = [field(1, &[n; 16]), field(2, &[n; 8]), field(4, &[7; 8])].concat();
        field(2, &[ids, field(5, b"openai.chat"), attributes].concat())
    };
    let spans: Vec<u8> = (1..=100).flat_map(span).collect();
    field(1, &field(2, &spans)).into()
}

/// The whole of what a collector does to a request between receiving and sending it. Divide by 100.
fn node(c: &mut Criterion) {
    let context = Context::new("cost", Telemetry::default(), Environment::with(|| TIME, 1));
    let section = Section { node: &Node::null("bench.yaml"), path: "processors::cost", signals: &[], context };
    let mut cost = weir_processors::cost::build(&section).expect("it has no settings").create(0);
    let bytes = request();
    let mut group = c.benchmark_group(format!("cost/100 spans of {} bytes", bytes.len() / 100));
    group.throughput(Throughput::Elements(100));
    let decode = || Batch::decode(Signal::Traces, black_box(&bytes).clone()).expect("it is valid");
    let prost = || ExportTraceServiceRequest::decode(black_box(&bytes).clone()).expect("it is valid");
    group.bench_function("prost decode", |b| b.iter(prost));
    group.bench_function("prost decode, encode", |b| b.iter(|| prost().encode_to_vec()));
    group.bench_function("index", |b| b.iter(decode));
    // As the processor reads a request: what keys mean is found out once.
    let (batch, catalog) = (decode(), Catalog::embedded().expect("it is valid"));
    let (mut keys, mut pricer) = (KeyReader::new(Meaning::of), Pricer::new(catalog));
    group.bench_function("usage, match, arithmetic", |b| {
        b.iter(|| {
            let mut priced = 0;
            for span in black_box(&batch).spans() {
                let mut reader = UsageReader::default();
                span.read_to(&mut keys, &mut reader);
                let (reading, found) = pricer.read(&mut reader, "opentelemetry.instrumentation.openai.v1");
                let found = pricer.price_found(&reading, found, span.end_time_unix_nano(), ProjectId::default());
                priced += usize::from(black_box(found).status == CostStatus::Priced);
            }
            assert_eq!(priced, 100);
        });
    });
    group.bench_function("index, price, encode", |b| {
        b.iter(|| {
            let mut encoded = Bytes::new();
            cost.process(decode(), &mut |batch| encoded = batch.encode());
            encoded
        });
    });
    group.finish();
}

criterion_group!(benches, price, parts, node);
criterion_main!(benches);
