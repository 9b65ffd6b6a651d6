//! What is wrong is refused with the right status and a useful text, and harms nobody else.

use std::convert::Infallible;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::otlp::status::Code;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;

use crate::support::*;

const TOO_LARGE: &str = "the request is larger than the 67108864 bytes allowed";

fn invalid_utf8() -> Vec<u8> {
    let mut bytes = traces(1);
    let at = bytes.windows(6).position(|w| w == b"000000").unwrap();
    bytes[at] = 0xff;
    bytes
}

/// Three members, each within the limit, together past it: 66 MiB.
fn gzip_bomb() -> Vec<u8> {
    gzip(&vec![0; 22 << 20]).repeat(3)
}

/// A frame that does not tell its size: 256 MiB from 8 KiB.
fn zstd_bomb() -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(256 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// Malformed payloads and what is said about them.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    vec![
        (
            "cut short",
            traces(1)[..20].to_vec(),
            "malformed ExportTraceServiceRequest at byte 0, resource_spans[0]: a length of 337 bytes is declared but 17 are left",
            "resource_spans[0]",
        ),
        (
            "not protobuf at all",
            b"{\"resourceSpans\":[]}".to_vec(),
            "malformed ExportTraceServiceRequest at byte 0: a length of 114 bytes is declared but 17 are left",
            "",
        ),
        (
            "200 nested values",
            nested(200),
            "malformed ExportTraceServiceRequest at byte ",
            "resource_spans[0].scope_spans[0].spans[0].attributes[0].value.array_value",
        ),
        (
            "invalid UTF-8",
            invalid_utf8(),
            "malformed ExportTraceServiceRequest at byte 37, resource_spans[0].scope_spans[0].spans[0].name: \
             the string is not valid UTF-8",
            "resource_spans[0].scope_spans[0].spans[0].name",
        ),
    ]
}

#[tokio::test]
async fn malformed_protobuf() {
    let mut server = Server::start(Options::default()).await;
    for (what, body, text, field) in malformed() {
        let reply = send_bytes(server.http, TRACES, PROTOBUF, body.clone()).await;
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::BAD_REQUEST, PROTOBUF), "{what}");
        assert_eq!(reply.header("retry-after"), "");
        let status = reply.rpc_status();
        assert_eq!(status.code, Code::InvalidArgument, "{what}");
        assert!(status.message.starts_with(text), "{what}: {}", status.message);
        let violation = status.field_violation.unwrap();
        assert!(violation.starts_with(field) && violation.is_empty() == field.is_empty(), "{what}: {violation}");

        let reply = send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &body)).await;
        assert_eq!((reply.status, reply.grpc_status().0), (StatusCode::OK, 3), "{what}");
        assert!(reply.grpc_status().1.starts_with(text), "{what}: {}", reply.grpc_status().1);
    }
    still_works(&mut server).await;
    assert_eq!(server.failed_requests(), 2 * malformed().len() as u64);
    server.stop().await;
}

#[tokio::test]
async fn malformed_json() {
    let mut server = Server::start(Options::default()).await;
    for (body, text, field) in [
        (&b"{"[..], "ExportTraceServiceRequest: not valid JSON: ", "ExportTraceServiceRequest"),
        (b"", "ExportTraceServiceRequest: not valid JSON: ", "ExportTraceServiceRequest"),
        (
            br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":7}]}]}]}"#,
            "resourceSpans[0].scopeSpans[0].spans[0].name: expected a string, found a number",
            "resourceSpans[0].scopeSpans[0].spans[0].name",
        ),
        (b"\xff", "ExportTraceServiceRequest: the body is not valid UTF-8", "ExportTraceServiceRequest"),
    ] {
        let reply = send_bytes(server.http, TRACES, JSON, body).await;
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::BAD_REQUEST, JSON));
        let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(status["code"], 3);
        assert!(status["message"].as_str().unwrap().starts_with(text), "{status}");
        assert_eq!(status["details"][0]["fieldViolations"][0]["field"], field);
    }
    still_works(&mut server).await;
    server.stop().await;
}

