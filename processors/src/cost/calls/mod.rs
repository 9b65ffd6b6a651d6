//! Which span of a model call carries its cost.
//!
//! One call often leaves several spans with the same tokens: a framework's and the SDK's, a native span of the SDK
//! beside an instrumentation's, an agent's with the sum. Exactly one of them is billed; the others get the status
//! `duplicate` or `aggregate` and name the billed one in `weir.cost.deferred_to` (`<trace id>/<span id>`).
//!
//! **Who is billed.** A stream cannot take back what it has sent, so the first span of a call that carries usage and
//! has a price is billed, and later ones defer to it. Among the spans of one batch the most exact one comes first: the
//! SDK's native span, then a provider's instrumentation, then a gateway's, then a framework's; of equals the one that
//! started last, which is the inner one ([`Rank`]).
//!
//! **What is one call.**
//!
//! 1. *The same response id* within a project, and either an overlap in time or, in one trace, the same counts. Two
//!    calls that a server gives the same id, or a recorded answer that is played again later, are not taken for one.
//! 2. *Parent and child* with the same counts, or where the counts of one are estimated. A parent whose counts are the
//!    sum of several billed children is an aggregate. Counts that only come close do not join: a tool inside a call may
//!    make calls of its own.
//! 3. *Logfire's stream logs* have neither id nor parent; in the same trace and at the same time as a native span with
//!    the same counts they are that call.
//! 4. Spans that are aggregates by their kind (agents, workflows, the outer spans of the Vercel AI SDK) are never
//!    billed. One without `weir.cost.deferred_to` has no billed child that was seen before.
//!
//! The same span sent twice, because its client did not get an answer, gets the same answer twice.
//!
//! **Limits.** What is known lives in memory: spans of a call that reach different processes, or come after
//! [`Limits::window`], or after [`Limits::max_calls`] others, are each billed. The memory is about a third of a
//! kilobyte a call. Where a framework's span comes in an earlier request than the SDK's, the framework's is billed.
//!
//! The table is shared by the lanes of one processor and sharded: a claim takes the lock of its trace's shard and, with
//! a response id, that of the id's, always in this order. The [`Claims`] of a batch keep the former from one to the next.
//! Spans without usage take none.

mod rank;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::quality::RandomState;

pub use self::rank::Rank;
use self::table::{Key, Table};

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a call is remembered after one of its spans was last seen, in nanoseconds.
    pub window: u64,
    /// How many calls are remembered.
    pub max_calls: usize,
}

/// A span's name in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpanId {
    /// Trace id.
    pub trace: [u8; 16],
    /// Span id.
    pub span: [u8; 8],
}

impl SpanId {
    /// The name of a span whose ids are valid.
    pub fn new(trace_id: &[u8], span_id: &[u8]) -> Option<Self> {
        Some(Self { trace: trace_id.try_into().ok()?, span: span_id.try_into().ok()? })
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"));
        hex(f, &self.trace)?;
        f.write_str("/")?;
        hex(f, &self.span)
    }
}

/// A span with usage, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The span.
    pub id: SpanId,
    /// Its parent in the same trace.
    pub parent: Option<[u8; 8]>,
    /// [`Calls::response_key`] of the response id.
    pub response: Option<ResponseKey>,
    /// Input and output tokens, normalised.
    pub counts: [u64; 2],
    /// Start and end in nanoseconds since the epoch.
    pub time: [u64; 2],
    /// Whether the span has a price: only then can it be billed.
    pub is_priced: bool,
    /// Whether the counts are estimated or not known, so that they differ from those of other spans of the call.
    pub is_estimate: bool,
    /// How near to the provider it is.
    pub rank: Rank,
}

/// A response id within a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseKey(Key);

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This span carries the cost of its call.
    Billed,
    /// This span was billed when it came before.
    BilledBefore,
    /// The call is billed on that span.
    Duplicate(SpanId),
    /// The span sums up calls of which that span is the first.
    Aggregate(SpanId),
    /// Nobody carries the cost, and this span has none.
    Unpriced,
}

/// A billed call, or the billed calls below a span.
#[derive(Debug, Clone, Copy)]
struct Billed {
    /// The span that was billed; the first where there are several.
    id: SpanId,
    /// Sums of their counts.
    counts: [u64; 2],
    /// When the first began and the last ended.
    time: [u64; 2],
    /// How many.
    calls: u32,
    /// Whether the counts are an estimate.
    is_estimate: bool,
}

/// The calls that were billed lately. See the [module](self).
#[derive(Debug)]
pub struct Calls {
    /// By trace, see [`Relation`].
    traces: [Mutex<Table<Billed>>; SHARDS],
    /// By response id.
    responses: [Mutex<Table<Billed>>; SHARDS],
    /// Seeded anew in each process: what collides here cannot be known outside.
    hashers: [RandomState; 2],
}

