//! The batch against prost: whatever a view reads, prost reads too; whatever the encoder writes, prost agrees with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/support/corpus.rs"]
mod corpus;
mod support;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1 as otel;
use proptest::prelude::*;
use prost::Message;
use weir_pipeline::batch::view::{Attributes, Value};
use weir_pipeline::batch::wire::Fault;
use weir_pipeline::batch::{AttributeBlock, Batch, NewValue, Span};
use weir_pipeline::receipt::{Outcome, Receipt};
use weir_pipeline::signal::Signal;

// === Views equal prost ===

#[test]
fn every_view_of_the_corpus_equals_prost() {
    let mut spans = 0;
    for (path, bytes) in corpus::files("traces/") {
        if path.ends_with(".pb") {
            spans += assert_views_equal(&bytes, &path);
        }
    }
    assert_eq!(spans, 2_374, "the protobuf half of the corpus");
}

#[test]
fn metrics_and_logs_of_the_corpus_are_counted_and_kept() {
    for (path, bytes) in corpus::files("metrics/") {
        let batch = Batch::decode(Signal::Metrics, bytes.clone().into()).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(batch.len(), data_points(&ExportMetricsServiceRequest::decode(&bytes[..]).unwrap()), "{path}");
        assert_eq!(batch.encode(), bytes);
    }
    for (path, bytes) in corpus::files("logs/") {
        let batch = Batch::decode(Signal::Logs, bytes.clone().into()).unwrap_or_else(|e| panic!("{path}: {e}"));
        let request = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
        let records: usize =
            request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum();
        assert_eq!(batch.len(), records, "{path}");
        assert_eq!(batch.encode(), bytes);
    }
}

fn data_points(request: &ExportMetricsServiceRequest) -> usize {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    metrics
        .map(|m| match &m.data {
            None => 0,
            Some(Data::Gauge(d)) => d.data_points.len(),
            Some(Data::Sum(d)) => d.data_points.len(),
            Some(Data::Histogram(d)) => d.data_points.len(),
            Some(Data::ExponentialHistogram(d)) => d.data_points.len(),
            Some(Data::Summary(d)) => d.data_points.len(),
        })
        .sum()
}

fn assert_views_equal(bytes: &[u8], path: &str) -> usize {
    let request = Request::decode(bytes).unwrap();
    let batch = Batch::decode(Signal::Traces, Bytes::copy_from_slice(bytes)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let expected: Vec<_> = flatten(&request).collect();
    let actual: Vec<_> = batch.spans().collect();
    assert_eq!(actual.len(), expected.len(), "{path}");
    for (view, (resource, scope, span)) in actual.iter().zip(&expected) {
        assert_span_equal(*view, span);
        let resource = resource.cloned().unwrap_or_default();
        assert_same(view.resource().attributes(), &resource.attributes);
        assert_eq!(view.resource().dropped_attributes_count(), resource.dropped_attributes_count);
        let scope = scope.cloned().unwrap_or_default();
        assert_eq!(view.scope().name(), scope.name.as_str());
        assert_eq!(view.scope_name(), scope.name.as_str());
        assert_eq!(view.scope().version(), scope.version.as_str());
        assert_eq!(view.scope().dropped_attributes_count(), scope.dropped_attributes_count);
        assert_same(view.scope().attributes(), &scope.attributes);
    }
    assert_eq!(batch.encode(), bytes, "{path}: an untouched batch is its bytes");
    expected.len()
}

type Flat<'a> = (
    Option<&'a opentelemetry_proto::tonic::resource::v1::Resource>,
    Option<&'a opentelemetry_proto::tonic::common::v1::InstrumentationScope>,
    &'a otel::Span,
);

fn flatten(request: &Request) -> impl Iterator<Item = Flat<'_>> {
    request.resource_spans.iter().flat_map(|r| {
        r.scope_spans.iter().flat_map(move |s| s.spans.iter().map(move |x| (r.resource.as_ref(), s.scope.as_ref(), x)))
    })
}

