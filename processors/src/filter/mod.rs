//! The `filter` processor: drops spans by attribute, name, kind, status, service, resource and library.
//!
//! ```yaml
//! processors:
//!   filter:
//!     spans:
//!       include:                               # everything else is dropped
//!         match_type: regexp
//!         services: [^checkout, ^payment]
//!       exclude:                               # of what is left, this is dropped
//!         match_type: strict
//!         span_names: [GET /health]
//! ```
//!
//! The properties that can be matched are described in the module `matching` of this crate. Conditions in OTTL
//! (`traces:`, `trace_conditions:` …) are refused with what to write instead, and never let through in silence.
//!
//! Every span that is dropped is counted, in `otelcol_processor_filter_spans_filtered` and with its reason
//! (`not_included`, `excluded`) in `weir_processor_dropped`; its client is told that all is well (I2).

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Counter;

use crate::flow::Flow;
use crate::matching::Selection;

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong, or ask for what is not supported.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let selection = config::parse(section.node, section.path)?;
    let flow = Flow::new(&section.context);
    let filtered = section
        .context
        .telemetry
        .counter("otelcol_processor_filter_spans_filtered", &[("processor", section.context.id.as_str())]);
    let (not_included, excluded) =
        (flow.dropped(Signal::Traces, "not_included"), flow.dropped(Signal::Traces, "excluded"));
    Ok(Arc::new(FilterFactory(Arc::new(Filter { selection, flow, filtered, not_included, excluded }))))
}

struct Filter {
    selection: Selection,
    flow: Flow,
    filtered: Counter,
    not_included: Counter,
    excluded: Counter,
}

struct FilterFactory(Arc<Filter>);

impl ProcessorFactory for FilterFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(FilterProcessor(Arc::clone(&self.0)))
    }
}

struct FilterProcessor(Arc<Filter>);

impl Processor for FilterProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let Filter { selection, flow, filtered, not_included, excluded } = &*self.0;
        flow.enter(&batch);
        let mut outside = 0;
        let dropped = batch.retain(|span| {
            if selection.include.as_ref().is_some_and(|include| !include.matches(span)) {
                outside += 1;
                return false;
            }
            selection.exclude.as_ref().is_none_or(|exclude| !exclude.matches(span))
        });
        if dropped > 0 {
            filtered.add(dropped);
            not_included.add(outside);
            excluded.add(dropped - outside);
        }
        flow.leave(batch, out);
    }
}
