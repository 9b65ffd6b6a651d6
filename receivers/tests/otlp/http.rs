//! OTLP/HTTP: what is taken and how that is answered.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use weir_pipeline::otlp::status::Code;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;

use crate::support::*;

#[tokio::test]
async fn every_signal_is_taken_as_the_bytes_that_came() {
    let mut server = Server::start(Options::default()).await;
    for (path, body, signal, records) in [
        (TRACES, traces(5), Signal::Traces, 5),
        ("/v1/metrics", metrics(), Signal::Metrics, 3),
        ("/v1/logs", logs(), Signal::Logs, 2),
    ] {
        let reply = send_bytes(server.http, path, PROTOBUF, body.clone()).await;
        assert_eq!((reply.status, reply.header("content-type"), &reply.body[..]), (StatusCode::OK, PROTOBUF, &b""[..]));
        let taken = server.taken().await;
        assert_eq!((taken.signal, &taken.bytes[..]), (signal, &body[..]));
        assert_eq!(server.count("accepted", signal, "http"), records);
    }
    assert_eq!(server.budget.used(), 0);
    assert_eq!(server.failed_requests(), 0);
    server.stop().await;
}

#[tokio::test]
async fn every_compression_is_undone() {
    let mut server = Server::start(Options::default()).await;
    let plain = traces(300);
    for (encoding, body) in [
        ("gzip", gzip(&plain)),
        ("GZIP", gzip(&plain)),
        ("zstd", zstd(&plain)),
        ("deflate", zlib(&plain)),
        ("zlib", zlib(&plain)),
        ("snappy", snappy(&plain)),
        ("snappy", snappy_framed(&plain)),
        ("identity", plain.clone()),
        ("", plain.clone()),
    ] {
        let request = post(TRACES, PROTOBUF).header("content-encoding", encoding).body(Full::new(body.into())).unwrap();
        assert_eq!(send(server.http, request).await.status, StatusCode::OK, "{encoding}");
        assert_eq!(server.taken().await.bytes, plain, "{encoding}");
    }
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn compressions_can_be_configured() {
    let options = Options { http: "compression_algorithms: [lz4, x-snappy-framed],".to_owned(), ..Options::default() };
    let mut server = Server::start(options).await;
    let plain = traces(300);
    for (encoding, body, is_accepted) in [
        ("lz4", lz4(&plain), true),
        ("x-snappy-framed", snappy_framed(&plain), true),
        ("gzip", gzip(&plain), false),
        ("snappy", snappy(&plain), false),
        ("identity", plain.clone(), false),
    ] {
        let request = post(TRACES, PROTOBUF).header("content-encoding", encoding).body(Full::new(body.into())).unwrap();
        let reply = send(server.http, request).await;
        if is_accepted {
            assert_eq!(reply.status, StatusCode::OK, "{encoding}");
            assert_eq!(server.taken().await.bytes, plain, "{encoding}");
        } else {
            assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
            assert_eq!(reply.header("accept-encoding"), "lz4, x-snappy-framed");
            assert_eq!(reply.header("connection"), "close", "the body is still on the connection");
        }
    }
    // The empty name is not on the list.
    let reply = send_bytes(server.http, TRACES, PROTOBUF, plain).await;
    assert_eq!(reply.rpc_status().message, "compression `identity` is not supported, supported: lz4, x-snappy-framed");
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_joined() {
    let mut server = Server::start(Options::default()).await;
    let plain = traces(2_000);
    let pieces: Vec<_> =
        plain.chunks(1_000).map(|c| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(c)))).collect();
    let request = post(TRACES, PROTOBUF).body(StreamBody::new(stream::iter(pieces))).unwrap();
    assert_eq!(send(server.http, request).await.status, StatusCode::OK);
    assert_eq!(server.taken().await.bytes, plain);
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn json_is_taken_and_answered_as_json() {
    let mut server = Server::start(Options::default()).await;
    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},{"name":"b"}]}]}]}"#;
    for content_type in [JSON, "application/json; charset=utf-8"] {
        let reply = send_bytes(server.http, TRACES, content_type, body).await;
        assert_eq!((reply.status, reply.header("content-type"), &reply.body[..]), (StatusCode::OK, JSON, &b"{}"[..]));
        let batch = server.taken().await.bytes;
        assert_eq!(batch, &b"\x0a\x0c\x12\x0a\x12\x03\x2a\x01a\x12\x03\x2a\x01b"[..]);
    }
    assert_eq!(server.count("accepted", Signal::Traces, "http"), 4);
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn repeated_slashes_and_queries_do_not_matter() {
    let mut server = Server::start(Options::default()).await;
    for path in ["//v1/traces", "/v1//traces", "/v1/traces?token=x"] {
        assert_eq!(send_bytes(server.http, path, PROTOBUF, traces(1)).await.status, StatusCode::OK, "{path}");
        server.taken().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn paths_can_be_configured() {
    let options = Options { http: "traces_url_path: api/v1/traces,".to_owned(), ..Options::default() };
    let mut server = Server::start(options).await;
    assert_eq!(send_bytes(server.http, "/api/v1/traces", PROTOBUF, traces(1)).await.status, StatusCode::OK);
    server.taken().await;
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, traces(1)).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn the_traceloop_sdks_are_answered_what_lets_them_start() {
    let server = Server::start(Options::default()).await;
    for (method, path, status, body) in [
        ("GET", "/v1/traceloop/prompts", 200, r#"{"prompts":[]}"#),
        ("GET", "//v1/traceloop/prompts", 200, r#"{"prompts":[]}"#),
        ("GET", "/v1/traceloop/pii/tracing-allow-list", 200, r#"{"associationPropertyAllowList":[]}"#),
        ("POST", "/v1/traceloop/prompts", 404, r#"{"error":"#),
        ("GET", "/v2/datasets", 404, r#"{"error":"#),
        ("POST", "/v2/traces/226991000718967180462/spans/2386568533228472114/images", 404, r#"{"error":"#),
    ] {
        let request = post(path, JSON).method(method).body(Full::new("{}".into())).unwrap();
        let reply = send(server.http, request).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (status, JSON), "{path}");
        assert!(reply.body.starts_with(body.as_bytes()), "{path}: {:?}", reply.body);
    }
    let request = post("/v1/prompts", JSON).method("GET").body(Full::default()).unwrap();
    let reply = send(server.http, request).await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"));
    server.stop().await;
}

#[tokio::test]
async fn an_empty_request_succeeds_without_the_pipeline() {
    let mut server = Server::start(Options::default()).await;
    server.settle_with(Some(Outcome::Rejected("never asked".into())));
    // Nothing at all, and a resource without spans.
    for body in [traces(0), vec![], b"\x0a\x02\x0a\x00".to_vec()] {
        assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, body).await.status, StatusCode::OK);
    }
    assert_eq!(send_bytes(server.http, TRACES, JSON, "{}").await.status, StatusCode::OK);
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn outcomes_become_answers() {
    let mut server = Server::start(Options::default()).await;
    let retry = |after, reason: &'static str| Outcome::Retry { after, reason: reason.into() };
    for (outcome, status, code, text, retry_after) in [
        (Outcome::Rejected("bad key".into()), 500, Code::Internal, "bad key", ""),
        (retry(None, "queue is full"), 503, Code::Unavailable, "queue is full", "1"),
        (retry(Some(Duration::from_millis(2_001)), "busy"), 503, Code::Unavailable, "busy", "3"),
        (retry(Some(Duration::from_millis(10)), "busy"), 503, Code::Unavailable, "busy", "1"),
        (Outcome::Lost, 503, Code::Unavailable, "the outcome is unknown", "1"),
    ] {
        server.settle_with(Some(outcome));
        let reply = send_bytes(server.http, TRACES, PROTOBUF, traces(2)).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (status, retry_after), "{text}");
        assert_eq!(reply.header("content-type"), PROTOBUF);
        let rpc = reply.rpc_status();
        assert_eq!((rpc.code, rpc.message.as_str()), (code, text));
        assert_eq!(rpc.retry_delay.is_some(), status == 503);
        server.taken().await;
    }
    assert_eq!(server.count("refused", Signal::Traces, "http"), 10);
    assert_eq!(server.count("accepted", Signal::Traces, "http"), 0);
    assert_eq!((server.failed_requests(), server.budget.used()), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn without_memory_the_client_is_told_to_come_again() {
    let large = traces(2_000);
    let mut server = Server::start(Options { budget: large.len() * 2 / 3, ..Options::default() }).await;
    let others = server.budget.take(0, 1).unwrap();
    let pieces = vec![Ok::<_, Infallible>(Frame::data(Bytes::from(large.clone())))];
    let chunked = post(TRACES, PROTOBUF).body(StreamBody::new(stream::iter(pieces))).unwrap();
    let small_but_large_inside =
        post(TRACES, PROTOBUF).header("content-encoding", "gzip").body(Full::new(gzip(&large).into())).unwrap();
    for reply in [
        send_bytes(server.http, TRACES, PROTOBUF, large.clone()).await,
        send(server.http, chunked).await,
        send(server.http, small_but_large_inside).await,
    ] {
        assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        assert_eq!(reply.rpc_status().message, "data refused due to high memory usage");
        assert_eq!(server.budget.used(), 1);
    }
    assert!(server.is_quiet());
    assert_eq!(server.failed_requests(), 3);
    // One that never fits need not come again, and alone there is more room.
    let reply = send_bytes(server.http, TRACES, PROTOBUF, traces(5_000)).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(reply.rpc_status().message.ends_with("raise `limit_mib`"), "{}", reply.rpc_status().message);
    drop(others);
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, large).await.status, StatusCode::OK);
    server.taken().await;
    // What fits is held until the batch is gone.
    server.settle_with(None);
    let body = traces(100);
    let pending = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, body.clone()));
    let taken = server.taken().await;
    assert_eq!(server.budget.used(), body.len());
    taken.batch.unwrap().settle(&Outcome::Done);
    assert_eq!(pending.await.unwrap().status, StatusCode::OK);
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_pipeline_that_never_answers_is_not_waited_for_for_ever() {
    let options = Options { edit: |s| s.timeouts.answer = Duration::from_millis(50), ..Options::default() };
    let mut server = Server::start(options).await;
    server.settle_with(None);
    let reply = send_bytes(server.http, TRACES, PROTOBUF, traces(4)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(reply.rpc_status().message, "the pipeline did not answer within 0 s");
    assert_eq!(server.count("refused", Signal::Traces, "http"), 4);
    // Settling late changes no count.
    server.taken().await.batch.unwrap().settle(&Outcome::Done);
    server.settle_with(Some(Outcome::Done));
    assert_eq!(send_bytes(server.http, TRACES, PROTOBUF, traces(1)).await.status, StatusCode::OK);
    assert_eq!(server.count("refused", Signal::Traces, "http"), 4);
    assert_eq!(server.count("accepted", Signal::Traces, "http"), 1);
    server.stop().await;
}

#[tokio::test]
async fn http2_without_tls_works_on_the_http_port() {
    let mut server = Server::start(Options::default()).await;
    let mut sender = grpc_connect(server.http).await;
    let request = http::Request::post("http://weir.test/v1/traces").header("content-type", PROTOBUF);
    let request = request.body(Full::new(traces(1).into())).unwrap();
    assert_eq!(Reply::read(sender.send_request(request).await.unwrap()).await.status, StatusCode::OK);
    server.taken().await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_says_that_the_connection_closes() {
    let mut server = Server::start(Options::default()).await;
    let typed = "content-type: application/x-protobuf\r\n";
    for (head, status) in [
        (format!("POST /v1/nowhere HTTP/1.1\r\n{typed}"), "404"),
        (format!("POST /v1/traceloop/x HTTP/1.1\r\n{typed}"), "404"),
        (format!("PUT {TRACES} HTTP/1.1\r\n{typed}"), "405"),
        (format!("POST {TRACES} HTTP/1.1\r\ncontent-type: text/plain\r\n"), "415"),
        (format!("POST {TRACES} HTTP/1.1\r\n{typed}content-encoding: br\r\n"), "415"),
    ] {
        assert_says_whether_it_closes(server.http, &head, status).await;
    }
    // One that was read whole is refused on a connection that goes on.
    for chunked in [false, true] {
        let body = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"no protobuf")))]);
        let request = post(TRACES, PROTOBUF);
        let reply = match chunked {
            true => send(server.http, request.body(StreamBody::new(body)).unwrap()).await,
            false => send(server.http, request.body(Full::new(Bytes::from_static(b"no protobuf"))).unwrap()).await,
        };
        assert_eq!((reply.status, reply.header("connection")), (StatusCode::BAD_REQUEST, ""));
    }
    // HTTP/2 ends the stream alone.
    let mut sender = grpc_connect(server.http).await;
    for _ in 0..2 {
        let request = http::Request::post("http://weir.test/v1/nowhere").body(Full::new(traces(1).into())).unwrap();
        let reply = Reply::read(sender.send_request(request).await.unwrap()).await;
        assert_eq!((reply.status, reply.header("connection")), (StatusCode::NOT_FOUND, ""));
    }
    assert!(server.is_quiet());
    server.stop().await;
}
