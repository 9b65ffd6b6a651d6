//! Weir's own counters: every received record ends in exactly one of them (I2).
//!
//! Names follow the Collector's own telemetry (`otelcol_receiver_accepted_spans` …) so that existing dashboards work;
//! what the Collector does not count is named `weir_…`. Names are written here without the suffixes of Prometheus
//! (`_total`, `_bytes`): whether those are shown is the reader's choice.
//!
//! Counts are integers and exact. A [`Description`] says what a metric means, and may declare a divisor: money is
//! counted in whole nanodollars, say, and shown in dollars.

mod accounting;
mod description;
mod exporter;
mod push;
mod receiver;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

pub use self::accounting::Balance;
pub use self::description::{Description, Kind, Level};
pub use self::exporter::{ExporterCounters, OfferCounters};
pub use self::push::{Push, PushError, Temporality};
pub use self::receiver::ReceiverCounters;
use crate::signal::Signal;

/// Series that one metric may have; more are counted together in one whose only label is [`OVERFLOW`].
///
/// Labels may come from what clients send, and nobody bounds that. The number is that of OpenTelemetry's SDKs.
pub const MAX_SERIES: usize = 2000;

/// The label of the series that takes what exceeds [`MAX_SERIES`], with the value `true`.
pub const OVERFLOW: &str = "otel_metric_overflow";

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

    /// Sets a level.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
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
    pub labels: Labels,
}

/// Labels in the order they were given.
pub type Labels = Vec<(&'static str, String)>;

/// All series of one metric, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Metric name.
    pub name: String,
    /// What it means.
    pub description: Description,
    /// Labels and value of each series, sorted by labels.
    pub series: Vec<(Labels, u64)>,
}

/// All counters of the process.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    metrics: Mutex<BTreeMap<String, Metric>>,
    /// Held for reading while several counters change together, so that who holds it for writing sees sums that hold.
    together: RwLock<()>,
}

#[derive(Debug, Default)]
struct Metric {
    description: Option<Description>,
    series: BTreeMap<Labels, Counter>,
}

impl Telemetry {
    /// The counter of this name and these labels, made at first sight. Keep the handle: this takes a lock.
    pub fn counter(&self, name: impl Into<String>, labels: &[(&'static str, &str)]) -> Counter {
        let labels: Labels = labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let mut metrics = self.metrics();
        let series = &mut metrics.entry(name.into()).or_default().series;
        let is_new_and_one_too_many = series.len() >= MAX_SERIES && !series.contains_key(&labels);
        let labels = if is_new_and_one_too_many { vec![(OVERFLOW, "true".to_owned())] } else { labels };
        series.entry(labels).or_default().clone()
    }

    /// The same for the level of something: its description says [`Kind::Gauge`] unless [`describe`](Self::describe)
    /// has said more.
    pub fn gauge(&self, name: impl Into<String>, labels: &[(&'static str, &str)]) -> Counter {
        let name = name.into();
        if description::well_known(&name).is_none() {
            let mut metrics = self.metrics();
            let metric = metrics.entry(name.clone()).or_default();
            metric.description.get_or_insert(Description::gauge(""));
        }
        self.counter(name, labels)
    }

    /// Says what a metric means. The last one to say so is believed.
    pub fn describe(&self, name: impl Into<String>, description: Description) {
        self.metrics().entry(name.into()).or_default().description = Some(description);
    }

    /// Forgets the series that carry this label: what they counted no longer exists.
    pub fn forget(&self, label: &str, value: &str) {
        for metric in self.metrics().values_mut() {
            metric.series.retain(|labels, _| !labels.iter().any(|(k, v)| *k == label && v == value));
        }
    }

    /// All counters, sorted by name and labels.
    pub fn snapshot(&self) -> Vec<(Key, u64)> {
        let families = self.families();
        let keys = families.into_iter().flat_map(|Family { name, series, .. }| {
            series.into_iter().map(move |(labels, value)| (Key { name: name.clone(), labels }, value))
        });
        keys.collect()
    }

    /// All metrics that have a series, sorted by name, read at one moment.
    pub fn families(&self) -> Vec<Family> {
        let metrics = self.metrics();
        let _still = self.0.together.write().unwrap_or_else(PoisonError::into_inner);
        let used = metrics.iter().filter(|(_, metric)| !metric.series.is_empty());
        let read = |(name, metric): (&String, &Metric)| Family {
            name: name.clone(),
            description: metric.description.or_else(|| description::well_known(name)).unwrap_or_default(),
            series: metric.series.iter().map(|(labels, counter)| (labels.clone(), counter.get())).collect(),
        };
        used.map(read).collect()
    }

    /// Sum of all counters with this name, whatever their labels.
    pub fn sum(&self, name: &str) -> u64 {
        self.metrics().get(name).map_or(0, |metric| metric.series.values().map(Counter::get).sum())
    }

    /// Held while counters change whose sums must hold for a reader.
    fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.0.together.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn metrics(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        self.0.metrics.lock().unwrap_or_else(PoisonError::into_inner)
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
