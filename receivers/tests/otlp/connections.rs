//! How long connections last, how slow clients may be, and sockets that are files.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use weir_pipeline::receipt::Outcome;

use crate::support::*;

fn keepalive(parameters: &str) -> Options {
    Options { grpc: format!("keepalive: {{server_parameters: {{{parameters}}}}},"), ..Options::default() }
}

fn http(keys: &str) -> Options {
    Options { http: format!("{keys},"), ..Options::default() }
}

fn export(spans: usize) -> Request<Full<Bytes>> {
    call(EXPORT_TRACES).body(Full::new(framed(0, &traces(spans)).into())).unwrap()
}

// === gRPC ===

#[tokio::test]
async fn an_idle_connection_is_ended_but_not_one_that_waits_for_its_answer() {
    let mut server = Server::start(keepalive("max_connection_idle: 300ms")).await;
    server.settle_with(None);
    let (mut busy, busy_ended) = grpc_handshake(TcpStream::connect(server.grpc).await.unwrap()).await;
    let pending = tokio::spawn(async move { Reply::read(busy.send_request(export(1)).await.unwrap()).await });
    let taken = server.taken().await;
    let (idle, ended) = grpc_handshake(TcpStream::connect(server.grpc).await.unwrap()).await;
    timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
    assert!(idle.is_closed() && !pending.is_finished());
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!(pending.await.unwrap().grpc_status().0, 0);
    // From then on it is idle, too.
    timeout(Duration::from_secs(30), busy_ended).await.unwrap().unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_ended_after_its_requests() {
    let mut server = Server::start(keepalive("max_connection_age: 300ms")).await;
    server.settle_with(None);
    let (mut sender, ended) = grpc_handshake(TcpStream::connect(server.grpc).await.unwrap()).await;
    let request = sender.send_request(export(1));
    let pending = tokio::spawn(async move { Reply::read(request.await.unwrap()).await });
    let taken = server.taken().await;
    // The client is told to go, and what it has begun is still answered.
    let told_to_go = async {
        let unknown = || call("/nothing").body(Full::new(Bytes::new())).unwrap();
        while sender.send_request(unknown()).await.is_ok() {}
    };
    timeout(Duration::from_secs(30), told_to_go).await.unwrap();
    assert!(!pending.is_finished());
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!(pending.await.unwrap().grpc_status().0, 0);
    timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn after_the_grace_requests_are_cut_off() {
    let mut server = Server::start(keepalive("max_connection_age: 300ms, max_connection_age_grace: 20ms")).await;
    server.settle_with(None);
    let (mut sender, _) = grpc_handshake(TcpStream::connect(server.grpc).await.unwrap()).await;
    let cut_off = timeout(Duration::from_secs(30), sender.send_request(export(1))).await.unwrap();
    assert!(cut_off.is_err());
    drop(server.taken().await);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_gone() {
    let server = Server::start(keepalive("time: 20ms, timeout: 20ms")).await;
    let mut stream = TcpStream::connect(server.grpc).await.unwrap();
    // The connection preface and empty settings.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut rest = Vec::new();
    // It may be reset, since the acknowledgement of the server's settings never came either.
    let closed = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
    let ping = b"\0\0\x08\x06\0\0\0\0\0";
    assert!(rest.windows(ping.len()).any(|frame| frame == ping));
    server.stop().await;
}

#[tokio::test]
async fn streams_are_limited_to_what_is_configured() {
    let mut server =
        Server::start(Options { grpc: "max_concurrent_streams: 1,".to_owned(), ..Options::default() }).await;
    server.settle_with(None);
    let mut sender = grpc_connect(server.grpc).await;
    // A stream that has ended tells that the client has seen the server's settings.
    let unknown = call("/nothing").body(Full::new(Bytes::new())).unwrap();
    Reply::read(sender.send_request(unknown).await.unwrap()).await;
    let first = tokio::spawn(sender.send_request(export(1)));
    let second = tokio::spawn(sender.send_request(export(2)));
    let taken = server.taken().await;
    assert_eq!(taken.bytes, traces(1));
    // The other port's requests arrive although the second of this one does not.
    let http = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, traces(3)));
    let third = server.taken().await;
    assert_eq!(third.bytes, traces(3));
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!(Reply::read(first.await.unwrap().unwrap()).await.grpc_status().0, 0);
    let taken = server.taken().await;
    assert_eq!(taken.bytes, traces(2));
    for taken in [taken, third] {
        taken.batch.unwrap().settle(&Outcome::Done);
    }
    assert_eq!(Reply::read(second.await.unwrap().unwrap()).await.grpc_status().0, 0);
    assert_eq!(http.await.unwrap().status, StatusCode::OK);
    server.stop().await;
}

// === HTTP ===

const HALF_A_HEAD: &[u8] = b"POST /v1/traces HTTP/1.1\r\nhost:";
const UNKNOWN: &[u8] = b"GET /nowhere HTTP/1.1\r\nhost: weir.test\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = Server::start(http("read_header_timeout: 300ms, idle_timeout: 1h")).await;
    for opening in [&b""[..], HALF_A_HEAD] {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(opening).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    }
    // The next request of a connection has as long.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(UNKNOWN).await.unwrap();
    stream.readable().await.unwrap();
    stream.write_all(HALF_A_HEAD).await.unwrap();
    assert_eq!(rest(&mut stream).await.matches("HTTP/1.1 404 Not Found").count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_ends_whatever_time_a_head_has() {
    let server = Server::start(http("read_header_timeout: 1h, idle_timeout: 300ms")).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(UNKNOWN).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 404 Not Found"));
    // The same over HTTP/2.
    let (mut sender, ended) = grpc_handshake(TcpStream::connect(server.http).await.unwrap()).await;
    let request = Request::get("http://weir.test/nowhere").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::NOT_FOUND);
    timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_refused() {
    let mut server = Server::start(http("read_timeout: 300ms")).await;
    // Never silent for long, and never done.
    let drop_by_drop = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\x0a"))), ()))
    });
    let request = post(TRACES, PROTOBUF).body(StreamBody::new(Box::pin(drop_by_drop))).unwrap();
    let reply = timeout(Duration::from_secs(30), send(server.http, request)).await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(reply.rpc_status().message, "the request body did not arrive within 0 s");
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let mut server = Server::start(http("write_timeout: 40ms")).await;
    server.settle_with(None);
    let reply = send_bytes(server.http, TRACES, PROTOBUF, traces(1)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    drop(server.taken().await);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_cut_off() {
    // Answers so long that they fill every buffer on the way.
    let value = "x".repeat(60_000);
    let server = Server::start(http(&format!("write_timeout: 40ms, response_headers: {{x-long: {value}}}"))).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let cut_off = async {
        while stream.write_all(UNKNOWN).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), cut_off).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn without_keep_alives_a_connection_carries_one_request() {
    let mut server = Server::start(http("keep_alives_enabled: false")).await;
    let io = TokioIo::new(TcpStream::connect(server.http).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = post(TRACES, PROTOBUF).body(Full::<Bytes>::new(traces(1).into())).unwrap();
    let reply = Reply::read(sender.send_request(request).await.unwrap()).await;
    assert_eq!((reply.status, reply.header("connection")), (StatusCode::OK, "close"));
    server.taken().await;
    timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();

    let (mut sender, ended) = grpc_handshake(TcpStream::connect(server.http).await.unwrap()).await;
    let request = Request::post("http://weir.test/v1/traces").header("content-type", PROTOBUF);
    let response = sender.send_request(request.body(Full::new(traces(1).into())).unwrap()).await.unwrap();
    assert_eq!(Reply::read(response).await.status, StatusCode::OK);
    server.taken().await;
    timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
    server.stop().await;
}

// === Sockets that are files ===

#[tokio::test]
async fn both_protocols_over_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let keys = |name: &str| format!("transport: unix, endpoint: '{}'", path(name).display());
    let options = Options { grpc: keys("grpc"), http: keys("http"), ..Options::default() };
    let mut server = Server::start(options).await;
    for spans in 1..5 {
        let request = post(TRACES, PROTOBUF).body(Full::<Bytes>::new(traces(spans).into())).unwrap();
        let reply = exchange(UnixStream::connect(path("http")).await.unwrap(), request).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(server.taken().await.bytes, traces(spans));
        let (mut sender, _) = grpc_handshake(UnixStream::connect(path("grpc")).await.unwrap()).await;
        let response = sender.send_request(export(spans)).await.unwrap();
        assert_eq!(Reply::read(response).await.grpc_status().0, 0);
        assert_eq!(server.taken().await.bytes, traces(spans));
    }
    server.stop().await;
    assert!(!path("grpc").exists() && !path("http").exists());
}
