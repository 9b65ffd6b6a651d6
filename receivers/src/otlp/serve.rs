//! Connections: accepting, telling protocols apart, serving, stopping gracefully.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use weir_pipeline::clock::Environment;
use weir_pipeline::node::Shutdown;

use super::answer::Answer;
use super::calls::{Calls, beside};
use super::config::{HttpTimeouts, Lifetime, Timeouts};
use super::connection::{Connection, End};
use super::crowd::{Crowd, Place};
use super::grpc::{Grpc, NOT_HTTP1};
use super::http::Http;
use super::listen::Listener;
#[cfg(unix)]
use super::listen::SocketFile;
use super::pace::Pace;
use super::socket::{Opening, PREFACE};
use super::tls::Tls;

// What measured best in `benches/load`: a client that honours them sends a request in one or few pieces, which are then
// used as they came.
const WINDOW: u32 = 8 << 20;
/// Where clients have to say who they are: what they send before that is nobody's.
const GUARDED_WINDOW: u32 = 1 << 20;
const FRAME: u32 = 1 << 20;
const HTTP1_BUFFER: usize = 417_792;

/// Longest request head over HTTP/2.
const HEADERS: u32 = 64 << 10;

/// Streams of one HTTP/2 connection to the HTTP port.
const HTTP_STREAMS: u32 = 1024;

/// Time that a connection has to end which makes way for another.
const FAREWELL: Duration = Duration::from_millis(100);

/// Pause between looks whether the pipelines have answered everything.
const STRAGGLERS_PAUSE: Duration = Duration::from_millis(250);

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
    /// As it is called in the log.
    fn transport(&self) -> &'static str {
        match self {
            Self::Grpc(..) => "grpc",
            Self::Http(_) => "http",
        }
    }

    /// HTTP/2 flow-control window of streams and connections.
    fn window(&self) -> u32 {
        let asks_who = match self {
            Self::Grpc(grpc, _) => grpc.asks_who(),
            Self::Http(http) => http.asks_who(),
        };
        if asks_who { GUARDED_WINDOW } else { WINDOW }
    }

    /// Requests that the pipelines have and have not answered.
    fn under_way(&self) -> usize {
        match self {
            Self::Grpc(grpc, _) => grpc.under_way(),
            Self::Http(http) => http.under_way(),
        }
    }

    async fn answer(&self, request: Request<Incoming>, deadline: Option<Instant>) -> Response<Answer> {
        match self {
            Self::Grpc(grpc, _) => grpc.answer(request).await,
            Self::Http(http) => http.answer(request, deadline).await,
        }
    }
}

/// How the connections of a port are served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) timeouts: Timeouts,
    pub(super) http: HttpTimeouts,
    pub(super) lifetime: Lifetime,
    /// Whether a connection may carry more than one request.
    pub(super) keep_alives: bool,
}

/// A port in one lane.
pub(super) struct Port {
    pub(super) listener: Acceptor,
    pub(super) service: Service,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) manners: Manners,
    pub(super) environment: Environment,
}

/// A listener within the runtime.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, #[expect(dead_code, reason = "held for its Drop")] Arc<SocketFile>),
}

