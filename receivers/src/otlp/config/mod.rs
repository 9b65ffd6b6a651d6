//! Configuration: as written (`raw`), and as checked.
//!
//! Keys of the Collector's OTLP receiver that are not here are errors, never ignored: each changes what the receiver
//! promises.

mod at;
mod endpoint;
mod raw;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_pipeline::budget::Budget;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node, Optional};
use weir_pipeline::extension::{Authenticator, Extensions};
use weir_pipeline::signal::Signal;

pub(super) use self::at::At;
pub use self::endpoint::{Address, Endpoint};
use self::raw::{
    CorsConfig, GrpcConfig, HttpConfig, MiddlewareConfig, OtlpConfig, ProtocolsConfig, ServerParametersConfig,
};
use super::access::Access;
use super::cors::Cors;
use super::encoding::Encodings;
use super::tls::TlsSettings;

/// The limit that the OTLP specification recommends, before and after decompression. The Collector's are 4 MiB for gRPC
/// and 20 MiB for HTTP, which one LLM request with images can pass.
const DEFAULT_MAX_BYTES: usize = 64 << 20;

/// Streams a client may have open on one connection. Each waits for its receipt, which may be a commit away.
const DEFAULT_STREAMS: u32 = 1024;

/// Pings find connections whose other end has silently gone. gRPC's default is two hours.
const PING_AFTER: Duration = Duration::from_secs(120);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Describes the configuration as written.
pub(super) fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<OtlpConfig>()
}

/// What the receiver does, checked.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// The gRPC port, if there is one.
    pub grpc: Option<GrpcSettings>,
    /// The HTTP port, if there is one.
    pub http: Option<HttpSettings>,
    /// How long the receiver waits for what, unless a port's settings say otherwise.
    pub timeouts: Timeouts,
}

/// The gRPC port.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// What both ports have.
    pub port: PortSettings,
    /// Calls that may be open on one connection.
    pub max_concurrent_streams: u32,
    /// When connections are ended that nothing else ends.
    pub lifetime: Lifetime,
}

/// The HTTP port.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// What both ports have.
    pub port: PortSettings,
    /// Where signals are posted to.
    pub paths: Paths,
    /// Compressions that are accepted.
    pub accepted: Encodings,
    /// Which web pages may send, if any.
    pub cors: Option<Cors>,
    /// Sent with every answer that does not have them of its own.
    pub response_headers: HeaderMap,
    /// Bounds on waiting for clients.
    pub timeouts: HttpTimeouts,
    /// Whether a connection may carry more than one request.
    pub keep_alives_enabled: bool,
}

/// What both ports have.
#[derive(Debug, Clone)]
pub struct PortSettings {
    /// Where to listen.
    pub address: Address,
    /// Largest message in bytes, before and after decompression.
    pub max_bytes: usize,
    /// Who may send, and what is kept of their headers.
    pub access: Access,
    /// Budgets that a request's memory is taken from, beside those of the pipelines.
    pub budgets: Vec<Arc<Budget>>,
    /// Encryption.
    pub tls: Option<TlsSettings>,
}

/// When a connection is ended that nothing else ends. Requests under way are finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Longest time without a request under way.
    pub max_idle: Option<Duration>,
    /// Longest time from its beginning, give or take a tenth.
    pub max_age: Option<Duration>,
    /// How long requests under way have when it is too old; `None`: as long as they need.
    pub max_age_grace: Option<Duration>,
    /// Time without a sign of life after which the other end is asked for one (HTTP/2 only).
    pub ping_after: Duration,
    /// Time for it to give one.
    pub ping_timeout: Duration,
}

impl Default for Lifetime {
    fn default() -> Self {
        let [max_idle, max_age, max_age_grace] = [None; 3];
        Self { max_idle, max_age, max_age_grace, ping_after: PING_AFTER, ping_timeout: PING_TIMEOUT }
    }
}