fn assert_span_equal(view: Span<'_>, span: &otel::Span) {
    let fields = view.fields();
    assert_eq!(fields.trace_id, span.trace_id);
    assert_eq!(fields.span_id, span.span_id);
    assert_eq!(fields.parent_span_id, span.parent_span_id);
    assert_eq!(fields.trace_state, span.trace_state.as_str());
    assert_eq!(view.name(), span.name.as_str());
    assert_eq!(fields.kind, span.kind);
    assert_eq!(fields.start_time_unix_nano, span.start_time_unix_nano);
    assert_eq!(fields.end_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(view.end_time_unix_nano(), span.end_time_unix_nano);
    assert_eq!(view.start_time_unix_nano(), span.start_time_unix_nano);
    // Ids that are not of their length are none.
    assert_eq!(view.trace_id().map(|id| &id[..]), Some(&span.trace_id[..]).filter(|id| id.len() == 16));
    assert_eq!(view.span_id().map(|id| &id[..]), Some(&span.span_id[..]).filter(|id| id.len() == 8));
    assert_eq!(view.parent_span_id().map(|id| &id[..]), Some(&span.parent_span_id[..]).filter(|id| id.len() == 8));
    assert_eq!(fields.flags, span.flags);
    assert_eq!(fields.dropped_attributes_count, span.dropped_attributes_count);
    assert_eq!(fields.dropped_events_count, span.dropped_events_count);
    assert_eq!(fields.dropped_links_count, span.dropped_links_count);
    assert_eq!(fields.has_status, span.status.is_some());
    let status = span.status.clone().unwrap_or_default();
    assert_eq!((fields.status_code, fields.status_message.as_str()), (status.code, status.message.as_str()));
    let attributes: Vec<KeyValue> = view.attributes().map(|(k, v)| key_value(k.as_str(), v)).collect();
    assert_attributes(&attributes, &span.attributes);
    for kv in &span.attributes {
        let last = span.attributes.iter().rfind(|other| other.key == kv.key).and_then(|kv| kv.value.clone());
        assert_any(view.attr(&kv.key).map(any_value).as_ref(), last.as_ref());
    }
    let events: Vec<_> = view.events().collect();
    assert_eq!(events.len(), span.events.len());
    for (view, event) in events.iter().zip(&span.events) {
        assert_eq!(view.time_unix_nano(), event.time_unix_nano);
        assert_eq!(view.name(), event.name.as_str());
        assert_eq!(view.dropped_attributes_count(), event.dropped_attributes_count);
        assert_same(view.attributes(), &event.attributes);
    }
    let links: Vec<_> = view.links().collect();
    assert_eq!(links.len(), span.links.len());
    for (view, link) in links.iter().zip(&span.links) {
        assert_eq!((view.trace_id(), view.span_id()), (&link.trace_id[..], &link.span_id[..]));
        assert_eq!(view.trace_state(), link.trace_state.as_str());
        assert_eq!((view.flags(), view.dropped_attributes_count()), (link.flags, link.dropped_attributes_count));
        assert_same(view.attributes(), &link.attributes);
    }
}

fn assert_same(view: Attributes<'_>, expected: &[KeyValue]) {
    let actual: Vec<KeyValue> = view.iter().map(|(k, v)| key_value(k.as_str(), v)).collect();
    assert_attributes(&actual, expected);
}

/// Compares through the encoded form, where NaN equals itself. A missing value reads like an empty one.
fn assert_attributes(actual: &[KeyValue], expected: &[KeyValue]) {
    assert_eq!(actual.len(), expected.len());
    for (a, e) in actual.iter().zip(expected) {
        assert_eq!(a.key, e.key);
        assert_any(a.value.as_ref(), e.value.as_ref());
    }
}

fn assert_any(actual: Option<&AnyValue>, expected: Option<&AnyValue>) {
    let encode = |value: Option<&AnyValue>| canonical(value.cloned().unwrap_or_default()).encode_to_vec();
    assert_eq!(encode(actual), encode(expected), "{actual:?} is not {expected:?}");
}

/// `string_value_strindex` and `key_strindex` belong to profiles; views do not show them.
fn canonical(value: AnyValue) -> AnyValue {
    let kvs = |kvs: Vec<KeyValue>| {
        kvs.into_iter()
            .map(|kv| KeyValue { key: kv.key, value: Some(canonical(kv.value.unwrap_or_default())), key_strindex: 0 })
            .collect()
    };
    AnyValue {
        value: match value.value {
            Some(Any::StringValueStrindex(_)) => None,
            Some(Any::ArrayValue(mut a)) => {
                a.values = a.values.into_iter().map(canonical).collect();
                Some(Any::ArrayValue(a))
            }
            Some(Any::KvlistValue(mut l)) => {
                l.values = kvs(l.values);
                Some(Any::KvlistValue(l))
            }
            other => other,
        },
    }
}

fn key_value(key: &str, value: Value<'_>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any_value(value)), key_strindex: 0 }
}

fn any_value(value: Value<'_>) -> AnyValue {
    let value = match value {
        Value::Empty => None,
        Value::Str(s) => Some(Any::StringValue(s.as_str().to_owned())),
        Value::Bool(b) => Some(Any::BoolValue(b)),
        Value::Int(i) => Some(Any::IntValue(i)),
        Value::Double(d) => Some(Any::DoubleValue(d)),
        Value::Bytes(b) => Some(Any::BytesValue(b.to_vec())),
        Value::Array(a) => Some(Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
            values: a.iter().map(any_value).collect(),
        })),
        Value::KvList(l) => Some(Any::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
            values: l.iter().map(|(k, v)| key_value(k.as_str(), v)).collect(),
        })),
    };
    AnyValue { value }
}

