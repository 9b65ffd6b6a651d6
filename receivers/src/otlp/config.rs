//! Configuration: as written, and as checked.
//!
//! Keys of the Collector's OTLP receiver that are not here are errors, never ignored: authentication, CORS, keep-alive
//! policies and the like change what the receiver promises.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::Optional;
use weir_pipeline::signal::Signal;

/// The limit that the OTLP specification recommends, before and after decompression. The Collector's are 4 MiB for gRPC
/// and 20 MiB for HTTP, which one LLM request with images can pass.
const DEFAULT_MAX_BYTES: usize = 64 << 20;

/// Streams a client may have open on one connection. Each waits for its receipt, which may be a commit away.
const DEFAULT_STREAMS: u32 = 1024;

/// The receiver's section of the configuration as written.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// What to speak.
    pub protocols: ProtocolsConfig,
}

/// `protocols`
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProtocolsConfig {
    /// Off unless it is there.
    pub grpc: Optional<GrpcConfig>,
    /// Off unless it is there.
    pub http: Optional<HttpConfig>,
}

/// `protocols::grpc`
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// `host:port`; default `localhost:4317`.
    pub endpoint: String,
    /// Largest message in MiB, before and after decompression; 0: 64.
    pub max_recv_msg_size_mib: usize,
    /// Calls that may be open on one connection; 0: 1024.
    pub max_concurrent_streams: u32,
    /// No encryption unless it is there.
    pub tls: Optional<TlsConfig>,
}

/// `protocols::http`
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// `host:port`; default `localhost:4318`.
    pub endpoint: String,
    /// Where traces are posted to; default `/v1/traces`.
    pub traces_url_path: String,
    /// Where metrics are posted to; default `/v1/metrics`.
    pub metrics_url_path: String,
    /// Where logs are posted to; default `/v1/logs`.
    pub logs_url_path: String,
    /// Largest body in bytes, before and after decompression; 0: 64 MiB.
    pub max_request_body_size: usize,
    /// No encryption unless it is there.
    pub tls: Optional<TlsConfig>,
}

/// `tls` of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that clients' certificates must come from. Absent: clients need none.
    pub client_ca_file: Option<PathBuf>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            max_recv_msg_size_mib: 0,
            max_concurrent_streams: 0,
            tls: Optional(None),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".to_owned(),
            traces_url_path: "/v1/traces".to_owned(),
            metrics_url_path: "/v1/metrics".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            max_request_body_size: 0,
            tls: Optional(None),
        }
    }
}

/// A value that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct InvalidSettings {
    /// Keys below the receiver's own, joined by `::`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What the receiver does, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpSettings {
    /// The gRPC port, if there is one.
    pub grpc: Option<GrpcSettings>,
    /// The HTTP port, if there is one.
    pub http: Option<HttpSettings>,
    /// How long the receiver waits for what. Not configurable.
    pub timeouts: Timeouts,
}

/// The gRPC port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcSettings {
    /// Where to listen.
    pub endpoint: Endpoint,
    /// Largest message in bytes, before and after decompression.
    pub max_recv_msg_size: usize,
    /// Calls that may be open on one connection.
    pub max_concurrent_streams: u32,
    /// Encryption.
    pub tls: Option<TlsConfig>,
}

/// The HTTP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen.
    pub endpoint: Endpoint,
    /// Largest body in bytes, before and after decompression.
    pub max_request_body_size: usize,
    /// Where signals are posted to.
    pub paths: Paths,
    /// Encryption.
    pub tls: Option<TlsConfig>,
}

/// URL paths, each starting with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Spans.
    pub traces: String,
    /// Metric data points.
    pub metrics: String,
    /// Log records.
    pub logs: String,
}

impl Paths {
    /// The signal that is posted to this path.
    pub(super) fn signal(&self, path: &str) -> Option<Signal> {
        if path == self.traces {
            Some(Signal::Traces)
        } else if path == self.metrics {
            Some(Signal::Metrics)
        } else if path == self.logs {
            Some(Signal::Logs)
        } else {
            None
        }
    }
}

