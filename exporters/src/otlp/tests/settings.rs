//! What single settings change about requests and connections.

use weir_pipeline::batch::Batch;
use weir_pipeline::config::Node;
use weir_pipeline::extension::{Extension, Extensions, HeaderEdit, OutgoingHeaders};
use weir_pipeline::metadata::Metadata;
use weir_pipeline::receipt::Receipt;

use super::super::client::{Client, Template};
use super::stub::{Answer, Stub};
use super::*;
use crate::testing::{dropped, request, settled};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Sets a token, counted up with each request, and passes on the tenant.
#[derive(Default)]
struct Tokens(std::sync::atomic::AtomicUsize);

impl OutgoingHeaders for Tokens {
    fn edits(&self, metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // It is asked twice in the first attempt, the second time without the client's data.
        if count < 2 {
            return Err("the token file is empty".to_owned());
        }
        let tenant = metadata.and_then(|m| m.first("x-tenant")).unwrap_or("nobody");
        Ok(vec![
            HeaderEdit::Upsert("Authorization".to_owned(), format!("Bearer {count}").into()),
            HeaderEdit::Insert("X-Scope-OrgID".to_owned(), tenant.into()),
        ])
    }
}

impl Extension for Tokens {
    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        Some(self)
    }
}

fn of_tenant(tenant: &str) -> (Batch, weir_pipeline::receipt::Waiter) {
    let (receipt, waiter) = Receipt::pair();
    let data = Batch::decode(Signal::Traces, request(1, 1)).unwrap().with_receipt(receipt);
    (data.with_metadata(Arc::new(Metadata::new([("x-tenant", tenant)]))), waiter)
}

