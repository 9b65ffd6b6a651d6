//! Spans that come again.
//!
//! Who got no answer in time sends its spans again, although they may have been stored by then: delivery is at least
//! once, and each row would count, and cost, twice. So the writers remember for some minutes what they have taken, and
//! leave out a span that would make the same row: the same to the last byte, its resource and scope included, after what
//! processors did to it, and the same tenant's.
//!
//! * A span is left out only if the first one is in the table, or if its own batch is settled after it is known whether
//!   the first one is: flushes are committed in order, and a batch keeps hold of those that it relies on ([`Fate`]). If
//!   the first one is not stored after all, whoever sent the second is told to come again.
//! * Only spans with a trace id and a span id are: of others two may be equal and meant.
//! * What is remembered is the span's id and a hash of 64 bits, for the last [`GENERATION`] spans at least, of twice as
//!   many at most, and for ten minutes at most. All writers of a pool share that memory. Another process knows nothing
//!   of it.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use foldhash::quality::RandomState;
use tokio::time::Instant;
use weir_pipeline::batch::{Batch, Piece, Span};

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
    current: HashMap<u128, Fate>,
    former: HashMap<u128, Fate>,
    began: Instant,
    writers: u64,
}

/// What becomes of a flush: whether something of it was not stored. Known before anybody is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate(Arc<AtomicBool>);

/// What is remembered, for one writer.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    recent: Arc<Recent>,
    /// Tells its spans from those of others.
    writer: u64,
}

impl Fate {
    pub(super) fn fail(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Recent {
    pub(super) fn new() -> Arc<Self> {
        let (current, former) = (HashMap::default(), HashMap::default());
        let state = State { current, former, began: Instant::now(), writers: 0 };
        Arc::new(Self { hashers: RandomState::default(), state: Mutex::new(state) })
    }

    /// That of one more writer.
    pub(super) fn memory(self: &Arc<Self>) -> Memory {
        let mut state = self.state();
        state.writers += 1;
        Memory { recent: Arc::clone(self), writer: state.writers }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn age(&mut self, now: Instant) {
        if self.current.len() >= GENERATION || now.duration_since(self.began) >= AGE {
            self.began = now;
            self.former = std::mem::take(&mut self.current);
        }
    }

    /// Notes a span for a flush; the flush that has it already, unless that failed.
    fn note(&mut self, span: u128, flush: &Fate) -> Option<Fate> {
        let known = self.current.get(&span).or_else(|| self.former.get(&span));
        if let Some(known) = known.filter(|known| !known.has_failed()) {
            return Some(known.clone());
        }
        if self.current.len() >= GENERATION {
            self.age(self.began);
        }
        self.current.insert(span, flush.clone());
        None
    }
}

impl Memory {
    /// Takes out of a batch, which is to be part of this flush, what was taken before. Returns the flushes that have it
    /// and how many spans these are.
    pub(super) fn leave_out(&self, batch: &mut Batch, flush: &Fate) -> (Vec<Fate>, usize) {
        let mut containers = Containers::default();
        let hashes: Vec<Option<u128>> = batch.spans().map(|span| self.hash(span, &mut containers)).collect();
        let mut hashes = hashes.into_iter();
        let mut state = self.recent.state();
        state.age(Instant::now());
        let mut elsewhere: Vec<Fate> = Vec::new();
        let left_out = batch.retain(|_| {
            let hash = hashes.next().flatten();
            let Some(known) = hash.and_then(|hash| state.note(hash, flush)) else { return true };
            if !elsewhere.iter().rev().any(|other| other.is(&known)) {
                elsewhere.push(known);
            }
            false
        });
        (elsewhere, left_out)
    }

    /// `None` for a span that cannot be told from others.
    fn hash(&self, span: Span<'_>, containers: &mut Containers) -> Option<u128> {
        span.trace_id()?;
        let id = u64::from_le_bytes(*span.span_id()?);
        let mut hasher = self.recent.hashers.build_hasher();
        hasher.write_u64(self.writer);
        hasher.write_u64(containers.hash(span, &self.recent.hashers));
        span.pieces(|piece| match piece {
            Piece::Fields(bytes) | Piece::Attribute(bytes) => hasher.write(bytes),
            Piece::Noted(noted) => {
                hasher.write(noted.text);
                hasher.write(noted.any_value);
            }
        });
        Some(u128::from(hasher.finish()) << 64 | u128::from(id))
    }
}

/// The hash of what the last span belongs to, and many after it: a resource may be large.
#[derive(Default)]
struct Containers {
    places: Option<[(usize, usize); 2]>,
    hash: u64,
}

impl Containers {
    fn hash(&mut self, span: Span<'_>, hashers: &RandomState) -> u64 {
        let messages = span.container_messages();
        // Of one batch, which does not change meanwhile.
        let places = Some(messages.map(|message| (message.as_ptr() as usize, message.len())));
        if self.places != places {
            self.places = places;
            let mut hasher = hashers.build_hasher();
            for message in messages {
                hasher.write_usize(message.len());
                hasher.write(message);
            }
            if let Some(tenant) = span.tenant() {
                hasher.write(tenant.project.as_str().as_bytes());
                hasher.write_u8(b'/');
                hasher.write(tenant.environment.as_str().as_bytes());
                hasher.write_u64(tenant.generation);
            }
            self.hash = hasher.finish();
        }
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_taken_again_and_memory_is_bounded() {
        let recent = Recent::new();
        let mut state = recent.state();
        let (first, second) = (Fate::default(), Fate::default());
        assert!(state.note(1, &first).is_none());
        let relied_on = state.note(1, &second).unwrap();
        assert!(relied_on.is(&first) && !relied_on.has_failed());
        // However much comes meanwhile, who relies on it learns what became of it.
        for span in 2..(3 * GENERATION as u128) {
            state.note(span, &second);
            assert!(state.current.len() <= GENERATION && state.former.len() <= GENERATION);
        }
        assert!(state.note(1, &second).is_none(), "that was long ago");
        first.fail();
        assert!(relied_on.has_failed());
        // What is not stored after all is taken.
        let last = 3 * GENERATION as u128 - 1;
        assert!(state.note(last, &first).is_some_and(|known| known.is(&second)));
        second.fail();
        let third = Fate::default();
        assert!(state.note(last, &third).is_none());
        assert!(state.note(last, &first).is_some_and(|known| known.is(&third)));
        // Nor is anything kept for long.
        let later = state.began + AGE;
        state.age(later);
        state.age(later + AGE);
        assert!(state.current.is_empty() && state.former.is_empty());
    }
}
