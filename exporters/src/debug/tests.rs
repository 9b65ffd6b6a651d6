mod records;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as V;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::testing::{context, settled};

/// What was written, a batch per entry.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn wrapped(value: V) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: V) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(wrapped(value)), ..KeyValue::default() }
}

fn text(value: &str) -> V {
    V::StringValue(value.to_owned())
}

fn request() -> ExportTraceServiceRequest {
    let full = Span {
        trace_id: (1..=16).collect(),
        span_id: (17..=24).collect(),
        name: "chat".to_owned(),
        kind: 3,
        trace_state: "ot=th:0".to_owned(),
        start_time_unix_nano: 1_581_452_772_000_000_321,
        end_time_unix_nano: 1_581_452_773_500_000_000,
        attributes: vec![
            attribute("gen_ai.system", text("openai")),
            attribute("tokens", V::IntValue(-7)),
            attribute("stream", V::BoolValue(true)),
            attribute("temperature", V::DoubleValue(0.7)),
            attribute("raw", V::BytesValue(vec![1, 2, 3])),
            attribute(
                "stop",
                V::ArrayValue(ArrayValue { values: vec![wrapped(text("<a>")), wrapped(V::DoubleValue(1.0))] }),
            ),
            attribute(
                "tool",
                V::KvlistValue(KeyValueList {
                    values: vec![attribute("z", text("1")), attribute("a", V::IntValue(2))],
                }),
            ),
            KeyValue { key: "nothing".to_owned(), ..KeyValue::default() },
        ],
        dropped_attributes_count: 1,
        events: vec![span::Event {
            time_unix_nano: 1_581_452_773_000_000_000,
            name: "token".to_owned(),
            attributes: vec![attribute("n", V::IntValue(1))],
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        status: Some(Status { message: "cut".to_owned(), code: 2 }),
        ..Span::default()
    };
    let linked = Span {
        name: "root".to_owned(),
        parent_span_id: vec![9; 8],
        links: vec![span::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            dropped_attributes_count: 4,
            attributes: vec![attribute("k", text("v"))],
            ..span::Link::default()
        }],
        dropped_links_count: 5,
        ..Span::default()
    };
    let scope = InstrumentationScope {
        name: "openllmetry".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![attribute("s", text("t"))],
        ..InstrumentationScope::default()
    };
    let resource = Resource { attributes: vec![attribute("service.name", text("bot"))], ..Resource::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: vec![full, linked],
                schema_url: "https://s".to_owned(),
            }],
            schema_url: "https://r".to_owned(),
        }],
    }
}

const DETAILED: &str = r#"ResourceSpans #0
Resource SchemaURL: https://r
Resource attributes:
     -> service.name: Str(bot)
ScopeSpans #0
ScopeSpans SchemaURL: https://s
InstrumentationScope openllmetry 1.2
InstrumentationScope attributes:
     -> s: Str(t)
Span #0
    Trace ID       : 0102030405060708090a0b0c0d0e0f10
    Parent ID      : 
    ID             : 1112131415161718
    Name           : chat
    Kind           : Client
    TraceState     : ot=th:0
    Start time     : 2020-02-11 20:26:12.000000321 +0000 UTC
    End time       : 2020-02-11 20:26:13.5 +0000 UTC
    Status code    : Error
    Status message : cut
    DroppedAttributesCount: 1
    DroppedEventsCount: 3
    DroppedLinksCount: 0
Attributes:
     -> gen_ai.system: Str(openai)
     -> tokens: Int(-7)
     -> stream: Bool(true)
     -> temperature: Double(0.7)
     -> raw: Bytes(AQID)
     -> stop: Slice(["<a>",1])
     -> tool: Map({"a":2,"z":"1"})
     -> nothing: Empty()
Events:
SpanEvent #0
     -> Name: token
     -> Timestamp: 2020-02-11 20:26:13 +0000 UTC
     -> DroppedAttributesCount: 2
     -> Attributes::
          -> n: Int(1)
Span #1
    Trace ID       : 
    Parent ID      : 0909090909090909
    ID             : 
    Name           : root
    Kind           : Unspecified
    Start time     : 1970-01-01 00:00:00 +0000 UTC
    End time       : 1970-01-01 00:00:00 +0000 UTC
    Status code    : Unset
    Status message : 
    DroppedAttributesCount: 0
    DroppedEventsCount: 0
    DroppedLinksCount: 5
Links:
SpanLink #0
     -> Trace ID: 01010101010101010101010101010101
     -> ID: 0202020202020202
     -> TraceState: 
     -> DroppedAttributesCount: 4
     -> Attributes::
          -> k: Str(v)
"#;

const NORMAL: &str = r#"ResourceTraces #0 [https://r] service.name=bot
ScopeTraces #0 openllmetry@1.2 [https://s] s=t
chat 0102030405060708090a0b0c0d0e0f10 1112131415161718 gen_ai.system=openai tokens=-7 stream=true temperature=0.7 raw=AQID stop=["<a>",1] tool={"a":2,"z":"1"} nothing=
root  
"#;

const COUNTS: &str = "Traces\t{\"resource spans\": 1, \"spans\": 2}\n";

async fn printed(verbosity: Verbosity, signal: Signal, bytes: Vec<u8>) -> String {
    let (paper, context) = (Paper::default(), context());
    let telemetry = context.telemetry.clone();
    let config = DebugConfig { verbosity, ..DebugConfig::default() };
    let exporter = Debug::with_writer(config, context, paper.clone()).create(0, signal, Shutdown::channel().1);
    let batch = Batch::decode(signal, bytes.into()).unwrap();
    if signal == Signal::Traces {
        let records = batch.len() as u64;
        exporter.consume(batch).await;
        settled(&telemetry, records, 0, 0);
    } else {
        exporter.consume(batch).await;
    }
    paper.text()
}

