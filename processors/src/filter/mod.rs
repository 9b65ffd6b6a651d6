//! The `filter` processor: drops spans, log records and metrics by their properties.
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
//!     logs:
//!       include:                               # a record must have all of it
//!         match_type: strict                   # or regexp
//!         severity_number: {min: INFO, match_undefined: true}
//!         severity_texts: [INFO, WARN]         # any of them
//!         bodies: [started]                    # any of them
//!         record_attributes: [{key: env, value: prod}]         # all of them
//!         resource_attributes: [{key: host.name}]              # all of them
//!     metrics:
//!       exclude:
//!         match_type: regexp
//!         metric_names: [^go_, ^process_]      # any of them
//!         resource_attributes: [{key: env, value: dev}]        # all of them
//! ```
//!
//! Properties of spans are described in the module `matching` of this crate. A metric stays that has one of the names
//! *and* the resource that `include` names, and is dropped if it has one of the names *or* the resource that `exclude`
//! names, as in the Collector. A signal that nothing is said of passes as it is.
//!
//! Conditions in OTTL (`traces:`, `log_record:`, `metric_conditions:` …) and in expr are refused with what to write
//! instead, and never let through in silence. Lists and sections of nothing, which templates leave behind, are none: as
//! in the Collector they drop nothing, and a whole processor of them only warns.
//!
//! Every record that is dropped is counted, in `otelcol_processor_filter_spans_filtered`, `…_logs_filtered` or
//! `…_datapoints_filtered`, and with its reason (`not_included`, `excluded`) in `weir_processor_dropped`; its client is
//! told that all is well (I2). With a metric go all its data points, which is what is counted.

mod config;
mod records;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::{Batch, Metric};
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Counter;

use crate::flow::{Flow, PerSignal};
use crate::matching::{Properties, Selection};

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong, or ask for what is not supported.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let filters = config::parse(section.node, section.path)?;
    let flow = Flow::new(&section.context);
    let dropped = PerSignal::new(section.signals, |signal| Dropped::new(&section.context, &flow, signal));
    Ok(Arc::new(FilterFactory(Arc::new(Filter { filters, flow, dropped }))))
}

/// What is dropped of each signal; `None`: nothing.
struct Filters {
    spans: Option<Selection>,
    logs: Option<Selection>,
    metrics: Option<MetricFilter>,
}

/// Which metrics are dropped.
struct MetricFilter {
    include: Option<Properties>,
    /// Any of them.
    exclude: Vec<Properties>,
}

struct Filter {
    filters: Filters,
    flow: Flow,
    dropped: PerSignal<Dropped>,
}

/// What is counted of one signal.
struct Dropped {
    filtered: Counter,
    not_included: Counter,
    excluded: Counter,
}

impl Dropped {
    fn new(context: &Context, flow: &Flow, signal: Signal) -> Self {
        let records = match signal {
            Signal::Traces => "spans",
            Signal::Metrics => "datapoints",
            Signal::Logs => "logs",
        };
        let name = format!("otelcol_processor_filter_{records}_filtered");
        Self {
            filtered: context.telemetry.counter(name, &[("processor", context.id.as_str())]),
            not_included: flow.dropped(signal, "not_included"),
            excluded: flow.dropped(signal, "excluded"),
        }
    }
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
        let Filter { filters, flow, dropped } = &*self.0;
        flow.enter(&batch);
        let (not_included, excluded) = filters.apply(&mut batch);
        if not_included + excluded > 0
            && let Some(dropped) = dropped.get(batch.signal())
        {
            dropped.filtered.add(not_included + excluded);
            dropped.not_included.add(not_included);
            dropped.excluded.add(excluded);
        }
        flow.leave(batch, out);
    }
}

impl Filters {
    /// Drops what is to be dropped. Returns how many records were not included and how many excluded.
    fn apply(&self, batch: &mut Batch) -> (usize, usize) {
        match batch.signal() {
            Signal::Traces => {
                let Some(filter) = &self.spans else { return (0, 0) };
                let mut outside = 0;
                let dropped = batch.retain(|span| filter.keeps(|properties| properties.matches(span), &mut outside));
                (outside, dropped - outside)
            }
            Signal::Logs => {
                let Some(filter) = &self.logs else { return (0, 0) };
                let mut outside = 0;
                let dropped = batch.retain_log_records_mut(|record| {
                    filter.keeps(|properties| properties.matches_log_record(record.view()), &mut outside)
                });
                (outside, dropped - outside)
            }
            Signal::Metrics => {
                let Some(MetricFilter { include, exclude }) = &self.metrics else { return (0, 0) };
                let outside = include.as_ref().map_or(0, |p| batch.retain_metrics(|metric| p.matches_metric(metric)));
                let is_excluded =
                    |metric: Metric<'_>| exclude.iter().any(|properties| properties.matches_metric(metric));
                (outside, batch.retain_metrics(|metric| !is_excluded(metric)))
            }
        }
    }
}