/// What a key of the trace tables says about the billed span.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Relation {
    /// The span is of the billed call.
    Is = 1,
    /// The span is the parent of billed ones.
    ParentOf = 2,
}

/// The keys of a call, see [`Calls::keys`].
#[derive(Debug, Clone, Copy)]
pub struct CallKeys {
    /// The shard of its trace.
    shard: usize,
    span: SpanKey,
    parent: Option<SpanKey>,
    response: Option<Key>,
}

/// The key of a span, from which those of its [`Relation`]s are made.
#[derive(Debug, Clone, Copy)]
struct SpanKey(Key);

impl SpanKey {
    /// Keys of one span are related in a [`Table`]: who has one at hand has the others.
    fn related(self, relation: Relation) -> Key {
        let SpanKey((first, second)) = self;
        (first, second ^ (relation as u64) << 62)
    }
}

/// So many lanes hardly meet, and what they add still lies in few places.
const SHARDS: usize = 8;
/// Entries of the trace tables that one call makes: a span and its parent, half of them with a second span.
const ENTRIES_PER_CALL: usize = 3;
/// Fewer calls than this are not worth approaching together.
const MIN_APPROACH: usize = 8;
/// A stream's log comes within this time of the end of its native span.
const SLACK: u64 = 500_000_000;

impl Calls {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        let shards = |entries: usize| {
            let each = entries.div_ceil(SHARDS).max(1);
            std::array::from_fn(|_| Mutex::new(Table::new(each, limits.window)))
        };
        Self {
            traces: shards(limits.max_calls.saturating_mul(ENTRIES_PER_CALL)),
            responses: shards(limits.max_calls),
            hashers: [RandomState::default(), RandomState::default()],
        }
    }

    /// The key of a response id within a project.
    pub fn response_key(&self, project: &[u8], response_id: &[u8]) -> ResponseKey {
        let hash = self.hashers[1].hash_one((project, response_id));
        // Ids mostly differ at their ends.
        let end = response_id.last_chunk().map_or(response_id.len() as u64, |end| u64::from_ne_bytes(*end));
        ResponseKey((end ^ hash.rotate_left(32), hash))
    }

    /// Where the call will be looked for.
    pub fn keys(&self, call: &Call) -> CallKeys {
        let trace = &call.id.trace;
        CallKeys {
            shard: self.shard_of(trace),
            span: self.name(trace, call.id.span),
            parent: call.parent.map(|parent| self.name(trace, parent)),
            response: call.response.map(|ResponseKey(key)| key),
        }
    }

    /// Gets at hand what the claims of these calls will look at. Without it each claim waits for memory several times;
    /// here nothing depends on anything, and a processor waits for all at once.
    pub fn approach(&self, calls: &[CallKeys]) {
        if calls.len() < MIN_APPROACH {
            return;
        }
        // All at once, since taking a lock waits for all that was asked of memory before; but nobody waits for it.
        let (traces, responses) = (self.traces.each_ref().map(try_lock), self.responses.each_ref().map(try_lock));
        let mut touched = 0;
        for call in calls {
            if let Some(trace) = &traces[call.shard] {
                // All relations of a span have one bucket.
                touched ^= trace.touch(call.span.related(Relation::Is));
                touched ^= call.parent.map_or(0, |parent| trace.touch(parent.related(Relation::Is)));
            }
            if let Some(key) = call.response
                && let Some(responses) = &responses[shard(key.0)]
            {
                touched ^= responses.touch(key);
            }
        }
        std::hint::black_box(touched);
    }

    /// Decides whether the span is billed, and remembers what it decided. `now` is the time of arrival in nanoseconds.
    pub fn claim(&self, call: &Call, now: u64) -> Claim {
        self.claims().claim_at(&self.keys(call), call, now)
    }

    /// To make several claims.
    pub fn claims(&self) -> Claims<'_> {
        Claims { calls: self, trace: None }
    }

    /// The first billed call below a span that is an aggregate by its kind. Its own parent then stands above that call
    /// too.
    pub fn below(&self, id: SpanId, parent: Option<[u8; 8]>, now: u64) -> Option<SpanId> {
        let mut trace = lock(&self.traces[self.shard_of(&id.trace)]);
        let below = trace.get(self.name(&id.trace, id.span).related(Relation::ParentOf), now)?;
        if let Some(parent) = parent {
            let above = self.name(&id.trace, parent).related(Relation::ParentOf);
            if trace.get(above, now).is_none() {
                trace.insert(above, below, now);
            }
        }
        Some(below.id)
    }

    /// Entries in all tables.
    pub fn len(&self) -> usize {
        self.traces.iter().chain(&self.responses).map(|t| t.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, trace: &[u8; 16]) -> usize {
        shard(self.hashers[0].hash_one(u128::from_ne_bytes(*trace)))
    }

    fn name(&self, trace: &[u8; 16], span: [u8; 8]) -> SpanKey {
        let span = u64::from_ne_bytes(span);
        SpanKey((span, self.hashers[1].hash_one((u128::from_ne_bytes(*trace), span))))
    }

    fn key(&self, value: &impl std::hash::Hash) -> Key {
        let [first, second] = &self.hashers;
        (first.hash_one(value), second.hash_one(value))
    }
}

