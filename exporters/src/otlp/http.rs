//! `otlp_http` (alias `otlphttp`): exports over OTLP/HTTP, as protobuf or JSON.
//!
//! ```yaml
//! exporters:
//!   otlp_http:
//!     endpoint: https://api.example.com/otlp       # base: /v1/traces, /v1/metrics, /v1/logs are appended
//!     traces_endpoint: https://api.example.com/x   # or one URL per signal, used as it is
//!     metrics_endpoint: …
//!     logs_endpoint: …
//!     headers: {x-api-key: "${env:KEY}"}           # or a list of {name, value}
//!     auth: {authenticator: oauth2client}          # an extension; asked for each request
//!     encoding: proto            # proto (default) | json
//!     compression: gzip          # gzip (default) | zstd | zlib | deflate | snappy | x-snappy-framed | lz4 | none
//!     compression_params: {level: 1}   # gzip, zlib, deflate: -1 to 9; zstd: any; by default 1
//!     timeout: 30s               # of one attempt; 0: none
//!     proxy_url: http://user:password@proxy:3128   # http:// only; by default what the environment says, see `proxies`
//!     keepalive:                 # `enabled: false`: one connection per request; formerly `disable_keep_alives: true`
//!       idle_conn_timeout: 90s   # 0: connections are kept as long as the server keeps them; formerly outside
//!       max_idle_conns_per_host: 0   # connections without a request that each lane keeps, likewise `max_idle_conns`; 0:
//!                                    # no limit; formerly outside
//!     force_attempt_http2: true  # false: HTTP/1.1 only
//!     http2_read_idle_timeout: 0s      # silence before an HTTP/2 ping; 0: no pings
//!     http2_ping_timeout: 15s          # silence after it before the connection is given up
//!     tls: {}                    # as in `otlp_grpc`, less `insecure`: the URL decides
//!     max_request_size: 64MiB    # before compression; larger requests are cut, a span that is larger is dropped
//!     sending_queue: {}          # see `queue`
//!     retry_on_failure: {}
//! ```
//!
//! `read_buffer_size` and `write_buffer_size` are accepted with a warning and change nothing: they size copies that the
//! Collector makes and Weir does not. `middlewares`, `cookies` and `tls::tpm` may be there as long as they are empty or
//! off. Keys of the Collector that are not listed here are errors. HTTP/2 where TLS negotiates it, otherwise HTTP/1.1
//! with as many connections per lane and signal as there are requests under way. What is answered with 307 or 308 goes on
//! to where that leads; headers and credentials only if it is the same place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use weir_pipeline::batch::{Batch, Encoded, message_of};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Node, Optional, Secret, units, units::ByteSize, without_defaults};
use weir_pipeline::metadata::{Metadata, Reads};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::otlp::json::to_json;
use weir_pipeline::signal::Signal;

use super::answer;
use super::body::Payload;
use super::client::{Keepalive, Protocol, Target};
use super::compress::{Compress, Compression, INLINE};
use super::config::{
    CompressionParams, MAX_REQUEST_SIZE, TlsConfig, limit, plain, refuse_middlewares, request_limit,
    warn_of_moot_settings,
};
use super::endpoint::{HttpEndpoint, InvalidEndpoint, proxy};
use super::exchange::{Exchange, Outgoing};
use super::headers::{Auth, AuthConfig, Headers};
use super::proxies::Proxies;
use super::queues::Queues;
use super::route::Route;
use super::tls::TlsSettings;
use crate::queue::config::{QueueConfig, RetryConfig, error_at};
use crate::queue::{Accepted, Destination, Failure, Lane};

/// `keepalive`, which has taken the place of keys beside it.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HttpKeepaliveConfig {
    #[serde(deserialize_with = "units::duration")]
    idle_conn_timeout: Duration,
    max_idle_conns: usize,
    max_idle_conns_per_host: usize,
}

impl Default for HttpKeepaliveConfig {
    fn default() -> Self {
        Self { idle_conn_timeout: Duration::from_secs(90), max_idle_conns: 0, max_idle_conns_per_host: 0 }
    }
}

/// `cookies`, which has no settings.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CookiesConfig {}

