//! Real metrics and logs through the processors of the real binary: what comes out, and that everything is counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use http_body_util::BodyExt;
use support::client::{self, HttpClient};
use support::sink::Sink;
use support::{Weir, corpus, folder};
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;

const CONFIG: &str = "
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:0}, grpc: {endpoint: 127.0.0.1:0}}}}
processors:
  filter:
    metrics: {exclude: {match_type: regexp, metric_names: [duration$]}}
    logs: {exclude: {match_type: strict, record_attributes: [{key: gen_ai.system}]}}
  attributes:
    include: {match_type: regexp, resources: [{key: service.name}]}
    actions:
      - {key: gen_ai.response.model, action: delete}
      - {key: seen, value: true, action: insert}
  probabilistic_sampler: {sampling_percentage: 50, mode: equalizing}
exporters: {otlp_http: {endpoint: 'http://BACKEND', compression: none}}
service:
  telemetry: {metrics: {address: '127.0.0.1:0'}}
  pipelines:
    metrics: {receivers: [otlp], processors: [filter, attributes], exporters: [otlp_http]}
    logs: {receivers: [otlp], processors: [filter, attributes, probabilistic_sampler], exporters: [otlp_http]}
";

/// The sum of all series of a metric with this label.
fn sum(text: &str, name: &str, label: &str) -> usize {
    let series = text.lines().filter(|line| line.starts_with(name) && line[name.len()..].starts_with('{'));
    series
        .filter(|line| line.contains(label))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
        .sum()
}

/// Sends all requests of a signal in the corpus; how many there are.
async fn send(client: &HttpClient, weir: &Weir, signal: Signal) -> usize {
    let files = corpus::files(&format!("{signal}/"));
    for (path, bytes) in &files {
        let kind = if path.ends_with(".json") { "application/json" } else { "application/x-protobuf" };
        let headers = [("content-type", kind)];
        let (status, answer) =
            client::post(client, weir.http.unwrap(), &format!("/v1/{signal}"), &headers, bytes.clone()).await;
        assert_eq!(status, 200, "{path}: {answer:?}");
    }
    files.len()
}

/// What a backend has of a signal.
fn arrived(sink: &Sink, signal: Signal) -> Vec<Batch> {
    let requests = sink.requests().into_iter().filter(|request| request.path == format!("/v1/{signal}"));
    requests.map(|request| Batch::decode(signal, request.body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_metrics_and_logs_are_filtered_changed_sampled_and_counted() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let weir = Weir::start(&folder, &CONFIG.replace("BACKEND", &sink.address.to_string()));
    let client = client::http1();
    assert!(send(&client, &weir, Signal::Metrics).await > 0);
    assert!(send(&client, &weir, Signal::Logs).await > 0);
    let line = weir.seen("metrics are at http://");
    let page = line.rsplit_once("http://").unwrap().1;
    let response = client.get(format!("http://{page}").parse().unwrap()).await.unwrap();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap();
    let (status, log) = weir.stop();
    assert!(status.success() && !log.contains("unaccounted for"), "{log}");

    let mut left = 0;
    for mut batch in arrived(&sink, Signal::Metrics) {
        left += batch.len();
        batch.for_each_metric_mut(|metric| {
            let name = metric.view().name().to_string();
            assert!(!name.ends_with("duration"), "{name}");
            let is_of_a_service = metric.view().resource().attributes().get("service.name").is_some();
            metric.for_each_data_point(|point| {
                assert_eq!(point.attr("seen").is_some(), is_of_a_service);
                assert!(!is_of_a_service || point.attr("gen_ai.response.model").is_none());
            });
        });
    }
    let accepted = sum(&text, "otelcol_receiver_accepted_metric_points", "");
    let dropped = sum(&text, "weir_processor_dropped", "otel_signal=\"metrics\"");
    assert!(dropped > 0 && left > 0);
    assert_eq!(left + dropped, accepted, "{text}");
    assert_eq!(sum(&text, "otelcol_processor_filter_datapoints_filtered", ""), dropped);

    let mut left = 0;
    for mut batch in arrived(&sink, Signal::Logs) {
        left += batch.len();
        batch.for_each_log_record_mut(|record| {
            assert!(record.view().attr("sampling.threshold").is_some_and(|value| value.as_str() == Some("8")));
            assert!(record.view().attr("gen_ai.system").is_none());
        });
    }
    let accepted = sum(&text, "otelcol_receiver_accepted_log_records", "");
    let dropped = sum(&text, "weir_processor_dropped", "otel_signal=\"logs\"");
    assert!(dropped > 0 && left > 0, "{text}");
    assert_eq!(left + dropped, accepted, "{text}");
    assert!(sum(&text, "otelcol_processor_filter_logs_filtered", "") > 0);
    let sampled = sum(&text, "otelcol_processor_probabilistic_sampler_count_logs_sampled", "sampled=\"true\"");
    assert_eq!(sampled, left);
}