// === Edits equal edits of prost structs ===

#[derive(Debug, Clone)]
enum Edit {
    Set(String, NewAttr),
    Remove(String),
    Drop,
}

#[derive(Debug, Clone)]
enum NewAttr {
    Str(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
}

fn arb_edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    // Few keys, so that edits hit existing attributes and each other.
    let key = prop_oneof![Just(String::new()), "[a-c]", Just("gen_ai.usage.cost.amount".to_owned()), ".{0,6}"];
    let value = prop_oneof![
        ".{0,200}".prop_map(NewAttr::Str),
        any::<bool>().prop_map(NewAttr::Bool),
        any::<i64>().prop_map(NewAttr::Int),
        any::<f64>().prop_map(NewAttr::Double),
        proptest::collection::vec(any::<u8>(), 0..150).prop_map(NewAttr::Bytes),
    ];
    let edit = prop_oneof![
        5 => (key.clone(), value).prop_map(|(k, v)| Edit::Set(k, v)),
        2 => key.prop_map(Edit::Remove),
        1 => Just(Edit::Drop),
    ];
    proptest::collection::vec((0..8usize, edit), 0..20)
}

fn apply_to_batch(batch: &mut Batch, edits: &[(usize, Edit)], survivors: &[usize]) {
    let (spans, mut blocks) = (batch.len(), true);
    // Two passes, as two processors would: the second continues the first one's overlay.
    for part in [&edits[..edits.len() / 2], &edits[edits.len() / 2..]] {
        let mut nth = 0;
        batch.for_each_mut(|span| {
            // Blocks and single attributes must be one to everything that comes after.
            if blocks && nth % 2 == 0 && span.view().attr("a").is_none() && span.view().attr("b").is_none() {
                let mut block = AttributeBlock::default();
                block.push("b", NewValue::Bool(true));
                let slot = block.push_double("a");
                block.set_double(slot, 0.5);
                span.append_absent(&block);
            }
            blocks = blocks && nth + 1 < spans;
            for (_, edit) in part.iter().filter(|(target, _)| *target == nth) {
                match edit {
                    Edit::Set(key, NewAttr::Str(s)) => span.set(key, NewValue::Str(s)),
                    Edit::Set(key, NewAttr::Bool(b)) => span.set(key, NewValue::Bool(*b)),
                    Edit::Set(key, NewAttr::Int(i)) => span.set(key, NewValue::Int(*i)),
                    Edit::Set(key, NewAttr::Double(d)) => span.set(key, NewValue::Double(*d)),
                    Edit::Set(key, NewAttr::Bytes(b)) => span.set(key, NewValue::Bytes(b)),
                    Edit::Remove(key) => span.remove(key),
                    Edit::Drop => {}
                }
            }
            nth += 1;
        });
    }
    let mut nth = 0;
    batch.retain(|_| {
        nth += 1;
        survivors.contains(&(nth - 1))
    });
}

