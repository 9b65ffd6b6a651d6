//! What an exporter counts, and what those who hand it records count.

use super::{Counter, Telemetry, suffix};
use crate::signal::Signal;

/// What an exporter counts, per signal. `consumed = sent + send_failed + enqueue_failed + in_flight` at all times; where
/// it has a log, `consumed + recovered = sent + send_failed + enqueue_failed + in_flight + kept`.
#[derive(Debug, Clone)]
pub struct ExporterCounters {
    telemetry: Telemetry,
    exporter: String,
    signal: Signal,
    /// Records handed to the exporter.
    pub consumed: Counter,
    /// Records the destination took.
    pub sent: Counter,
    /// Records given up after retries, or refused for good by the destination.
    pub send_failed: Counter,
    /// Records refused because the queue was full.
    pub enqueue_failed: Counter,
    /// Level: records taken but not yet in one of the above.
    pub in_flight: Counter,
}

impl ExporterCounters {
    /// The counters of one exporter.
    pub fn new(telemetry: &Telemetry, exporter: &str, signal: Signal) -> Self {
        let labels = [("exporter", exporter)];
        let name = |what: &str| format!("otelcol_exporter_{what}_{}", suffix(signal));
        Self {
            telemetry: telemetry.clone(),
            exporter: exporter.to_owned(),
            signal,
            consumed: telemetry.counter(format!("weir_exporter_consumed_{}", suffix(signal)), &labels),
            sent: telemetry.counter(name("sent"), &labels),
            send_failed: telemetry.counter(name("send_failed"), &labels),
            enqueue_failed: telemetry.counter(name("enqueue_failed"), &labels),
            in_flight: telemetry.gauge(format!("weir_exporter_in_flight_{}", suffix(signal)), &labels),
        }
    }

    /// Counts records that the exporter takes over.
    pub fn take(&self, records: usize) {
        let _together = self.telemetry.together();
        self.consumed.add(records);
        self.in_flight.add(records);
    }

    /// Counts taken records that the destination has.
    pub fn succeed(&self, records: usize) {
        let _together = self.telemetry.together();
        self.in_flight.sub(records);
        self.sent.add(records);
    }

    /// Counts taken records that the destination will not get, with the reason (`permanent_error`, `retries_exhausted`,
    /// `shutdown` …).
    pub fn fail(&self, records: usize, reason: &str) {
        let dropped = self.dropped(reason);
        let _together = self.telemetry.together();
        self.in_flight.sub(records);
        self.send_failed.add(records);
        dropped.add(records);
    }

    /// Counts taken records that the queue did not take, with the reason (`queue_full`, `storage`).
    pub fn refuse(&self, records: usize, reason: &str) {
        let dropped = self.dropped(reason);
        let _together = self.telemetry.together();
        self.in_flight.sub(records);
        self.enqueue_failed.add(records);
        dropped.add(records);
    }

    /// From now on what the exporter holds is on disk as well.
    pub fn have_storage(&self) {
        self.of_storage();
    }

    /// Counts records of an earlier process that were found on disk, where they wait.
    pub fn recover(&self, records: usize) {
        let [recovered, kept] = self.of_storage();
        let _together = self.telemetry.together();
        recovered.add(records);
        kept.add(records);
    }

    /// Counts taken records that from now on wait on disk alone. So many of them are in another counter already, since
    /// a part of their batch was delivered, and will be counted again.
    pub fn keep(&self, records: usize, again: usize) {
        let [recovered, kept] = self.of_storage();
        let _together = self.telemetry.together();
        let again = again.min(records);
        self.in_flight.sub(records - again);
        recovered.add(again);
        kept.add(records);
    }

    /// Counts records that are taken from disk to be delivered.
    pub fn resume(&self, records: usize) {
        let [_, kept] = self.of_storage();
        let _together = self.telemetry.together();
        kept.sub(records);
        self.in_flight.add(records);
    }

    /// Those that an exporter without storage does not have.
    fn of_storage(&self) -> [Counter; 2] {
        let labels = [("exporter", self.exporter.as_str())];
        let name = |what: &str| format!("weir_exporter_{what}_{}", suffix(self.signal));
        [self.telemetry.counter(name("recovered"), &labels), self.telemetry.gauge(name("kept"), &labels)]
    }

    fn dropped(&self, reason: &str) -> Counter {
        let labels = [("exporter", self.exporter.as_str()), ("signal", self.signal.as_str()), ("reason", reason)];
        self.telemetry.counter("weir_exporter_dropped", &labels)
    }
}

/// What the graph counts when it hands records to an exporter. It is counted apart from what the exporter says of
/// itself, so that the two can be compared ([`Balance`](super::Balance)).
#[derive(Debug, Clone)]
pub struct OfferCounters {
    telemetry: Telemetry,
    /// Records that pipelines have begun to hand over.
    offered: Counter,
    /// Level: records that are being handed over.
    in_transfer: Counter,
}

impl OfferCounters {
    /// The counters of those who feed one exporter.
    pub fn new(telemetry: &Telemetry, exporter: &str, signal: Signal) -> Self {
        let labels = [("exporter", exporter)];
        Self {
            telemetry: telemetry.clone(),
            offered: telemetry.counter(format!("weir_exporter_offered_{}", suffix(signal)), &labels),
            in_transfer: telemetry.gauge(format!("weir_exporter_in_transfer_{}", suffix(signal)), &labels),
        }
    }

    /// Counts records whose handing over begins.
    pub fn begin(&self, records: usize) {
        let _together = self.telemetry.together();
        self.offered.add(records);
        self.in_transfer.add(records);
    }

    /// Counts records that were handed over.
    pub fn end(&self, records: usize) {
        self.in_transfer.sub(records);
    }
}
