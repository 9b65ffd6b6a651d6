//! Who is let in, what is kept of their headers, and whose memory a request takes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::sync::Semaphore;
use weir_pipeline::budget::Budget;
use weir_pipeline::extension::{Authenticator, Decision, Denied, Extension, Extensions};
use weir_pipeline::metadata::Identity;
use weir_pipeline::otlp::status::{Code, Status};
use weir_pipeline::receipt::Outcome;

use crate::support::*;

/// Knows who says `Bearer alice`, or sends `alice` as the header `token`; it takes a permit to know `slow`.
struct Names;

static SLOW: Semaphore = Semaphore::const_new(0);

impl Extension for Names {
    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        Some(self)
    }
}

impl Authenticator for Names {
    fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match header("token").or(bearer) {
            Some("slow") => Ok(Decision::Later(Box::pin(async {
                SLOW.acquire().await.map(tokio::sync::SemaphorePermit::forget).unwrap();
                Ok(Arc::default())
            }))),
            Some("busy") => Err(Denied::Undecided("come again")),
            Some("alice") => Ok(Decision::Made(Arc::new(Identity::new(vec![("username", "alice".into())])))),
            Some(_) => Err(Denied::Unknown("unknown name")),
            None => Err(Denied::Unknown("no name given")),
        }
    }
}

/// Limits memory.
struct Limiter(Arc<Budget>);

impl Extension for Limiter {
    fn budget(&self) -> Option<Arc<Budget>> {
        Some(Arc::clone(&self.0))
    }
}

fn extensions(budget: &Arc<Budget>) -> Extensions {
    let limiter = Arc::new(Limiter(Arc::clone(budget)));
    Extensions::new(vec![
        ("names".parse().unwrap(), Arc::new(Names) as Arc<dyn Extension>),
        ("memory_limiter".parse().unwrap(), limiter),
    ])
}

fn options(grpc: &str, http: &str) -> Options {
    Options {
        grpc: grpc.to_owned(),
        http: http.to_owned(),
        extensions: extensions(&Budget::new(0)),
        ..Options::default()
    }
}

/// A body that never comes.
fn endless() -> StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>> {
    StreamBody::new(stream::pending())
}

fn retry_delay(reply: &Reply) -> Option<Duration> {
    let details = STANDARD_NO_PAD.decode(reply.header("grpc-status-details-bin")).unwrap();
    Status::decode(&details).unwrap().retry_delay
}

