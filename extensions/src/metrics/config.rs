//! `service::telemetry::metrics`, as it is written and as it is meant.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::telemetry::Level;

use crate::http::Endpoint;

/// Which of Weir's own metrics are served where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much is shown.
    pub level: Level,
    /// The pages.
    pub readers: Vec<Reader>,
    /// What is said of the process: names with dots, as OpenTelemetry writes them, and values.
    pub resource: BTreeMap<String, String>,
}

/// One page, and how names are spelt on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub(super) endpoint: Endpoint,
    /// Nobody asked for it.
    pub(super) is_default: bool,
    pub(super) type_suffix: bool,
    pub(super) units: bool,
    pub(super) scope_info: bool,
}

/// The section as it is written.
#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    level: Option<Level>,
    address: Option<String>,
    readers: Option<Vec<ReaderConfig>>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReaderConfig {
    pull: PullConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct PullConfig {
    exporter: PullExporterConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct PullExporterConfig {
    prometheus: PrometheusConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PrometheusConfig {
    host: String,
    port: u16,
    without_type_suffix: bool,
    without_units: bool,
    without_scope_info: bool,
}

const HOST: &str = "localhost";
const PORT: u16 = 8888;

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            host: HOST.to_owned(),
            port: PORT,
            without_type_suffix: false,
            without_units: false,
            without_scope_info: false,
        }
    }
}

impl Settings {
    /// The settings that are written at `path`; without any, metrics at the level `normal` on localhost:8888.
    ///
    /// `resource` is what `service::telemetry::resource` says: an attribute without a value takes a default away.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(
        node: Option<&Node>,
        path: &str,
        resource: &BTreeMap<String, Option<String>>,
    ) -> Result<Self, ConfigError> {
        let config: MetricsConfig = node.map(|node| node.parse_as(path)).transpose()?.unwrap_or_default();
        let error = |key: &str, message: String| {
            let at = node.and_then(|node| node.get(key).or(Some(node)));
            let location = at.map(|node| node.location().clone());
            ConfigError { location, path: format!("{path}::{key}"), message, hint: None }
        };
        let default = Reader {
            endpoint: Endpoint { host: HOST.to_owned(), port: PORT },
            is_default: true,
            type_suffix: false,
            units: false,
            scope_info: false,
        };
        let readers = match (config.address, config.readers) {
            (Some(_), Some(_)) => {
                return Err(error("address", "is for configurations without `readers`".to_owned())
                    .with_hint("give the reader a `host` and a `port`"));
            }
            (Some(address), None) => {
                let endpoint = address.parse().map_err(|why| error("address", format!("{address:?} {why}")))?;
                vec![Reader { endpoint, is_default: false, ..default }]
            }
            (None, None) => vec![default],
            (None, Some(readers)) => readers
                .into_iter()
                .map(|ReaderConfig { pull: PullConfig { exporter: PullExporterConfig { prometheus } } }| Reader {
                    endpoint: Endpoint { host: prometheus.host, port: prometheus.port },
                    is_default: false,
                    type_suffix: !prometheus.without_type_suffix,
                    units: !prometheus.without_units,
                    scope_info: !prometheus.without_scope_info,
                })
                .collect(),
        };
        Ok(Self { level: config.level.unwrap_or(Level::Normal), readers, resource: attributes(resource) })
    }
}

fn attributes(configured: &BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    let own = [("service.name", "weir"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let mut attributes: BTreeMap<_, _> = own.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (name, value) in configured {
        match value {
            Some(value) => drop(attributes.insert(name.clone(), value.clone())),
            None => drop(attributes.remove(name)),
        }
    }
    attributes
}
