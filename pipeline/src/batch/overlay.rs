//! What processors added to a chunk, kept beside the bytes until they are encoded again.
//!
//! An added attribute is stored as it will stand on the wire: tag, length, `KeyValue`. Protobuf's repeated fields
//! concatenate, so encoding a span is its old bytes followed by its overlay. An attribute that replaces or removes
//! another marks its span as *shadowing*; only then does the encoder look at the span's own attributes. Which of them
//! are left out is known by number ([`Hidden`]) where the index has notes of them, else by the keys of the entries.
//!
//! The name, the trace state and the status of a span are replaced in the same way: the new field is appended and the
//! span's own is left out. A span of which one event changed keeps all its events anew, as one such field of many parts;
//! so does one of which many attributes change at once, lest each of them be looked for among all the others.
//! A resource is one message for many spans and small, so a changed one is kept whole.

use super::hidden::Hidden;
use super::new_value::{AttributeBlock, NewValue, put_attribute};
use super::view::{KeyValue, SpanFields, Text, last_status};
use super::wire::{Fields, put_bytes};

/// Field number of `Span.attributes`.
pub(crate) const SPAN_ATTRIBUTES: u32 = 9;

/// Field number of `Span.events`.
pub(super) const SPAN_EVENTS: u32 = 11;

/// A field of a span that can be replaced as a whole, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanField {
    TraceState = 3,
    Name = 5,
    /// Repeated: all events take the place of all.
    Events = 11,
    Status = 15,
}

impl SpanField {
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Bytes that room is made for at once at most: how many spans there are is up to a client.
const MAX_RESERVE: usize = 4 << 20;

/// The end of a span's list of entries.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The encoded field in the arena. For a removal: just the key.
    start: u32,
    end: u32,
    /// The key within the arena.
    key: u32,
    key_len: u32,
    next: u32,
    kind: EntryKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Set,
    /// Several attributes in a row, added as one.
    Block,
    Remove,
    /// Takes the place of a field, of all its occurrences; of no bytes where that is now absent.
    Field(SpanField),
    /// Superseded by a later entry with the same key.
    Dead,
}

impl EntryKind {
    /// Whether the entry is one or more attributes to add.
    const fn adds(self) -> bool {
        matches!(self, Self::Set | Self::Block)
    }

    /// Whether the entry's bytes belong into the span.
    const fn has_bytes(self) -> bool {
        matches!(self, Self::Set | Self::Block | Self::Field(_))
    }
}

#[derive(Debug, Clone, Copy)]
struct SpanEdits {
    head: u32,
    tail: u32,
    /// Bytes of all `Set`, `Block` and `Field` entries.
    added: u32,
    /// The bits of the fields that are replaced; of the attributes, if none of the span's own is left.
    fields: u16,
    /// Whether some of the span's own attributes are, or without notes may be, replaced or removed.
    shadowing: bool,
}

const UNTOUCHED: SpanEdits = SpanEdits { head: NONE, tail: NONE, added: 0, fields: 0, shadowing: false };

/// Where an attribute is before it is set or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Neither among the span's own nor among the added ones.
    Nowhere,
    /// Not among the span's own, perhaps among the added ones.
    NotOwn,
    /// Among the span's own, or nobody has looked.
    Own,
}

