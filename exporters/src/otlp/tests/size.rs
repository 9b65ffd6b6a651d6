//! Destinations with a limit on the size of a request.

use weir_pipeline::otlp::status::Code;

use super::stub::{Answer, Stub};
use super::*;
use crate::testing::{dropped, request, settled};

fn refusal(code: Code, message: &str) -> Answer {
    Answer::grpc_error(&[("grpc-status", &code.number().to_string()), ("grpc-message", message)])
}

/// Twenty spans of 10 kB each.
async fn export(rig: &Rig) -> Outcome {
    let (receipt, waiter) = weir_pipeline::receipt::Receipt::pair();
    let data = weir_pipeline::batch::Batch::decode(Signal::Traces, request(20, 10_000)).unwrap();
    rig.exporter.consume(data.with_receipt(receipt)).await;
    waiter.await
}

#[tokio::test]
async fn a_request_that_grpc_refuses_for_its_size_is_sent_in_halves() {
    let refusals = [
        (Code::ResourceExhausted, "grpc: received message larger than max (200780 vs. 131072)"),
        (Code::ResourceExhausted, "grpc: received message after decompression larger than max 131072"),
        (Code::ResourceExhausted, "gRPC message exceeds maximum size 131072: 200780"),
        (Code::OutOfRange, "Error, decoded message length too large: found 200780 bytes, the limit is: 131072 bytes"),
    ];
    for (code, message) in refusals {
        let stub = Stub::grpc([refusal(code, message)]).await;
        let rig = Rig::grpc(grpc_settings(stub.address));
        assert_eq!(export(&rig).await, Outcome::Done, "{message}");
        let halves: Vec<_> = stub.arrived()[1..].iter().map(|a| a.message().1).collect();
        assert_eq!(halves.len(), 2);
        assert!(halves.iter().all(|half| half.len() == request(10, 10_000).len()));
        settled(&rig.telemetry, 20, 0, 0);
    }
}

#[tokio::test]
async fn a_quota_is_no_size() {
    let stub = Stub::grpc([refusal(Code::ResourceExhausted, "monthly quota exceeded")]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    assert!(matches!(export(&rig).await, Outcome::Rejected(_)));
    assert_eq!(stub.arrived().len(), 1);
    settled(&rig.telemetry, 0, 20, 0);
    assert_eq!(dropped(&rig.telemetry, "permanent_error"), 20);
}

#[tokio::test]
async fn a_request_that_http_refuses_for_its_size_is_sent_in_halves() {
    let stub = Stub::http([Answer::http(413, &[], b"")]).await;
    let rig = Rig::http(http_settings(stub.address));
    assert_eq!(export(&rig).await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 3);
    settled(&rig.telemetry, 20, 0, 0);
}

#[tokio::test]
async fn the_configured_limit_is_kept_and_one_oversize_span_goes_alone() {
    let stub = Stub::http([]).await;
    let mut settings = http_settings(stub.address);
    settings.exchange.max_request_bytes = 64_000;
    let rig = Rig::http(settings);
    let mut data = weir_pipeline::batch::Batch::decode(Signal::Traces, request(11, 10_000)).unwrap();
    data.append(weir_pipeline::batch::Batch::decode(Signal::Traces, request(1, 70_000)).unwrap());
    rig.exporter.consume(data).await;
    rig.exporter.drain().await;
    let arrived = stub.arrived();
    assert!(arrived.iter().all(|a| a.body.len() <= 64_000), "{:?}", arrived.iter().map(|a| a.body.len()));
    settled(&rig.telemetry, 11, 1, 0);
    assert_eq!(dropped(&rig.telemetry, "too_large"), 1);
}
