//! A span read once, with what each of its attributes is good for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use weir_pipeline::batch::wire::{self, Fields};
use weir_pipeline::batch::{Noted, Piece, Span};

use super::any::{Any, Attribute, text};
use super::buffers::Texts;
use super::content::{self, Member, Source};
use super::keys::{Found, Keys, Meaning, Place};
use super::known::{SLOTS, Slot};
use super::usage::Facts;

/// Tag and wire type of a span's attributes.
const ATTRIBUTE_TAG: u8 = 9 << 3 | wire::LEN;

/// An attribute and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Any<'a>,
    /// Where its `KeyValue` is: its place among the span's own attributes, or behind [`UNNOTED`] that among `messages`.
    message: u32,
    /// What identifies its key among the spans of a batch.
    pub(super) place: Place,
    /// It is an association property.
    pub(super) association: bool,
    /// A later attribute has the same key.
    pub(super) superseded: bool,
    /// Its text is in a content column.
    pub(super) moved: bool,
    /// It is in `otlp_rest`, which has the last word on its key.
    pub(super) rest: bool,
}

/// A request is below 4 GiB, and no span has so many attributes in it.
const UNNOTED: u32 = 1 << 31;

/// What fills a slot.
#[derive(Debug, Clone, Copy)]
struct Filling<'a> {
    value: Any<'a>,
    attribute: u32,
    /// The rank of the attribute's key.
    rank: u8,
}

impl Filling<'_> {
    const NONE: Self = Self { value: Any::Empty, attribute: 0, rank: 0 };
}

/// One span, read once.
pub(super) struct SpanScan<'a> {
    /// What is read.
    view: Option<Span<'a>>,
    /// Length of its message as it would be encoded.
    pub(super) len: usize,
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) parent_span_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) kind: i32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) dropped_attributes: u32,
    pub(super) dropped_events: u32,
    pub(super) dropped_links: u32,
    pub(super) has_status: bool,
    pub(super) status_code: i32,
    pub(super) status_message: &'a [u8],
    pub(super) flags: u32,
    pub(super) attributes: Vec<Item<'a>>,
    /// The `KeyValue`s of those that the index has no notes of.
    messages: Vec<&'a [u8]>,
    /// Those of all of the span's own, looked for when one is wanted.
    own_messages: OnceCell<Vec<&'a [u8]>>,
    pub(super) events: Vec<&'a [u8]>,
    pub(super) links: Vec<&'a [u8]>,
    /// Whole fields that no column has a place for.
    pub(super) unknown: Vec<&'a [u8]>,
    /// Per slot what fills it, if it is among those filled.
    slots: [Filling<'a>; SLOTS],
    /// A bit for each slot.
    filled: u64,
    members: Vec<Member<'a>>,
    /// Where the keys are that [`Keys`] does not remember.
    seen: HashMap<&'a [u8], u32, RandomState>,
    /// Whether a key occurs twice.
    repeats: bool,
    json: Vec<u8>,
}

impl Default for SpanScan<'_> {
    fn default() -> Self {
        Self {
            view: None,
            len: 0,
            trace_id: &[],
            span_id: &[],
            parent_span_id: &[],
            trace_state: &[],
            name: &[],
            kind: 0,
            start: 0,
            end: 0,
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
            has_status: false,
            status_code: 0,
            status_message: &[],
            flags: 0,
            attributes: Vec::new(),
            messages: Vec::new(),
            own_messages: OnceCell::new(),
            events: Vec::new(),
            links: Vec::new(),
            unknown: Vec::new(),
            slots: [Filling::NONE; SLOTS],
            filled: 0,
            members: Vec::new(),
            seen: HashMap::default(),
            repeats: false,
            json: Vec::new(),
        }
    }
}

impl<'a> SpanScan<'a> {
    /// Reads a span whose chunk's keys are remembered at these places.
    pub(super) fn read(&mut self, span: Span<'a>, places: &[Place], keys: &mut Keys) {
        // In place: the struct is large, and its buffers are used again.
        self.view = Some(span);
        self.trace_id = &[];
        self.span_id = &[];
        self.parent_span_id = &[];
        self.trace_state = &[];
        self.name = &[];
        self.kind = 0;
        self.start = 0;
        self.end = 0;
        self.dropped_attributes = 0;
        self.dropped_events = 0;
        self.dropped_links = 0;
        self.has_status = false;
        self.status_code = 0;
        self.status_message = &[];
        self.flags = 0;
        self.filled = 0;
        self.attributes.clear();
        self.messages.clear();
        self.own_messages.take();
        self.events.clear();
        self.links.clear();
        self.unknown.clear();
        self.members.clear();
        self.seen.clear();
        self.repeats = false;
        self.len = span.pieces(|piece| match piece {
            Piece::Noted(noted) => self.noted(noted, places, keys),
            Piece::Attribute(message) => self.attribute(message, keys),
            Piece::Fields(fields) => self.fields(fields, keys),
        });
        if self.repeats {
            self.assign_again();
        }
    }

