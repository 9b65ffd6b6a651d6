//! `nop`: takes everything and keeps nothing.
//!
//! ```yaml
//! exporters:
//!   nop:
//! ```
//!
//! For pipelines whose data nobody wants, and for measuring what the rest of a graph costs. Records count as sent.

use std::sync::Arc;

use async_trait::async_trait;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;

/// Makes the lanes of one `nop` exporter.
#[derive(Debug)]
pub struct Nop {
    context: Context,
}

/// There is nothing to configure.
#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NopConfig {}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<NopConfig>()
}

impl Nop {
    /// The exporter that is configured at `path`.
    ///
    /// # Errors
    /// When there is any setting.
    pub fn from_config(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        let NopConfig {} = node.parse_as(path)?;
        Ok(Self::new(context.clone()))
    }

    /// An exporter.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

#[async_trait]
impl ExporterFactory for Nop {
    fn create(&self, _lane: usize, signal: Signal, _shutdown: Shutdown) -> Arc<dyn Exporter> {
        Arc::new(Lane { counters: ExporterCounters::new(&self.context.telemetry, &self.context.id, signal) })
    }

    fn promise(&self) -> String {
        "OK means nothing: the data is thrown away".to_owned()
    }
}

struct Lane {
    counters: ExporterCounters,
}

#[async_trait]
impl Exporter for Lane {
    async fn consume(&self, batch: Batch) {
        let records = batch.len();
        self.counters.take(records);
        self.counters.succeed(records);
        batch.ignore();
    }

    async fn drain(&self) {}
}

#[cfg(test)]
mod tests {
    use weir_pipeline::receipt::Outcome;

    use super::*;
    use crate::testing::{batch, context, settled};

    #[tokio::test]
    async fn everything_is_taken_and_counted() {
        let context = context();
        let telemetry = context.telemetry.clone();
        let exporter = Nop::new(context).create(0, Signal::Traces, Shutdown::channel().1);
        let (data, waiter) = batch(3);
        exporter.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
        exporter.drain().await;
        settled(&telemetry, 3, 0, 0);
    }
}
