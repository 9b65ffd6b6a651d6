//! What a processor counts of the records that pass through it, under the Collector's names.
//!
//! `otelcol_processor_incoming_items = otelcol_processor_outgoing_items + weir_processor_dropped` at all times (I2).

use weir_pipeline::batch::Batch;
use weir_pipeline::node::Context;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Counter, Telemetry};

/// What a processor has for each signal of the pipelines that name it: counters that stay at zero are noise.
#[derive(Debug)]
pub(crate) struct PerSignal<T>([Option<T>; 3]);

impl<T> PerSignal<T> {
    pub(crate) fn new(signals: &[Signal], make: impl Fn(Signal) -> T) -> Self {
        Self(Signal::ALL.map(|signal| signals.contains(&signal).then(|| make(signal))))
    }

    /// `None`: no pipeline of this signal names the processor.
    pub(crate) fn get(&self, signal: Signal) -> Option<&T> {
        self.0[signal as usize].as_ref()
    }
}

/// The counters of one processor, for all signals.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    telemetry: Telemetry,
    processor: String,
    /// Incoming and outgoing, in the order of [`Signal::ALL`].
    items: [(Counter, Counter); 3],
}

impl Flow {
    pub(crate) fn new(context: &Context) -> Self {
        let counter = |direction: &str, signal: Signal| {
            let labels = [("processor", context.id.as_str()), ("otel_signal", signal.as_str())];
            context.telemetry.counter(format!("otelcol_processor_{direction}_items"), &labels)
        };
        let items = Signal::ALL.map(|signal| (counter("incoming", signal), counter("outgoing", signal)));
        Self { telemetry: context.telemetry.clone(), processor: context.id.clone(), items }
    }

    /// The counter of records that end here for this reason.
    pub(crate) fn dropped(&self, signal: Signal, reason: &str) -> Counter {
        let labels = [("processor", self.processor.as_str()), ("otel_signal", signal.as_str()), ("reason", reason)];
        self.telemetry.counter("weir_processor_dropped", &labels)
    }

    /// Counts records that come in.
    pub(crate) fn enter(&self, batch: &Batch) {
        self.items[batch.signal() as usize].0.add(batch.len());
    }

    /// Counts what is left of a batch and hands it on; if nothing is, its clients are told that all is well.
    pub(crate) fn leave(&self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        if batch.is_empty() {
            return batch.ignore();
        }
        self.items[batch.signal() as usize].1.add(batch.len());
        out(batch);
    }
}