    fn fields(&mut self, message: &'a [u8], keys: &mut Keys) {
        let mut fields = Fields::new(message);
        loop {
            while let Some(attribute) = fields.next_if(ATTRIBUTE_TAG) {
                self.attribute(attribute, keys);
            }
            let start = fields.pos();
            let next = fields.next();
            // Groups are passed over.
            let group = message.get(start..next.map_or(message.len(), |f| f.start)).unwrap_or_default();
            if !group.is_empty() {
                self.unknown.push(group);
            }
            let Some(f) = next else { break };
            match f.number {
                1 => self.trace_id = f.bytes,
                2 => self.span_id = f.bytes,
                3 => self.trace_state = f.bytes,
                4 => self.parent_span_id = f.bytes,
                5 => self.name = f.bytes,
                6 => self.kind = f.scalar as i32,
                7 => self.start = f.scalar,
                8 => self.end = f.scalar,
                9 => self.attribute(f.bytes, keys),
                10 => self.dropped_attributes = f.scalar as u32,
                11 => self.events.push(f.bytes),
                12 => self.dropped_events = f.scalar as u32,
                13 => self.links.push(f.bytes),
                14 => self.dropped_links = f.scalar as u32,
                15 => self.status(f.bytes, message.get(f.start..f.end).unwrap_or_default()),
                16 => self.flags = f.scalar as u32,
                _ => self.unknown.push(message.get(f.start..f.end).unwrap_or_default()),
            }
        }
    }

    fn status(&mut self, status: &'a [u8], field: &'a [u8]) {
        self.has_status = true;
        for f in Fields::new(status) {
            match f.number {
                2 => self.status_message = f.bytes,
                3 => self.status_code = f.scalar as i32,
                _ => self.unknown.push(field),
            }
        }
    }

    #[inline(always)]
    fn attribute(&mut self, message: &'a [u8], keys: &mut Keys) {
        let Attribute { key, value, exact } = Attribute::read(message);
        let found = keys.find(key, self.attributes.len() as u32);
        let number = UNNOTED | self.messages.len() as u32;
        self.messages.push(message);
        self.item(key, value, exact, number, found);
    }

    #[inline(always)]
    fn noted(&mut self, noted: Noted<'a>, places: &[Place], keys: &mut Keys) {
        let (value, exact) = Any::read(noted.any_value);
        let id = self.attributes.len() as u32;
        let place = places.get(noted.key as usize);
        let found = place.and_then(|place| keys.at(*place, id)).unwrap_or_else(|| keys.find(noted.text, id));
        self.item(noted.text, value, exact, noted.nth, found);
    }

    #[inline(always)]
    fn item(&mut self, key: &'a [u8], value: Any<'a>, exact: bool, message: u32, found: Found) {
        let id = self.attributes.len() as u32;
        let Found { place, meaning, association, earlier } = found;
        let earlier = if place.is_known() { earlier } else { self.seen.insert(key, id) };
        let mut rest = !exact;
        if let Some(earlier) = earlier.and_then(|id| self.attributes.get_mut(id as usize)) {
            (earlier.superseded, earlier.rest, rest) = (true, true, true);
            self.repeats = true;
        }
        self.assign(id, key, value, meaning);
        let (superseded, moved) = (false, false);
        self.attributes.push(Item { key, value, message, place, association, superseded, moved, rest });
    }

    /// The bytes of an attribute's `KeyValue`.
    #[cold]
    pub(super) fn message_of(&self, item: &Item<'a>) -> &'a [u8] {
        match item.message.checked_sub(UNNOTED) {
            Some(at) => self.messages.get(at as usize).copied().unwrap_or_default(),
            None => {
                let own = || self.view.into_iter().flat_map(Span::own_messages).collect();
                self.own_messages.get_or_init(own).get(item.message as usize).copied().unwrap_or_default()
            }
        }
    }

    /// Lets an attribute fill what it may.
    #[inline(always)]
    fn assign(&mut self, id: u32, key: &'a [u8], value: Any<'a>, meaning: Meaning) {
        match meaning {
            Meaning::Plain => {}
            Meaning::Slot(slot, rank) => {
                let (taken, bit) = (&mut self.slots[slot as usize], 1 << slot as u32);
                if (self.filled & bit == 0 || rank < taken.rank) && is_usable(slot, value) {
                    *taken = Filling { value, attribute: id, rank };
                    self.filled |= bit;
                }
            }
            Meaning::Member(column, rank, prefix) => {
                let path = text(key.get(prefix..).unwrap_or_default());
                self.members.push(Member { column, rank, attribute: id, path, value });
            }
        }
    }

    /// Assigns without the attributes that later ones supersede.
    #[cold]
    fn assign_again(&mut self) {
        self.filled = 0;
        self.members.clear();
        for id in 0..self.attributes.len() {
            if let Some(Item { key, value, superseded: false, .. }) = self.attributes.get(id).copied() {
                self.assign(id as u32, key, value, Meaning::of(key));
            }
        }
    }

    #[inline]
    fn filling(&self, slot: Slot) -> Option<&Filling<'a>> {
        (self.filled >> slot as u32 & 1 == 1).then_some(&self.slots[slot as usize])
    }

