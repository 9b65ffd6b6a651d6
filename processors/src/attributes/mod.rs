//! The `attributes` processor: changes the attributes of spans, log records and data points.
//!
//! ```yaml
//! processors:
//!   attributes:
//!     include:                                 # which spans, log records or metrics, if not all
//!       match_type: strict
//!       services: [checkout]
//!     actions:                                 # in this order
//!       - {key: gen_ai.prompt, action: delete}
//!       - {key: user.email, action: hash}
//!       - {key: tenant, from_context: metadata.x-tenant, default_value: none, action: upsert}
//!       - {key: http.status_code, action: convert, converted_type: int}
//! ```
//!
//! Actions and matching are described in the modules `actions` and `matching` of this crate, and are the Collector's. A
//! metric is chosen as a whole, and the actions run on each of its data points. What no action changes keeps its very
//! bytes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;

use crate::actions::{Actions, RawAction};
use crate::flow::Flow;
use crate::matching::{RawProperties, Selections};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[schemars(with = "Option<RawProperties>")]
    include: Option<Node>,
    #[schemars(with = "Option<RawProperties>")]
    exclude: Option<Node>,
    #[serde(default)]
    #[schemars(with = "Vec<RawAction>")]
    actions: Vec<Node>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let (node, path) = (section.node, section.path);
    let raw: Raw = node.parse_as(path)?;
    if raw.actions.is_empty() {
        return Err(node.error(path, "missing required field `actions`").with_hint("a list of at least one action"));
    }
    let shared = Shared {
        selections: Selections::parse(raw.include.as_ref(), raw.exclude.as_ref(), path, section.signals)?,
        actions: Actions::parse(&raw.actions, &format!("{path}::actions"))?,
        flow: Flow::new(&section.context),
    };
    Ok(Arc::new(AttributesFactory(Arc::new(shared))))
}

struct Shared {
    selections: Selections,
    actions: Actions,
    flow: Flow,
}

struct AttributesFactory(Arc<Shared>);

impl ProcessorFactory for AttributesFactory {
    fn reads_metadata(&self) -> bool {
        self.0.actions.read_metadata()
    }

    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(AttributesProcessor(Arc::clone(&self.0)))
    }
}

struct AttributesProcessor(Arc<Shared>);

impl Processor for AttributesProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let Shared { selections, actions, flow } = &*self.0;
        flow.enter(&batch);
        let metadata = batch.metadata().cloned();
        let mut run = actions.with(metadata.as_deref());
        match batch.signal() {
            Signal::Traces => batch.for_each_mut(|span| {
                if selections.spans.selects(span.view()) {
                    run.apply(span);
                }
            }),
            Signal::Logs => batch.for_each_log_record_mut(|record| {
                if selections.log_records.selects_log_record(record.view()) {
                    run.apply(record.attributes());
                }
            }),
            Signal::Metrics => batch.for_each_metric_mut(|metric| {
                if selections.metrics.selects_metric(metric.view()) {
                    metric.for_each_data_point(|attributes| run.apply(attributes));
                }
            }),
        }
        flow.leave(batch, out);
    }
}
