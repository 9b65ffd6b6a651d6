//! `tls` of a server, as written and as checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{SupportedProtocolVersion, version};
use serde::Deserialize;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Secret};

use crate::otlp::config::At;

/// `tls` as written.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::otlp) struct TlsConfig {
    cert_file: PathBuf,
    cert_pem: Secret,
    key_file: PathBuf,
    key_pem: Secret,
    client_ca_file: PathBuf,
    client_ca_file_reload: bool,
    reload_interval: GoDuration,
    min_version: String,
    max_version: String,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
}

/// `tls`, checked. The files are read when the port is opened.
#[derive(Clone)]
pub struct TlsSettings {
    pub(super) certificate: Source,
    pub(super) key: Source,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) reload_client_ca: bool,
    pub(super) reload_interval: Option<Duration>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Where PEM text comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    File(PathBuf),
    Text(Secret),
}

impl TlsSettings {
    /// Checks the section at `at`.
    pub(in crate::otlp) fn new(config: TlsConfig, at: &At<'_>) -> Result<Self, ConfigError> {
        let certificate = source((config.cert_file, config.cert_pem), ["cert_file", "cert_pem"], at)?;
        let key = source((config.key_file, config.key_pem), ["key_file", "key_pem"], at)?;
        if config.client_ca_file_reload && config.client_ca_file.as_os_str().is_empty() {
            return Err(at.key("client_ca_file_reload").error("there is no `client_ca_file` to reload"));
        }
        let mut provider = aws_lc_rs::default_provider();
        restrict_suites(&mut provider, &config.cipher_suites, at)?;
        if !config.curve_preferences.is_empty() {
            let groups = config.curve_preferences.iter().enumerate();
            let at = at.key("curve_preferences");
            provider.kx_groups = groups.map(|(i, name)| group(name, &at.item(i))).collect::<Result<_, _>>()?;
        }
        let versions = versions(&config.min_version, &config.max_version, at)?;
        let has_suite =
            |version: &SupportedProtocolVersion| provider.cipher_suites.iter().any(|suite| suite.version() == version);
        if !versions.iter().any(|version| has_suite(version)) {
            return Err(at.key("cipher_suites").error("none of them belongs to an allowed version of TLS"));
        }
        Ok(Self {
            certificate,
            key,
            client_ca_file: Some(config.client_ca_file).filter(|file| !file.as_os_str().is_empty()),
            reload_client_ca: config.client_ca_file_reload,
            reload_interval: Some(config.reload_interval.0).filter(|interval| !interval.is_zero()),
            versions,
            provider: Arc::new(provider),
        })
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("client_ca_file", &self.client_ca_file)
            .finish_non_exhaustive()
    }
}

fn source((file, text): (PathBuf, Secret), keys: [&str; 2], at: &At<'_>) -> Result<Source, ConfigError> {
    match (file.as_os_str().is_empty(), text.expose().is_empty()) {
        (false, true) => Ok(Source::File(file)),
        (true, false) => Ok(Source::Text(text)),
        (true, true) => {
            let error = at.key(keys[0]).error("is required for a server with TLS");
            Err(error.with_hint(format!("or `{}` with the text itself", keys[1])))
        }
        (false, false) => Err(at.key(keys[1]).error(format!("cannot be given beside `{}`", keys[0]))),
    }
}

fn versions(min: &str, max: &str, at: &At<'_>) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let parse = |key: &str, text: &str, default: u16| match text {
        "" => Ok(default),
        "1.2" => Ok(2),
        "1.3" => Ok(3),
        "1.0" | "1.1" => Err(at.key(key).error(format!("TLS {text} is not safe and not supported: use 1.2 or 1.3"))),
        _ => Err(at.key(key).error(format!("`{text}` is no version of TLS: use 1.2 or 1.3"))),
    };
    let (min, max) = (parse("min_version", min, 2)?, parse("max_version", max, 3)?);
    if min > max {
        return Err(at.key("max_version").error("is below `min_version`"));
    }
    let known = [(2, &version::TLS12), (3, &version::TLS13)];
    Ok(known.into_iter().filter(|(minor, _)| (min..=max).contains(minor)).map(|(_, version)| version).collect())
}

/// Names are those of Go and the IANA. As in Go they choose among the suites of TLS 1.2; those of 1.3 are chosen too
/// if the list names any.
fn restrict_suites(provider: &mut CryptoProvider, names: &[String], at: &At<'_>) -> Result<(), ConfigError> {
    if names.is_empty() {
        return Ok(());
    }
    // This library writes TLS13_AES_128_GCM_SHA256 where others write TLS_AES_128_GCM_SHA256.
    let name_of = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
    for (index, name) in names.iter().enumerate() {
        if !provider.cipher_suites.iter().any(|suite| name_of(suite) == *name) {
            let known: Vec<String> = provider.cipher_suites.iter().map(name_of).collect();
            let error = at.key("cipher_suites").item(index).error(format!("`{name}` is no supported cipher suite"));
            return Err(error.with_hint(format!("valid values: {}", known.join(", "))));
        }
    }
    let is_tls13 = |suite: &rustls::SupportedCipherSuite| suite.version() == &version::TLS13;
    let names_tls13 = provider.cipher_suites.iter().any(|suite| is_tls13(suite) && names.contains(&name_of(suite)));
    provider.cipher_suites.retain(|suite| names.contains(&name_of(suite)) || is_tls13(suite) && !names_tls13);
    Ok(())
}

fn group(name: &str, at: &At<'_>) -> Result<&'static dyn SupportedKxGroup, ConfigError> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    match name {
        "X25519" => Ok(X25519),
        "P256" => Ok(SECP256R1),
        "P384" => Ok(SECP384R1),
        "X25519MLKEM768" => Ok(X25519MLKEM768),
        "P521" => Err(at.error("P521 is not supported").with_hint("valid values: X25519MLKEM768, X25519, P256, P384")),
        _ => Err(at
            .error(format!("`{name}` is no curve that is known here"))
            .with_hint("valid values: X25519MLKEM768, X25519, P256, P384")),
    }
}
