//! The HTTP stack that sink, proxy and sender share, with the settings a fast collector uses.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1 as client1, http2 as client2},
    server::conn::{http1 as server1, http2 as server2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const HTTP_PATH: &str = "/v1/traces";

/// The two transports of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// OTLP/gRPC, unary calls over HTTP/2 without TLS.
    Grpc,
    /// OTLP/HTTP with protobuf bodies, over HTTP/1.1.
    Http,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "gRPC",
            Protocol::Http => "HTTP",
        }
    }
}

/// Sizes the two ends agree on. The defaults are what measured best; `README.md` says how much
/// each is worth.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Tuning {
    /// Largest HTTP/2 DATA frame accepted, in bytes; a peer that honours it sends a request in one
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(16_384..=16_777_215))]
    pub(crate) frame_size: u32,
    /// HTTP/2 flow-control window of streams and connections, in bytes
    #[arg(long, default_value_t = 8 << 20, value_parser = clap::value_parser!(u32).range(65_535..=2_147_483_647))]
    pub(crate) window: u32,
    /// Largest HTTP/1 read buffer, in bytes
    #[arg(long, default_value_t = 417_792, value_parser = clap::value_parser!(u32).range(8_192..))]
    pub(crate) http1_buffer: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { frame_size: 1 << 20, window: 8 << 20, http1_buffer: 417_792 }
    }
}

/// A message read whole: what a collector has in hand before it can do anything.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A response body: one piece of data, then perhaps trailers.
#[derive(Debug)]
pub(crate) struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data: (!data.is_empty()).then_some(data), trailers }
    }

    /// A gRPC response: `data` is already framed, and the call ends with `status`.
    pub(crate) fn grpc(data: Bytes, status: u32) -> Response<Self> {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from(status));
        let mut response = Response::new(Self::new(data, Some(trailers)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.data.take() {
            Some(data) => Some(Frame::data(data)),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// A request body sent in pieces of at most `size` bytes: one HTTP/2 DATA frame each.
///
/// gRPC in Go never sends frames above 16 KiB, whatever the receiver would take.
#[derive(Debug)]
pub(crate) struct Pieces {
    rest: Bytes,
    size: usize,
}

impl Pieces {
    pub(crate) fn of(bytes: Bytes, size: usize) -> Self {
        Self { rest: bytes, size: size.max(1) }
    }

    /// All in one piece; HTTP/2 still cuts it to the frames the receiver takes.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::of(bytes, usize::MAX)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.size.min(self.rest.len());
        Poll::Ready((next > 0).then(|| Ok(Frame::data(self.rest.split_to(next)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A listener several threads may open on the same address; the kernel spreads connections.
///
/// Needs a tokio runtime.
pub(crate) fn listen(at: SocketAddr) -> Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.bind(&at.into())?;
        socket.listen(1_024)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    };
    open().with_context(|| format!("cannot listen on {at}"))
}

/// Accepts connections for ever and answers each request with `answer`, on the current runtime.
pub(crate) async fn serve<F, A>(listener: TcpListener, protocol: Protocol, tuning: Tuning, answer: F) -> Result<()>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Result<Response<Answer>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        stream.set_nodelay(true)?;
        let service = service_fn(answer.clone());
        // A connection that breaks off concerns its peer, which reports it; the server goes on.
        match protocol {
            Protocol::Grpc => {
                let connection = server2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(tuning.window)
                    .initial_connection_window_size(tuning.window)
                    .max_frame_size(tuning.frame_size)
                    .max_send_buf_size(tuning.window as usize)
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.is_ok() });
            }
            Protocol::Http => {
                let connection = server1::Builder::new()
                    .max_buf_size(tuning.http1_buffer as usize)
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.is_ok() });
            }
        }
    }
}

