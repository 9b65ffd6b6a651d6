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
//! 1. *The same response id* within a project and environment. In one trace also the same counts; or an overlap in time
//!    and either the same input or another kind of emitter, which may count otherwise. Across traces the same counts and
//!    an overlap. An SDK's native span often has a trace of its own, and counts streams in its own way: beside
//!    an instrumentation's span the same input is enough. Calls that a server gives the same id (Ollama makes them of
//!    1,000 numbers, some gateways know one id only), or a recorded answer that is played again later, are not taken
//!    for one.
//! 2. *Parent and child* with the same counts, or where the counts of one are estimated. A parent whose counts are the
//!    sum of several billed children is an aggregate. Counts that only come close do not join: a tool inside a call may
//!    make calls of its own.
//! 3. *Logfire's stream logs* have neither id nor parent; in the same trace and at the same time as a native span with
//!    the same counts they are that call.
//! 4. Spans that are aggregates by their kind (agents, workflows, the outer spans of the Vercel AI SDK) are never
//!    billed. One without `weir.cost.deferred_to` has no billed call below it that was seen before. What only such a span
//!    reports is billed to nobody: its calls may have been billed elsewhere, or are yet to come.
//!
//! The same span sent twice, because its client did not get an answer, gets the same answer twice.
//!
//! **Limits.** What is known lives in memory: spans of a call that reach different processes, or come after
//! [`Limits::window`], or after [`Limits::max_calls`] others, or after a restart, are each billed. Where there are
//! several processes, the spans of a trace must reach the same one. A change of the configuration forgets nothing unless
//! it changes these limits or the processor's id. The memory is some 400 bytes a call. Where a framework's span comes in
//! an earlier request than the SDK's, the framework's is billed.
//!
//! Decision: spans of one id in different traces are each billed if their counts differ, native ones apart. An id is no
//! proof across traces, and of the two mistakes a call billed twice can be seen, one that is not billed cannot.
//!
//! Decision: the table is shared by the lanes of one processor, and one lock serves all [`Claims`] of a batch. A claim
//! takes 0.1 to 0.2 µs, some hundredths of what a span takes in all, so lanes seldom meet; and a lock for each claim
//! would cost more than that: it waits until all that was written before has got to memory that no cache holds.

mod rank;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use weir_pipeline::hex::Hex;

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
        write!(f, "{}/{}", Hex(&self.trace), Hex(&self.span))
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

/// A response id within a project and environment.
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
    /// How near to the provider the span is.
    rank: Rank,
}

/// The calls that were billed lately. See the [module](self).
#[derive(Debug)]
pub struct Calls {
    /// By span, see [`Relation`], and by response id.
    table: Mutex<Table<Billed>>,
    limits: Limits,
    /// Seeded anew in each process: what collides here cannot be known outside.
    hashers: [RandomState; 2],
}

/// What a span's key says about the billed span.
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

/// Records for each call: its own, and half of a second span's and of a parent's of several.
const RECORDS_PER_CALL: usize = 2;
/// Fewer calls than this are not worth approaching together.
const MIN_APPROACH: usize = 8;
/// A stream's log comes within this time of the end of its native span.
const SLACK: u64 = 500_000_000;

impl Calls {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        let table = Table::new(limits.max_calls.saturating_mul(RECORDS_PER_CALL), limits.window);
        Self { table: Mutex::new(table), limits, hashers: [RandomState::default(), RandomState::default()] }
    }

    /// How much is remembered.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The key of a response id within a project and environment.
    pub fn response_key(&self, project: &[u8], environment: &[u8], response_id: &[u8]) -> ResponseKey {
        let hash = self.hashers[1].hash_one((project, environment, response_id));
        // Ids mostly differ at their ends.
        let end = response_id.last_chunk().map_or(response_id.len() as u64, |end| u64::from_ne_bytes(*end));
        ResponseKey((end ^ hash.rotate_left(32), hash))
    }

    /// Where the call will be looked for.
    pub fn keys(&self, call: &Call) -> CallKeys {
        let trace = &call.id.trace;
        CallKeys {
            span: self.name(trace, call.id.span),
            parent: call.parent.map(|parent| self.name(trace, parent)),
            response: call.response.map(|ResponseKey(key)| key),
        }
    }

    /// Decides whether the span is billed, and remembers what it decided. `now` is the time of arrival in nanoseconds.
    pub fn claim(&self, call: &Call, now: u64) -> Claim {
        let keys = self.keys(call);
        self.claims(&[]).claim_at(&keys, call, now)
    }

    /// To make several claims, with the keys of what will be claimed. No other lane can make one as long as it lives.
    #[inline]
    pub fn claims(&self, keys: &[CallKeys]) -> Claims<'_> {
        let claims = Claims { calls: self, table: self.table() };
        if keys.len() >= MIN_APPROACH {
            claims.approach(keys);
        }
        claims
    }

    /// Records in the table.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn name(&self, trace: &[u8; 16], span: [u8; 8]) -> SpanKey {
        let span = u64::from_ne_bytes(span);
        SpanKey((span, self.hashers[1].hash_one((u128::from_ne_bytes(*trace), span))))
    }

    fn key(&self, value: &impl std::hash::Hash) -> Key {
        let [first, second] = &self.hashers;
        (first.hash_one(value), second.hash_one(value))
    }

    fn table(&self) -> MutexGuard<'_, Table<Billed>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several claims one after the other.
