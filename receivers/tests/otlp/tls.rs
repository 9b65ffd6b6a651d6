//! TLS, with and without client certificates.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::node::{Context, Receiver};
use weir_pipeline::telemetry::Telemetry;
use weir_receivers::otlp::OtlpReceiver;

use crate::support::*;

struct Pki {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { directory: tempfile::tempdir().unwrap(), issuer };
        pki.write("ca.pem", &pki.issuer.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            pki.write(&format!("{name}.pem"), &params.signed_by(&key, &pki.issuer).unwrap().pem());
            pki.write(&format!("{name}.key"), &key.serialize_pem());
        }
        pki
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// The section of a server, with further keys.
    fn section(&self, more: &str) -> String {
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        format!("tls: {{cert_file: '{}', key_file: '{}', {more}}},", cert.display(), key.display())
    }

    /// Both ports with TLS.
    fn options(&self, more: &str) -> Options {
        Options { grpc: self.section(more), http: self.section(more), ..Options::default() }
    }

    fn client_ca(&self) -> String {
        format!("client_ca_file: '{}', ", self.path("ca.pem").display())
    }

    async fn connect(
        &self,
        to: std::net::SocketAddr,
        alpn: &[u8],
        certificate: bool,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let read = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read(&self.path("ca.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = if certificate {
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).unwrap();
            builder.with_client_auth_cert(vec![read(&self.path("client.pem"))], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(to).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

async fn export_over_grpc(stream: TlsStream<TcpStream>) -> Result<u8, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = call(EXPORT_TRACES).body(Full::<Bytes>::new(framed(0, &traces(2)).into())).unwrap();
    Ok(Reply::read(sender.send_request(request).await?).await.grpc_status().0)
}

#[tokio::test]
async fn both_transports() {
    let pki = Pki::new();
    let mut server = Server::start(pki.options("")).await;
    let stream = pki.connect(server.grpc, b"h2", false).await.unwrap();
    assert_eq!(export_over_grpc(stream).await.unwrap(), 0);
    server.taken().await;
    let stream = pki.connect(server.http, b"http/1.1", false).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = post(TRACES, PROTOBUF).body(Full::<Bytes>::new(traces(1).into())).unwrap();
    assert_eq!(Reply::read(sender.send_request(request).await.unwrap()).await.status, StatusCode::OK);
    server.taken().await;
    drop(sender);
    server.stop().await;
}

#[tokio::test]
async fn clients_need_a_certificate_where_one_is_asked_for() {
    let pki = Pki::new();
    let mut server = Server::start(pki.options(&pki.client_ca())).await;
    let stream = pki.connect(server.grpc, b"h2", true).await.unwrap();
    assert_eq!(export_over_grpc(stream).await.unwrap(), 0);
    server.taken().await;
    // With TLS 1.3 the client learns of the refusal at its first exchange.
    let refused = match pki.connect(server.grpc, b"h2", false).await {
        Ok(stream) => export_over_grpc(stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused && server.is_quiet());
    server.stop().await;
}

/// Whether a client with this certificate, or none, gets an answer.
async fn is_served(server: &Server, pki: &Pki, certificate: bool) -> bool {
    match pki.connect(server.grpc, b"h2", certificate).await {
        Ok(stream) => export_over_grpc(stream).await.is_ok_and(|code| code == 0),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_client_may_show_the_very_certificate_that_was_given() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = Server::start(pki.options(&pki.client_ca())).await;
    for pki in [&pki, &other] {
        pki.write("client.pem", &pki.issuer.pem());
        pki.write("client.key", &pki.issuer.key().serialize_pem());
    }
    other.write("ca.pem", &pki.issuer.pem());
    assert!(is_served(&server, &pki, true).await);
    assert!(!is_served(&server, &other, true).await, "another authority's");
    server.stop().await;
}

#[tokio::test]
async fn new_certificates_are_taken_while_it_runs() {
    let (pki, other) = (Pki::new(), Pki::new());
    let more = format!("reload_interval: 10ms, client_ca_file_reload: true, {}", pki.client_ca());
    let server = Server::start(pki.options(&more)).await;
    assert!(is_served(&server, &pki, true).await && !is_served(&server, &other, true).await);
    // Half of a change is no usable pair: the old one stays in use meanwhile.
    pki.write("server.pem", &std::fs::read_to_string(other.path("server.pem")).unwrap());
    assert!(is_served(&server, &pki, true).await);
    for file in ["server.key", "ca.pem"] {
        pki.write(file, &std::fs::read_to_string(other.path(file)).unwrap());
    }
    let reloaded = async {
        while !is_served(&server, &other, true).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), reloaded).await.unwrap();
    assert!(!is_served(&server, &other, false).await, "a certificate is still asked for");
    server.stop().await;
}

#[tokio::test]
async fn texts_in_place_of_files_and_a_version() {
    let pki = Pki::new();
    let text = |name: &str| serde_json::to_string(&std::fs::read_to_string(pki.path(name)).unwrap()).unwrap();
    let (cert, key) = (text("server.pem"), text("server.key"));
    for (versions, alpn) in [("min_version: '1.3'", b"h2"), ("max_version: '1.2'", b"h2")] {
        let keys = format!("tls: {{cert_pem: {cert}, key_pem: {key}, {versions}}},");
        let server = Server::start(Options { grpc: keys, ..Options::default() }).await;
        let stream = pki.connect(server.grpc, alpn, false).await.unwrap();
        let version = stream.get_ref().1.protocol_version();
        assert_eq!(version == Some(ProtocolVersion::TLSv1_3), versions.starts_with("min"), "{version:?}");
        assert_eq!(export_over_grpc(stream).await.unwrap(), 0);
        server.stop().await;
    }
}

#[tokio::test]
async fn unusable_files_stop_the_start() {
    let pki = Pki::new();
    pki.write("empty.pem", "");
    for (cert, key, want, about) in [
        ("missing.pem", "server.key", "otlp: cannot read cert_file ", "cert_file"),
        ("empty.pem", "server.key", "otlp: cert_file ", "cert_file"),
        ("server.pem", "empty.pem", "otlp: key_file ", "key_file"),
        ("server.pem", "client.key", "otlp: certificate and key do not make a TLS server: ", "key_file"),
    ] {
        let yaml = format!(
            "protocols: {{http: {{endpoint: '127.0.0.1:0', tls: {{cert_file: '{}', key_file: '{}'}}}}}}",
            pki.path(cert).display(),
            pki.path(key).display()
        );
        let node = Node::parse("weir.yaml", &yaml).unwrap();
        let context = Context::new("otlp", Telemetry::default(), Environment::with(|| 1, 1));
        let receiver = OtlpReceiver::from_config(&node, "receivers::otlp", context).unwrap();
        let error = receiver.bind(1).unwrap_err().to_string();
        let path = format!("(receivers::otlp::protocols::http::tls::{about})");
        assert!(error.starts_with(want) && error.ends_with(&path), "{error}");
    }
}
