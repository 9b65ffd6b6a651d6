//! Weir's own metrics on their way to an OTLP endpoint: the `otlp` exporter of a periodic reader.
//!
//! ```yaml
//! service:
//!   telemetry:
//!     metrics:
//!       readers:
//!         - periodic:
//!             exporter:
//!               otlp:
//!                 protocol: http/protobuf           # or grpc
//!                 endpoint: https://backend:4318    # /v1/metrics is appended if there is no path; for gRPC host:port
//!                 headers: {api-key: "${env:KEY}"}  # or a list of {name, value}
//!                 compression: none                 # none (default) | gzip
//!                 timeout: 10000                    # of one attempt, in milliseconds
//!                 insecure: false                   # gRPC without a scheme: plain text
//!                 certificate: ca.pem               # by default the system's roots
//!                 client_certificate: own.pem       # for a server that asks who is there
//!                 client_key: own.key
//!                 temporality_preference: cumulative # or delta, or lowmemory
//! ```
//!
//! The client is that of the exporters `otlp_http` and `otlp_grpc`. What cannot be sent is not sent again: the next
//! numbers are soon to come, and they go on from these, or, where the temporality is `delta`, hold them as well.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::uri::Authority;
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::host::Host;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Push, PushError, Temporality};

use super::client::{Protocol, Target};
use super::compress::Compression;
use super::config::{MAX_REQUEST_SIZE, given, plain, request_limit, secure_with, warn_of_moot};
use super::endpoint::{GrpcEndpoint, HttpEndpoint, InvalidEndpoint};
use super::exchange::Exchange;
use super::grpc::{GrpcDestination, GrpcSettings};
use super::headers::Headers;
use super::http::{Encoding, HttpDestination, HttpSettings, HttpTarget};
use super::proxies::Proxies;
use super::tls::{Pem, TlsSettings};
use crate::queue::config::{RetryConfig, error_at};
use crate::queue::{Accepted, Destination, Failure};

/// The exporter, as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnMetricsConfig {
    protocol: OwnProtocol,
    endpoint: String,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    compression: OwnCompression,
    /// Milliseconds.
    #[serde(default = "ten_seconds")]
    timeout: u64,
    #[serde(default)]
    insecure: bool,
    /// A file in PEM format, as those below.
    certificate: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    temporality_preference: Temporality,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum OwnProtocol {
    #[serde(rename = "http/protobuf")]
    Http,
    #[serde(rename = "grpc")]
    Grpc,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OwnCompression {
    #[default]
    None,
    Gzip,
}

fn ten_seconds() -> u64 {
    10_000
}

impl OwnMetricsConfig {
    /// Files with their keys: authorities, and what to show to a server that asks who is there.
    fn certificates(&self) -> [(&'static str, Option<PathBuf>); 3] {
        [
            ("certificate", given(&self.certificate)),
            ("client_certificate", given(&self.client_certificate)),
            ("client_key", given(&self.client_key)),
        ]
    }

    /// The first key of a file that is given.
    fn certificate_key(&self) -> Option<&'static str> {
        self.certificates().into_iter().find_map(|(key, file)| file.map(|_| key))
    }

    /// TLS with the certificates that are configured.
    fn tls(&self, node: &Node, path: &str) -> Result<TlsSettings, ConfigError> {
        let [ca, certificate, key] = self.certificates().map(|(_, file)| file.map(Pem::File));
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(error("client_certificate", "needs a `client_key` beside it")),
            (None, Some(_)) => return Err(error("client_key", "needs a `client_certificate` beside it")),
        };
        Ok(TlsSettings { ca, identity, ..TlsSettings::default() })
    }

    /// Adds TLS to a target.
    fn secure(&self, target: &mut Target, node: &Node, path: &str, host: Option<&Host>) -> Result<(), ConfigError> {
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        let settings = self.tls(node, path)?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| error("endpoint", "is not a host name that a certificate can have"))?;
        secure_with(settings, name, target, host, |e| match e.key {
            "cert_file" => error("client_certificate", &e.to_string()),
            "key_file" => error("client_key", &e.to_string()),
            _ => error("certificate", &e.to_string()),
        })
    }
}

/// Sends Weir's own metrics.
pub struct OwnMetrics {
    address: String,
    temporality: Temporality,
    destination: OwnDestination,
}

enum OwnDestination {
    Http(HttpDestination),
    Grpc(GrpcDestination),
}

