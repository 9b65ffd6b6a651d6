//! TLS of a client.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion, version};

/// `tls`, validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsSettings {
    /// Accept whatever certificate the server shows.
    pub(super) insecure_skip_verify: bool,
    /// Roots to trust instead of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Trust the system's roots beside `ca_file`.
    pub(super) include_system_ca_certs_pool: bool,
    /// What to show to a server that asks: certificate chain and private key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The oldest version to speak.
    pub(super) min_version: TlsVersion,
}

/// A version of TLS that is still safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
pub(super) enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2", alias = "")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Why TLS cannot be set up. `key` is the setting under `tls` that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct TlsError {
    pub(super) key: &'static str,
    pub(super) message: String,
}

impl TlsSettings {
    /// Reads the files and makes the configuration that offers these application protocols.
    pub(super) fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        // Given explicitly: the process default depends on which crates happen to be linked.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|e| TlsError { key: "min_version", message: e.to_string() })?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone::new(&provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                let chain = certificates("cert_file", cert_file)?;
                let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| unreadable("key_file", key_file, e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| TlsError {
                    key: "key_file",
                    message: format!("the private key does not go with the certificate: {e}"),
                })?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            for certificate in certificates("ca_file", file)? {
                roots.add(certificate).map_err(|e| unreadable("ca_file", file, e))?;
            }
        }
        if self.ca_file.is_none() || self.include_system_ca_certs_pool {
            let native = rustls_native_certs::load_native_certs();
            // System stores hold certificates that webpki cannot read; the others still count.
            roots.add_parsable_certificates(native.certs);
        }
        if roots.is_empty() {
            let message = "the system has no root certificates: install them, or set ca_file".to_owned();
            return Err(TlsError { key: "ca_file", message });
        }
        Ok(roots)
    }
}

fn certificates(key: &'static str, file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| unreadable(key, file, e))?;
    if certificates.is_empty() {
        return Err(unreadable(key, file, "it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn unreadable(key: &'static str, file: &std::path::Path, error: impl std::fmt::Display) -> TlsError {
    TlsError { key, message: format!("cannot read {}: {error}", file.display()) }
}

/// `insecure_skip_verify`: the connection is encrypted, but with whom nobody knows.
#[derive(Debug)]
struct TrustAnyone(WebPkiSupportedAlgorithms);

impl TrustAnyone {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
