//! Edits of singular fields, of events and of resources against prost: encoding applies exactly the edits, whatever else a request
//! holds, and views show them before it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::batch::{AttributeEdit, AttributesMut, Batch, NewValue, Piece, SpanMut};
use weir_pipeline::signal::Signal;

#[derive(Debug, Clone)]
enum Edit {
    Name(String),
    TraceState(String),
    Status(i32, String),
    Attribute(String, i64),
    Remove(String),
    Event(usize, String, String),
    RemoveFromEvents(String),
    EachAttribute(String, Option<String>),
    EachOfEvents(String, Option<String>),
    Resource(String, String),
    RemoveResource(String),
    Drop,
}

fn arb_edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let key = || prop_oneof![Just(String::new()), Just("a".to_owned()), Just("gen_ai.request.model".to_owned())];
    let text = || prop_oneof![Just(String::new()), ".{0,150}"];
    let edit = prop_oneof![
        text().prop_map(Edit::Name),
        text().prop_map(Edit::TraceState),
        (-1..4i32, text()).prop_map(|(code, message)| Edit::Status(code, message)),
        (key(), any::<i64>()).prop_map(|(k, v)| Edit::Attribute(k, v)),
        key().prop_map(Edit::Remove),
        (0..3usize, key(), text()).prop_map(|(nth, k, v)| Edit::Event(nth, k, v)),
        key().prop_map(Edit::RemoveFromEvents),
        (key(), proptest::option::of(text())).prop_map(|(k, v)| Edit::EachAttribute(k, v)),
        (key(), proptest::option::of(text())).prop_map(|(k, v)| Edit::EachOfEvents(k, v)),
        (key(), text()).prop_map(|(k, v)| Edit::Resource(k, v)),
        key().prop_map(Edit::RemoveResource),
        Just(Edit::Drop),
    ];
    proptest::collection::vec((0..6usize, edit), 0..24)
}

fn put(attributes: &mut Vec<KeyValue>, key: &str, value: Any) {
    attributes.retain(|kv| kv.key != key);
    attributes.push(KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 });
}

/// Removes the attributes with this key or gives each of them the text, where it stands.
fn each<'e>(
    key: &'e str,
    text: &'e Option<String>,
) -> impl FnMut(weir_pipeline::batch::view::KeyValue<'_>) -> AttributeEdit {
    move |kv| match text {
        _ if kv.key != *key => AttributeEdit::Keep,
        None => AttributeEdit::Remove,
        Some(text) => AttributeEdit::Text(text.clone()),
    }
}

fn each_of_prost(attributes: &mut Vec<KeyValue>, key: &str, text: &Option<String>) {
    match text {
        None => attributes.retain(|kv| kv.key != key),
        Some(text) => {
            for kv in attributes.iter_mut().filter(|kv| kv.key == key) {
                kv.value = Some(AnyValue { value: Some(Any::StringValue(text.clone())) });
                kv.key_strindex = 0;
            }
        }
    }
}

fn apply(span: &mut SpanMut<'_>, edit: &Edit) {
    match edit {
        Edit::Name(name) => span.set_name(name),
        Edit::TraceState(state) => span.set_trace_state(state),
        Edit::Status(code, message) => span.set_status(*code, message),
        Edit::Attribute(key, value) => span.set(key, NewValue::Int(*value)),
        Edit::Remove(key) => span.remove(key),
        Edit::Event(nth, key, value) => {
            let mut n = 0;
            span.edit_events(|event, attributes| {
                assert_eq!(format!("{:?}", event.attributes()), format!("{:?}", attributes.view()));
                if n == *nth {
                    attributes.set(key, NewValue::Str(value));
                }
                n += 1;
            });
        }
        Edit::RemoveFromEvents(key) => span.edit_events(|_, attributes| attributes.remove(key)),
        Edit::EachAttribute(key, text) => span.edit_attributes(each(key, text)),
        Edit::EachOfEvents(key, text) => span.edit_events(|_, attributes| attributes.edit_each(each(key, text))),
        _ => {}
    }
}