/// The time-outs of the HTTP port that are configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// For a whole request, from its first byte.
    pub read: Option<Duration>,
    /// For a request's head; else `read`.
    pub read_header: Option<Duration>,
    /// For the answer, and again for the client to read it.
    pub write: Option<Duration>,
    /// Between two requests of a connection; else `read`.
    pub idle: Option<Duration>,
}

impl HttpTimeouts {
    /// The bounds of a port with these time-outs.
    pub(super) fn applied_to(self, timeouts: Timeouts) -> Timeouts {
        Timeouts {
            body_total: self.read.unwrap_or(timeouts.body_total),
            answer: self.write.unwrap_or(timeouts.answer),
            ..timeouts
        }
    }
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

/// Bounds on waiting, for clients and for pipelines. Not configurable as such.
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
    /// For clients to send the rest of a request, or to read an answer, when the receiver is told to stop.
    pub stragglers: Duration,
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
            stragglers: Duration::from_secs(5),
        }
    }
}

impl OtlpSettings {
    /// Reads and checks the receiver's section `node`, which stands at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str, extensions: &Extensions) -> Result<Self, ConfigError> {
        let config: OtlpConfig = node.parse_as(path)?;
        let OtlpConfig { protocols: ProtocolsConfig { grpc: Optional(grpc), http: Optional(http) } } = config;
        let at = At::new(node, path).key("protocols");
        if grpc.is_none() && http.is_none() {
            return Err(at.error("must specify at least one protocol when using the OTLP receiver"));
        }
        Ok(Self {
            grpc: grpc.map(|grpc| grpc_settings(grpc, &at.key("grpc"), extensions)).transpose()?,
            http: http.map(|http| http_settings(http, &at.key("http"), extensions)).transpose()?,
            timeouts: Timeouts::default(),
        })
    }
}

fn grpc_settings(config: GrpcConfig, at: &At<'_>, extensions: &Extensions) -> Result<GrpcSettings, ConfigError> {
    let max_bytes = config.max_recv_msg_size_mib.checked_mul(1 << 20);
    for (key, size) in [("read_buffer_size", config.read_buffer_size), ("write_buffer_size", config.write_buffer_size)]
    {
        if size.is_some() {
            tracing::warn!("{}", at.key(key).error("has no effect: there is no copy that it could size"));
        }
    }
    let keepalive = config.keepalive.0.unwrap_or_default();
    if keepalive.enforcement_policy.0.is_some() {
        let policy = at.key("keepalive").key("enforcement_policy");
        tracing::warn!("{}", policy.error("has no effect: clients may send pings as often as they like"));
    }
    let mut access = Access { include_metadata: config.include_metadata, ..Access::default() };
    if let Some(auth) = config.auth.0 {
        access.authenticator = Some(authenticator(&auth.authenticator, &at.key("auth"), extensions)?);
    }
    Ok(GrpcSettings {
        port: PortSettings {
            address: Address::parse(config.transport, &config.endpoint).map_err(|e| at.key("endpoint").error(e))?,
            max_bytes: size_limit(max_bytes, &at.key("max_recv_msg_size_mib"))?,
            access,
            budgets: budgets(&config.middlewares, &at.key("middlewares"), extensions)?,
            tls: config.tls.0.map(|tls| TlsSettings::new(tls, &at.key("tls"))).transpose()?,
        },
        max_concurrent_streams: match config.max_concurrent_streams {
            0 => DEFAULT_STREAMS,
            streams => streams,
        },
        lifetime: keepalive.server_parameters.0.as_ref().map_or_else(Lifetime::default, lifetime),
    })
}

fn lifetime(config: &ServerParametersConfig) -> Lifetime {
    Lifetime {
        max_idle: unless_zero(config.max_connection_idle),
        max_age: unless_zero(config.max_connection_age),
        max_age_grace: unless_zero(config.max_connection_age_grace),
        ping_after: unless_zero(config.time).unwrap_or(PING_AFTER),
        ping_timeout: unless_zero(config.timeout).unwrap_or(PING_TIMEOUT),
    }
}

