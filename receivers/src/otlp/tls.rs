//! The server side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;

/// Why a TLS section cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("cannot read {key} {path}: {error}")]
    File { key: &'static str, path: PathBuf, error: pem::Error },
    #[error("{key} {path} holds no certificate")]
    Empty { key: &'static str, path: PathBuf },
    #[error("certificate and key do not make a TLS server: {0}")]
    Server(#[from] rustls::Error),
    #[error("client_ca_file cannot verify clients: {0}")]
    Clients(#[from] VerifierBuilderError),
}

/// Reads the files and makes what accepts TLS connections, HTTP/2 preferred.
pub(super) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let TlsConfig { cert_file, key_file, client_ca_file } = config;
    let chain = certificates("cert_file", cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| TlsError::File {
        key: "key_file",
        path: key_file.clone(),
        error,
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("client_ca_file", path)? {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::File { key, path: path.to_owned(), error };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() { Err(TlsError::Empty { key, path: path.to_owned() }) } else { Ok(found) }
}
