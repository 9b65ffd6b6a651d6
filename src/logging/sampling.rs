//! Which of many equal messages are written.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::config::Sampling;

/// Messages are told apart by so many values of their hash; more would only cost memory.
const SLOTS: usize = 4096;

/// Counts messages by what they say, in bounded memory.
pub(super) struct Sampler {
    sampling: Sampling,
    hasher: RandomState,
    started: Instant,
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    /// The tick that is counted, from 1; 0 before the first.
    tick: AtomicU64,
    count: AtomicU64,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { sampling, hasher: RandomState::new(), started: Instant::now(), slots }
    }

    /// Whether a message that comes now is written.
    pub(super) fn admits(&self, level: tracing::Level, message: &str, now: Instant) -> bool {
        let hash = self.hasher.hash_one((level.as_str(), message));
        // The remainder is smaller than the number of slots.
        let slot = &self.slots[(hash % SLOTS as u64) as usize];
        let tick_nanos = self.sampling.tick.as_nanos().max(1);
        let tick = u64::try_from(now.duration_since(self.started).as_nanos() / tick_nanos).unwrap_or(u64::MAX - 1) + 1;
        // Two threads may both begin a tick and write one message more: nobody counts on the exact number.
        if slot.tick.swap(tick, Ordering::Relaxed) != tick {
            slot.count.store(0, Ordering::Relaxed);
        }
        let count = slot.count.fetch_add(1, Ordering::Relaxed) + 1;
        let Sampling { initial, thereafter, .. } = self.sampling;
        count <= initial || thereafter > 0 && (count - initial).is_multiple_of(thereafter)
    }
}
