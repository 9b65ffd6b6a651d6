//! The server behind all pages.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weir_pipeline::node::{Shutdown, ShutdownTrigger};

/// Connections served at once; others wait to be accepted.
const CONNECTIONS: usize = 64;

/// How long a client may take to send the head of a request. Also bounds how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest head of a request, in bytes.
const HEAD_SIZE: usize = 16 << 10;

/// How long a stop waits for answers under way.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Pause after an error of `accept`, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client asks for.
#[derive(Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// What it asks for.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// What it sent, if [`Pages::body_limit`] lets it.
    pub body: Result<Bytes, BodyError>,
    /// Who asks.
    pub peer: SocketAddr,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// It broke off, or took too long.
    #[error("the body is not complete")]
    Incomplete,
}

/// What it gets.
pub type Page = Response<Full<Bytes>>;

/// Answers requests.
#[async_trait]
pub trait Pages: Send + Sync + 'static {
    /// Answers a request. One that is not GET or HEAD has been refused already, unless [`methods`](Self::methods) says
    /// otherwise.
    async fn answer(&self, ask: &Ask) -> Page;

    /// The methods that a path is asked with.
    fn methods(&self, _path: &str) -> &'static str {
        "GET, HEAD"
    }

    /// Most bytes of a body that are read; 0 if none is.
    fn body_limit(&self) -> usize {
        0
    }
}

/// A page with a text.
pub fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Each page is about this moment.
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: ShutdownTrigger,
    listening: tokio::sync::Mutex<JoinSet<()>>,
}

impl Server {
    /// Serves `pages` on these sockets, in tasks of the runtime that this is called in.
    ///
    /// # Errors
    /// If the runtime cannot poll the sockets.
    pub fn start(sockets: Vec<TcpListener>, pages: &Arc<dyn Pages>) -> std::io::Result<Self> {
        let (stop, stopping) = Shutdown::channel();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let (mut addresses, mut listening) = (Vec::new(), JoinSet::new());
        for socket in sockets {
            addresses.push(socket.local_addr()?);
            let socket = tokio::net::TcpListener::from_std(socket)?;
            listening.spawn(serve(socket, Arc::clone(pages), Arc::clone(&room), stopping.clone()));
        }
        Ok(Self { addresses, stop, listening: tokio::sync::Mutex::new(listening) })
    }

    /// What it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Closes the sockets, and the connections once they are answered.
    pub async fn stop(&self) {
        self.stop.request();
        let mut listening = self.listening.lock().await;
        let ended = async { while listening.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            listening.abort_all();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, pages: Arc<dyn Pages>, room: Arc<Semaphore>, mut stopping: Shutdown) {
    let mut connections = JoinSet::new();
    let stop = stopping.clone();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = stopping.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (pages, stop) = (Arc::clone(&pages), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, pages, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, pages: Arc<dyn Pages>, mut stopping: Shutdown) {
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            let (head, body) = request.into_parts();
            let body = read(body, pages.body_limit()).await;
            let ask = Ask { method: head.method, uri: head.uri, headers: head.headers, body, peer };
            Ok::<_, Infallible>(answer(&ask, &*pages).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Concerns the client, which knows.
        tracing::debug!("a connection ended: {error}");
    }
}

async fn read(body: hyper::body::Incoming, limit: usize) -> Result<Bytes, BodyError> {
    if limit == 0 {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        _ => Err(BodyError::Incomplete),
    }
}

async fn answer(ask: &Ask, pages: &dyn Pages) -> Page {
    let methods = pages.methods(ask.uri.path());
    if !methods.split(", ").any(|method| method == ask.method) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", format!("use {methods}\n"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        return refused;
    }
    pages.answer(ask).await
}