fn apply_to_prost(span: &mut Span, edit: &Edit) {
    match edit.clone() {
        Edit::Name(name) => span.name = name,
        Edit::TraceState(state) => span.trace_state = state,
        Edit::Status(code, message) => span.status = Some(Status { code, message }),
        Edit::Attribute(key, value) => put(&mut span.attributes, &key, Any::IntValue(value)),
        Edit::Remove(key) => span.attributes.retain(|kv| kv.key != key),
        Edit::Event(nth, key, value) => {
            if let Some(event) = span.events.get_mut(nth) {
                put(&mut event.attributes, &key, Any::StringValue(value));
            }
        }
        Edit::EachAttribute(key, text) => each_of_prost(&mut span.attributes, &key, &text),
        Edit::EachOfEvents(key, text) => {
            span.events.iter_mut().for_each(|event| each_of_prost(&mut event.attributes, &key, &text));
        }
        Edit::RemoveFromEvents(key) => {
            span.events.iter_mut().for_each(|event| event.attributes.retain(|kv| kv.key != key));
        }
        _ => {}
    }
}

fn apply_to_resource(resource: &mut AttributesMut<'_>, edit: &Edit) {
    match edit {
        Edit::Resource(key, value) => resource.set(key, NewValue::Str(value)),
        Edit::RemoveResource(key) => resource.remove(key),
        _ => {}
    }
}

fn apply_to_prost_resource(resource: &mut Option<Resource>, edit: &Edit) {
    match edit.clone() {
        Edit::Resource(key, value) => {
            put(&mut resource.get_or_insert_default().attributes, &key, Any::StringValue(value));
        }
        Edit::RemoveResource(key) => {
            if let Some(resource) = resource {
                resource.attributes.retain(|kv| kv.key != key);
            }
        }
        _ => {}
    }
}

fn for_target(edits: &[(usize, Edit)], n: usize) -> impl Iterator<Item = &Edit> {
    edits.iter().filter(move |(target, _)| *target == n).map(|(_, edit)| edit)
}

/// What every span shows, resource included.
fn shown(batch: &Batch) -> Vec<String> {
    let show = |s: weir_pipeline::batch::Span<'_>| {
        let attributes: Vec<_> = s.attributes().collect();
        let event = |e: weir_pipeline::batch::view::Event<'_>| {
            (e.time_unix_nano(), e.name().to_string(), format!("{:?}", e.attributes()))
        };
        let events: Vec<_> = s.events().map(event).collect();
        format!("{:?} {attributes:?} {events:?} {:?}", s.fields(), s.resource_attributes())
    };
    batch.spans().map(show).collect()
}

/// Every span alone in what contains it.
fn apart(request: Request) -> Vec<ResourceSpans> {
    let mut alone = Vec::new();
    for r in request.resource_spans {
        for s in &r.scope_spans {
            for span in &s.spans {
                let scope_spans = vec![ScopeSpans { spans: vec![span.clone()], ..s.clone() }];
                alone.push(ResourceSpans { scope_spans, ..r.clone() });
            }
        }
    }
    alone
}

/// The same from the pieces of a batch.
fn taken_apart(batch: &Batch) -> Vec<ResourceSpans> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut alone = Vec::new();
    for chunk in batch.chunks() {
        let keys: Vec<&[u8]> = chunk.keys().collect();
        for r in chunk.resource_spans() {
            for s in r.scope_spans() {
                for (id, span) in s.spans() {
                    let message = message(span, &keys);
                    assert!(message.len() <= span.max_len());
                    assert_eq!(chunk.span(id).unwrap().raw(), span.raw());
                    let scope_spans = ScopeSpans {
                        scope: s.scope().map(|message| InstrumentationScope::decode(message).unwrap()),
                        spans: vec![Span::decode(&message[..]).unwrap()],
                        schema_url: text(s.schema_url()),
                    };
                    alone.push(ResourceSpans {
                        resource: r.resource().map(|message| Resource::decode(message).unwrap()),
                        scope_spans: vec![scope_spans],
                        schema_url: text(r.schema_url()),
                    });
                }
            }
        }
    }
    alone
}

