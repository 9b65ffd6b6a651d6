//! What the store adds to encoding Parquet.
//!
//! `write_files` is everything from batches to uploaded files: reading, sorting, columns, Parquet. `encode_alone` encodes
//! the very same columns, made and sorted beforehand, with the same properties. Their ratio is the price of getting
//! there; it is printed first, as CPU time of the only thread (Linux), with both taking turns. So is the ratio that
//! counts from the bytes of the requests on: decoding them is what every pipeline does once, whatever comes behind.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot run has no result")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use object_store::memory::InMemory;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;
use weir_store::arrow::array::RecordBatch;
use weir_store::convert::{Converter, Rows, Stamp};
use weir_store::parquet::arrow::ArrowWriter;
use weir_store::schema::PARTITION_COLUMNS;
use weir_store::writer::{properties, write_files};

const REQUESTS: usize = 200;
const SPANS_PER_REQUEST: usize = 100;
const SPANS: usize = REQUESTS * SPANS_PER_REQUEST;
const ROUNDS: usize = 15;

/// What the binary runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn store(c: &mut Criterion) {
    let mut random = Random(88_172_645_463_325_252);
    let requests: Vec<Bytes> = (0..REQUESTS).map(|n| request(n, &mut random)).collect();
    let bytes: usize = requests.iter().map(Bytes::len).sum();
    let decode = || -> Vec<Batch> {
        requests.iter().map(|bytes| Batch::decode(Signal::Traces, bytes.clone()).unwrap()).collect()
    };
    let loads = decode();
    let loads: Vec<&Batch> = loads.iter().collect();
    let batches = columns(&loads);
    let file = encode(&batches);
    println!("{} bytes of OTLP, {} bytes of Parquet a span", bytes / SPANS, file.len() / SPANS);

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let write = || {
        let files = runtime.block_on(write_files(Arc::new(InMemory::new()), &loads, &stamp())).unwrap();
        assert_eq!(files.len(), 1);
    };
    let (mut decoded, mut whole, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        decoded.push(cpu_time(|| drop(black_box(decode()))));
        whole.push(cpu_time(write));
        alone.push(cpu_time(|| drop(black_box(encode(&batches)))));
    }
    let (decoded, whole, alone) = (median(decoded), median(whole), median(alone));
    println!("CPU a span: decode {decoded:.0} ns, write_files {whole:.0} ns, encode_alone {alone:.0} ns");
    println!("ratio {:.2}, with decode {:.2}", whole / alone, (decoded + whole) / alone);

    let mut group = c.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Elements(SPANS as u64));
    group.bench_function("write_files", |b| b.iter(write));
    group.bench_function("encode_alone", |b| b.iter(|| black_box(encode(&batches))));
    group.bench_function("columns_alone", |b| b.iter(|| black_box(columns(&loads))));
    group.finish();
}

/// CPU time of this thread for `work`, in nanoseconds a span. The kernel counts in ticks of some milliseconds.
fn cpu_time(work: impl FnOnce()) -> f64 {
    let now = || -> f64 {
        let all = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        all.split(' ').next().unwrap().parse().unwrap()
    };
    let start = now();
    work();
    (now() - start) / SPANS as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn stamp() -> Stamp {
    Stamp { ingest_micros: 1_795_248_000_000_000, source: "writer/bench".to_owned(), seq: 1 }
}

/// Sorted columns, as `write_files` makes them.
fn columns(batches: &[&Batch]) -> Vec<RecordBatch> {
    let mut rows = Rows::default();
    batches.iter().for_each(|batch| rows.add(batch));
    rows.sort();
    let mut converter = Converter::default();
    let parts = rows.parts(0..rows.len());
    let batch = |part| {
        let batch = converter.convert(&rows, part, &stamp()).unwrap();
        let kept: Vec<usize> = batch
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| !PARTITION_COLUMNS.contains(&f.name().as_str()))
            .map(|(n, _)| n)
            .collect();
        batch.project(&kept).unwrap()
    };
    parts.into_iter().map(batch).collect()
}

