//! OTLP/JSON against prost: what real exporters sent, and random requests.

mod support;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;
use weir_pipeline::otlp::json::{Limits, to_json, to_protobuf};
use weir_pipeline::otlp::schema::{LOGS, METRICS, Message, TRACES};

/// As the JavaScript OTLP/HTTP exporter sent them (Vercel AI SDK 6).
const JSON: [&str; 4] = [
    include_str!("fixtures/json/vercel-ai-json__10.json"),
    include_str!("fixtures/json/vercel-ai-json__14.json"),
    include_str!("fixtures/json/vercel-ai-json__23.json"),
    include_str!("fixtures/json/vercel-ai-json__32.json"),
];

/// Protobuf to JSON and back.
fn round_trip(message: &'static Message, protobuf: &[u8]) -> Result<Vec<u8>, TestCaseError> {
    let json = to_json(message, protobuf);
    let back = to_protobuf(message, &json, Limits::default());
    back.map_err(|e| TestCaseError::fail(format!("{e}\n{}", String::from_utf8_lossy(&json))))
}

/// Both are read with prost and compared as prost writes them, so that NaN equals itself.
fn assert_same<M: prost::Message + Default>(message: &'static Message, protobuf: &[u8]) -> Result<(), TestCaseError> {
    let back = round_trip(message, protobuf)?;
    let (want, have) = (M::decode(protobuf), M::decode(back.as_slice()));
    let text = |m: &Result<M, _>| m.as_ref().map(M::encode_to_vec).map_err(ToString::to_string);
    prop_assert_eq!(text(&have), text(&want));
    // What has been through JSON once is in its final order: another time changes nothing.
    prop_assert_eq!(round_trip(message, &back)?, back);
    Ok(())
}

#[test]
fn what_sdks_sent_survives_json() -> Result<(), TestCaseError> {
    for bytes in [
        &include_bytes!("fixtures/otlp/traces/langchain__100.pb")[..],
        include_bytes!("fixtures/otlp/traces/sagemaker__5.pb"),
    ] {
        assert_same::<ExportTraceServiceRequest>(&TRACES, bytes)?;
    }
    for bytes in [
        &include_bytes!("fixtures/otlp/metrics/bedrock__349.pb")[..],
        include_bytes!("fixtures/otlp/metrics/ollama__32.pb"),
    ] {
        assert_same::<ExportMetricsServiceRequest>(&METRICS, bytes)?;
    }
    for bytes in [
        &include_bytes!("fixtures/otlp/logs/otel-openai-v2-latest__8.pb")[..],
        include_bytes!("fixtures/otlp/logs/anthropic__23.pb"),
    ] {
        assert_same::<ExportLogsServiceRequest>(&LOGS, bytes)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn traces_survive_json(request in support::arb_traces()) {
        assert_same::<ExportTraceServiceRequest>(&TRACES, &request.encode_to_vec())?;
    }

    #[test]
    fn metrics_survive_json(request in support::arb_metrics()) {
        assert_same::<ExportMetricsServiceRequest>(&METRICS, &request.encode_to_vec())?;
    }

    #[test]
    fn logs_survive_json(request in support::arb_logs()) {
        assert_same::<ExportLogsServiceRequest>(&LOGS, &request.encode_to_vec())?;
    }
}

#[test]
fn a_javascript_exporters_spans_are_read_as_they_stand() {
    let mut spans = 0;
    for text in JSON {
        let bytes = to_protobuf(&TRACES, text.as_bytes(), Limits::default()).unwrap();
        let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        let body: Value = serde_json::from_str(text).unwrap();
        let resources = body["resourceSpans"].as_array().unwrap();
        assert_eq!(request.resource_spans.len(), resources.len());
        for (have, want) in request.resource_spans.iter().zip(resources) {
            let resource = have.resource.as_ref().unwrap();
            assert_eq!(resource.attributes, attributes(&want["resource"]["attributes"]));
            let scopes = want["scopeSpans"].as_array().unwrap();
            assert_eq!(have.scope_spans.len(), scopes.len());
            for (have, want) in have.scope_spans.iter().zip(scopes) {
                assert_eq!(Value::from(have.scope.as_ref().unwrap().name.as_str()), want["scope"]["name"]);
                let list = want["spans"].as_array().unwrap();
                assert_eq!(have.spans.len(), list.len());
                have.spans.iter().zip(list).for_each(|(have, want)| check_span(have, want));
                spans += list.len();
            }
        }
    }
    assert_eq!(spans, 22);
}

/// Compares with the JSON, read here once more by simpler means.
fn check_span(have: &Span, want: &Value) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(Value::from(have.name.as_str()), want["name"]);
    assert_eq!(Value::from(hex(&have.trace_id)), want["traceId"]);
    assert_eq!(Value::from(hex(&have.span_id)), want["spanId"]);
    assert_eq!(hex(&have.parent_span_id), want["parentSpanId"].as_str().unwrap_or_default());
    assert_eq!(Value::from(have.kind), want["kind"]);
    assert_eq!(Value::from(have.start_time_unix_nano.to_string()), want["startTimeUnixNano"]);
    assert_eq!(Value::from(have.end_time_unix_nano.to_string()), want["endTimeUnixNano"]);
    assert_eq!(have.attributes, attributes(&want["attributes"]));
    let status = have.status.as_ref().expect("this exporter always writes a status");
    assert_eq!(Value::from(status.code), want["status"]["code"]);
    assert_eq!(status.message, want["status"]["message"].as_str().unwrap_or_default());
    let events = want["events"].as_array().expect("this exporter always writes events");
    assert_eq!(have.events.len(), events.len());
    for (have, want) in have.events.iter().zip(events) {
        assert_eq!(Value::from(have.name.as_str()), want["name"]);
        assert_eq!(Value::from(have.time_unix_nano.to_string()), want["timeUnixNano"]);
        assert_eq!(have.attributes, attributes(&want["attributes"]));
    }
}

