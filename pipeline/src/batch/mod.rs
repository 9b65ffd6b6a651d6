//! What moves through Weir: a [`Batch`].
//!
//! A batch is one or more chunks; a chunk is the OTLP bytes of one request exactly as they arrived, an index over its
//! spans, a bitmap of the spans still alive, and an overlay of what processors added.
//!
//! ```text
//!            ┌──────────────────────────── chunk ────────────────────────────┐
//!  request ─►│ bytes (shared) │ index (shared) │ alive bitmap │ overlay (cow) │─► encode ─► bytes
//!            └───────┬────────┴───────┬────────┴──────┬───────┴───────┬───────┘
//!                    │ validated once │ offsets       │ filter,       │ set / remove
//!                    ▼                ▼               │ sample        │ attributes
//!                lazy views: span.name(), span.attr("gen_ai.usage.input_tokens")
//! ```
//!
//! * Validation happens once, completely, when bytes enter ([`Batch::decode`]); after that no view can fail.
//! * A batch nobody changed is encoded as the very `Bytes` that came in.
//! * Joining batches concatenates their chunks, splitting shares those of spans; neither copies a byte, because the top
//!   level of an OTLP request is a repeated field and repeated fields concatenate.
//! * Metrics and logs travel as the same chunk without an index; records are counted, not indexed, and a request of which
//!   something changes is written anew, what has not changed with the bytes that it came with.
//! * Whose data a chunk is, is known to the chunk ([`Tenant`]): joining batches of several tenants mixes nothing.
//! * A batch carries the [`Receipt`]s of everyone who waits for it and the [`Lease`]s on the memory it holds.

mod alive;
mod attributes;
mod cut;
mod encode;
mod encoded;
mod hidden;
mod index;
mod new_value;
mod overlay;
mod parts;
mod records;
mod resource;
mod rewrite;
mod span;
mod tenancy;
pub mod validate;
mod value_text;
pub mod view;
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;

pub use self::attributes::{KeyReader, Noted, TakeAttribute};
pub use self::encoded::{Encoded, EncodedReader};
pub use self::new_value::{AttributeBlock, AttributeEdit, DoubleSlot, NewValue};
pub use self::parts::{ChunkRef, Piece, ResourceSpansRef, ScopeSpansRef};
pub use self::records::{LogRecord, LogRecordMut, Metric, MetricMut};
pub use self::resource::AttributesMut;
use self::rewrite::Rewritten;
pub use self::span::{Span, SpanMut};
pub use self::validate::Malformed;
use self::{alive::Alive, encoded::Encoder, index::Index, index::Limits, overlay::Overlay, view::Resource};
use crate::budget::Lease;
use crate::metadata::Metadata;
use crate::otlp::schema;
use crate::receipt::{Outcome, Receipt};
use crate::signal::Signal;
use crate::tenant::Tenant;

/// Requests above this size are refused by [`Batch::decode`]: offsets in the index are 32 bits wide.
const MAX_BYTES: usize = u32::MAX as usize;

/// Spans, scopes and resources that a request from strangers may have of each. With ids and times a span has 60 bytes and
/// more, so that no request within the usual size limit has as many.
pub const MAX_ENTRIES: usize = 1 << 20;

#[derive(Debug, Clone)]
struct Chunk {
    bytes: Bytes,
    /// `None` for metrics and logs.
    index: Option<Arc<Index>>,
    alive: Alive,
    overlay: Option<Arc<Overlay>>,
    /// Records that are alive.
    records: usize,
    /// Whose they are, if that is known.
    tenant: Option<Arc<Tenant>>,
}

/// OTLP data on its way through the graph. See the [module](self).
#[derive(Debug)]
pub struct Batch {
    signal: Signal,
    chunks: Vec<Chunk>,
    receipts: Vec<Receipt>,
    leases: Vec<Lease>,
    metadata: Option<Arc<Metadata>>,
}