#[tokio::test]
async fn broken_and_exploding_compression() {
    let mut server = Server::start(Options::default()).await;
    let whole = gzip(&traces(100));
    let broken = "broken gzip data: ";
    for (encoding, body, status, code, text) in [
        ("gzip", whole[..whole.len() - 3].to_vec(), 400, Code::InvalidArgument, broken),
        ("gzip", whole[..20].to_vec(), 400, Code::InvalidArgument, broken),
        ("gzip", traces(1), 400, Code::InvalidArgument, broken),
        ("zstd", whole.clone(), 400, Code::InvalidArgument, "broken zstd data: "),
        ("deflate", whole.clone(), 400, Code::InvalidArgument, "broken deflate data: corrupt or cut short"),
        ("gzip", gzip_bomb(), 413, Code::ResourceExhausted, TOO_LARGE),
        ("zstd", zstd(&vec![0; 65 << 20]), 413, Code::ResourceExhausted, TOO_LARGE),
        ("zstd", zstd_bomb(), 413, Code::ResourceExhausted, TOO_LARGE),
        ("deflate", zlib(&vec![0; 65 << 20]), 413, Code::ResourceExhausted, TOO_LARGE),
    ] {
        let request =
            post(TRACES, PROTOBUF).header("content-encoding", encoding).body(Full::new(body.clone().into())).unwrap();
        let reply = send(server.http, request).await;
        assert_eq!((reply.status.as_u16(), reply.rpc_status().code), (status, code), "{encoding}");
        assert!(reply.rpc_status().message.starts_with(text), "{}", reply.rpc_status().message);
        assert_eq!(reply.rpc_status().retry_delay, None);

        let request = call(EXPORT_TRACES).header("grpc-encoding", encoding);
        let (number, message) = send_grpc(server.grpc, request, framed(1, &body)).await.grpc_status();
        assert_eq!(number, code.number(), "{encoding}");
        assert!(message.starts_with(text), "{message}");
        assert_eq!(server.budget.used(), 0);
    }
    still_works(&mut server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_bomb_takes_no_more_memory_than_the_limit() {
    // With room for the body and the limit, the answer is the limit; with less, the memory limiter's refusal comes
    // first: so the output was covered before it was made, and never by more than the limit.
    let limit = 1 << 20;
    for (encoding, bomb) in [("gzip", gzip(&vec![0; 16 << 20])), ("zstd", zstd_bomb())] {
        for (room, status) in [(limit + bomb.len() + 1, 413), (limit + bomb.len(), 503)] {
            let mut server = Server::start(Options { max_bytes: limit, budget: room, ..Options::default() }).await;
            // Alone it would have twice the room.
            let others = server.budget.take(0, 1).unwrap();
            let request = post(TRACES, PROTOBUF).header("content-encoding", encoding);
            let reply = send(server.http, request.body(Full::new(bomb.clone().into())).unwrap()).await;
            assert_eq!(reply.status, status, "{encoding}, room for {room}");
            assert_eq!(server.budget.used(), 1);
            drop(others);
            still_works(&mut server).await;
            server.stop().await;
        }
    }
}

/// A request of so many spans, of two bytes each.
fn empty_spans(count: usize) -> Vec<u8> {
    let spans = [0x12, 0].repeat(count);
    let mut scope = Vec::new();
    put_bytes(&mut scope, 2, &spans);
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &scope);
    request
}

#[tokio::test]
async fn spans_that_are_less_than_what_is_noted_of_them_are_paid_for() {
    let mut server = Server::start(Options { budget: 8 << 20, ..Options::default() }).await;
    server.settle_with(None);
    // A megabyte, from a kilobyte, and a hundred times as much in memory.
    let many = empty_spans(500_000);
    let post = async |body: Vec<u8>| {
        let request = post(TRACES, PROTOBUF).header("content-encoding", "gzip");
        send(server.http, request.body(Full::new(gzip(&body).into())).unwrap()).await
    };
    let reply = post(many.clone()).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(reply.rpc_status().message.ends_with("raise `limit_mib`"), "{}", reply.rpc_status().message);
    let others = server.budget.take(0, 7 << 20).unwrap();
    assert_eq!(post(empty_spans(20_000)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.budget.used(), 7 << 20);
    drop(others);
    let pending = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, empty_spans(20_000)));
    let taken = server.taken().await;
    assert!(server.budget.used() > 1 << 20, "{}", server.budget.used());
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!((pending.await.unwrap().status, server.budget.used()), (StatusCode::OK, 0));
    server.stop().await;
}

#[tokio::test]
async fn there_are_not_more_spans_than_can_be() {
    let mut server = Server::start(Options::default()).await;
    for (number, field) in [(2, "resource_spans[0].scope_spans[0].spans["), (1, "resource_spans[0].scope_spans[")] {
        let mut body = Vec::new();
        put_bytes(&mut body, number, &[0x12, 0].repeat((1 << 20) + 1));
        let mut request = body;
        if number == 2 {
            let scope = std::mem::take(&mut request);
            put_bytes(&mut request, 1, &scope);
        }
        let reply = send_bytes(server.http, TRACES, PROTOBUF, request).await;
        let status = reply.rpc_status();
        assert_eq!((reply.status, status.code), (StatusCode::BAD_REQUEST, Code::InvalidArgument));
        let message = status.message;
        assert!(
            message.contains(field) && message.ends_with("more than 1048576 of it: send fewer at once"),
            "{message}"
        );
    }
    still_works(&mut server).await;
    server.stop().await;
}