/// Several claims one after the other. It keeps locked what the last one used, which the next one mostly uses too.
#[derive(Debug)]
pub struct Claims<'c> {
    calls: &'c Calls,
    /// A shard of the traces, with its number.
    trace: Option<(usize, MutexGuard<'c, Table<Billed>>)>,
}

impl Claims<'_> {
    /// [`Calls::claim`] with the call's [keys](Calls::keys).
    pub fn claim_at(&mut self, keys: &CallKeys, call: &Call, now: u64) -> Claim {
        let CallKeys { shard: number, span, parent, response, .. } = *keys;
        // Never two of them: the one before is let go first.
        self.trace.take_if(|(held, _)| *held != number);
        let (_, trace) = self.trace.get_or_insert_with(|| (number, lock(&self.calls.traces[number])));
        let own = span.related(Relation::Is);
        let is_new = trace.has_none_related(own);
        let before = if is_new { None } else { trace.get(own, now) };
        if let Some(before) = before {
            return if before.id == call.id { Claim::BilledBefore } else { Claim::Duplicate(before.id) };
        }
        let mut response = response.map(|key| (key, lock(&self.calls.responses[shard(key.0)])));
        let same_counts = call.rank.is_half_of_a_stream().then(|| self.calls.key(&(call.id.trace, call.counts)));

        let mut is_above = false;
        let of_response = response.as_mut().and_then(|(key, table)| table.get(*key, now));
        let found = of_response
            .filter(|billed| billed.is_same_response(call))
            .or_else(|| {
                let below = if is_new { None } else { trace.get(span.related(Relation::ParentOf), now) };
                let below = below.filter(|below| below.has_counts_of(call))?;
                is_above = true;
                Some(below)
            })
            .or_else(|| {
                let above = trace.get(parent?.related(Relation::Is), now);
                above.filter(|above| above.has_counts_of(call))
            })
            .or_else(|| {
                let other = trace.get(same_counts?, now);
                other.filter(|other| gap(other.time, call.time) <= SLACK)
            });
        let billed = match found {
            Some(found) => found,
            None if !call.is_priced => return Claim::Unpriced,
            None => {
                Billed { id: call.id, counts: call.counts, time: call.time, calls: 1, is_estimate: call.is_estimate }
            }
        };

        if is_new {
            trace.add(own, billed, now);
        } else {
            trace.insert(own, billed, now);
        }
        if let Some(parent) = parent {
            let above = parent.related(Relation::ParentOf);
            // Siblings of one call are counted once.
            if found.is_none() || is_above {
                trace.update(above, billed, now, |below| below.add(&billed));
            } else if trace.get(above, now).is_none() {
                trace.insert(above, billed, now);
            }
        }
        if let Some(key) = same_counts {
            trace.insert(key, billed, now);
        }
        if let Some((key, table)) = &mut response
            && billed.calls == 1
        {
            // Another call that the server gave the same id is forgotten: the next span is likelier this one's.
            table.insert(*key, billed, now);
        }
        match found {
            None => Claim::Billed,
            Some(billed) if billed.id == call.id => Claim::BilledBefore,
            Some(billed) if billed.calls == 1 => Claim::Duplicate(billed.id),
            Some(billed) => Claim::Aggregate(billed.id),
        }
    }
}

impl Billed {
    fn is_same_response(&self, call: &Call) -> bool {
        let is_same_moment = gap(self.time, call.time) == 0;
        is_same_moment || (self.id.trace == call.id.trace && self.has_counts_of(call))
    }

    /// An estimate is taken for whatever the other says: it is a guess at the same.
    fn has_counts_of(&self, call: &Call) -> bool {
        self.counts == call.counts || self.is_estimate || call.is_estimate
    }

    fn add(&mut self, other: &Self) {
        for (sum, n) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(n);
        }
        self.time = [self.time[0].min(other.time[0]), self.time[1].max(other.time[1])];
        self.calls = self.calls.saturating_add(1);
        self.is_estimate |= other.is_estimate;
    }
}

/// Nanoseconds between two spans of time; 0 if they overlap.
fn gap([a_start, a_end]: [u64; 2], [b_start, b_end]: [u64; 2]) -> u64 {
    b_start.saturating_sub(a_end).max(a_start.saturating_sub(b_end))
}

fn shard(hash: u64) -> usize {
    hash as usize % SHARDS
}

/// The shard, unless another lane has it.
fn try_lock(shard: &Mutex<Table<Billed>>) -> Option<MutexGuard<'_, Table<Billed>>> {
    match shard.try_lock() {
        Ok(table) => Some(table),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn lock(shard: &Mutex<Table<Billed>>) -> MutexGuard<'_, Table<Billed>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