impl Batch {
    /// Validates the protobuf bytes of an `Export…ServiceRequest` and indexes them.
    ///
    /// # Errors
    /// Names the byte offset and the field path of the first fault.
    pub fn decode(signal: Signal, bytes: Bytes) -> Result<Self, Malformed> {
        Self::decode_with(signal, bytes, Limits { entries: usize::MAX, room: &mut |_| true })
    }

    /// The same for bytes from strangers: of spans, and of what holds them, there may be [`MAX_ENTRIES`] each, and `room`
    /// is told how many bytes the index takes beside the request's own before it takes them, and says whether they can be
    /// had.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); [`wire::Fault::NoRoom`] if `room` has none.
    pub fn decode_within(signal: Signal, bytes: Bytes, room: &mut dyn FnMut(usize) -> bool) -> Result<Self, Malformed> {
        Self::decode_with(signal, bytes, Limits { entries: MAX_ENTRIES, room })
    }

    fn decode_with(signal: Signal, bytes: Bytes, limits: Limits<'_>) -> Result<Self, Malformed> {
        let message = message_of(signal);
        if bytes.len() > MAX_BYTES {
            let fault = wire::Fault::Overrun(bytes.len() as u64, MAX_BYTES);
            return Err(Malformed { message: message.name, offset: 0, path: String::new(), fault });
        }
        let (index, records) = match signal {
            Signal::Traces => {
                let index = Index::build(&bytes, limits)?;
                let records = index.spans.len();
                (Some(Arc::new(index)), records)
            }
            Signal::Metrics | Signal::Logs => {
                validate::validate(message, &bytes)?;
                (None, cut::count_records(signal, &bytes))
            }
        };
        let chunk = Chunk { bytes, alive: Alive::all(records), index, overlay: None, records, tenant: None };
        Ok(Self { chunks: vec![chunk], ..Self::empty(signal) })
    }

    /// A batch without records, receipts or chunks: something to [`append`](Self::append) to.
    pub fn empty(signal: Signal) -> Self {
        Self { signal, chunks: Vec::new(), receipts: Vec::new(), leases: Vec::new(), metadata: None }
    }

