//! The floor: receives each request whole, sends the same bytes on, relays the answer.
//!
//! Any collector must do this much. It is built as a fast one would be: a single-threaded runtime
//! per thread, each with its own `SO_REUSEPORT` listener and its own connection upstream, so that
//! no request crosses a thread.

use crate::stack::{Answer, Connection, Pieces, Protocol, Tuning, collect, listen, serve};
use anyhow::{Context, Result};
use http::{HeaderMap, Request, Response, Uri, header};
use hyper::body::Incoming;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpListener;

/// Headers of an export which matter to the next hop.
const RELAYED: [header::HeaderName; 3] = [header::CONTENT_TYPE, header::TE, header::CONTENT_ENCODING];

/// Forwards on `threads` threads, for ever.
pub(crate) fn run(protocol: Protocol, at: SocketAddr, to: SocketAddr, threads: usize, tuning: Tuning) -> Result<()> {
    let lanes: Vec<_> = (0..threads.max(1))
        .map(|lane| {
            std::thread::Builder::new().name(format!("lane-{lane}")).spawn(move || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async { forward(listen(at)?, protocol, to, tuning).await })
            })
        })
        .collect::<std::io::Result<_>>()?;
    for lane in lanes {
        match lane.join() {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("a lane panicked"),
        }
    }
    Ok(())
}

/// Forwards what comes in on `listener`, on the current runtime.
pub(crate) async fn forward(listener: TcpListener, protocol: Protocol, to: SocketAddr, tuning: Tuning) -> Result<()> {
    let upstream = Arc::new(Upstream { protocol, to, tuning, idle: Mutex::new(Vec::new()) });
    serve(listener, protocol, tuning, move |request| relay(request, Arc::clone(&upstream))).await
}

/// Persistent connections to the next hop: one for gRPC, as many as are in use for HTTP.
#[derive(Debug)]
struct Upstream {
    protocol: Protocol,
    to: SocketAddr,
    tuning: Tuning,
    idle: Mutex<Vec<Connection>>,
}

