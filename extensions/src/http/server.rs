//! The server behind all pages.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir_pipeline::node::{Shutdown, ShutdownTrigger};

use super::room::{Room, Seat, Stage};

/// Connections served at once. For others idle ones make way; if all are being answered, others wait.
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
        let room = Room::new(CONNECTIONS);
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

async fn serve(listener: tokio::net::TcpListener, pages: Arc<dyn Pages>, room: Arc<Room>, mut stopping: Shutdown) {
    let mut connections = JoinSet::new();
    let stop = stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let seat = tokio::select! {
                    biased;
                    () = stopping.requested() => break,
                    seat = room.enter() => seat,
                };
                connections.spawn(connection(stream, peer, seat, Arc::clone(&pages), stop.clone()));
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

async fn connection(stream: TcpStream, peer: SocketAddr, seat: Seat, pages: Arc<dyn Pages>, mut stopping: Shutdown) {
    let seat = &seat;
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            if !seat.at(Stage::Receiving) {
                return Ok(page(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "busy: ask again\n"));
            }
            let (head, body) = request.into_parts();
            let body = read(body, pages.body_limit()).await;
            seat.at(Stage::Answering);
            let ask = Ask { method: head.method, uri: head.uri, headers: head.headers, body, peer };
            let answer = answer(&ask, &*pages).await;
            seat.at(Stage::Idle);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(Noticed { stream, seat }), answer);
    let mut connection = pin!(connection);
    let mut is_stopping = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = stopping.requested(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = seat.is_needed() => {
                connection.as_mut().graceful_shutdown();
                // A request that has come already is seen once the runtime has looked at its sockets.
                tokio::task::yield_now().await;
                match tokio::time::timeout(Duration::ZERO, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if seat.is_lost() => return tracing::debug!("a connection was closed for another"),
                    // It was one, and is being answered.
                    Err(_) => {}
                }
            }
        }
    };
    if let Err(error) = ended {
        // Concerns the client, which knows.
        tracing::debug!("a connection ended: {error}");
    }
}

/// A stream of which the seat learns when something comes.
struct Noticed<'s> {
    stream: TcpStream,
    seat: &'s Seat,
}

impl AsyncRead for Noticed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.seat.has_begun();
        }
        read
    }
}

impl AsyncWrite for Noticed<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::super::testing::get;
    use super::*;

    /// Answers at once, or at `/slow` when it is told to. Takes bodies.
    #[derive(Default)]
    struct Plain {
        asked: Notify,
        slow: Notify,
    }

    #[async_trait]
    impl Pages for Plain {
        async fn answer(&self, ask: &Ask) -> Page {
            self.asked.notify_one();
            if ask.uri.path() == "/slow" {
                self.slow.notified().await;
            }
            page(StatusCode::OK, "text/plain", "ok")
        }

        fn body_limit(&self) -> usize {
            100
        }
    }

    async fn start() -> (Arc<Plain>, Server, SocketAddr) {
        let plain = Arc::new(Plain::default());
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let server = Server::start(vec![socket], &(Arc::clone(&plain) as Arc<dyn Pages>)).unwrap();
        let address = server.addresses()[0];
        (plain, server, address)
    }

    /// As many connections as there may be at once, on which this was sent, and nothing more.
    async fn fill(address: SocketAddr, sent: &str) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            streams.push(stream);
        }
        streams
    }

    async fn is_answered_promptly(address: SocketAddr) {
        let answered = tokio::time::timeout(HEAD_TIMEOUT / 6, get(address, "/")).await;
        assert_eq!(answered.expect("it had to wait"), (200, "ok".to_owned()));
    }

    /// What the server sent until it closed the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut read = Vec::new();
        // A connection on which the server left something unread is reset.
        let _ = stream.read_to_end(&mut read).await;
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn idle_connections_make_way() {
        let (_, server, address) = start().await;
        let mut idle = fill(address, "").await;
        is_answered_promptly(address).await;
        assert_eq!(rest(idle.remove(0)).await, "", "the first was idle for longest");
        // The others are as good as before.
        let last = idle.last_mut().unwrap();
        last.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(idle.pop().unwrap()).await.ends_with("\r\n\r\nok"));
        server.stop().await;
    }

    #[tokio::test]
    async fn neither_half_a_head_nor_half_a_body_keeps_others_out() {
        for sent in ["GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345"] {
            let (_, _server, address) = start().await;
            let _clients = fill(address, sent).await;
            is_answered_promptly(address).await;
        }
    }

    /// Kubernetes waits a second for an answer, and ends a process that does not answer.
    #[tokio::test]
    async fn a_flood_of_connections_keeps_nobody_waiting() {
        for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\nx: "] {
            let (_, server, address) = start().await;
            let mut flood = JoinSet::new();
            let connected = Arc::new(AtomicUsize::new(0));
            for _ in 0..8 {
                let connected = Arc::clone(&connected);
                flood.spawn(async move {
                    let mut streams = VecDeque::new();
                    loop {
                        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                        if stream.write_all(sent.as_bytes()).await.is_ok() {
                            streams.push_back(stream);
                        }
                        if streams.len() > CONNECTIONS {
                            streams.pop_front();
                        }
                        connected.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut probes = 0;
            while probes < 5 || connected.load(Ordering::Relaxed) < 4 * CONNECTIONS {
                let answered = tokio::time::timeout(Duration::from_secs(2), get(address, "/")).await;
                assert_eq!(answered.expect("it had to wait"), (200, "ok".to_owned()), "{sent}");
                probes += 1;
            }
            flood.shutdown().await;
            server.stop().await;
        }
    }

    #[tokio::test]
    async fn who_is_being_answered_stays() {
        let (plain, server, address) = start().await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        plain.asked.notified().await;
        let _idle = fill(address, "").await;
        is_answered_promptly(address).await;
        plain.slow.notify_one();
        assert!(rest(slow).await.ends_with("\r\n\r\nok"));
        server.stop().await;
    }
}
