//! The main job on real input: every request of the corpus through the real binary, over each protocol, into the store
//! and on to a second backend.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use support::client::{self, TRACES};
use support::sink::Sink;
use support::{Weir, corpus};
use tokio::sync::Semaphore;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json;
use weir_pipeline::signal::Signal;

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_over_grpc() {
    main_job(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_over_http_protobuf() {
    main_job(Protocol::HttpProtobuf).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_over_http_json() {
    main_job(Protocol::HttpJson).await;
}

async fn main_job(protocol: Protocol) {
    let (_guard, folder) = support::folder();
    let sink = Sink::start().await;
    let config = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}}}}}
processors:
  memory_limiter: {{check_interval: 1s, limit_mib: 2048}}
  cost:
exporters:
  parquet: {{url: ./store, flush: {{max_age: 200ms}}}}
  otlp_grpc: {{endpoint: {sink}, tls: {{insecure: true}}, compression: none}}
  otlp_http: {{endpoint: 'http://{sink}', compression: none}}
service:
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter, cost], exporters: [parquet, {exporter}]}}
",
        sink = sink.address,
        exporter = if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" },
    );
    let weir = Weir::start(&folder, &config);
    send_corpus(&weir, protocol).await;

    // While the collector runs: everything acknowledged is in the table, each span once.
    let store = folder.join("store");
    let count = |query: &str| support::sql(&store, query);
    assert_eq!(count("SELECT count(*) FROM spans"), [corpus::SPANS.to_string()]);
    assert_eq!(
        count("SELECT count(DISTINCT concat(trace_id, span_id)) FROM spans"),
        [corpus::SPANS.to_string()],
        "every id is unique"
    );
    let priced =
        count("SELECT count(*), count(total_cost), sum(total_cost) > 0.01 FROM spans WHERE price_key IS NOT NULL");
    let [spans, costs, sum] = priced[0].split(',').collect::<Vec<_>>()[..] else { panic!("{priced:?}") };
    assert_eq!((spans, sum), (costs, "true"), "a priced span has a cost, and it is money");
    assert!(spans.parse::<usize>().unwrap() > 850, "{priced:?}");

    // Of the spans of one call only the one that carries the cost has one.
    let deferred = count(
        "SELECT count(*) > 150, count(total_cost), count(price_key) FROM spans WHERE cost_status IN ('duplicate', 'aggregate')",
    );
    assert_eq!(deferred, ["true,0,0"]);
    let billed = count(
        "SELECT count(*) - count(total_cost) FROM spans WHERE cost_status = 'priced' UNION ALL \
         SELECT count(*) FROM spans WHERE total_cost IS NOT NULL AND coalesce(cost_status, '') <> 'priced'",
    );
    assert_eq!(billed, ["0", "0"], "who is priced has a cost, and nobody else");

    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    let all = corpus::SPANS;
    assert!(log.contains(&format!("received {all} spans, refused 0")), "{log}");
    let delivered = format!("of {all} spans delivered {all}, dropped 0, refused by a full queue 0, left behind 0");
    assert_eq!(log.matches(&delivered).count(), 2, "the store and the backend have everything:\n{log}");

    assert_forwarded(&sink);
    if protocol == Protocol::Grpc {
        assert_costs_are_the_same_again(&store);
    }
}

/// The same prices give the same costs, from rows as from requests: there is nothing to write.
fn assert_costs_are_the_same_again(store: &Path) {
    let versions = || std::fs::read_dir(store.join("projects/default/spans/_delta_log")).unwrap().count();
    let before = versions();
    let output =
        support::weir().args(["recost", "--from", "1970-01-01", "--format", "csv", "--store"]).arg(store).output();
    let output = output.unwrap();
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(": nothing changes; "), "{said}\n{table}");
    let spans: u64 = table.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse::<u64>().unwrap()).sum();
    assert!(spans > 850, "all that have a cost are computed again: {table}");
    assert_eq!(versions(), before);
}

