//! The server side of TLS, and its certificates, which are replaced while it runs.
//!
//! Decision: files are read by a task of the receiver, never within a handshake: a slow disk holds up no client. A new
//! certificate counts for connections from then on. Files that cannot be used change nothing and are warned of, once
//! until they change again: a server with yesterday's certificate is better than none.

mod config;
mod refused;
#[cfg(test)]
mod tests;
mod trust;

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use weir_pipeline::node::Shutdown;

use self::config::Source;
pub(super) use self::config::TlsConfig;
pub use self::config::TlsSettings;
use self::refused::Refused;
use self::trust::TrustGiven;

/// How often a `client_ca_file` is looked at when `reload_interval` does not say.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Longest PEM file, which no certificate chain or list of authorities comes near.
const MAX_FILE: u64 = 4 << 20;

/// Why TLS cannot be set up. `key` is the setting under `tls` that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct TlsError {
    pub(super) key: &'static str,
    message: String,
}

/// The TLS of a port.
pub(super) struct Tls {
    settings: TlsSettings,
    current: RwLock<Current>,
    refused: Refused,
}

struct Current {
    files: Files,
    server: Arc<ServerConfig>,
}

/// PEM texts as they were read.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let files = Files {
            certificate: settings.certificate.read("cert_file")?,
            key: settings.key.read("key_file")?,
            client_ca: settings.client_ca_file.as_deref().map(|file| read("client_ca_file", file)).transpose()?,
        };
        let server = Arc::new(build(&settings, &files)?);
        Ok(Self { settings, current: RwLock::new(Current { files, server }), refused: Refused::default() })
    }

    /// What accepts the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.server))
    }

    /// Tells the operator of a handshake that failed, if it is the first of its kind.
    pub(super) fn note_refused(&self, transport: &'static str, error: &io::Error) {
        self.refused.note(transport, error);
    }

    /// Follows the files until the shutdown, if it is asked to.
    pub(super) async fn follow(self: Arc<Self>, mut shutdown: Shutdown) {
        let TlsSettings { reload_interval, reload_client_ca, .. } = self.settings;
        let Some(interval) = reload_interval.or(reload_client_ca.then_some(LOOK_EVERY)) else { return };
        let mut last_error = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.requested() => return,
            }
            let this = Arc::clone(&self);
            // It only fails when the runtime is going away.
            let Ok(reloaded) = tokio::task::spawn_blocking(move || this.reload()).await else { return };
            match reloaded {
                Ok(changed) => {
                    last_error = None;
                    if changed {
                        tracing::info!("TLS certificates reloaded");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if last_error.as_ref() != Some(&error) {
                        tracing::warn!("TLS certificates are not reloaded, the former ones stay in use: {error}");
                        last_error = Some(error);
                    }
                }
            }
        }
    }

    /// Reads again what is to be followed; whether something changed.
    fn reload(&self) -> Result<bool, TlsError> {
        let TlsSettings { certificate, key, client_ca_file, reload_interval, reload_client_ca, .. } = &self.settings;
        let mut files = self.current.read().unwrap_or_else(PoisonError::into_inner).files.clone();
        if reload_interval.is_some() {
            files.certificate = certificate.read("cert_file")?;
            files.key = key.read("key_file")?;
        }
        if let (Some(file), true) = (client_ca_file, reload_client_ca) {
            files.client_ca = Some(read("client_ca_file", file)?);
        }
        if self.current.read().unwrap_or_else(PoisonError::into_inner).files == files {
            return Ok(false);
        }
        let server = Arc::new(build(&self.settings, &files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { files, server };
        Ok(true)
    }
}

/// Keys are not shown.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Source {
    fn read(&self, key: &'static str) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::File(path) => read(key, path),
            Self::Text(text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }

    /// What it is called in an error about the setting `[file, text]`.
    fn describe(&self, keys: [&'static str; 2]) -> (&'static str, String) {
        match self {
            Self::File(path) => (keys[0], format!("{} {}", keys[0], path.display())),
            Self::Text(_) => (keys[1], keys[1].to_owned()),
        }
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error: io::Error| TlsError { key, message: format!("cannot read {key} {}: {error}", path.display()) };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("it is larger than 4 MiB")));
    }
    Ok(text)
}

/// HTTP/2 is preferred.
fn build(settings: &TlsSettings, files: &Files) -> Result<ServerConfig, TlsError> {
    let (key, name) = settings.certificate.describe(["cert_file", "cert_pem"]);
    let chain = certificates(key, &name, &files.certificate)?;
    let (key, name) = settings.key.describe(["key_file", "key_pem"]);
    // The library's errors can quote what they could not read.
    let private_key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|_| TlsError { key, message: format!("{name} holds no PEM private key") })?;
    let unusable = |error: rustls::Error| TlsError {
        key,
        message: format!("certificate and key do not make a TLS server: {error}"),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&settings.provider));
    let builder = builder.with_protocol_versions(&settings.versions).map_err(unusable)?;
    let builder = match (&settings.client_ca_file, &files.client_ca) {
        (Some(path), Some(client_ca)) => builder.with_client_cert_verifier(verifier(settings, path, client_ca)?),
        _ => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, private_key).map_err(unusable)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

fn verifier(
    settings: &TlsSettings,
    path: &Path,
    client_ca: &[u8],
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let key = "client_ca_file";
    let name = format!("{key} {}", path.display());
    let failed = |error: &dyn std::fmt::Display| TlsError { key, message: format!("{name} cannot be used: {error}") };
    let given = certificates(key, &name, client_ca)?;
    let mut roots = RootCertStore::empty();
    for authority in &given {
        roots.add(authority.clone()).map_err(|error| failed(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&settings.provider));
    let webpki = builder.build().map_err(|error| failed(&error))?;
    Ok(Arc::new(TrustGiven::new(given, webpki)))
}

fn certificates(key: &'static str, name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError { key, message: format!("{name} holds no PEM certificate") }),
        Err(error) => Err(TlsError { key, message: format!("{name} is broken: {error}") }),
    }
}
