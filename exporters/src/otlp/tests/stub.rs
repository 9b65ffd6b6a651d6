//! A server that answers by a script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    trailers: Option<Vec<(&'static str, String)>>,
    is_endless: bool,
    never: bool,
}

impl Answer {
    /// An HTTP response.
    pub(super) fn http(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Self {
        Self { status, headers: owned(headers), body: body.to_vec(), ..Self::default() }
    }

    /// A gRPC response with this message and these trailers.
    pub(super) fn grpc(message: &[u8], trailers: &[(&'static str, &str)]) -> Self {
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        Self { trailers: Some(owned(trailers)), ..Self::http(200, &[("content-type", "application/grpc")], &body) }
    }

    /// The same, with its message said to be compressed.
    pub(super) fn gzip(mut self) -> Self {
        self.headers.push(("grpc-encoding", "gzip".to_owned()));
        if let Some(flag) = self.body.first_mut() {
            *flag = 1;
        }
        self
    }

    /// A gRPC call that fails without a message: its status is in the headers.
    pub(super) fn grpc_error(headers: &[(&'static str, &str)]) -> Self {
        let mut all = vec![("content-type", "application/grpc")];
        all.extend_from_slice(headers);
        Self::http(200, &all, b"")
    }

    /// No response.
    pub(super) fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    /// A response that goes on after `body`, for ever.
    pub(super) fn endless(status: u16) -> Self {
        Self { is_endless: true, ..Self::http(status, &[("content-type", "application/x-protobuf")], b"") }
    }
}

fn owned(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) version: Version,
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The message of a gRPC request, and whether it is compressed.
    pub(super) fn message(&self) -> (bool, Bytes) {
        let length = u32::from_be_bytes(self.body[1..5].try_into().unwrap()) as usize;
        assert_eq!(self.body.len(), 5 + length);
        (self.body[0] == 1, self.body.slice(5..))
    }
}

#[derive(Default)]
struct State {
    answers: Mutex<VecDeque<Answer>>,
    arrived: Mutex<Vec<Arrived>>,
    connections: Mutex<usize>,
    closed: watch::Sender<usize>,
    count: watch::Sender<usize>,
}

/// The server; stops when dropped.
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    is_grpc: bool,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    pub(super) async fn grpc(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start(true, "127.0.0.1:0".parse().unwrap(), None, answers).await
    }

    pub(super) async fn http(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start(false, "127.0.0.1:0".parse().unwrap(), None, answers).await
    }

    pub(super) async fn start(
        is_grpc: bool,
        at: SocketAddr,
        tls: Option<TlsAcceptor>,
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { answers: Mutex::new(answers.into_iter().collect()), ..State::default() });
        let task = tokio::spawn(serve(listener, tls, Arc::clone(&state), is_grpc));
        Self { address, is_grpc, state, task }
    }

    /// Another server at the same address, after the first one has let go of it.
    pub(super) async fn restart(self) -> Self {
        let (address, is_grpc) = (self.address, self.is_grpc);
        self.task.abort();
        drop(self);
        tokio::task::yield_now().await;
        Self::start(is_grpc, address, None, []).await
    }

    pub(super) fn arrived(&self) -> Vec<Arrived> {
        self.state.arrived.lock().unwrap().clone()
    }

    /// The only request.
    pub(super) fn only(&self) -> Arrived {
        let mut arrived = self.arrived();
        assert_eq!(arrived.len(), 1);
        arrived.remove(0)
    }

    pub(super) fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    /// Resolves when so many connections have ended.
    pub(super) async fn until_closed(&self, connections: usize) {
        self.state.closed.subscribe().wait_for(|n| *n >= connections).await.unwrap();
    }

    /// Resolves when so many requests have arrived.
    pub(super) async fn until(&self, requests: usize) {
        self.state.count.subscribe().wait_for(|n| *n >= requests).await.unwrap();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>, is_grpc: bool) {
    // Connections end with the server.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        *state.connections.lock().unwrap() += 1;
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            let shared = Arc::clone(&state);
            match tls {
                None => connection(stream, state, is_grpc).await,
                // A handshake that fails is the client's to report.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, state, is_grpc).await;
                    }
                }
            }
            shared.closed.send_modify(|n| *n += 1);
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>, is_grpc: bool) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state), is_grpc));
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>, is_grpc: bool) -> Result<Response<Reply>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let authority = head.uri.authority().map(ToString::to_string);
    let host = head.headers.get("host").map(|h| h.to_str().unwrap().to_owned());
    state.arrived.lock().unwrap().push(Arrived {
        version: head.version,
        method: head.method.to_string(),
        authority: authority.or(host).unwrap_or_default(),
        path: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers,
        body,
    });
    state.count.send_modify(|n| *n += 1);
    let scripted = state.answers.lock().unwrap().pop_front();
    let answer = scripted.unwrap_or_else(|| {
        if is_grpc {
            Answer::grpc(b"", &[("grpc-status", "0")])
        } else {
            Answer::http(200, &[("content-type", "application/x-protobuf")], b"")
        }
    });
    if answer.never {
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(Reply {
        data: (!answer.body.is_empty()).then(|| answer.body.clone().into()),
        trailers: answer.trailers.as_deref().map(headers),
        is_endless: answer.is_endless,
    });
    *response.status_mut() = answer.status.try_into().unwrap();
    *response.headers_mut() = headers(&answer.headers);
    Ok(response)
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
}

struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    is_endless: bool,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let endless = self.is_endless.then(|| Bytes::from_static(&[0; 4_096]));
        let frame = match self.data.take().or(endless) {
            Some(data) => Some(Frame::data(data)),
            None => self.trailers.take().map(Frame::trailers),
        };
        std::task::Poll::Ready(frame.map(Ok))
    }
}
