//! A stock gRPC client: tonic with the services generated from the OTLP definitions.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use weir_pipeline::otlp::status::Status;
use weir_pipeline::receipt::Outcome;

use crate::support::*;

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn every_signal() {
    let mut server = Server::start(Options::default()).await;
    let channel = connect(&server).await;
    let response = TraceServiceClient::new(channel.clone()).export(traces_message(9)).await.unwrap();
    assert_eq!(response.into_inner().partial_success, None);
    assert_eq!(server.taken().await.bytes, traces(9));
    let message = ExportMetricsServiceRequest::decode(&metrics()[..]).unwrap();
    let response = MetricsServiceClient::new(channel.clone()).export(message).await.unwrap();
    assert_eq!(response.into_inner().partial_success, None);
    assert_eq!(server.taken().await.bytes, metrics());
    let message = ExportLogsServiceRequest::decode(&logs()[..]).unwrap();
    let response = LogsServiceClient::new(channel).export(message).await.unwrap();
    assert_eq!(response.into_inner().partial_success, None);
    assert_eq!(server.taken().await.bytes, logs());
    server.stop().await;
}

#[tokio::test]
async fn compressed() {
    let mut server = Server::start(Options::default()).await;
    let channel = connect(&server).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let client = TraceServiceClient::new(channel.clone()).accept_compressed(encoding);
        client.send_compressed(encoding).export(traces_message(500)).await.unwrap();
        assert_eq!(server.taken().await.bytes, traces(500));
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_understood() {
    let mut server = Server::start(Options::default()).await;
    let mut client = TraceServiceClient::new(connect(&server).await);
    let after = Some(Duration::from_millis(4_200));
    server.settle_with(Some(Outcome::Retry { after, reason: "caf\u{e9} is full: 100%".into() }));
    let status = client.export(traces_message(1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "caf\u{e9} is full: 100%"));
    let details = Status::decode(status.details()).unwrap();
    assert_eq!((details.message.as_str(), details.retry_delay), (status.message(), after));
    server.taken().await;

    server.settle_with(Some(Outcome::Rejected("wrong key".into())));
    let status = client.export(traces_message(1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "wrong key"));
    server.taken().await;

    // The connection is as good as before.
    server.settle_with(Some(Outcome::Done));
    client.export(traces_message(1)).await.unwrap();
    server.taken().await;
    server.stop().await;
}

#[tokio::test]
async fn its_deadline_is_kept() {
    let mut server = Server::start(Options::default()).await;
    server.settle_with(None);
    let mut request = tonic::Request::new(traces_message(1));
    request.set_timeout(Duration::from_millis(40));
    let status = TraceServiceClient::new(connect(&server).await).export(request).await.unwrap_err();
    // Whoever notices first says so.
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status:?}");
    drop(server.taken().await);
    server.stop().await;
}
