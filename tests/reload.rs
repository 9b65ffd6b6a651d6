//! Loading the configuration anew while clients send.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use support::client::{self, HttpClient};
use support::numbered;
use support::sink::Sink;
use support::{Weir, folder};

/// How many times a configuration is loaded anew under load, if WEIR_RELOADS does not say.
const RELOADS: u64 = 40;

fn reloads() -> u64 {
    std::env::var("WEIR_RELOADS").ok().map_or(RELOADS, |text| text.parse().unwrap())
}

/// A request of one span with this id.
fn span(id: u64) -> Vec<u8> {
    numbered::span(id, b"a span")
}

/// The ids of all spans that the backend has.
fn ids(sink: &Sink) -> BTreeSet<u64> {
    numbered::ids(sink).into_iter().collect()
}

/// Where everything listens, once it is known.
#[derive(Clone, Copy)]
struct Ports {
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
}

/// What differs from one configuration to the next.
#[derive(Clone, Copy, Default)]
struct Variant {
    batches: bool,
    waits_longer: bool,
    larger_requests: bool,
    connects: bool,
}

fn config(backend: SocketAddr, ports: Option<Ports>, variant: Variant) -> String {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let Ports { grpc, http, admin } = ports.unwrap_or(Ports { grpc: any, http: any, admin: any });
    let size = if variant.larger_requests { 32 } else { 16 };
    let timeout = if variant.waits_longer { "21s" } else { "20s" };
    let processors = if variant.batches { "[batch]" } else { "[]" };
    let pipelines = if variant.connects {
        format!(
            "traces: {{receivers: [otlp], exporters: [forward]}}
    traces/out: {{receivers: [forward], processors: {processors}, exporters: [otlp_http]}}"
        )
    } else {
        format!("traces: {{receivers: [otlp], processors: {processors}, exporters: [otlp_http]}}")
    };
    let connectors = if variant.connects { "connectors: {forward: }\n" } else { "" };
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '{grpc}', max_recv_msg_size_mib: {size}}}
      http: {{endpoint: '{http}'}}
processors: {{batch: {{timeout: 5ms}}}}
exporters: {{otlp_http: {{endpoint: 'http://{backend}', compression: none, timeout: {timeout}}}}}
{connectors}service:
  telemetry: {{metrics: {{address: '{admin}'}}}}
  pipelines:
    {pipelines}
"
    )
}

/// Sends a span until it is acknowledged. A connection that ends in between is a reason to send it again; that nobody
/// listens, or an answer other than OK, is not.
async fn deliver(client: &HttpClient, to: SocketAddr, is_grpc: bool, id: u64) {
    loop {
        let (path, kind, body) = if is_grpc {
            let message = span(id);
            let mut body = BytesMut::new();
            body.put_u8(0);
            body.put_u32(u32::try_from(message.len()).unwrap());
            body.put_slice(&message);
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc", body.freeze())
        } else {
            ("/v1/traces", "application/x-protobuf", Bytes::from(span(id)))
        };
        let request = Request::post(format!("http://{to}{path}")).header("content-type", kind).header("te", "trailers");
        match client.request(request.body(Full::new(body)).unwrap()).await {
            Err(error) => assert!(!error.is_connect(), "refused: {error:?}"),
            Ok(response) => {
                assert_eq!(response.status(), 200);
                let headers = response.headers().clone();
                let Ok(collected) = response.into_body().collect().await else { continue };
                if is_grpc {
                    let status = collected.trailers().unwrap_or(&headers).get("grpc-status").cloned();
                    assert_eq!(status.unwrap(), "0");
                }
                return;
            }
        }
    }
}

fn admin(weir: &Weir) -> SocketAddr {
    let line = weir.seen("metrics are at http://");
    line.rsplit_once("http://").unwrap().1.strip_suffix("/metrics").unwrap().parse().unwrap()
}

async fn start(folder: &Path, sink: &Sink) -> (Weir, Ports) {
    let weir = Weir::start(folder, &config(sink.address, None, Variant::default()));
    let ports = Ports { grpc: weir.grpc.unwrap(), http: weir.http.unwrap(), admin: admin(&weir) };
    (weir, ports)
}

async fn reload(client: &HttpClient, ports: Ports) -> (u16, String) {
    let (status, body) = client::post(client, ports.admin, "/-/reload", &[], Bytes::new()).await;
    (status.as_u16(), String::from_utf8(body.into()).unwrap())
}

