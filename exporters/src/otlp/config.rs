//! What both OTLP exporters have in common, as it is written.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Secret, Warning, units, units::ByteSize};
use weir_pipeline::host::Host;

use super::client::{Keepalive, Protocol, Target};
use super::compress::Compression;
use super::dial::Names;
use super::tls::{Pem, Tls, TlsError, TlsSettings, TlsVersion};
use crate::queue::config::error_at;

/// `tls`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsConfig {
    pub(super) insecure: bool,
    insecure_skip_verify: bool,
    ca_file: Option<PathBuf>,
    ca_pem: Option<Secret>,
    cert_file: Option<PathBuf>,
    cert_pem: Option<Secret>,
    key_file: Option<PathBuf>,
    key_pem: Option<Secret>,
    server_name_override: Option<String>,
    include_system_ca_certs_pool: bool,
    min_version: TlsVersion,
    max_version: MaxVersion,
    #[serde(deserialize_with = "units::duration")]
    reload_interval: Duration,
    tpm: TpmConfig,
}

/// `tls::tpm`. Keys are read from files or texts only, so it must be off.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TpmConfig {
    enabled: bool,
    #[serde(rename = "path")]
    _path: String,
    #[serde(rename = "owner_auth")]
    _owner_auth: Secret,
    #[serde(rename = "auth")]
    _auth: Secret,
}

/// A version, or nothing.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
enum MaxVersion {
    #[default]
    #[serde(rename = "")]
    Newest,
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl TlsConfig {
    /// Whether `insecure` asks for plain text. With an authority to trust it does not, as in the Collector.
    pub(super) fn is_plain(&self) -> bool {
        let is_given = |pem: &Option<Secret>| pem.as_ref().is_some_and(|pem| !pem.expose().is_empty());
        self.insecure && given(&self.ca_file).is_none() && !is_given(&self.ca_pem)
    }

    /// Refuses a key in a TPM, also where there is to be no TLS.
    pub(super) fn refuse_tpm(&self, node: &Node, path: &str) -> Result<(), ConfigError> {
        if self.tpm.enabled {
            let message = "cannot be true: keys are read from files or texts, by `key_file` or `key_pem`";
            return Err(error_at(node, path, &["tls", "tpm", "enabled"], message));
        }
        Ok(())
    }

    /// Checks the values, without reading files.
    pub(super) fn settings(&self, node: &Node, path: &str) -> Result<TlsSettings, ConfigError> {
        let error = |key: &str, message: &str| error_at(node, path, &["tls", key], message);
        let one_of = |file: &Option<PathBuf>, text: &Option<Secret>, keys: (&str, &str)| {
            let text = text.clone().filter(|text| !text.expose().is_empty());
            match (given(file), text) {
                (Some(_), Some(_)) => {
                    Err(error(keys.1, &format!("cannot be set beside `{}`: leave one of them out", keys.0)))
                }
                (Some(file), None) => Ok(Some(Pem::File(file))),
                (None, Some(text)) => Ok(Some(Pem::Text(text))),
                (None, None) => Ok(None),
            }
        };
        self.refuse_tpm(node, path)?;
        let ca = one_of(&self.ca_file, &self.ca_pem, ("ca_file", "ca_pem"))?;
        let certificate = one_of(&self.cert_file, &self.cert_pem, ("cert_file", "cert_pem"))?;
        let key = one_of(&self.key_file, &self.key_pem, ("key_file", "key_pem"))?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(Pem::File(_)), None) => return Err(error("cert_file", "needs a `key_file` or `key_pem` beside it")),
            (Some(Pem::Text(_)), None) => return Err(error("cert_pem", "needs a `key_file` or `key_pem` beside it")),
            (None, Some(Pem::File(_))) => return Err(error("key_file", "needs a `cert_file` or `cert_pem` beside it")),
            (None, Some(Pem::Text(_))) => return Err(error("key_pem", "needs a `cert_file` or `cert_pem` beside it")),
        };
        Ok(TlsSettings {
            insecure_skip_verify: self.insecure_skip_verify,
            ca,
            include_system_ca_certs_pool: self.include_system_ca_certs_pool,
            identity,
            min_version: self.min_version,
            max_version: match self.max_version {
                MaxVersion::Newest => None,
                MaxVersion::V1_2 => Some(TlsVersion::V1_2),
                MaxVersion::V1_3 => Some(TlsVersion::V1_3),
            },
            reload_interval: limit(self.reload_interval),
        })
    }

    /// Checks the values and reads the files; those that are not there may be forgiven by the host.
    pub(super) fn secure(&self, target: &mut Target, node: &Node, path: &str, host: &Host) -> Result<(), ConfigError> {
        let settings = self.settings(node, path)?;
        let name = self.server_name_override.as_ref().filter(|name| !name.is_empty());
        let key = if name.is_some() { &["tls", "server_name_override"][..] } else { &["endpoint"][..] };
        let name = ServerName::try_from(name.unwrap_or(&target.host).clone())
            .map_err(|_| error_at(node, path, key, "is not a host name that a certificate can have"))?;
        secure_with(settings, name, target, Some(host), |e| error_at(node, path, &["tls", e.key], e.to_string()))
    }
}

