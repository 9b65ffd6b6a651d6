//! A span comes back from its row as it was.

use bytes::Bytes;
use deltalake::arrow::array::AsArray as _;
use deltalake::arrow::datatypes::Int32Type;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use weir_pipeline::batch::wire::{Fields, put_bytes};
use weir_pipeline::batch::{AttributeBlock, AttributeEdit, Batch, NewValue, SpanMut};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_store::convert::{Converter, Rows, Stamp};
use weir_store::objects::DEFAULT_PROJECT;
use weir_store::query::Engine;
use weir_store::rebuild;

use crate::support::{self, assert_same_spans, canonical};

/// To columns and back.
fn through_columns(request: &[u8]) -> Vec<u8> {
    batch_through_columns(&mut Converter::default(), &support::batch(request))
}

fn batch_through_columns(converter: &mut Converter, batch: &Batch) -> Vec<u8> {
    let stamp = Stamp { ingest_micros: 1, source: "test".to_owned(), seq: 1 };
    let mut rows = Rows::default();
    rows.add(batch);
    rows.sort();
    let (mut out, mut lengths) = (Vec::new(), Vec::new());
    for (_, range) in rows.partitions() {
        for start in range.clone().step_by(7) {
            let batch = converter.convert(&rows, start..range.end.min(start + 7), &stamp).unwrap();
            out.extend(rebuild::request(&batch).unwrap());
            let lengths_of_part = batch.column_by_name("span_bytes").unwrap().as_primitive::<Int32Type>();
            lengths.extend(lengths_of_part.values().iter().map(|length| usize::try_from(*length).unwrap()));
        }
    }
    lengths.sort_unstable();
    assert_eq!(lengths, span_lengths(&batch.encode()));
    out
}

/// How long the messages of a request's spans are, in order.
fn span_lengths(request: &[u8]) -> Vec<usize> {
    let inner = |message, number| Fields::new(message).filter(move |f| f.number == number).map(|f| f.bytes);
    let spans = inner(request, 1).flat_map(|r| inner(r, 2)).flat_map(|s| inner(s, 2));
    let mut lengths: Vec<usize> = spans.map(<[u8]>::len).collect();
    lengths.sort_unstable();
    lengths
}

/// To Parquet files in a Delta table, and back by a query.
async fn through_the_table(requests: &[Bytes]) -> Vec<u8> {
    let (_, root) = support::memory();
    let (writer, telemetry) = support::writer(&root);
    let mut waiters = Vec::new();
    for request in requests {
        let (batch, waiter) = support::awaited(request.clone());
        writer.write(batch).await;
        waiters.push(waiter);
    }
    writer.close().await;
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(telemetry.sum("weir_exporter_in_flight_spans"), 0);
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    let batches = engine.collect("select * from spans").await.unwrap();
    batches.iter().flat_map(|batch| rebuild::request(batch).unwrap()).collect()
}