fn http_settings(config: HttpConfig, at: &At<'_>, extensions: &Extensions) -> Result<HttpSettings, ConfigError> {
    let (idle_timeout, keep_alives_enabled) = keep_alives(&config, at)?;
    let mut access = Access { include_metadata: config.include_metadata, ..Access::default() };
    if let Some(auth) = config.auth.0 {
        access.authenticator = Some(authenticator(&auth.authenticator, &at.key("auth"), extensions)?);
        access.request_params = auth.request_params;
    }
    let paths = Paths {
        traces: url_path(&config.traces_url_path, &at.key("traces_url_path"))?,
        metrics: url_path(&config.metrics_url_path, &at.key("metrics_url_path"))?,
        logs: url_path(&config.logs_url_path, &at.key("logs_url_path"))?,
    };
    if paths.metrics == paths.traces {
        return Err(at.key("metrics_url_path").error("is also the path of traces"));
    }
    if paths.logs == paths.traces || paths.logs == paths.metrics {
        return Err(at.key("logs_url_path").error("is also the path of another signal"));
    }
    let algorithms = config.compression_algorithms.iter().map(String::as_str);
    let accepted = match config.compression_algorithms.is_empty() {
        true => Encodings::HTTP,
        false => Encodings::named(algorithms).map_err(|index| {
            let unknown = at.key("compression_algorithms").item(index).error("is no compression that is known here");
            unknown.with_hint("valid values: \"\" (none), gzip, zstd, zlib, snappy, deflate, lz4, x-snappy-framed")
        })?,
    };
    let HttpConfig { read_timeout, read_header_timeout, write_timeout, .. } = config;
    Ok(HttpSettings {
        port: PortSettings {
            address: Address::parse(config.transport, &config.endpoint).map_err(|e| at.key("endpoint").error(e))?,
            max_bytes: size_limit(Some(config.max_request_body_size), &at.key("max_request_body_size"))?,
            access,
            budgets: budgets(&config.middlewares, &at.key("middlewares"), extensions)?,
            tls: config.tls.0.map(|tls| TlsSettings::new(tls, &at.key("tls"))).transpose()?,
        },
        paths,
        accepted,
        cors: config.cors.0.map(|cors| cors_settings(&cors, &at.key("cors"))).transpose()?.flatten(),
        response_headers: response_headers(config.response_headers.as_ref(), &at.key("response_headers"))?,
        timeouts: HttpTimeouts {
            read: unless_zero(read_timeout),
            read_header: unless_zero(read_header_timeout).or(unless_zero(read_timeout)),
            write: unless_zero(write_timeout),
            idle: idle_timeout.or(unless_zero(read_timeout)),
        },
        keep_alives_enabled,
    })
}

/// How long a connection may be idle, and whether it may have more than one request: by `keepalive`, or by the keys that
/// it has taken the place of.
fn keep_alives(config: &HttpConfig, at: &At<'_>) -> Result<(Option<Duration>, bool), ConfigError> {
    if at.node().get("keepalive").is_none() {
        return Ok((unless_zero(config.idle_timeout), config.keep_alives_enabled));
    }
    if let Some(former) = ["idle_timeout", "keep_alives_enabled"].into_iter().find(|key| at.node().get(key).is_some()) {
        return Err(at.key(former).error("cannot be set beside `keepalive`, which has taken its place"));
    }
    Ok(match &config.keepalive.0 {
        Some(keepalive) => (unless_zero(keepalive.idle_timeout), true),
        None => (None, false),
    })
}

fn authenticator(id: &str, at: &At<'_>, extensions: &Extensions) -> Result<Arc<dyn Authenticator>, ConfigError> {
    let at = at.key("authenticator");
    if id.is_empty() {
        return Err(at.error("is required: the id of an extension that authenticates clients"));
    }
    extensions.authenticator(at.node(), at.path())
}

