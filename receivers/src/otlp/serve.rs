//! Connections: accepting, telling protocols apart, serving, stopping gracefully.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use weir_pipeline::node::Shutdown;

use super::answer::Answer;
use super::config::Timeouts;
use super::grpc::{Grpc, NOT_HTTP1};
use super::http::Http;
use super::socket::{Opening, PREFACE};

// What measured best in `benches/load`: a client that honours them sends a request in one or few pieces, which are then
// used as they came.
const WINDOW: u32 = 8 << 20;
const FRAME: u32 = 1 << 20;
const HTTP1_BUFFER: usize = 417_792;

/// Longest request head over HTTP/2.
const HEADERS: u32 = 64 << 10;

/// Streams of one HTTP/2 connection to the HTTP port.
const HTTP_STREAMS: u32 = 1024;

/// Pings find connections whose other end has silently gone.
const PING_EVERY: Duration = Duration::from_secs(120);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause after an error of `accept`, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken on a port.
#[derive(Debug, Clone)]
pub(super) enum Service {
    /// OTLP/gRPC, with the number of streams per connection.
    Grpc(Arc<Grpc>, u32),
    /// OTLP/HTTP.
    Http(Arc<Http>),
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        match self {
            Self::Grpc(grpc, _) => grpc.answer(request).await,
            Self::Http(http) => http.answer(request).await,
        }
    }
}

/// A port in one lane.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) service: Service,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) timeouts: Timeouts,
}

impl Port {
    /// Accepts connections until the shutdown, then waits for them to end.
    pub(super) async fn serve(self, mut shutdown: Shutdown) {
        let Self { listener, service, tls, timeouts } = self;
        let mut connections = JoinSet::new();
        let signal = shutdown.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (service, tls, signal) = (service.clone(), tls.clone(), signal.clone());
                    connections.spawn(async move {
                        // A connection that breaks off concerns its peer, which knows; the server goes on.
                        if let Err(error) = connection(stream, service, tls, timeouts, signal).await {
                            tracing::debug!("connection ended: {error}");
                        }
                    });
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let all_done = async { while connections.join_next().await.is_some() {} };
        if timeout(timeouts.drain, all_done).await.is_err() {
            tracing::warn!("connections still open after {} s are closed", timeouts.drain.as_secs());
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    service: Service,
    tls: Option<TlsAcceptor>,
    timeouts: Timeouts,
    mut shutdown: Shutdown,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let opened = tokio::select! {
            opened = timeout(timeouts.first_bytes, Opening::read(stream)) => opened??,
            () = shutdown.requested() => return Ok(()),
        };
        return converse(opened, service, timeouts, shutdown).await;
    };
    let handshake = async { Opening::read(tls.accept(stream).await?).await };
    let opened = tokio::select! {
        opened = timeout(timeouts.first_bytes, handshake) => opened??,
        () = shutdown.requested() => return Ok(()),
    };
    converse(opened, service, timeouts, shutdown).await
}

async fn converse<S>(opening: Opening<S>, service: Service, timeouts: Timeouts, shutdown: Shutdown) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if opening.bytes().is_empty() {
        return Ok(());
    }
    let is_http2 = opening.bytes() == PREFACE;
    let streams = match &service {
        Service::Grpc(..) if !is_http2 => return refuse(opening).await,
        Service::Grpc(_, streams) => *streams,
        Service::Http(_) => HTTP_STREAMS,
    };
    let linger = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(opening.into_socket(Arc::clone(&linger)));
    let answer = service_fn(move |request| {
        let (service, linger) = (service.clone(), Arc::clone(&linger));
        async move {
            let response = service.answer(request).await;
            // A refused body may still be on its way.
            linger.store(!response.status().is_success(), Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .max_send_buf_size(WINDOW as usize)
            .max_header_list_size(HEADERS)
            .max_concurrent_streams(streams)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .auto_date_header(false)
            .serve_connection(io, answer);
        drive(connection, shutdown).await?;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.head)
            .max_buf_size(HTTP1_BUFFER)
            .auto_date_header(false)
            .serve_connection(io, answer);
        drive(connection, shutdown).await?;
    }
    Ok(())
}

/// Serves a connection to its end, which the shutdown brings about: idle ones at once, others after their requests.
async fn drive<C: GracefulConnection>(connection: C, mut shutdown: Shutdown) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.requested() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Tells a client that does not speak HTTP/2 so, if it speaks HTTP at all.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(opening: Opening<S>) -> Result<(), Error> {
    let looks_like_http = opening.bytes().first().is_some_and(u8::is_ascii_uppercase);
    let mut socket = opening.into_socket(Arc::new(AtomicBool::new(true)));
    if looks_like_http {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{NOT_HTTP1}",
            NOT_HTTP1.len()
        );
        socket.write_all(answer.as_bytes()).await?;
    }
    socket.shutdown().await?;
    Ok(())
}
