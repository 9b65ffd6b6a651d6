//! The `probabilistic_sampler` processor: keeps a share of the spans or log records, the same traces in every collector.
//!
//! ```yaml
//! processors:
//!   probabilistic_sampler:
//!     sampling_percentage: 15      # required; 100 or more keeps everything, 0 nothing
//!     mode: hash_seed              # hash_seed, proportional or equalizing
//!     hash_seed: 22                # for hash_seed: collectors of one tier need the same
//!     fail_closed: true            # drop spans whose tracestate or trace id cannot be used; false keeps them
//!     sampling_precision: 4        # hexadecimal digits of the threshold, 1 to 14
//!     attribute_source: traceID    # log records: what `hash_seed` hashes, traceID or record
//!     from_attribute: logID        # log records: hashed with `record`, and where there is no trace id
//!     sampling_priority: priority  # log records: the attribute with a percentage of a record's own
//!     tenants:                     # shares of their own; the first that fits counts (not in the Collector, like the next)
//!       - {project: web-app, environment: prd, sampling_percentage: 5}
//!       - {project: web-app, sampling_percentage: 50}      # its other environments
//!     always_keep:
//!       errors: true               # spans with the status Error
//!       cost_above: 0.50           # spans that cost more USD, by `cost` before this processor
//! ```
//!
//! | mode | keeps a span or log record if | for |
//! |---|---|---|
//! | `hash_seed` | a hash of its trace id, with the seed, is in the given share | what the Collector has always done |
//! | `proportional` | its trace's randomness is in the given share of what came in | fewer spans, by a known factor |
//! | `equalizing` | its trace's randomness is in the given share of all there ever was | the same share of everything, however much was sampled before |
//!
//! `tenants` go by the owner of a span, as its API key says; a span that nobody is known to own has the general share. What
//! `always_keep` keeps stands for itself alone (`th:0`), so totals stay right. It keeps the span, not its whole trace.
//!
//! A log record without a trace id and without the attribute that is hashed instead cannot be used; with
//! `attribute_source: record` and no `from_attribute` none can, which a warning says. In the other modes both have no effect.
//!
//! A span with the attribute `sampling.priority` of 0 is dropped and one above 0 is kept, whatever the mode says. A log
//! record is kept with the percentage that its attribute `sampling_priority` holds: never with 0, always with 100.
//!
//! Every span that is kept says in its tracestate how it was sampled (`ot=th:…`, and `rv:…` in mode `hash_seed`), so that
//! totals such as costs can be scaled back: it stands for [`weir_pipeline::sampling::adjusted_count`] spans. In mode
//! `hash_seed`, a span that already says so counts as one that cannot be used, as in the Collector.
//!
//! Log records say the same in the attributes `sampling.threshold` and `sampling.randomness`. Their errors are those of the
//! severity ERROR and above.
//!
//! Decision: the Collector's documentation says that log records with the priority 0 are never kept and those above 100
//! always are, while its code takes such for records without one. Here the documentation holds.
//!
//! Every record that is dropped is counted in `weir_processor_dropped` with its reason: `sampled_out`,
//! `sampling_priority`, or what is wrong with it; its client is told that all is well (I2).

mod config;
mod decide;
mod logs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Context, Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Counter;

use self::decide::{Decision, Policy, Reason, Samplers};
use crate::flow::{Flow, PerSignal};

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let samplers = config::parse(section.node, section.path)?;
    let flow = Flow::new(&section.context);
    let from_attribute = samplers.logs.from_attribute.as_deref();
    let signals = PerSignal::new(section.signals, |signal| {
        let from_attribute = from_attribute.filter(|_| signal == Signal::Logs);
        SignalCounters::new(&section.context, &flow, signal, from_attribute)
    });
    let counters = Counters { signals, flow };
    Ok(Arc::new(SamplerFactory(Arc::new((samplers, counters)))))
}

struct Counters {
    flow: Flow,
    signals: PerSignal<SignalCounters>,
}

/// What is counted of one signal.
struct SignalCounters {
    /// By policy, then by whether the record was kept; `None`: the signal does not know the policy.
    sampled: [[Option<Counter>; 2]; Policy::ALL.len()],
    dropped: [Counter; Reason::ALL.len()],
}

impl SignalCounters {
    /// The policy of hashing an attribute is counted under the attribute's name.
    fn new(context: &Context, flow: &Flow, signal: Signal, from_attribute: Option<&str>) -> Self {
        let records = if signal == Signal::Logs { "logs" } else { "traces" };
        let name = format!("otelcol_processor_probabilistic_sampler_count_{records}_sampled");
        let counter = |policy: Policy, sampled: &str| {
            let policy = match policy {
                Policy::FromAttribute => from_attribute?,
                policy => policy.as_str(),
            };
            let labels = [("processor", context.id.as_str()), ("policy", policy), ("sampled", sampled)];
            Some(context.telemetry.counter(name.as_str(), &labels))
        };
        Self {
            sampled: Policy::ALL.map(|policy| ["false", "true"].map(|sampled| counter(policy, sampled))),
            dropped: Reason::ALL.map(|reason| flow.dropped(signal, reason.as_str())),
        }
    }
}

/// What has been decided in one batch, to be counted at once.
#[derive(Default)]
struct Tally {
    sampled: [[usize; 2]; Policy::ALL.len()],
    dropped: [usize; Reason::ALL.len()],
}

impl Tally {
    fn add(&mut self, policy: Policy, dropped: Option<Reason>) {
        self.sampled[policy as usize][usize::from(dropped.is_none())] += 1;
        if let Some(reason) = dropped {
            self.dropped[reason as usize] += 1;
        }
    }
}

impl SignalCounters {
    fn add(&self, tally: &Tally) {
        let sampled = self.sampled.iter().flatten().zip(tally.sampled.iter().flatten());
        let sampled = sampled.filter_map(|(counter, n)| Some((counter.as_ref()?, n)));
        let dropped = self.dropped.iter().zip(&tally.dropped);
        sampled.chain(dropped).filter(|(_, n)| **n > 0).for_each(|(counter, n)| counter.add(*n));
    }
}

struct SamplerFactory(Arc<(Samplers, Counters)>);

impl ProcessorFactory for SamplerFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(SamplerProcessor { shared: Arc::clone(&self.0), trace_state: String::new() })
    }
}

struct SamplerProcessor {
    shared: Arc<(Samplers, Counters)>,
    /// The tracestate of the span at hand, as it will be.
    trace_state: String,
}

impl Processor for SamplerProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let (samplers, counters) = &*self.shared;
        let trace_state = &mut self.trace_state;
        counters.flow.enter(&batch);
        let mut tally = Tally::default();
        if batch.signal() == Signal::Logs {
            batch.retain_log_records_mut(|record| {
                let view = record.view();
                let decision = samplers.of(view.tenant()).decide_log(view, &samplers.logs);
                tally.add(decision.policy, decision.dropped);
                if decision.dropped.is_none() {
                    decision.write(record);
                }
                decision.dropped.is_none()
            });
        } else {
            batch.retain_mut(|span| {
                let view = span.view();
                let Decision { policy, dropped, changed } = samplers.of(view.tenant()).decide(view, trace_state);
                tally.add(policy, dropped);
                if dropped.is_none() && changed {
                    span.set_trace_state(trace_state);
                }
                dropped.is_none()
            });
        }
        if let Some(counters) = counters.signals.get(batch.signal()) {
            counters.add(&tally);
        }
        counters.flow.leave(batch, out);
    }
}