#[tokio::test]
async fn who_is_not_known_is_refused_before_the_body_is_read() {
    let auth = "auth: {authenticator: names},";
    let mut server = Server::start(options(auth, auth)).await;
    for (authorization, text) in [(None, "no name given"), (Some("Bearer mallory"), "unknown name")] {
        let with = |request: http::request::Builder| match authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        for path in [TRACES, "/v1/nowhere"] {
            let reply = send(server.http, with(post(path, PROTOBUF)).body(endless()).unwrap()).await;
            assert_eq!((reply.status, reply.header("content-type")), (StatusCode::UNAUTHORIZED, PROTOBUF));
            assert_eq!(reply.header("retry-after"), "");
            let status = reply.rpc_status();
            assert_eq!((status.code, status.message.as_str()), (Code::Unauthenticated, text));
        }
        let reply = send(server.http, with(post(TRACES, JSON)).body(endless()).unwrap()).await;
        let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            (reply.status, &status["code"], &status["message"]),
            (StatusCode::UNAUTHORIZED, &16.into(), &text.into())
        );
        let reply = send(server.http, with(post(TRACES, "text/plain")).body(endless()).unwrap()).await;
        assert_eq!((reply.status, &reply.body[..]), (StatusCode::UNAUTHORIZED, text.as_bytes()));

        let stream = tokio::net::TcpStream::connect(server.grpc).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(with(call(EXPORT_TRACES)).body(endless()).unwrap()).await.unwrap();
        assert_eq!(Reply::read(response).await.grpc_status(), (16, text.to_owned()));
    }
    let head = format!("POST {TRACES} HTTP/1.1\r\ncontent-type: {PROTOBUF}\r\n");
    assert_says_whether_it_closes(server.http, &head, "401").await;
    assert!(server.is_quiet());
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn who_cannot_be_told_now_is_asked_to_come_again() {
    let auth = "auth: {authenticator: names},";
    let mut server = Server::start(options(auth, auth)).await;
    for content_type in [PROTOBUF, JSON, "text/plain"] {
        let request = post(TRACES, content_type).header("token", "busy").body(endless()).unwrap();
        let reply = send(server.http, request).await;
        assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    }
    let reply = send_grpc(server.grpc, call(EXPORT_TRACES).header("token", "busy"), framed(0, &traces(1))).await;
    assert_eq!(
        (reply.grpc_status(), retry_delay(&reply)),
        ((14, "come again".to_owned()), Some(Duration::from_secs(1)))
    );
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn who_is_found_out_elsewhere_keeps_nobody_waiting() {
    let auth = "auth: {authenticator: names},";
    let mut server = Server::start(options(auth, auth)).await;
    let mut sender = grpc_connect(server.grpc).await;
    // Over one connection: what comes second is looked at second.
    let mut call = |token: &str| {
        let request = call(EXPORT_TRACES).header("token", token).body(Full::<Bytes>::new(framed(0, &traces(1)).into()));
        tokio::spawn(sender.send_request(request.unwrap()))
    };
    let (slow, quick) = (call("slow"), call("alice"));
    assert_eq!(server.taken().await.metadata.unwrap().lookup("auth.username"), Some("alice"));
    assert_eq!(Reply::read(quick.await.unwrap().unwrap()).await.grpc_status().0, 0);
    assert!(!slow.is_finished() && server.is_quiet());
    SLOW.add_permits(1);
    assert_eq!(server.taken().await.metadata.unwrap().lookup("auth.username"), None);
    assert_eq!(Reply::read(slow.await.unwrap().unwrap()).await.grpc_status().0, 0);
    server.stop().await;
}

#[tokio::test]
async fn who_is_known_is_named_in_the_metadata() {
    let auth = "auth: {authenticator: names},";
    let mut server = Server::start(options(auth, auth)).await;
    let request = post(TRACES, PROTOBUF).header("authorization", "Bearer alice").header("x-tenant", "acme");
    let reply = send(server.http, request.body(Full::<Bytes>::new(traces(1).into())).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK);
    let over_http = server.taken().await.metadata.unwrap();
    let request = call(EXPORT_TRACES).header("authorization", "Bearer alice").header("x-tenant", "acme");
    assert_eq!(send_grpc(server.grpc, request, framed(0, &traces(1))).await.grpc_status().0, 0);
    let over_grpc = server.taken().await.metadata.unwrap();
    for metadata in [over_http, over_grpc] {
        assert_eq!((metadata.lookup("auth.username"), metadata.first("x-tenant")), (Some("alice"), None));
        assert_eq!(metadata.first("authorization"), None, "headers are kept only where it is asked for");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_query_parameter_wins_over_the_header() {
    let auth = "auth: {authenticator: names, request_params: [token]},";
    let mut server = Server::start(options("", auth)).await;
    for (path, token, status) in [
        ("/v1/traces?token=alice", "mallory", StatusCode::OK),
        ("/v1/traces?token=mallory", "alice", StatusCode::UNAUTHORIZED),
        ("/v1/traces?other=mallory", "alice", StatusCode::OK),
    ] {
        let request = post(path, PROTOBUF).header("token", token);
        let reply = send(server.http, request.body(Full::<Bytes>::new(traces(1).into())).unwrap()).await;
        assert_eq!(reply.status, status, "{path}");
        if status == StatusCode::OK {
            server.taken().await;
        }
    }
    // The other port asks nobody.
    assert_eq!(send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &traces(1))).await.grpc_status().0, 0);
    assert!(server.taken().await.metadata.is_none());
    server.stop().await;
}

#[tokio::test]
async fn headers_go_with_the_data_where_it_is_asked_for() {
    let include = "include_metadata: true,";
    let mut server = Server::start(options(include, include)).await;
    let body = gzip(br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}]}"#);
    let request = post(TRACES, JSON).header("content-encoding", "gzip").header("X-Tenant", "acme");
    let request = request.header("x-tenant", "other").body(Full::<Bytes>::new(body.into())).unwrap();
    assert_eq!(send(server.http, request).await.status, StatusCode::OK);
    let metadata = server.taken().await.metadata.unwrap();
    assert_eq!(metadata.values("x-tenant").collect::<Vec<_>>(), ["acme", "other"]);
    assert_eq!((metadata.first("host"), metadata.first("content-encoding")), (Some("weir.test"), Some("gzip")));
    assert!(metadata.identity().is_none());

    let request = call(EXPORT_TRACES).header("X-Tenant", "acme");
    assert_eq!(send_grpc(server.grpc, request, framed(0, &traces(1))).await.grpc_status().0, 0);
    let metadata = server.taken().await.metadata.unwrap();
    assert_eq!((metadata.first("x-tenant"), metadata.first("host")), (Some("acme"), Some("weir.test")));
    server.stop().await;

    let mut server = Server::start(Options::default()).await;
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, traces(1)).await.status, StatusCode::OK);
    assert!(server.taken().await.metadata.is_none());
    server.stop().await;
}