async fn metrics(client: &HttpClient, ports: Ports) -> String {
    let response = client.get(format!("http://{}/metrics", ports.admin).parse().unwrap()).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Clients that send one span after the other, over both protocols.
struct Load {
    done: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    senders: tokio::task::JoinSet<Vec<u64>>,
}

impl Load {
    fn start(ports: Ports) -> Self {
        let (done, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut senders = tokio::task::JoinSet::new();
        for n in 0..6 {
            let (done, next) = (Arc::clone(&done), Arc::clone(&next));
            senders.spawn(async move {
                let is_grpc = n % 2 == 0;
                let client = if is_grpc { client::http2() } else { client::http1() };
                let to = if is_grpc { ports.grpc } else { ports.http };
                let mut delivered = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    deliver(&client, to, is_grpc, id).await;
                    delivered.push(id);
                }
                delivered
            });
        }
        Self { done, next, senders }
    }

    /// Waits until so many more spans are under way.
    async fn flows(&self, more: u64) {
        let before = self.next.load(Ordering::Relaxed);
        while self.next.load(Ordering::Relaxed) < before + more {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it: the ids of the spans that were acknowledged.
    async fn stop(self) -> BTreeSet<u64> {
        self.done.store(true, Ordering::Relaxed);
        self.senders.join_all().await.into_iter().flatten().collect()
    }
}

/// Stops Weir and looks for what was acknowledged.
fn assert_nothing_lost(weir: Weir, delivered: &BTreeSet<u64>, sink: &Sink) {
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("unaccounted for"), "{log}");
    let missing: Vec<_> = delivered.difference(&ids(sink)).copied().collect();
    assert!(missing.is_empty(), "{} of {} are lost: {missing:?}", missing.len(), delivered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nobody_is_refused_in_many_reloads() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let (weir, ports) = start(&folder, &sink).await;
    let load = Load::start(ports);
    let client = client::http1();
    let reloads = reloads();
    for round in 1..=reloads {
        // Each bit changes at its own pace: alone and together with others.
        let bit = |n: u32| round >> n & 1 == 1;
        let variant = Variant { batches: bit(0), waits_longer: bit(1), larger_requests: bit(2), connects: bit(3) };
        std::fs::write(folder.join("weir.yaml"), config(sink.address, Some(ports), variant)).unwrap();
        assert_eq!(reload(&client, ports).await, (200, "the configuration was loaded anew\n".to_owned()));
        // Data flows between any two reloads.
        load.flows(50).await;
    }
    let delivered = load.stop().await;
    let text = metrics(&client, ports).await;
    assert!(text.contains(&format!("weir_config_reloads{{result=\"success\"}} {reloads}\n")), "{text}");
    assert!(delivered.len() as u64 >= 50 * reloads, "{}", delivered.len());
    assert_nothing_lost(weir, &delivered, &sink);
    println!("{reloads} reloads, {} spans", delivered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_configurations_disturb_no_client() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let (weir, ports) = start(&folder, &sink).await;
    let load = Load::start(ports);
    let client = client::http1();
    let good = config(sink.address, Some(ports), Variant { connects: true, batches: true, ..Variant::default() });
    let wrong = [
        good.replace("batch:", "bach:"),
        good.replace("timeout: 5ms", "timeout: 5 parsecs"),
        "receivers: [".to_owned(),
        // What is wrong is found only when the sockets are bound.
        good.replace(&ports.http.to_string(), &sink.address.to_string()),
        String::new(),
    ];
    let rounds = reloads();
    for text in wrong.iter().cycle().take(usize::try_from(rounds).unwrap()) {
        std::fs::write(folder.join("weir.yaml"), text).unwrap();
        let (status, answer) = reload(&client, ports).await;
        assert_eq!(status, 400, "{answer}");
        load.flows(50).await;
    }
    let delivered = load.stop().await;
    let text = metrics(&client, ports).await;
    assert!(text.contains(&format!("weir_config_reloads{{result=\"refused\"}} {rounds}\n")), "{text}");
    assert_nothing_lost(weir, &delivered, &sink);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_refused_and_changes_nothing() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let (weir, ports) = start(&folder, &sink).await;
    let client = client::http1();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let good = config(sink.address, Some(ports), Variant { batches: true, ..Variant::default() });
    let cases = [
        (
            good.replace("batch:", "bach:"),
            "references processor \"batch\" which is not configured: did you mean `bach`?".to_owned(),
        ),
        (good.replace("timeout: 5ms", "timeout: 5 parsecs"), "processors::batch::timeout: ".to_owned()),
        (
            good.replace("metrics: {address", "metrics: {adress"),
            "unknown key `adress`: did you mean `address`?".to_owned(),
        ),
        ("receivers: [".to_owned(), "invalid YAML".to_owned()),
        (
            good.replace(&ports.http.to_string(), &taken.local_addr().unwrap().to_string()),
            format!("{} is already in use", taken.local_addr().unwrap()),
        ),
        (
            good.replace(&ports.admin.to_string(), &taken.local_addr().unwrap().to_string()),
            format!("{} is already in use", taken.local_addr().unwrap()),
        ),
    ];
    for (id, (text, error)) in (0..).zip(&cases) {
        std::fs::write(folder.join("weir.yaml"), text).unwrap();
        let (status, answer) = reload(&client, ports).await;
        assert!(status == 400 && answer.contains(error), "{status} {answer}");
        deliver(&client, ports.http, false, id).await;
    }
    let refused = format!("weir_config_reloads{{result=\"refused\"}} {}\n", cases.len());
    assert!(metrics(&client, ports).await.contains(&refused));
    // And what comes after is not disturbed by what was refused.
    std::fs::write(folder.join("weir.yaml"), good).unwrap();
    assert_eq!(reload(&client, ports).await.0, 200);
    deliver(&client, ports.http, false, 99).await;
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert_eq!(ids(&sink).len(), cases.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_or_a_changed_file_loads_it_too() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let mut weir = Weir::start_with(&folder, &config(sink.address, None, Variant::default()), &["--watch"]);
    let ports = Ports { grpc: weir.grpc.unwrap(), http: weir.http.unwrap(), admin: admin(&weir) };
    assert!(Command::new("kill").args(["-HUP", &weir.id().to_string()]).status().unwrap().success());
    weir.wait_for("SIGHUP: loading the configuration anew");
    weir.wait_for("the new configuration is in use");
    let batching = Variant { batches: true, ..Variant::default() };
    std::fs::write(folder.join("new.yaml"), config(sink.address, Some(ports), batching)).unwrap();
    std::fs::rename(folder.join("new.yaml"), folder.join("weir.yaml")).unwrap();
    weir.wait_for("the configuration has changed: loading the configuration anew");
    weir.wait_for("the new configuration is in use");
    deliver(&client::http2(), ports.grpc, true, 1).await;
    let text = metrics(&client::http1(), ports).await;
    assert!(
        text.contains("otelcol_processor_incoming_items{processor=\"batch\",otel_signal=\"traces\"} 1\n"),
        "{text}"
    );
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert_eq!(ids(&sink), BTreeSet::from([1]));
}

/// A configuration whose log goes to a file.
fn logs_to(text: &str, path: &Path) -> String {
    text.replace("telemetry: {", &format!("telemetry: {{logs: {{output_paths: [stderr, {}]}}, ", path.display()))
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_hangs_disturbs_nobody_and_is_not_waited_for() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let (mut weir, ports) = start(&folder, &sink).await;
    let client = client::http1();
    // Nobody reads from it, so that it cannot be opened.
    make_pipe(&folder.join("pipe"));
    let hanging = logs_to(&config(sink.address, Some(ports), Variant::default()), &folder.join("pipe"));
    std::fs::write(folder.join("weir.yaml"), hanging).unwrap();
    let asked = tokio::spawn(async move { reload(&client::http1(), ports).await });
    weir.wait_for("asked over HTTP: loading the configuration anew");
    deliver(&client, ports.http, false, 1).await;
    assert!(metrics(&client, ports).await.contains("otelcol_receiver_accepted_spans"));
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("SIGTERM: stopping") && log.contains("is not waited for"), "{log}");
    assert_eq!(ids(&sink), BTreeSet::from([1]));
    assert_eq!(asked.await.unwrap(), (400, "the process is stopping\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_can_be_started_from_and_not_be_read_again() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let path = folder.join("weir.yaml");
    make_pipe(&path);
    let text = config(sink.address, None, Variant::default());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::write(path, text).unwrap()
    });
    let mut command = support::weir();
    command.args(["run", "--watch", "--config"]).arg(&path);
    let weir = Weir::spawn(command);
    writer.join().unwrap();
    let ports = Ports { grpc: weir.grpc.unwrap(), http: weir.http.unwrap(), admin: admin(&weir) };
    let (status, answer) = reload(&client::http1(), ports).await;
    let expected = format!("cannot read {}: it is a pipe, which cannot be read again while Weir runs", path.display());
    assert!(status == 400 && answer.starts_with(&expected), "{status} {answer}");
    // What it refers to neither.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "receivers: ${file:/dev/zero}").unwrap();
    let (status, answer) = reload(&client::http1(), ports).await;
    assert!(status == 400 && answer.contains("cannot read file `/dev/zero`: it is a device, "), "{status} {answer}");
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
}
