//! Edits of log records and data points against prost: what comes out is exactly what the edits say, whatever else a
//! request holds, and what they do not touch keeps its bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest as Logs;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Metrics;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message as _;
use weir_pipeline::batch::wire::{Fields, put_bytes, put_tag, put_uint};
use weir_pipeline::batch::{AttributesMut, Batch, NewValue, message_of};
use weir_pipeline::otlp::schema::Message;
use weir_pipeline::signal::Signal;

#[derive(Debug, Clone)]
enum Edit {
    Set(String, i64),
    Remove(String),
    Drop,
}

/// Edits of the nth record or data point.
type Edits = Vec<(usize, Edit)>;

fn arb_edits() -> impl Strategy<Value = Edits> {
    let key = || prop_oneof![Just(String::new()), Just("a".to_owned()), Just("gen_ai.request.model".to_owned())];
    let edit = prop_oneof![
        2 => (key(), any::<i64>()).prop_map(|(key, value)| Edit::Set(key, value)),
        2 => key().prop_map(Edit::Remove),
        1 => Just(Edit::Drop),
    ];
    proptest::collection::vec((0..8usize, edit), 0..12)
}

fn apply(attributes: &mut AttributesMut<'_>, edits: &Edits, n: usize) {
    for (_, edit) in edits.iter().filter(|(target, _)| *target == n) {
        match edit {
            Edit::Set(key, value) => attributes.set(key, NewValue::Int(*value)),
            Edit::Remove(key) => attributes.remove(key),
            Edit::Drop => {}
        }
    }
}

fn apply_to_prost(attributes: &mut Vec<KeyValue>, edits: &Edits, n: usize) {
    for (_, edit) in edits.iter().filter(|(target, _)| *target == n) {
        match edit {
            Edit::Set(key, value) => {
                attributes.retain(|kv| kv.key != *key);
                let value = Some(AnyValue { value: Some(Any::IntValue(*value)) });
                attributes.push(KeyValue { key: key.clone(), value, key_strindex: 0 });
            }
            Edit::Remove(key) => attributes.retain(|kv| kv.key != *key),
            Edit::Drop => {}
        }
    }
}

fn is_dropped(edits: &Edits, n: usize) -> bool {
    edits.iter().any(|(target, edit)| *target == n && matches!(edit, Edit::Drop))
}

/// Counts calls.
fn counter() -> impl FnMut() -> usize {
    let mut next = 0;
    move || {
        next += 1;
        next - 1
    }
}

/// Whether what had something has nothing left.
fn is_emptied<T>(items: &mut Vec<T>, keep: impl FnMut(&mut T) -> bool) -> bool {
    let had_any = !items.is_empty();
    items.retain_mut(keep);
    had_any && items.is_empty()
}

fn edited_logs(bytes: Vec<u8>, edits: &Edits) -> (Batch, usize) {
    let mut batch = Batch::decode(Signal::Logs, bytes.into()).unwrap();
    let mut next = counter();
    let dropped = batch.retain_log_records_mut(|record| {
        let n = next();
        apply(record.attributes(), edits, n);
        !is_dropped(edits, n)
    });
    (batch, dropped)
}

fn edited_logs_of_prost(mut request: Logs, edits: &Edits) -> Logs {
    let mut next = counter();
    request.resource_logs.retain_mut(|resource| {
        !is_emptied(&mut resource.scope_logs, |scope| {
            !is_emptied(&mut scope.log_records, |record| {
                let n = next();
                apply_to_prost(&mut record.attributes, edits, n);
                !is_dropped(edits, n)
            })
        })
    });
    request
}

fn log_records(request: &Logs) -> usize {
    request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum()
}

fn edited_metrics(bytes: Vec<u8>, edits: &Edits) -> (Batch, usize) {
    let mut batch = Batch::decode(Signal::Metrics, bytes.into()).unwrap();
    let mut next = counter();
    batch.for_each_metric_mut(|metric| metric.for_each_data_point(|point| apply(point, edits, next())));
    let mut next = counter();
    let dropped = batch.retain_metrics(|_| !is_dropped(edits, next()));
    (batch, dropped)
}

