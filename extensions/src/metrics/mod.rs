//! Weir's own metrics for Prometheus: `service::telemetry::metrics`.
//!
//! ```yaml
//! service:
//!   telemetry:
//!     metrics:
//!       level: normal                     # none | basic | normal | detailed
//!       readers:
//!         - pull:
//!             exporter:
//!               prometheus:
//!                 host: localhost
//!                 port: 8888
//!                 without_type_suffix: true   # `_total` of counters is left out
//!                 without_units: true         # `_seconds`, `_bytes` … are left out
//!                 without_scope_info: true    # the label `otel_scope_name` is left out
//!     resource: {service.name: gateway}   # labels of `target_info`
//! ```
//!
//! Without `readers` there is one with the values shown; `address: localhost:8888`, which older Collectors read, changes
//! where it listens. A reader that is written has the suffixes and labels unless it says otherwise, as in the Collector.
//!
//! What it guarantees:
//!
//! * All numbers of a page are read at one moment. `weir_accounting_difference` is 0 for each destination unless
//!   records vanished uncounted or were counted twice (I2); `weir_exporter_dropped` says how many were given up and why.
//! * The number of series is bounded, whatever clients send ([`weir_pipeline::telemetry::MAX_SERIES`] a metric).
//! * If nobody asked for port 8888, its being in use is a warning: a second Weir on a laptop starts all the same. A
//!   configured address that cannot be had is an error.

mod config;
mod process;
mod text;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use weir_pipeline::host::Host;
use weir_pipeline::node::StartError;
use weir_pipeline::telemetry::Level;

pub use self::config::{Reader, Settings};
use self::text::Resource;
use crate::http::{Ask, ListenError, Page, Pages, Server, page};

/// The pages that run, one a reader.
#[derive(Debug, Default)]
pub struct Metrics {
    servers: Vec<Server>,
}

impl Metrics {
    /// Starts a page for each reader, in tasks of the runtime that this is called in.
    ///
    /// # Errors
    /// If a configured address cannot be listened on. That the default one is in use is logged and no error.
    pub fn start(settings: &Settings, host: &Host) -> Result<Self, StartError> {
        let mut servers = Vec::new();
        if settings.level == Level::None {
            return Ok(Self { servers });
        }
        for reader in &settings.readers {
            let failed = |message: String| StartError { component: "service::telemetry::metrics".to_owned(), message };
            let sockets = match reader.endpoint.listen() {
                Ok(sockets) => sockets,
                Err(ListenError::InUse(address)) if reader.is_default => {
                    tracing::warn!(
                        "{address} is in use: Weir's own metrics are not served; another Weir? \
                         Set service::telemetry::metrics::readers to another port, or level to none"
                    );
                    continue;
                }
                Err(error) => return Err(failed(format!("{error}; change the reader's host and port"))),
            };
            let pages = Exposition {
                host: host.clone(),
                level: settings.level,
                reader: reader.clone(),
                resource: Resource::new(&settings.resource),
            };
            servers.push(Server::start(sockets, Arc::new(pages)).map_err(|error| failed(error.to_string()))?);
        }
        Ok(Self { servers })
    }

    /// Where the pages are.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().flat_map(|server| server.addresses().to_vec()).collect()
    }

    /// Stops serving.
    pub async fn stop(&self) {
        for server in &self.servers {
            server.stop().await;
        }
    }
}

/// The page of one reader.
struct Exposition {
    host: Host,
    level: Level,
    reader: Reader,
    resource: Resource,
}

#[async_trait]
impl Pages for Exposition {
    async fn answer(&self, ask: &Ask) -> Page {
        match ask.uri.path() {
            "/metrics" | "/" => {
                let text = text::exposition(&self.host, self.level, &self.reader, &self.resource);
                page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            _ => page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "the metrics are at /metrics\n"),
        }
    }
}