/// Bounds on waiting, for clients and for pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a new connection to its first bytes, TLS handshake included.
    pub first_bytes: Duration,
    /// For an HTTP/1 request's head, and between two requests: periodic metric exports come once a minute.
    pub head: Duration,
    /// Longest silence inside a request's body.
    pub body_idle: Duration,
    /// From a request's head to the end of its body.
    pub body_total: Duration,
    /// For the pipelines to take a request and settle its receipt.
    pub answer: Duration,
    /// For the requests under way when the receiver is told to stop.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_bytes: Duration::from_secs(30),
            head: Duration::from_secs(120),
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
            answer: Duration::from_secs(60),
            drain: Duration::from_secs(60),
        }
    }
}

/// A host and a port. An empty host means every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// 0: the system chooses.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address to listen on: write host:port, such as localhost:4317");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains([':', '/', ' ']) => return Err(wrong()),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<OtlpConfig> for OtlpSettings {
    type Error = InvalidSettings;

    fn try_from(config: OtlpConfig) -> Result<Self, InvalidSettings> {
        let OtlpConfig { protocols: ProtocolsConfig { grpc: Optional(grpc), http: Optional(http) } } = config;
        if grpc.is_none() && http.is_none() {
            return Err(invalid("protocols", "must specify at least one protocol when using the OTLP receiver"));
        }
        Ok(Self {
            grpc: grpc.map(grpc_settings).transpose()?,
            http: http.map(http_settings).transpose()?,
            timeouts: Timeouts::default(),
        })
    }
}

fn grpc_settings(config: GrpcConfig) -> Result<GrpcSettings, InvalidSettings> {
    let GrpcConfig { endpoint, max_recv_msg_size_mib, max_concurrent_streams, tls: Optional(tls) } = config;
    let path = "protocols::grpc";
    let size = max_recv_msg_size_mib.checked_mul(1 << 20);
    Ok(GrpcSettings {
        endpoint: endpoint.parse().map_err(|message: String| invalid(&format!("{path}::endpoint"), message))?,
        max_recv_msg_size: size_limit(size, &format!("{path}::max_recv_msg_size_mib"))?,
        max_concurrent_streams: if max_concurrent_streams == 0 { DEFAULT_STREAMS } else { max_concurrent_streams },
        tls: tls.map(|tls| checked_tls(tls, path)).transpose()?,
    })
}

fn http_settings(config: HttpConfig) -> Result<HttpSettings, InvalidSettings> {
    let HttpConfig {
        endpoint,
        traces_url_path,
        metrics_url_path,
        logs_url_path,
        max_request_body_size,
        tls: Optional(tls),
    } = config;
    let path = "protocols::http";
    let paths = Paths {
        traces: with_leading_slash(traces_url_path),
        metrics: with_leading_slash(metrics_url_path),
        logs: with_leading_slash(logs_url_path),
    };
    if paths.metrics == paths.traces {
        return Err(invalid(&format!("{path}::metrics_url_path"), "is also the path of traces"));
    }
    if paths.logs == paths.traces || paths.logs == paths.metrics {
        return Err(invalid(&format!("{path}::logs_url_path"), "is also the path of another signal"));
    }
    Ok(HttpSettings {
        endpoint: endpoint.parse().map_err(|message: String| invalid(&format!("{path}::endpoint"), message))?,
        max_request_body_size: size_limit(Some(max_request_body_size), &format!("{path}::max_request_body_size"))?,
        paths,
        tls: tls.map(|tls| checked_tls(tls, path)).transpose()?,
    })
}

/// A batch cannot be larger than 4 GiB: its offsets are 32 bits wide.
fn size_limit(bytes: Option<usize>, path: &str) -> Result<usize, InvalidSettings> {
    match bytes {
        Some(0) => Ok(DEFAULT_MAX_BYTES),
        Some(bytes) if bytes < u32::MAX as usize => Ok(bytes),
        _ => Err(invalid(path, "must be less than 4 GiB")),
    }
}

