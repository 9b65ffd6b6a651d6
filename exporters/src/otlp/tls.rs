//! TLS of a client.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::time::Instant;
use weir_pipeline::config::Secret;

use super::trust::{TrustAnyone, TrustGiven};

/// `tls`, validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsSettings {
    /// Accept whatever certificate the server shows.
    pub(super) insecure_skip_verify: bool,
    /// Roots to trust instead of the system's.
    pub(super) ca: Option<Pem>,
    /// Trust the system's roots beside `ca`.
    pub(super) include_system_ca_certs_pool: bool,
    /// What to show to a server that asks: certificate chain and private key.
    pub(super) identity: Option<(Pem, Pem)>,
    /// The oldest version to speak.
    pub(super) min_version: TlsVersion,
    /// The newest version to speak; `None`: the newest there is.
    pub(super) max_version: Option<TlsVersion>,
    /// After this time the files are read again for new connections; `None`: never.
    pub(super) reload_interval: Option<Duration>,
}

/// Where something in PEM format is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pem {
    File(PathBuf),
    /// In the configuration itself.
    Text(Secret),
}

impl Pem {
    /// Name of the setting, and how to speak of it.
    fn described(&self, file: &'static str, text: &'static str) -> (&'static str, String) {
        match self {
            Self::File(path) => (file, path.display().to_string()),
            Self::Text(_) => (text, "it".to_owned()),
        }
    }
}

/// A version of TLS that is still safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema)]
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
    /// Whether it is for the lack of a file.
    pub(super) is_missing: bool,
}

impl TlsError {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into(), is_missing: false }
    }

    fn unreadable(key: &'static str, what: &str, error: &pem::Error) -> Self {
        match error {
            // Of files and directories, not of what is in them.
            pem::Error::Io(error) => {
                Self { is_missing: true, ..Self::new(key, format!("cannot read {what}: {error}")) }
            }
            error => Self::new(key, format!("cannot read {what}: {error}")),
        }
    }
}

impl TlsSettings {
    /// Reads the files and makes the configuration that offers these application protocols.
    pub(super) fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        // Given explicitly: the process default depends on which crates happen to be linked.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match (self.min_version, self.max_version) {
            (TlsVersion::V1_2, None | Some(TlsVersion::V1_3)) => &[&version::TLS13, &version::TLS12],
            (TlsVersion::V1_2, Some(TlsVersion::V1_2)) => &[&version::TLS12],
            (TlsVersion::V1_3, None | Some(TlsVersion::V1_3)) => &[&version::TLS13],
            (TlsVersion::V1_3, Some(TlsVersion::V1_2)) => {
                return Err(TlsError::new("max_version", "must not be less than `min_version`"));
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|e| TlsError::new("min_version", e.to_string()))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(self.verifier(&provider)?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, certificate.described("cert_file", "cert_pem"))?;
                let (key, read) = private_key(key)?;
                builder
                    .with_client_auth_cert(chain, read)
                    .map_err(|e| TlsError::new(key, format!("the private key does not go with the certificate: {e}")))?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// All that is wrong with it, each file for itself: one that is missing hides no other.
    pub(super) fn problems(&self, alpn: &[&[u8]]) -> Vec<TlsError> {
        let roots = self.ca.as_ref().map(|ca| certificates(ca, ca.described("ca_file", "ca_pem")).map(drop));
        let identity = self.identity.as_ref().map(|(certificate, key)| {
            let chain = certificates(certificate, certificate.described("cert_file", "cert_pem"));
            [chain.map(drop), private_key(key).map(drop)]
        });
        let problems: Vec<_> =
            roots.into_iter().chain(identity.into_iter().flatten()).filter_map(Result::err).collect();
        // Whether they go together is only seen when all are there.
        if problems.is_empty() { self.build(alpn).err().into_iter().collect() } else { problems }
    }

    /// What judges the server's certificate.
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.insecure_skip_verify {
            return Ok(Arc::new(TrustAnyone::new(provider)));
        }
        let (key, what) = self.ca.as_ref().map_or(("ca_file", String::new()), |ca| ca.described("ca_file", "ca_pem"));
        let given = match &self.ca {
            Some(ca) => certificates(ca, (key, what.clone()))?,
            None => Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|e| TlsError::new(key, format!("cannot read {what}: {e}")))?;
        }
        if self.ca.is_none() || self.include_system_ca_certs_pool {
            let native = rustls_native_certs::load_native_certs();
            // System stores hold certificates that webpki cannot read; the others still count.
            roots.add_parsable_certificates(native.certs);
        }
        if roots.is_empty() {
            let message = "the system has no root certificates: install them, or name a file of yours here";
            return Err(TlsError { is_missing: true, ..TlsError::new("ca_file", message) });
        }
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let webpki = webpki.map_err(|e| TlsError::new(key, e.to_string()))?;
        Ok(Arc::new(TrustGiven::new(given, webpki)))
    }
}

/// A private key, and the setting that it is from.
fn private_key(pem: &Pem) -> Result<(&'static str, PrivateKeyDer<'static>), TlsError> {
    let (key, what) = pem.described("key_file", "key_pem");
    let read = match pem {
        Pem::File(path) => PrivateKeyDer::from_pem_file(path),
        Pem::Text(text) => PrivateKeyDer::from_pem_slice(text.expose().as_bytes()),
    };
    read.map(|read| (key, read)).map_err(|e| TlsError::unreadable(key, &what, &e))
}

fn certificates(pem: &Pem, (key, what): (&'static str, String)) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = match pem {
        Pem::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
        Pem::Text(text) => CertificateDer::pem_slice_iter(text.expose().as_bytes()).collect(),
    };
    let certificates = read.map_err(|e| TlsError::unreadable(key, &what, &e))?;
    if certificates.is_empty() {
        return Err(TlsError::new(key, format!("cannot read {what}: it holds no PEM certificate")));
    }
    Ok(certificates)
}

/// TLS towards one server, with files that may be replaced while the process runs.
#[derive(Debug)]
pub(super) struct Tls {
    /// Who the server must prove to be.
    pub(super) name: ServerName<'static>,
    settings: TlsSettings,
    alpn: &'static [&'static [u8]],
    /// What is used, and since when.
    current: Mutex<(Arc<ClientConfig>, Instant)>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn new(
        settings: TlsSettings,
        name: ServerName<'static>,
        alpn: &'static [&'static [u8]],
    ) -> Result<Self, TlsError> {
        let current = Mutex::new((settings.build(alpn)?, Instant::now()));
        Ok(Self { name, settings, alpn, current })
    }

    /// What the next connection is to use. Files that cannot be read, while they are being replaced for instance, leave
    /// it as it was.
    pub(super) async fn config(&self) -> Arc<ClientConfig> {
        let (config, is_due) = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = self.settings.reload_interval.is_some_and(|interval| current.1.elapsed() >= interval);
            if is_due {
                current.1 = Instant::now();
            }
            (Arc::clone(&current.0), is_due)
        };
        if !is_due {
            return config;
        }
        let (settings, alpn) = (self.settings.clone(), self.alpn);
        match tokio::task::spawn_blocking(move || settings.build(alpn)).await {
            Ok(Ok(fresh)) => {
                self.current.lock().unwrap_or_else(PoisonError::into_inner).0 = Arc::clone(&fresh);
                fresh
            }
            Ok(Err(error)) => {
                tracing::warn!(setting = error.key, "keeping the TLS files that were read before: {error}");
                config
            }
            Err(_) => config,
        }
    }
}