fn apply_to_prost(request: &mut Request, edits: &[(usize, Edit)], survivors: &[usize]) {
    let mut nth = 0;
    for r in &mut request.resource_spans {
        let had_scopes = !r.scope_spans.is_empty();
        for s in &mut r.scope_spans {
            let had_spans = !s.spans.is_empty();
            s.spans.retain_mut(|span| {
                if nth % 2 == 0 && !span.attributes.iter().any(|kv| kv.key == "a" || kv.key == "b") {
                    let value = |v| Some(AnyValue { value: Some(v) });
                    span.attributes.extend([
                        KeyValue { key: "b".into(), value: value(Any::BoolValue(true)), key_strindex: 0 },
                        KeyValue { key: "a".into(), value: value(Any::DoubleValue(0.5)), key_strindex: 0 },
                    ]);
                }
                for (_, edit) in edits.iter().filter(|(target, _)| *target == nth) {
                    match edit {
                        Edit::Set(key, value) => {
                            span.attributes.retain(|kv| kv.key != *key);
                            let value = match value.clone() {
                                NewAttr::Str(s) => Any::StringValue(s),
                                NewAttr::Bool(b) => Any::BoolValue(b),
                                NewAttr::Int(i) => Any::IntValue(i),
                                NewAttr::Double(d) => Any::DoubleValue(d),
                                NewAttr::Bytes(b) => Any::BytesValue(b),
                            };
                            let value = Some(AnyValue { value: Some(value) });
                            span.attributes.push(KeyValue { key: key.clone(), value, key_strindex: 0 });
                        }
                        Edit::Remove(key) => span.attributes.retain(|kv| kv.key != *key),
                        Edit::Drop => {}
                    }
                }
                nth += 1;
                survivors.contains(&(nth - 1))
            });
            // Marks a container that lost its last span; one that came empty stays.
            if had_spans && s.spans.is_empty() {
                s.schema_url = "\u{0}emptied".into();
            }
        }
        r.scope_spans.retain(|s| s.schema_url != "\u{0}emptied");
        if had_scopes && r.scope_spans.is_empty() {
            r.schema_url = "\u{0}emptied".into();
        }
    }
    request.resource_spans.retain(|r| r.schema_url != "\u{0}emptied");
}

fn survivors(count: usize, edits: &[(usize, Edit)]) -> Vec<usize> {
    (0..count).filter(|n| !edits.iter().any(|(target, edit)| target == n && matches!(edit, Edit::Drop))).collect()
}

fn assert_edits_agree(bytes: Vec<u8>, edits: &[(usize, Edit)]) {
    let mut expected = Request::decode(&bytes[..]).unwrap();
    let mut batch = Batch::decode(Signal::Traces, bytes.into()).unwrap();
    let alive = survivors(batch.len(), edits);
    apply_to_prost(&mut expected, edits, &alive);
    apply_to_batch(&mut batch, edits, &alive);
    assert_eq!(batch.len(), alive.len());
    let encoded = batch.encode();
    assert!(encoded.len() <= batch.size_hint() + 15 * alive.len(), "only length prefixes may come on top of the hint");
    let actual = Request::decode(encoded.clone()).unwrap();
    if alive.is_empty() {
        // Nothing is left to send; a batch without records forgets containers that came empty.
        assert!(flatten(&actual).next().is_none());
        return;
    }
    assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
    // What the views showed before encoding is what they show afterwards.
    let again = Batch::decode(Signal::Traces, encoded).unwrap();
    for (before, after) in batch.spans().zip(again.spans()) {
        let list = |s: Span<'_>| s.attributes().map(|(k, v)| key_value(k.as_str(), v)).collect::<Vec<_>>();
        assert_attributes(&list(before), &list(after));
        for (key, _) in before.attributes() {
            assert_any(
                before.attr(key.as_str()).map(any_value).as_ref(),
                after.attr(key.as_str()).map(any_value).as_ref(),
            );
        }
    }
}

