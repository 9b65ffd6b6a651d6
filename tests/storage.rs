//! A queue with `file_storage`, on the real binary: what was acknowledged is delivered, whatever becomes of the process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use support::client::{self, TRACES};
use support::numbered::{ids, span};
use support::sink::Sink;
use support::{Weir, folder, nobody, weir};

fn config(folder: &Path, exporter: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}}}}}
extensions: {{file_storage: {{directory: '{}', create_directory: true}}}}
exporters: {{otlp_grpc: {exporter}}}
service:
  extensions: [file_storage]
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}
",
        folder.join("storage").display()
    )
}

fn exporter(to: SocketAddr) -> String {
    format!(
        "{{endpoint: '{to}', tls: {{insecure: true}}, compression: none, sending_queue: {{storage: file_storage, queue_size: 100000}}, \
         retry_on_failure: {{initial_interval: 100ms, max_interval: 1s, max_elapsed_time: 0}}}}"
    )
}

/// Sends a span over HTTP; whether it was acknowledged before the connection broke off.
async fn post(to: SocketAddr, id: u64) -> Option<u64> {
    let request = Request::post(format!("http://{to}/v1/traces")).header("content-type", "application/x-protobuf");
    let request = request.body(Full::new(Bytes::from(span(id, b"a span")))).unwrap();
    let response = client::http1().request(request).await.ok()?;
    (response.status() == 200).then_some(id)
}

async fn until(sink: &Sink, is_enough: impl Fn(&BTreeSet<u64>) -> bool) {
    let deadline = tokio::time::Instant::now() + support::PATIENCE;
    while !is_enough(&ids(sink).into_iter().collect()) {
        assert!(tokio::time::Instant::now() < deadline, "{} arrived", ids(sink).len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let (_guard, folder) = folder();
    let client = client::http2();
    let (mut acknowledged, mut next) = (BTreeSet::new(), 0);
    // Killed in the middle of its work, several times, while its backend is away.
    for _ in 0..3 {
        let weir = Weir::start(&folder, &config(&folder, &exporter(nobody())));
        let to = weir.http.unwrap();
        let mut sending = tokio::task::JoinSet::new();
        for id in next..next + 200 {
            sending.spawn(post(to, id));
        }
        next += 200;
        for _ in 0..120 {
            acknowledged.extend(sending.join_next().await.unwrap().unwrap());
        }
        weir.kill();
        // Some that were acknowledged just before the end.
        acknowledged.extend(sending.join_all().await.into_iter().flatten());
    }
    assert!(acknowledged.len() >= 300, "{}", acknowledged.len());
    let sink = Sink::start().await;
    let weir = Weir::start(&folder, &config(&folder, &exporter(sink.address)));
    // Some may be there that were stored and not yet acknowledged.
    let found = weir.seen("of an earlier process wait in");
    let found: usize = support::words(&found).iter().find_map(|word| word.parse().ok()).unwrap();
    until(&sink, |ids| ids.len() >= found).await;
    let delivered: BTreeSet<u64> = ids(&sink).into_iter().collect();
    assert_eq!(acknowledged.difference(&delivered).count(), 0, "of {}", acknowledged.len());
    assert_eq!(ids(&sink).len(), found, "none twice");
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("found on disk delivered"), "{log}");
    // Nothing is left, and nothing is delivered again.
    let before = ids(&sink).len();
    let weir = Weir::start(&folder, &config(&folder, &exporter(sink.address)));
    assert_eq!(client::export(&client, weir.grpc.unwrap(), TRACES, &span(next, b"the last")).await.0, 0);
    until(&sink, |ids| ids.contains(&next)).await;
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("of 1 spans delivered 1,"), "{log}");
    assert_eq!(ids(&sink).len(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_without_a_backend_loses_nothing_and_says_so() {
    let (_guard, folder) = folder();
    let client = client::http2();
    let weir = Weir::start(&folder, &config(&folder, &exporter(nobody())));
    for id in 0..20 {
        assert_eq!(client::export(&client, weir.grpc.unwrap(), TRACES, &span(id, b"a span")).await.0, 0);
    }
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("left behind 0, waiting on disk 20"), "{log}");
    assert!(!log.contains("unaccounted"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_not_there_stops_the_start() {
    let (_guard, folder) = folder();
    let path = folder.join("weir.yaml");
    std::fs::write(&path, config(&folder, &exporter(nobody())).replace(", create_directory: true", "")).unwrap();
    let output = weir().args(["run", "--config"]).arg(&path).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("file_storage") && said.contains("set `create_directory: true`"), "{said}");
    // `validate` looks at the configuration alone, and says what an OK will mean.
    let output = weir().arg("validate").arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("OK means that the data is on disk in"), "{said}");
}
