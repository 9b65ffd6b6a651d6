use ::http::header::{AUTHORIZATION, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use weir_pipeline::otlp::status::{Code, Status};

use super::stub::{Answer, Stub};
use super::*;
use crate::testing::{counts, dropped, request, settled};

fn failing(code: Code, message: &str) -> Answer {
    Answer::grpc_error(&[("grpc-status", &code.number().to_string()), ("grpc-message", message)])
}

fn with_retry_info(code: Code, delay: Duration) -> Answer {
    let status = Status { retry_delay: Some(delay), ..Status::new(code, "slow down") };
    let details = STANDARD_NO_PAD.encode(status.encode());
    let code = code.number().to_string();
    Answer::grpc(b"", &[("grpc-status", &code), ("grpc-status-details-bin", &details)])
}

#[tokio::test]
async fn a_request_is_the_batch_byte_for_byte() {
    let stub = Stub::grpc([]).await;
    let mut settings = grpc_settings(stub.address);
    settings.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    let rig = Rig::grpc(settings);
    assert_eq!(rig.export(3).await, Outcome::Done);
    let arrived = stub.only();
    assert_eq!(arrived.message(), (false, request(3, 10)));
    assert_eq!(arrived.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!((arrived.method.as_str(), arrived.authority), ("POST", stub.address.to_string()));
    let expected = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "20000m"),
        ("authorization", "Bearer x"),
        ("grpc-encoding", ""),
        ("user-agent", concat!("weir/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in expected {
        assert_eq!(stub.only().header(name), value, "{name}");
    }
    settled(&rig.telemetry, 3, 0, 0);
}

#[tokio::test]
async fn a_large_request_passes_flow_control() {
    let stub = Stub::grpc([]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    let bytes = request(30, 1 << 20);
    let batch = weir_pipeline::batch::Batch::decode(Signal::Traces, bytes.clone()).unwrap();
    rig.exporter.consume(batch).await;
    rig.exporter.drain().await;
    assert!(stub.only().message() == (false, bytes));
    settled(&rig.telemetry, 30, 0, 0);
}

#[tokio::test]
async fn requests_are_compressed() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let stub = Stub::grpc([]).await;
        let mut settings = grpc_settings(stub.address);
        settings.exchange.compression = compression;
        let rig = Rig::grpc(settings);
        assert_eq!(rig.export(50).await, Outcome::Done);
        let arrived = stub.only();
        assert_eq!(arrived.header("grpc-encoding"), compression.name().unwrap());
        let (is_compressed, packed) = arrived.message();
        let original = request(50, 10);
        assert!(is_compressed && packed.len() < original.len() / 2);
        let unpacked = super::super::compress::decompress(compression.name().unwrap().as_bytes(), &packed, 1 << 20);
        assert_eq!(unpacked, Some(original));
        settled(&rig.telemetry, 50, 0, 0);
    }
}

#[tokio::test]
async fn all_signals_have_their_service() {
    let stub = Stub::grpc([]).await;
    let factory = OtlpGrpc::new(grpc_settings(stub.address), context());
    let (_trigger, shutdown) = Shutdown::channel();
    for (signal, body) in [(Signal::Metrics, &METRICS[..]), (Signal::Logs, &LOGS[..])] {
        let exporter = factory.create(0, signal, shutdown.clone());
        exporter.consume(weir_pipeline::batch::Batch::decode(signal, body.to_vec().into()).unwrap()).await;
        exporter.drain().await;
    }
    let paths: Vec<_> = stub.arrived().into_iter().map(|a| (a.path.clone(), a.message().1)).collect();
    let expected = [
        ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned(), METRICS.to_vec().into()),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned(), LOGS.to_vec().into()),
    ];
    assert_eq!(paths, expected);
}

/// One gauge with one data point, without anything in it.
const METRICS: [u8; 10] = [0x0a, 8, 0x12, 6, 0x12, 4, 0x2a, 2, 0x0a, 0];
/// One log record, without anything in it.
const LOGS: [u8; 6] = [0x0a, 4, 0x12, 2, 0x12, 0];