/// `otlp_http`, as it is written.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HttpConfig {
    endpoint: Option<String>,
    traces_endpoint: Option<String>,
    metrics_endpoint: Option<String>,
    logs_endpoint: Option<String>,
    headers: Headers,
    auth: Option<AuthConfig>,
    encoding: Encoding,
    compression: Compression,
    compression_params: CompressionParams,
    proxy_url: Secret,
    #[serde(deserialize_with = "units::duration")]
    idle_conn_timeout: Duration,
    max_idle_conns: usize,
    max_idle_conns_per_host: usize,
    disable_keep_alives: bool,
    keepalive: Optional<HttpKeepaliveConfig>,
    force_attempt_http2: bool,
    #[serde(deserialize_with = "units::duration")]
    http2_read_idle_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    http2_ping_timeout: Duration,
    #[serde(rename = "read_buffer_size")]
    _read_buffer_size: Option<u64>,
    #[serde(rename = "write_buffer_size")]
    _write_buffer_size: Option<u64>,
    #[schemars(with = "Vec<serde_json::Value>")]
    middlewares: Vec<Node>,
    #[serde(deserialize_with = "without_defaults")]
    cookies: Optional<CookiesConfig>,
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
    tls: TlsConfig,
    max_request_size: ByteSize,
    sending_queue: QueueConfig,
    retry_on_failure: RetryConfig,
}

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    /// Protobuf, as the batch is.
    #[default]
    Proto,
    /// OTLP/JSON.
    Json,
}

impl Encoding {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Proto => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            logs_endpoint: None,
            headers: Headers::default(),
            auth: None,
            encoding: Encoding::default(),
            compression: Compression::default(),
            compression_params: CompressionParams::default(),
            proxy_url: Secret::default(),
            idle_conn_timeout: Duration::from_secs(90),
            max_idle_conns: 0,
            max_idle_conns_per_host: 0,
            disable_keep_alives: false,
            keepalive: Optional::default(),
            force_attempt_http2: true,
            http2_read_idle_timeout: Duration::ZERO,
            http2_ping_timeout: Duration::from_secs(15),
            _read_buffer_size: None,
            _write_buffer_size: None,
            middlewares: Vec::new(),
            cookies: Optional::default(),
            timeout: Duration::from_secs(30),
            tls: TlsConfig::default(),
            max_request_size: MAX_REQUEST_SIZE,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<HttpConfig>()
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
    pub(super) encoding: Encoding,
    /// For other hosts than the configured ones, if they send us there.
    pub(super) tls: TlsSettings,
    pub(super) proxies: Proxies,
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
    pub(super) fn parse(node: &Node, path: &str, signals: &[Signal], context: &Context) -> Result<Self, ConfigError> {
        let extensions = &context.extensions;
        let config: HttpConfig = node.parse_as(path)?;
        warn_of_moot_settings(node, path);
        refuse_middlewares(&config.middlewares, path)?;
        if config.cookies.is_some() {
            return Err(error_at(node, path, &["cookies"], "cannot be enabled: no cookies are kept"));
        }
        let timeout = limit(config.timeout);
        let keepalive = config.pings(node, path)?;
        let between_requests = config.between_requests(node, path)?;
        let proxies = match config.proxy_url.expose() {
            url if url.is_empty() => Proxies::of_environment(),
            url => Proxies::Always(proxy(url).map_err(|e| error_at(node, path, &["proxy_url"], e.to_string()))?),
        };
        let protocol = if config.force_attempt_http2 { Protocol::Negotiated } else { Protocol::Http1 };
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
            let invalid = |e: InvalidEndpoint| error_at(node, path, &[key], e.to_string());
            let endpoint = endpoint.map_err(invalid)?;
            let proxy = proxies.find(&endpoint.host, endpoint.port, endpoint.is_https).map_err(invalid)?;
            let mut target = plain(endpoint.host, endpoint.port, protocol, timeout);
            target.keepalive = keepalive.clone();
            target.proxy = proxy;
            target.is_kept_alive = between_requests.is_some();
            if let Some(kept) = &between_requests {
                let limits = [kept.max_idle_conns, kept.max_idle_conns_per_host];
                target.max_idle = limits.into_iter().filter(|most| *most > 0).min();
                target.idle_timeout = limit(kept.idle_conn_timeout);
            }
            if endpoint.is_https {
                config.tls.secure(&mut target, node, path, &context.host)?;
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
        let tls = config.tls.settings(node, path)?;
        let auth = config.auth.map(|auth| auth.validate(extensions, path)).transpose()?;
        let exchange = Exchange {
            timeout,
            compression: config.compression,
            compression_level: config.compression_params.validate(config.compression, node, path)?,
            queue: config.sending_queue.validate(extensions, Auth::reads(auth.as_ref()), node, path)?,
            retry: config.retry_on_failure.validate(node, path)?,
            max_request_bytes: request_limit(config.max_request_size, node, path)?,
            auth,
            waits_for_ready: false,
        };
        Ok(Self { traces, metrics, logs, headers, encoding: config.encoding, tls, proxies, exchange })
    }
}

impl HttpConfig {
    /// What becomes of connections between requests: by `keepalive`, or by the keys that it has taken the place of.
    fn between_requests(&self, node: &Node, path: &str) -> Result<Option<HttpKeepaliveConfig>, ConfigError> {
        let former = ["idle_conn_timeout", "max_idle_conns", "max_idle_conns_per_host", "disable_keep_alives"];
        if node.get("keepalive").is_none() {
            let (max_idle_conns, max_idle_conns_per_host) = (self.max_idle_conns, self.max_idle_conns_per_host);
            let idle_conn_timeout = self.idle_conn_timeout;
            let former = HttpKeepaliveConfig { idle_conn_timeout, max_idle_conns, max_idle_conns_per_host };
            return Ok((!self.disable_keep_alives).then_some(former));
        }
        match former.into_iter().find(|key| node.get(key).is_some()) {
            Some(key) => {
                Err(error_at(node, path, &[key], "cannot be set beside `keepalive`, which has taken its place"))
            }
            None => Ok(self.keepalive.0.clone()),
        }
    }

