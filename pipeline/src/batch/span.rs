//! A span of a batch, to read and to change.

use super::attributes::{KeyReader, TakeAttribute, Taker};
use super::index::{Index, SpanEntry, SpanHead};
use super::new_value::{AttributeBlock, AttributeEdit, NewValue, put_edited};
use super::overlay::{Overlay, Presence, SPAN_ATTRIBUTES, SPAN_EVENTS, SpanField};
use super::resource::AttributesMut;
use super::view::{Attributes, Event, KeyValue, Link, Resource, Scope, SpanFields, Text, Value};
use super::wire::{Fields, Repeated, put_bytes, put_uint};
use crate::tenant::Tenant;

/// Field number of `Span.Event.attributes`.
const EVENT_ATTRIBUTES: u32 = 3;

/// A view of one span, overlay included.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) index: &'a Index,
    pub(super) id: usize,
    pub(super) overlay: Option<&'a Overlay>,
    tenant: Option<&'a Tenant>,
}

impl<'a> Span<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        index: &'a Index,
        id: usize,
        overlay: Option<&'a Overlay>,
        tenant: Option<&'a Tenant>,
    ) -> Self {
        Self { bytes, index, id, overlay, tenant }
    }

    /// Whose span it is, if that is known.
    pub fn tenant(self) -> Option<&'a Tenant> {
        self.tenant
    }

    pub(super) fn id(self) -> usize {
        self.id
    }

    #[inline]
    pub(super) fn entry(self) -> Option<&'a SpanEntry> {
        self.index.spans.get(self.id)
    }

    /// The span's message as it arrived, without the overlay.
    #[inline]
    pub fn raw(self) -> &'a [u8] {
        self.entry().map_or(&[], |s| s.extent.payload(self.bytes))
    }

    /// The messages of its resource and of its scope, as they will be encoded.
    pub fn container_messages(self) -> [&'a [u8]; 2] {
        [self.resource().0, self.scope().0]
    }

    /// All singular fields in one walk.
    pub fn fields(self) -> SpanFields<'a> {
        let Some(entry) = self.entry() else { return SpanFields::default() };
        let mut fields = SpanFields::parse_around(entry.extent.payload(self.bytes), entry.row);
        if let Some(overlay) = self.overlay {
            overlay.patch(self.id, &mut fields);
        }
        fields
    }

    /// The id of its trace, unless it is absent or not of 16 bytes.
    #[inline]
    pub fn trace_id(self) -> Option<&'a [u8; 16]> {
        self.id_at(self.head().trace_id)
    }

    /// Its id, unless it is absent or not of 8 bytes.
    #[inline]
    pub fn span_id(self) -> Option<&'a [u8; 8]> {
        self.id_at(self.head().span_id)
    }

    /// The id of the span above it, unless it is absent or not of 8 bytes.
    #[inline]
    pub fn parent_span_id(self) -> Option<&'a [u8; 8]> {
        self.id_at(self.head().parent_span_id)
    }

    /// When the span began, in nanoseconds since the epoch.
    #[inline]
    pub fn start_time_unix_nano(self) -> u64 {
        self.head().start_time_unix_nano
    }

    /// When the span ended, in nanoseconds since the epoch.
    #[inline]
    pub fn end_time_unix_nano(self) -> u64 {
        self.head().end_time_unix_nano
    }

    #[inline]
    fn head(self) -> SpanHead {
        self.entry().map_or_else(SpanHead::default, |s| s.head)
    }

    /// No id begins at 0: its tag comes before it.
    #[inline]
    fn id_at<const N: usize>(self, start: u32) -> Option<&'a [u8; N]> {
        if start == 0 { None } else { self.bytes.get(start as usize..)?.first_chunk() }
    }

    /// The name of the instrumentation scope, empty if unknown.
    pub fn scope_name(self) -> Text<'a> {
        self.entry().map_or_else(Text::default, |s| self.index.scope_name_of(s.scope, self.bytes))
    }

    /// The span's name.
    pub fn name(self) -> Text<'a> {
        self.fields().name
    }

    /// The attributes as they will be encoded: the span's own, less replaced and removed ones, then the added ones.
    /// Duplicate keys that the client sent stay duplicates.
    pub fn attributes(self) -> impl Iterator<Item = (Text<'a>, Value<'a>)> {
        self.raw_attributes().map(KeyValue::pair)
    }

    /// Shows the attributes whose keys mean something to `reader`, as [`Self::raw_attributes`] has them.
    #[inline]
    pub fn read<M: Copy>(self, reader: &mut KeyReader<M>, on_attribute: impl FnMut(M, KeyValue<'a>)) {
        self.read_to(reader, &mut Taker(on_attribute));
    }

    /// [`Self::read`] for whoever reads them all day.
    #[inline]
    pub fn read_to<M: Copy>(self, reader: &mut KeyReader<M>, taker: &mut impl TakeAttribute<'a, M>) {
        let overlay = self.overlay.filter(|o| o.is_touched(self.id));
        let (Some(noted), Some(entry)) = (&self.index.attributes, self.entry()) else {
            return look_up(reader, self.raw_attributes(), taker);
        };
        let shadowing = overlay.filter(|o| o.is_shadowing(self.id));
        reader.read(noted, entry.attributes, self.bytes, |number, meaning, kv| {
            if shadowing.is_none_or(|o| !o.hides_number(self.id, number)) {
                taker.take(meaning, kv);
            }
        });
        if let Some(overlay) = overlay {
            look_up(reader, overlay.added(self.id), taker);
        }
    }

    /// The attributes with their values not yet read: for a reader that wants few of them.
    #[inline]
    pub fn raw_attributes(self) -> impl Iterator<Item = KeyValue<'a>> {
        let overlay = self.overlay.filter(|o| o.is_touched(self.id));
        self.own_attributes().chain(overlay.into_iter().flat_map(move |o| o.added(self.id)))
    }

    /// The value of the last attribute with this key, overlay first.
    pub fn attr(self, key: &str) -> Option<Value<'a>> {
        self.raw_attr(key).map(KeyValue::value)
    }

    /// The last attribute with this key, overlay first, with its value not yet read.
    pub fn raw_attr(self, key: &str) -> Option<KeyValue<'a>> {
        let overlay = self.overlay.filter(|o| o.is_touched(self.id));
        if let Some(added) = overlay.and_then(|o| o.added(self.id).filter(|kv| kv.key == *key).last()) {
            return Some(added);
        }
        let (Some(noted), Some(entry)) = (&self.index.attributes, self.entry()) else {
            return self.own_attributes().filter(|kv| kv.key == *key).last();
        };
        let found = noted.with_key(entry.attributes, key.as_bytes(), self.bytes);
        let (_, kv) = found.filter(|(number, _)| !self.hides_number(*number)).last()?;
        Some(kv)
    }

    /// Whether the noted attribute is replaced or removed.
    #[inline]
    fn hides_number(self, number: u32) -> bool {
        self.overlay.is_some_and(|o| o.is_shadowing(self.id) && o.hides_number(self.id, number))
    }

    /// The span's events in order.
    pub fn events(self) -> impl Iterator<Item = Event<'a>> {
        let edited = self.overlay.and_then(|o| o.events(self.id));
        Fields::new(edited.unwrap_or_else(|| self.raw())).filter(|f| f.number == SPAN_EVENTS).map(|f| Event(f.bytes))
    }

    /// The span's links in order.
    pub fn links(self) -> impl Iterator<Item = Link<'a>> {
        Fields::new(self.raw()).filter(|f| f.number == 13).map(|f| Link(f.bytes))
    }

    /// The resource the span belongs to.
    pub fn resource(self) -> Resource<'a> {
        let Some(entry) = self.entry() else { return Resource::default() };
        let scope = self.index.scopes.get(entry.scope as usize);
        let changed = self.overlay.zip(scope).and_then(|(o, s)| o.resource(s.resource as usize));
        changed.map_or_else(|| self.index.resource_of(entry.scope, self.bytes), Resource)
    }

    /// The resource's attributes.
    pub fn resource_attributes(self) -> Attributes<'a> {
        self.resource().attributes()
    }

    /// The instrumentation scope the span belongs to.
    pub fn scope(self) -> Scope<'a> {
        self.entry().map_or_else(Scope::default, |s| self.index.scope_of(s.scope, self.bytes))
    }

    /// Those of its own that are neither replaced nor removed: from the notes where there are some, else by a walk.
    #[inline]
    fn own_attributes(self) -> impl Iterator<Item = KeyValue<'a>> {
        let run = self.entry().map_or((0, 0), |s| s.attributes);
        let noted = self.index.attributes.as_ref();
        let shadowing = self.overlay.filter(|o| o.is_shadowing(self.id));
        let walk = noted.is_none().then(|| Repeated::new(self.raw(), SPAN_ATTRIBUTES).map(KeyValue::parse));
        let walk = walk.into_iter().flatten();
        let walk = walk.filter(move |kv| shadowing.is_none_or(|o| !o.hides(self.id, kv.key.as_bytes())));
        let noted = noted.into_iter().flat_map(move |a| a.iter(run, self.bytes));
        let noted = noted.filter(move |(number, _)| !self.hides_number(*number));
        noted.map(|(_, kv)| kv).chain(walk)
    }
}

