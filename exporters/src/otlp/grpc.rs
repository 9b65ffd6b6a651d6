//! `otlp_grpc` (alias `otlp`): exports over OTLP/gRPC.
//!
//! ```yaml
//! exporters:
//!   otlp_grpc:
//!     endpoint: tempo:4317       # host:port; http://, https:// and dns:/// in front are tolerated; or unix:///path
//!     balancer_name: round_robin # each of the name's addresses in turn; or pick_first: the one that answers first
//!     headers: {authorization: "Bearer ${env:TOKEN}"}
//!     auth: {authenticator: bearertokenauth}   # an extension; asked for each request
//!     compression: gzip          # gzip (default) | zstd | snappy | none
//!     timeout: 5s                # of one attempt; 0: none
//!     authority: tempo.example   # `:authority`; by default the endpoint
//!     user_agent: my-collector   # by default weir/<version>
//!     wait_for_ready: false      # whether an attempt waits for a connection until its timeout
//!     keepalive: {time: 10s, timeout: 10s, permit_without_stream: false}   # off by default
//!     tls:                       # TLS is on unless `insecure: true`
//!       insecure: false
//!       insecure_skip_verify: false
//!       ca_file: ca.pem          # by default the system's roots; or the text itself as `ca_pem`
//!       include_system_ca_certs_pool: false
//!       cert_file: client.pem    # or `cert_pem`, `key_pem`
//!       key_file: client.key
//!       server_name_override: tempo.internal
//!       min_version: "1.2"
//!       max_version: "1.3"       # by default the newest
//!       reload_interval: 0s      # after this time files are read again for new connections; 0: never
//!     max_request_size: 64MiB    # before compression; larger requests are cut, a span that is larger is dropped
//!     sending_queue: {}          # see `queue`
//!     retry_on_failure: {}
//! ```
//!
//! `read_buffer_size` and `write_buffer_size` are accepted with a warning and change nothing: they size copies that the
//! Collector makes and Weir does not. `middlewares` and `tls::tpm` may be there as long as they are empty or off. Keys of
//! the Collector that are not listed here are errors. One HTTP/2 connection per lane, signal and server; which servers
//! there are is looked up while requests go out (see `backends`). A proxy that the environment names is used as for an
//! https:// URL (see `proxies`); it chooses the server then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Uri};
use serde::Deserialize;
use weir_pipeline::batch::{Batch, Encoded};
use weir_pipeline::config::{ConfigError, Node, Optional, units, units::ByteSize};
use weir_pipeline::metadata::{Metadata, Reads};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::signal::Signal;

use super::answer;
use super::body::Payload;
use super::client::{Client, Protocol, Target, Template};
use super::compress::{Compress, Compression};
use super::config::{
    KeepaliveConfig, MAX_REQUEST_SIZE, TlsConfig, limit, plain, refuse_middlewares, request_limit,
    warn_of_moot_settings,
};
use super::endpoint::{GrpcEndpoint, InvalidEndpoint};
use super::exchange::{Exchange, Outgoing, exchange};
use super::headers::{Auth, AuthConfig, Headers};
use super::proxies::Proxies;
use super::queues::Queues;
use crate::queue::config::{QueueConfig, RetryConfig, error_at};
use crate::queue::{Accepted, Destination, Failure, Lane};

/// `otlp_grpc`, as it is written.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GrpcConfig {
    endpoint: String,
    headers: Headers,
    compression: Compression,
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
    tls: TlsConfig,
    keepalive: Optional<KeepaliveConfig>,
    authority: Option<String>,
    balancer_name: Balancer,
    user_agent: Option<String>,
    auth: Option<AuthConfig>,
    wait_for_ready: bool,
    #[serde(rename = "read_buffer_size")]
    _read_buffer_size: Option<u64>,
    #[serde(rename = "write_buffer_size")]
    _write_buffer_size: Option<u64>,
    #[schemars(with = "Vec<serde_json::Value>")]
    middlewares: Vec<Node>,
    max_request_size: ByteSize,
    sending_queue: QueueConfig,
    retry_on_failure: RetryConfig,
}

