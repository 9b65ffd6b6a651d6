//! Room in a queue, counted over all lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

use weir_pipeline::telemetry::Counter;

use super::settings::Sizer;

/// Bytes that all queues of one exporter may hold together.
///
/// Decision: a queue bounded in requests alone, as the Collector's default is, holds as much memory as its requests are
/// large: 1,000 requests of LLM spans are gigabytes. So there is a bound in bytes beside it, which applies unless
/// `sizer: bytes` sets another one.
pub(crate) const DEFAULT_BYTES: usize = 256 << 20;

/// The same where all of it is on disk too, whatever the sizer is.
pub(crate) const STORED_BYTES: usize = 64 << 20;

/// A count with a limit.
#[derive(Debug)]
struct Gauge {
    used: AtomicUsize,
    limit: usize,
}

impl Gauge {
    fn take(&self, amount: usize) -> bool {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(amount).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// The room of the queues of one exporter in bytes, shared by its signals.
#[derive(Debug, Clone)]
pub(crate) struct Bytes(Arc<Room>);

#[derive(Debug)]
struct Room {
    bytes: Gauge,
    /// Told when anything is given back.
    freed: Notify,
}

impl Bytes {
    /// Room for so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Room { bytes: Gauge { used: AtomicUsize::new(0), limit }, freed: Notify::new() }))
    }
}

/// The room of one queue.
#[derive(Debug)]
pub(crate) struct Capacity {
    units: Gauge,
    /// The units taken, as Weir's own metrics show them.
    size: Counter,
    sizer: Sizer,
    shared: Bytes,
    /// Whether what has no room in memory is elsewhere: then room is taken in units alone, and in bytes by
    /// [`Space::hold`].
    spills: bool,
    /// Those who wait for room stand in line here, so that a large batch is not overtaken by small ones for ever.
    turn: Mutex<()>,
}

impl Capacity {
    /// Room for `limit` units of `sizer`, and for as many bytes as `shared` has.
    pub(crate) fn new(limit: usize, sizer: Sizer, shared: Bytes) -> Self {
        let units = Gauge { used: AtomicUsize::new(0), limit };
        Self { units, size: Counter::default(), sizer, shared, spills: false, turn: Mutex::new(()) }
    }

    /// The same, told in `size` too.
    pub(crate) fn shown_in(self, size: Counter) -> Self {
        Self { size, ..self }
    }

    /// The same for batches that need not be in memory.
    pub(crate) fn spilling(self, spills: bool) -> Self {
        Self { spills, ..self }
    }

    /// Takes room for a batch, if there is any.
    ///
    /// A batch larger than the whole queue takes all of it: it then travels alone.
    pub(crate) fn take(self: &Arc<Self>, records: usize, bytes: usize) -> Option<Space> {
        if self.spills {
            return self.take_units(records, bytes);
        }
        let bytes_held = bytes.min(self.shared.0.bytes.limit);
        if !self.shared.0.bytes.take(bytes_held) {
            return None;
        }
        let Some(mut space) = self.take_units(records, bytes) else {
            self.shared.0.bytes.give_back(bytes_held);
            return None;
        };
        space.bytes = bytes_held;
        Some(space)
    }

    fn take_units(self: &Arc<Self>, records: usize, bytes: usize) -> Option<Space> {
        let units = self.units_of(records, bytes);
        if !self.units.take(units) {
            return None;
        }
        self.size.add(units);
        Some(Space { capacity: Arc::clone(self), units, bytes: 0 })
    }

    /// Room for a batch that is there already, whether or not there is any.
    pub(crate) fn force_units(self: &Arc<Self>, records: usize, bytes: usize) -> Space {
        let units = self.units_of(records, bytes);
        self.units.used.fetch_add(units, Ordering::AcqRel);
        self.size.add(units);
        Space { capacity: Arc::clone(self), units, bytes: 0 }
    }

    fn units_of(&self, records: usize, bytes: usize) -> usize {
        let units = match self.sizer {
            Sizer::Requests => 1,
            Sizer::Items => records,
            Sizer::Bytes => bytes,
        };
        units.min(self.units.limit)
    }

    /// Takes room for a batch, waiting in line for it.
    pub(crate) async fn wait(self: &Arc<Self>, records: usize, bytes: usize) -> Space {
        let _turn = self.turn.lock().await;
        loop {
            // Registered before looking, so that nothing given back in between is missed.
            let freed = self.shared.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(space) = self.take(records, bytes) {
                return space;
            }
            freed.await;
        }
    }

    /// Units taken now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.units.used.load(Ordering::Acquire)
    }
}

/// Room taken in a queue, given back when dropped.
#[derive(Debug)]
pub(crate) struct Space {
    capacity: Arc<Capacity>,
    units: usize,
    bytes: usize,
}

impl Space {
    /// Takes room in memory too, if there is any.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let all = &self.capacity.shared.0.bytes;
        let bytes = bytes.min(all.limit);
        let is_taken = self.bytes == 0 && all.take(bytes);
        if is_taken {
            self.bytes = bytes;
        }
        is_taken
    }

    /// Gives the room in memory back.
    pub(crate) fn release(&mut self) {
        self.capacity.shared.0.bytes.give_back(std::mem::take(&mut self.bytes));
        self.capacity.shared.0.freed.notify_waiters();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.capacity.units.give_back(self.units);
        self.capacity.size.sub(self.units);
        self.capacity.shared.0.bytes.give_back(self.bytes);
        self.capacity.shared.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_everything_comes_back() {
        let capacity = Arc::new(Capacity::new(2, Sizer::Requests, Bytes::new(100)));
        let first = capacity.take(5, 60).unwrap();
        assert!(capacity.take(5, 41).is_none(), "bytes");
        assert_eq!(capacity.used(), 1, "a refusal holds nothing");
        let second = capacity.take(5, 40).unwrap();
        assert!(capacity.take(5, 0).is_none(), "requests");
        drop((first, second));
        assert_eq!((capacity.used(), capacity.shared.0.bytes.used.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_batch_larger_than_the_queue_travels_alone() {
        let capacity = Arc::new(Capacity::new(10, Sizer::Items, Bytes::new(100)));
        let large = capacity.take(50, 1_000).unwrap();
        assert!(capacity.take(1, 1).is_none());
        drop(large);
        assert!(capacity.take(1, 1).is_some());
    }

    #[test]
    fn signals_share_the_bytes() {
        let bytes = Bytes::new(100);
        let traces = Arc::new(Capacity::new(10, Sizer::Requests, bytes.clone()));
        let logs = Arc::new(Capacity::new(10, Sizer::Requests, bytes));
        let _space = traces.take(1, 80).unwrap();
        assert!(logs.take(1, 21).is_none());
    }

    #[tokio::test]
    async fn waiting_ends_when_room_comes_back() {
        let capacity = Arc::new(Capacity::new(1, Sizer::Requests, Bytes::new(100)));
        let space = capacity.take(1, 1).unwrap();
        let waiting = tokio::spawn({
            let capacity = Arc::clone(&capacity);
            async move { capacity.wait(1, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(space);
        let space = waiting.await.unwrap();
        assert_eq!(capacity.used(), 1);
        drop(space);
    }
}