impl Upstream {
    async fn take(&self) -> Result<Connection> {
        loop {
            let idle = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                match idle.last().and_then(Connection::share) {
                    Some(shared) if !shared.is_closed() => Some(shared),
                    _ => idle.pop(),
                }
            };
            match idle {
                Some(connection) if connection.is_closed() => {}
                Some(connection) => return Ok(connection),
                None => {
                    let opened = Connection::open(self.protocol, self.to, self.tuning).await?;
                    if let Some(shared) = opened.share() {
                        self.put(shared);
                    }
                    return Ok(opened);
                }
            }
        }
    }

    fn put(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

async fn relay(request: Request<Incoming>, upstream: Arc<Upstream>) -> Result<Response<Answer>> {
    let (parts, body) = request.into_parts();
    let body = collect(body).await?.bytes;

    let mut onward = Request::new(Pieces::whole(body));
    *onward.method_mut() = parts.method;
    relay_headers(&parts.headers, onward.headers_mut());
    let path = parts.uri.path();
    match upstream.protocol {
        Protocol::Grpc => {
            *onward.uri_mut() = Uri::builder()
                .scheme("http")
                .authority(upstream.to.to_string())
                .path_and_query(path)
                .build()
                .context("the request's path cannot be forwarded")?;
            if let Some(encoding) = parts.headers.get("grpc-encoding") {
                onward.headers_mut().insert("grpc-encoding", encoding.clone());
            }
        }
        Protocol::Http => {
            *onward.uri_mut() = path.parse().context("the request's path cannot be forwarded")?;
            onward.headers_mut().insert(header::HOST, upstream.to.to_string().parse()?);
        }
    }

    let mut connection = upstream.take().await?;
    let (answered, body) = connection.send(onward).await?.into_parts();
    let whole = collect(body).await?;
    if upstream.protocol == Protocol::Http {
        upstream.put(connection);
    }

    let mut response = Response::new(Answer::new(whole.bytes, whole.trailers));
    *response.status_mut() = answered.status;
    relay_headers(&answered.headers, response.headers_mut());
    // A call refused before it had a body carries its status in the headers.
    if let Some(status) = answered.headers.get("grpc-status") {
        response.headers_mut().insert("grpc-status", status.clone());
    }
    Ok(response)
}

fn relay_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in RELAYED {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        payload::{Encoding, Pool, Shape},
        send::Sender,
        sink::{Counters, receive},
    };
    use bytes::Bytes;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn passes_through(protocol: Protocol, encoding: Encoding, tuning: Tuning) {
        let counters = Arc::new(Counters::default());
        let (grpc, http) = (listen(LOOPBACK).unwrap(), listen(LOOPBACK).unwrap());
        let to = match protocol {
            Protocol::Grpc => grpc.local_addr().unwrap(),
            Protocol::Http => http.local_addr().unwrap(),
        };
        let sink = tokio::spawn(receive(grpc, http, tuning, Arc::clone(&counters)));
        let listener = listen(LOOPBACK).unwrap();
        let at = listener.local_addr().unwrap();
        let proxy = tokio::spawn(forward(listener, protocol, to, tuning));

        let pool = Arc::new(Pool::generate(Shape::Llm, 50, 4, encoding).unwrap());
        let mut sender = Sender::connect(protocol, at, 3, tuning).await.unwrap();
        let outcome = sender.send(&pool, 20).await.unwrap();
        assert_eq!((outcome.requests, outcome.spans), (20, 1_000));
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);

        let received = counters.read();
        let sent: u64 = (0..20).map(|turn| pool.message(turn).len() as u64).sum();
        assert_eq!((received.requests, received.spans, received.refused), (20, 1_000, 0));
        assert_eq!(received.bytes, sent);
        proxy.abort();
        sink.abort();
    }

    #[tokio::test]
    async fn grpc_passes_through() {
        passes_through(Protocol::Grpc, Encoding::Identity, Tuning::default()).await;
    }

    #[tokio::test]
    async fn grpc_passes_through_in_small_frames() {
        let tuning = Tuning { frame_size: 16_384, window: 65_535, ..Tuning::default() };
        passes_through(Protocol::Grpc, Encoding::Identity, tuning).await;
    }

    #[tokio::test]
    async fn grpc_passes_through_compressed() {
        passes_through(Protocol::Grpc, Encoding::Gzip, Tuning::default()).await;
    }

    #[tokio::test]
    async fn http_passes_through() {
        passes_through(Protocol::Http, Encoding::Identity, Tuning::default()).await;
        passes_through(Protocol::Http, Encoding::Gzip, Tuning::default()).await;
    }

    #[tokio::test]
    async fn refusals_are_counted_as_errors() {
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let counters = Arc::new(Counters::default());
            let (grpc, http) = (listen(LOOPBACK).unwrap(), listen(LOOPBACK).unwrap());
            let to = match protocol {
                Protocol::Grpc => grpc.local_addr().unwrap(),
                Protocol::Http => http.local_addr().unwrap(),
            };
            let sink = tokio::spawn(receive(grpc, http, Tuning::default(), Arc::clone(&counters)));
            // Bytes that are no export: the sink cannot count spans in them.
            let pool = Arc::new(Pool::of(&[Bytes::from_static(b"\x0a\xff\x01")]));
            let mut sender = Sender::connect(protocol, to, 2, Tuning::default()).await.unwrap();
            let outcome = sender.send(&pool, 6).await.unwrap();
            assert_eq!(outcome.errors.values().sum::<u64>(), 6, "{:?}", outcome.errors);
            assert_eq!((outcome.spans, counters.read().refused), (0, 6));
            sink.abort();
        }
    }

    #[test]
    fn relayed_headers_are_only_those_of_an_export() {
        let from = HeaderMap::from_iter([
            (header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc")),
            (header::CONTENT_LENGTH, http::HeaderValue::from_static("12")),
        ]);
        let mut to = HeaderMap::new();
        relay_headers(&from, &mut to);
        assert_eq!(to.len(), 1);
        assert_eq!(to[header::CONTENT_TYPE], "application/grpc");
    }
}