    /// HTTP/2 pings, if they are wanted.
    fn pings(&self, node: &Node, path: &str) -> Result<Option<Keepalive>, ConfigError> {
        let Some(time) = limit(self.http2_read_idle_timeout) else { return Ok(None) };
        match limit(self.http2_ping_timeout) {
            Some(timeout) => Ok(Some(Keepalive { time, timeout, permit_without_stream: true })),
            None => Err(error_at(node, path, &["http2_ping_timeout"], "must be positive")),
        }
    }
}

impl OtlpHttp {
    /// The exporter that is configured at `path` and that pipelines of `signals` use. Reads the files that `tls` names.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, signals: &[Signal], context: &Context) -> Result<Self, ConfigError> {
        Ok(Self::new(HttpSettings::parse(node, path, signals, context)?, context.clone()))
    }

    pub(super) fn new(settings: HttpSettings, context: Context) -> Self {
        let environment = context.environment.clone();
        Self { queues: Queues::new(context, &settings.exchange), settings, environment }
    }
}

#[async_trait]
impl ExporterFactory for OtlpHttp {
    fn create(&self, _lane: usize, signal: Signal, shutdown: Shutdown) -> Arc<dyn Exporter> {
        let destination = HttpDestination::new(&self.settings, signal, self.environment.clone());
        Arc::new(Lane::new(self.queues.get(signal), destination, shutdown))
    }

    fn reads_metadata(&self) -> Reads {
        Auth::reads(self.settings.exchange.auth.as_ref())
    }

    async fn finish(&self) {
        self.queues.finish().await;
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

/// One lane's way to the URL of one signal.
pub(super) struct HttpDestination {
    /// `None`: no endpoint is configured for the signal.
    route: Option<Route>,
    encoding: Encoding,
    compress: Compress,
    environment: Environment,
}

impl HttpDestination {
    pub(super) fn new(settings: &HttpSettings, signal: Signal, environment: Environment) -> Self {
        let HttpSettings { encoding, exchange, .. } = settings;
        Self {
            route: settings.get(signal).map(|to| Route::new(to, settings)),
            encoding: *encoding,
            compress: Compress::new(exchange.compression, exchange.compression_level),
            environment,
        }
    }
}

impl Destination for HttpDestination {
    type Payload = Outgoing;

    async fn encode(&self, batch: &Batch) -> Result<Encoded, Failure> {
        if self.encoding == Encoding::Proto {
            return Ok(batch.encode_pieces());
        }
        let protobuf = batch.encode();
        let message = message_of(batch.signal());
        if protobuf.len() <= INLINE {
            return Ok(Bytes::from(to_json(message, &protobuf)).into());
        }
        let written = tokio::task::spawn_blocking(move || to_json(message, &protobuf)).await;
        written.map(|json| Bytes::from(json).into()).map_err(|e| Failure::transient(e.to_string()))
    }

    async fn pack(&self, request: Encoded, metadata: Option<&Arc<Metadata>>) -> Result<Outgoing, Failure> {
        let data = self.compress.run(request).await.map_err(|e| Failure::transient(e.to_string()))?;
        Ok(Outgoing { body: Payload::plain(data), metadata: metadata.cloned() })
    }

    async fn attempt(&self, request: &Outgoing) -> Result<Accepted, Failure> {
        let Some(route) = &self.route else {
            return Err(Failure::Permanent("no endpoint is configured for this signal".to_owned()));
        };
        let reply = route.send(request).await?;
        answer::http(&reply, self.environment.now_unix_nanos())
    }
}
