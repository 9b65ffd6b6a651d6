//! Foreign bytes as a trace request: what Weir accepts prost accepts, reads alike, and still does after an edit. As a request
//! of metrics or logs: what is accepted can be edited, and is counted right.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Request;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use weir_pipeline::batch::wire::{Fault, put_bytes};
use weir_pipeline::batch::{Batch, NewValue, Piece};
use weir_pipeline::signal::Signal;

fuzz_target!(|bytes: &[u8]| {
    for signal in [Signal::Metrics, Signal::Logs] {
        if let Ok(batch) = Batch::decode(signal, Bytes::copy_from_slice(bytes)) {
            edit_records(batch);
        }
    }
    let batch = Batch::decode(Signal::Traces, Bytes::copy_from_slice(bytes));
    let request = Request::decode(bytes);
    let (mut batch, mut request) = match (batch, request) {
        (Ok(batch), Ok(request)) => (batch, request),
        (Ok(_), Err(error)) => panic!("prost refuses what the batch accepts: {error}"),
        (Err(error), Ok(_)) => {
            let is_known = matches!(error.fault, Fault::Twice | Fault::IdLength(..));
            return assert!(is_known, "prost accepts what the batch refuses: {error}");
        }
        (Err(_), Err(_)) => return,
    };
    assert_eq!(batch.encode(), bytes);
    let mut spans = request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans);
    batch.for_each_mut(|view| {
        let span = spans.next().expect("as many spans as prost");
        let fields = view.view().fields();
        assert_eq!(fields.trace_id, span.trace_id);
        assert_eq!(fields.span_id, span.span_id);
        assert_eq!(fields.name, span.name.as_str());
        assert_eq!(fields.kind, span.kind);
        assert_eq!(fields.end_time_unix_nano, span.end_time_unix_nano);
        assert_eq!(view.view().end_time_unix_nano(), span.end_time_unix_nano);
        let keys: Vec<String> = view.view().attributes().map(|(k, _)| k.to_string()).collect();
        assert_eq!(keys, span.attributes.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>());
        assert_eq!(view.view().events().count(), span.events.len());
        assert_eq!(pieces(view.view()).encode_to_vec(), span.encode_to_vec());
        // Every other attribute goes, one comes.
        for key in keys.iter().step_by(2) {
            view.remove(key);
            span.attributes.retain(|kv| kv.key != *key);
        }
        view.set("weir", NewValue::Int(-1));
        span.attributes.retain(|kv| kv.key != "weir");
        span.attributes.push(opentelemetry_proto::tonic::common::v1::KeyValue {
            key: "weir".into(),
            value: Some(opentelemetry_proto::tonic::common::v1::AnyValue {
                value: Some(opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue(-1)),
            }),
            key_strindex: 0,
        });
    });
    assert!(spans.next().is_none(), "as many spans as prost");
    let encoded = Request::decode(batch.encode()).expect("what is encoded is valid");
    assert_eq!(encoded.encode_to_vec(), request.encode_to_vec());
});

/// A span from its pieces.
fn pieces(span: weir_pipeline::batch::Span<'_>) -> Span {
    let mut message = Vec::new();
    let mut own = span.own_messages();
    span.pieces(|piece| match piece {
        Piece::Fields(fields) => message.extend_from_slice(fields),
        Piece::Noted(_) => put_bytes(&mut message, 9, own.next().expect("it is one of the span's own")),
        Piece::Attribute(attribute) => {
            assert_eq!(own.next(), Some(attribute));
            put_bytes(&mut message, 9, attribute);
        }
    });
    Span::decode(&message[..]).expect("the pieces are a span")
}

/// Changes every data point or log record and leaves out every third metric or record.
fn edit_records(mut batch: Batch) {
    let (before, mut n) = (batch.len(), 0);
    batch.for_each_metric_mut(|metric| metric.for_each_data_point(|point| point.set("weir", NewValue::Int(-1))));
    let metrics = batch.retain_metrics(|_| {
        n += 1;
        n % 3 > 0
    });
    let records = batch.retain_log_records_mut(|record| {
        n += 1;
        record.attributes().set("weir", NewValue::Int(-1));
        n % 3 > 0
    });
    assert_eq!(batch.len() + metrics + records, before);
    let again = Batch::decode(batch.signal(), batch.encode()).expect("what is encoded is valid");
    assert_eq!(again.len(), batch.len());
}
