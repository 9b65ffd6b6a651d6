//! More telemetry than a destination takes, from the real binary's clients: for some seconds, or for as many as
//! WEIR_OVERLOAD_SECONDS says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use support::client::{self, HttpClient};
use support::numbered::{self, ids};
use support::sink::Sink;
use support::{PATIENCE, Weir, folder};

/// What the process may take in all. Half of the memory limiter's soft limit may be in flight.
const LIMIT_MIB: u64 = 192;

/// Clients, each of which sends a request of [`SPAN_BYTES`] every [`PACE`]: 100 MB a second if the machine can, which is
/// more in every second than the limiter admits until it is full.
const SENDERS: usize = 8;
const PACE: Duration = Duration::from_millis(20);
const SPAN_BYTES: usize = 256 << 10;

/// For how long at least.
fn duration() -> Duration {
    let seconds = std::env::var("WEIR_OVERLOAD_SECONDS").ok().map_or(3, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// A request of one large span with this id.
fn span(id: u64) -> Vec<u8> {
    numbered::span(id, &[b'x'; SPAN_BYTES])
}

/// Sends a span; whether it was taken, if that was answered. If not, the answer must say that the client is to come again, and when.
async fn send(client: &HttpClient, to: SocketAddr, is_grpc: bool, id: u64) -> Option<bool> {
    let (path, kind, body) = if is_grpc {
        let message = span(id);
        let mut body = BytesMut::with_capacity(message.len() + 5);
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap());
        body.put_slice(&message);
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc", body.freeze())
    } else {
        ("/v1/traces", "application/x-protobuf", Bytes::from(span(id)))
    };
    let request = Request::post(format!("http://{to}{path}")).header("content-type", kind).header("te", "trailers");
    let response = match client.request(request.body(Full::new(body)).unwrap()).await {
        Ok(response) => response,
        // Who is refused before the body is read loses an HTTP/1 connection, and may notice with the next request.
        Err(error) if !is_grpc && !error.is_connect() => return None,
        Err(error) => panic!("no answer: {error:?}"),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let collected = response.into_body().collect().await.unwrap();
    if !is_grpc {
        if status != 200 {
            assert_eq!(status, 503);
            let after: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
        return Some(status == 200);
    }
    let trailers = collected.trailers().unwrap_or(&headers);
    match trailers["grpc-status"].to_str().unwrap() {
        "0" => Some(true),
        "14" => {
            let details = trailers["grpc-status-details-bin"].as_bytes();
            let engine = base64::engine::GeneralPurpose::new(
                &base64::alphabet::STANDARD,
                base64::engine::GeneralPurposeConfig::new()
                    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
            );
            let details = engine.decode(details).unwrap();
            let retry_info = b"type.googleapis.com/google.rpc.RetryInfo";
            assert!(details.windows(retry_info.len()).any(|bytes| bytes == retry_info), "no RetryInfo");
            Some(false)
        }
        other => panic!("grpc-status {other}"),
    }
}

/// What senders have seen.
#[derive(Default)]
struct Seen {
    taken: BTreeSet<u64>,
    refused: usize,
    /// Requests on connections that had just ended.
    broken: usize,
}

/// Sends from all sides until the time is up and requests were taken and refused as often as that; `meanwhile` is called
/// now and then.
async fn flood(weir: &Weir, lasting: Duration, least: (u64, u64), mut meanwhile: impl FnMut()) -> Seen {
    let (done, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
    let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    for n in 0..SENDERS {
        let (done, next, counts) = (Arc::clone(&done), Arc::clone(&next), Arc::clone(&counts));
        let is_grpc = n % 2 == 0;
        let to = if is_grpc { weir.grpc.unwrap() } else { weir.http.unwrap() };
        senders.spawn(async move {
            let client = if is_grpc { client::http2() } else { client::http1() };
            let mut pace = tokio::time::interval(PACE);
            let mut seen = Seen::default();
            while !done.load(Ordering::Relaxed) {
                pace.tick().await;
                let id = next.fetch_add(1, Ordering::Relaxed);
                match send(&client, to, is_grpc, id).await {
                    Some(true) => {
                        seen.taken.insert(id);
                        counts.0.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(false) => {
                        seen.refused += 1;
                        counts.1.fetch_add(1, Ordering::Relaxed);
                    }
                    None => seen.broken += 1,
                }
            }
            seen
        });
    }
    let start = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    let is_enough = || counts.0.load(Ordering::Relaxed) >= least.0 && counts.1.load(Ordering::Relaxed) >= least.1;
    while start.elapsed() < lasting || !is_enough() {
        assert!(start.elapsed() < lasting + PATIENCE, "too few requests: {counts:?} of {least:?}");
        looks.tick().await;
        meanwhile();
    }
    done.store(true, Ordering::Relaxed);
    let mut all = Seen::default();
    for Seen { taken, refused, broken } in senders.join_all().await {
        all.taken.extend(taken);
        all.refused += refused;
        all.broken += broken;
    }
    all
}

/// The memory that a process has now, in MiB, without the pages of the binary itself, of which a debug build has a
/// hundred; `None` where that is not told.
fn memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10)
}

async fn metrics(weir: &Weir) -> String {
    let line = weir.seen("metrics are at ");
    let url = line.rsplit_once(' ').unwrap().1;
    let response = client::http1().get(url.parse().unwrap()).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// The values of a metric by exporter.
fn values(metrics: &str, name: &str) -> Vec<(String, f64)> {
    let prefix = format!("{name}{{");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(&prefix));
    let value = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        let exporter = labels.split("exporter=\"").nth(1).unwrap().split('"').next().unwrap();
        (exporter.to_owned(), value.parse().unwrap())
    };
    lines.map(value).collect()
}

fn sum(metrics: &str, name: &str, exporter: &str) -> f64 {
    values(metrics, name).iter().filter(|(of, _)| of == exporter).map(|(_, value)| value).sum()
}

fn config(exporters: &str, names: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}
processors: {{memory_limiter: {{check_interval: 1s, limit_mib: {LIMIT_MIB}}}}}
exporters:
  {exporters}
service:
  telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [memory_limiter], exporters: [{names}]}}}}
