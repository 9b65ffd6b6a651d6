//! Logs and metrics, and where the text goes.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};

use super::*;

fn logs() -> Vec<u8> {
    let full = LogRecord {
        time_unix_nano: 1_581_452_773_000_000_000,
        observed_time_unix_nano: 1_581_452_774_000_000_000,
        severity_number: 18,
        severity_text: "ERROR2".to_owned(),
        body: Some(wrapped(text("it broke"))),
        attributes: vec![attribute("model", text("gpt")), attribute("n", V::IntValue(3))],
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        flags: 1,
        event_name: "failure".to_owned(),
        ..LogRecord::default()
    };
    let scope = InstrumentationScope { name: "app".to_owned(), ..InstrumentationScope::default() };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", text("bot"))],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope),
                log_records: vec![full, LogRecord::default()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request.encode_to_vec()
}

const LOGS: &str = "\
Logs\t{\"resource logs\": 1, \"log records\": 2}
ResourceLog #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(bot)
ScopeLogs #0
ScopeLogs SchemaURL: 
InstrumentationScope app 
LogRecord #0
ObservedTimestamp: 2020-02-11 20:26:14 +0000 UTC
Timestamp: 2020-02-11 20:26:13 +0000 UTC
SeverityText: ERROR2
SeverityNumber: Error2(18)
EventName: failure
Body: Str(it broke)
Attributes:
     -> model: Str(gpt)
     -> n: Int(3)
Trace ID: 01010101010101010101010101010101
Span ID: 0202020202020202
Flags: 1
LogRecord #1
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
SeverityText: 
SeverityNumber: Unspecified(0)
Body: Empty()
Trace ID: 
Span ID: 
Flags: 0
";

#[tokio::test]
async fn logs_are_printed_as_the_collector_does() {
    assert_eq!(printed(Verbosity::Detailed, Signal::Logs, logs()).await, format!("{LOGS}\n"));
    let normal = "Logs\t{\"resource logs\": 1, \"log records\": 2}\n\
                  ResourceLog #0 service.name=bot\nScopeLog #0 app\nit broke model=gpt n=3\n \n\n";
    assert_eq!(printed(Verbosity::Normal, Signal::Logs, logs()).await, normal);
}

fn metrics() -> Vec<u8> {
    let metric = |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() };
    let number = |value, attributes| NumberDataPoint {
        attributes,
        time_unix_nano: 1_581_452_773_000_000_000,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let exemplar = Exemplar {
        trace_id: vec![1; 16],
        value: Some(exemplar::Value::AsInt(4)),
        filtered_attributes: vec![attribute("f", text("x"))],
        ..Exemplar::default()
    };
    let counted = NumberDataPoint { exemplars: vec![exemplar], ..number(number_data_point::Value::AsInt(-2), vec![]) };
    let attributes = vec![attribute("a", text("b")), attribute("c", V::IntValue(1))];
    let histogram = HistogramDataPoint {
        count: 3,
        sum: Some(4.5),
        max: Some(3.0),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.5],
        ..HistogramDataPoint::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        count: 7,
        scale: -1,
        zero_count: 1,
        positive: Some(Buckets { offset: -1, bucket_counts: vec![2, 1] }),
        negative: Some(Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        count: 2,
        sum: 1.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 1e-7 }],
        ..SummaryDataPoint::default()
    };
    let gauge = Gauge { data_points: vec![number(number_data_point::Value::AsDouble(0.25), attributes)] };
    let sum = Sum { data_points: vec![counted], aggregation_temporality: 2, is_monotonic: true };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: 1 };
    let exponential = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 0 };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![
                    metric("g", Data::Gauge(gauge)),
                    metric("s", Data::Sum(sum)),
                    metric("h", Data::Histogram(histogram)),
                    metric("e", Data::ExponentialHistogram(exponential)),
                    metric("q", Data::Summary(Summary { data_points: vec![summary] })),
                    Metric { name: "none".to_owned(), ..Metric::default() },
                ],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec()
}

const METRICS: &str = "\
Metrics\t{\"resource metrics\": 1, \"metrics\": 6, \"data points\": 5}
ResourceMetrics #0
Resource SchemaURL: 
ScopeMetrics #0
ScopeMetrics SchemaURL: 
InstrumentationScope  
Metric #0
Descriptor:
     -> Name: g
     -> Description: 
     -> Unit: 
     -> DataType: Gauge
