//! TLS with a certificate authority made for the test.

use std::path::PathBuf;

use ::http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::super::tls::{Pem, Tls, TlsVersion};
use super::stub::Stub;
use super::*;
use crate::testing::settled;

/// An authority, and files that hold what a client needs of it.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }

    pub(super) fn identity(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue("a-client");
        (self.file("client.pem", &certificate), self.file("client.key", &key))
    }

    /// A server called `name`.
    pub(super) fn acceptor(
        &self,
        name: &str,
        alpn: &[&[u8]],
        demands_identity: bool,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
        let builder = if demands_identity {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(name);
        acceptor(builder, &certificate, &key, alpn)
    }
}

fn acceptor(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    certificate: &str,
    key: &str,
    alpn: &[&[u8]],
) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn files((certificate, key): (PathBuf, PathBuf)) -> (Pem, Pem) {
    (Pem::File(certificate), Pem::File(key))
}

const H2: &[&[u8]] = &[b"h2"];

async fn stub(is_grpc: bool, acceptor: TlsAcceptor) -> Stub {
    Stub::start(is_grpc, "127.0.0.1:0".parse().unwrap(), Some(acceptor), []).await
}

/// A server that speaks HTTP/1.1 and HTTP/2 over TLS, and what a client needs to trust it.
pub(super) async fn https_stub() -> (Stub, Arc<Tls>) {
    let authority = Authority::new();
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    let stub = stub(false, authority.acceptor("127.0.0.1", alpn, false, rustls::ALL_VERSIONS)).await;
    let ca = Some(Pem::Text(authority.issuer.pem().into()));
    (stub, named(&TlsSettings { ca, ..TlsSettings::default() }, "127.0.0.1", Protocol::Negotiated))
}

/// A gRPC server with TLS, and what a client needs to trust it.
pub(super) async fn grpc_stub() -> (Stub, Arc<Tls>) {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", &[b"h2"], false, rustls::ALL_VERSIONS)).await;
    let ca = Some(Pem::Text(authority.issuer.pem().into()));
    (stub, named(&TlsSettings { ca, ..TlsSettings::default() }, "127.0.0.1", Protocol::Http2))
}

/// A server that speaks HTTP/1.1 over TLS and answers by a script, and the certificate of its authority.
pub(super) async fn authority_and_stub(answers: impl IntoIterator<Item = super::stub::Answer>) -> (Stub, String) {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", &[b"http/1.1"], false, rustls::ALL_VERSIONS);
    let stub = Stub::start(false, "127.0.0.1:0".parse().unwrap(), Some(acceptor), answers).await;
    (stub, authority.issuer.pem())
}

fn secured(mut target: Target, tls: &TlsSettings) -> Target {
    let host = target.host.clone();
    target.tls = Some(named(tls, &host, target.protocol));
    target
}

fn named(tls: &TlsSettings, name: &str, protocol: Protocol) -> Arc<Tls> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Arc::new(Tls::new(tls.clone(), name, protocol.alpn()).unwrap())
}

/// Without retrying, so that what went wrong is seen.
fn grpc_rig(stub: &Stub, tls: &TlsSettings) -> Rig {
    let mut settings = grpc_settings(stub.address);
    settings.target = secured(settings.target, tls);
    settings.exchange.retry.enabled = false;
    Rig::grpc(settings)
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { reason, .. } => reason.into_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_trusted() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, false, rustls::ALL_VERSIONS)).await;
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    let rig = grpc_rig(&stub, &tls);
    assert_eq!(rig.export(2).await, Outcome::Done);
    assert_eq!(stub.only().version, Version::HTTP_2);
    settled(&rig.telemetry, 2, 0, 0);
}

#[tokio::test]
async fn a_server_may_show_the_very_certificate_that_was_given() {
    let (key, other) = (KeyPair::generate().unwrap(), Authority::new());
    // As `openssl req -x509` makes it: an authority's.
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap().pem();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let stub = stub(true, acceptor(builder.with_no_client_auth(), &own, &key.serialize_pem(), H2)).await;
        let trusting = |ca: String| TlsSettings { ca: Some(Pem::Text(ca.into())), ..TlsSettings::default() };
        assert_eq!(grpc_rig(&stub, &trusting(own.clone())).export(2).await, Outcome::Done);
        let text = reason(grpc_rig(&stub, &trusting(other.issuer.pem())).export(2).await);
        assert!(text.contains("CaUsedAsEndEntity"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, false, rustls::ALL_VERSIONS)).await;
    let wary = grpc_rig(&stub, &TlsSettings { ca: Some(Pem::File(other.ca_file())), ..TlsSettings::default() });
    let text = reason(wary.export(2).await);
    assert!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "{text}");
    settled(&wary.telemetry, 0, 2, 0);
    let trusting = grpc_rig(&stub, &TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() });
    assert_eq!(trusting.export(2).await, Outcome::Done);
    settled(&trusting.telemetry, 2, 0, 0);
}

#[tokio::test]
async fn the_certificate_must_have_the_expected_name() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("tempo.internal", H2, false, rustls::ALL_VERSIONS)).await;
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    let text = reason(grpc_rig(&stub, &tls).export(1).await);
    assert!(text.contains("not valid for name"), "{text}");
    let mut settings = grpc_settings(stub.address);
    settings.target.tls = Some(named(&tls, "tempo.internal", Protocol::Http2));
    assert_eq!(Rig::grpc(settings).export(1).await, Outcome::Done);
}

