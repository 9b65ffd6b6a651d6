//! The `forward` connector: whatever one pipeline exports to it, the pipelines that name it as a receiver get.
//!
//! ```yaml
//! connectors:
//!   forward:
//! service:
//!   pipelines:
//!     traces/in: {receivers: [otlp], exporters: [forward]}
//!     traces/a: {receivers: [forward], processors: [cost], exporters: [parquet]}
//!     traces/b: {receivers: [forward], exporters: [otlp_http]}
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use schemars::{Schema, SchemaGenerator};

use super::components::{ConnectorFactory, Section};
use crate::batch::Batch;
use crate::channel::Inlet;
use crate::config::{ConfigError, PipelineId};
use crate::node::{Exporter, Outlet, Shutdown};
use crate::signal::Signal;

/// The `forward` connector. It has no settings.
#[derive(Debug, Default)]
pub struct Forward;

#[derive(serde::Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

impl Forward {
    /// Describes its (empty) configuration.
    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<NoSettings>()
    }

    /// Builds it from its (empty) configuration.
    ///
    /// # Errors
    /// If there is any key.
    pub fn build(section: &Section<'_>) -> Result<Arc<dyn ConnectorFactory>, ConfigError> {
        section.node.parse_as::<NoSettings>(section.path)?;
        Ok(Arc::new(Self))
    }
}

impl ConnectorFactory for Forward {
    fn create(&self, _: usize, signal: Signal, targets: Vec<(PipelineId, Inlet)>, _: Shutdown) -> Arc<dyn Exporter> {
        let same = targets.into_iter().filter(|(id, _)| id.signal == signal);
        let inlets = same.map(|(_, inlet)| inlet).collect();
        Arc::new(Forwarding(Outlet::new(inlets, Vec::new())))
    }
}

struct Forwarding(Outlet);

#[async_trait]
impl Exporter for Forwarding {
    async fn consume(&self, batch: Batch) {
        self.0.send(batch).await;
    }

    async fn drain(&self) {}
}
