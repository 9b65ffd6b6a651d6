//! One lane's connections to one server.
//!
//! The connections live on the lane's runtime. Over HTTP/2 there is one for all requests, or one to each address of the
//! server's name ([`Backends`]); over HTTP/1.1 as many as there are requests under way. A connection that failed is
//! replaced when it is next needed.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::backends::Backends;
use super::body::{Answer, Payload, collect};
use super::connect::{Proxy, open};
use super::dial::Names;
use super::headers::Edit;
use super::pool::{Pool, Pooled, Sender};
use super::tls::Tls;

/// Pause after a connection could not be made, doubled with each failure in a row …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Which HTTP to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 from the first byte, as gRPC does.
    Http2,
    /// HTTP/2 where TLS negotiates it, otherwise HTTP/1.1.
    Negotiated,
    /// HTTP/1.1.
    Http1,
}

impl Protocol {
    /// What to offer in the TLS handshake.
    pub(super) const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http2 => &[b"h2"],
            Self::Negotiated => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
        }
    }
}

/// HTTP/2 pings, to notice that a silent connection is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keepalive {
    /// Silence before a ping.
    pub(super) time: Duration,
    /// Silence after a ping before the connection is given up.
    pub(super) timeout: Duration,
    /// Whether to ping without a request under way.
    pub(super) permit_without_stream: bool,
}

/// Where to connect to, and how.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// A Unix socket to be connected to instead.
    pub(super) socket: Option<PathBuf>,
    /// `None`: plain text.
    pub(super) tls: Option<Arc<Tls>>,
    /// Is asked for what is sent over HTTP/1.1 in plain text, else for a way to the server.
    pub(super) proxy: Option<Proxy>,
    pub(super) names: Names,
    /// Whether all addresses of the name are used in turn, which HTTP/2 can.
    pub(super) is_balanced: bool,
    pub(super) protocol: Protocol,
    pub(super) keepalive: Option<Keepalive>,
    /// For the connection including TLS; `None`: no limit but that of the attempt.
    pub(super) connect_timeout: Option<Duration>,
    /// How long a connection is kept without a request; `None`: as long as the server keeps it.
    pub(super) idle_timeout: Option<Duration>,
    /// How many are kept without a request.
    pub(super) max_idle: Option<usize>,
    /// Whether a connection is used for more than one request.
    pub(super) is_kept_alive: bool,
}

/// What every request to an endpoint has in common, made once: cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// URI and headers over HTTP/1.1: path only, and a `host` header.
    pub(super) http1: (Uri, HeaderMap),
    /// URI and headers over HTTP/2: absolute, which becomes `:scheme`, `:authority` and `:path`.
    pub(super) http2: (Uri, HeaderMap),
}

/// What the server answers, with a body that has yet to be read.
pub(super) struct Response {
    connection: Pooled,
    head: Parts,
    body: Incoming,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) answer: Answer,
}

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, Arc<io::Error>),
    #[error("cannot connect to {0}: timed out")]
    ConnectTimeout(String),
    #[error("cannot connect to {0}: {1}")]
    Proxy(String, String),
    #[error("TLS handshake with {0} failed: {1}")]
    Tls(String, Arc<io::Error>),
    #[error("HTTP handshake with {0} failed: {1}")]
    Http(String, Arc<hyper::Error>),
    #[error("connection to {0} broke off: {1}")]
    Broken(String, String),
}

/// The connections.
pub(super) struct Client {
    target: Target,
    template: Template,
    connections: Connections,
    connecting: tokio::sync::Mutex<Gate>,
}

/// Those that are kept.
enum Connections {
    Pool(Arc<Pool>),
    Backends(Arc<Backends>),
}

/// Keeps those who need a connection to a server that is away from storming it.
#[derive(Default)]
struct Gate {
    pause: Duration,
    last_failure: Option<(Instant, ClientError)>,
}

impl Client {
    /// A client without connections; they are made when needed.
    pub(super) fn new(target: Target, template: Template) -> Self {
        // Whom a proxy connects us to is the proxy's affair.
        let is_named = target.proxy.is_none() && target.socket.is_none();
        let connections = match target.is_balanced && target.protocol == Protocol::Http2 && is_named {
            true => Connections::Backends(Backends::new(target.clone())),
            false => Connections::Pool(Pool::new(target.idle_timeout, target.max_idle)),
        };
        Self { target, template, connections, connecting: tokio::sync::Mutex::default() }
    }

