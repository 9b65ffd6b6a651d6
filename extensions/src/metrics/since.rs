//! What a destination knows already: sums of delta temporality count from there.

use std::collections::{BTreeMap, HashMap};

use weir_pipeline::telemetry::{Family, Kind, Labels};

/// The counts that a destination was sent last, and when.
#[derive(Debug, Default)]
pub(super) struct Since {
    unix_nanos: u64,
    counts: HashMap<String, BTreeMap<Labels, u64>>,
}

impl Since {
    /// A destination that knows nothing of what was counted from this moment on.
    pub(super) fn start(unix_nanos: u64) -> Self {
        Self { unix_nanos, ..Self::default() }
    }

    /// Nanoseconds since the epoch.
    pub(super) fn unix_nanos(&self) -> u64 {
        self.unix_nanos
    }

    /// How much of `count` it does not know. A count that was taken back in part is not news until it has caught up.
    pub(super) fn news(&self, name: &str, labels: &Labels, count: u64) -> u64 {
        count.saturating_sub(self.known(name, labels))
    }

    /// It was sent these at this moment. What is no longer among them begins at zero if it comes back.
    pub(super) fn advance<'a>(&mut self, families: impl Iterator<Item = &'a Family>, unix_nanos: u64) {
        let counters = families.filter(|family| family.description.kind == Kind::Counter);
        let counts = counters.map(|Family { name, series, .. }| {
            let count = |(labels, count): &(Labels, u64)| (labels.clone(), (*count).max(self.known(name, labels)));
            (name.clone(), series.iter().map(count).collect())
        });
        *self = Self { unix_nanos, counts: counts.collect() };
    }

    fn known(&self, name: &str, labels: &Labels) -> u64 {
        self.counts.get(name).and_then(|series| series.get(labels)).copied().unwrap_or(0)
    }
}
