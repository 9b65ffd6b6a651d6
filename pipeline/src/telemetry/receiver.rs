//! What a receiver counts.

use super::{Counter, Telemetry, suffix};
use crate::signal::Signal;

/// What a receiver counts, per signal and transport.
#[derive(Debug, Clone)]
pub struct ReceiverCounters {
    /// Records the client was told are taken.
    pub accepted: Counter,
    /// Records refused because the pipeline did not take them (back-pressure, destination errors).
    pub refused: Counter,
    /// Requests that were no valid data, or too large: records cannot be counted.
    pub failed_requests: Counter,
}

impl ReceiverCounters {
    /// The counters of one receiver.
    pub fn new(telemetry: &Telemetry, receiver: &str, signal: Signal, transport: &'static str) -> Self {
        let labels = [("receiver", receiver), ("transport", transport)];
        let name = |what: &str| format!("otelcol_receiver_{what}_{}", suffix(signal));
        Self {
            accepted: telemetry.counter(name("accepted"), &labels),
            refused: telemetry.counter(name("refused"), &labels),
            failed_requests: telemetry.counter("weir_receiver_failed_requests", &labels),
        }
    }
}