/// The attributes of all data points of a metric.
fn points(data: &mut Option<Data>) -> Vec<&mut Vec<KeyValue>> {
    match data {
        None => Vec::new(),
        Some(Data::Gauge(gauge)) => gauge.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Some(Data::Sum(sum)) => sum.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Some(Data::Histogram(histogram)) => histogram.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Some(Data::ExponentialHistogram(h)) => h.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
        Some(Data::Summary(summary)) => summary.data_points.iter_mut().map(|p| &mut p.attributes).collect(),
    }
}

fn edited_metrics_of_prost(mut request: Metrics, edits: &Edits) -> Metrics {
    let (mut next_point, mut next_metric) = (counter(), counter());
    request.resource_metrics.retain_mut(|resource| {
        !is_emptied(&mut resource.scope_metrics, |scope| {
            !is_emptied(&mut scope.metrics, |metric| {
                for attributes in points(&mut metric.data) {
                    apply_to_prost(attributes, edits, next_point());
                }
                !is_dropped(edits, next_metric())
            })
        })
    });
    request
}

fn data_points(request: &Metrics) -> usize {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    metrics.map(|metric| points(&mut metric.data.clone()).len()).sum()
}

/// The same message with fields that nobody knows at the beginning of it and of the messages in it, attributes aside.
fn with_unknown_fields(kind: &'static Message, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 900, b"unknown");
    put_tag(&mut out, 901, 3);
    put_uint(&mut out, 6, 7);
    put_tag(&mut out, 901, 4);
    for field in Fields::new(message) {
        match kind.field(field.number).and_then(|f| f.kind.message()).filter(|inner| inner.name != "KeyValue") {
            Some(inner) => put_bytes(&mut out, field.number, &with_unknown_fields(inner, field.bytes)),
            None => out.extend_from_slice(&message[field.start..field.end]),
        }
    }
    out
}

