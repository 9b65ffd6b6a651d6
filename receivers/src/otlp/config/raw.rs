//! The configuration as written.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{Node, Optional, without_defaults};

use super::endpoint::Transport;
use crate::otlp::tls::TlsConfig;

/// The receiver's section.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OtlpConfig {
    pub(super) protocols: ProtocolsConfig,
}

/// `protocols`: each is off unless it is there.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProtocolsConfig {
    pub(super) grpc: Optional<GrpcConfig>,
    pub(super) http: Optional<HttpConfig>,
}

/// `protocols::grpc`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GrpcConfig {
    pub(super) endpoint: String,
    pub(super) transport: Transport,
    pub(super) max_recv_msg_size_mib: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) read_buffer_size: Option<u64>,
    pub(super) write_buffer_size: Option<u64>,
    pub(super) include_metadata: bool,
    pub(super) keepalive: Optional<KeepaliveConfig>,
    #[serde(deserialize_with = "without_defaults")]
    pub(super) tls: Optional<TlsConfig>,
    #[serde(deserialize_with = "without_defaults")]
    pub(super) auth: Optional<GrpcAuthConfig>,
    pub(super) middlewares: Vec<MiddlewareConfig>,
}

/// `protocols::grpc::keepalive`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KeepaliveConfig {
    pub(super) server_parameters: Optional<ServerParametersConfig>,
    pub(super) enforcement_policy: Optional<EnforcementPolicyConfig>,
}

/// `protocols::grpc::keepalive::enforcement_policy`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EnforcementPolicyConfig {
    #[serde(rename = "min_time")]
    _min_time: GoDuration,
    #[serde(rename = "permit_without_stream")]
    _permit_without_stream: bool,
}

/// `protocols::grpc::keepalive::server_parameters`; zero stands for the default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServerParametersConfig {
    pub(super) max_connection_idle: GoDuration,
    pub(super) max_connection_age: GoDuration,
    pub(super) max_connection_age_grace: GoDuration,
    pub(super) time: GoDuration,
    pub(super) timeout: GoDuration,
}

/// `auth` of gRPC.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GrpcAuthConfig {
    pub(super) authenticator: String,
}

/// `auth` of HTTP.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpAuthConfig {
    pub(super) authenticator: String,
    pub(super) request_params: Vec<String>,
}

/// An item of `middlewares`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MiddlewareConfig {
    #[expect(dead_code, reason = "looked up by its node, which knows where it stands")]
    id: String,
}

/// `protocols::http`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpConfig {
    pub(super) endpoint: String,
    pub(super) transport: Transport,
    pub(super) traces_url_path: String,
    pub(super) metrics_url_path: String,
    pub(super) logs_url_path: String,
    pub(super) max_request_body_size: usize,
    pub(super) include_metadata: bool,
    #[schemars(with = "Option<std::collections::BTreeMap<String, weir_pipeline::config::Secret>>")]
    pub(super) response_headers: Option<Node>,
    pub(super) compression_algorithms: Vec<String>,
    pub(super) cors: Optional<CorsConfig>,
    #[serde(deserialize_with = "without_defaults")]
    pub(super) auth: Optional<HttpAuthConfig>,
    pub(super) read_timeout: GoDuration,
    pub(super) read_header_timeout: GoDuration,
    pub(super) write_timeout: GoDuration,
    pub(super) idle_timeout: GoDuration,
    pub(super) keep_alives_enabled: bool,
    pub(super) keepalive: Optional<HttpKeepaliveConfig>,
    pub(super) middlewares: Vec<MiddlewareConfig>,
    #[serde(deserialize_with = "without_defaults")]
    pub(super) tls: Optional<TlsConfig>,
}

/// `protocols::http::keepalive`, which has taken the place of `idle_timeout` and `keep_alives_enabled`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpKeepaliveConfig {
    pub(super) idle_timeout: GoDuration,
}

/// `protocols::http::cors`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CorsConfig {
    pub(super) allowed_origins: Vec<String>,
    pub(super) allowed_headers: Vec<String>,
    pub(super) exposed_headers: Vec<String>,
    pub(super) max_age: i64,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            transport: Transport::Tcp,
            max_recv_msg_size_mib: 0,
            max_concurrent_streams: 0,
            read_buffer_size: None,
            write_buffer_size: None,
            include_metadata: false,
            keepalive: Optional(None),
            tls: Optional(None),
            auth: Optional(None),
            middlewares: Vec::new(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        let zero = GoDuration::default();
        Self {
            endpoint: "localhost:4318".to_owned(),
            transport: Transport::Tcp,
            traces_url_path: "/v1/traces".to_owned(),
            metrics_url_path: "/v1/metrics".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            max_request_body_size: 0,
            include_metadata: false,
            response_headers: None,
            compression_algorithms: Vec::new(),
            cors: Optional(None),
            auth: Optional(None),
            read_timeout: zero,
            read_header_timeout: zero,
            write_timeout: zero,
            idle_timeout: zero,
            keep_alives_enabled: true,
            keepalive: Optional(None),
            middlewares: Vec::new(),
            tls: Optional(None),
        }
    }
}