/// What is announced is not kept from others before it is there.
#[tokio::test]
async fn a_few_bytes_that_announce_many_keep_nobody_out() {
    let server = Server::start(Options { budget: 1 << 20, ..Options::default() }).await;
    let prefix = [&[0][..], &900_000_u32.to_be_bytes(), b"begun"].concat();
    let unfinished = || {
        let begun = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(prefix.clone())))]);
        StreamBody::new(begun.chain(stream::pending()))
    };
    let io = TokioIo::new(TcpStream::connect(server.grpc).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(sender.send_request(call(EXPORT_TRACES).body(unfinished()).unwrap()))).collect();
    let announced = post(TRACES, PROTOBUF).header("content-length", 900_000).body(unfinished()).unwrap();
    let announced = tokio::spawn(send(server.http, announced));
    let taken = async {
        while server.budget.used() < 21 * 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("what has come is taken");
    assert!(server.budget.used() < 1 << 19, "{}", server.budget.used());
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, traces(100)).await.status, StatusCode::OK);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    announced.abort();
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn too_large() {
    let mut server = Server::start(Options::default()).await;
    let body = Bytes::from(vec![0x0a; 65 << 20]);
    let announced = send_bytes(server.http, TRACES, PROTOBUF, body.clone()).await;
    let pieces: Vec<_> = body.chunks(1 << 20).map(|c| Ok::<_, Infallible>(Frame::data(body.slice_ref(c)))).collect();
    let chunked = send(server.http, post(TRACES, PROTOBUF).body(StreamBody::new(stream::iter(pieces))).unwrap()).await;
    for reply in [announced, chunked] {
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::PAYLOAD_TOO_LARGE, PROTOBUF));
        let status = reply.rpc_status();
        assert_eq!((status.code, status.message.as_str()), (Code::ResourceExhausted, TOO_LARGE));
        assert_eq!(status.retry_delay, None);
    }
    let json = send_bytes(server.http, TRACES, JSON, body.clone()).await;
    assert_eq!((json.status, json.header("content-type")), (StatusCode::PAYLOAD_TOO_LARGE, JSON));
    let reply = send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &body)).await;
    assert_eq!(reply.grpc_status(), (Code::ResourceExhausted.number(), TOO_LARGE.to_owned()));
    assert_eq!(reply.header("grpc-status-details-bin"), "");
    // A lie about the length is enough.
    let reply = send_grpc(server.grpc, call(EXPORT_TRACES), [0, 0xff, 0xff, 0xff, 0xff].to_vec()).await;
    assert_eq!(reply.grpc_status(), (Code::ResourceExhausted.number(), TOO_LARGE.to_owned()));
    still_works(&mut server).await;
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_otlp() {
    let mut server = Server::start(Options::default()).await;
    let not_found = "404 page not found, OTLP is received at: /v1/traces, /v1/metrics, /v1/logs";
    let not_allowed = "405 method not allowed, supported: [POST]";
    let unsupported = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
    for (method, path, content_type, status, text) in [
        ("POST", "/", PROTOBUF, 404, not_found),
        ("POST", "/v1/traces/", PROTOBUF, 404, not_found),
        ("POST", "/v1/profiles", PROTOBUF, 404, not_found),
        ("GET", "/v1/traces", PROTOBUF, 405, not_allowed),
        ("PUT", "/v1/logs", JSON, 405, not_allowed),
        ("POST", "/v1/traces", "text/plain", 415, unsupported),
        ("POST", "/v1/traces", "application/grpc", 415, unsupported),
        ("POST", "/v1/traces", "", 415, unsupported),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "weir.test");
        let request = request.header("content-type", content_type).body(Full::<Bytes>::new(traces(1).into())).unwrap();
        let reply = send(server.http, request).await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (status, text.as_bytes()), "{method} {path}");
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(reply.header("allow"), if status == 405 { "POST" } else { "" });
    }
    assert!(server.is_quiet());
    still_works(&mut server).await;
    server.stop().await;
}

