//! Whom a server with TLS takes for a client of its own.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// webpki's judgement, but a client may show a certificate authority's own certificate if that very one was given.
///
/// `openssl req -x509` says of every certificate that it is an authority's, and webpki takes none of those for a
/// client's, though Go and OpenSSL do. Nothing is lost by it: who has the key of a trusted authority could issue itself
/// a certificate for any use.
#[derive(Debug)]
pub(super) struct TrustGiven {
    given: Vec<CertificateDer<'static>>,
    webpki: Arc<dyn ClientCertVerifier>,
}

impl TrustGiven {
    pub(super) fn new(given: Vec<CertificateDer<'static>>, webpki: Arc<dyn ClientCertVerifier>) -> Self {
        Self { given, webpki }
    }
}

/// Whether nothing else was wrong up to here: webpki looks at this after the dates and before the issuer, and only of
/// the certificate that is shown. Its type is not at hand, its name is; another name would refuse as before.
fn is_for_being_an_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(error)) = error else { return false };
    error.0.to_string() == "CaUsedAsEndEntity"
}

impl ClientCertVerifier for TrustGiven {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.webpki.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if is_for_being_an_authority(&error) && self.given.contains(end_entity) => {
                Ok(ClientCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    /// An authority's own certificate, until the end of 2030.
    fn authority() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2030, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn judge(shown: &CertificateDer<'static>, given: &[&CertificateDer<'static>], year: u64) -> Result<(), String> {
        let given: Vec<_> = given.iter().map(|given| (*given).clone()).collect();
        let mut roots = RootCertStore::empty();
        given.iter().for_each(|root| roots.add(root.clone()).unwrap());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        let judged = TrustGiven::new(given, webpki).verify_client_cert(shown, &[], now);
        judged.map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn an_authority_is_a_client_only_if_it_was_given_and_its_time_is_now() {
        let (shown, other) = (authority(), authority());
        assert_eq!(judge(&shown, &[&other, &shown], 2026), Ok(()));
        assert!(judge(&shown, &[&shown], 2032).unwrap_err().contains("expired"));
        assert!(judge(&shown, &[&shown], 1971).unwrap_err().contains("not valid yet"));
        assert!(judge(&shown, &[&other], 2026).unwrap_err().contains("CaUsedAsEndEntity"));
    }
}