proptest! {
    #[test]
    fn edits_of_log_records_agree_with_prost(request in support::arb_logs(), edits in arb_edits()) {
        let bytes = request.encode_to_vec();
        let (batch, dropped) = edited_logs(bytes.clone(), &edits);
        let expected = edited_logs_of_prost(request.clone(), &edits);
        prop_assert_eq!(batch.len(), log_records(&expected));
        prop_assert_eq!(batch.len() + dropped, log_records(&request));
        let encoded = batch.encode();
        if edits.is_empty() {
            prop_assert_eq!(&encoded, &bytes);
        }
        // A batch that has lost its last record forgets containers that came empty.
        if dropped == 0 || !batch.is_empty() {
            prop_assert_eq!(Logs::decode(encoded.clone()).unwrap().encode_to_vec(), expected.encode_to_vec());
            let kind = message_of(Signal::Logs);
            let (unknown, _) = edited_logs(with_unknown_fields(kind, &bytes), &edits);
            prop_assert_eq!(unknown.encode(), with_unknown_fields(kind, &encoded));
        }
    }

    #[test]
    fn edits_of_data_points_agree_with_prost(request in support::arb_metrics(), edits in arb_edits()) {
        let bytes = request.encode_to_vec();
        let (batch, dropped) = edited_metrics(bytes.clone(), &edits);
        let expected = edited_metrics_of_prost(request.clone(), &edits);
        prop_assert_eq!(batch.len(), data_points(&expected));
        prop_assert_eq!(batch.len() + dropped, data_points(&request));
        let encoded = batch.encode();
        if edits.is_empty() {
            prop_assert_eq!(&encoded, &bytes);
        }
        if dropped == 0 || !batch.is_empty() {
            // NaN is not equal to itself: bytes are.
            prop_assert_eq!(Metrics::decode(encoded.clone()).unwrap().encode_to_vec(), expected.encode_to_vec());
            let kind = message_of(Signal::Metrics);
            let (unknown, _) = edited_metrics(with_unknown_fields(kind, &bytes), &edits);
            prop_assert_eq!(unknown.encode(), with_unknown_fields(kind, &encoded));
        }
    }

    #[test]
    fn views_show_what_prost_shows(logs in support::arb_logs(), metrics in support::arb_metrics()) {
        let mut batch = Batch::decode(Signal::Logs, logs.encode_to_vec().into()).unwrap();
        let mut shown = Vec::new();
        batch.for_each_log_record_mut(|record| {
            let record = record.view();
            assert_eq!(record.attr("a").map(|v| format!("{v:?}")), record.attributes().get("a").map(|v| format!("{v:?}")));
            let keys: Vec<String> = record.attributes().iter().map(|(key, _)| key.to_string()).collect();
            let resource: Vec<String> = record.resource().attributes().iter().map(|(key, _)| key.to_string()).collect();
            let body = record.body().as_str().map(str::to_owned);
            let scope = record.scope().name().to_string();
            shown.push((
                (resource, scope, keys, body),
                (record.severity_number(), record.severity_text().to_string(), record.trace_id().to_vec()),
            ));
        });
        let keys = |attributes: &[KeyValue]| attributes.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
        let mut expected = Vec::new();
        for r in &logs.resource_logs {
            for s in &r.scope_logs {
                for record in &s.log_records {
                    let body = match record.body.as_ref().and_then(|body| body.value.clone()) {
                        Some(Any::StringValue(text)) => Some(text),
                        _ => None,
                    };
                    expected.push((
                        (
                            r.resource.as_ref().map_or(Vec::new(), |r| keys(&r.attributes)),
                            s.scope.as_ref().map_or(String::new(), |s| s.name.clone()),
                            keys(&record.attributes),
                            body,
                        ),
                        (record.severity_number, record.severity_text.clone(), record.trace_id.clone()),
                    ));
                }
            }
        }
        prop_assert_eq!(shown, expected);
        let mut names = Vec::new();
        let mut batch = Batch::decode(Signal::Metrics, metrics.encode_to_vec().into()).unwrap();
        batch.for_each_metric_mut(|metric| names.push(metric.view().name().to_string()));
        let all = metrics.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
        prop_assert_eq!(names, all.map(|metric| metric.name.clone()).collect::<Vec<_>>());
    }

    /// Bytes that are no request are refused before, and what was accepted never makes an edit fail.
    #[test]
    fn foreign_bytes_never_panic(
        signal in prop::sample::select(vec![Signal::Logs, Signal::Metrics]),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        edits in arb_edits(),
    ) {
        if Batch::decode(signal, bytes.clone().into()).is_ok() {
            let (batch, _) = match signal {
                Signal::Logs => edited_logs(bytes, &edits),
                _ => edited_metrics(bytes, &edits),
            };
            prop_assert!(Batch::decode(signal, batch.encode()).is_ok());
        }
    }
}

#[test]
fn what_is_not_touched_keeps_the_spelling_of_its_lengths() {
    // Two records, of which the first has a length of two bytes where one would do, as have all around it.
    let first = [0x12, 0x82, 0x00, 0x10, 9];
    let second = [0x12, 0x02, 0x10, 17];
    let group = [&[0x12, 0x80 + 9, 0x00][..], &first, &second].concat();
    let request = [&[0x0a, 0x80 + 12, 0x00][..], &group].concat();
    let mut batch = Batch::decode(Signal::Logs, request.clone().into()).unwrap();
    assert_eq!(batch.retain_log_records_mut(|_| true), 0);
    assert_eq!(batch.encode(), request);
    batch.retain_log_records_mut(|record| record.view().severity_number() == 9);
    assert_eq!(batch.encode(), [&[0x0a, 7, 0x12, 5][..], &first].concat());
    // What holds another signal is not looked at.
    assert_eq!(batch.retain_metrics(|_| false), 0);
    assert_eq!(batch.len(), 1);
}

#[test]
fn branches_do_not_see_each_others_records() {
    let request = [0x0a, 4, 0x12, 2, 0x12, 0];
    let batch = Batch::decode(Signal::Logs, request.to_vec().into()).unwrap();
    let mut branch = batch.fork();
    branch.for_each_log_record_mut(|record| record.attributes().set("k", NewValue::Bool(true)));
    assert_eq!(batch.encode(), &request[..]);
    assert_ne!(branch.encode(), &request[..]);
    assert_eq!(branch.retain_log_records_mut(|record| record.view().attr("k").is_none()), 1);
    assert!(branch.is_empty() && branch.encode().is_empty());
    assert_eq!(batch.len(), 1);
}
