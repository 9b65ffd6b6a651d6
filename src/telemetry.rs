//! `service::telemetry`: what Weir says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use weir_exporters::otlp::{OwnMetrics, OwnMetricsConfig};
use weir_extensions::metrics;
use weir_pipeline::config::{ConfigError, Node, any_case};
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::Push;

use crate::logging;

const PATH: &str = "service::telemetry";

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TelemetryConfig {
    #[schemars(with = "Option<logging::LogsConfig>")]
    logs: Option<Node>,
    #[schemars(with = "Option<metrics::MetricsConfig<OwnMetricsConfig>>")]
    metrics: Option<Node>,
    #[schemars(with = "Option<Resource>")]
    resource: Option<Node>,
    #[schemars(with = "Option<Traces>")]
    traces: Option<Node>,
}

/// The resource of this process.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is read one by one")]
enum Resource {
    /// As the OpenTelemetry configuration has it.
    Listed(ListedResource),
    /// Attributes; one without a value takes a default away.
    Attributes(BTreeMap<String, Option<String>>),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListedResource {
    attributes: Vec<ListedAttribute>,
    #[serde(default)]
    #[expect(dead_code, reason = "metrics of this process follow none")]
    schema_url: Option<String>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListedAttribute {
    name: String,
    value: Option<String>,
    #[serde(default, rename = "type")]
    #[expect(dead_code, reason = "labels are texts")]
    kind: Option<String>,
}

/// Traces of the process itself.
#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Traces {
    #[serde(deserialize_with = "any_case")]
    level: NoTraces,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NoTraces {
    #[default]
    None,
}

/// The attributes of `service::telemetry::resource`.
fn resource(node: Option<&Node>) -> Result<BTreeMap<String, Option<String>>, ConfigError> {
    let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(BTreeMap::new()) };
    let path = format!("{PATH}::resource");
    if node.get("attributes").is_none_or(|attributes| attributes.text().is_some()) {
        return node.parse_as(&path);
    }
    let listed: ListedResource = node.parse_as(&path)?;
    Ok(listed.attributes.into_iter().map(|attribute| (attribute.name, attribute.value)).collect())
}

/// Describes the section.
pub(crate) fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<TelemetryConfig>()
}

/// What Weir says of itself, and where.
pub(crate) struct TelemetrySettings {
    pub(crate) logs: logging::Settings,
    pub(crate) metrics: metrics::Settings,
}

impl TelemetrySettings {
    /// The settings in the `service::telemetry` section. The host may forgive what is missing.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub(crate) fn parse(node: &Node, host: Option<&Host>) -> Result<Self, ConfigError> {
        let TelemetryConfig { logs, metrics, resource: described, traces } = node.parse_as(PATH)?;
        let resource = resource(described.as_ref())?;
        if let Some(traces) = traces.filter(|node| !node.is_null()) {
            let path = format!("{PATH}::traces");
            let Traces { level: NoTraces::None } = traces.parse_as(&path).map_err(|_| {
                traces
                    .error(&path, "Weir makes no traces of itself")
                    .with_hint("remove the key, or write `level: none`")
            })?;
        }
        let open: &metrics::OpenPush<'_> = &|node, path| {
            let push: Arc<dyn Push> = Arc::new(OwnMetrics::from_config(node, path, host)?);
            Ok(push)
        };
        let metrics = metrics::Settings::parse(metrics.as_ref(), &format!("{PATH}::metrics"), &resource, open)?;
        let logs = logging::Settings::parse(logs.as_ref(), &format!("{PATH}::logs"))?;
        Ok(Self { logs, metrics })
    }
}
