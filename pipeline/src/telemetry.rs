//! Weir's own counters: every received record ends in exactly one of them (I2).
//!
//! Names follow the Collector's own telemetry (`otelcol_receiver_accepted_spans` …) so that existing dashboards work;
//! what the Collector does not count is named `weir_…`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::signal::Signal;

/// A number that goes up; or, where it says so, the level of something.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Takes `n` away again: for levels, and for counts that turned out otherwise.
    pub fn sub(&self, n: usize) {
        self.0.fetch_sub(n as u64, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter's name and labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Metric name.
    pub name: String,
    /// Labels in the order they were given.
    pub labels: Vec<(&'static str, String)>,
}

/// All counters of the process.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Mutex<BTreeMap<Key, Counter>>>);

impl Telemetry {
    /// The counter of this name and these labels, made at first sight. Keep the handle: this takes a lock.
    pub fn counter(&self, name: impl Into<String>, labels: &[(&'static str, &str)]) -> Counter {
        let labels = labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry(Key { name: name.into(), labels }).or_default().clone()
    }

    /// All counters, sorted by name and labels.
    pub fn snapshot(&self) -> Vec<(Key, u64)> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|(key, counter)| (key.clone(), counter.get())).collect()
    }

    /// Sum of all counters with this name, whatever their labels.
    pub fn sum(&self, name: &str) -> u64 {
        self.snapshot().iter().filter(|(key, _)| key.name == name).map(|(_, value)| value).sum()
    }
}

/// The suffix the Collector gives a signal's metrics.
pub const fn suffix(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "metric_points",
        Signal::Logs => "log_records",
    }
}

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

/// What an exporter counts, per signal. `consumed = sent + send_failed + enqueue_failed + in_flight` at all times.
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
            in_flight: telemetry.counter(format!("weir_exporter_in_flight_{}", suffix(signal)), &labels),
        }
    }

    /// Counts records that the exporter takes over.
    pub fn take(&self, records: usize) {
        self.consumed.add(records);
        self.in_flight.add(records);
    }

    /// Counts taken records that the destination has.
    pub fn succeed(&self, records: usize) {
        self.in_flight.sub(records);
        self.sent.add(records);
    }

    /// Counts taken records that the destination will not get, with the reason (`permanent_error`, `retries_exhausted`,
    /// `shutdown` …).
    pub fn fail(&self, records: usize, reason: &str) {
        self.in_flight.sub(records);
        self.send_failed.add(records);
        self.dropped(records, reason);
    }

    /// Counts taken records for which the queue had no room.
    pub fn overflow(&self, records: usize) {
        self.in_flight.sub(records);
        self.enqueue_failed.add(records);
        self.dropped(records, "queue_full");
    }

    fn dropped(&self, records: usize, reason: &str) {
        let labels = [("exporter", self.exporter.as_str()), ("signal", self.signal.as_str()), ("reason", reason)];
        self.telemetry.counter("weir_exporter_dropped", &labels).add(records);
    }
}
