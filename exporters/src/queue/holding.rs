//! What a batch in the queue holds until it has been dealt with: room, and its place in the log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use weir_pipeline::telemetry::ExporterCounters;

use super::capacity::Space;
use super::log::Entry;

/// Of one batch that was accepted.
#[derive(Debug)]
pub(super) enum Held {
    /// Its room, given back with this; the batch is in memory alone.
    Space { _room: Space },
    /// Its place in the log, which has the room with it.
    Entry(Entry),
}

impl Held {
    fn entry(&self) -> Option<&Entry> {
        if let Self::Entry(entry) = self { Some(entry) } else { None }
    }

    fn into_entry(self) -> Option<Entry> {
        if let Self::Entry(entry) = self { Some(entry) } else { None }
    }
}

/// Of the batches that were joined to one, of which the requests made of it have a share each.
///
/// The last share that is dropped decides what becomes of those that are in a log: if all requests have ended and none
/// of them is to be [kept](Self::end), they are done with; else they wait to be taken from there again, all of them.
/// Nothing is done with because a task was cancelled.
#[derive(Debug)]
pub(super) struct Holding {
    held: Vec<Held>,
    /// Requests that have not ended.
    open: AtomicUsize,
    /// Records that are in a counter for good.
    ended: AtomicUsize,
    is_kept: AtomicBool,
    counters: ExporterCounters,
}

impl Holding {
    pub(super) fn new(held: Vec<Held>, counters: &ExporterCounters) -> Self {
        Self {
            held,
            open: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            is_kept: AtomicBool::new(false),
            counters: counters.clone(),
        }
    }

    /// Another request has begun.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// A request has ended: so many of its records for good, and so many not.
    pub(super) fn end(&self, ended: usize, kept: usize) {
        self.ended.fetch_add(ended, Ordering::AcqRel);
        if kept > 0 {
            self.is_kept.store(true, Ordering::Release);
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// The number of the oldest batch in the log, if they are in one.
    pub(super) fn number(&self) -> Option<u64> {
        self.held.first().and_then(Held::entry).map(|entry| entry.number)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let is_done = *self.open.get_mut() == 0 && !*self.is_kept.get_mut();
        let entries: Vec<Entry> = self.held.drain(..).filter_map(Held::into_entry).collect();
        if is_done {
            return entries.into_iter().for_each(Entry::done);
        }
        if !entries.is_empty() {
            let records = entries.iter().map(|entry| entry.records).sum();
            self.counters.keep(records, *self.ended.get_mut());
        }
    }
}
