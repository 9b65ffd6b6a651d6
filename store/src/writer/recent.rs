//! Spans that come again.
//!
//! Who got no answer in time sends its spans again, although they may have been stored by then: delivery is at least
//! once, and each row would count, and cost, twice. So the writers remember for some minutes what they have taken, and
//! leave out a span that is the same to the last byte as it arrived, its resource included.
//!
//! * A span is left out only if the first one is in the table, or if its own batch is settled after it is known whether
//!   the first one is: flushes are committed in order. If the first one is not stored after all, whoever sent the second
//!   is told to come again.
//! * Only spans with a trace id and a span id are: of others two may be equal and meant.
//! * What is remembered is the span's id and a hash of 64 bits, for the last [`GENERATION`] spans at least, and for [`AGE`] at most twice.
//!   All writers of a pool share that memory. Another process knows nothing of it.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use foldhash::quality::RandomState;
use tokio::time::Instant;
use weir_pipeline::batch::{Batch, Span};

/// Spans of one generation. Two are kept.
const GENERATION: usize = 128 << 10;
/// After this a generation is the former one. Clients give up sooner.
const AGE: Duration = Duration::from_secs(300);

/// What the writers of a pool have taken of late.
#[derive(Debug)]
pub(super) struct Recent {
    hashers: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: HashMap<u128, u64>,
    former: HashMap<u128, u64>,
    began: Instant,
    /// The number of the next flush of any writer.
    next: u64,
    /// Flushes of which something was not stored, as long as something in the generations may be of them.
    failed: HashSet<u64>,
    /// Those that failed before the former generation began.
    failed_before: HashSet<u64>,
}

/// What is remembered, for one writer.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    recent: Arc<Recent>,
    /// Tells its spans from those of others.
    writer: u64,
}

impl Recent {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            current: HashMap::default(),
            former: HashMap::default(),
            began: Instant::now(),
            next: 0,
            failed: HashSet::new(),
            failed_before: HashSet::new(),
        };
        Arc::new(Self { hashers: RandomState::default(), state: Mutex::new(state) })
    }

    /// That of one more writer.
    pub(super) fn memory(self: &Arc<Self>) -> Memory {
        Memory { recent: Arc::clone(self), writer: self.state().number() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn age(&mut self, now: Instant) {
        if self.current.len() < GENERATION && now.duration_since(self.began) < AGE {
            return;
        }
        self.began = now;
        self.former = std::mem::take(&mut self.current);
        self.failed_before = std::mem::take(&mut self.failed);
    }

    fn has_failed(&self, flush: u64) -> bool {
        self.failed.contains(&flush) || self.failed_before.contains(&flush)
    }

    /// Notes a span for a flush; the flush that has it already, unless that failed.
    fn note(&mut self, span: u128, flush: u64) -> Option<u64> {
        let known = self.current.get(&span).or_else(|| self.former.get(&span)).copied();
        if let Some(known) = known.filter(|known| !self.has_failed(*known)) {
            return Some(known);
        }
        self.current.insert(span, flush);
        None
    }
}

impl Memory {
    /// The number of a flush that begins.
    pub(super) fn flush(&self) -> u64 {
        self.recent.state().number()
    }

    /// Takes out of a batch, which is to be part of this flush, what was taken before. Returns the flushes that have it
    /// and how many spans these are.
    pub(super) fn leave_out(&self, batch: &mut Batch, flush: u64) -> (Vec<u64>, usize) {
        let hashes: Vec<Option<u128>> = batch.spans().map(|span| self.hash(span)).collect();
        let mut hashes = hashes.into_iter();
        let mut state = self.recent.state();
        state.age(Instant::now());
        let mut elsewhere = Vec::new();
        let left_out = batch.retain(|_| {
            let hash = hashes.next().flatten();
            let Some(known) = hash.and_then(|hash| state.note(hash, flush)) else { return true };
            if elsewhere.last() != Some(&known) && !elsewhere.contains(&known) {
                elsewhere.push(known);
            }
            false
        });
        (elsewhere, left_out)
    }

    /// Something of this flush was not stored.
    pub(super) fn note_failed(&self, flush: u64) {
        self.recent.state().failed.insert(flush);
    }

    /// Whether something of one of these flushes, which have ended, was not stored.
    pub(super) fn has_failed(&self, flushes: &[u64]) -> bool {
        if flushes.is_empty() {
            return false;
        }
        let state = self.recent.state();
        flushes.iter().any(|flush| state.has_failed(*flush))
    }

    /// `None` for a span that cannot be told from others.
    fn hash(&self, span: Span<'_>) -> Option<u128> {
        span.trace_id()?;
        let id = u64::from_le_bytes(*span.span_id()?);
        let mut hasher = self.recent.hashers.build_hasher();
        hasher.write_u64(self.writer);
        hasher.write(span.raw_resource());
        hasher.write(span.raw());
        Some(u128::from(hasher.finish()) << 64 | u128::from(id))
    }
}