/// The edits of one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    spans: Vec<SpanEdits>,
    /// The noted attributes that are replaced or removed.
    hidden: Hidden,
    /// Changed resources, whole, by their number in the index.
    resources: Vec<Option<Box<[u8]>>>,
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.resources.is_empty()
    }

    /// Bytes that the overlay adds to the encoded form at most.
    pub(crate) fn len_bytes(&self) -> usize {
        self.arena.len() + self.resources.iter().flatten().map(|r| r.len()).sum::<usize>()
    }

    /// The changed message of a resource.
    #[inline]
    pub(crate) fn resource(&self, id: usize) -> Option<&[u8]> {
        self.resources.get(id)?.as_deref()
    }

    /// Keeps the changed message of a resource.
    pub(crate) fn set_resource(&mut self, id: usize, message: Vec<u8>) {
        if self.resources.len() <= id {
            self.resources.resize(id + 1, None);
        }
        self.resources[id] = Some(message.into());
    }

    #[inline]
    pub(crate) fn is_touched(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(|s| s.head != NONE)
    }

    #[inline]
    pub(crate) fn is_shadowing(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(|s| s.shadowing)
    }

    /// Whether the span's own field of this number is replaced.
    #[inline]
    pub(crate) fn replaces(&self, span: usize, number: u32) -> bool {
        number < 16 && self.spans.get(span).is_some_and(|s| s.fields >> number & 1 == 1)
    }

    /// Whether any of the span's own bytes are left out.
    #[inline]
    pub(crate) fn is_cutting(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(|s| s.shadowing || s.fields != 0)
    }

    /// Puts the replaced fields of a span into what was read from its own bytes.
    #[inline]
    pub(crate) fn patch<'a>(&'a self, span: usize, fields: &mut SpanFields<'a>) {
        if self.spans.get(span).is_some_and(|s| s.fields != 0) {
            self.patch_fields(span, fields);
        }
    }

    fn patch_fields<'a>(&'a self, span: usize, fields: &mut SpanFields<'a>) {
        for entry in self.entries(span) {
            let EntryKind::Field(field) = entry.kind else { continue };
            let encoded = &self.arena[entry.start as usize..entry.end as usize];
            let payload = Fields::new(encoded).next().map_or(&[][..], |f| f.bytes);
            match field {
                SpanField::TraceState => fields.trace_state = Text(payload),
                SpanField::Name => fields.name = Text(payload),
                // Not among the singular fields.
                SpanField::Events => {}
                SpanField::Status => {
                    fields.has_status = !encoded.is_empty();
                    (fields.status_code, fields.status_message) = last_status(payload);
                }
            }
        }
    }

    /// The events of a span as encoded fields, if they are replaced.
    #[inline]
    pub(crate) fn events(&self, span: usize) -> Option<&[u8]> {
        if !self.replaces(span, SPAN_EVENTS) {
            return None;
        }
        let entry = self.entries(span).find(|e| e.kind == EntryKind::Field(SpanField::Events))?;
        Some(&self.arena[entry.start as usize..entry.end as usize])
    }

    /// Replaces a singular field of a span. `None`: it is absent from now on.
    pub(crate) fn set_field(&mut self, span: usize, span_count: usize, field: SpanField, payload: Option<&[u8]>) {
        self.replace(span, span_count, field, |arena| {
            if let Some(payload) = payload {
                put_bytes(arena, field as u32, payload);
            }
        });
    }

    /// Replaces all events of a span.
    pub(crate) fn set_events<'e>(&mut self, span: usize, span_count: usize, events: impl Iterator<Item = &'e [u8]>) {
        self.replace(span, span_count, SpanField::Events, |arena| {
            events.for_each(|event| put_bytes(arena, SPAN_EVENTS, event));
        });
    }

    /// Replaces a field of a span by what `put` appends.
    fn replace(&mut self, span: usize, span_count: usize, field: SpanField, put: impl FnOnce(&mut Vec<u8>)) {
        self.make_room(span_count);
        let mut at = self.spans[span].head;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            if entry.kind == EntryKind::Field(field) {
                entry.kind = EntryKind::Dead;
                self.spans[span].added -= entry.end - entry.start;
            }
            at = entry.next;
        }
        let start = self.arena.len() as u32;
        put(&mut self.arena);
        let end = self.arena.len() as u32;
        self.link(span, Entry { start, end, key: start, key_len: 0, next: NONE, kind: EntryKind::Field(field) });
        let edits = &mut self.spans[span];
        edits.added += end - start;
        edits.fields |= field.bit();
    }

    /// Bytes of everything added to a span.
    #[inline]
    pub(crate) fn added_len(&self, span: usize) -> usize {
        self.spans.get(span).map_or(0, |s| s.added as usize)
    }

    /// Appends everything added to a span.
    pub(crate) fn put_added(&self, span: usize, out: &mut Vec<u8>) {
        self.fields(span).for_each(|fields| out.extend_from_slice(fields));
    }

    /// Everything added to a span, as encoded fields.
    #[inline]
    pub(crate) fn fields(&self, span: usize) -> impl Iterator<Item = &[u8]> {
        let entries = self.entries(span).filter(|e| e.kind.has_bytes());
        entries.map(|e| &self.arena[e.start as usize..e.end as usize])
    }

    /// Attributes added to a span, in the order they were added.
    pub(crate) fn added(&self, span: usize) -> impl Iterator<Item = KeyValue<'_>> {
        self.entries(span).filter(|e| e.kind.adds()).flat_map(|e| self.attributes_of(e))
    }

    /// The fields of attributes added to a span, as they will be encoded.
    pub(crate) fn added_fields(&self, span: usize) -> impl Iterator<Item = &[u8]> {
        self.entries(span).filter(|e| e.kind.adds()).map(|e| &self.arena[e.start as usize..e.end as usize])
    }

    /// Puts these fields in the place of all attributes of a span, its own and the added ones.
    pub(crate) fn set_attributes(&mut self, span: usize, span_count: usize, fields: &[u8]) {
        self.make_room(span_count);
        let mut at = self.spans[span].head;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            if entry.kind.adds() {
                self.spans[span].added -= entry.end - entry.start;
            }
            if !matches!(entry.kind, EntryKind::Field(_)) {
                entry.kind = EntryKind::Dead;
            }
            at = entry.next;
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(fields);
        let end = self.arena.len() as u32;
        self.link(span, Entry { start, end, key: start, key_len: 0, next: NONE, kind: EntryKind::Block });
        let edits = &mut self.spans[span];
        edits.added += end - start;
        edits.fields |= 1 << SPAN_ATTRIBUTES;
        edits.shadowing = true;
    }

    /// Takes note that the noted attribute of this number is replaced or removed, and where its field lies, if that is
    /// known.
    #[inline]
    pub(crate) fn hide(&mut self, number: u32, field: Option<(u32, u32)>) {
        self.hidden.insert(number, field);
    }

    /// Whether the noted attribute of this number, one of the span's own, is replaced or removed.
    #[inline]
    pub(crate) fn hides_number(&self, span: usize, number: u32) -> bool {
        self.hidden.contains(number) || self.replaces(span, SPAN_ATTRIBUTES)
    }

    /// Where those of the noted attributes `run` lie that are replaced or removed; `None` for one whose place is not known.
    pub(crate) fn hidden_among(&self, run: (u32, u32)) -> impl Iterator<Item = Option<(u32, u32)>> + Clone {
        self.hidden.among(run)
    }

    /// Whether fields of the span other than single attributes are replaced.
    pub(crate) fn replaces_fields(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(|s| s.fields != 0)
    }

    /// Whether the span's own attribute of this key is replaced or removed; for spans whose attributes are not noted.
    pub(crate) fn hides(&self, span: usize, key: &[u8]) -> bool {
        if self.replaces(span, SPAN_ATTRIBUTES) {
            return true;
        }
        self.entries(span).any(|e| match e.kind {
            EntryKind::Set | EntryKind::Remove => self.key(e) == key,
            EntryKind::Block => self.attributes_of(e).any(|kv| kv.key.as_bytes() == key),
            EntryKind::Field(_) | EntryKind::Dead => false,
        })
    }

    /// Sets an attribute of which the caller says where it is already.
    pub(crate) fn set(&mut self, span: usize, span_count: usize, key: &str, value: NewValue<'_>, is: Presence) {
        if is != Presence::Nowhere {
            self.supersede(span, key.as_bytes());
        }
        self.make_room(span_count);
        let start = self.arena.len() as u32;
        let key_at = put_attribute(&mut self.arena, SPAN_ATTRIBUTES, key, value) as u32;
        let end = self.arena.len() as u32;
        let key_len = key.len() as u32;
        self.link(span, Entry { start, end, key: key_at, key_len, next: NONE, kind: EntryKind::Set });
        let edits = &mut self.spans[span];
        edits.added += end - start;
        edits.shadowing |= is == Presence::Own;
    }

    /// Adds a block of attributes of which the caller vouches that the span has none.
    pub(crate) fn append(&mut self, span: usize, span_count: usize, block: &AttributeBlock) {
        self.make_room(span_count);
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(&block.bytes);
        let end = self.arena.len() as u32;
        self.link(span, Entry { start, end, key: start, key_len: 0, next: NONE, kind: EntryKind::Block });
        self.spans[span].added += end - start;
    }

    /// Removes an attribute of which the caller says where it is, the span's own and an added one.
    pub(crate) fn remove(&mut self, span: usize, span_count: usize, key: &str, is: Presence) {
        self.supersede(span, key.as_bytes());
        if is != Presence::Own {
            return;
        }
        self.make_room(span_count);
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(key.as_bytes());
        let end = self.arena.len() as u32;
        self.link(span, Entry { start, end, key: start, key_len: end - start, next: NONE, kind: EntryKind::Remove });
        self.spans[span].shadowing = true;
    }

    #[inline]
    fn make_room(&mut self, span_count: usize) {
        if self.spans.len() < span_count {
            self.spans.resize(span_count, UNTOUCHED);
            // A processor that changes one span mostly changes all of them.
            self.entries.reserve(span_count);
            self.arena.reserve((span_count * 384).min(MAX_RESERVE));
        }
    }

    #[inline]
    fn link(&mut self, span: usize, entry: Entry) {
        let id = self.entries.len() as u32;
        self.entries.push(entry);
        let edits = &mut self.spans[span];
        if edits.head == NONE {
            edits.head = id;
        } else {
            self.entries[edits.tail as usize].next = id;
        }
        edits.tail = id;
    }

    /// Makes sure that no entry of the span has this key.
    fn supersede(&mut self, span: usize, key: &[u8]) {
        let Some(mut at) = self.spans.get(span).map(|s| s.head) else { return };
        while at != NONE {
            let entry = self.entries[at as usize];
            match entry.kind {
                EntryKind::Set | EntryKind::Remove if self.key(&entry) == key => {
                    if entry.kind == EntryKind::Set {
                        self.spans[span].added -= entry.end - entry.start;
                    }
                    self.entries[at as usize].kind = EntryKind::Dead;
                }
                EntryKind::Block => self.cut(span, at, key),
                _ => {}
            }
            at = entry.next;
        }
    }

    /// Cuts the attributes with this key out of a block. The block's other bytes move to the end of the arena.
    fn cut(&mut self, span: usize, at: u32, key: &[u8]) {
        let entry = self.entries[at as usize];
        if self.attributes_of(&entry).all(|kv| kv.key.as_bytes() != key) {
            return;
        }
        let block = self.arena[entry.start as usize..entry.end as usize].to_vec();
        let start = self.arena.len() as u32;
        for field in Fields::new(&block).filter(|f| KeyValue::parse(f.bytes).key.as_bytes() != key) {
            self.arena.extend_from_slice(&block[field.start..field.end]);
        }
        let end = self.arena.len() as u32;
        self.spans[span].added -= (entry.end - entry.start) - (end - start);
        let entry = &mut self.entries[at as usize];
        (entry.start, entry.end) = (start, end);
    }

    fn attributes_of(&self, entry: &Entry) -> impl Iterator<Item = KeyValue<'_>> {
        Fields::new(&self.arena[entry.start as usize..entry.end as usize]).map(|f| KeyValue::parse(f.bytes))
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.key as usize..(entry.key + entry.key_len) as usize]
    }

    fn entries(&self, span: usize) -> impl Iterator<Item = &Entry> {
        let mut at = self.spans.get(span).map_or(NONE, |s| s.head);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(entry)
        })
    }
}