#[test]
fn edits_of_the_corpus_agree_with_prost() {
    let edits = [
        (0, Edit::Set("weir.cost.total".into(), NewAttr::Str("0.000125".into()))),
        (1, Edit::Set("gen_ai.system".into(), NewAttr::Str("replaced".into()))),
        (2, Edit::Remove("gen_ai.system".into())),
        (3, Edit::Drop),
        (4, Edit::Set("gen_ai.request.model".into(), NewAttr::Int(7))),
        (4, Edit::Set("gen_ai.request.model".into(), NewAttr::Int(8))),
    ];
    for (path, bytes) in corpus::files("traces/") {
        if path.ends_with(".pb") {
            assert_edits_agree(bytes, &edits);
        }
    }
}

proptest! {
    #[test]
    fn views_of_made_requests_equal_prost(request in support::arb_traces()) {
        assert_views_equal(&request.encode_to_vec(), "made");
    }

    #[test]
    fn edits_of_made_requests_agree_with_prost(request in support::arb_traces(), edits in arb_edits()) {
        assert_edits_agree(request.encode_to_vec(), &edits);
    }

    #[test]
    fn made_metrics_and_logs_are_valid(metrics in support::arb_metrics(), logs in support::arb_logs()) {
        let batch = Batch::decode(Signal::Metrics, metrics.encode_to_vec().into()).unwrap();
        prop_assert_eq!(batch.len(), data_points(&metrics));
        let count: usize = logs.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum();
        prop_assert_eq!(Batch::decode(Signal::Logs, logs.encode_to_vec().into()).unwrap().len(), count);
    }

    /// What is accepted is accepted by prost and reads alike; what prost refuses is refused.
    #[test]
    fn mutated_bytes_are_judged_as_prost_does(
        request in support::arb_traces(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            let i = at.index(bytes.len());
            bytes[i] = byte;
            bytes.truncate(cut.index(bytes.len()) + bytes.len() / 2);
        }
        match (Batch::decode(Signal::Traces, bytes.clone().into()), Request::decode(&bytes[..])) {
            (Ok(_), Ok(_)) => drop(assert_views_equal(&bytes, "mutated")),
            (Ok(_), Err(e)) => prop_assert!(false, "prost refuses: {e}"),
            (Err(e), Ok(_)) => prop_assert!(
                matches!(e.fault, Fault::Twice | Fault::IdLength(..)),
                "prost accepts what is {e}"
            ),
            (Err(e), Err(_)) => prop_assert!(e.offset <= bytes.len()),
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for signal in Signal::ALL {
            let _ = Batch::decode(signal, bytes.clone().into());
        }
    }

    #[test]
    fn splitting_and_joining_loses_nothing(a in support::arb_traces(), b in support::arb_traces(), at in 0..12usize) {
        let decode = |r: &Request| Batch::decode(Signal::Traces, r.encode_to_vec().into()).unwrap();
        let mut batch = decode(&a);
        batch.append(decode(&b));
        let (receipt, waiter) = Receipt::pair();
        let mut first = batch.with_receipt(receipt);
        let names: Vec<String> = first.spans().map(|s| s.name().to_string()).collect();
        let rest = first.split_off(at);
        prop_assert_eq!(first.len(), at.min(names.len()));
        let mut seen: Vec<String> = Vec::new();
        for part in [&first, &rest] {
            let request = Request::decode(part.encode()).unwrap();
            seen.extend(flatten(&request).map(|(_, _, s)| s.name.clone()));
        }
        prop_assert_eq!(seen, names);
        first.settle(&Outcome::Done);
        rest.settle(&Outcome::Rejected("x".into()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(waiter), Outcome::Rejected("x".into()));
    }
}

// === What is refused, and what is kept ===

#[test]
fn two_hundred_nested_values_are_too_deep_and_forty_are_not() {
    let nested_around = |innermost: Any, levels: usize| {
        let mut value = AnyValue { value: Some(innermost) };
        for _ in 0..levels {
            let values = vec![value];
            value = AnyValue {
                value: Some(Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values })),
            };
        }
        let attributes = vec![KeyValue { key: "deep".into(), value: Some(value), key_strindex: 0 }];
        let span = otel::Span { attributes, ..Default::default() };
        let scope_spans = vec![otel::ScopeSpans { spans: vec![span], ..Default::default() }];
        let resource_spans = vec![otel::ResourceSpans { scope_spans, ..Default::default() }];
        Request { resource_spans }.encode_to_vec()
    };
    let nested = |levels| nested_around(Any::BoolValue(true), levels);
    assert_views_equal(&nested(40), "nested");
    // The limit is the same for what the validator looks at twice, numbers and texts in an array, and for bytes.
    let deepest = |innermost: &Any| {
        let is_accepted =
            |levels: &usize| Batch::decode(Signal::Traces, nested_around(innermost.clone(), *levels).into()).is_ok();
        (40..200).take_while(is_accepted).last().unwrap()
    };
    let bytes = deepest(&Any::BytesValue(vec![1]));
    for innermost in [Any::DoubleValue(0.5), Any::IntValue(1), Any::StringValue("a".into())] {
        assert_eq!(deepest(&innermost), bytes, "{innermost:?}");
    }
    let error = Batch::decode(Signal::Traces, nested(200).into()).unwrap_err();
    assert!(error.to_string().ends_with("messages are nested deeper than 100 levels"), "{error}");
    assert!(
        error.path.starts_with("resource_spans[0].scope_spans[0].spans[0].attributes[0].value.array_value"),
        "{error}"
    );
    assert!(Request::decode(&nested(200)[..]).is_err(), "prost agrees");
}