/// A span's message from its pieces.
fn message(span: weir_pipeline::batch::Span<'_>, keys: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    let own: Vec<&[u8]> = span.own_messages().collect();
    let len = span.pieces(|piece| match piece {
        Piece::Fields(fields) => message.extend_from_slice(fields),
        Piece::Attribute(attribute) => {
            assert!(own.contains(&attribute));
            put_bytes(&mut message, 9, attribute);
        }
        Piece::Noted(noted) => {
            assert_eq!(keys[noted.key as usize], noted.text);
            let mut attribute = Vec::new();
            put_bytes(&mut attribute, 1, noted.text);
            put_bytes(&mut attribute, 2, noted.any_value);
            assert_eq!(own[noted.nth as usize], attribute);
            put_bytes(&mut message, 9, &attribute);
        }
    });
    assert_eq!(message.len(), len);
    message
}

proptest! {
    #[test]
    fn edits_of_fields_and_resources_agree_with_prost(request in support::arb_traces(), edits in arb_edits()) {
        let mut expected = request.clone();
        let mut batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
        let untouched = batch.encode();
        // In two passes, as two processors would; the second one drops.
        for (pass, part) in [&edits[..edits.len() / 2], &edits[edits.len() / 2..]].into_iter().enumerate() {
            let mut nth = 0;
            batch.for_each_resource_mut(|resource| {
                for_target(part, nth).for_each(|edit| apply_to_resource(resource, edit));
                nth += 1;
            });
            let mut nth = 0;
            batch.retain_mut(|span| {
                for_target(part, nth).for_each(|edit| apply(span, edit));
                nth += 1;
                pass == 0 || !for_target(part, nth - 1).any(|edit| matches!(edit, Edit::Drop))
            });
            let mut nth = 0;
            for (n, r) in expected.resource_spans.iter_mut().enumerate() {
                for_target(part, n).for_each(|edit| apply_to_prost_resource(&mut r.resource, edit));
                let had_scopes = !r.scope_spans.is_empty();
                r.scope_spans.retain_mut(|s| {
                    let had_spans = !s.spans.is_empty();
                    s.spans.retain_mut(|span| {
                        for_target(part, nth).for_each(|edit| apply_to_prost(span, edit));
                        nth += 1;
                        pass == 0 || !for_target(part, nth - 1).any(|edit| matches!(edit, Edit::Drop))
                    });
                    !had_spans || !s.spans.is_empty()
                });
                if had_scopes && r.scope_spans.is_empty() {
                    r.schema_url = "\u{0}emptied".into();
                }
            }
            expected.resource_spans.retain(|r| r.schema_url != "\u{0}emptied");
        }
        let encoded = batch.encode();
        prop_assert!(encoded.len() <= batch.size_hint() + 15 * (batch.len() + expected.resource_spans.len()));
        if edits.is_empty() && !batch.is_empty() {
            prop_assert_eq!(&encoded, &untouched);
        }
        let actual = Request::decode(encoded.clone()).unwrap();
        if batch.is_empty() {
            // A batch without records forgets containers that came empty.
            prop_assert!(actual.resource_spans.iter().all(|r| r.scope_spans.iter().all(|s| s.spans.is_empty())));
            return Ok(());
        }
        prop_assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
        // As text, since there are NaNs.
        prop_assert_eq!(format!("{:?}", taken_apart(&batch)), format!("{:?}", apart(actual)));
        prop_assert_eq!(shown(&batch), shown(&Batch::decode(Signal::Traces, encoded).unwrap()));
    }

    #[test]
    fn resources_of_metrics_and_logs_are_edited_and_dropped(
        metrics in support::arb_metrics(),
        logs in support::arb_logs(),
        edits in arb_edits(),
        keep in any::<u8>(),
    ) {
        let edited = |signal, bytes: Vec<u8>| {
            let mut batch = Batch::decode(signal, bytes.into()).unwrap();
            let mut nth = 0;
            batch.for_each_resource_mut(|resource| {
                for_target(&edits, nth).for_each(|edit| apply_to_resource(resource, edit));
                nth += 1;
            });
            batch
        };
        let kept = |batch: &mut Batch| {
            let (before, mut nth) = (batch.len(), 0);
            let dropped = batch.retain_resources(|_, _| {
                nth += 1;
                keep >> (nth - 1) & 1 == 1
            });
            assert_eq!(batch.len() + dropped, before);
        };
        let mut nth = 0;
        let mut next = || { nth += 1; keep >> (nth - 1) & 1 == 1 };

        let mut batch = edited(Signal::Metrics, metrics.encode_to_vec());
        let mut expected = metrics;
        for (n, r) in expected.resource_metrics.iter_mut().enumerate() {
            for_target(&edits, n).for_each(|edit| apply_to_prost_resource(&mut r.resource, edit));
        }
        let actual = ExportMetricsServiceRequest::decode(batch.encode()).unwrap();
        prop_assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
        kept(&mut batch);
        expected.resource_metrics.retain(|_| next());
        if !batch.is_empty() {
            let actual = ExportMetricsServiceRequest::decode(batch.encode()).unwrap();
            prop_assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
        }

        let mut batch = edited(Signal::Logs, logs.encode_to_vec());
        let mut expected = logs;
        for (n, r) in expected.resource_logs.iter_mut().enumerate() {
            for_target(&edits, n).for_each(|edit| apply_to_prost_resource(&mut r.resource, edit));
        }
        let actual = ExportLogsServiceRequest::decode(batch.encode()).unwrap();
        prop_assert_eq!(actual.encode_to_vec(), expected.encode_to_vec());
        let (before, records) = (batch.len(), |r: &ExportLogsServiceRequest| -> usize {
            r.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum()
        });
        prop_assert_eq!(before, records(&expected));
        kept(&mut batch);
        let mut nth = 0;
        expected.resource_logs.retain(|_| { nth += 1; keep >> (nth - 1) & 1 == 1 });
        prop_assert_eq!(batch.len(), records(&expected));
    }
}