#[test]
fn every_payload_of_the_corpus_survives_the_columns() {
    for (name, payload) in support::corpus() {
        assert_same_spans(&name, &canonical(&payload), &canonical(&through_columns(&payload)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_survives_the_table() {
    let payloads: Vec<Bytes> = support::corpus().into_iter().map(|(_, payload)| payload).collect();
    let expected = canonical(&payloads.concat());
    assert_eq!(expected.len(), support::files::SPANS);
    assert_same_spans("corpus", &expected, &canonical(&through_the_table(&payloads).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_spans_survive_the_table() {
    let mut runner = TestRunner::deterministic();
    let requests: Vec<Bytes> =
        (0..200).map(|_| requests().new_tree(&mut runner).unwrap().current().encode_to_vec().into()).collect();
    let expected = canonical(&requests.concat());
    assert_same_spans("made", &expected, &canonical(&through_the_table(&requests).await));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn odd_spans_survive_the_columns(request in requests()) {
        let bytes = request.encode_to_vec();
        assert_same_spans("made", &canonical(&bytes), &canonical(&through_columns(&bytes)));
    }

    #[test]
    fn what_processors_did_to_spans_reaches_the_columns(
        requests in vec(requests(), 1..4),
        edits in vec((any::<prop::sample::Index>(), edit()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut batch = Batch::empty(Signal::Traces);
        requests.iter().for_each(|request| batch.append(support::batch(&request.encode_to_vec())));
        let count = batch.len();
        batch.for_each_resource_mut(|resource| {
            edits.iter().for_each(|(_, edit)| if let Edit::Resource(key, value) = edit {
                resource.set(key, NewValue::Str(value));
            });
        });
        let mut at = 0;
        batch.retain_mut(|span| {
            at += 1;
            let of_this = edits.iter().filter(|(which, _)| which.index(count.max(1)) == at - 1);
            of_this.fold(true, |kept, (_, edit)| apply(span, edit) && kept)
        });
        // Parts of a batch share bytes and index; a converter is used for many flushes.
        let rest = batch.split_off(cut.index(batch.len() + 1));
        let mut converter = Converter::default();
        for batch in [batch, rest] {
            let back = batch_through_columns(&mut converter, &batch);
            assert_same_spans("edited", &canonical(&batch.encode()), &canonical(&back));
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Set(String, String),
    Append(Vec<(String, i64)>),
    AppendBlock(String, String),
    Remove(String),
    RemoveAll,
    Name(String),
    TraceState(String),
    Status(i32, String),
    Event(String),
    Resource(String, String),
    Drop,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (key(), any::<String>()).prop_map(|(key, value)| Edit::Set(key, value)),
        // The keys may be there all the same.
        3 => vec((key(), any::<i64>()), 1..4).prop_map(Edit::Append),
        3 => (key(), any::<String>()).prop_map(|(key, value)| Edit::AppendBlock(key, value)),
        2 => key().prop_map(Edit::Remove),
        1 => Just(Edit::RemoveAll),
        1 => any::<String>().prop_map(Edit::Name),
        1 => any::<String>().prop_map(Edit::TraceState),
        1 => (number(), any::<String>()).prop_map(|(code, message)| Edit::Status(code, message)),
        1 => key().prop_map(Edit::Event),
        1 => (key(), any::<String>()).prop_map(|(key, value)| Edit::Resource(key, value)),
        1 => Just(Edit::Drop),
    ]
}

/// Changes a span; false if it is to be dropped.
fn apply(span: &mut SpanMut<'_>, edit: &Edit) -> bool {
    match edit {
        Edit::Set(key, value) => span.set(key, NewValue::Str(value)),
        Edit::Append(attributes) => {
            attributes.iter().for_each(|(key, value)| span.insert_absent(key, NewValue::Int(*value)));
        }
        Edit::AppendBlock(key, value) => {
            let mut block = AttributeBlock::default();
            block.push(key, NewValue::Str(value));
            block.push("weir.cost.total", NewValue::Double(0.25));
            span.append_absent(&block);
        }
        Edit::Remove(key) => span.remove(key),
        Edit::RemoveAll => span.edit_attributes(|_| AttributeEdit::Remove),
        Edit::Name(name) => span.set_name(name),
        Edit::TraceState(state) => span.set_trace_state(state),
        Edit::Status(code, message) => span.set_status(*code, message),
        Edit::Event(key) => span.edit_events(|_, attributes| attributes.set(key, NewValue::Bool(true))),
        Edit::Resource(..) => {}
        Edit::Drop => return false,
    }
    true
}

/// A request of one span of these fields, and then one more that has the same attributes.
fn twice(attributes: &[Vec<u8>]) -> Vec<u8> {
    let ids = |n: u8| [field(1, &[n; 16]), field(2, &[n; 8]), field(5, b"n")].concat();
    let span = |n: u8| field(2, &[ids(n), attributes.concat(), field(15, b"\x18\x01")].concat());
    field(1, &field(2, &[span(1), span(2)].concat()))
}

fn field(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, body);
    out
}

#[test]
fn attributes_survive_however_they_are_written() {
    // Lengths that are longer than they need be.
    let long = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] |= 0x80;
        bytes.insert(at + 1, 0);
        bytes
    };
    let (key, text) =
        (|n: u8| field(1, format!("key.{n}").as_bytes()), |n: u8| field(1, format!("value {n}").as_bytes()));
    let of = |n: u8, rest: &[u8]| field(9, &[&key(n)[..], rest].concat());
    let plain = |n: u8| of(n, &field(2, &text(n)));
    let wire = vec![
        plain(0),
        long(plain(1), 1),
        of(2, &long(field(2, &text(2)), 1)),
        of(3, &field(2, &long(text(3), 1))),
        field(9, &[field(2, &text(4)), key(4)].concat()),
        of(5, &field(2, &field(5, &field(1, &text(5))))),
        of(6, &[]),
        of(7, &field(2, b"")),
        of(8, &[field(2, &text(8)), field(99, b"unknown")].concat()),
        of(9, &field(2, &[text(9), field(99, b"unknown")].concat())),
        field(9, &[field(1, "k".repeat(300).as_bytes()), field(2, &text(10))].concat()),
        // Attributes in two rows, and of keys that were there.
        field(5, b"another name"),
        plain(11),
        of(2, &long(field(2, &text(12)), 1)),
        plain(0),
    ];
    for left_out in 0..wire.len() {
        let wire: Vec<Vec<u8>> =
            wire.iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, w)| w.clone()).collect();
        let request = twice(&wire);
        let back = through_columns(&request);
        assert_same_spans("wire", &canonical(&request), &canonical(&back));
        let count = |bytes: &[u8]| bytes.windows(7).filter(|w| w == b"unknown").count();
        assert_eq!(count(&back), count(&request), "unknown fields without the {left_out}th");
    }
}

#[test]
fn more_keys_than_are_remembered_survive() {
    let attribute = |n: usize| support::string(&format!("key.{n}"), "value of some length, so that it is worth a note");
    let span = |n: u64| support::span(n, (0..9_000).map(|n| attribute(n % 5_000)).collect());
    let request = support::request(vec![], vec![span(1), span(2)]);
    assert_same_spans("keys", &canonical(&request), &canonical(&through_columns(&request)));
}

/// In linear time: quadratic, it would take minutes.
#[test]
fn a_span_that_repeats_a_key_a_hundred_thousand_times_survives() {
    let repeated = [&b"\x4a\x10\x0a\x01k\x12\x8a\x00\x0a\x08"[..], b"somevalu"].concat();
    let request = twice(&vec![repeated; 100_000]);
    assert_same_spans("repeats", &canonical(&request), &canonical(&through_columns(&request)));
}

#[test]
fn groups_survive() {
    // Field 100, a group with a varint in it.
    let group = || vec![0xa3, 0x06, 0x08, 42, 0xa4, 0x06];
    let attribute = || field(9, &[field(1, b"a"), field(2, &field(1, b"b"))].concat());
    for wire in
        [vec![group(), attribute()], vec![attribute(), group()], vec![group(), attribute(), group(), attribute()]]
    {
        let request = twice(&wire);
        let count = |bytes: &[u8]| bytes.windows(6).filter(|w| *w == group()).count();
        assert_eq!(count(&through_columns(&request)), count(&request));
        let mut batch = support::batch(&request);
        batch.for_each_mut(|span| {
            span.set_name("x");
            span.remove("a");
        });
        assert_eq!(count(&batch.encode()), count(&request));
    }
}

#[test]
fn fields_of_tomorrow_survive() {
    // Field 99 of a span, and of a status: a varint each.
    let mut span = Span { name: "n".to_owned(), ..Span::default() }.encode_to_vec();
    span.extend([0x98, 0x06, 42]);
    span.extend([0x7a, 5, 0x18, 2, 0x98, 0x06, 7]);
    let length = |n: usize| u8::try_from(n).unwrap();
    let scope = [&[0x12, length(span.len())], &span[..]].concat();
    let resource = [&[0x12, length(scope.len())], &scope[..]].concat();
    let request = [&[0x0a, length(resource.len())], &resource[..]].concat();
    let back = through_columns(&request);
    let find = |needle: &[u8]| back.windows(needle.len()).any(|window| window == needle);
    assert!(find(&[0x98, 0x06, 42]) && find(&[0x7a, 5, 0x18, 2, 0x98, 0x06, 7]), "{back:?}");
}

#[test]
fn an_attribute_without_a_value_is_not_one_with_an_empty_value() {
    let none = KeyValue { key: "none".to_owned(), ..KeyValue::default() };
    let empty = KeyValue { key: "empty".to_owned(), value: Some(AnyValue { value: None }), ..KeyValue::default() };
    let request = support::request(vec![none.clone()], vec![support::span(1, vec![none, empty])]);
    assert_same_spans("empty", &canonical(&request), &canonical(&through_columns(&request)));
}

// === Made-up spans ===

/// Keys that mean something to the columns, keys that look as if they did, and any others.
fn key() -> impl Strategy<Value = String> {
    let known = prop_oneof![
        "(gen_ai\\.(prompt|completion)|llm\\.(input|output)_messages|llm\\.tools|llm\\.request\\.functions)\\.[0-3](\\.(role|content|message|tool|0|1|)){0,3}",
        "llm\\.input_messages\\.[01]\\.message\\.(role|content|tool_calls\\.[01]\\.name)",
        "traceloop\\.association\\.properties\\.(user_id|session_id|a|)",
        "gen_ai\\.(input\\.messages|output\\.messages|tool\\.definitions|usage\\.(input_tokens|output_tokens|cost\\.amount)|response\\.finish_reasons|is_streaming|request\\.model)",
        "(traceloop\\.entity|ai\\.toolCall)\\.(input|output|args)|ai\\.operationId|traceloop\\.span\\.kind|doubleValue|bytesValue",
    ];
    prop_oneof![4 => known, 1 => "[a-c]{0,2}", 1 => any::<String>()]
}

fn value() -> impl Strategy<Value = Option<Value>> {
    let double = prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::from_bits(0x7ff8_0000_0000_0001)),
        Just(-0.0),
        Just(7.0),
        Just(f64::NEG_INFINITY),
        Just(1e300),
    ];
    let leaf = prop_oneof![
        Just(None),
        any::<String>().prop_map(|s| Some(Value::StringValue(s))),
        "[0-9]{1,8}(\\.[0-9]{1,14})?|\\[\"stop\"\\]|chat".prop_map(|s| Some(Value::StringValue(s))),
        any::<bool>().prop_map(|b| Some(Value::BoolValue(b))),
        any::<i64>().prop_map(|i| Some(Value::IntValue(i))),
        double.prop_map(|d| Some(Value::DoubleValue(d))),
        vec(any::<u8>(), 0..6).prop_map(|b| Some(Value::BytesValue(b))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let any_value = inner.prop_map(|value| AnyValue { value });
        let pair = (prop_oneof!["[ab]?", Just("bytesValue".to_owned()), any::<String>()], any_value.clone());
        let pair = (pair, any::<bool>()).prop_map(|((key, value), has)| KeyValue {
            key,
            value: has.then_some(value),
            ..KeyValue::default()
        });
        prop_oneof![
            vec(any_value, 0..4).prop_map(|values| Some(Value::ArrayValue(ArrayValue { values }))),
            vec(pair, 0..4).prop_map(|values| Some(Value::KvlistValue(KeyValueList { values }))),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute = (key(), value(), prop::bool::weighted(0.95)).prop_map(|(key, value, has)| KeyValue {
        key,
        value: has.then_some(AnyValue { value }),
        ..KeyValue::default()
    });
    vec(attribute, 0..8)
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), len..=len), 1 => Just(Vec::new())]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 1_795_248_000_000_000_000u64..1_795_248_100_000_000_000,
        1 => any::<u64>(),
        1 => Just(0),
        1 => Just(u64::MAX)
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 0..6i32, 1 => any::<i32>()]
}

prop_compose! {
    fn event()(time_unix_nano in time(), name in any::<String>(), attributes in attributes(),
               dropped_attributes_count in count()) -> Event {
        Event { time_unix_nano, name, attributes, dropped_attributes_count }
    }
}

prop_compose! {
    fn link()(trace_id in id(16), span_id in id(8), trace_state in ".{0,3}", attributes in attributes(),
              dropped_attributes_count in count(), flags in count()) -> Link {
        Link { trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags }
    }
}

prop_compose! {
    fn spans()(
        ids in (id(16), id(8), prop_oneof![Just(Vec::new()), id(8)]),
        times in (time(), time()),
        text in (".{0,3}", any::<String>()),
        counts in (count(), count(), count(), count()),
        kind in number(),
        status in prop::option::of((number(), ".{0,4}")),
        attributes in attributes(),
        events in vec(event(), 0..3),
        links in vec(link(), 0..2),
    ) -> Span {
        Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            trace_state: text.0,
            name: text.1,
            kind,
            attributes,
            events,
            links,
            dropped_attributes_count: counts.0,
            dropped_events_count: counts.1,
            dropped_links_count: counts.2,
            flags: counts.3,
            status: status.map(|(code, message)| Status { code, message }),
        }
    }
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let named = prop_oneof![Just("service.name"), Just("deployment.environment"), Just("a")];
    let string = (named, ".{0,50}").prop_map(|(key, value)| support::string(key, &value));
    let plain = vec(string, 0..3).prop_map(|attributes| Resource { attributes, ..Resource::default() });
    let odd = (attributes(), count()).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        ..Resource::default()
    });
    prop::option::of(prop_oneof![plain, odd])
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = (".{0,3}", ".{0,3}", prop_oneof![Just(Vec::new()), attributes()], count());
    prop::option::of(scope.prop_map(|(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
        name,
        version,
        attributes,
        dropped_attributes_count,
    }))
}

fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans = (scope(), vec(spans(), 0..3), ".{0,2}");
    let scope_spans = scope_spans.prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let resource_spans = (resource(), vec(scope_spans, 0..3), ".{0,2}")
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 1..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
