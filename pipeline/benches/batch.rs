//! What a batch costs per span: validate and index, read, edit, encode; beside prost doing the same.
//!
//! `llm` spans are OpenLLMetry-shaped, about 1.7 KB with prompts and completions; 100 of them are one request. Results
//! are per request: divide by 100.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use weir_pipeline::batch::{Batch, NewValue};
use weir_pipeline::signal::Signal;

fn request() -> ExportTraceServiceRequest {
    let string = |k: &str, v: &str| (k.to_owned(), Value::StringValue(v.to_owned()));
    let int = |k: &str, v: i64| (k.to_owned(), Value::IntValue(v));
    let text = "The weir keeps the level of the stream and measures what passes over it. ";
    let spans = (0..100u64)
        .map(|n| {
            let attributes = [
                string("gen_ai.system", "openai"),
                string("gen_ai.request.model", "gpt-4o-mini"),
                string("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
                string("gen_ai.response.id", &format!("chatcmpl-{n:032}")),
                string("llm.request.type", "chat"),
                ("llm.is_streaming".to_owned(), Value::BoolValue(false)),
                string("gen_ai.openai.api_base", "https://api.openai.com/v1/"),
                ("gen_ai.request.temperature".to_owned(), Value::DoubleValue(0.7)),
                int("gen_ai.request.max_tokens", 1024),
                int("gen_ai.usage.input_tokens", 412),
                int("gen_ai.usage.output_tokens", 96),
                int("llm.usage.total_tokens", 508),
                int("gen_ai.usage.cache_read_input_tokens", 0),
                string("gen_ai.prompt.0.role", "system"),
                string("gen_ai.prompt.0.content", &text.repeat(3)),
                string("gen_ai.prompt.1.role", "user"),
                string("gen_ai.prompt.1.content", &text.repeat(4)),
                string("gen_ai.completion.0.role", "assistant"),
                string("gen_ai.completion.0.finish_reason", "stop"),
                string("gen_ai.completion.0.content", &text.repeat(3)),
                string("traceloop.workflow.name", "answer_question"),
                string("traceloop.entity.path", "retrieve.generate"),
                string("traceloop.association.properties.user_id", "user-4711"),
                string("traceloop.association.properties.session_id", "session-0815"),
            ];
            Span {
                trace_id: (u128::from(n) << 64 | 0xfeed).to_be_bytes().to_vec(),
                span_id: (n + 1).to_be_bytes().to_vec(),
                parent_span_id: vec![7; 8],
                name: "openai.chat".into(),
                kind: 3,
                start_time_unix_nano: 1_790_000_000_000_000_000 + n,
                end_time_unix_nano: 1_790_000_001_000_000_000 + n,
                attributes: attributes
                    .into_iter()
                    .map(|(key, v)| KeyValue { key, value: Some(AnyValue { value: Some(v) }), key_strindex: 0 })
                    .collect(),
                ..Default::default()
            }
        })
        .collect();
    let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..Default::default() }] }
}

fn benches(c: &mut Criterion) {
    let bytes = Bytes::from(request().encode_to_vec());
    let mut group = c.benchmark_group(format!("llm spans of {} bytes, 100 a request", bytes.len() / 100));
    group.throughput(Throughput::Elements(100));
    let decode = |bytes: &Bytes| Batch::decode(Signal::Traces, bytes.clone()).unwrap();
    group.bench_function("validate and index", |b| b.iter(|| decode(black_box(&bytes))));
    let batch = decode(&bytes);
    group.bench_function("read every attribute key", |b| {
        b.iter(|| batch.spans().flat_map(|s| s.attributes()).map(|(k, _)| k.len()).sum::<usize>());
    });
    let edited = {
        let mut batch = decode(&bytes);
        batch.for_each_mut(|s| s.insert_absent("gen_ai.usage.cost.amount", NewValue::Str("0.0001194")));
        batch
    };
    group.bench_function("encode with one added attribute a span", |b| b.iter(|| black_box(&edited).encode()));
    let replaced = {
        let mut batch = decode(&bytes);
        batch.for_each_mut(|s| s.set("gen_ai.usage.cost.amount", NewValue::Str("0.0001194")));
        batch
    };
    group.bench_function("encode with one set attribute a span", |b| b.iter(|| black_box(&replaced).encode()));
    group.bench_function("decode, add one attribute a span, encode", |b| {
        b.iter(|| {
            let mut batch = decode(black_box(&bytes));
            batch.for_each_mut(|s| s.insert_absent("gen_ai.usage.cost.amount", NewValue::Str("0.0001194")));
            batch.encode()
        });
    });
    group.bench_function("prost: decode, add one attribute a span, encode", |b| {
        b.iter(|| {
            let mut request = ExportTraceServiceRequest::decode(black_box(&bytes).clone()).unwrap();
            for span in request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans) {
                let value = Some(AnyValue { value: Some(Value::StringValue("0.0001194".into())) });
                span.attributes.push(KeyValue { key: "gen_ai.usage.cost.amount".into(), value, key_strindex: 0 });
            }
            request.encode_to_vec()
        });
    });
    group.bench_function("copy", |b| b.iter(|| black_box(&bytes).to_vec()));
    group.finish();
}

/// A batch of texts embedded in one call, as OpenInference writes it: an array of doubles for each.
fn embeddings() -> ExportTraceServiceRequest {
    const TEXTS: u32 = 16;
    const NUMBERS: u32 = 1_536;
    let attributes = (0..TEXTS).map(|text| {
        let number = |n: u32| AnyValue { value: Some(Value::DoubleValue(f64::from(n * 16 + text).sin())) };
        let values = (0..NUMBERS).map(number).collect();
        KeyValue {
            key: format!("embedding.embeddings.{text}.embedding.vector"),
            value: Some(AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            key_strindex: 0,
        }
    });
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "CreateEmbeddings".into(),
        attributes: attributes.collect(),
        ..Default::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..Default::default() }] }
}

fn vectors(c: &mut Criterion) {
    let bytes = Bytes::from(embeddings().encode_to_vec());
    let mut group = c.benchmark_group("16 embeddings of 1,536 numbers");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("validate and index", |b| {
        b.iter(|| Batch::decode(Signal::Traces, black_box(&bytes).clone()).unwrap());
    });
    group.bench_function("prost: decode", |b| {
        b.iter(|| ExportTraceServiceRequest::decode(black_box(&bytes).clone()).unwrap());
    });
    group.finish();
}

criterion_group!(all, benches, vectors);
criterion_main!(all);
