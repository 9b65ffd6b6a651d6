//! `health_check`: tells a load balancer or Kubernetes whether to send data here.
//!
//! ```yaml
//! extensions:
//!   health_check:
//!     endpoint: localhost:13133    # in a container: 0.0.0.0:13133
//!     path: /                      # `/` stands for every path
//!     response_body:               # by default JSON, as the Collector's
//!       healthy: ok
//!       unhealthy: not now
//! ```
//!
//! 200 while receivers take data. 503 before they do, and from the first moment of a stop: before any socket closes, so
//! that clients are sent elsewhere while what is under way is delivered.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::Section;
use weir_pipeline::host::{Host, Status};
use weir_pipeline::node::Context;

use crate::http::{Ask, Endpoint, Page, PageExtension, Pages, page};
use crate::places::error_at;

#[cfg(test)]
mod tests;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HealthCheckConfig {
    endpoint: String,
    path: String,
    response_body: ResponseBodyConfig,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ResponseBodyConfig {
    healthy: Option<String>,
    unhealthy: Option<String>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<HealthCheckConfig>()
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:13133".to_owned(),
            path: "/".to_owned(),
            response_body: ResponseBodyConfig::default(),
        }
    }
}

/// The validated settings of the extension.
#[derive(Debug, Clone)]
pub struct Settings {
    endpoint: Endpoint,
    path: String,
    healthy: Option<String>,
    unhealthy: Option<String>,
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: HealthCheckConfig = node.parse_as(path)?;
        let endpoint = config.endpoint.parse();
        let endpoint =
            endpoint.map_err(|why| error_at(node, path, &["endpoint"], format!("{:?} {why}", config.endpoint)))?;
        if !config.path.starts_with('/') {
            return Err(error_at(node, path, &["path"], "must start with `/`"));
        }
        let ResponseBodyConfig { healthy, unhealthy } = config.response_body;
        Ok(Self { endpoint, path: config.path, healthy, unhealthy })
    }
}

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    Ok(Arc::new(extension(settings, &section.context)))
}

fn extension(settings: Settings, context: &Context) -> PageExtension {
    let endpoint = settings.endpoint.clone();
    PageExtension::new(context, endpoint, Arc::new(Health { settings, host: context.host.clone() }))
}

struct Health {
    settings: Settings,
    host: Host,
}

#[async_trait]
impl Pages for Health {
    async fn answer(&self, ask: &Ask) -> Page {
        const TEXT: &str = "text/plain; charset=utf-8";
        let Settings { path, healthy, unhealthy, .. } = &self.settings;
        if path != "/" && ask.uri.path() != path {
            return page(StatusCode::NOT_FOUND, TEXT, format!("the state is at {path}\n"));
        }
        let is_ready = self.host.status() == Status::Ready;
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match if is_ready { healthy } else { unhealthy } {
            Some(body) => page(status, TEXT, body.clone()),
            None => page(status, "application/json", body(is_ready, &self.host)),
        }
    }
}

/// What the Collector says, in its words.
fn body(is_ready: bool, host: &Host) -> String {
    if !is_ready {
        return r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#.to_owned();
    }
    let since = OffsetDateTime::from_unix_timestamp_nanos(i128::from(host.started_unix_nanos())).ok();
    let since = since.and_then(|since| since.format(&Rfc3339).ok()).unwrap_or_default();
    let uptime = GoDuration(std::time::Duration::from_nanos(host.uptime_nanos()));
    format!(r#"{{"status":"Server available","upSince":"{since}","uptime":"{uptime}"}}"#)
}