#[tokio::test]
async fn an_authenticator_is_asked_for_each_attempt_and_knows_the_client() {
    let unavailable = Answer::grpc_error(&[("grpc-status", "14"), ("grpc-message", "")]);
    let (grpc, http) = (Stub::grpc([unavailable]).await, Stub::http([Answer::http(503, &[], b"")]).await);
    let common = "auth: {authenticator: tokens}, headers: {authorization: old}, \
                  sending_queue: {wait_for_result: true}, \
                  retry_on_failure: {initial_interval: 1ms, randomization_factor: 0}";
    for (is_grpc, stub) in [(true, &grpc), (false, &http)] {
        let mut context = context();
        let id = "tokens".parse().unwrap();
        context.extensions = Extensions::new(vec![(id, Arc::new(Tokens::default()) as Arc<dyn Extension>)]);
        let telemetry = context.telemetry.clone();
        let rig = if is_grpc {
            let yaml = format!("{{endpoint: '{}', tls: {{insecure: true}}, {common}}}", stub.address);
            let node = Node::parse("weir.yaml", &yaml).unwrap();
            Rig::of(&OtlpGrpc::from_config(&node, "exporters::x", &context).unwrap(), telemetry)
        } else {
            let yaml = format!("{{endpoint: 'http://{}', {common}}}", stub.address);
            let node = Node::parse("weir.yaml", &yaml).unwrap();
            Rig::of(&OtlpHttp::from_config(&node, "exporters::x", &[], &context).unwrap(), telemetry)
        };
        let (data, waiter) = of_tenant("acme");
        rig.exporter.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
        let sent: Vec<_> = stub.arrived();
        let tokens: Vec<_> = sent.iter().map(|a| a.header("authorization")).collect();
        assert_eq!(tokens, ["Bearer 2", "Bearer 3"], "without a token nothing is sent");
        assert!(sent.iter().all(|a| a.header("x-scope-orgid") == "acme"));
        settled(&rig.telemetry, 1, 0, 0);
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_not_tried_again_and_again() {
    struct Echo;
    impl OutgoingHeaders for Echo {
        fn edits(&self, _: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
            Ok(vec![HeaderEdit::Upsert("x".to_owned(), "a\nb".into())])
        }
    }
    let stub = Stub::http([]).await;
    let mut settings = http_settings(stub.address);
    settings.exchange.auth = Some(super::super::headers::Auth(Arc::new(Echo)));
    let rig = Rig::http(settings);
    assert!(matches!(rig.export(2).await, Outcome::Rejected(_)));
    assert!(stub.arrived().is_empty());
    settled(&rig.telemetry, 0, 2, 0);
}

#[tokio::test]
async fn what_a_client_said_wrongly_is_not_tried_again_and_again() {
    struct Choosy;
    impl OutgoingHeaders for Choosy {
        fn edits(&self, metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
            match metadata.and_then(|metadata| metadata.first("x-tenant")) {
                Some("two") => Err("the client sent the header x-tenant more than once".to_owned()),
                _ => Ok(Vec::new()),
            }
        }
    }
    let stub = Stub::http([]).await;
    let mut settings = http_settings(stub.address);
    settings.exchange.auth = Some(super::super::headers::Auth(Arc::new(Choosy)));
    let rig = Rig::http(settings);
    let outcome = async |tenant: &str| {
        let (data, waiter) = of_tenant(tenant);
        rig.exporter.consume(data).await;
        waiter.await
    };
    let Outcome::Rejected(reason) = outcome("two").await else { panic!("it never gets better") };
    assert!(reason.contains("more than once"), "{reason}");
    assert_eq!(outcome("one").await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 1);
    settled(&rig.telemetry, 1, 1, 0);
    assert_eq!(dropped(&rig.telemetry, "permanent_error"), 1);
}

#[tokio::test]
async fn json_is_sent_and_understood() {
    let partial = br#"{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}"#;
    let stub = Stub::http([
        Answer::http(200, &[JSON], b"{}"),
        Answer::http(200, &[JSON], partial),
        Answer::http(400, &[JSON], br#"{"code": 3, "message": "bad id"}"#),
        Answer::http(400, &[JSON], br#"{"error": "your prompt was: secret", "message": "secret"}"#),
    ])
    .await;
    let mut settings = http_settings(stub.address);
    settings.encoding = Encoding::Json;
    let rig = Rig::http(settings);
    assert_eq!(rig.export(5).await, Outcome::Done);
    let arrived = stub.only();
    assert_eq!(arrived.header("content-type"), "application/json");
    let limits = weir_pipeline::otlp::json::Limits::default();
    let traces = weir_pipeline::batch::message_of(Signal::Traces);
    let protobuf = weir_pipeline::otlp::json::to_protobuf(traces, &arrived.body, limits).unwrap();
    assert_eq!(protobuf, request(5, 10));

    assert_eq!(rig.export(5).await, Outcome::Done);
    settled(&rig.telemetry, 8, 2, 0);
    assert_eq!(dropped(&rig.telemetry, "partial_success"), 2);
    assert_eq!(rig.export(1).await, Outcome::Rejected("HTTP status 400 Bad Request: bad id".into()));
    assert_eq!(rig.export(1).await, Outcome::Rejected("HTTP status 400 Bad Request".into()));
}

#[tokio::test]
async fn grpc_means_framed_snappy() {
    let stub = Stub::grpc([]).await;
    let mut settings = grpc_settings(stub.address);
    settings.exchange.compression = Compression::Snappy;
    let rig = Rig::grpc(settings);
    assert_eq!(rig.export(50).await, Outcome::Done);
    let (is_compressed, packed) = stub.only().message();
    assert!(is_compressed && stub.only().header("grpc-encoding") == "snappy");
    let unpacked = super::super::compress::decompress(b"snappy", &packed, 1 << 20);
    assert_eq!(unpacked, Some(request(50, 10)));
}

#[tokio::test]
async fn without_keep_alives_each_request_has_its_connection() {
    let stub = Stub::http([]).await;
    let mut settings = http_settings(stub.address);
    settings.traces.as_mut().unwrap().target.is_kept_alive = false;
    let rig = Rig::http(settings);
    for _ in 0..3 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!(stub.connections(), 3);
    assert!(stub.arrived().iter().all(|a| a.header("connection") == "close"));
}

/// A client without headers.
fn client(to: Target) -> Client {
    let uri: ::http::Uri = format!("http://{}:{}/", to.host, to.port).parse().unwrap();
    Client::new(to, Template { http1: (uri.clone(), HeaderMap::new()), http2: (uri, HeaderMap::new()) })
}

#[tokio::test]
async fn as_many_idle_connections_are_kept_as_may_be() {
    for (max_idle, kept) in [(None, 3), (Some(2), 2)] {
        let stub = Stub::http([]).await;
        let client = client(Target { max_idle, ..target(stub.address, Protocol::Negotiated) });
        let body = super::super::body::Payload::plain(bytes::Bytes::from_static(b"x").into());
        // Each has its connection while none has been read.
        let mut responses = Vec::new();
        for _ in 0..3 {
            responses.push(client.send(&body, &[], &mut None).await.unwrap());
        }
        for response in responses {
            client.read(response, 1 << 10, None).await;
        }
        assert_eq!((client.idle(), stub.connections()), (kept, 3));
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    for is_grpc in [false, true] {
        let stub = if is_grpc { Stub::grpc([]).await } else { Stub::http([]).await };
        let protocol = if is_grpc { Protocol::Http2 } else { Protocol::Negotiated };
        let mut to = target(stub.address, protocol);
        to.idle_timeout = Some(Duration::from_millis(20));
        let client = client(to);
        let body = super::super::body::Payload::plain(bytes::Bytes::from_static(b"x").into());
        let post = async || {
            let response = client.send(&body, &[], &mut None).await.unwrap();
            client.read(response, 1 << 10, None).await;
        };
        post().await;
        tokio::time::timeout(Duration::from_secs(20), stub.until_closed(1)).await.unwrap();
        assert_eq!(client.idle(), 0);
        post().await;
        assert_eq!(stub.connections(), 2);
    }
}

#[tokio::test]
async fn wait_for_ready_waits_for_a_server_that_comes_up() {
    let stub = Stub::grpc([]).await;
    let address = stub.address;
    drop(stub);
    tokio::task::yield_now().await;
    let mut settings = grpc_settings(address);
    settings.exchange.waits_for_ready = true;
    settings.exchange.retry.enabled = false;
    let rig = Rig::grpc(settings.clone());
    let (data, mut waiter) = batch(2);
    rig.exporter.consume(data).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiter).await.is_err());
    let stub = Stub::start(true, address, None, []).await;
    assert_eq!(waiter.await, Outcome::Done);
    settled(&rig.telemetry, 2, 0, 0);

    drop(stub);
    tokio::task::yield_now().await;
    settings.exchange.timeout = Some(Duration::from_millis(100));
    let Outcome::Retry { reason, .. } = Rig::grpc(settings).export(1).await else { panic!("nobody is there") };
    assert!(reason.contains("no answer within 100ms: cannot connect to"), "{reason}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otlp.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let stub = Stub::grpc([]).await;
    let to = stub.address;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await.is_ok() });
        }
    });
    let yaml = format!(
        "{{endpoint: 'unix://{}', tls: {{insecure: true}}, sending_queue: {{enabled: false}}}}",
        path.display()
    );
    let node = Node::parse("weir.yaml", &yaml).unwrap();
    let context = context();
    let telemetry = context.telemetry.clone();
    let factory = OtlpGrpc::from_config(&node, "exporters::x", &context).unwrap();
    assert!(factory.promise().contains(&format!("unix:{}", path.display())), "{}", factory.promise());
    let rig = Rig::of(&factory, telemetry);
    for _ in 0..2 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!((stub.arrived().len(), stub.connections()), (2, 1));
    assert!(stub.arrived().iter().all(|arrived| arrived.authority == "localhost"));

    // Nobody listens on this one.
    let mut settings = grpc_settings(stub.address);
    (settings.target.socket, settings.exchange.retry.enabled) = (Some(folder.path().join("none.sock")), false);
    let Outcome::Retry { reason, .. } = Rig::grpc(settings).export(1).await else { panic!("there is no such socket") };
    assert!(reason.contains("none.sock") && reason.contains("No such file"), "{reason}");
}