#[tokio::test]
async fn kept_headers_take_memory_while_the_body_is_waited_for() {
    let server = Server::start(Options { budget: 2_000, ..options("", "include_metadata: true,") }).await;
    let request = |bytes: usize| post(TRACES, PROTOBUF).header("x-long", "x".repeat(bytes)).body(endless()).unwrap();
    let waiting = tokio::spawn(send(server.http, request(1_500)));
    let taken = async {
        while server.budget.used() < 1_500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("the head is there");
    assert_eq!(send(server.http, request(600)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    waiting.abort();
    server.stop().await;
}

#[tokio::test]
async fn kept_headers_take_memory_too() {
    let mut server = Server::start(Options { budget: 2_000, ..options("", "include_metadata: true,") }).await;
    server.settle_with(None);
    let others = server.budget.take(0, 1).unwrap();
    let post = |bytes: usize| {
        let request = post(TRACES, PROTOBUF).header("x-long", "x".repeat(bytes));
        send(server.http, request.body(Full::<Bytes>::new(traces(1).into())).unwrap())
    };
    assert_eq!(post(3_000).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.budget.used(), 1);
    drop(others);
    let pending = tokio::spawn(post(1_000));
    let taken = server.taken().await;
    assert!(server.budget.used() > 1_000);
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!((pending.await.unwrap().status, server.budget.used()), (StatusCode::OK, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_middleware_that_limits_memory_is_asked_before_the_body_is_read() {
    let large = traces(2_000);
    let limit = Budget::new(large.len() * 2 / 3);
    let others = limit.take(0, 1).unwrap();
    let keys = "middlewares: [{id: memory_limiter}],".to_owned();
    let options = Options { grpc: keys.clone(), http: keys, extensions: extensions(&limit), ..Options::default() };
    let mut server = Server::start(options).await;
    let message = "data refused due to high memory usage";
    // An announced length is enough.
    let announced = post(TRACES, PROTOBUF).header("content-length", large.len()).body(endless()).unwrap();
    let compressed = post(TRACES, PROTOBUF).header("content-encoding", "gzip");
    let compressed = compressed.body(Full::<Bytes>::new(gzip(&large).into())).unwrap();
    for reply in [send(server.http, announced).await, send(server.http, compressed).await] {
        assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        assert_eq!((reply.rpc_status().code, reply.rpc_status().message.as_str()), (Code::Unavailable, message));
    }
    let request = call(EXPORT_TRACES).header("grpc-encoding", "gzip");
    let compressed = send_grpc(server.grpc, request, framed(1, &gzip(&large))).await;
    for reply in [send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &large)).await, compressed] {
        assert_eq!(reply.grpc_status(), (14, message.to_owned()));
        assert_eq!(retry_delay(&reply), Some(Duration::from_secs(1)));
    }
    assert!(server.is_quiet());
    drop(others);
    // What fits is held until the batch is gone, there as in the pipeline's own limiter.
    server.settle_with(None);
    let body = traces(100);
    let pending = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, body.clone()));
    let taken = server.taken().await;
    assert_eq!((limit.used(), server.budget.used()), (body.len(), body.len()));
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!((pending.await.unwrap().status, limit.used()), (StatusCode::OK, 0));
    server.stop().await;
}
