//! `zpages`: pages for a person who wants to see what the process does right now.
//!
//! ```yaml
//! extensions:
//!   zpages:
//!     endpoint: localhost:55679
//!     expvar: {enabled: false}
//! ```
//!
//! * `/debug/servicez`: the process: version, state, uptime, and what became of the records of each destination.
//! * `/debug/pipelinez`: each pipeline with its receivers, processors and exporters, and what they have counted.
//! * `/debug/extensionz`: the extensions that run.
//! * `/debug/expvarz`, if `expvar` is enabled: all that is counted, as JSON.
//!
//! The pages show ids and counters, never settings or data.

mod html;
#[cfg(test)]
mod tests;
mod variables;

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::Section;
use weir_pipeline::host::Host;
use weir_pipeline::node::Context;

use crate::http::{Ask, Endpoint, Page, PageExtension, Pages, page};
use crate::places::error_at;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ZPagesConfig {
    endpoint: String,
    expvar: ExpvarConfig,
}

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ExpvarConfig {
    enabled: bool,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<ZPagesConfig>()
}

impl Default for ZPagesConfig {
    fn default() -> Self {
        Self { endpoint: "localhost:55679".to_owned(), expvar: ExpvarConfig::default() }
    }
}

/// The validated settings of the extension.
#[derive(Debug, Clone)]
pub struct Settings {
    endpoint: Endpoint,
    shows_variables: bool,
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: ZPagesConfig = node.parse_as(path)?;
        let endpoint = config.endpoint.parse();
        let wrong = |why| error_at(node, path, &["endpoint"], format!("{:?} {why}", config.endpoint));
        Ok(Self { endpoint: endpoint.map_err(wrong)?, shows_variables: config.expvar.enabled })
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
    let pages = LivePages { host: context.host.clone(), shows_variables: settings.shows_variables };
    PageExtension::new(context, settings.endpoint, Arc::new(pages))
}

struct LivePages {
    host: Host,
    shows_variables: bool,
}

#[async_trait]
impl Pages for LivePages {
    async fn answer(&self, ask: &Ask) -> Page {
        let html = match ask.uri.path().trim_end_matches('/') {
            "" | "/debug" => html::index(),
            "/debug/servicez" => html::service(&self.host),
            "/debug/pipelinez" => html::pipelines(&self.host),
            "/debug/extensionz" => html::extensions(&self.host),
            "/debug/expvarz" if self.shows_variables => {
                return page(StatusCode::OK, "application/json; charset=utf-8", variables::variables(&self.host));
            }
            _ => return page(StatusCode::NOT_FOUND, "text/html; charset=utf-8", html::index()),
        };
        page(StatusCode::OK, "text/html; charset=utf-8", html)
    }
}
