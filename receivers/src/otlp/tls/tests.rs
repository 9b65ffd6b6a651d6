use std::sync::Arc;

use weir_pipeline::config::Node;
use weir_pipeline::extension::Extensions;

use super::Tls;
use crate::otlp::OtlpSettings;

fn settings(tls: &str) -> Result<super::TlsSettings, String> {
    let node = Node::parse("weir.yaml", &format!("protocols: {{http: {{tls: {{{tls}}}}}}}")).unwrap();
    let settings = OtlpSettings::parse(&node, "receivers::otlp", &Extensions::default());
    settings.map(|settings| settings.http.unwrap().port.tls.unwrap()).map_err(|error| error.to_string())
}

const FILES: &str = "cert_file: a.pem, key_file: b.pem";

#[test]
fn what_is_wrong_is_named() {
    for (tls, want) in [
        ("", "::cert_file: is required for a server with TLS: or `cert_pem` with the text itself"),
        ("cert_file: a", "::key_file: is required for a server with TLS: or `key_pem` with the text itself"),
        ("cert_file: a, cert_pem: a, key_file: b", "::cert_pem: cannot be given beside `cert_file`"),
        (&format!("{FILES}, key_pem: b"), "::key_pem: cannot be given beside `key_file`"),
        (&format!("{FILES}, client_ca_file_reload: true"), "::client_ca_file_reload: there is no `client_ca_file`"),
        (&format!("{FILES}, min_version: '1.1'"), "::min_version: TLS 1.1 is not safe and not supported"),
        (&format!("{FILES}, max_version: TLSv1.3"), "::max_version: `TLSv1.3` is no version of TLS"),
        (&format!("{FILES}, min_version: '1.3', max_version: '1.2'"), "::max_version: is below `min_version`"),
        (
            &format!("{FILES}, cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA]"),
            "::cipher_suites[1]: `TLS_RSA_WITH_AES_128_CBC_SHA` is no supported cipher suite: valid values: TLS_AES_",
        ),
        (
            &format!("{FILES}, cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: '1.2'"),
            "::cipher_suites: none of them belongs to an allowed version of TLS",
        ),
        (&format!("{FILES}, curve_preferences: [P256, P521]"), "::curve_preferences[1]: P521 is not supported"),
        (&format!("{FILES}, curve_preferences: [X448]"), "::curve_preferences[0]: `X448` is no curve"),
        (&format!("{FILES}, ca_file: a"), ": unknown key `ca_file`"),
    ] {
        let error = settings(tls).unwrap_err();
        assert!(error.contains(&format!("receivers::otlp::protocols::http::tls{want}")), "{error}");
    }
}

#[test]
fn cipher_suites_and_curves_are_restricted() {
    let suites = |tls: &str| {
        let provider = settings(&format!("{FILES}{tls}")).unwrap().provider;
        let mut suites: Vec<String> = provider.cipher_suites.iter().map(|s| format!("{:?}", s.suite())).collect();
        suites.sort();
        suites
    };
    let [tls12, tls13] = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS13_AES_128_GCM_SHA256"];
    let all13 = [tls13, "TLS13_AES_256_GCM_SHA384", "TLS13_CHACHA20_POLY1305_SHA256"];
    assert_eq!(suites("").len(), 9);
    // Those of TLS 1.3 stay unless the list names some.
    assert_eq!(suites(&format!(", cipher_suites: [{tls12}]")), [&all13[..], &[tls12]].concat());
    assert_eq!(suites(&format!(", cipher_suites: [{tls12}, TLS_AES_128_GCM_SHA256]")), [tls13, tls12]);
    let curves = settings(&format!("{FILES}, curve_preferences: [P384, X25519]")).unwrap();
    let names: Vec<String> = curves.provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    assert_eq!(names, ["secp384r1", "X25519"]);
    assert_eq!(curves.versions.len(), 2);
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let issue = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    };
    issue();
    let files = format!("cert_file: '{}', key_file: '{}'", path("cert.pem").display(), path("key.pem").display());
    let tls = Tls::load(settings(&format!("{files}, reload_interval: 1h")).unwrap()).unwrap();
    let server = || Arc::clone(&tls.current.read().unwrap().server);
    let first = server();
    assert!(!tls.reload().unwrap(), "nothing has changed");
    std::fs::write(path("key.pem"), "-----BEGIN hunter2").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.ends_with("key.pem holds no PEM private key") && !error.contains("hunter2"), "{error}");
    std::fs::remove_file(path("key.pem")).unwrap();
    assert!(tls.reload().unwrap_err().to_string().starts_with("cannot read key_file "));
    assert!(Arc::ptr_eq(&server(), &first));
    issue();
    assert!(tls.reload().unwrap() && !Arc::ptr_eq(&server(), &first));
    // Without the interval the files are those of the start.
    let tls = Tls::load(settings(&files).unwrap()).unwrap();
    issue();
    assert!(!tls.reload().unwrap());
}
