//! The `routing` connector: sends spans, and whole resources or requests of any signal, to the pipelines they belong to.
//!
//! ```yaml
//! connectors:
//!   routing:
//!     default_pipelines: [traces/other]        # for what no row moves; without it, that is dropped and counted
//!     error_mode: ignore                       # ignore, propagate or silent: see below
//!     table:                                   # the first row that moves a span wins
//!       - context: request                     # what the client said; its receiver needs include_metadata
//!         condition: request["X-Tenant"] == "acme"
//!         pipelines: [traces/acme]
//!       - context: span
//!         condition: attributes["gen_ai.system"] == "openai" and status.code == STATUS_CODE_ERROR
//!         action: copy                         # goes there, and the rows below are still asked
//!         pipelines: [traces/errors]
//!       - condition: attributes["service.name"] == "checkout"     # context: resource
//!         pipelines: [traces/shop]
//! service:
//!   pipelines:
//!     traces/in: {receivers: [otlp], exporters: [routing]}
//!     traces/acme: {receivers: [routing], exporters: [otlp_http/acme]}
//!     …
//! ```
//!
//! Conditions are those of [`crate::condition`]; `statement: route() where …` is the older spelling of `condition: …`.
//!
//! What it guarantees:
//!
//! * A span goes to a pipeline at most once, however many rows send it there.
//! * A client hears of its data when every pipeline that got a part of it has answered; the worst answer counts.
//! * What goes nowhere is counted in `weir_connector_dropped{reason="no_route"}` and answered with success: the
//!   configuration asked for it (I2).
//! * Metrics and logs are routed by `resource` and `request`; `span` is for traces only.
//!
//! Decision: no condition that is accepted can fail while data flows, so the three error modes do the same. They are
//! accepted because every Collector configuration may hold one.

mod config;
mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::{Schema, SchemaGenerator};

use self::config::{Row, Settings};
use self::route::Plan;
use super::components::{ConnectorFactory, Section};
use crate::batch::Batch;
use crate::channel::Inlet;
use crate::condition::Context;
use crate::config::{ConfigError, PipelineId};
use crate::node::{Exporter, Shutdown};
use crate::receipt::Outcome;
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry};

/// The `routing` connector.
pub struct Routing {
    settings: Arc<Settings>,
    id: String,
    telemetry: Telemetry,
}

impl Routing {
    /// Describes its configuration; see [`crate::config::schema`].
    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        config::schema(generator)
    }

    /// Builds it from its configuration.
    ///
    /// # Errors
    /// If the table is empty or a row is wrong.
    pub fn build(section: &Section<'_>) -> Result<Arc<dyn ConnectorFactory>, ConfigError> {
        let settings = Settings::parse(section.node, section.path, section.signals)?;
        let (id, telemetry) = (section.context.id.clone(), section.context.telemetry.clone());
        Ok(Arc::new(Self { settings: Arc::new(settings), id, telemetry }))
    }
}

impl ConnectorFactory for Routing {
    fn reads_metadata(&self) -> bool {
        self.settings.table.iter().any(|row| row.context == Context::Request)
    }

    fn check(&self, targets: &[&PipelineId]) -> Result<(), ConfigError> {
        self.settings.check(targets)
    }

    fn create(&self, _: usize, signal: Signal, targets: Vec<(PipelineId, Inlet)>, _: Shutdown) -> Arc<dyn Exporter> {
        let targets: Vec<_> = targets.into_iter().filter(|(id, _)| id.signal == signal).collect();
        let labels = [("connector", self.id.as_str()), ("otel_signal", signal.as_str())];
        let counter =
            |name: &str, more: &[(&'static str, &str)]| self.telemetry.counter(name, &[&labels[..], more].concat());
        let mask = |ids: &[PipelineId]| -> u64 {
            let is_named = |(n, (id, _)): (usize, &(PipelineId, Inlet))| u64::from(ids.contains(id)) << n;
            targets.iter().enumerate().map(is_named).fold(0, |mask, bit| mask | bit)
        };
        Arc::new(Router {
            rows: self.settings.table.iter().map(|row| mask(&row.pipelines)).collect(),
            default: mask(&self.settings.default_pipelines),
            settings: Arc::clone(&self.settings),
            consumed: counter("otelcol_connector_consumed_items", &[]),
            dropped: counter("weir_connector_dropped", &[("reason", "no_route")]),
            targets: targets
                .iter()
                .map(|(id, inlet)| Target {
                    inlet: inlet.clone(),
                    produced: counter("otelcol_connector_produced_items", &[("pipeline", &id.to_string())]),
                })
                .collect(),
        })
    }
}

/// A pipeline that can be sent to.
struct Target {
    inlet: Inlet,
    produced: Counter,
}

/// The connector in one lane. A set of targets is a mask: bit n stands for target n.
struct Router {
    settings: Arc<Settings>,
    /// Where each row of the table sends to.
    rows: Vec<u64>,
    default: u64,
    targets: Vec<Target>,
    consumed: Counter,
    dropped: Counter,
}

#[async_trait]
impl Exporter for Router {
    async fn consume(&self, mut batch: Batch) {
        self.consumed.add(batch.len());
        let plan = Plan::of(&mut batch, &self.settings.table, &self.rows, self.default);
        if plan.covers(0) {
            let mut lost = batch.fork();
            plan.retain(&mut lost, |mask| mask == 0);
            self.dropped.add(lost.len());
            lost.ignore();
        }
        let mut rest = Some(batch);
        let used = self.targets.iter().enumerate().filter(|(n, _)| plan.any() >> n & 1 == 1);
        let last = used.clone().next_back().map(|(n, _)| n);
        for (n, target) in used {
            // The last one takes the batch itself.
            let part = if Some(n) == last { rest.take() } else { rest.as_ref().map(Batch::fork) };
            let Some(mut part) = part else { continue };
            plan.retain(&mut part, |mask| mask >> n & 1 == 1);
            target.produced.add(part.len());
            target.inlet.send(part).await;
        }
        if let Some(rest) = rest {
            rest.settle(&Outcome::Done);
        }
    }

    async fn drain(&self) {}
}