#[test]
fn an_edit_that_changes_nothing_leaves_the_bytes_alone() {
    let request = Request::default().encode_to_vec();
    let mut batch = Batch::decode(Signal::Traces, request.clone().into()).unwrap();
    batch.for_each_resource_mut(|resource| resource.remove("absent"));
    batch.for_each_mut(|_| {});
    assert_eq!(batch.encode(), request);
    // An event of a name and no attributes.
    let bytes = [0x0a, 9, 0x12, 7, 0x12, 5, 0x5a, 3, 0x12, 1, b'e'];
    let mut batch = Batch::decode(Signal::Traces, bytes.to_vec().into()).unwrap();
    let mut names = Vec::new();
    batch.for_each_mut(|span| {
        span.edit_events(|event, attributes| {
            names.push(event.name().to_string());
            attributes.remove("absent");
            attributes.edit_each(|_| AttributeEdit::Keep);
        });
        span.edit_attributes(|_| AttributeEdit::Keep);
    });
    assert_eq!((names, batch.encode()), (vec!["e".to_owned()], bytes.to_vec().into()));
}

#[test]
fn branches_do_not_see_each_others_edits() {
    let bytes = [0x0a, 6, 0x12, 4, 0x12, 2, 0x2a, 0];
    let batch = Batch::decode(Signal::Traces, bytes.to_vec().into()).unwrap();
    let mut branch = batch.fork();
    branch.for_each_mut(|span| span.set_name("branch"));
    branch.for_each_resource_mut(|resource| resource.set("k", NewValue::Bool(true)));
    assert_eq!(batch.encode(), &bytes[..]);
    let span = branch.spans().next().unwrap();
    assert_eq!((span.name().as_str(), span.resource_attributes().iter().count()), ("branch", 1));
}
