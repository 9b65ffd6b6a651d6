//! Weir's own metrics against servers that take, refuse and ignore them.

use bytes::Bytes;
use weir_pipeline::config::Node;
use weir_pipeline::telemetry::Push;

use super::stub::{Answer, Stub};
use super::tls::Authority;
use crate::otlp::OwnMetrics;

fn parse(yaml: &str) -> Result<OwnMetrics, String> {
    OwnMetrics::from_config(&Node::parse("weir.yaml", yaml).unwrap(), "otlp", None).map_err(|e| e.to_string())
}

async fn push(yaml: &str) -> Result<(), String> {
    parse(yaml).unwrap().push(Bytes::from_static(b"\x0a\x00")).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_request_is_posted_to_the_path_of_the_signal_or_to_that_of_the_url() {
    for (suffix, path) in [
        ("", "/v1/metrics"),
        ("/", "/v1/metrics"),
        ("/api/otlp/v1/metrics", "/api/otlp/v1/metrics"),
        ("/?token=x", "/?token=x"),
    ] {
        let stub = Stub::http([]).await;
        let to = stub.address;
        push(&format!("{{protocol: http/protobuf, endpoint: 'http://{to}{suffix}', headers: {{api-key: k}}}}"))
            .await
            .unwrap();
        let request = stub.only();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
        assert_eq!((request.header("content-type"), request.header("api-key")), ("application/x-protobuf", "k"));
        assert_eq!((request.header("content-encoding"), &request.body[..]), ("", &b"\x0a\x00"[..]));
    }
}

#[tokio::test]
async fn grpc_is_plain_where_the_scheme_or_insecure_says_so() {
    for endpoint in
        ["endpoint: 'http://{}'", "endpoint: '{}', insecure: true", "endpoint: '{}', insecure: true, compression: gzip"]
    {
        let stub = Stub::grpc([]).await;
        push(&format!("{{protocol: grpc, {}}}", endpoint.replace("{}", &stub.address.to_string()))).await.unwrap();
        let request = stub.only();
        assert_eq!(request.path, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
        let (is_compressed, message) = request.message();
        assert!(is_compressed == endpoint.contains("gzip") && (is_compressed || &message[..] == b"\x0a\x00"));
    }
    // Anything else is TLS, which this server does not speak.
    let stub = Stub::grpc([]).await;
    let error = push(&format!("{{protocol: grpc, endpoint: '{}'}}", stub.address)).await.unwrap_err();
    assert!(error.contains("TLS handshake"), "{error}");
    assert!(stub.arrived().is_empty());
}

#[tokio::test]
async fn certificates_are_those_that_are_configured() {
    for protocol in ["grpc", "http/protobuf"] {
        let authority = Authority::new();
        let alpn: &[&[u8]] = if protocol == "grpc" { &[b"h2"] } else { &[b"http/1.1"] };
        let acceptor = authority.acceptor("127.0.0.1", alpn, true, rustls::ALL_VERSIONS);
        let stub = Stub::start(protocol == "grpc", "127.0.0.1:0".parse().unwrap(), Some(acceptor), []).await;
        let (certificate, key) = authority.identity();
        let yaml = format!(
            "{{protocol: {protocol}, endpoint: 'https://{}', certificate: '{}'",
            stub.address,
            authority.ca_file().display()
        );
        push(&format!("{yaml}}}")).await.unwrap_err();
        let identity = format!("client_certificate: '{}', client_key: '{}'", certificate.display(), key.display());
        push(&format!("{yaml}, {identity}}}")).await.unwrap();
        assert_eq!(stub.arrived().len(), 1);
    }
}

#[tokio::test]
async fn what_is_not_taken_is_an_error_and_not_sent_again() {
    const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];
    let partial = b"\x0a\x06\x08\x02\x12\x02no";
    for (answer, error) in [
        (Answer::http(503, PROTOBUF, b""), "HTTP status 503 Service Unavailable"),
        (Answer::http(400, PROTOBUF, b""), "HTTP status 400 Bad Request"),
        (Answer::http(200, PROTOBUF, partial), "2 data points rejected: no"),
        (Answer::never(), "no answer within 500ms"),
    ] {
        let stub = Stub::http([answer]).await;
        let yaml = format!("{{protocol: http/protobuf, endpoint: 'http://{}', timeout: 500}}", stub.address);
        let refused = push(&yaml).await.unwrap_err();
        assert!(refused.contains(error), "{refused}");
        assert_eq!(stub.arrived().len(), 1);
    }
}

#[test]
fn what_is_wrong_is_said_and_where() {
    for (yaml, error) in [
        ("{endpoint: 'a:1'}", "weir.yaml:1:1: otlp: missing key `protocol`"),
        ("{protocol: grpc}", "weir.yaml:1:1: otlp: missing key `endpoint`"),
        ("{protocol: http/json, endpoint: 'a:1'}", "weir.yaml:1:12: otlp::protocol: unknown value `http/json`"),
        ("{protocol: grpc, endpoint: a}", "weir.yaml:1:28: otlp::endpoint: has no port"),
        ("{protocol: http/protobuf, endpoint: 'ftp://a:1'}", "weir.yaml:1:37: otlp::endpoint: "),
        ("{protocol: grpc, endpoint: 'a:1', timeout: 0}", "weir.yaml:1:44: otlp::timeout: must be positive"),
        ("{protocol: grpc, endpoint: 'a:1', certificate: /x}", "weir.yaml:1:48: otlp::certificate: cannot read /x: "),
        ("{protocol: grpc, endpoint: 'a:1', client_key: x}", "weir.yaml:1:47: otlp::client_key: needs a `client_cert"),
        ("{protocol: grpc, endpoint: 'a:1', client_certificate: x}", "weir.yaml:1:55: otlp::client_certificate: needs"),
        // Certificates mean TLS, whatever else is said.
        (
            "{protocol: grpc, endpoint: 'http://a:1', certificate: /x}",
            "weir.yaml:1:55: otlp::certificate: cannot read /x",
        ),
        (
            "{protocol: grpc, endpoint: 'a:1', insecure: true, certificate: /x}",
            "weir.yaml:1:64: otlp::certificate: cannot",
        ),
        ("{protocol: grpc, endpoint: 'a:1', headers: {te: x}}", "weir.yaml:1:49: otlp::headers::te: cannot be set"),
        (
            "{protocol: grpc, endpoint: 'a:1', temporality_preference: lowMemory}",
            "weir.yaml:1:59: otlp::temporality_preference: unknown value `lowMemory`: did you mean `lowmemory`?",
        ),
    ] {
        let refused = parse(yaml).unwrap_err();
        assert!(refused.starts_with(error), "{refused}\nis not\n{error}");
    }
    for (written, address) in [
        ("endpoint: 'a:1', insecure: true", "a:1"),
        ("endpoint: 'http://a', insecure: true", "a:80"),
        ("endpoint: a", "a:443"),
    ] {
        let metrics = parse(&format!("{{protocol: http/protobuf, {written}}}")).unwrap();
        assert_eq!(weir_pipeline::telemetry::Push::address(&metrics), address);
    }
    let shown = format!("{:?}", parse("{protocol: grpc, endpoint: 'a:1', headers: {k: secret}}").unwrap());
    assert!(shown.contains("a:1") && !shown.contains("secret"), "{shown}");
}