    /// What the batch holds.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Records alive: spans, data points or log records.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|c| c.records).sum()
    }

    /// Whether no record is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About the size of the encoded form in bytes: dropped spans of a chunk still count, and length prefixes that grow
    /// by a few bytes do not.
    pub fn size_hint(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes.len() + c.overlay.as_ref().map_or(0, |o| o.len_bytes())).sum()
    }

    /// The spans alive, in the order they arrived. Nothing for metrics and logs.
    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        self.chunks.iter().flat_map(Chunk::spans)
    }

    /// Calls `edit` for each span alive, which may read the span and change its attributes.
    pub fn for_each_mut(&mut self, mut edit: impl FnMut(&mut SpanMut<'_>)) {
        for chunk in &mut self.chunks {
            let Some(index) = &chunk.index else { continue };
            // Taken out for the time of the loop so that the bytes can be borrowed beside it; cloned only if another
            // branch of the graph shares it.
            let mut overlay = chunk.overlay.take().map_or_else(Overlay::default, Arc::unwrap_or_clone);
            for id in chunk.alive.ones() {
                edit(&mut SpanMut::new(&chunk.bytes, index, id, &mut overlay, chunk.tenant.as_deref()));
            }
            chunk.overlay = (!overlay.is_empty()).then(|| Arc::new(overlay));
        }
    }

    /// Calls `edit` for each resource that has a span alive, or that never had one: it may read the resource's
    /// attributes and change them, for all spans of the resource at once. Metrics and logs have resources too.
    pub fn for_each_resource_mut(&mut self, mut edit: impl FnMut(&mut AttributesMut<'_>)) {
        for chunk in &mut self.chunks {
            let Some(index) = &chunk.index else {
                let rewritten = resource::edit_resources(message_of(self.signal), &chunk.bytes, &mut edit);
                chunk.become_rewritten(self.signal, rewritten);
                continue;
            };
            let mut overlay = chunk.overlay.take().map_or_else(Overlay::default, Arc::unwrap_or_clone);
            for (id, entry) in index.resources.iter().enumerate() {
                let scopes = &index.scopes[entry.first_scope as usize..entry.end_scope as usize];
                let mut spans = scopes.iter().flat_map(|s| s.first_span as usize..s.end_span as usize).peekable();
                if spans.peek().is_some() && !spans.any(|span| chunk.alive.contains(span)) {
                    continue;
                }
                let own = || index.resource_message(id, &chunk.bytes);
                let changed = resource::edit_resource(overlay.resource(id).unwrap_or_else(own), &mut edit);
                if let Rewritten::Changed(message) = changed {
                    overlay.set_resource(id, message);
                }
            }
            chunk.overlay = (!overlay.is_empty()).then(|| Arc::new(overlay));
        }
    }

    /// Keeps the records of the resources for which `keep` is true, who is told whose they are, and returns how many
    /// records were dropped. The caller counts them (I2).
    pub fn retain_resources(&mut self, mut keep: impl FnMut(Resource<'_>, Option<&Tenant>) -> bool) -> usize {
        if self.signal == Signal::Traces {
            return self.retain(|span| keep(span.resource(), span.tenant()));
        }
        let before = self.len();
        for chunk in &mut self.chunks {
            let tenant = chunk.tenant.as_deref();
            let mut keep = |resource: Resource<'_>| keep(resource, tenant);
            let rewritten = resource::retain_resources(message_of(self.signal), &chunk.bytes, &mut keep);
            chunk.become_rewritten(self.signal, rewritten);
        }
        self.chunks.retain(|c| c.records > 0);
        before - self.len()
    }

    /// Keeps the spans for which `keep` is true, which it may change on the way, and returns how many were dropped. The
    /// caller counts them (I2).
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut SpanMut<'_>) -> bool) -> usize {
        let mut dropped = 0;
        let mut dead = Vec::new();
        for chunk in &mut self.chunks {
            let Some(index) = &chunk.index else { continue };
            let mut overlay = chunk.overlay.take().map_or_else(Overlay::default, Arc::unwrap_or_clone);
            for id in chunk.alive.ones() {
                if !keep(&mut SpanMut::new(&chunk.bytes, index, id, &mut overlay, chunk.tenant.as_deref())) {
                    dead.push(id);
                }
            }
            chunk.overlay = (!overlay.is_empty()).then(|| Arc::new(overlay));
            chunk.records -= dead.len();
            dropped += dead.len();
            dead.drain(..).for_each(|id| chunk.alive.clear(id));
        }
        self.chunks.retain(|c| c.records > 0);
        dropped
    }

    /// Keeps the spans for which `keep` is true and returns how many were dropped. The caller counts them (I2).
    pub fn retain(&mut self, mut keep: impl FnMut(Span<'_>) -> bool) -> usize {
        let mut dropped = 0;
        for chunk in &mut self.chunks {
            let dead: Vec<usize> = chunk.spans().filter(|s| !keep(*s)).map(|s| s.id()).collect();
            dead.iter().for_each(|&id| chunk.alive.clear(id));
            chunk.records -= dead.len();
            dropped += dead.len();
        }
        self.chunks.retain(|c| c.records > 0);
        dropped
    }

    /// The protobuf bytes of the batch as one request, in one piece. No copy if nothing was changed, joined or split.
    pub fn encode(&self) -> Bytes {
        self.encode_pieces().into_bytes()
    }

    /// The same, without copying what has not changed.
    pub fn encode_pieces(&self) -> Encoded {
        if let [only] = &self.chunks[..]
            && only.is_untouched()
        {
            return only.bytes.clone().into();
        }
        let mut out = Encoder::default();
        for chunk in &self.chunks {
            match &chunk.index {
                Some(index) if !chunk.is_untouched() => encode::encode_into(chunk, index, &mut out),
                _ => {
                    out.source(&chunk.bytes, 1, 0);
                    out.keep(0..chunk.bytes.len());
                }
            }
        }
        out.finish()
    }

    /// Takes over the chunks, receipts and leases of `other`, which must hold the same signal. Metadata is kept if
    /// both have the same; else who sent it, if that is the same.
    pub fn append(&mut self, mut other: Self) {
        debug_assert_eq!(self.signal, other.signal, "a batch holds one signal");
        if self.chunks.is_empty() {
            self.metadata = other.metadata;
        } else {
            self.metadata = Metadata::common(self.metadata.take(), other.metadata.as_ref());
        }
        self.chunks.append(&mut other.chunks);
        self.receipts.append(&mut other.receipts);
        self.leases.append(&mut other.leases);
    }

    /// Another branch of this batch: the same data, a branch of every receipt, the same leases.
    pub fn fork(&self) -> Self {
        Self {
            signal: self.signal,
            chunks: self.chunks.clone(),
            receipts: self.receipts.iter().map(Receipt::branch).collect(),
            leases: self.leases.clone(),
            metadata: self.metadata.clone(),
        }
    }

    /// The same data for each of several destinations, which settle receipts of their own; see
    /// [`Receipt::fan_out`].
    pub fn fan_out(mut self, destinations: usize) -> Vec<Self> {
        let parents = self.take_receipts();
        let is_awaited = !parents.is_empty();
        let mut receipts = Receipt::fan_out(parents, if is_awaited { destinations } else { 0 });
        let mut copies: Vec<Self> = (1..destinations).map(|_| self.fork()).collect();
        copies.push(self);
        for copy in &mut copies {
            copy.receipts.extend(receipts.next());
        }
        copies
    }

    /// Adds someone who waits for the batch.
    pub fn with_receipt(mut self, receipt: Receipt) -> Self {
        self.receipts.push(receipt);
        self
    }

    /// Adds the lease on the memory that the batch takes; it is given back when the last branch is gone.
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.leases.push(lease);
        self
    }

    /// Attaches what the client said beside the data.
    pub fn with_metadata(mut self, metadata: Arc<Metadata>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// What the client said beside the data, if the receiver was asked to keep it.
    pub fn metadata(&self) -> Option<&Arc<Metadata>> {
        self.metadata.as_ref()
    }

    /// Settles everyone who waits for this branch of the batch.
    pub fn settle(self, outcome: &Outcome) {
        for receipt in self.receipts {
            receipt.settle(outcome.clone());
        }
    }

    /// Settles every receipt of data that was let go of on purpose, and that nobody has taken.
    pub fn ignore(self) {
        self.receipts.into_iter().for_each(Receipt::ignore);
    }

    /// Settles every receipt of data for which a queue in memory had no room; see [`Receipt::full`].
    pub fn full(self, reason: &'static str) {
        self.receipts.into_iter().for_each(|receipt| receipt.full(reason.into()));
    }

    /// Takes the receipts out, for a consumer that answers before it is done with the data (an in-memory queue).
    pub fn take_receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }
}

impl Chunk {
    /// Takes over what has become of the request of a chunk that is not indexed.
    fn become_rewritten(&mut self, signal: Signal, rewritten: Rewritten) {
        self.bytes = match rewritten {
            Rewritten::Same => return,
            Rewritten::Changed(bytes) | Rewritten::Emptied(bytes) => bytes.into(),
            Rewritten::Dropped => Bytes::new(),
        };
        self.records = cut::count_records(signal, &self.bytes);
        self.alive = Alive::all(self.records);
    }

    fn is_untouched(&self) -> bool {
        self.overlay.is_none() && self.alive.is_all()
    }

    fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        self.index.iter().flat_map(move |index| {
            self.alive
                .ones()
                .map(move |id| Span::new(&self.bytes, index, id, self.overlay.as_deref(), self.tenant.as_deref()))
        })
    }
}

/// The request message of a signal.
pub fn message_of(signal: Signal) -> &'static schema::Message {
    match signal {
        Signal::Traces => &schema::TRACES,
        Signal::Metrics => &schema::METRICS,
        Signal::Logs => &schema::LOGS,
    }
}
