//! Handshakes that failed, in the log: a warning for the first of each kind.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The kinds that were warned of.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<BTreeSet<String>>);

impl Refused {
    /// Tells of a handshake that failed for what the client showed or said. Connections that broke off are not told of.
    pub(super) fn note(&self, transport: &'static str, error: &io::Error) {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return };
        if self.is_new(error) {
            tracing::warn!(transport, "TLS handshake failed: {error}; more of this kind are logged at debug level");
        }
    }

    fn is_new(&self, error: &rustls::Error) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind(error))
    }
}

/// The names of an error without the times and numbers in it. There are only so many of them, whatever clients send.
fn kind(error: &rustls::Error) -> String {
    let mut text = format!("{error:?}");
    let end = text.find(|c: char| !c.is_ascii_alphabetic() && c != '(');
    text.truncate(end.unwrap_or(text.len()));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;
    use rustls::{AlertDescription, CertificateError, Error};

    use super::*;

    #[test]
    fn the_first_of_each_kind_is_told_of() {
        let expired = |at: u64| {
            let [time, not_after] = [at, at - 1].map(|at| UnixTime::since_unix_epoch(Duration::from_secs(at)));
            Error::from(CertificateError::ExpiredContext { time, not_after })
        };
        let other = |text: &'static str| {
            let other = rustls::OtherError(std::sync::Arc::new(io::Error::other(text)));
            Error::from(CertificateError::Other(other))
        };
        let refused = Refused::default();
        let new = [
            expired(5),
            Error::from(CertificateError::UnknownIssuer),
            Error::NoCertificatesPresented,
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::BadCertificate),
            other("UnsupportedCertVersion"),
        ];
        assert!(new.iter().all(|error| refused.is_new(error)));
        assert!(!refused.is_new(&expired(7)) && !new.iter().any(|error| refused.is_new(error)));
        assert_eq!(kind(&expired(5)), "InvalidCertificate(ExpiredContext");
        refused.note("grpc", &io::Error::from(io::ErrorKind::ConnectionReset));
    }
}