fn attributes(list: &Value) -> Vec<KeyValue> {
    let one = |pair: &Value| KeyValue {
        key: pair["key"].as_str().unwrap_or_default().to_owned(),
        value: Some(any_value(&pair["value"])),
        ..KeyValue::default()
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

/// The kinds that occur in the fixtures.
fn any_value(value: &Value) -> AnyValue {
    let (kind, inner) = value.as_object().and_then(|o| o.iter().next()).expect("a value of one member");
    let value = match kind.as_str() {
        "stringValue" => any_value::Value::StringValue(inner.as_str().unwrap_or_default().to_owned()),
        "intValue" => any_value::Value::IntValue(inner.as_i64().expect("this exporter writes numbers")),
        "doubleValue" => any_value::Value::DoubleValue(inner.as_f64().expect("this exporter writes numbers")),
        "boolValue" => any_value::Value::BoolValue(inner == &Value::Bool(true)),
        "arrayValue" => {
            let values = inner["values"].as_array().into_iter().flatten().map(any_value).collect();
            any_value::Value::ArrayValue(ArrayValue { values })
        }
        other => panic!("{other} is new in the fixtures"),
    };
    AnyValue { value: Some(value) }
}

#[test]
fn presence_is_kept_where_protobuf_knows_it() {
    let json = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"histogram":{"dataPoints":[{"sum":0,"min":null},{"max":"0"}]}},
        {"gauge":{"dataPoints":[{"asInt":"0"},{"asDouble":0},{}]}},
        {"sum":{}}]}]}]}"#;
    let bytes = to_protobuf(&METRICS, json, Limits::default()).unwrap();
    let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
    let data: Vec<_> = request.resource_metrics[0].scope_metrics[0].metrics.iter().map(|m| m.data.as_ref()).collect();
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
    let [Some(Data::Histogram(histogram)), Some(Data::Gauge(gauge)), Some(Data::Sum(_))] = data[..] else {
        panic!("{data:?}");
    };
    let presence: Vec<_> = histogram.data_points.iter().map(|p| (p.sum, p.min, p.max)).collect();
    assert_eq!(presence, [(Some(0.0), None, None), (None, None, Some(0.0))]);
    let values: Vec<_> = gauge.data_points.iter().map(|p| p.value).collect();
    assert_eq!(values, [Some(Value::AsInt(0)), Some(Value::AsDouble(0.0)), None]);
}