/// `balancer_name`: which of the servers that a name stands for is sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
enum Balancer {
    /// All in turn.
    #[default]
    #[serde(rename = "round_robin", alias = "")]
    RoundRobin,
    /// The one that answers first.
    #[serde(rename = "pick_first")]
    PickFirst,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Headers::default(),
            compression: Compression::default(),
            timeout: Duration::from_secs(5),
            tls: TlsConfig::default(),
            keepalive: Optional::default(),
            authority: None,
            balancer_name: Balancer::default(),
            user_agent: None,
            auth: None,
            wait_for_ready: false,
            _read_buffer_size: None,
            _write_buffer_size: None,
            middlewares: Vec::new(),
            max_request_size: MAX_REQUEST_SIZE,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<GrpcConfig>()
}

/// `otlp_grpc`, validated.
#[derive(Debug, Clone)]
pub(super) struct GrpcSettings {
    pub(super) target: Target,
    /// `:authority`, which is also what a proxy routes by.
    pub(super) authority: Authority,
    /// The user's headers and `user-agent`.
    pub(super) headers: HeaderMap,
    pub(super) exchange: Exchange,
}

/// Makes the lanes of one `otlp_grpc` exporter.
pub struct OtlpGrpc {
    settings: GrpcSettings,
    queues: Queues,
}

impl GrpcSettings {
    pub(super) fn parse(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        let extensions = &context.extensions;
        let config: GrpcConfig = node.parse_as(path)?;
        warn_of_moot_settings(node, path);
        refuse_middlewares(&config.middlewares, path)?;
        config.tls.refuse_tpm(node, path)?;
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        let invalid = |e: InvalidEndpoint| error("endpoint", &e.to_string());
        let endpoint = GrpcEndpoint::parse(&config.endpoint).map_err(invalid)?;
        let proxy = Proxies::of_environment().find(&endpoint.host, endpoint.port, true).map_err(invalid)?;
        let is_known = matches!(
            config.compression,
            Compression::Gzip | Compression::Zstd | Compression::Snappy | Compression::None
        );
        if !is_known {
            return Err(error("compression", "is not known to gRPC: use gzip, zstd, snappy or none"));
        }
        if config.wait_for_ready && config.timeout.is_zero() {
            return Err(error("wait_for_ready", "needs a `timeout`, without which an attempt might never end"));
        }
        let authority = config.authority.filter(|a| !a.is_empty());
        let key = if authority.is_some() { "authority" } else { "endpoint" };
        let authority = authority.unwrap_or_else(|| endpoint.authority());
        let authority = Authority::try_from(authority).map_err(|_| error(key, "is not a host and a port"))?;
        let mut headers = config.headers.validate(node, path)?;
        if let Some(user_agent) = config.user_agent.filter(|u| !u.is_empty()) {
            let value = HeaderValue::try_from(user_agent);
            headers
                .insert(USER_AGENT, value.map_err(|_| error("user_agent", "is not a value that a header can have"))?);
        }
        let timeout = limit(config.timeout);
        let mut target = plain(endpoint.host, endpoint.port, Protocol::Http2, timeout);
        (target.proxy, target.socket) = (proxy, endpoint.socket);
        target.is_balanced = config.balancer_name == Balancer::RoundRobin;
        target.keepalive = config.keepalive.into_inner().map(|k| k.validate(node, path)).transpose()?;
        if endpoint.is_https || !config.tls.is_plain() {
            config.tls.secure(&mut target, node, path, &context.host)?;
        }
        let auth = config.auth.map(|auth| auth.validate(extensions, path)).transpose()?;
        let exchange = Exchange {
            timeout,
            compression: config.compression,
            compression_level: None,
            queue: config.sending_queue.validate(extensions, Auth::reads(auth.as_ref()), node, path)?,
            retry: config.retry_on_failure.validate(node, path)?,
            max_request_bytes: request_limit(config.max_request_size, node, path)?,
            auth,
            waits_for_ready: config.wait_for_ready,
        };
        Ok(Self { target, authority, headers, exchange })
    }
}

