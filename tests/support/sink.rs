//! An OTLP backend of the tests: keeps what it is sent. Plain hyper, nothing of Weir.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    /// The message: for gRPC without its five bytes of framing.
    pub body: Bytes,
}

/// A backend on a port of its own, for gRPC and HTTP alike.
#[derive(Clone)]
pub struct Sink {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Received>>>,
    /// What it takes no request with, and what it says then.
    refuses: Option<(&'static str, &'static str)>,
}

impl Sink {
    /// Starts it on the current runtime.
    pub async fn start() -> Self {
        Self::on(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts one that takes no request which holds a text, and says something then; over HTTP alone.
    pub async fn refusing(text: &'static str, message: &'static str) -> Self {
        Self::serve(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), Some((text, message)))
    }

    /// Starts it on a socket that others may have connected to already.
    pub fn on(listener: tokio::net::TcpListener) -> Self {
        Self::serve(listener, None)
    }

    fn serve(listener: tokio::net::TcpListener, refuses: Option<(&'static str, &'static str)>) -> Self {
        let address = listener.local_addr().unwrap();
        let sink = Self { address, requests: Arc::default(), refuses };
        let shared = sink.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
                    // A client that hangs up is no failure of the test.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        sink
    }

    pub fn requests(&self) -> Vec<Received> {
        self.requests.lock().unwrap().clone()
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(sink: Sink, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let grpc = parts.headers.get("content-type").is_some_and(|t| t == "application/grpc");
    let body = if grpc { body.slice(5..) } else { body };
    if let Some((text, message)) = sink.refuses
        && body.windows(text.len()).any(|part| part == text.as_bytes())
    {
        let status = format!("{{\"code\": 3, \"message\": \"{message}\"}}");
        let answer = Response::builder().status(400).header("content-type", "application/json");
        return Ok(answer.body(Full::new(Bytes::from(status)).boxed()).unwrap());
    }
    sink.requests.lock().unwrap().push(Received { path: parts.uri.path().to_owned(), headers: parts.headers, body });
    if !grpc {
        return Ok(Response::builder()
            .header("content-type", "application/x-protobuf")
            .body(Full::new(Bytes::new()).boxed())
            .unwrap());
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let body = http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed();
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
