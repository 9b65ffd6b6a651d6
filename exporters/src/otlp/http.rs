//! `otlp_http` (alias `otlphttp`): exports over OTLP/HTTP, as protobuf.
//!
//! ```yaml
//! exporters:
//!   otlp_http:
//!     endpoint: https://api.example.com/otlp       # base: /v1/traces, /v1/metrics, /v1/logs are appended
//!     traces_endpoint: https://api.example.com/x   # or one URL per signal, used as it is
//!     metrics_endpoint: …
//!     logs_endpoint: …
//!     headers: {x-api-key: "${env:KEY}"}
//!     encoding: proto            # the only one
//!     compression: gzip          # gzip (default) | zstd | zlib | deflate | none
//!     timeout: 30s               # of one attempt; 0: none
//!     tls: {}                    # as in `otlp_grpc`, less `insecure`: the URL decides
//!     max_request_size: 64MiB    # before compression; larger requests are cut, a span that is larger is dropped
//!     sending_queue: {}          # see `queue`
//!     retry_on_failure: {}
//! ```
//!
//! Keys of the Collector that are not listed here are errors. HTTP/2 where TLS negotiates it, otherwise HTTP/1.1 with as
//! many connections per lane and signal as there are requests under way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use serde::Deserialize;
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node, units, units::ByteSize};
use weir_pipeline::metadata::Metadata;
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::signal::Signal;

use super::answer;
use super::body::Payload;
use super::client::{Client, Protocol, Target, Template};
use super::compress::{Compress, Compression};
use super::config::{Headers, MAX_REQUEST_SIZE, TlsConfig, limit, plain, request_limit};
use super::endpoint::HttpEndpoint;
use super::exchange::{Exchange, exchange};
use super::queues::Queues;
use crate::queue::config::{QueueConfig, RetryConfig, error_at};
use crate::queue::{Accepted, Destination, Failure, Lane};

/// `otlp_http`, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpConfig {
    endpoint: Option<String>,
    traces_endpoint: Option<String>,
    metrics_endpoint: Option<String>,
    logs_endpoint: Option<String>,
    headers: Headers,
    encoding: Encoding,
    compression: Compression,
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
    tls: TlsConfig,
    max_request_size: ByteSize,
    sending_queue: QueueConfig,
    retry_on_failure: RetryConfig,
}

/// Accepted so that configurations which name the default load.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Proto,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            logs_endpoint: None,
            headers: Headers::default(),
            encoding: Encoding::default(),
            compression: Compression::default(),
            timeout: Duration::from_secs(30),
            tls: TlsConfig::default(),
            max_request_size: MAX_REQUEST_SIZE,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}

/// `otlp_http`, validated.
#[derive(Debug, Clone)]
pub(super) struct HttpSettings {
    /// `None`: no endpoint is configured for the signal.
    pub(super) traces: Option<HttpTarget>,
    pub(super) metrics: Option<HttpTarget>,
    pub(super) logs: Option<HttpTarget>,
    /// The user's headers.
    pub(super) headers: HeaderMap,
    pub(super) exchange: Exchange,
}

/// Where one signal goes.
#[derive(Debug, Clone)]
pub(super) struct HttpTarget {
    pub(super) target: Target,
    pub(super) uri: Uri,
}

/// Makes the lanes of one `otlp_http` exporter.
pub struct OtlpHttp {
    settings: HttpSettings,
    queues: Queues,
    environment: Environment,
}