fn with_leading_slash(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

fn checked_tls(tls: TlsConfig, path: &str) -> Result<TlsConfig, InvalidSettings> {
    for (file, key) in [(&tls.cert_file, "cert_file"), (&tls.key_file, "key_file")] {
        if file.as_os_str().is_empty() {
            return Err(invalid(&format!("{path}::tls::{key}"), "is required for a server with TLS"));
        }
    }
    Ok(tls)
}

fn invalid(path: &str, message: impl Into<String>) -> InvalidSettings {
    InvalidSettings { path: path.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use weir_pipeline::config::Node;

    use super::*;

    fn settings(yaml: &str) -> Result<OtlpSettings, String> {
        let node = Node::parse("weir.yaml", yaml).unwrap();
        let config: OtlpConfig = node.parse_as("receivers::otlp").map_err(|e| e.to_string())?;
        OtlpSettings::try_from(config).map_err(|e| e.to_string())
    }

    #[test]
    fn a_section_without_a_value_has_the_defaults() {
        let all = settings("protocols:\n  grpc:\n  http:\n").unwrap();
        let (grpc, http) = (all.grpc.unwrap(), all.http.unwrap());
        assert_eq!(grpc.endpoint.to_string(), "localhost:4317");
        assert_eq!(http.endpoint.to_string(), "localhost:4318");
        assert_eq!((grpc.max_recv_msg_size, http.max_request_body_size), (64 << 20, 64 << 20));
        assert_eq!((http.paths.traces.as_str(), http.paths.logs.as_str()), ("/v1/traces", "/v1/logs"));
        assert_eq!((grpc.tls, http.tls), (None, None));
    }

    #[test]
    fn what_is_written_counts() {
        let yaml = "protocols:
  grpc:
    enabled: false
  http:
    endpoint: '[::]:1'
    traces_url_path: t
    max_request_body_size: 1000
    tls: {cert_file: a.pem, key_file: b.pem}
";
        let settings = settings(yaml).unwrap();
        assert_eq!(settings.grpc, None);
        let http = settings.http.unwrap();
        assert_eq!((http.endpoint.to_string().as_str(), http.paths.traces.as_str()), ("[::]:1", "/t"));
        assert_eq!(http.max_request_body_size, 1000);
        assert_eq!(http.tls.unwrap().key_file, PathBuf::from("b.pem"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, want) in [
            ("protocols: {}", "protocols: must specify at least one protocol when using the OTLP receiver"),
            ("{}", "protocols: must specify at least one protocol when using the OTLP receiver"),
            (
                "protocols: {grpc: {endpoint: 4317}}",
                "protocols::grpc::endpoint: `4317` is no address to listen on: write host:port, such as localhost:4317",
            ),
            (
                "protocols: {grpc: {max_recv_msg_size_mib: 4096}}",
                "protocols::grpc::max_recv_msg_size_mib: must be less than 4 GiB",
            ),
            (
                "protocols: {http: {logs_url_path: v1/traces}}",
                "protocols::http::logs_url_path: is also the path of another signal",
            ),
            (
                "protocols: {http: {tls: {cert_file: a.pem}}}",
                "protocols::http::tls::key_file: is required for a server with TLS",
            ),
            ("protocols: {http: {tls: }}", "protocols::http::tls::cert_file: is required for a server with TLS"),
        ] {
            assert_eq!(settings(yaml), Err(want.to_owned()));
        }
        // Keys of the Collector that are not supported are not ignored either.
        for (yaml, want) in [
            ("protocols: {http: {cors: {}}}", "weir.yaml:1:20: receivers::otlp::protocols::http: unknown key `cors`"),
            ("protocols: {grpc: {auth: x}}", "weir.yaml:1:20: receivers::otlp::protocols::grpc: unknown key `auth`"),
        ] {
            let error = settings(yaml).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn endpoints() {
        for (text, host, port) in
            [("a:1", "a", 1), (":4317", "", 4317), ("[::1]:0", "::1", 0), ("0.0.0.0:65535", "0.0.0.0", 65535)]
        {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.to_string(), text);
        }
        for bad in ["", "a", "a:", "a:65536", "::1:4317", "[::1:4317", "http://a:1", "a b:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
