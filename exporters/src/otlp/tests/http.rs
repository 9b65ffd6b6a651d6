use ::http::Version;
use ::http::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_pipeline::otlp::status::{Code, Status};

use super::stub::{Answer, Stub};
use super::*;
use crate::testing::{dropped, request, settled, unattended};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

#[tokio::test]
async fn a_request_is_the_batch_byte_for_byte() {
    let stub = Stub::http([]).await;
    let mut settings = http_settings(stub.address);
    settings.headers.insert("x-honeycomb-team", HeaderValue::from_static("key"));
    let rig = Rig::http(settings);
    assert_eq!(rig.export(3).await, Outcome::Done);
    let arrived = stub.only();
    assert_eq!(arrived.body, request(3, 10));
    assert_eq!((arrived.method.as_str(), arrived.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!((arrived.version, arrived.authority.clone()), (Version::HTTP_11, stub.address.to_string()));
    let length = request(3, 10).len().to_string();
    let expected = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", ""),
        ("content-length", length.as_str()),
        ("x-honeycomb-team", "key"),
        ("user-agent", concat!("weir/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in expected {
        assert_eq!(arrived.header(name), value, "{name}");
    }
    settled(&rig.telemetry, 3, 0, 0);
}

#[tokio::test]
async fn signals_go_to_their_endpoints() {
    let stub = Stub::http([]).await;
    let context = context();
    let telemetry = context.telemetry.clone();
    let factory = OtlpHttp::new(http_settings(stub.address), context);
    let (_trigger, shutdown) = Shutdown::channel();
    let bodies = [
        (Signal::Logs, vec![0x0a, 4, 0x12, 2, 0x12, 0]),
        (Signal::Metrics, vec![0x0a, 8, 0x12, 6, 0x12, 4, 0x2a, 2, 0x0a, 0]),
    ];
    for (signal, body) in bodies {
        let exporter = factory.create(0, signal, shutdown.clone());
        exporter.consume(weir_pipeline::batch::Batch::decode(signal, body.into()).unwrap()).await;
        exporter.drain().await;
    }
    assert_eq!(stub.only().path, "/custom/logs?x=1");
    assert_eq!(telemetry.sum("otelcol_exporter_sent_log_records"), 1);
    assert_eq!(telemetry.sum("otelcol_exporter_send_failed_metric_points"), 1, "no endpoint");
}

#[tokio::test]
async fn requests_are_compressed() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Deflate] {
        let stub = Stub::http([]).await;
        let mut settings = http_settings(stub.address);
        settings.exchange.compression = compression;
        let rig = Rig::http(settings);
        assert_eq!(rig.export(50).await, Outcome::Done);
        let arrived = stub.only();
        assert_eq!(arrived.header("content-encoding"), compression.name().unwrap());
        assert_eq!(arrived.header("content-length"), arrived.body.len().to_string());
        assert!(arrived.body.len() < request(50, 10).len() / 2);
        settled(&rig.telemetry, 50, 0, 0);
    }
}

#[tokio::test]
async fn statuses_are_retried_as_the_specification_says() {
    for status in [400, 401, 403, 404, 408, 413, 429, 500, 501, 502, 503, 504] {
        let stub = Stub::http([Answer::http(status, &[], b"")]).await;
        let rig = Rig::http(http_settings(stub.address));
        match rig.export(2).await {
            Outcome::Done => {
                assert!([429, 502, 503, 504].contains(&status), "{status}");
                assert_eq!((stub.arrived().len(), stub.connections()), (2, 1));
                settled(&rig.telemetry, 2, 0, 0);
            }
            Outcome::Rejected(reason) => {
                assert!(![429, 502, 503, 504].contains(&status) && reason.contains(&status.to_string()), "{reason}");
                assert_eq!(stub.arrived().len(), 1);
                settled(&rig.telemetry, 0, 2, 0);
                let reason = if status == 413 { "too_large" } else { "permanent_error" };
                assert_eq!(dropped(&rig.telemetry, reason), 2);
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    // The test's clock stands at midnight.
    for value in ["1", "Sat, 01 Aug 2026 00:00:01 GMT"] {
        for (status, is_honoured) in [(429, true), (503, true), (504, false)] {
            let stub = Stub::http([Answer::http(status, &[("retry-after", value)], b"")]).await;
            let mut settings = http_settings(stub.address);
            // The client is told, so that nobody has to wait for it.
            settings.exchange.retry.enabled = false;
            let rig = Rig::http(settings);
            let Outcome::Retry { after, .. } = rig.export(1).await else { panic!("{status}") };
            assert_eq!(after, is_honoured.then_some(Duration::from_secs(1)), "{status}");
        }
    }
}

#[tokio::test]
async fn only_the_message_of_a_status_is_passed_on() {
    let status = Status::new(Code::InvalidArgument, format!("bad\n{}", "x".repeat(400)));
    let stub = Stub::http([
        Answer::http(400, &[PROTOBUF], &status.encode()),
        Answer::http(400, &[("content-type", "text/plain")], b"your prompt was: secret"),
        Answer::endless(400),
    ])
    .await;
    let rig = Rig::http(http_settings(stub.address));
    let expected = format!("HTTP status 400 Bad Request: bad {}…", "x".repeat(252));
    assert_eq!(rig.export(1).await, Outcome::Rejected(expected.into()));
    for _ in 0..2 {
        assert_eq!(rig.export(1).await, Outcome::Rejected("HTTP status 400 Bad Request".into()));
    }
    settled(&rig.telemetry, 0, 3, 0);
}

#[tokio::test]
async fn a_partial_success_is_counted() {
    let message = [0x0a, 6, 8, 2, 0x12, 2, b'n', b'o'];
    let stub = Stub::http([Answer::http(200, &[PROTOBUF], &message)]).await;
    let rig = Rig::http(http_settings(stub.address));
    assert_eq!(rig.export(5).await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 1);
    settled(&rig.telemetry, 3, 2, 0);
}

#[tokio::test]
async fn a_status_counts_even_if_the_body_breaks_off_or_stops() {
    for (status, is_closed) in
        [("200 OK", true), ("200 OK", false), ("400 Bad Request", true), ("400 Bad Request", false)]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = http_settings(listener.local_addr().unwrap());
        if !is_closed {
            settings.exchange.timeout = Some(Duration::from_millis(100));
        }
        let rig = Rig::http(settings);
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(&request(1, 10)) {
                head.push(stream.read_u8().await.unwrap());
            }
            let said = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{{}}");
            stream.write_all(said.as_bytes()).await.unwrap();
            if !is_closed {
                // Until the client gives up.
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            }
            drop(stream);
            listener
        });
        match rig.export(1).await {
            Outcome::Done if status.starts_with('2') => settled(&rig.telemetry, 1, 0, 0),
            Outcome::Rejected(reason) if status.starts_with('4') => {
                assert_eq!(reason, "HTTP status 400 Bad Request");
                settled(&rig.telemetry, 0, 1, 0);
            }
            other => panic!("{status}: {other:?}"),
        }
        drop(serving.await.unwrap());
    }
}

#[tokio::test]
async fn connections_are_kept_and_as_many_as_are_needed() {
    let stub = Stub::http([Answer::never(), Answer::never()]).await;
    let mut settings = http_settings(stub.address);
    settings.exchange.timeout = Some(Duration::from_millis(300));
    let rig = Rig::http(settings);
    let silent = [unattended(1), unattended(1)];
    for data in silent {
        rig.exporter.consume(data).await;
    }
    stub.until(2).await;
    for _ in 0..5 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!(stub.connections(), 3, "two are waiting, one is used again and again");
    rig.exporter.drain().await;
    settled(&rig.telemetry, 7, 0, 0);
}

#[tokio::test]
async fn a_restarted_server_is_connected_to_again() {
    let stub = Stub::http([]).await;
    let rig = Rig::http(http_settings(stub.address));
    assert_eq!(rig.export(1).await, Outcome::Done);
    let stub = stub.restart().await;
    assert_eq!(rig.export(2).await, Outcome::Done);
    assert_eq!(stub.only().body, request(2, 10));
    settled(&rig.telemetry, 3, 0, 0);
}