impl OwnMetrics {
    /// The exporter that is configured at `path`. The host may forgive files that are not there.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, host: Option<&Host>) -> Result<Self, ConfigError> {
        let config: OwnMetricsConfig = node.parse_as(path)?;
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        if config.timeout == 0 {
            return Err(error("timeout", "must be positive: milliseconds"));
        }
        let exchange = Exchange {
            timeout: Some(Duration::from_millis(config.timeout)),
            compression: match config.compression {
                OwnCompression::None => Compression::None,
                OwnCompression::Gzip => Compression::Gzip,
            },
            compression_level: None,
            queue: None,
            retry: RetryConfig::default().validate(node, path)?,
            max_request_bytes: request_limit(MAX_REQUEST_SIZE, node, path)?,
            auth: None,
            waits_for_ready: false,
        };
        let temporality = config.temporality_preference;
        let headers = config.headers.validate(node, path)?;
        let (invalid, proxies) = (|e: InvalidEndpoint| error("endpoint", &e.to_string()), Proxies::of_environment());
        if config.protocol == OwnProtocol::Http {
            // As in the Collector, `insecure` is for endpoints that do not say it.
            let url = match (config.endpoint.contains("://") || config.endpoint.is_empty(), config.insecure) {
                (true, _) => config.endpoint.clone(),
                (false, true) => format!("http://{}", config.endpoint),
                (false, false) => format!("https://{}", config.endpoint),
            };
            let mut endpoint = HttpEndpoint::parse(&url).map_err(invalid)?;
            if endpoint.uri.path() == "/" && endpoint.uri.query().is_none() {
                endpoint = HttpEndpoint::below(&url, Signal::Metrics).map_err(invalid)?;
            }
            let proxy = proxies.find(&endpoint.host, endpoint.port, endpoint.is_https).map_err(invalid)?;
            let mut target = plain(endpoint.host, endpoint.port, Protocol::Negotiated, exchange.timeout);
            target.proxy = proxy;
            if endpoint.is_https {
                config.secure(&mut target, node, path, host)?;
            } else if let Some(key) = config.certificate_key() {
                warn_of_moot(node, path, key, "the endpoint is spoken to in plain text");
            }
            let address = target.address();
            let metrics = Some(HttpTarget { target, uri: endpoint.uri });
            let (tls, encoding) = (config.tls(node, path)?, Encoding::Proto);
            let settings =
                HttpSettings { traces: None, metrics, logs: None, headers, encoding, tls, proxies, exchange };
            let destination = HttpDestination::new(&settings, Signal::Metrics, Environment::system());
            return Ok(Self { address, temporality, destination: OwnDestination::Http(destination) });
        }
        let endpoint = GrpcEndpoint::parse(&config.endpoint).map_err(invalid)?;
        let proxy = proxies.find(&endpoint.host, endpoint.port, true).map_err(invalid)?;
        let authority =
            Authority::try_from(endpoint.authority()).map_err(|_| error("endpoint", "is not a host and a port"))?;
        // Unlike in `otlp_grpc`, the scheme decides, unless there are certificates; both as in the Collector.
        let says_plain = config.endpoint.starts_with("http://") || !endpoint.is_https && config.insecure;
        let is_plain = says_plain && config.certificate_key().is_none();
        let mut target = plain(endpoint.host, endpoint.port, Protocol::Http2, exchange.timeout);
        target.proxy = proxy;
        if !is_plain {
            config.secure(&mut target, node, path, host)?;
        }
        let address = target.address();
        let settings = GrpcSettings { target, authority, headers, exchange };
        let destination = GrpcDestination::new(&settings, Signal::Metrics);
        Ok(Self { address, temporality, destination: OwnDestination::Grpc(destination) })
    }
}

impl std::fmt::Debug for OwnMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the headers, which may be secret.
        f.debug_struct("OwnMetrics").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl Push for OwnMetrics {
    async fn push(&self, request: Bytes) -> Result<(), PushError> {
        let sent = match &self.destination {
            OwnDestination::Http(destination) => send(destination, request).await,
            OwnDestination::Grpc(destination) => send(destination, request).await,
        };
        match sent {
            Ok(Accepted { rejected: 0, .. }) => Ok(()),
            Ok(Accepted { rejected, message }) => {
                Err(PushError::Partly(format!("{rejected} data points rejected: {message}")))
            }
            Err(Failure::Permanent(why) | Failure::TooLarge(why) | Failure::Transient { message: why, .. }) => {
                Err(PushError::Refused(why))
            }
        }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}

async fn send(destination: &impl Destination, request: Bytes) -> Result<Accepted, Failure> {
    let payload = destination.pack(request.into(), None).await?;
    destination.attempt(&payload).await
}