/// Sends every request of the corpus, many at a time, and expects each to be acknowledged.
async fn send_corpus(weir: &Weir, protocol: Protocol) {
    let client = if protocol == Protocol::Grpc { client::http2() } else { client::http1() };
    let to = if protocol == Protocol::Grpc { weir.grpc.unwrap() } else { weir.http.unwrap() };
    let at_once = Arc::new(Semaphore::new(64));
    let mut tasks = tokio::task::JoinSet::new();
    for (path, bytes) in corpus::files("traces/") {
        let is_json = path.ends_with(".json");
        let traces = message_of(Signal::Traces);
        let body = match (protocol, is_json) {
            (Protocol::HttpJson, false) => json::to_json(traces, &bytes),
            (Protocol::HttpJson, true) | (_, false) => bytes,
            (_, true) => json::to_protobuf(traces, &bytes, json::Limits::default()).unwrap(),
        };
        let (client, at_once) = (client.clone(), Arc::clone(&at_once));
        tasks.spawn(async move {
            let _permit = at_once.acquire_owned().await.unwrap();
            match protocol {
                Protocol::Grpc => {
                    assert_eq!(client::export(&client, to, TRACES, &body).await, (0, String::new()), "{path}");
                }
                Protocol::HttpProtobuf | Protocol::HttpJson => {
                    let kind =
                        if protocol == Protocol::HttpJson { "application/json" } else { "application/x-protobuf" };
                    let (status, answer) =
                        client::post(&client, to, "/v1/traces", &[("content-type", kind)], body).await;
                    assert_eq!(status, 200, "{path}: {answer:?}");
                    assert_eq!(answer, if protocol == Protocol::HttpJson { "{}" } else { "" }, "{path}");
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Every forwarded span is its original's bytes, followed by nothing but Weir's attributes.
fn assert_forwarded(sink: &Sink) {
    let mut originals: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
    for (path, bytes) in corpus::files("traces/") {
        let bytes = if path.ends_with(".json") {
            json::to_protobuf(message_of(Signal::Traces), &bytes, json::Limits::default()).unwrap()
        } else {
            bytes
        };
        let batch = Batch::decode(Signal::Traces, bytes.into()).unwrap();
        for span in batch.spans() {
            let fields = span.fields();
            originals.insert([fields.trace_id, fields.span_id].concat(), Bytes::copy_from_slice(span.raw()));
        }
    }
    assert_eq!(originals.len(), corpus::SPANS);
    let mut costs = 0;
    for request in sink.requests() {
        let batch = Batch::decode(Signal::Traces, request.body).unwrap();
        for span in batch.spans() {
            let fields = span.fields();
            let original =
                originals.remove(&[fields.trace_id, fields.span_id].concat()).expect("a span that was sent, once");
            assert!(span.raw().starts_with(&original), "the span's own bytes are untouched");
            let own = Batch::decode(Signal::Traces, wrap(&original)).unwrap();
            let own = own.spans().next().unwrap().attributes().count();
            for (key, _) in span.attributes().skip(own) {
                let key = key.as_str();
                assert!(
                    key.starts_with("weir.cost.")
                        || key.starts_with("weir.usage.")
                        || key.starts_with("gen_ai.usage.cost."),
                    "{key} is not Weir's"
                );
                costs += usize::from(key == "gen_ai.usage.cost.amount");
            }
        }
    }
    assert!(originals.is_empty(), "{} spans were not forwarded", originals.len());
    assert!(costs > 850, "{costs} spans carry a cost");
}

/// A request of one span.
fn wrap(span: &[u8]) -> Bytes {
    [2, 2, 1]
        .iter()
        .fold(span.to_vec(), |inner, number| {
            let mut outer = Vec::new();
            weir_pipeline::batch::wire::put_bytes(&mut outer, *number, &inner);
            outer
        })
        .into()
}
