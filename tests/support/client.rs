//! OTLP clients of the tests: plain hyper, nothing of Weir.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::http::response::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub fn http1() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

pub fn http2() -> HttpClient {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// POSTs a body; returns the status and the answer's body.
pub async fn post(
    client: &HttpClient,
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (StatusCode, Bytes) {
    let (head, body) = ask(client, "POST", to, path, headers, body).await;
    (head.status, body)
}

/// Asks for something; returns the head and the body of the answer.
pub async fn ask(
    client: &HttpClient,
    method: &str,
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (Parts, Bytes) {
    let mut request = Request::builder().method(method).uri(format!("http://{to}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

/// Weir's own metrics, given the line of the log that says where they are.
pub async fn metrics(line: &str) -> String {
    let address = line.rsplit_once("http://").unwrap().1.strip_suffix("/metrics").unwrap();
    let (_, body) = ask(&http1(), "GET", address.parse().unwrap(), "/metrics", &[], Bytes::new()).await;
    String::from_utf8(body.to_vec()).unwrap()
}

/// Exports one request over gRPC; returns grpc-status and grpc-message.
pub async fn export(client: &HttpClient, to: SocketAddr, service: &str, message: &[u8]) -> (u32, String) {
    export_with(client, to, service, &[], message).await
}

/// The same with further metadata.
pub async fn export_with(
    client: &HttpClient,
    to: SocketAddr,
    service: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> (u32, String) {
    let mut body = BytesMut::with_capacity(5 + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
    let mut request = Request::post(format!("http://{to}/opentelemetry.proto.collector.{service}/Export"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response: Response<_> = client.request(request.body(Full::new(body.freeze())).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or(headers);
    let text = |name: &str| trailers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

pub const TRACES: &str = "trace.v1.TraceService";
