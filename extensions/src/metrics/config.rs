//! `service::telemetry::metrics`, as it is written and as it is meant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, any_case};
use weir_pipeline::telemetry::{Level, Push};

use super::INSTANCE_ID;
use crate::http::Endpoint;

/// Which of Weir's own metrics are served and sent where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How much is shown.
    pub level: Level,
    /// The pages.
    pub readers: Vec<Reader>,
    /// What is sent at intervals.
    pub periodic: Vec<Periodic>,
    /// Whether the process makes up its `service.instance.id`, because nothing is said of it.
    pub(super) has_instance_id: bool,
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

/// What sends metrics at intervals.
#[derive(Debug, Clone)]
pub struct Periodic {
    pub(super) interval: Duration,
    /// Of one request.
    pub(super) timeout: Duration,
    pub(super) push: Arc<dyn Push>,
    /// What it was made from.
    node: Node,
}

impl PartialEq for Periodic {
    fn eq(&self, other: &Self) -> bool {
        self.interval == other.interval && self.timeout == other.timeout && self.node.is_same(&other.node)
    }
}

impl Eq for Periodic {}

/// Makes what sends from the settings of an exporter `otlp`, which stand at a path.
pub type OpenPush<'a> = dyn Fn(&Node, &str) -> Result<Arc<dyn Push>, ConfigError> + 'a;

/// The section as it is written; `O` are the settings of the exporter `otlp`.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig<O> {
    #[serde(default = "normal", deserialize_with = "any_case")]
    level: Level,
    address: Option<String>,
    readers: Option<Vec<ReaderConfig<O>>>,
}

fn normal() -> Level {
    Level::Normal
}

/// Either of the two.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReaderConfig<O> {
    pull: Option<PullConfig>,
    periodic: Option<PeriodicConfig<O>>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct PeriodicConfig<O> {
    /// Milliseconds.
    #[serde(default = "minute")]
    interval: u64,
    /// Milliseconds.
    #[serde(default = "half_a_minute")]
    timeout: u64,
    exporter: PeriodicExporterConfig<O>,
}

fn minute() -> u64 {
    60_000
}

fn half_a_minute() -> u64 {
    30_000
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct PeriodicExporterConfig<O> {
    otlp: O,
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
            without_type_suffix: true,
            without_units: true,
            without_scope_info: true,
        }
    }
}

impl Settings {
    /// The settings that are written at `path`; without any, metrics at the level `normal` on localhost:8888.
    ///
    /// `resource` is what `service::telemetry::resource` says: an attribute without a value takes a default away. `open`
    /// makes what sends.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(
        node: Option<&Node>,
        path: &str,
        resource: &BTreeMap<String, Option<String>>,
        open: &OpenPush<'_>,
    ) -> Result<Self, ConfigError> {
        let config = node.filter(|node| !node.is_null()).map(|node| node.parse_as(path)).transpose()?;
        let config: MetricsConfig<Node> =
            config.unwrap_or(MetricsConfig { level: normal(), address: None, readers: None });
        let mut periodic = Vec::new();
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
            (None, Some(readers)) => {
                if readers.is_empty() && config.level > Level::None {
                    let message = "collector telemetry metrics reader should exist when metric level is not none";
                    return Err(error("readers", message.to_owned())
                        .with_hint("take the key out for metrics on localhost:8888, or write `level: none`"));
                }
                let nodes = node.and_then(|node| node.get("readers")).map_or(&[][..], Node::items);
                let mut pages = Vec::new();
                for (n, (reader, node)) in readers.into_iter().zip(nodes).enumerate() {
                    let path = format!("{path}::readers[{n}]");
                    match (reader.pull, reader.periodic) {
                        (Some(pull), None) => pages.push(pull.into()),
                        (None, Some(config)) => periodic.push(config.open(node, &format!("{path}::periodic"), open)?),
                        (Some(_), Some(_)) => {
                            let error = node.error(&path, "is both `pull` and `periodic`");
                            return Err(error.with_hint("make them two readers"));
                        }
                        (None, None) => {
                            let error = node.error(&path, "is neither `pull` nor `periodic`");
                            return Err(
                                error.with_hint("`pull` serves metrics to Prometheus, `periodic` sends them over OTLP")
                            );
                        }
                    }
                }
                pages
            }
        };
        Ok(Self {
            level: config.level,
            readers,
            periodic,
            has_instance_id: !resource.contains_key(INSTANCE_ID),
            resource: attributes(resource),
        })
    }
}

impl From<PullConfig> for Reader {
    fn from(PullConfig { exporter: PullExporterConfig { prometheus } }: PullConfig) -> Self {
        Self {
            endpoint: Endpoint { host: prometheus.host, port: prometheus.port },
            is_default: false,
            type_suffix: !prometheus.without_type_suffix,
            units: !prometheus.without_units,
            scope_info: !prometheus.without_scope_info,
        }
    }
}

impl PeriodicConfig<Node> {
    /// `reader` is the mapping that `periodic` stands in, at `path`.
    fn open(self, reader: &Node, path: &str, open: &OpenPush<'_>) -> Result<Periodic, ConfigError> {
        let node = reader.get("periodic").unwrap_or(reader);
        for (key, millis) in [("interval", self.interval), ("timeout", self.timeout)] {
            if millis == 0 {
                let at = node.get(key).unwrap_or(node);
                return Err(at.error(&format!("{path}::{key}"), "must be positive: milliseconds"));
            }
        }
        Ok(Periodic {
            interval: Duration::from_millis(self.interval),
            timeout: Duration::from_millis(self.timeout),
            push: open(&self.exporter.otlp, &format!("{path}::exporter::otlp"))?,
            node: node.clone(),
        })
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
