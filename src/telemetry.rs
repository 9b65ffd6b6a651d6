//! `service::telemetry`: what Weir says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use weir_exporters::otlp::{OwnMetrics, OwnMetricsConfig};
use weir_extensions::metrics;
use weir_pipeline::config::{ConfigError, Node};
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
    /// Attributes of this process; one without a value takes a default away.
    resource: BTreeMap<String, Option<String>>,
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
    /// The settings in the `service::telemetry` section.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub(crate) fn parse(node: &Node) -> Result<Self, ConfigError> {
        let TelemetryConfig { logs, metrics, resource } = node.parse_as(PATH)?;
        let open: metrics::OpenPush = |node, path| {
            let push: Arc<dyn Push> = Arc::new(OwnMetrics::from_config(node, path)?);
            Ok(push)
        };
        let metrics = metrics::Settings::parse(metrics.as_ref(), &format!("{PATH}::metrics"), &resource, open)?;
        let logs = logging::Settings::parse(logs.as_ref(), &format!("{PATH}::logs"))?;
        Ok(Self { logs, metrics })
    }
}