    /// Sends a request; [`Self::read`] reads what comes back. `used` is set to the connection it went out on, for
    /// [`Self::discard`].
    pub(super) async fn send(
        &self,
        payload: &Payload,
        edits: &[Edit],
        used: &mut Option<u64>,
    ) -> Result<Response, ClientError> {
        loop {
            let (mut connection, is_reused) = self.connection().await?;
            *used = Some(connection.id);
            if let Sender::Http1(sender) = &mut connection.sender
                && let Err(error) = sender.ready().await
            {
                // Closed while it was idle, which is no failure of the server.
                if is_reused {
                    continue;
                }
                return Err(self.broken(&error));
            }
            let response = match connection.sender.send(&self.template, edits, payload.clone()).await {
                Ok(response) => response,
                // Not a byte of it went out.
                Err(error) if is_reused && error.message().is_some() => {
                    self.discard(Some(connection.id));
                    continue;
                }
                Err(error) => return Err(self.broken(error.error())),
            };
            if let Connections::Backends(backends) = &self.connections {
                backends.answered(connection.id);
            }
            let (head, body) = response.into_parts();
            return Ok(Response { connection, head, body });
        }
    }

    /// Reads the rest of a response, up to `limit` bytes. The status has come and counts, whatever becomes of the body:
    /// a request that was taken must not be sent again.
    pub(super) async fn read(&self, response: Response, limit: usize, deadline: Option<Instant>) -> Reply {
        let Response { connection, head, body } = response;
        let broken = |why: String| Answer { broken: Some(why), ..Answer::default() };
        let reading = collect(body, limit);
        let read = match deadline {
            None => reading.await,
            Some(deadline) => timeout_at(deadline, reading).await.unwrap_or_else(|_| {
                self.discard(Some(connection.id));
                Ok(broken("the rest of the answer did not come in time".to_owned()))
            }),
        };
        let answer = read.unwrap_or_else(|e| broken(self.broken(&e).to_string()));
        // Over HTTP/1 the rest of a cut answer would be in the way of the next one.
        let is_whole = !answer.is_cut && answer.broken.is_none();
        if let (Sender::Http1(_), Connections::Pool(pool)) = (&connection.sender, &self.connections)
            && is_whole
            && self.target.is_kept_alive
        {
            pool.put(connection);
        }
        Reply { status: head.status, headers: head.headers, answer }
    }

    /// Stops using a connection, on which a request got no answer in time: it may be dead without having been closed.
    pub(super) fn discard(&self, id: Option<u64>) {
        match &self.connections {
            Connections::Pool(pool) => pool.discard(id),
            Connections::Backends(backends) => backends.discard(id),
        }
    }

    /// Connections without a request.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        match &self.connections {
            Connections::Pool(pool) => pool.len(),
            Connections::Backends(backends) => backends.len(),
        }
    }

    /// One that is open.
    fn take(&self) -> Option<Pooled> {
        match &self.connections {
            Connections::Pool(pool) => pool.take(),
            Connections::Backends(backends) => backends.take(),
        }
    }

    /// A connection, and whether it has been there before.
    async fn connection(&self) -> Result<(Pooled, bool), ClientError> {
        match self.take() {
            Some(pooled) => Ok((pooled, true)),
            // Boxed, because the handshakes would make the future of every request several times as large.
            None => Box::pin(self.connect()).await,
        }
    }

    async fn connect(&self) -> Result<(Pooled, bool), ClientError> {
        let asked = Instant::now();
        let mut gate = self.connecting.lock().await;
        if let Some(pooled) = self.take() {
            return Ok((pooled, true));
        }
        if let Some((at, error)) = &gate.last_failure {
            // Those who waited for somebody else's attempt share its end.
            if *at >= asked {
                return Err(error.clone());
            }
            tokio::time::sleep_until(*at + gate.pause).await;
        }
        let opening = async {
            match &self.connections {
                Connections::Pool(_) => open(&self.target).await.map(Pooled::new),
                Connections::Backends(backends) => backends.open().await,
            }
        };
        let opened = match self.target.connect_timeout {
            None => opening.await,
            Some(limit) => match tokio::time::timeout(limit, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(ClientError::ConnectTimeout(self.target.address())),
            },
        };
        match opened {
            Ok(opened) => {
                *gate = Gate::default();
                if let (Connections::Pool(pool), Some(shared)) = (&self.connections, opened.share())
                    && self.target.is_kept_alive
                {
                    pool.put(shared);
                }
                Ok((opened, false))
            }
            Err(error) => {
                gate.pause = (gate.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                gate.last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        // hyper's own text is "connection error"; what happened is in its sources.
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        ClientError::Broken(self.target.address(), message)
    }
}

impl Sender {
    async fn send(
        &mut self,
        template: &Template,
        edits: &[Edit],
        payload: Payload,
    ) -> Result<http::Response<Incoming>, TrySendError<Request<Payload>>> {
        let (uri, headers) = match self {
            Self::Http1(_) => &template.http1,
            Self::Http2(_) => &template.http2,
        };
        let mut request = Request::new(payload);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        edits.iter().for_each(|edit| edit.apply(request.headers_mut()));
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                sender.try_send_request(request).await
            }
        }
    }
}

impl Target {
    /// `host:port` or the path of a socket, for messages.
    pub(super) fn address(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display().to_string().replace('\0', "@")),
            None => address(&self.host, self.port),
        }
    }
}

impl ClientError {
    /// Whether there was no connection, rather than a request that failed.
    pub(super) fn is_about_connecting(&self) -> bool {
        !matches!(self, Self::Broken(..))
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
