//! What both OTLP exporters have in common, as it is written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use weir_pipeline::config::{ConfigError, Node, Secret, units, units::ByteSize};

use super::client::{Keepalive, Protocol, Target};
use super::tls::{TlsSettings, TlsVersion};
use crate::queue::config::error_at;

/// `tls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsConfig {
    pub(super) insecure: bool,
    insecure_skip_verify: bool,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name_override: Option<String>,
    include_system_ca_certs_pool: bool,
    min_version: TlsVersion,
}

impl TlsConfig {
    /// Whether `insecure` asks for plain text. With an authority to trust it does not, as in the Collector.
    pub(super) fn is_plain(&self) -> bool {
        self.insecure && given(&self.ca_file).is_none()
    }

    /// Checks the values and reads the files.
    pub(super) fn secure(&self, target: &mut Target, node: &Node, path: &str) -> Result<(), ConfigError> {
        let identity = match (given(&self.cert_file), given(&self.key_file)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(error_at(node, path, &["tls", "cert_file"], "needs a `key_file` beside it")),
            (None, Some(_)) => return Err(error_at(node, path, &["tls", "key_file"], "needs a `cert_file` beside it")),
        };
        let settings = TlsSettings {
            insecure_skip_verify: self.insecure_skip_verify,
            ca_file: given(&self.ca_file),
            include_system_ca_certs_pool: self.include_system_ca_certs_pool,
            identity,
            min_version: self.min_version,
        };
        let name = self.server_name_override.as_ref().filter(|name| !name.is_empty());
        let key = if name.is_some() { &["tls", "server_name_override"][..] } else { &["endpoint"][..] };
        let name = ServerName::try_from(name.unwrap_or(&target.host).clone())
            .map_err(|_| error_at(node, path, key, "is not a host name that a certificate can have"))?;
        let config =
            settings.build(target.protocol.alpn()).map_err(|e| error_at(node, path, &["tls", e.key], e.to_string()))?;
        target.tls = Some((config, name));
        Ok(())
    }
}

/// A path; an empty one is none.
fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

/// `keepalive` of a gRPC client.
#[derive(Debug, Clone, Deserialize)]
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

/// `headers`: a mapping, or a list of `name` and `value`.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Checks names and values. Errors name a header, never its value.
    pub(super) fn validate(&self, node: &Node, path: &str) -> Result<HeaderMap, ConfigError> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.0 {
            let error = |message: &str| Err(error_at(node, path, &["headers", name], message));
            let Ok(header) = HeaderName::try_from(name.as_str()) else {
                return error("is not a name that a header can have");
            };
            if RESERVED.contains(&header.as_str()) {
                return error("cannot be set: the exporter sets it");
            }
            let Ok(mut value) = HeaderValue::try_from(value.expose()) else {
                return error("has a value that a header cannot have, such as one with a line break");
            };
            // Kept out of HPACK's table and out of debug output.
            value.set_sensitive(true);
            map.insert(header, value);
        }
        Ok(map)
    }
}

/// Headers that describe the request, which is not the user's to do.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Secret,
}

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of headers")
    }

    fn visit_unit<E>(self) -> Result<Headers, E> {
        Ok(Headers::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(entry) = map.next_entry()? {
            headers.push(entry);
        }
        Ok(Headers(headers))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(Header { name, value }) = list.next_element()? {
            headers.push((name, value));
        }
        Ok(Headers(headers))
    }
}

/// Most of an attempt's time, so that what comes after connecting has some left; and never longer than ten seconds.
pub(super) fn connect_timeout(timeout: Option<Duration>) -> Option<Duration> {
    let limit = Duration::from_secs(10);
    Some(timeout.map_or(limit, |timeout| (timeout * 4 / 5).min(limit)))
}

/// A target in plain text.
pub(super) fn plain(host: String, port: u16, protocol: Protocol, timeout: Option<Duration>) -> Target {
    Target { host, port, tls: None, protocol, keepalive: None, connect_timeout: connect_timeout(timeout) }
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