#[tokio::test]
async fn codes_are_retried_as_the_specification_says() {
    let repeatable =
        [Code::Cancelled, Code::DeadlineExceeded, Code::Aborted, Code::OutOfRange, Code::Unavailable, Code::DataLoss];
    for code in Code::ALL.into_iter().skip(1) {
        let stub = Stub::grpc([failing(code, "not%20now")]).await;
        let rig = Rig::grpc(grpc_settings(stub.address));
        let outcome = rig.export(2).await;
        if repeatable.contains(&code) {
            assert_eq!(outcome, Outcome::Done, "{code:?}");
            assert_eq!(stub.arrived().len(), 2);
            settled(&rig.telemetry, 2, 0, 0);
        } else {
            assert_eq!(outcome, Outcome::Rejected(format!("{}: not now", code.name()).into()));
            assert_eq!(stub.arrived().len(), 1);
            settled(&rig.telemetry, 0, 2, 0);
            assert_eq!(dropped(&rig.telemetry, "permanent_error"), 2);
        }
    }
}

#[tokio::test]
async fn resource_exhausted_is_retried_after_the_delay_it_comes_with() {
    let delay = Duration::from_millis(300);
    let stub = Stub::grpc([with_retry_info(Code::ResourceExhausted, delay)]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    let started = tokio::time::Instant::now();
    assert_eq!(rig.export(1).await, Outcome::Done);
    assert!(started.elapsed() >= delay);
    assert_eq!(stub.arrived().len(), 2);
    settled(&rig.telemetry, 1, 0, 0);
}

#[tokio::test]
async fn the_delay_reaches_the_client_when_retrying_ends() {
    let delay = Duration::from_secs(40);
    let stub = Stub::grpc([with_retry_info(Code::Unavailable, delay)]).await;
    let mut settings = grpc_settings(stub.address);
    settings.exchange.retry.enabled = false;
    let rig = Rig::grpc(settings);
    assert_eq!(rig.export(1).await, Outcome::Retry { after: Some(delay), reason: "UNAVAILABLE: ".into() });
    settled(&rig.telemetry, 0, 1, 0);
}

#[tokio::test]
async fn a_partial_success_is_counted() {
    // partial_success { rejected_spans: 2, error_message: "no" }
    let message = [0x0a, 6, 8, 2, 0x12, 2, b'n', b'o'];
    let mut packed = vec![0; 100];
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let length = compressor.gzip_compress(&message, &mut packed).unwrap();
    let plain = Answer::grpc(&message, &[("grpc-status", "0")]);
    let gzip = Answer::grpc(&packed[..length], &[("grpc-status", "0")]).gzip();
    for answer in [plain, gzip] {
        let stub = Stub::grpc([answer]).await;
        let rig = Rig::grpc(grpc_settings(stub.address));
        assert_eq!(rig.export(5).await, Outcome::Done);
        assert_eq!(stub.arrived().len(), 1);
        settled(&rig.telemetry, 3, 2, 0);
        assert_eq!(dropped(&rig.telemetry, "partial_success"), 2);
    }
}

#[tokio::test]
async fn answers_of_others_than_grpc_servers_are_understood() {
    let html = &[("content-type", "text/html")][..];
    for (status, is_repeatable) in [(200, false), (404, false), (429, true), (500, false), (503, true)] {
        let stub = Stub::grpc([Answer::http(status, html, b"<html>prompt</html>")]).await;
        let rig = Rig::grpc(grpc_settings(stub.address));
        match rig.export(1).await {
            Outcome::Done if is_repeatable => settled(&rig.telemetry, 1, 0, 0),
            Outcome::Rejected(reason) if !is_repeatable => {
                assert!(!reason.contains("prompt"), "{reason}");
                settled(&rig.telemetry, 0, 1, 0);
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_call_that_is_ok_is_ok_however_much_is_said_of_it() {
    // A partial success with a long message, and one that is longer than what is read.
    let partial = |length: usize| {
        let number = |mut n: usize| {
            let mut out = Vec::new();
            while n > 0x7f {
                out.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
                n >>= 7;
            }
            out.push(u8::try_from(n).unwrap());
            out
        };
        let message = [vec![8, 2, 0x12], number(length), vec![b'x'; length]].concat();
        Answer::grpc(&[vec![0x0a], number(message.len()), message].concat(), &[("grpc-status", "0")])
    };
    let stub = Stub::grpc([partial(100 << 10), partial(5 << 20)]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    assert_eq!(rig.export(5).await, Outcome::Done);
    settled(&rig.telemetry, 3, 2, 0);
    assert_eq!(rig.export(5).await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 2, "nothing is sent again");
    settled(&rig.telemetry, 8, 2, 0);
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_its_connection_too() {
    let stub = Stub::grpc([Answer::never()]).await;
    let mut settings = grpc_settings(stub.address);
    settings.exchange.timeout = Some(Duration::from_millis(100));
    let rig = Rig::grpc(settings);
    assert_eq!(rig.export(1).await, Outcome::Done);
    assert_eq!((stub.arrived().len(), stub.connections()), (2, 2));
    settled(&rig.telemetry, 1, 0, 0);
}

#[tokio::test]
async fn all_requests_share_one_connection() {
    let stub = Stub::grpc([]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    let outcomes = futures_join(&rig, 20).await;
    assert!(outcomes.iter().all(|o| *o == Outcome::Done), "{outcomes:?}");
    assert_eq!((stub.arrived().len(), stub.connections()), (20, 1));
    settled(&rig.telemetry, 20, 0, 0);
}

/// Exports so many batches of one span at once.
async fn futures_join(rig: &Rig, batches: usize) -> Vec<Outcome> {
    let mut waiters = Vec::new();
    for _ in 0..batches {
        let (batch, waiter) = batch(1);
        rig.exporter.consume(batch).await;
        waiters.push(waiter);
    }
    let mut outcomes = Vec::new();
    for waiter in waiters {
        outcomes.push(waiter.await);
    }
    outcomes
}

#[tokio::test]
async fn a_restarted_server_is_connected_to_again() {
    let stub = Stub::grpc([]).await;
    let rig = Rig::grpc(grpc_settings(stub.address));
    assert_eq!(rig.export(1).await, Outcome::Done);
    let stub = stub.restart().await;
    assert_eq!(rig.export(2).await, Outcome::Done);
    assert_eq!(stub.only().message().1, request(2, 10));
    settled(&rig.telemetry, 3, 0, 0);
}

#[tokio::test]
async fn data_waits_for_a_server_that_is_away() {
    // Nobody listens where somebody just did.
    let stub = Stub::grpc([]).await;
    let address = stub.address;
    drop(stub);
    tokio::task::yield_now().await;
    let rig = Rig::grpc(grpc_settings(address));
    let (data, mut waiter) = batch(2);
    rig.exporter.consume(data).await;
    // Time for an attempt or two, none of which can succeed.
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiter).await.is_err());
    assert_eq!(counts(&rig.telemetry).in_flight, 2);
    let stub = Stub::start(true, address, None, []).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 1);
    settled(&rig.telemetry, 2, 0, 0);
}

#[tokio::test]
async fn shutdown_makes_a_dead_server_fail_at_once() {
    let stub = Stub::grpc([]).await;
    let address = stub.address;
    drop(stub);
    let mut settings = grpc_settings(address);
    settings.exchange.retry = RetrySettings::default();
    settings.exchange.queue = Some(QueueSettings::default());
    let rig = Rig::grpc(settings);
    for _ in 0..30 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    rig.trigger.request();
    tokio::time::timeout(Duration::from_secs(20), rig.exporter.drain()).await.unwrap();
    settled(&rig.telemetry, 0, 30, 0);
    assert_eq!(dropped(&rig.telemetry, "shutdown"), 30);
}

#[tokio::test]
async fn the_promise_tells_what_ok_means() {
    let address = "127.0.0.1:4317".parse().unwrap();
    let promise = |settings: GrpcSettings| OtlpGrpc::new(settings, context()).promise();
    assert_eq!(promise(grpc_settings(address)), "OK means that 127.0.0.1:4317 has taken the data");
    let mut queued = grpc_settings(address);
    queued.exchange.queue = Some(QueueSettings::default());
    assert!(promise(queued).contains("waits in memory"));
    let mut direct = grpc_settings(address);
    direct.exchange.queue = None;
    assert!(promise(direct).contains("has taken the data"));
}