impl HttpSettings {
    pub(super) fn parse(node: &Node, path: &str, signals: &[Signal]) -> Result<Self, ConfigError> {
        let config: HttpConfig = node.parse_as(path)?;
        let Encoding::Proto = config.encoding;
        let timeout = limit(config.timeout);
        let target = |signal: Signal, own: &Option<String>| {
            let (key, own) = (format!("{signal}_endpoint"), own.as_deref().filter(|e| !e.is_empty()));
            let (key, endpoint) = match (own, config.endpoint.as_deref().filter(|e| !e.is_empty())) {
                (Some(own), _) => (key.as_str(), HttpEndpoint::parse(own)),
                (None, Some(base)) => ("endpoint", HttpEndpoint::below(base, signal)),
                (None, None) if signals.contains(&signal) => {
                    let message = format!("must be specified, or `{key}`: a pipeline for {signal} uses this exporter");
                    return Err(error_at(node, path, &["endpoint"], message));
                }
                (None, None) => return Ok(None),
            };
            let endpoint = endpoint.map_err(|e| error_at(node, path, &[key], e.to_string()))?;
            let mut target = plain(endpoint.host, endpoint.port, Protocol::Negotiated, timeout);
            if endpoint.is_https {
                config.tls.secure(&mut target, node, path)?;
            }
            Ok(Some(HttpTarget { target, uri: endpoint.uri }))
        };
        let traces = target(Signal::Traces, &config.traces_endpoint)?;
        let metrics = target(Signal::Metrics, &config.metrics_endpoint)?;
        let logs = target(Signal::Logs, &config.logs_endpoint)?;
        if traces.is_none() && metrics.is_none() && logs.is_none() {
            return Err(error_at(node, path, &["endpoint"], "at least one endpoint must be specified"));
        }
        let headers = config.headers.validate(node, path)?;
        let exchange = Exchange {
            timeout,
            compression: config.compression,
            queue: config.sending_queue.validate(node, path)?,
            retry: config.retry_on_failure.validate(node, path)?,
            max_request_bytes: request_limit(config.max_request_size, node, path)?,
        };
        Ok(Self { traces, metrics, logs, headers, exchange })
    }
}

impl OtlpHttp {
    /// The exporter that is configured at `path` and that pipelines of `signals` use. Reads the files that `tls` names.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, signals: &[Signal], context: &Context) -> Result<Self, ConfigError> {
        Ok(Self::new(HttpSettings::parse(node, path, signals)?, context.clone()))
    }

    pub(super) fn new(settings: HttpSettings, context: Context) -> Self {
        let environment = context.environment.clone();
        Self { queues: Queues::new(context, &settings.exchange), settings, environment }
    }
}

#[async_trait]
impl ExporterFactory for OtlpHttp {
    fn create(&self, _lane: usize, signal: Signal, shutdown: Shutdown) -> Arc<dyn Exporter> {
        let HttpSettings { headers, exchange, .. } = &self.settings;
        let client = self
            .settings
            .get(signal)
            .map(|HttpTarget { target, uri }| Client::new(target.clone(), template(target, uri, headers, exchange)));
        let destination = HttpDestination {
            client,
            compress: Compress::new(exchange.compression),
            exchange: exchange.clone(),
            environment: self.environment.clone(),
        };
        Arc::new(Lane::new(self.queues.get(signal), destination, shutdown))
    }

    fn promise(&self) -> String {
        let HttpSettings { traces, metrics, logs, .. } = &self.settings;
        let mut addresses: Vec<String> =
            [traces, metrics, logs].into_iter().flatten().map(|t| t.target.address()).collect();
        addresses.dedup();
        self.queues.promise(&addresses.join(" or "))
    }
}

impl HttpSettings {
    fn get(&self, signal: Signal) -> Option<&HttpTarget> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }
}

struct HttpDestination {
    client: Option<Client>,
    compress: Compress,
    exchange: Exchange,
    environment: Environment,
}

impl Destination for HttpDestination {
    type Payload = Payload;

    async fn encode(&self, batch: &Batch) -> Result<Bytes, Failure> {
        Ok(batch.encode())
    }

    async fn pack(&self, request: Bytes, _metadata: Option<&Arc<Metadata>>) -> Result<Payload, Failure> {
        let data = self.compress.run(request).await.map_err(|e| Failure::transient(e.to_string()))?;
        Ok(Payload::plain(data))
    }

    async fn attempt(&self, payload: &Payload) -> Result<Accepted, Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::Permanent("no endpoint is configured for this signal".to_owned()));
        };
        let reply = exchange(client, payload, self.exchange.timeout).await?;
        answer::http(&reply, self.environment.now_unix_nanos())
    }
}

fn template(target: &Target, uri: &Uri, user: &HeaderMap, exchange: &Exchange) -> Template {
    let mut headers = user.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    if let Some(name) = exchange.compression.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    headers.entry(USER_AGENT).or_insert(super::USER_AGENT_VALUE);
    let mut with_host = headers.clone();
    let authority = uri.authority().map_or_else(|| target.address(), |authority| authority.as_str().to_owned());
    // What was parsed as an authority is a valid header; without a host the server will say so.
    if let (false, Ok(host)) = (with_host.contains_key(HOST), HeaderValue::try_from(authority)) {
        with_host.insert(HOST, host);
    }
    let path = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    Template { http1: (path, with_host), http2: (uri.clone(), headers) }
}