/// Reads a body into contiguous bytes, without a copy if it came in one piece.
pub(crate) async fn collect(mut body: Incoming) -> Result<Whole> {
    let announced = body.size_hint().exact().unwrap_or(0);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.context("the body broke off")?.into_data() {
            Ok(data) if first.is_empty() => first = data,
            Ok(data) => {
                if rest.is_empty() {
                    rest.reserve(usize::try_from(announced)?.max(grpc_length(&first)).max(first.len() + data.len()));
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Whole { bytes: if rest.is_empty() { first } else { rest.freeze() }, trailers })
}

/// Length of a gRPC message with its framing, from the framing: gRPC clients rarely announce a
/// content length. 64 MiB is the most it may ask for; 0 if the piece is too short to say.
fn grpc_length(first: &[u8]) -> usize {
    match first {
        [0 | 1, a, b, c, d, ..] => (u32::from_be_bytes([*a, *b, *c, *d]) as usize + 5).min(64 << 20),
        _ => 0,
    }
}

/// A persistent client connection. One request at a time on HTTP/1, any number on HTTP/2.
#[derive(Debug)]
pub(crate) enum Connection {
    Grpc(client2::SendRequest<Pieces>),
    Http(client1::SendRequest<Pieces>),
}

impl Connection {
    pub(crate) async fn open(protocol: Protocol, to: SocketAddr, tuning: Tuning) -> Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::Grpc => {
                let (sender, connection) = client2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(tuning.window)
                    .initial_connection_window_size(tuning.window)
                    .max_frame_size(tuning.frame_size)
                    .max_send_buf_size(tuning.window as usize)
                    .handshake(io)
                    .await?;
                tokio::spawn(async move { connection.await.is_ok() });
                Self::Grpc(sender)
            }
            Protocol::Http => {
                let (sender, connection) =
                    client1::Builder::new().max_buf_size(tuning.http1_buffer as usize).handshake(io).await?;
                tokio::spawn(async move { connection.await.is_ok() });
                Self::Http(sender)
            }
        })
    }

    /// Another handle on the same connection, where the protocol allows it.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Grpc(sender) => Some(Self::Grpc(sender.clone())),
            Self::Http(_) => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Grpc(sender) => sender.is_closed(),
            Self::Http(sender) => sender.is_closed(),
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Pieces>) -> Result<Response<Incoming>> {
        Ok(match self {
            Self::Grpc(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

/// An export request as an SDK would send it; `body` is framed already for gRPC, and `frame_size`
/// is the largest HTTP/2 frame the sender makes.
pub(crate) fn export_request(
    protocol: Protocol,
    to: SocketAddr,
    body: Bytes,
    gzip: bool,
    frame_size: u32,
) -> Result<Request<Pieces>> {
    let (request, body) = match protocol {
        Protocol::Grpc => {
            let request = Request::post(format!("http://{to}{GRPC_PATH}"))
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers");
            let request = if gzip { request.header("grpc-encoding", "gzip") } else { request };
            (request, Pieces::of(body, frame_size as usize))
        }
        Protocol::Http => {
            let request = Request::post(HTTP_PATH)
                .header(header::HOST, to.to_string())
                .header(header::CONTENT_TYPE, "application/x-protobuf");
            let request = if gzip { request.header(header::CONTENT_ENCODING, "gzip") } else { request };
            (request, Pieces::whole(body))
        }
    };
    Ok(request.body(body)?)
}

/// Reads the answer to an export to its end; an error says which status it carried.
pub(crate) async fn check_answer(protocol: Protocol, response: Response<Incoming>) -> Result<()> {
    let status = response.status();
    let headers_only = response.headers().get("grpc-status").cloned();
    let whole = collect(response.into_body()).await?;
    if !status.is_success() {
        bail!("answered with HTTP status {}", status.as_u16());
    }
    if protocol == Protocol::Grpc {
        let in_trailers = whole.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        match in_trailers.or(headers_only.as_ref()).map(HeaderValue::as_bytes) {
            Some(b"0") => {}
            Some(other) => bail!("answered with gRPC status {}", String::from_utf8_lossy(other)),
            None => bail!("answered without a gRPC status"),
        }
    }
    Ok(())
}