#[derive(Debug)]
pub struct Claims<'c> {
    calls: &'c Calls,
    table: MutexGuard<'c, Table<Billed>>,
}

impl Claims<'_> {
    /// Gets at hand what the claims of these calls will look at. Without it each claim waits for memory several times;
    /// here nothing depends on anything, and a processor waits for all at once.
    fn approach(&self, calls: &[CallKeys]) {
        let table = &self.table;
        let touched = calls.iter().fold(0, |touched, call| {
            // All relations of a span have one bucket.
            let spans = [Some(call.span), call.parent].into_iter().flatten().map(|span| span.related(Relation::Is));
            spans.chain(call.response).fold(touched, |touched, key| touched ^ table.touch(key))
        });
        std::hint::black_box(touched);
    }

    /// [`Calls::claim`] with the call's [keys](Calls::keys).
    #[inline(always)]
    pub fn claim_at(&mut self, keys: &CallKeys, call: &Call, now: u64) -> Claim {
        let CallKeys { span, parent, response } = *keys;
        let table = &mut *self.table;
        let own = span.related(Relation::Is);
        let is_new = table.has_none_related(own);
        if !is_new && let Some(before) = table.get(own, now) {
            return if before.id == call.id { Claim::BilledBefore } else { Claim::Duplicate(before.id) };
        }
        let is_half = call.rank.is_half_of_a_stream();
        let same_counts = if is_half { Some(self.calls.key(&(call.id.trace, call.counts))) } else { None };

        // Each is looked for if those before were not there. Statements, since a chain of closures becomes a function
        // for each, which copies what it is given.
        let (mut found, mut is_above, mut is_of_response) = (None, false, false);
        if let Some(key) = response
            && let Some(billed) = table.get(key, now)
            && billed.is_same_response(call)
        {
            (found, is_of_response) = (Some(billed), true);
        }
        if found.is_none()
            && !is_new
            && let Some(below) = table.get(span.related(Relation::ParentOf), now)
            && below.has_counts_of(call)
        {
            (found, is_above) = (Some(below), true);
        }
        if found.is_none()
            && let Some(parent) = parent
            && let Some(above) = table.get(parent.related(Relation::Is), now)
            && above.has_counts_of(call)
        {
            found = Some(above);
        }
        if found.is_none()
            && let Some(key) = same_counts
            && let Some(other) = table.get(key, now)
            && gap(other.time, call.time) <= SLACK
        {
            found = Some(other);
        }
        let billed = match found {
            Some(found) => found,
            None if !call.is_priced => return Claim::Unpriced,
            None => Billed {
                id: call.id,
                counts: call.counts,
                time: call.time,
                calls: 1,
                is_estimate: call.is_estimate,
                rank: call.rank,
            },
        };

        let mut above = None;
        if let Some(parent) = parent {
            let key = parent.related(Relation::ParentOf);
            match table.get(key, now) {
                // Siblings of one call are counted once.
                Some(mut sum) if found.is_none() || is_above => {
                    sum.add(&billed);
                    table.set(key, sum, now);
                }
                Some(_) => {}
                None => above = Some(key),
            }
        }
        // Another call that the server gave the same id is forgotten: the next span is likelier this one's.
        let response = if is_of_response || billed.calls > 1 { None } else { response };
        table.add([Some(own), above, response], billed, now);
        if same_counts.is_some() {
            table.add([same_counts, None, None], billed, now);
        }
        match found {
            None => Claim::Billed,
            Some(billed) if billed.id == call.id => Claim::BilledBefore,
            Some(billed) if billed.calls == 1 => Claim::Duplicate(billed.id),
            Some(billed) => Claim::Aggregate(billed.id),
        }
    }

    /// The first billed call below a span that is an aggregate by its kind. Its own parent then stands above that call
    /// too.
    pub fn below(&mut self, id: SpanId, parent: Option<[u8; 8]>, now: u64) -> Option<SpanId> {
        let key = |span| self.calls.name(&id.trace, span).related(Relation::ParentOf);
        let (own, above) = (key(id.span), parent.map(key));
        let below = self.table.get(own, now)?;
        if let Some(above) = above
            && self.table.get(above, now).is_none()
        {
            self.table.add([Some(above), None, None], below, now);
        }
        Some(below.id)
    }
}

impl Billed {
    fn is_same_response(&self, call: &Call) -> bool {
        let is_same_moment = gap(self.time, call.time) == 0;
        let (is_same_input, is_same_rank) = (self.counts[0] == call.counts[0], self.rank == call.rank);
        // Two emitters of one kind guess alike, so two guesses that differ are of two calls.
        let are_guesses = self.is_estimate && call.is_estimate && is_same_rank;
        let has_counts = self.counts == call.counts || (is_same_moment && !are_guesses && self.has_counts_of(call));
        if self.id.trace == call.id.trace {
            // Emitters of one kind read the same answer. Where they count another input, it is another call at the
            // same time.
            has_counts || (is_same_moment && (is_same_input || !is_same_rank))
        } else {
            let is_beside_native = !is_same_rank && (self.rank == Rank::Native || call.rank == Rank::Native);
            is_same_moment && (has_counts || (is_beside_native && is_same_input))
        }
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
