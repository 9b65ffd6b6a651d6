//! Whether the counters add up, per destination (I2).

use super::{Family, Telemetry, suffix};
use crate::signal::Signal;

/// What became of the records of one signal that were meant for one exporter, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The exporter's id.
    pub exporter: String,
    /// The signal.
    pub signal: Signal,
    /// Records that pipelines have begun to hand to the exporter, as counted by the graph.
    pub offered: u64,
    /// Of these, records whose handing over has not ended.
    pub in_transfer: u64,
    /// Records that the exporter says it was handed.
    pub consumed: u64,
    /// Records that the destination took.
    pub sent: u64,
    /// Records given up after retries, or refused for good.
    pub send_failed: u64,
    /// Records refused because the queue was full.
    pub enqueue_failed: u64,
    /// Records that the exporter still holds.
    pub in_flight: u64,
    /// Records that it found on disk, or counts again because it goes on from there.
    pub recovered: u64,
    /// Records that wait on disk, whatever becomes of the process.
    pub kept: u64,
    /// Whether what the exporter holds is on disk as well.
    pub has_storage: bool,
}

impl Balance {
    /// Records that are unaccounted for: positive if some vanished without a counter, negative if some were counted
    /// more than once, and 0 as long as nothing is wrong.
    ///
    /// A record that is being handed over may already be in the exporter's books or not yet; both are right.
    pub fn difference(&self) -> i128 {
        let [offered, in_transfer, consumed] = [self.offered, self.in_transfer, self.consumed].map(i128::from);
        let ended = [self.sent, self.send_failed, self.enqueue_failed, self.in_flight, self.kept].map(i128::from);
        let never_arrived = (offered - in_transfer - consumed).max(0);
        let never_offered = (consumed - offered).max(0);
        never_arrived - never_offered + consumed + i128::from(self.recovered) - ended.iter().sum::<i128>()
    }

    /// The balances in one reading of all metrics, sorted by name as [`Telemetry::families`] gives them.
    pub fn of(families: &[Family]) -> Vec<Self> {
        let mut balances = Vec::new();
        for signal in Signal::ALL {
            let suffix = suffix(signal);
            let series = |name: String| {
                let found = families.binary_search_by(|f| f.name.as_str().cmp(&name));
                found.map_or(&[][..], |at| &families[at].series)
            };
            let offered = series(format!("weir_exporter_offered_{suffix}"));
            for (labels, offered) in offered {
                let found = |name: String| series(name).iter().find(|(l, _)| l == labels).map(|(_, value)| *value);
                let value = |name: String| found(name).unwrap_or(0);
                let kept = found(format!("weir_exporter_kept_{suffix}"));
                balances.push(Self {
                    exporter: labels.first().map_or_else(String::new, |(_, v)| v.clone()),
                    signal,
                    offered: *offered,
                    in_transfer: value(format!("weir_exporter_in_transfer_{suffix}")),
                    consumed: value(format!("weir_exporter_consumed_{suffix}")),
                    sent: value(format!("otelcol_exporter_sent_{suffix}")),
                    send_failed: value(format!("otelcol_exporter_send_failed_{suffix}")),
                    enqueue_failed: value(format!("otelcol_exporter_enqueue_failed_{suffix}")),
                    in_flight: value(format!("weir_exporter_in_flight_{suffix}")),
                    recovered: value(format!("weir_exporter_recovered_{suffix}")),
                    kept: kept.unwrap_or(0),
                    has_storage: kept.is_some(),
                });
            }
        }
        balances
    }
}

impl Telemetry {
    /// The balance of every exporter and signal that the graph has handed records to.
    pub fn balances(&self) -> Vec<Balance> {
        Balance::of(&self.families())
    }
}