NumberDataPoints #0
Data point attributes:
     -> a: Str(b)
     -> c: Int(1)
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 2020-02-11 20:26:13 +0000 UTC
Value: 0.250000
Metric #1
Descriptor:
     -> Name: s
     -> Description: 
     -> Unit: 
     -> DataType: Sum
     -> IsMonotonic: true
     -> AggregationTemporality: Cumulative
NumberDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 2020-02-11 20:26:13 +0000 UTC
Value: -2
Exemplars:
Exemplar #0
     -> Trace ID: 01010101010101010101010101010101
     -> Span ID: 
     -> Timestamp: 1970-01-01 00:00:00 +0000 UTC
     -> Value: 4
     -> FilteredAttributes:
          -> f: Str(x)
Metric #2
Descriptor:
     -> Name: h
     -> Description: 
     -> Unit: 
     -> DataType: Histogram
     -> AggregationTemporality: Delta
HistogramDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Count: 3
Sum: 4.500000
Max: 3.000000
ExplicitBounds #0: 0.500000
Buckets #0, Count: 1
Buckets #1, Count: 2
Metric #3
Descriptor:
     -> Name: e
     -> Description: 
     -> Unit: 
     -> DataType: ExponentialHistogram
     -> AggregationTemporality: Unspecified
ExponentialHistogramDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Count: 7
Bucket [-16.000000, -4.000000), Count: 2
Bucket [-4.000000, -1.000000), Count: 1
Bucket [0, 0], Count: 1
Bucket (0.250000, 1.000000], Count: 2
Bucket (1.000000, 4.000000], Count: 1
Metric #4
Descriptor:
     -> Name: q
     -> Description: 
     -> Unit: 
     -> DataType: Summary
SummaryDataPoints #0
StartTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 1970-01-01 00:00:00 +0000 UTC
Count: 2
Sum: 1.500000
QuantileValue #0: Quantile 0.500000, Value 0.000000
Metric #5
Descriptor:
     -> Name: none
     -> Description: 
     -> Unit: 
     -> DataType: Empty
";

#[tokio::test]
async fn metrics_are_printed_as_the_collector_does() {
    assert_eq!(printed(Verbosity::Detailed, Signal::Metrics, metrics()).await, format!("{METRICS}\n"));
    let normal = printed(Verbosity::Normal, Signal::Metrics, metrics()).await;
    let lines: Vec<&str> = normal.lines().skip(1).collect();
    let expected = [
        "ResourceMetrics #0",
        "ScopeMetrics #0",
        "g{a=b,c=1} 0.25",
        "s{} -2",
        "h{} count=3 sum=4.5 max=3 le0.5=1 2",
        "e{} count=7 le-4=2 le-1=1 zero=1 le1=2 le4=1",
        "q{} count=2 sum=1.500000 q0.5=1e-07",
        "",
    ];
    assert_eq!(lines, expected);
    let basic = printed(Verbosity::Basic, Signal::Metrics, metrics()).await;
    assert_eq!(basic.lines().count(), 1);
}

proptest! {
    #[test]
    fn no_request_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for signal in Signal::ALL {
            let mut out = String::new();
            super::super::text::lines(signal, &bytes, &mut out);
            super::super::text::everything(signal, &bytes, &mut out);
        }
    }
}

#[tokio::test]
async fn the_text_goes_to_every_output() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.log", "b.log"].map(|name| folder.path().join(name));
    let parse = |yaml: &str| {
        let node = weir_pipeline::config::Node::parse("weir.yaml", yaml).unwrap();
        Debug::from_config(&node, "exporters::debug", &context()).map_err(|e| e.to_string())
    };
    let factory = parse(&format!("{{output_paths: ['{}', '{}']}}", paths[0].display(), paths[1].display())).unwrap();
    let exporter = factory.create(0, Signal::Traces, Shutdown::channel().1);
    for _ in 0..2 {
        exporter.consume(Batch::decode(Signal::Traces, request().encode_to_vec().into()).unwrap()).await;
    }
    for path in paths {
        assert_eq!(std::fs::read_to_string(path).unwrap(), COUNTS.repeat(2));
    }
    for (yaml, text) in [
        ("{use_internal_logger: true}", "use_internal_logger: cannot be true"),
        ("{output_paths: []}", "output_paths: must not be empty"),
        ("{sending_queue: {}}", "sending_queue"),
    ] {
        let error = parse(yaml).err().unwrap();
        assert!(error.starts_with("weir.yaml:1:") && error.contains(text), "{error}");
    }
}
