//! A batch for who takes it apart: its containers, and each span in the pieces that it would be encoded from.
//!
//! A store wants all of every span and keeps none of its bytes as they are, so encoding a batch for it would copy what
//! is read once, and lose what the index knows: which key an attribute has, and where its value lies.
//!
//! ```text
//! bytes    │ ids, name, times │ attribute │ attribute │ … │ status, flags │      overlay │ attribute │ attribute │
//! pieces   │ Fields           │ Noted     │ Noted     │ … │ Fields        │              │ Fields                │
//! ```

use super::attributes::Noted;
use super::index::{Index, ResourceEntry, ScopeEntry};
use super::overlay::SPAN_ATTRIBUTES;
use super::span::Span;
use super::view::last_bytes;
use super::wire::Repeated;
use super::{Batch, Chunk, encode};
use crate::tenant::Tenant;

/// A piece of a span's message.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Some of its fields, whole ones, one after the other.
    Fields(&'a [u8]),
    /// An attribute that is a key and a scalar, as the index has it.
    Noted(Noted<'a>),
    /// Another attribute: a `KeyValue`.
    Attribute(&'a [u8]),
}

/// A request that a batch has all or a part of.
#[derive(Clone, Copy)]
pub struct ChunkRef<'a> {
    chunk: &'a Chunk,
    index: &'a Index,
}

/// A `ResourceSpans` of a chunk.
#[derive(Clone, Copy)]
pub struct ResourceSpansRef<'a> {
    chunk: ChunkRef<'a>,
    id: usize,
    entry: &'a ResourceEntry,
}

/// A `ScopeSpans` of a chunk.
#[derive(Clone, Copy)]
pub struct ScopeSpansRef<'a> {
    chunk: ChunkRef<'a>,
    entry: &'a ScopeEntry,
}

impl Batch {
    /// What the batch is made of. Nothing for metrics and logs.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRef<'_>> {
        self.chunks.iter().filter_map(|chunk| Some(ChunkRef { chunk, index: chunk.index.as_deref()? }))
    }
}

impl<'a> ChunkRef<'a> {
    /// Whose data it is, if that is known.
    pub fn tenant(self) -> Option<&'a Tenant> {
        self.chunk.tenant.as_deref()
    }

    /// The distinct keys of the request's attributes, after one that stands for none: a [`Noted`] says which one it has.
    /// Nothing where there are no notes.
    pub fn keys(self) -> impl Iterator<Item = &'a [u8]> {
        let noted = self.index.attributes.as_ref();
        noted.into_iter().flat_map(move |noted| noted.keys(&self.chunk.bytes))
    }

    /// What tells [`Self::keys`] apart from those of other requests; chunks with the same serial have the same keys.
    #[inline]
    pub fn keys_serial(self) -> u64 {
        self.index.attributes.as_ref().map_or(0, |noted| noted.serial())
    }

    /// The span of this number, unless it has been dropped.
    #[inline]
    pub fn span(self, id: usize) -> Option<Span<'a>> {
        let Chunk { bytes, alive, overlay, tenant, .. } = self.chunk;
        alive.contains(id).then(|| Span::new(bytes, self.index, id, overlay.as_deref(), tenant.as_deref()))
    }

    /// Its `ResourceSpans`, also those of which every span has been dropped.
    pub fn resource_spans(self) -> impl Iterator<Item = ResourceSpansRef<'a>> {
        self.index.resources.iter().enumerate().map(move |(id, entry)| ResourceSpansRef { chunk: self, id, entry })
    }
}

impl<'a> ResourceSpansRef<'a> {
    /// The `Resource` message as it is now; `None` if there is none.
    pub fn resource(self) -> Option<&'a [u8]> {
        let ChunkRef { chunk, .. } = self.chunk;
        let changed = chunk.overlay.as_ref().and_then(|overlay| overlay.resource(self.id));
        changed.or_else(|| self.entry.message(&chunk.bytes))
    }

    /// The schema URL, empty if there is none.
    pub fn schema_url(self) -> &'a [u8] {
        last_bytes(self.entry.extent.payload(&self.chunk.chunk.bytes), 3)
    }

    /// The `ScopeSpans` in it.
    pub fn scope_spans(self) -> impl Iterator<Item = ScopeSpansRef<'a>> {
        let scopes = self.entry.first_scope as usize..self.entry.end_scope as usize;
        let entries = self.chunk.index.scopes.get(scopes).unwrap_or_default();
        entries.iter().map(move |entry| ScopeSpansRef { chunk: self.chunk, entry })
    }
}

impl<'a> ScopeSpansRef<'a> {
    /// The `InstrumentationScope` message; `None` if there is none.
    pub fn scope(self) -> Option<&'a [u8]> {
        self.entry.message(&self.chunk.chunk.bytes)
    }

    /// The schema URL, empty if there is none.
    pub fn schema_url(self) -> &'a [u8] {
        last_bytes(self.entry.extent.payload(&self.chunk.chunk.bytes), 3)
    }

    /// The spans alive in it with their numbers, for [`ChunkRef::span`].
    pub fn spans(self) -> impl Iterator<Item = (usize, Span<'a>)> {
        let ids = self.entry.first_span as usize..self.entry.end_span as usize;
        ids.filter_map(move |id| Some((id, self.chunk.span(id)?)))
    }
}

impl<'a> Span<'a> {
    /// Shows the span's message in pieces, in the order in which they would be encoded, and returns its length.
    #[inline]
    pub fn pieces(self, mut show: impl FnMut(Piece<'a>)) -> usize {
        let Some(entry) = self.entry() else { return 0 };
        let mut len = self.max_len();
        let body = self.raw();
        let overlay = self.overlay.filter(|overlay| overlay.is_touched(self.id));
        let cutting = overlay.filter(|overlay| overlay.is_cutting(self.id));
        let noted = self.index.attributes.as_ref().filter(|_| cutting.is_none());
        let noted = noted.and_then(|noted| noted.in_one_row(entry.attributes, entry.extent.body + entry.row.1));
        if let Some(noted) = noted {
            show(Piece::Fields(body.get(..entry.row.0 as usize).unwrap_or_default()));
            noted.pieces(entry.attributes, self.bytes).for_each(&mut show);
            show(Piece::Fields(body.get(entry.row.1 as usize..).unwrap_or_default()));
        } else {
            let mut from = 0;
            if let Some(overlay) = cutting {
                encode::hidden_fields(overlay, self.index, self.id, body, |start, end| {
                    show(Piece::Fields(body.get(from..start).unwrap_or_default()));
                    len -= end - start;
                    from = end;
                });
            }
            show(Piece::Fields(body.get(from..).unwrap_or_default()));
        }
        if let Some(overlay) = overlay {
            overlay.fields(self.id).for_each(|fields| show(Piece::Fields(fields)));
        }
        len
    }

    /// The most bytes that the span's message may have when it is encoded.
    #[inline]
    pub fn max_len(self) -> usize {
        self.raw().len() + self.overlay.map_or(0, |overlay| overlay.added_len(self.id))
    }

    /// The `KeyValue`s of the span's own attributes as they arrived: those that have a [`Noted`], and the others, in the
    /// order of their numbers.
    pub fn own_messages(self) -> impl Iterator<Item = &'a [u8]> {
        Repeated::new(self.raw(), SPAN_ATTRIBUTES)
    }
}