impl OtlpGrpc {
    /// The exporter that is configured at `path`. Reads the files that `tls` names.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        Ok(Self::new(GrpcSettings::parse(node, path, context)?, context.clone()))
    }

    pub(super) fn new(settings: GrpcSettings, context: Context) -> Self {
        Self { queues: Queues::new(context, &settings.exchange), settings }
    }
}

#[async_trait]
impl ExporterFactory for OtlpGrpc {
    fn create(&self, _lane: usize, signal: Signal, shutdown: Shutdown) -> Arc<dyn Exporter> {
        let destination = GrpcDestination::new(&self.settings, signal);
        Arc::new(Lane::new(self.queues.get(signal), destination, shutdown))
    }

    fn reads_metadata(&self) -> Reads {
        Auth::reads(self.settings.exchange.auth.as_ref())
    }

    async fn finish(&self) {
        self.queues.finish().await;
    }

    fn promise(&self) -> String {
        self.queues.promise(&self.settings.target.address())
    }
}

/// One lane's way to the service of one signal.
pub(super) struct GrpcDestination {
    client: Client,
    compress: Compress,
    exchange: Exchange,
}

impl GrpcDestination {
    pub(super) fn new(settings: &GrpcSettings, signal: Signal) -> Self {
        let GrpcSettings { target, exchange, .. } = settings;
        Self {
            client: Client::new(target.clone(), template(settings, signal)),
            // By the name `snappy` gRPC means the framing format.
            compress: match exchange.compression {
                Compression::Snappy => Compress::new(Compression::SnappyFramed, None),
                other => Compress::new(other, None),
            },
            exchange: exchange.clone(),
        }
    }
}

impl Destination for GrpcDestination {
    type Payload = Outgoing;

    async fn encode(&self, batch: &Batch) -> Result<Encoded, Failure> {
        Ok(batch.encode_pieces())
    }

    async fn pack(&self, request: Encoded, metadata: Option<&Arc<Metadata>>) -> Result<Outgoing, Failure> {
        let data = self.compress.run(request).await.map_err(|e| Failure::transient(e.to_string()))?;
        let body = Payload::grpc(data, self.exchange.compression != Compression::None);
        body.map(|body| Outgoing { body, metadata: metadata.cloned() })
            .ok_or_else(|| Failure::TooLarge("the request is larger than the 4 GiB that gRPC can carry".to_owned()))
    }

    async fn attempt(&self, payload: &Outgoing) -> Result<Accepted, Failure> {
        let (edits, deadline) = (self.exchange.edits(payload)?, self.exchange.deadline());
        let limit = answer::MAX_GRPC_RESPONSE;
        answer::grpc(&exchange(&self.client, &payload.body, &edits, &self.exchange, deadline, limit).await?)
    }
}

fn template(settings: &GrpcSettings, signal: Signal) -> Template {
    let path = PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    });
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if settings.target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(settings.authority.clone());
    uri.path_and_query = Some(path);
    // With scheme, authority and path present this cannot fail.
    let uri = Uri::from_parts(uri).unwrap_or_default();

    let mut headers = settings.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(name) = settings.exchange.compression.name() {
        headers.insert("grpc-encoding", HeaderValue::from_static(name));
    }
    if let Some(timeout) = settings.exchange.timeout {
        // At most eight digits: in milliseconds that is more than a day.
        let millis = timeout.as_millis().clamp(1, 99_999_999) as u32;
        if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
            headers.insert("grpc-timeout", value);
        }
    }
    headers.entry(USER_AGENT).or_insert(super::USER_AGENT_VALUE);
    Template { http1: (uri.clone(), HeaderMap::new()), http2: (uri, headers) }
}