#[tokio::test]
async fn a_server_that_demands_an_identity_gets_it() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, true, rustls::ALL_VERSIONS)).await;
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    let anonymous = grpc_rig(&stub, &tls);
    reason(anonymous.export(1).await);
    settled(&anonymous.telemetry, 0, 1, 0);
    let known = grpc_rig(&stub, &TlsSettings { identity: Some(files(authority.identity())), ..tls });
    assert_eq!(known.export(1).await, Outcome::Done);
    settled(&known.telemetry, 1, 0, 0);
}

#[tokio::test]
async fn min_version_is_kept() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, false, &[&rustls::version::TLS12])).await;
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    assert_eq!(grpc_rig(&stub, &tls).export(1).await, Outcome::Done);
    let text = reason(grpc_rig(&stub, &TlsSettings { min_version: TlsVersion::V1_3, ..tls }).export(1).await);
    assert!(text.contains("TLS handshake"), "{text}");
}

#[tokio::test]
async fn max_version_is_kept() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, false, &[&rustls::version::TLS13])).await;
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    let old = TlsSettings { max_version: Some(TlsVersion::V1_2), ..tls.clone() };
    let text = reason(grpc_rig(&stub, &old).export(1).await);
    assert!(text.contains("TLS handshake"), "{text}");
    let new = TlsSettings { max_version: Some(TlsVersion::V1_3), ..tls };
    assert_eq!(grpc_rig(&stub, &new).export(1).await, Outcome::Done);
}

#[tokio::test]
async fn certificates_in_the_configuration_itself_do_too() {
    let authority = Authority::new();
    let stub = stub(true, authority.acceptor("127.0.0.1", H2, true, rustls::ALL_VERSIONS)).await;
    let (certificate, key) = authority.issue("a-client");
    let tls = TlsSettings {
        ca: Some(Pem::Text(authority.issuer.pem().into())),
        identity: Some((Pem::Text(certificate.into()), Pem::Text(key.into()))),
        ..TlsSettings::default()
    };
    assert_eq!(grpc_rig(&stub, &tls).export(1).await, Outcome::Done);
}

#[tokio::test]
async fn replaced_files_are_read_again_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let stub = stub(true, new.acceptor("127.0.0.1", H2, false, rustls::ALL_VERSIONS)).await;
    let ca_file = old.ca_file();
    let settings = |reload_interval| TlsSettings {
        ca: Some(Pem::File(ca_file.clone())),
        reload_interval,
        ..TlsSettings::default()
    };
    let fixed = grpc_rig(&stub, &settings(None));
    let watching = grpc_rig(&stub, &settings(Some(Duration::from_nanos(1))));
    reason(watching.export(1).await);
    std::fs::write(&ca_file, "").unwrap();
    reason(watching.export(1).await);
    std::fs::write(&ca_file, new.issuer.pem()).unwrap();
    assert_eq!(watching.export(1).await, Outcome::Done);
    reason(fixed.export(1).await);
}

#[tokio::test]
async fn http_speaks_the_version_that_tls_negotiates() {
    let authority = Authority::new();
    let offers: [(&[&[u8]], Version); 3] =
        [(&[b"h2", b"http/1.1"], Version::HTTP_2), (&[b"http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)];
    for (alpn, version) in offers {
        let stub = stub(false, authority.acceptor("127.0.0.1", alpn, false, rustls::ALL_VERSIONS)).await;
        let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
        let mut settings = http_settings(stub.address);
        let traces = settings.traces.take().unwrap();
        let uri = format!("https://{}/v1/traces", stub.address).parse().unwrap();
        settings.traces = Some(HttpTarget { target: secured(traces.target, &tls), uri });
        let rig = Rig::http(settings);
        for _ in 0..3 {
            assert_eq!(rig.export(1).await, Outcome::Done);
        }
        assert!(stub.arrived().iter().all(|a| a.version == version && a.path == "/v1/traces"));
        assert!(stub.arrived().iter().all(|a| a.authority == stub.address.to_string()));
        assert_eq!(stub.connections(), 1);
        settled(&rig.telemetry, 3, 0, 0);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let error = |tls: TlsSettings| tls.build(H2).map(|_| ()).map_err(|e| (e.key, e.message)).unwrap_err();
    let missing = authority.directory.path().join("missing.pem");
    let (key, message) = error(TlsSettings { ca: Some(Pem::File(missing.clone())), ..TlsSettings::default() });
    assert!(key == "ca_file" && message.contains("missing.pem"), "{key}: {message}");
    let empty = authority.file("empty.pem", "");
    assert_eq!(error(TlsSettings { ca: Some(Pem::File(empty)), ..TlsSettings::default() }).0, "ca_file");
    let (cert_file, key_file) = authority.identity();
    let unlike = authority.file("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let tls = TlsSettings { ca: Some(Pem::File(authority.ca_file())), ..TlsSettings::default() };
    let swapped = TlsSettings { identity: Some(files((key_file, missing.clone()))), ..tls.clone() };
    assert_eq!(error(swapped).0, "cert_file");
    assert_eq!(error(TlsSettings { identity: Some(files((cert_file.clone(), missing))), ..tls.clone() }).0, "key_file");
    assert_eq!(error(TlsSettings { identity: Some(files((cert_file, unlike))), ..tls }).0, "key_file");
}
