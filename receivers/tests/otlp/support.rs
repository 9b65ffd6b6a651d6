//! A receiver on free ports whose pipelines end in the test's hands, and small clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weir_pipeline::batch::Batch;
use weir_pipeline::budget::Budget;
use weir_pipeline::channel::channel;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::extension::Extensions;
use weir_pipeline::metadata::Metadata;
use weir_pipeline::node::{Context, Outlet, Outlets, Receiver, Shutdown, ShutdownTrigger};
use weir_pipeline::otlp::status::Status;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Telemetry, suffix};
use weir_receivers::otlp::{OtlpReceiver, OtlpSettings};

pub(crate) const TRACES: &str = "/v1/traces";
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";
pub(crate) const EXPORT_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub(crate) const EXPORT_LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

// === The server ===

/// More than one, so that every test runs with shared ports. They share the test's thread.
const LANES: usize = 2;

/// How a test's receiver differs from the default.
pub(crate) struct Options {
    /// Keys of the gRPC port, in YAML's flow style, each followed by a comma.
    pub(crate) grpc: String,
    /// Those of the HTTP port.
    pub(crate) http: String,
    pub(crate) extensions: Extensions,
    pub(crate) max_bytes: usize,
    pub(crate) budget: usize,
    pub(crate) signals: &'static [Signal],
    pub(crate) edit: fn(&mut OtlpSettings),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grpc: String::new(),
            http: String::new(),
            extensions: Extensions::default(),
            max_bytes: 0,
            budget: usize::MAX,
            signals: &Signal::ALL,
            edit: |_| {},
        }
    }
}

/// The settings of a receiver on free ports.
pub(crate) fn settings(options: &Options) -> OtlpSettings {
    let Options { grpc, http, .. } = options;
    let port = |keys: &str| match keys.contains("endpoint:") {
        true => keys.to_owned(),
        false => format!("{keys} endpoint: '127.0.0.1:0'"),
    };
    let yaml = format!("protocols: {{grpc: {{{}}}, http: {{{}}}}}", port(grpc), port(http));
    let node = Node::parse("weir.yaml", &yaml).unwrap();
    OtlpSettings::parse(&node, "receivers::otlp", &options.extensions).unwrap()
}

/// A running receiver. What it sends down is settled with the outcome in force, or handed to the test.
pub(crate) struct Server {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) budget: Arc<Budget>,
    pub(crate) telemetry: Telemetry,
    outcome: Arc<Mutex<Option<Outcome>>>,
    taken: mpsc::UnboundedReceiver<Taken>,
    trigger: ShutdownTrigger,
    running: JoinHandle<()>,
}

