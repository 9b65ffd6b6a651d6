//! The `probabilistic_sampler` processor: keeps a share of the spans, the same traces in every collector.
//!
//! ```yaml
//! processors:
//!   probabilistic_sampler:
//!     sampling_percentage: 15      # required; 100 or more keeps everything, 0 nothing
//!     mode: hash_seed              # hash_seed, proportional or equalizing
//!     hash_seed: 22                # for hash_seed: collectors of one tier need the same
//!     fail_closed: true            # drop spans whose tracestate or trace id cannot be used; false keeps them
//!     sampling_precision: 4        # hexadecimal digits of the threshold, 1 to 14
//!     tenants:                     # shares of their own; the first that fits counts (not in the Collector, like the next)
//!       - {project: web-app, environment: prd, sampling_percentage: 5}
//!       - {project: web-app, sampling_percentage: 50}      # its other environments
//!     always_keep:
//!       errors: true               # spans with the status Error
//!       cost_above: 0.50           # spans that cost more USD, by `cost` before this processor
//! ```
//!
//! | mode | keeps a span if | for |
//! |---|---|---|
//! | `hash_seed` | a hash of its trace id, with the seed, is in the given share | what the Collector has always done |
//! | `proportional` | its trace's randomness is in the given share of what came in | fewer spans, by a known factor |
//! | `equalizing` | its trace's randomness is in the given share of all there ever was | the same share of everything, however much was sampled before |
//!
//! `tenants` go by the owner of a span, as its API key says; a span that nobody is known to own has the general share. What
//! `always_keep` keeps stands for itself alone (`th:0`), so totals stay right. It keeps the span, not its whole trace.
//!
//! A span with the attribute `sampling.priority` of 0 is dropped and one above 0 is kept, whatever the mode says.
//!
//! Every span that is kept says in its tracestate how it was sampled (`ot=th:…`, and `rv:…` in mode `hash_seed`), so that
//! totals such as costs can be scaled back: it stands for [`weir_pipeline::sampling::adjusted_count`] spans. In mode
//! `hash_seed`, a span that already says so counts as one that cannot be used, as in the Collector.
//!
//! Every span that is dropped is counted in `weir_processor_dropped` with its reason: `sampled_out`,
//! `sampling_priority`, or what is wrong with it; its client is told that all is well (I2).

mod config;
mod decide;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Counter;

use self::decide::{Decision, Policy, Reason, Samplers};
use crate::flow::Flow;

pub use self::config::schema;

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    let samplers = config::parse(section.node, section.path)?;
    let flow = Flow::new(&section.context);
    let counters = Counters {
        sampled: Policy::ALL.map(|policy| {
            [false, true].map(|sampled| {
                let labels = [
                    ("processor", section.context.id.as_str()),
                    ("policy", policy.as_str()),
                    ("sampled", if sampled { "true" } else { "false" }),
                ];
                let name = "otelcol_processor_probabilistic_sampler_count_traces_sampled";
                section.context.telemetry.counter(name, &labels)
            })
        }),
        dropped: Reason::ALL.map(|reason| flow.dropped(Signal::Traces, reason.as_str())),
        flow,
    };
    Ok(Arc::new(SamplerFactory(Arc::new((samplers, counters)))))
}

struct Counters {
    flow: Flow,
    /// By policy, then by whether the span was kept.
    sampled: [[Counter; 2]; Policy::ALL.len()],
    dropped: [Counter; Reason::ALL.len()],
}

/// What has been decided in one batch, to be counted at once.
#[derive(Default)]
struct Tally {
    sampled: [[usize; 2]; Policy::ALL.len()],
    dropped: [usize; Reason::ALL.len()],
}

impl Counters {
    fn add(&self, tally: &Tally) {
        let sampled = self.sampled.iter().flatten().zip(tally.sampled.iter().flatten());
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
        batch.retain_mut(|span| {
            let view = span.view();
            let Decision { policy, dropped, changed } = samplers.of(view.tenant()).decide(view, trace_state);
            tally.sampled[policy as usize][usize::from(dropped.is_none())] += 1;
            match dropped {
                Some(reason) => tally.dropped[reason as usize] += 1,
                None if changed => span.set_trace_state(trace_state),
                None => {}
            }
            dropped.is_none()
        });
        counters.add(&tally);
        counters.flow.leave(batch, out);
    }
}
