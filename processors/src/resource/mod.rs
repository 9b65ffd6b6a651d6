//! The `resource` processor: changes the attributes of resources, of traces, metrics and logs.
//!
//! ```yaml
//! processors:
//!   resource:
//!     attributes:                              # actions, in this order
//!       - {key: deployment.environment.name, value: production, action: upsert}
//!       - {key: k8s.cluster.name, from_attribute: k8s-cluster, action: insert}
//!       - {key: process.command_line, action: delete}
//! ```
//!
//! Actions are those of the `attributes` processor. A resource is changed once, whatever the number of its spans; where
//! nothing changes, the bytes stay as they came.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};

use crate::actions::{Actions, RawAction};
use crate::flow::Flow;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    #[schemars(with = "Vec<RawAction>")]
    attributes: Vec<Node>,
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
    if raw.attributes.is_empty() {
        return Err(node.error(path, "missing required field `attributes`").with_hint("a list of at least one action"));
    }
    let actions = Actions::parse(&raw.attributes, &format!("{path}::attributes"))?;
    Ok(Arc::new(ResourceFactory(Arc::new((actions, Flow::new(&section.context))))))
}

struct ResourceFactory(Arc<(Actions, Flow)>);

impl ProcessorFactory for ResourceFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(ResourceProcessor(Arc::clone(&self.0)))
    }
}

struct ResourceProcessor(Arc<(Actions, Flow)>);

impl Processor for ResourceProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let (actions, flow) = &*self.0;
        flow.enter(&batch);
        let metadata = batch.metadata().cloned();
        let mut run = actions.with(metadata.as_deref());
        batch.for_each_resource_mut(|resource| run.apply(resource));
        flow.leave(batch, out);
    }
}