"
    )
}

/// A backend's socket whose backend hangs: connections are taken by the kernel and never answered.
fn hanging() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_away_costs_neither_memory_nor_spans() {
    let (_guard, folder) = folder();
    let backend = hanging();
    let exporter = format!(
        "otlp_http: {{endpoint: 'http://{}', compression: none, timeout: 2s, retry_on_failure: {{max_elapsed_time: 0, \
         initial_interval: 500ms, max_interval: 2s}}}}",
        backend.local_addr().unwrap()
    );
    let weir = Weir::start(&folder, &config(&exporter, "otlp_http"));
    let mut most = 0;
    let Seen { mut taken, refused, broken } = flood(&weir, duration(), (50, 500), || {
        most = memory(weir.id()).unwrap_or(0).max(most);
        assert!(most < LIMIT_MIB, "{most} MiB");
    })
    .await;
    let (taken_early, offered) = (taken.len(), taken.len() + refused + broken);
    assert!(broken * 50 <= offered, "{broken} of {offered} were not answered");

    // The backend is back, and so is Weir: every client gets an OK again.
    backend.set_nonblocking(true).unwrap();
    let sink = Sink::on(tokio::net::TcpListener::from_std(backend).unwrap());
    let back = Instant::now();
    for (id, is_grpc) in [(1 << 40, true), (1 << 41, false)] {
        let client = if is_grpc { client::http2() } else { client::http1() };
        let to = if is_grpc { weir.grpc.unwrap() } else { weir.http.unwrap() };
        while send(&client, to, is_grpc, id).await != Some(true) {
            assert!(back.elapsed() < PATIENCE, "nothing is taken any more");
            tokio::time::sleep(PACE).await;
        }
        taken.insert(id);
    }
    let recovered = back.elapsed();
    let end = loop {
        let text = metrics(&weir).await;
        if sum(&text, "otelcol_exporter_queue_size", "otlp_http") == 0.0 {
            break text;
        }
        assert!(back.elapsed() < PATIENCE, "the queue does not get empty: {text}");
        tokio::time::sleep(PACE).await;
    };
    assert!(values(&end, "weir_accounting_difference").iter().all(|(_, value)| *value == 0.0), "{end}");
    // A request without an answer may have been taken all the same.
    let sent = sum(&end, "otelcol_exporter_sent_spans", "otlp_http");
    assert!((taken.len()..=taken.len() + broken).contains(&(sent as usize)), "{sent} of {}", taken.len());
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    let arrived: BTreeSet<u64> = ids(&sink).into_iter().collect();
    let missing = taken.difference(&arrived).count();
    assert_eq!(missing, 0, "of {} that were acknowledged", taken.len());
    println!(
        "{offered} requests of {SPAN_BYTES} bytes in {:?}: {taken_early} taken, {refused} told to come again, {broken} \
         on ended connections; at most {most} MiB of {LIMIT_MIB}; taken again {recovered:?} after the backend was back",
        duration()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_away_neither_stops_nor_doubles_another() {
    let (_guard, folder) = folder();
    let dead = hanging();
    let healthy = Sink::start().await;
    // Settings are the defaults, but for a queue that is full at once.
    let exporters = format!(
        "otlp_http/dead: {{endpoint: 'http://{}', sending_queue: {{queue_size: 20}}}}
  otlp_http/healthy: {{endpoint: 'http://{}', compression: none}}",
        dead.local_addr().unwrap(),
        healthy.address
    );
    let config = config(&exporters, "otlp_http/dead, otlp_http/healthy");
    let weir = Weir::start_with(&folder, &config, &["--shutdown-timeout", "3s"]);
    let Seen { taken, refused, broken } = flood(&weir, Duration::from_secs(1), (100, 0), || {}).await;
    assert_eq!((refused, broken), (0, 0), "of {}", taken.len() + refused);
    let all = taken.len() as f64;
    let start = Instant::now();
    let end = loop {
        let text = metrics(&weir).await;
        if sum(&text, "otelcol_exporter_sent_spans", "otlp_http/healthy") == all {
            break text;
        }
        assert!(start.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(PACE).await;
    };
    assert_eq!(sum(&end, "otelcol_exporter_enqueue_failed_spans", "otlp_http/dead"), all - 20.0);
    assert!(values(&end, "weir_accounting_difference").iter().all(|(_, value)| *value == 0.0), "{end}");
    let mut arrived = ids(&healthy);
    arrived.sort_unstable();
    assert_eq!(arrived, taken.into_iter().collect::<Vec<_>>(), "each once");
    // What the dead one had room for is lost with the process, and that is said.
    let (status, log) = weir.stop();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("20 records were lost in this stop"), "{log}");
}