/// Adds TLS to a target. Files that are not there may be forgiven by the host; the target is of no use then.
pub(super) fn secure_with(
    settings: TlsSettings,
    name: ServerName<'static>,
    target: &mut Target,
    host: Option<&Host>,
    error: impl Fn(&TlsError) -> ConfigError,
) -> Result<(), ConfigError> {
    let alpn = target.protocol.alpn();
    if let Some(host) = host.filter(|host| host.is_trial()) {
        for problem in settings.problems(alpn) {
            let located = error(&problem);
            if problem.is_missing { host.forgive(located)? } else { return Err(located) }
        }
        return Ok(());
    }
    target.tls = Some(Arc::new(Tls::new(settings, name, alpn).map_err(|e| error(&e))?));
    Ok(())
}

/// A path; an empty one is none.
pub(super) fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

/// `compression_params`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CompressionParams {
    level: Option<i32>,
}

impl CompressionParams {
    /// The level for `compression`; `None` if none is set.
    pub(super) fn validate(
        self,
        compression: Compression,
        node: &Node,
        path: &str,
    ) -> Result<Option<i32>, ConfigError> {
        let Some(level) = self.level else { return Ok(None) };
        let accepted = match compression {
            Compression::Gzip | Compression::Zlib | Compression::Deflate if (-1..=9).contains(&level) => {
                return Ok(Some(level));
            }
            Compression::Gzip | Compression::Zlib | Compression::Deflate => "use -1, which is 6, or 0 to 9",
            // zstd itself takes the nearest level it has.
            Compression::Zstd => return Ok(Some(level)),
            _ if level == 0 => return Ok(None),
            _ => "this compression has no levels: leave it out",
        };
        let message = format!("cannot be {level}: {accepted}");
        Err(error_at(node, path, &["compression_params", "level"], message))
    }
}

/// `keepalive` of a gRPC client.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KeepaliveConfig {
    #[serde(deserialize_with = "units::duration")]
    time: Duration,
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
    permit_without_stream: bool,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), timeout: Duration::from_secs(10), permit_without_stream: false }
    }
}

impl KeepaliveConfig {
    pub(super) fn validate(self, node: &Node, path: &str) -> Result<Keepalive, ConfigError> {
        let Self { time, timeout, permit_without_stream } = self;
        for (key, value) in [("time", time), ("timeout", timeout)] {
            if value.is_zero() {
                return Err(error_at(node, path, &["keepalive", key], "must be positive"));
            }
        }
        Ok(Keepalive { time, timeout, permit_without_stream })
    }
}

/// Most of an attempt's time, so that what comes after connecting has some left; and never longer than ten seconds.
pub(super) fn connect_timeout(timeout: Option<Duration>) -> Option<Duration> {
    let limit = Duration::from_secs(10);
    Some(timeout.map_or(limit, |timeout| (timeout * 4 / 5).min(limit)))
}

/// A target in plain text.
pub(super) fn plain(host: String, port: u16, protocol: Protocol, timeout: Option<Duration>) -> Target {
    Target {
        host,
        port,
        socket: None,
        tls: None,
        proxy: None,
        names: Names::System,
        is_balanced: false,
        protocol,
        keepalive: None,
        connect_timeout: connect_timeout(timeout),
        idle_timeout: None,
        max_idle: None,
        is_kept_alive: true,
    }
}

/// A time-out; zero means none.
pub(super) fn limit(timeout: Duration) -> Option<Duration> {
    (!timeout.is_zero()).then_some(timeout)
}

/// The largest request that the OTLP specification recommends, before compression.
pub(super) const MAX_REQUEST_SIZE: ByteSize = ByteSize(64 << 20);

/// `max_request_size` in bytes.
pub(super) fn request_limit(size: ByteSize, node: &Node, path: &str) -> Result<usize, ConfigError> {
    match usize::try_from(size.0) {
        Ok(0) => Err(error_at(node, path, &["max_request_size"], "must be positive")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(error_at(node, path, &["max_request_size"], "is more than this machine can address")),
    }
}

/// Refuses `middlewares` if there are any: no extension here changes what an exporter sends.
pub(super) fn refuse_middlewares(middlewares: &[Node], path: &str) -> Result<(), ConfigError> {
    match middlewares.first() {
        None => Ok(()),
        Some(first) => {
            let message = "there are no middlewares for exporters: remove it";
            Err(first.error(&format!("{path}::middlewares[0]"), message))
        }
    }
}

/// Says in the log that a setting, if it is there, has nothing that it could change, and why.
pub(super) fn warn_of_moot(node: &Node, path: &str, key: &str, why: &str) {
    if let Some(setting) = node.get(key) {
        Warning::of_moot(setting, &format!("{path}::{key}"), why);
    }
}

/// Says in the log which of the Collector's settings have nothing here that they could change.
pub(super) fn warn_of_moot_settings(node: &Node, path: &str) {
    for key in ["read_buffer_size", "write_buffer_size"] {
        warn_of_moot(node, path, key, "requests are sent without the copy that it sizes");
    }
}