enum Accepted {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Acceptor {
    /// Must be called within the runtime that serves it.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            #[cfg(unix)]
            Listener::Unix(listener, file) => Ok(Self::Unix(UnixListener::from_std(listener)?, file)),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            #[cfg(unix)]
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// What every connection of a port has in common.
#[derive(Clone)]
struct Shared {
    service: Service,
    manners: Manners,
    environment: Environment,
    shutdown: Shutdown,
}

impl Port {
    /// Accepts connections until the shutdown, then waits for them to end.
    pub(super) async fn serve(self, mut shutdown: Shutdown) {
        let Self { listener, service, tls, manners, environment } = self;
        let mut connections = JoinSet::new();
        let crowd = Crowd::of_process();
        let shared = Shared { service, manners, environment, shutdown: shutdown.clone() };
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    let place = match crowd.enter() {
                        Some(place) => place,
                        None => {
                            // Others wait meanwhile where they cost nothing.
                            sleep(2 * FAREWELL).await;
                            let Some(place) = crowd.enter() else { continue };
                            place
                        }
                    };
                    let (shared, tls) = (shared.clone(), tls.clone());
                    connections.spawn(async move {
                        let ended = match accepted {
                            Accepted::Tcp(stream) => match stream.set_nodelay(true) {
                                Ok(()) => shared.serve(stream, tls, &place).await,
                                Err(error) => Err(error.into()),
                            },
                            #[cfg(unix)]
                            Accepted::Unix(stream) => shared.serve(stream, tls, &place).await,
                        };
                        // A connection that breaks off concerns its peer, which knows; the server goes on.
                        if let Err(error) = ended {
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
        let Timeouts { drain, stragglers, .. } = manners.timeouts;
        let all_done = async { while connections.join_next().await.is_some() {} };
        // Those who are slow to send or to read keep nobody longer than that; what the pipelines have is waited for.
        let only_stragglers = async {
            sleep(stragglers).await;
            let mut quiet = 0;
            // The last answer may still have to be written.
            while quiet < 2 {
                sleep(STRAGGLERS_PAUSE).await;
                quiet = if shared.service.under_way() == 0 { quiet + 1 } else { 0 };
            }
        };
        tokio::select! {
            () = all_done => {}
            () = only_stragglers => {
                tracing::info!("connections on which nothing is under way are closed");
            }
            () = sleep(drain) => {
                tracing::warn!("connections still open after {} s are closed", drain.as_secs());
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Shared {
    async fn serve<S>(mut self, stream: S, tls: Option<Arc<Tls>>, place: &Place) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.manners.http.read_header.unwrap_or(self.manners.timeouts.first_bytes);
        let mut shutdown = self.shutdown.clone();
        match tls {
            None => {
                let opening = tokio::select! {
                    opening = timeout(limit, Opening::read(stream)) => opening??,
                    () = shutdown.requested() => return Ok(()),
                    () = place.must_leave_unheard() => return Ok(()),
                };
                self.converse(opening, place).await
            }
            Some(tls) => {
                let transport = self.service.transport();
                let handshake = async {
                    let secured = tls.acceptor().accept(stream).await;
                    Opening::read(secured.inspect_err(|error| tls.note_refused(transport, error))?).await
                };
                let opening = tokio::select! {
                    opening = timeout(limit, handshake) => opening??,
                    () = shutdown.requested() => return Ok(()),
                    () = place.must_leave_unheard() => return Ok(()),
                };
                self.converse(opening, place).await
            }
        }
    }

    async fn converse<S>(&mut self, opening: Opening<S>, place: &Place) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if opening.bytes().is_empty() {
            return Ok(());
        }
        let is_http2 = opening.bytes() == PREFACE;
        let streams = match &self.service {
            Service::Grpc(..) if !is_http2 => return refuse(opening).await,
            Service::Grpc(_, streams) => *streams,
            Service::Http(_) => HTTP_STREAMS,
        };
        let Manners { timeouts, http, mut lifetime, keep_alives } = self.manners;
        lifetime.max_idle = lifetime.max_idle.or(http.idle);
        // hyper has one limit for a head and the wait for it; where they are told apart, the socket limits the head.
        let is_paced = !is_http2 && (http.read_header.is_some() || http.idle.is_some());
        if is_paced {
            lifetime.max_idle = lifetime.max_idle.or(Some(timeouts.head));
        }
        let head = is_paced.then(|| http.read_header.unwrap_or(timeouts.head));
        let connection = Connection::new(lifetime.max_idle.is_some());
        let service = self.service.clone();
        let requests = Arc::clone(&connection);
        // HTTP/2 reads a request's head at once and gives each body its own limit.
        let read_limit = http.read.filter(|_| !is_http2);
        let answer = service_fn(move |request| {
            let (service, busy) = (service.clone(), requests.begin());
            async move {
                let deadline = read_limit.map(|limit| busy.connection().request_began() + limit);
                if !keep_alives {
                    busy.connection().notify_first_request();
                }
                let response = service.answer(request, deadline).await;
                // A refused body may still be on its way.
                busy.connection().set_lingers(!response.status().is_success());
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(opening.into_socket(Arc::clone(&connection), Pace { head, write: http.write }));
        if is_http2 {
            let calls = Calls::new();
            let served = http2::Builder::new(calls.intake())
                .timer(TokioTimer::new())
                .initial_stream_window_size(self.service.window())
                .initial_connection_window_size(self.service.window())
                .max_frame_size(FRAME)
                .max_send_buf_size(WINDOW as usize)
                .max_header_list_size(HEADERS)
                .max_concurrent_streams(streams)
                .keep_alive_interval(lifetime.ping_after)
                .keep_alive_timeout(lifetime.ping_timeout)
                .auto_date_header(false)
                .serve_connection(io, answer);
            self.drive(served, Some(calls), &connection, lifetime, place).await?;
        } else {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout((!is_paced).then_some(timeouts.head))
                .keep_alive(keep_alives)
                .max_buf_size(HTTP1_BUFFER)
                .auto_date_header(false)
                .serve_connection(io, answer);
            self.drive(served, None, &connection, lifetime, place).await?;
        }
        Ok(())
    }

    /// Serves a connection to its end, which the shutdown or its own lifetime brings about: at once if it is idle, else
    /// after its requests.
    async fn drive<C: GracefulConnection>(
        &mut self,
        served: C,
        mut calls: Option<Calls>,
        connection: &Connection,
        lifetime: Lifetime,
        place: &Place,
    ) -> Result<(), C::Error> {
        let mut served = pin!(served);
        // A tenth more or less, as gRPC has it: clients that came together do not come again together.
        let stretch = if lifetime.max_age.is_some() { 0.9 + 0.2 * self.environment.random_unit() } else { 1.0 };
        let is_limited = lifetime.max_age.is_some() || lifetime.max_idle.is_some();
        // In this order, and with nothing asked that cannot come: this runs at every sign of life.
        let end = tokio::select! {
            biased;
            ended = beside(served.as_mut(), &mut calls) => return ended,
            () = self.shutdown.requested() => None,
            end = connection.outlives(&lifetime, stretch), if is_limited => Some(end),
            () = place.must_leave(connection) => Some(End::Crowded),
            () = connection.first_request(), if !self.manners.keep_alives => None,
        };
        served.as_mut().graceful_shutdown();
        match end {
            Some(End::Old(Some(grace))) => timeout(grace, beside(served, &mut calls)).await.unwrap_or(Ok(())),
            Some(End::Crowded) => match timeout(FAREWELL, beside(served.as_mut(), &mut calls)).await {
                Ok(ended) => ended,
                // One that came before the farewell had.
                Err(_) if connection.is_busy() => beside(served, &mut calls).await,
                Err(_) => Ok(()),
            },
            _ => beside(served, &mut calls).await,
        }
    }
}

/// Tells a client that does not speak HTTP/2 so, if it speaks HTTP at all.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(opening: Opening<S>) -> Result<(), Error> {
    let looks_like_http = opening.bytes().first().is_some_and(u8::is_ascii_uppercase);
    let connection = Connection::new(false);
    connection.set_lingers(true);
    let mut socket = opening.into_socket(connection, Pace::default());
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
