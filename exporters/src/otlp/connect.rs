//! Making one connection: TCP, through a proxy if there is one, TLS, HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
#[cfg(unix)]
use tokio::net::unix;
use tokio_rustls::TlsConnector;

use super::body::Payload;
use super::client::{ClientError, Protocol, Target, address};
use super::dial::dial;
use super::gather::Gathering;
use super::joining::Joining;
use super::pool::Sender;

/// HTTP/2 flow-control window of streams and connections: large enough that responses never wait for it.
const WINDOW: u32 = 8 << 20;
/// Largest HTTP/2 frame accepted from the server.
const MAX_FRAME: u32 = 1 << 20;
/// Bytes that HTTP/2 may buffer per stream before the body has to wait: a usual request fits.
const SEND_BUFFER: usize = 8 << 20;
/// HTTP/1 read and write buffer.
const HTTP1_BUFFER: usize = 417_792;

/// An HTTP proxy.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization`, from the user name and password in its URL.
    pub(super) authorization: Option<HeaderValue>,
}

/// Opens a connection to a Unix socket, or to whichever address of the target, or of its proxy, answers first.
pub(super) async fn open(target: &Target) -> Result<Sender, ClientError> {
    if let Some(path) = &target.socket {
        let failed = |e: io::Error| ClientError::Connect(target.address(), Arc::new(e));
        return secure(target, Gathering::new(unix(path).await.map_err(failed)?)).await;
    }
    let (host, port) = match &target.proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (target.host.as_str(), target.port),
    };
    let failed = |e: io::Error| ClientError::Connect(address(host, port), Arc::new(e));
    converse(target, dial(&target.names, host, port).await.map_err(failed)?).await
}

/// The halves of a connection to a Unix socket.
#[cfg(unix)]
async fn unix(path: &Path) -> io::Result<(unix::OwnedReadHalf, unix::OwnedWriteHalf)> {
    Ok(tokio::net::UnixStream::connect(path).await?.into_split())
}

#[cfg(not(unix))]
async fn unix(_: &Path) -> io::Result<(tokio::io::Empty, tokio::io::Empty)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens a connection to one address of a target without a proxy.
pub(super) async fn open_at(target: &Target, at: SocketAddr) -> Result<Sender, ClientError> {
    let failed = |e: io::Error| ClientError::Connect(format!("{} at {at}", target.address()), Arc::new(e));
    converse(target, TcpStream::connect(at).await.map_err(failed)?).await
}

/// Makes an HTTP connection of one over TCP.
async fn converse(target: &Target, stream: TcpStream) -> Result<Sender, ClientError> {
    stream.set_nodelay(true).map_err(|e| ClientError::Connect(target.address(), Arc::new(e)))?;
    let is_http2 = target.protocol == Protocol::Http2;
    // Plain requests carry the whole URL, and the proxy sends them on.
    if target.tls.is_none() && !is_http2 {
        return handshake(target, Joining::new(stream), false).await;
    }
    let stream = Gathering::new(stream.into_split());
    match (&target.tls, &target.proxy) {
        (None, None) => handshake(target, stream, is_http2).await,
        (None, Some(proxy)) => handshake(target, tunnel(target, proxy, stream).await?, is_http2).await,
        (Some(_), None) => secure(target, stream).await,
        (Some(_), Some(proxy)) => secure(target, tunnel(target, proxy, stream).await?).await,
    }
}

/// Asks a proxy for a connection to the server, on which TLS or HTTP/2 is then spoken with the server itself.
async fn tunnel(
    target: &Target,
    proxy: &Proxy,
    stream: Gathering<OwnedReadHalf>,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, ClientError> {
    let through = format!("{} through the proxy {}", target.address(), address(&proxy.host, proxy.port));
    let failed = |e: hyper::Error| ClientError::Http(through.clone(), Arc::new(e));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move { connection.with_upgrades().await.is_ok() });
    let mut request = Request::new(Payload::default());
    *request.method_mut() = Method::CONNECT;
    let authority = target.address();
    let refused = |message: String| ClientError::Proxy(through.clone(), message);
    *request.uri_mut() = Uri::builder().authority(authority.as_str()).build().map_err(|e| refused(e.to_string()))?;
    let host = HeaderValue::try_from(authority).map_err(|e| refused(e.to_string()))?;
    request.headers_mut().insert(HOST, host);
    if let Some(authorization) = &proxy.authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    let response = sender.send_request(request).await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(refused(format!("HTTP status {}", response.status())));
    }
    hyper::upgrade::on(response).await.map(TokioIo::new).map_err(failed)
}

async fn secure<S>(target: &Target, stream: S) -> Result<Sender, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = &target.tls else { return handshake(target, stream, target.protocol == Protocol::Http2).await };
    let stream = TlsConnector::from(tls.config().await)
        .connect(tls.name.clone(), stream)
        .await
        .map_err(|e| ClientError::Tls(target.address(), Arc::new(e)))?;
    let is_http2 = target.protocol == Protocol::Http2 || stream.get_ref().1.alpn_protocol() == Some(b"h2");
    handshake(target, stream, is_http2).await
}

async fn handshake<S>(target: &Target, stream: S, is_http2: bool) -> Result<Sender, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| ClientError::Http(target.address(), Arc::new(e));
    let io = TokioIo::new(stream);
    // What ends a connection reaches whoever has a request on it; without one it is nobody's business.
    if !is_http2 {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(HTTP1_BUFFER).handshake(io).await.map_err(failed)?;
        tokio::spawn(async move { connection.await.is_ok() });
        return Ok(Sender::Http1(sender));
    }
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(SEND_BUFFER);
    if let Some(keepalive) = &target.keepalive {
        builder
            .keep_alive_interval(keepalive.time)
            .keep_alive_timeout(keepalive.timeout)
            .keep_alive_while_idle(keepalive.permit_without_stream);
    }
    let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
    tokio::spawn(async move { connection.await.is_ok() });
    Ok(Sender::Http2(sender))
}
