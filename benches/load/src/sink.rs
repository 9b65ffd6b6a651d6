//! The far end: accepts OTLP exports, counts them and discards them.

use crate::{
    count,
    stack::{Answer, GRPC_PATH, HTTP_PATH, Protocol, Tuning, collect, listen, serve},
};
use anyhow::{Context, Result};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{
    io::Read,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
};
use tokio::net::TcpListener;

/// Largest request body after decompression.
const LIMIT: u64 = 256 << 20;

/// What has arrived since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    spans: AtomicU64,
    refused: AtomicU64,
}

/// One reading of [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Requests accepted.
    pub(crate) requests: u64,
    /// Bytes of their messages as received, without gRPC framing.
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// Requests that were no OTLP export of traces.
    pub(crate) refused: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> Received {
        Received {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            spans: self.spans.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

/// Where a sink listens, and what it has counted.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) counters: Arc<Counters>,
}

impl Sink {
    /// Starts a sink on its own thread; it lives as long as the process.
    pub(crate) fn start(grpc: SocketAddr, http: SocketAddr, tuning: Tuning) -> Result<Self> {
        let (ready, started) = mpsc::channel();
        std::thread::Builder::new().name("sink".into()).spawn(move || {
            let counters = Arc::new(Counters::default());
            let run = async {
                let (grpc, http) = (listen(grpc)?, listen(http)?);
                let sink = Sink { grpc: grpc.local_addr()?, http: http.local_addr()?, counters: Arc::clone(&counters) };
                ready.send(Ok(sink)).ok();
                receive(grpc, http, tuning, counters).await
            };
            let outcome = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot build a runtime")
                .and_then(|runtime| runtime.block_on(run));
            if let Err(error) = outcome {
                ready.send(Err(error)).ok();
            }
        })?;
        started.recv().context("the sink's thread ended before it was ready")?
    }

    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Grpc => self.grpc,
            Protocol::Http => self.http,
        }
    }
}

/// Serves both protocols on the current runtime, for ever.
pub(crate) async fn receive(
    grpc: TcpListener,
    http: TcpListener,
    tuning: Tuning,
    counters: Arc<Counters>,
) -> Result<()> {
    let start = |listener, protocol| {
        let counters = Arc::clone(&counters);
        serve(listener, protocol, tuning, move |request| accept(protocol, request, Arc::clone(&counters)))
    };
    tokio::try_join!(start(grpc, Protocol::Grpc), start(http, Protocol::Http))?;
    Ok(())
}

async fn accept(protocol: Protocol, request: Request<Incoming>, counters: Arc<Counters>) -> Result<Response<Answer>> {
    let expected = match protocol {
        Protocol::Grpc => GRPC_PATH,
        Protocol::Http => HTTP_PATH,
    };
    let known = request.method() == Method::POST && request.uri().path() == expected;
    let gzip_body = request.headers().get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let bytes = collect(request.into_body()).await?.bytes;
    let message = match protocol {
        Protocol::Http => Some((gzip_body, bytes)),
        Protocol::Grpc => unframe(&bytes),
    };
    let counted = message.filter(|_| known).and_then(|(gzip, message)| {
        let spans = if gzip { count::spans(&inflate(&message)?) } else { count::spans(&message) };
        Some((message.len() as u64, spans.ok()?))
    });
    let Some((length, spans)) = counted else {
        counters.refused.fetch_add(1, Relaxed);
        return Ok(refusal(protocol));
    };
    counters.requests.fetch_add(1, Relaxed);
    counters.bytes.fetch_add(length, Relaxed);
    counters.spans.fetch_add(spans, Relaxed);
    Ok(match protocol {
        Protocol::Grpc => Answer::grpc(Bytes::from_static(&[0; 5]), 0),
        Protocol::Http => {
            // An `ExportTraceServiceResponse` without fields encodes to nothing.
            let mut response = Response::new(Answer::new(Bytes::new(), None));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            response
        }
    })
}

/// Takes a single gRPC message out of its framing, with the flag that says it is compressed.
fn unframe(body: &Bytes) -> Option<(bool, Bytes)> {
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?);
    (message.len() as u64 == u64::from(length)).then(|| (prefix.first() == Some(&1), body.slice(5..)))
}

fn inflate(message: &[u8]) -> Option<Vec<u8>> {
    let mut inflated = Vec::with_capacity(message.len().saturating_mul(4));
    GzDecoder::new(message).take(LIMIT).read_to_end(&mut inflated).ok()?;
    Some(inflated)
}

fn refusal(protocol: Protocol) -> Response<Answer> {
    match protocol {
        // INVALID_ARGUMENT: the sender must not try again.
        Protocol::Grpc => Answer::grpc(Bytes::new(), 3),
        Protocol::Http => {
            let mut response = Response::new(Answer::new(Bytes::new(), None));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}
