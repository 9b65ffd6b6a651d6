//! OTLP/gRPC: what is taken and how that is answered.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::StatusCode;
use weir_pipeline::otlp::status::{Code, Status};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;

use crate::support::*;

/// The details in the trailers of a refusal.
fn details(reply: &Reply) -> Status {
    Status::decode(&STANDARD_NO_PAD.decode(reply.header("grpc-status-details-bin")).unwrap()).unwrap()
}

#[tokio::test]
async fn every_signal_is_taken_as_the_bytes_that_came() {
    let mut server = Server::start(Options::default()).await;
    for (path, body, signal, records) in [
        (EXPORT_TRACES, traces(5), Signal::Traces, 5),
        (EXPORT_METRICS, metrics(), Signal::Metrics, 3),
        (EXPORT_LOGS, logs(), Signal::Logs, 2),
    ] {
        let reply = send_grpc(server.grpc, call(path), framed(0, &body)).await;
        assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/grpc"));
        assert_eq!((&reply.body[..], reply.grpc_status().0), (&[0u8; 5][..], 0));
        assert_eq!(reply.header("grpc-accept-encoding"), "gzip,zstd,snappy,deflate,identity");
        let taken = server.taken().await;
        assert_eq!((taken.signal, &taken.bytes[..]), (signal, &body[..]));
        assert_eq!(server.count("accepted", signal, "grpc"), records);
    }
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn every_compression_is_undone() {
    let mut server = Server::start(Options::default()).await;
    let plain = traces(300);
    for (flag, encoding, body) in [
        (1, "gzip", gzip(&plain)),
        (1, "zstd", zstd(&plain)),
        (1, "deflate", zlib(&plain)),
        (1, "snappy", snappy_framed(&plain)),
        (0, "gzip", plain.clone()),
        (0, "identity", plain.clone()),
    ] {
        let request = call(EXPORT_TRACES).header("grpc-encoding", encoding);
        let reply = send_grpc(server.grpc, request, framed(flag, &body)).await;
        assert_eq!(reply.grpc_status(), (0, String::new()), "{encoding}");
        assert_eq!(server.taken().await.bytes, plain, "{encoding}");
    }
    assert_eq!(server.budget.used(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_large_message_arrives_in_many_frames() {
    let mut server = Server::start(Options::default()).await;
    let plain = traces(100_000);
    assert!(plain.len() > 3 << 20);
    assert_eq!(send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &plain)).await.grpc_status().0, 0);
    assert_eq!(server.taken().await.bytes, plain);
    assert_eq!((server.count("accepted", Signal::Traces, "grpc"), server.budget.used()), (100_000, 0));
    server.stop().await;
}

#[tokio::test]
async fn outcomes_become_answers() {
    let mut server = Server::start(Options::default()).await;
    let retry = |after| Outcome::Retry { after, reason: "busy: 100%".into() };
    for (outcome, code, text, delay) in [
        (Outcome::Rejected("bad key".into()), Code::Internal, "bad key", None),
        (retry(None), Code::Unavailable, "busy: 100%25", Some(1_000)),
        (retry(Some(Duration::from_millis(2_500))), Code::Unavailable, "busy: 100%25", Some(2_500)),
        (Outcome::Lost, Code::Unavailable, "the outcome is unknown", Some(1_000)),
    ] {
        server.settle_with(Some(outcome));
        let reply = send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &traces(2))).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
        assert_eq!(reply.grpc_status(), (code.number(), text.to_owned()));
        match delay {
            Some(millis) => {
                let details = details(&reply);
                assert_eq!((details.code, details.retry_delay), (code, Some(Duration::from_millis(millis))));
            }
            None => assert_eq!(reply.header("grpc-status-details-bin"), ""),
        }
        server.taken().await;
    }
    assert_eq!(server.count("refused", Signal::Traces, "grpc"), 8);
    server.stop().await;
}

#[tokio::test]
async fn without_memory_the_client_is_told_to_come_again() {
    let large = traces(2_000);
    let mut server = Server::start(Options { budget: large.len() * 2 / 3, ..Options::default() }).await;
    let _others = server.budget.take(0, 1).unwrap();
    let plain = send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &large)).await;
    let request = call(EXPORT_TRACES).header("grpc-encoding", "gzip");
    let compressed = send_grpc(server.grpc, request, framed(1, &gzip(&large))).await;
    for reply in [plain, compressed] {
        assert_eq!(reply.grpc_status(), (14, "data refused due to high memory usage".to_owned()));
        assert_eq!(details(&reply).retry_delay, Some(Duration::from_secs(1)));
    }
    assert!(server.is_quiet());
    let reply = send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &traces(5_000))).await;
    assert_eq!((reply.grpc_status().0, reply.headers.contains_key("grpc-status-details-bin")), (8, false));
    assert_eq!(server.budget.used(), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_clients_deadline_bounds_the_wait() {
    let mut server = Server::start(Options::default()).await;
    server.settle_with(None);
    let request = call(EXPORT_TRACES).header("grpc-timeout", "30m");
    let reply = send_grpc(server.grpc, request, framed(0, &traces(1))).await;
    let text = "the pipeline did not answer before the request's deadline";
    assert_eq!(reply.grpc_status(), (Code::DeadlineExceeded.number(), text.to_owned()));
    assert_eq!(server.count("refused", Signal::Traces, "grpc"), 1);
    drop(server.taken().await);
    server.stop().await;
}

#[tokio::test]
async fn an_empty_request_succeeds_without_the_pipeline() {
    let mut server = Server::start(Options::default()).await;
    assert_eq!(send_grpc(server.grpc, call(EXPORT_LOGS), framed(0, b"")).await.grpc_status().0, 0);
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn http1_is_told_where_to_go() {
    let server = Server::start(Options::default()).await;
    let reply = send_bytes(server.grpc, TRACES, PROTOBUF, vec![0; 1 << 20]).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let text =
        "this port receives OTLP/gRPC, which is HTTP/2; OTLP/HTTP goes to the http endpoint, normally port 4318\n";
    assert_eq!(reply.body, text);
    server.stop().await;
}
