//! Whom a client with TLS takes for the server.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// webpki's judgement, but a server may show a certificate authority's own certificate if the user gave that very one.
///
/// `openssl req -x509` says of every certificate that it is an authority's, and webpki takes none of those for a
/// server's, though Go and OpenSSL do. Nothing is lost by it: who has the key of a trusted authority could issue itself
/// a certificate for any name and use.
#[derive(Debug)]
pub(super) struct TrustGiven {
    /// The user's; the system's are authorities and nothing else.
    given: Vec<CertificateDer<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl TrustGiven {
    pub(super) fn new(given: Vec<CertificateDer<'static>>, webpki: Arc<WebPkiServerVerifier>) -> Self {
        Self { given, webpki }
    }
}

/// Whether nothing else was wrong up to here: webpki looks at this after the dates and before the issuer, and only of
/// the certificate that is shown. Its type is not at hand, its name is; another name would refuse as before.
fn is_for_being_an_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(error)) = error else { return false };
    error.0.to_string() == "CaUsedAsEndEntity"
}

impl ServerCertVerifier for TrustGiven {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match judged {
            Err(error) if is_for_being_an_authority(&error) && self.given.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// `insecure_skip_verify`: the connection is encrypted, but with whom nobody knows.
#[derive(Debug)]
pub(super) struct TrustAnyone(WebPkiSupportedAlgorithms);

impl TrustAnyone {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs;

    use super::*;

    /// An authority's own certificate, with the name `collector`, until the end of 2030.
    fn authority() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["collector".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2030, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// Judges `shown` where `given` and `system` are trusted.
    fn judge(
        shown: &CertificateDer<'static>,
        given: &[&CertificateDer<'static>],
        system: &[&CertificateDer<'static>],
        name: &'static str,
        year: u64,
    ) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for root in given.iter().chain(system) {
            roots.add((*root).clone()).unwrap();
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let verifier = TrustGiven::new(given.iter().map(|root| (*root).clone()).collect(), webpki);
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], now).map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn an_authority_is_a_server_only_if_it_was_given_and_all_else_is_right() {
        let (shown, other) = (authority(), authority());
        assert_eq!(judge(&shown, &[&other, &shown], &[], "collector", 2026), Ok(()));
        let refused = |result: Result<(), String>, why: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        };
        refused(judge(&shown, &[&shown], &[], "elsewhere", 2026), "not valid for name");
        refused(judge(&shown, &[&shown], &[], "collector", 2032), "expired");
        refused(judge(&shown, &[&shown], &[], "collector", 1971), "not valid yet");
        refused(judge(&shown, &[&other], &[], "collector", 2026), "CaUsedAsEndEntity");
        refused(judge(&shown, &[], &[&shown], "collector", 2026), "CaUsedAsEndEntity");
    }
}