#[tokio::test]
async fn unsupported_things_are_named() {
    let mut server = Server::start(Options { signals: &[Signal::Traces], ..Options::default() }).await;
    let text = "compression `br` is not supported, supported: gzip, zstd, zlib, snappy, deflate, identity";
    let request = post(TRACES, PROTOBUF).header("content-encoding", "br").body(Full::<Bytes>::new(traces(1).into()));
    let reply = send(server.http, request.unwrap()).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(reply.header("accept-encoding"), "gzip, zstd, zlib, snappy, deflate, identity");
    assert_eq!((reply.rpc_status().code, reply.rpc_status().message.as_str()), (Code::Unimplemented, text));
    let text = "compression `br` is not supported, supported: gzip, zstd, snappy, deflate, identity";
    let request = call(EXPORT_TRACES).header("grpc-encoding", "br");
    assert_eq!(send_grpc(server.grpc, request, framed(1, b"x")).await.grpc_status(), (12, text.to_owned()));

    let text = "no logs pipeline names this receiver";
    let reply = send_bytes(server.http, "/v1/logs", PROTOBUF, logs()).await;
    assert_eq!((reply.status, reply.rpc_status().message.as_str()), (StatusCode::NOT_FOUND, text));
    let reply = send_grpc(server.grpc, call(EXPORT_LOGS), framed(0, &logs())).await;
    assert_eq!(reply.grpc_status(), (12, text.to_owned()));
    let reply = send_grpc(server.grpc, call("/grpc.health.v1.Health/Check"), framed(0, b"")).await;
    assert_eq!(reply.grpc_status(), (12, "unknown method /grpc.health.v1.Health/Check".to_owned()));
    still_works(&mut server).await;
    server.stop().await;
}

#[tokio::test]
async fn bad_grpc_frames() {
    let mut server = Server::start(Options::default()).await;
    let whole = framed(0, &traces(1));
    let twice = [&whole[..], &whole].concat();
    let identity = "the message is marked compressed, but grpc-encoding names nothing";
    for (body, text) in [
        (vec![], "the call ended without a message"),
        (whole[..3].to_vec(), "the call ended inside its message"),
        (whole[..whole.len() - 1].to_vec(), "the call ended inside its message"),
        (twice, "more bytes than the one message of a unary call"),
        ([&whole[..], b"x"].concat(), "more bytes than the one message of a unary call"),
        (framed(2, b"x"), "the message starts with 2, neither compressed (1) nor not (0)"),
        (framed(1, &gzip(&traces(1))), identity),
    ] {
        let reply = send_grpc(server.grpc, call(EXPORT_TRACES), body).await;
        assert_eq!((reply.status, reply.grpc_status()), (StatusCode::OK, (13, text.to_owned())));
    }
    let reply = send_grpc(server.grpc, call(EXPORT_TRACES).header("grpc-timeout", "soon"), whole.clone()).await;
    assert_eq!(reply.grpc_status(), (13, "malformed grpc-timeout".to_owned()));

    // Not gRPC at all, over HTTP/2.
    for (method, content_type, status) in [("POST", PROTOBUF, 415), ("GET", "application/grpc", 405)] {
        let request = Request::builder().method(method).uri(format!("http://weir.test{EXPORT_TRACES}"));
        let reply = send_grpc(server.grpc, request.header("content-type", content_type), whole.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{}", String::from_utf8_lossy(&reply.body));
    }
    // Neither HTTP/1 nor HTTP/2: a TLS client hello.
    let mut stream = TcpStream::connect(server.grpc).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    assert!(server.is_quiet());
    still_works(&mut server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_bad_request_leaves_its_connection_and_its_neighbours_alone() {
    let mut server = Server::start(Options::default()).await;
    let mut sender = grpc_connect(server.grpc).await;
    let good = framed(0, &traces(3));
    let calls = (0..60).map(|n| {
        let body = if n % 2 == 0 { good.clone() } else { framed(0, &malformed()[n % 4].1) };
        let request = call(EXPORT_TRACES).body(Full::<Bytes>::new(body.into())).unwrap();
        let sent = sender.send_request(request);
        async move { Reply::read(sent.await.unwrap()).await.grpc_status().0 }
    });
    let statuses = futures::future::join_all(calls.collect::<Vec<_>>()).await;
    let want: Vec<u8> = (0..60).map(|n| if n % 2 == 0 { 0 } else { 3 }).collect();
    assert_eq!(statuses, want);
    assert_eq!(server.count("accepted", Signal::Traces, "grpc"), 90);
    for _ in 0..30 {
        server.taken().await;
    }
    server.stop().await;
}

/// The server takes a good request over both transports.
async fn still_works(server: &mut Server) {
    let body = traces(1);
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, body.clone()).await.status, StatusCode::OK);
    assert_eq!(server.taken().await.bytes, body);
    assert_eq!(send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &body)).await.grpc_status().0, 0);
    assert_eq!(server.taken().await.bytes, body);
    assert_eq!(server.budget.used(), 0);
}
