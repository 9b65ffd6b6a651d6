//! What the process says of itself: metrics, health, pages, log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::Instant;

use http_body_util::BodyExt;
use support::client::{self, HttpClient};
use support::numbered;
use support::sink::Sink;
use support::{PATIENCE, Weir, folder, weir};
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json::to_json;
use weir_pipeline::signal::Signal;

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

/// A request of one span with this id.
fn span(id: u64) -> Vec<u8> {
    numbered::span(id, b"the prompt of a user")
}

async fn get(client: &HttpClient, to: SocketAddr, path: &str) -> (u16, String) {
    let response = client.get(format!("http://{to}{path}").parse().unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
}

fn listens(weir: &Weir, component: &str) -> SocketAddr {
    let line = weir.seen(&format!("{component} listens on "));
    line.split_once(" listens on ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

fn metrics(weir: &Weir) -> SocketAddr {
    let line = weir.seen("metrics are at http://");
    line.rsplit_once("http://").unwrap().1.strip_suffix("/metrics").unwrap().parse().unwrap()
}

/// Asks until `wanted` is a line of the metrics.
async fn shows(client: &HttpClient, to: SocketAddr, wanted: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = get(client, to, "/metrics").await;
        assert_eq!(status, 200);
        if text.lines().any(|line| line == wanted) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {wanted} in\n{text}");
        tokio::task::yield_now().await;
    }
}

fn config(backend: SocketAddr, telemetry: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}}}}}
processors: {{batch: {{timeout: 1ms}}}}
exporters:
  otlp_http:
    endpoint: http://{backend}
    compression: none
    headers: {{authorization: 'Bearer hunter2'}}
extensions:
  health_check: {{endpoint: 127.0.0.1:0, path: /health}}
  zpages: {{endpoint: 127.0.0.1:0}}
  bearertokenauth: {{token: hunter3}}
  basicauth/client: {{client_auth: {{username: weir, password: hunter4}}}}
service:
  extensions: [health_check, zpages, bearertokenauth, basicauth/client]
  telemetry: {telemetry}
  pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [otlp_http]}}}}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_span_is_accounted_for_and_shown() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let weir = Weir::start(&folder, &config(sink.address, "{metrics: {address: '127.0.0.1:0', level: detailed}}"));
    let client = client::http1();
    let (health, zpages, metrics) = (listens(&weir, "health_check"), listens(&weir, "zpages"), metrics(&weir));
    let (status, body) = get(&client, health, "/health").await;
    assert!(status == 200 && body.starts_with(r#"{"status":"Server available","upSince":"20"#), "{status} {body}");
    for id in 0..7 {
        let (status, _) = client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(id)).await;
        assert_eq!(status, 200);
    }
    let text = shows(&client, metrics, "otelcol_exporter_sent_spans{exporter=\"otlp_http\"} 7").await;
    for line in [
        "otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"http\"} 7",
        "otelcol_receiver_refused_spans{receiver=\"otlp\",transport=\"http\"} 0",
        "otelcol_processor_incoming_items{processor=\"batch\",otel_signal=\"traces\"} 7",
        "otelcol_processor_outgoing_items{processor=\"batch\",otel_signal=\"traces\"} 7",
        "weir_exporter_offered_spans{exporter=\"otlp_http\"} 7",
        "weir_exporter_consumed_spans{exporter=\"otlp_http\"} 7",
        "weir_exporter_in_flight_spans{exporter=\"otlp_http\"} 0",
        "otelcol_exporter_queue_capacity{exporter=\"otlp_http\",data_type=\"traces\"} 1000",
        "# TYPE otelcol_exporter_queue_size gauge",
        "weir_accounting_difference{exporter=\"otlp_http\",signal=\"traces\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
    }
    let page = get(&client, zpages, "/debug/pipelinez").await.1;
    assert!(page.contains("accepted 7, refused 0") && page.contains("delivered 7, dropped 0, held 0"), "{page}");
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("unaccounted for"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_what_was_asked_for_and_tells_no_secrets() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let file = folder.join("weir.log");
    let telemetry = format!(
        "{{metrics: {{level: none}}, logs: {{level: debug, encoding: json, initial_fields: {{region: eu}}, \
         sampling: {{enabled: false}}, output_paths: [stderr, '{}']}}}}",
        file.display()
    );
    // The level of libraries is theirs to be chosen, too: everything there is.
    let weir = Weir::start_with(&folder, &config(sink.address, &telemetry), &["--log-level", "trace"]);
    let client = client::http1();
    let secret = &[("content-type", "application/x-protobuf"), ("authorization", "Bearer hunter5")];
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", secret, span(1)).await.0, 200);
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, vec![0x0a]).await.0, 400);
    assert!(weir.stop().0.success());
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(!log.contains("hunter"), "{}", line_with(&log, "hunter"));
    assert!(!log.contains("prompt of a user"), "{}", line_with(&log, "prompt of a user"));
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["region"] == "eu" && line["ts"].is_string()));
    assert!(lines.iter().any(|line| line["msg"] == "ready" && line["level"] == "info"));
    let refused = lines.iter().find(|line| line["otelcol.component.kind"] == "receiver");
    assert_eq!(refused.unwrap()["otelcol.component.id"], "otlp", "what a client sent wrong");
}