#[test]
fn unknown_fields_survive_an_edit() {
    // Every level carries field 100 = "?" and field 101 = 5, before and after what is known.
    let unknown = [0xa2, 6, 1, b'?', 0xa8, 6, 5];
    let wrap = |tag: u8, body: &[u8]| {
        // A length prefix that is longer than it needs to be.
        let mut out = vec![tag, body.len() as u8 | 0x80, 0];
        out.extend(body);
        out
    };
    let level = |inner: Vec<u8>| [&unknown[..], &inner, &unknown[..]].concat();
    let span = level(vec![0x2a, 1, b'n']);
    let request = level(wrap(0x0a, &level(wrap(0x12, &level(wrap(0x12, &span))))));
    let mut batch = Batch::decode(Signal::Traces, request.clone().into()).unwrap();
    assert_eq!(batch.encode(), request);
    batch.for_each_mut(|s| s.set("k", NewValue::Bool(true)));
    let added = [0x4a, 7, 0x0a, 1, b'k', 0x12, 2, 0x10, 1];
    let wrap = |tag: u8, body: &[u8]| [&[tag, body.len() as u8][..], body].concat();
    let span = [&span[..], &added].concat();
    let expected = level(wrap(0x0a, &level(wrap(0x12, &level(wrap(0x12, &span))))));
    assert_eq!(batch.encode(), expected);
}

#[test]
fn a_block_is_seen_and_encoded_like_single_attributes() {
    let bytes = [0x0a, 6, 0x12, 4, 0x12, 2, 0x30, 0];
    let mut batch = Batch::decode(Signal::Traces, Bytes::copy_from_slice(&bytes)).unwrap();
    let mut block = AttributeBlock::default();
    block.push("b", NewValue::Bool(true));
    let slot = block.push_double("a");
    block.push("c", NewValue::Str("text"));
    block.set_double(slot, 0.5);
    batch.for_each_mut(|span| span.append_absent(&block));
    let show = |batch: &Batch| {
        batch.spans().flat_map(|s| s.attributes()).map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>()
    };
    assert_eq!(show(&batch), ["b=Bool(true)", "a=Double(0.5)", "c=Str(\"text\")"]);
    batch.for_each_mut(|span| span.set("a", NewValue::Int(1)));
    assert_eq!(show(&batch), ["b=Bool(true)", "c=Str(\"text\")", "a=Int(1)"]);
    batch.for_each_mut(|span| span.remove("c"));
    assert_eq!(show(&batch), ["b=Bool(true)", "a=Int(1)"]);
    let again = Batch::decode(Signal::Traces, batch.encode()).unwrap();
    assert_eq!(show(&again), show(&batch));
}