/// Without origins no page is allowed, as without the section.
fn cors_settings(config: &CorsConfig, at: &At<'_>) -> Result<Option<Cors>, ConfigError> {
    let CorsConfig { allowed_origins, allowed_headers, exposed_headers, max_age } = config;
    if allowed_origins.is_empty() {
        return match (allowed_headers.is_empty(), exposed_headers.is_empty(), max_age) {
            (true, true, 0) => Ok(None),
            _ => Err(at.key("allowed_origins").error("is required: without it no page may send anything")),
        };
    }
    let cors = Cors::new(allowed_origins, allowed_headers, exposed_headers, *max_age);
    cors.map(Some).map_err(|(key, message)| at.key(key).error(message))
}

/// `response_headers`: a mapping, or a list of `name` and `value`. Values may be secrets: no error quotes one.
fn response_headers(node: Option<&Node>, at: &At<'_>) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    let Some(node) = node else { return Ok(headers) };
    let mut add = |name: &str, value: Option<&str>, at: &At<'_>| {
        let header = HeaderName::try_from(name).map_err(|_| at.error(format!("`{name}` is no name of a header")))?;
        let value = value.and_then(|value| HeaderValue::try_from(value).ok());
        let mut value = value.ok_or_else(|| at.error("is no value that a header can have"))?;
        value.set_sensitive(true);
        match headers.insert(header, value) {
            None => Ok(()),
            Some(_) => Err(at.error(format!("header `{name}` is given twice"))),
        }
    };
    for (index, item) in node.items().iter().enumerate() {
        let at = at.item(index);
        let known = item.entries().iter().all(|(key, _)| matches!(key.text.as_str(), "name" | "value"));
        let name = item.get("name").and_then(Node::text).filter(|_| known);
        let name = name.ok_or_else(|| at.error("expected a `name` and a `value`"))?;
        add(name, item.get("value").map_or(Some(""), Node::text), &at)?;
    }
    for (key, value) in node.entries() {
        let text = if value.is_null() { Some("") } else { value.text() };
        add(&key.text, text, &at.key(&key.text))?;
    }
    if node.text().is_some() {
        return Err(at.error("expected a mapping of names to values"));
    }
    Ok(headers)
}

/// The budgets of the extensions that `middlewares` names, each once.
fn budgets(
    middlewares: &[MiddlewareConfig],
    at: &At<'_>,
    extensions: &Extensions,
) -> Result<Vec<Arc<Budget>>, ConfigError> {
    let mut budgets: Vec<Arc<Budget>> = Vec::new();
    for (index, _) in middlewares.iter().enumerate() {
        let id = at.item(index).key("id");
        let budget = extensions.find(id.node(), id.path())?.budget();
        let budget = budget.ok_or_else(|| {
            id.error("this extension limits no memory").with_hint("a receiver's middleware is a memory_limiter")
        })?;
        if !budgets.iter().any(|known| Arc::ptr_eq(known, &budget)) {
            budgets.push(budget);
        }
    }
    Ok(budgets)
}

/// A batch cannot be larger than 4 GiB: its offsets are 32 bits wide.
fn size_limit(bytes: Option<usize>, at: &At<'_>) -> Result<usize, ConfigError> {
    match bytes {
        Some(0) => Ok(DEFAULT_MAX_BYTES),
        Some(bytes) if bytes < u32::MAX as usize => Ok(bytes),
        _ => Err(at.error("must be less than 4 GiB")),
    }
}

/// The path of a relative or whole URL, as the Collector reads it.
fn url_path(url: &str, at: &At<'_>) -> Result<String, ConfigError> {
    let error = |message: &str| at.error(message).with_hint("write a path such as /v1/traces");
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    let (url, _) = url.split_once('?').unwrap_or((url, ""));
    let path = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            if scheme.is_empty() || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(error("is no URL: missing protocol scheme"));
            }
            rest.find('/').map_or("", |at| rest.get(at..).unwrap_or_default())
        }
        _ if url.split('/').next().is_some_and(|first| first.contains(':')) => {
            return Err(error("is no path: there is a colon before the first slash"));
        }
        _ => url,
    };
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn unless_zero(GoDuration(duration): GoDuration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