fn line_with<'t>(text: &'t str, part: &str) -> &'t str {
    text.lines().find(|line| line.contains(part)).unwrap_or_default()
}

/// What a backend was last told under a path: the value of this counter, with the secret that it was told it with.
fn told(sink: &Sink, path: &str, name: &str) -> Option<(u64, String)> {
    let request = sink.requests().into_iter().rev().find(|request| request.path == path)?;
    let secret = request.headers["api-key"].to_str().unwrap().to_owned();
    Some((counted(request.body, name)?, secret))
}

/// The value of a counter in a request, all its series together.
fn counted(request: bytes::Bytes, name: &str) -> Option<u64> {
    let batch = Batch::decode(Signal::Metrics, request).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&to_json(message_of(Signal::Metrics), &batch.encode())).unwrap();
    let metrics = json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().clone();
    let metric = metrics.into_iter().find(|metric| metric["name"] == name)?;
    let points = metric["sum"]["dataPoints"].as_array().unwrap().clone();
    Some(points.iter().map(|point| point["asInt"].as_str().unwrap().parse::<u64>().unwrap()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_metrics_are_sent_over_both_protocols() {
    const HTTP: &str = "/v1/metrics";
    const DELTA: &str = "/since/the/last";
    const GRPC: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let to = sink.address;
    let telemetry = format!(
        "{{metrics: {{readers: [
      {{periodic: {{interval: 20, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://{to}', headers: {{api-key: hunter5}}}}}}}}}},
      {{periodic: {{interval: 20, exporter: {{otlp: {{protocol: grpc, endpoint: 'http://{to}', headers: [{{name: api-key, value: hunter6}}]}}}}}}}},
      {{periodic: {{interval: 20, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://{to}{DELTA}', temporality_preference: delta}}}}}}}},
      {{periodic: {{exporter: {{otlp: {{protocol: grpc, endpoint: '127.0.0.1:1', insecure: true}}}}}}}}]}}}}"
    );
    let weir = Weir::start(&folder, &config(sink.address, &telemetry));
    weir.seen(&format!("Weir's own metrics are sent to {to}"));
    let client = client::http1();
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(1)).await.0, 200);
    let accepted = "otelcol_receiver_accepted_spans";
    let deadline = Instant::now() + PATIENCE;
    for (path, secret) in [(HTTP, "hunter5"), (GRPC, "hunter6")] {
        while told(&sink, path, accepted) != Some((1, secret.to_owned())) {
            assert!(Instant::now() < deadline, "{path}: {:?}", told(&sink, path, accepted));
            tokio::task::yield_now().await;
        }
    }
    // A stop says what became of everything, and waits for nobody who is away.
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("Weir's own metrics were not taken by 127.0.0.1:1: "), "{log}");
    assert!(!log.contains("hunter"), "{log}");
    for path in [HTTP, GRPC] {
        assert_eq!(told(&sink, path, "otelcol_exporter_sent_spans").map(|(sum, _)| sum), Some(1), "{path}");
    }
    let deltas: Vec<_> = sink.requests().into_iter().filter(|request| request.path == DELTA).collect();
    assert!(deltas.len() > 1);
    assert_eq!(deltas.into_iter().filter_map(|request| counted(request.body, accepted)).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_weir_starts_all_the_same() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let start = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        Weir::start(&folder, &config(sink.address, "{}"))
    };
    let (first, second) = (start("first"), start("second"));
    second.seen("is in use: Weir's own metrics are not served");
    assert!(second.stop().0.success() && first.stop().0.success());
}

#[test]
fn what_is_wrong_is_said_and_where() {
    let (_guard, folder) = folder();
    let refused = |telemetry: &str| {
        let text = config("127.0.0.1:1".parse().unwrap(), telemetry);
        std::fs::write(folder.join("weir.yaml"), text).unwrap();
        let output = weir().current_dir(&folder).args(["validate", "--config", "weir.yaml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (telemetry, error) in [
        ("{metric: {}}", "weir.yaml:15:15: service::telemetry: unknown key `metric`: did you mean `metrics`?"),
        ("{metrics: {level: all}}", "weir.yaml:15:32: service::telemetry::metrics::level: "),
        ("{logs: {encoding: xml}}", "weir.yaml:15:32: service::telemetry::logs::encoding: "),
        ("{traces: {processors: []}}", "weir.yaml:15:23: service::telemetry::traces: Weir makes no traces of itself"),
    ] {
        let text = refused(telemetry);
        assert!(text.contains(error), "{text}");
    }
}
