//! OTLP exporters.

mod answer;
mod backends;
mod body;
mod client;
mod compress;
mod config;
mod connect;
mod dial;
mod endpoint;
mod exchange;
mod fetch;
mod gather;
mod grpc;
mod headers;
mod http;
mod joining;
mod own_metrics;
mod pool;
mod proxies;
mod queues;
mod route;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use ::http::HeaderValue;

pub use self::fetch::HttpFetch;
pub use self::grpc::{OtlpGrpc, schema as grpc_schema};
pub use self::http::{OtlpHttp, schema as http_schema};
pub use self::own_metrics::{OwnMetrics, OwnMetricsConfig};

const USER_AGENT_VALUE: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