/// What came out of the receiver.
pub(crate) struct Taken {
    pub(crate) signal: Signal,
    pub(crate) bytes: Bytes,
    pub(crate) metadata: Option<Arc<Metadata>>,
    /// The batch itself if no outcome was in force.
    pub(crate) batch: Option<Batch>,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Self {
        let mut settings = settings(&options);
        let Options { max_bytes, budget, signals, edit, .. } = options;
        if max_bytes > 0 {
            for port in [settings.grpc.as_mut().map(|g| &mut g.port), settings.http.as_mut().map(|h| &mut h.port)] {
                port.unwrap().max_bytes = max_bytes;
            }
        }
        edit(&mut settings);
        let telemetry = Telemetry::default();
        let context = Context::new("otlp", telemetry.clone(), Environment::with(|| 1, 1));
        let receiver = Arc::new(OtlpReceiver::new(settings, context));
        receiver.bind(LANES).unwrap();
        // A port on a Unix socket has none.
        let nowhere = SocketAddr::from(([0; 4], 0));
        let address = |protocol| receiver.addresses().iter().find(|(p, _)| *p == protocol).map_or(nowhere, |(_, a)| *a);
        let (grpc, http) = (address("grpc"), address("http"));

        let budget = Budget::new(budget);
        let (inlet, mut intake) = channel(4, 1 << 30);
        let outlet = |signal| signals.contains(&signal).then(|| Outlet::new(vec![inlet.clone()], vec![budget.clone()]));
        let outlets =
            Outlets { traces: outlet(Signal::Traces), metrics: outlet(Signal::Metrics), logs: outlet(Signal::Logs) };
        let outcome = Arc::new(Mutex::new(Some(Outcome::Done)));
        let (sender, taken) = mpsc::unbounded_channel();
        let in_force = Arc::clone(&outcome);
        tokio::spawn(async move {
            while let Some(batch) = intake.recv().await {
                let (signal, bytes, metadata) = (batch.signal(), batch.encode(), batch.metadata().cloned());
                let outcome = in_force.lock().unwrap().clone();
                let batch = match outcome {
                    Some(outcome) => {
                        batch.settle(&outcome);
                        None
                    }
                    None => Some(batch),
                };
                if sender.send(Taken { signal, bytes, metadata, batch }).is_err() {
                    break;
                }
            }
        });
        let (trigger, shutdown) = Shutdown::channel();
        let lanes = (0..LANES).map(|lane| Arc::clone(&receiver).run(lane, outlets.clone(), shutdown.clone()));
        let lanes = futures::future::join_all(lanes.collect::<Vec<_>>());
        let running = tokio::spawn(async move { drop(lanes.await) });
        Self { grpc, http, budget, telemetry, outcome, taken, trigger, running }
    }

    /// Sets how batches are settled from now on; `None` leaves that to the test.
    pub(crate) fn settle_with(&self, outcome: Option<Outcome>) {
        *self.outcome.lock().unwrap() = outcome;
    }

    /// The next batch that went down the pipelines.
    pub(crate) async fn taken(&mut self) -> Taken {
        tokio::time::timeout(Duration::from_secs(30), self.taken.recv()).await.unwrap().unwrap()
    }

    /// Whether nothing (more) went down the pipelines.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.taken.try_recv().is_err()
    }

    /// A counter's value, by the last part of its name.
    pub(crate) fn count(&self, what: &str, signal: Signal, transport: &str) -> u64 {
        let name = format!("otelcol_receiver_{what}_{}", suffix(signal));
        self.telemetry.counter(name, &[("receiver", "otlp"), ("transport", transport)]).get()
    }

    pub(crate) fn failed_requests(&self) -> u64 {
        self.telemetry.sum("weir_receiver_failed_requests")
    }

    pub(crate) fn request_stop(&self) {
        self.trigger.request();
    }

    /// Stops the receiver and waits until it has returned.
    pub(crate) async fn stop(self) {
        self.trigger.request();
        self.stopped().await;
    }

    /// Waits until the receiver has returned.
    pub(crate) async fn stopped(self) {
        tokio::time::timeout(Duration::from_secs(30), self.running).await.unwrap().unwrap();
    }
}

// === HTTP client ===

/// A response read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Self { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `google.rpc.Status` in a protobuf body.
    pub(crate) fn rpc_status(&self) -> Status {
        Status::decode(&self.body).unwrap()
    }

    /// gRPC's status, wherever it is, and its message.
    pub(crate) fn grpc_status(&self) -> (u8, String) {
        let headers = if self.trailers.is_empty() { &self.headers } else { &self.trailers };
        let text = |name| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        (text("grpc-status").parse().unwrap(), text("grpc-message"))
    }
}

pub(crate) fn post(path: &str, content_type: &str) -> http::request::Builder {
    Request::post(path).header("host", "weir.test").header("content-type", content_type)
}

/// Sends one request over HTTP/1 on a connection of its own.
pub(crate) async fn send<B>(to: SocketAddr, request: Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    exchange(TcpStream::connect(to).await.unwrap(), request).await
}

/// Sends one request over HTTP/1 on this connection.
pub(crate) async fn exchange<S, B>(stream: S, request: Request<B>) -> Reply
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let reply = Reply::read(sender.send_request(request).await.unwrap()).await;
    connection.abort();
    reply
}