    /// Puts the text of a content column at `row` of `column` and returns the name of its source and its length.
    pub(super) fn take_content(
        &mut self,
        spec: &content::Column,
        id: u8,
        column: &mut Texts,
        row: usize,
    ) -> Option<(Cow<'static, str>, usize)> {
        let single = self.filling(spec.slot).copied();
        if single.is_none() && self.members.is_empty() {
            return None;
        }
        for (source, rank) in spec.sources.iter().zip(0u8..) {
            match *source {
                Source::Text(_) => {
                    let Some(single) = single.filter(|single| single.rank == rank) else { continue };
                    // What is told elsewhere in full is not moved, so that its key is not claimed twice.
                    let Some(item) = self.attributes.get_mut(single.attribute as usize).filter(|item| !item.rest)
                    else {
                        continue;
                    };
                    let Any::Str(text) = item.value else { continue };
                    column.put(row, text);
                    item.moved = true;
                    return Some((content::source_name(*source, false), text.len()));
                }
                Source::Family(_, second) if !self.members.is_empty() => {
                    let belongs = |m: &Member<'_>| m.column == id && m.rank == rank;
                    let mut members: Vec<Member<'a>> = self.members.iter().copied().filter(belongs).collect();
                    let complete =
                        |m: &Member<'_>| self.attributes.get(m.attribute as usize).is_some_and(|item| !item.rest);
                    if members.is_empty() || !members.iter().all(complete) {
                        continue;
                    }
                    self.json.clear();
                    let Some(stripped) = content::assemble(&mut members, second, &mut self.json) else { continue };
                    column.put(row, &self.json);
                    for member in members {
                        if let Some(item) = self.attributes.get_mut(member.attribute as usize) {
                            item.moved = true;
                        }
                    }
                    return Some((content::source_name(*source, stripped), self.json.len()));
                }
                Source::Family(..) => {}
            }
        }
        None
    }

    pub(super) fn operation(&self) -> Slot {
        let order = [Slot::OperationName, Slot::RequestType, Slot::OpenInferenceKind, Slot::AiOperationId];
        order.into_iter().find(|slot| self.fact(*slot).is_some()).unwrap_or(Slot::OperationName)
    }

    pub(super) fn streaming(&self) -> Option<bool> {
        let said = self.value(Slot::Streaming).and_then(Any::as_bool);
        said.or_else(|| {
            self.value(Slot::AiOperationId)
                .and_then(Any::as_str)
                .map(|id| id.contains("stream") || id.ends_with("doStream"))
        })
    }

    pub(super) fn time_to_first_token(&self) -> Option<i64> {
        let seconds = self.value(Slot::TtftSeconds).and_then(Any::as_double).map(|s| s * 1e9);
        let nanos = seconds.or_else(|| self.value(Slot::TtftMillis).and_then(Any::as_double).map(|ms| ms * 1e6))?;
        // Below 2^53, where doubles are whole numbers still: 104 days.
        (0.0..9_007_199_254_740_992.0).contains(&nanos).then_some(nanos.round() as i64)
    }
}

/// Whether a value can fill a slot at all: an unusable one leaves it to the keys behind it.
fn is_usable(slot: Slot, value: Any<'_>) -> bool {
    match slot {
        Slot::Input | Slot::Output | Slot::ToolDefinitions => matches!(value, Any::Str(_)),
        Slot::InputTokens | Slot::OutputTokens | Slot::TotalTokens | Slot::CacheReadTokens | Slot::CacheWriteTokens => {
            value.as_count().is_some()
        }
        _ => !matches!(value, Any::Empty),
    }
}

impl<'a> Facts<'a> for SpanScan<'a> {
    #[inline]
    fn fact(&self, slot: Slot) -> Option<(Any<'a>, u8)> {
        self.filling(slot).map(|filling| (filling.value, filling.rank))
    }
}