fn encode(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties(SPANS))).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

// === Spans as an instrumented LLM application sends them ===

fn request(n: usize, random: &mut Random) -> Bytes {
    let resource = [
        ("service.name", "shop-assistant"),
        ("service.version", "1.4.2"),
        ("deployment.environment.name", "production"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.38.0"),
        ("host.name", "node-7"),
    ];
    let resource = resource.into_iter().map(|(key, value)| string(key, value)).collect();
    let scope = InstrumentationScope {
        name: "opentelemetry.instrumentation.openai.v1".to_owned(),
        version: "0.62.1".to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = (0..SPANS_PER_REQUEST).map(|m| span(n * SPANS_PER_REQUEST + m, random)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn span(n: usize, random: &mut Random) -> Span {
    let trace = (n as u64 / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = 1_795_248_000_000_000_000 + n as u64 * 3_000_000 + random.below(1_000_000);
    let message =
        |role: &str, text: String| format!(r#"[{{"role":"{role}","parts":[{{"type":"text","content":"{text}"}}]}}]"#);
    let (input, output) = (random.words(60), random.words(35));
    let tokens = 100 + random.below(900) as i64;
    let attributes = vec![
        string("gen_ai.provider.name", "openai"),
        string("gen_ai.operation.name", "chat"),
        string("gen_ai.request.model", "gpt-4o-mini"),
        string("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
        string("gen_ai.response.id", &format!("chatcmpl-{:016x}", random.next())),
        attribute("gen_ai.request.temperature", Value::DoubleValue(0.7)),
        attribute("gen_ai.request.max_tokens", Value::IntValue(1024)),
        attribute("gen_ai.is_streaming", Value::BoolValue(false)),
        attribute("gen_ai.usage.input_tokens", Value::IntValue(tokens)),
        attribute("gen_ai.usage.output_tokens", Value::IntValue(120)),
        attribute("gen_ai.usage.total_tokens", Value::IntValue(tokens + 120)),
        attribute("gen_ai.usage.cache_read.input_tokens", Value::IntValue(0)),
        string("gen_ai.openai.api_base", "https://api.openai.com/v1/"),
        string("server.address", "api.openai.com"),
        string("traceloop.workflow.name", "answer_question"),
        string("traceloop.entity.path", "retrieve.generate"),
        string("traceloop.association.properties.user_id", &format!("user-{}", random.below(500))),
        string("traceloop.association.properties.session_id", &format!("{:x}", trace)),
        string("traceloop.association.properties.tenant", "blue"),
        string("gen_ai.usage.cost.amount", "0.000123450000"),
        string("gen_ai.usage.cost.currency", "USD"),
        string("weir.cost.input", "0.000100000000"),
        string("weir.cost.output", "0.000023450000"),
        string("weir.cost.price_id", "openai/gpt-4o-mini"),
        string("weir.cost.catalog", "2026-11-20"),
        string("gen_ai.input.messages", &message("user", input)),
        string("gen_ai.output.messages", &message("assistant", output)),
    ];
    Span {
        trace_id: (u128::from(trace) << 64 | u128::from(!trace)).to_be_bytes().to_vec(),
        span_id: random.next().to_be_bytes().to_vec(),
        parent_span_id: trace.to_be_bytes().to_vec(),
        name: "openai.chat".to_owned(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 800_000_000 + random.below(400_000_000),
        attributes,
        status: Some(Status::default()),
        flags: 256,
        ..Span::default()
    }
}

fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Words of 2 to 9 letters from a vocabulary of some 3,000, the common ones more often.
    fn words(&mut self, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let word = (self.below(3000) * self.below(3000) / 3000).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let letters = (0..2 + (word >> 60) as usize % 8).map(|n| char::from(b'a' + (word >> (n * 6)) as u8 % 26));
            text.extend(letters);
            text.push(' ');
        }
        text
    }
}

criterion_group!(benches, store);
criterion_main!(benches);