pub(crate) async fn send_bytes(to: SocketAddr, path: &str, content_type: &str, body: impl Into<Bytes>) -> Reply {
    send(to, post(path, content_type).body(Full::new(body.into())).unwrap()).await
}

/// What comes until the server closes the connection, which it does in time.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
    read.expect("the server closes the connection").unwrap();
    String::from_utf8(rest).unwrap()
}

/// Asserts that a refusal says so where the connection ends with it, and that a second request on the same connection is
/// answered where it does not. `head` are the first lines of a request, each with its end.
pub(crate) async fn assert_says_whether_it_closes(to: SocketAddr, head: &str, status: &str) {
    let answer = format!("HTTP/1.1 {status}");
    let head = format!("{head}host: weir.test\r\n");
    // The body does not come, comes in part, or is one whose length nobody knows.
    for unread in ["content-length: 3\r\n\r\n", "content-length: 3\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n"] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(format!("{head}{unread}").as_bytes()).await.unwrap();
        let got = rest(&mut stream).await;
        assert!(got.starts_with(&answer) && got.contains("\r\nconnection: close\r\n"), "{head}{unread}{got}");
    }
    let mut stream = TcpStream::connect(to).await.unwrap();
    let two = format!("{head}content-length: 0\r\n\r\n{head}connection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(two.as_bytes()).await.unwrap();
    let got = rest(&mut stream).await;
    assert_eq!((got.matches(&answer).count(), got.matches("connection: close").count()), (2, 1), "{head}{got}");
}

// === gRPC client ===

pub(crate) type GrpcSender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

pub(crate) async fn grpc_connect(to: SocketAddr) -> GrpcSender {
    grpc_handshake(TcpStream::connect(to).await.unwrap()).await.0
}

/// A client on this connection, and what resolves when the connection ends.
pub(crate) async fn grpc_handshake<S>(stream: S) -> (GrpcSender, JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    (sender, tokio::spawn(connection))
}

pub(crate) fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://weir.test{path}")).header("content-type", "application/grpc").header("te", "trailers")
}

pub(crate) async fn send_grpc(to: SocketAddr, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
    let mut sender = grpc_connect(to).await;
    let request = request.body(Full::new(body.into())).unwrap();
    Reply::read(sender.send_request(request).await.unwrap()).await
}

/// A gRPC message with its prefix.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out
}

// === Payloads ===

/// A request with this many spans.
pub(crate) fn traces(spans: usize) -> Vec<u8> {
    traces_message(spans).encode_to_vec()
}

pub(crate) fn traces_message(spans: usize) -> ExportTraceServiceRequest {
    let spans = (0..spans)
        .map(|n| Span {
            trace_id: vec![7; 16],
            span_id: vec![n as u8; 8],
            // About as long as the shortest of real spans.
            name: format!("{n:0>300}"),
            ..Span::default()
        })
        .collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

/// A request with three data points.
pub(crate) fn metrics() -> Vec<u8> {
    let data_points = vec![NumberDataPoint::default(); 3];
    let data = Some(Data::Gauge(Gauge { data_points }));
    let metrics = vec![Metric { name: "m".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

/// A request with two log records.
pub(crate) fn logs() -> Vec<u8> {
    let log_records = vec![LogRecord::default(); 2];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
        .encode_to_vec()
}

/// One span with an attribute of lists within lists.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    let mut value = AnyValue { value: Some(Value::IntValue(1)) };
    for _ in 0..depth {
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    let mut message = traces_message(1);
    message.resource_spans[0].scope_spans[0].spans[0].attributes =
        vec![KeyValue { key: "deep".to_owned(), value: Some(value), ..KeyValue::default() }];
    message.encode_to_vec()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zlib(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}

pub(crate) fn snappy(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

pub(crate) fn snappy_framed(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap()
}

pub(crate) fn lz4(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