#[tokio::test]
async fn traces_are_printed_as_the_collector_does() {
    let bytes = request().encode_to_vec();
    let at = |verbosity| printed(verbosity, Signal::Traces, bytes.clone());
    assert_eq!(at(Verbosity::Basic).await, COUNTS);
    assert_eq!(at(Verbosity::Normal).await, format!("{COUNTS}{NORMAL}\n"));
    assert_eq!(at(Verbosity::Detailed).await, format!("{COUNTS}{DETAILED}\n"));
}

#[tokio::test(start_paused = true)]
async fn batches_are_sampled_per_second() {
    let (paper, context) = (Paper::default(), context());
    let telemetry = context.telemetry.clone();
    let config = DebugConfig { sampling_initial: 2, sampling_thereafter: 3, ..DebugConfig::default() };
    let exporter = Debug::with_writer(config, context, paper.clone()).create(0, Signal::Traces, Shutdown::channel().1);
    let bytes = request().encode_to_vec();
    for expected in [1, 2, 2, 2, 3, 3, 3, 4] {
        exporter.consume(Batch::decode(Signal::Traces, bytes.clone().into()).unwrap()).await;
        assert_eq!(paper.text().lines().count(), expected);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    exporter.consume(Batch::decode(Signal::Traces, bytes.into()).unwrap()).await;
    assert_eq!(paper.text().lines().count(), 5);
    settled(&telemetry, 18, 0, 0);
}

#[tokio::test]
async fn a_broken_output_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let context = context();
    let telemetry = context.telemetry.clone();
    let exporter =
        Debug::with_writer(DebugConfig::default(), context, Broken).create(0, Signal::Traces, Shutdown::channel().1);
    exporter.consume(Batch::decode(Signal::Traces, request().encode_to_vec().into()).unwrap()).await;
    settled(&telemetry, 0, 2, 0);
}

#[test]
fn numbers_look_like_gos() {
    let shown = |value: f64| printed_attribute(V::DoubleValue(value));
    let expected = [
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, text) in expected {
        assert_eq!(shown(value), format!("Double({text})"));
    }
}

#[test]
fn whoever_sends_a_span_writes_no_lines_and_no_colours() {
    let evil = "n\n2026-01-01 ERROR fake \u{1b}[31mred\r\t\u{7f}\u{9b}2J\u{2028}\0";
    let mut request = request();
    let container = &mut request.resource_spans[0];
    let nested = V::ArrayValue(ArrayValue { values: vec![wrapped(text(evil))] });
    container.schema_url = evil.to_owned();
    container.resource.as_mut().unwrap().attributes = vec![attribute(evil, text(evil)), attribute("l", nested)];
    let scope = container.scope_spans[0].scope.as_mut().unwrap();
    (scope.name, scope.version) = (evil.to_owned(), evil.to_owned());
    let span = &mut container.scope_spans[0].spans[0];
    (span.name, span.trace_state) = (evil.to_owned(), evil.to_owned());
    span.status = Some(Status { message: evil.to_owned(), ..Status::default() });
    span.events[0].name = evil.to_owned();
    let bytes = request.encode_to_vec();
    let shown = r"n\n2026-01-01 ERROR fake \u001b[31mred\r\t\u007f\u009b2J\u2028\u0000";
    for (print, times) in [(super::text::lines as fn(Signal, &[u8], &mut String), 7), (super::text::everything, 10)] {
        let mut out = String::new();
        print(Signal::Traces, &bytes, &mut out);
        assert!(!out.chars().any(|c| c != '\n' && c.is_control() || c == '\u{2028}'), "{out}");
        assert!(!out.lines().any(|line| line.starts_with("2026")), "{out}");
        assert_eq!(out.matches(shown).count(), times, "{out}");
    }
}

fn printed_attribute(value: V) -> String {
    let mut request = request();
    request.resource_spans[0].resource.as_mut().unwrap().attributes = vec![attribute("k", value)];
    let mut out = String::new();
    super::text::everything(Signal::Traces, &request.encode_to_vec(), &mut out);
    out.lines().find_map(|l| l.strip_prefix("     -> k: ")).unwrap().to_owned()
}

#[test]
fn times_are_those_of_the_calendar() {
    let expected = [
        (0, "1970-01-01 00:00:00"),
        (951_782_400, "2000-02-29 00:00:00"),
        (951_868_799, "2000-02-29 23:59:59"),
        (4_107_542_400, "2100-03-01 00:00:00"),
        (1_785_542_400, "2026-08-01 00:00:00"),
    ];
    for (seconds, text) in expected {
        assert_eq!(super::text::Time(seconds * 1_000_000_000).to_string(), format!("{text} +0000 UTC"));
    }
}

proptest! {
    #[test]
    fn times_agree_with_another_implementation(nanos in any::<u64>()) {
        let ours = super::text::Time(nanos).to_string();
        let theirs = std::time::UNIX_EPOCH + Duration::from_secs(nanos / 1_000_000_000);
        // "Sun, 06 Nov 1994 08:49:37 GMT"
        let theirs = httpdate::fmt_http_date(theirs);
        prop_assert_eq!(&ours[..4], &theirs[12..16]);
        prop_assert_eq!(&ours[8..10], &theirs[5..7]);
        prop_assert_eq!(&ours[11..19], &theirs[17..25]);
    }
}