/// Shows those of the attributes that mean something to `reader`, which has to look each of them up. Apart, so that the
/// loop over noted attributes is all there is where most spans are read.
#[inline(never)]
fn look_up<'a, M: Copy>(
    reader: &KeyReader<M>,
    attributes: impl Iterator<Item = KeyValue<'a>>,
    taker: &mut dyn TakeAttribute<'a, M>,
) {
    for attribute in attributes {
        if let Some(meaning) = reader.find(attribute.key.as_bytes()) {
            taker.take(meaning, attribute);
        }
    }
}

/// A span that can be changed.
pub struct SpanMut<'a> {
    bytes: &'a [u8],
    index: &'a Index,
    id: usize,
    overlay: &'a mut Overlay,
    tenant: Option<&'a Tenant>,
}

impl<'a> SpanMut<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        index: &'a Index,
        id: usize,
        overlay: &'a mut Overlay,
        tenant: Option<&'a Tenant>,
    ) -> Self {
        Self { bytes, index, id, overlay, tenant }
    }

    /// The span as it is now.
    pub fn view(&self) -> Span<'_> {
        Span::new(self.bytes, self.index, self.id, Some(self.overlay), self.tenant)
    }

    /// Sets an attribute, whether or not the span has the key.
    pub fn set(&mut self, key: &str, value: NewValue<'_>) {
        let is = self.hide_own(key);
        self.overlay.set(self.id, self.index.spans.len(), key, value, is);
    }

    /// Takes note that the span's own attributes of this key are left out.
    fn hide_own(&mut self, key: &str) -> Presence {
        let (Some(noted), Some(entry)) = (&self.index.attributes, self.index.spans.get(self.id)) else {
            return Presence::Own;
        };
        let mut is = Presence::NotOwn;
        for (number, _) in noted.with_key(entry.attributes, key.as_bytes(), self.bytes) {
            // Now, while the bytes are at hand.
            self.overlay.hide(number, noted.field(number, self.bytes));
            is = Presence::Own;
        }
        is
    }

    /// Adds an attribute whose key the caller has just seen to be absent; cheaper than [`Self::set`]. If the key does
    /// exist the span ends up with a duplicate.
    pub fn insert_absent(&mut self, key: &str, value: NewValue<'_>) {
        self.overlay.set(self.id, self.index.spans.len(), key, value, Presence::Nowhere);
    }

    /// Adds a block of attributes whose keys the caller has just seen to be absent, in one copy.
    #[inline]
    pub fn append_absent(&mut self, block: &AttributeBlock) {
        self.overlay.append(self.id, self.index.spans.len(), block);
    }

    /// Replaces the span's name.
    pub fn set_name(&mut self, name: &str) {
        self.set_field(SpanField::Name, (!name.is_empty()).then_some(name.as_bytes()));
    }

    /// Replaces the W3C tracestate; an empty one is left out.
    pub fn set_trace_state(&mut self, trace_state: &str) {
        self.set_field(SpanField::TraceState, (!trace_state.is_empty()).then_some(trace_state.as_bytes()));
    }

    /// Replaces the status: a `StatusCode` as a number, and a message.
    pub fn set_status(&mut self, code: i32, message: &str) {
        let mut status = Vec::with_capacity(message.len() + 16);
        if !message.is_empty() {
            put_bytes(&mut status, 2, message.as_bytes());
        }
        if code != 0 {
            put_uint(&mut status, 3, i64::from(code) as u64);
        }
        self.set_field(SpanField::Status, Some(&status));
    }

    fn set_field(&mut self, field: SpanField, payload: Option<&[u8]>) {
        self.overlay.set_field(self.id, self.index.spans.len(), field, payload);
    }

    /// Calls `edit` for each attribute and does with it what that says; for many of them at once, in linear time. If all
    /// are kept the span is not touched.
    pub fn edit_attributes(&mut self, mut edit: impl FnMut(KeyValue<'_>) -> AttributeEdit) {
        let own = self.index.spans.get(self.id).map_or(&[][..], |s| s.extent.payload(self.bytes));
        let mut fields = Vec::new();
        let mut changed = false;
        if self.overlay.is_shadowing(self.id) {
            let noted = self.index.attributes.as_ref().and_then(|_| self.index.spans.get(self.id));
            let mut numbers = noted.map(|entry| entry.attributes.0..);
            let mut shown = |attribute: KeyValue<'_>| {
                let is_hidden = match numbers.as_mut().and_then(Iterator::next) {
                    Some(number) => self.overlay.hides_number(self.id, number),
                    None => self.overlay.hides(self.id, attribute.key.as_bytes()),
                };
                if is_hidden {
                    return AttributeEdit::Remove;
                }
                let done = edit(attribute);
                changed |= done != AttributeEdit::Keep;
                done
            };
            put_edited(&mut fields, own, SPAN_ATTRIBUTES, &mut shown);
        } else {
            changed = put_edited(&mut fields, own, SPAN_ATTRIBUTES, &mut edit);
        }
        for added in self.overlay.added_fields(self.id) {
            changed |= put_edited(&mut fields, added, SPAN_ATTRIBUTES, &mut edit);
        }
        if changed {
            self.overlay.set_attributes(self.id, self.index.spans.len(), &fields);
        }
    }

    /// Calls `edit` for each of the span's events, which is told the event as it was and may change its attributes. If
    /// it changes none, the events keep their bytes.
    pub fn edit_events(&mut self, mut edit: impl FnMut(Event<'_>, &mut AttributesMut<'_>)) {
        let mut changed: Vec<(usize, Vec<u8>)> = Vec::new();
        for (n, event) in self.view().events().enumerate() {
            let mut attributes = AttributesMut::new(event.0, EVENT_ATTRIBUTES);
            edit(event, &mut attributes);
            changed.extend(attributes.into_changed().map(|message| (n, message)));
        }
        if changed.is_empty() {
            return;
        }
        // Those that did not change may lie in the overlay themselves.
        let edited = self.overlay.events(self.id).map(<[u8]>::to_vec);
        let own = self.index.spans.get(self.id).map_or(&[][..], |s| s.extent.payload(self.bytes));
        let mut changed = changed.iter().peekable();
        let events = Fields::new(edited.as_deref().unwrap_or(own)).filter(|f| f.number == SPAN_EVENTS).enumerate().map(
            |(n, field)| changed.next_if(|(changed, _)| *changed == n).map_or(field.bytes, |(_, message)| message),
        );
        self.overlay.set_events(self.id, self.index.spans.len(), events);
    }

    /// Removes every attribute with this key.
    pub fn remove(&mut self, key: &str) {
        // Without notes nobody has looked whether it is there.
        if self.index.attributes.is_none() && self.view().raw_attr(key).is_none() {
            return;
        }
        let is = self.hide_own(key);
        self.overlay.remove(self.id, self.index.spans.len(), key, is);
    }
}
