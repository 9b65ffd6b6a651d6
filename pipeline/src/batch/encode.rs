//! Encoding a chunk again: pieces of its bytes, and three rewritten length prefixes around each changed span.
//!
//! Sizes first, pieces second. Whatever is not a known container (unknown fields, schema URLs, the resource, the scope)
//! is kept as the bytes between the containers; a container in which nothing changed is kept as a whole, including its
//! tag and a length prefix that may not be minimal.

use std::ops::Range;

use super::Chunk;
use super::attributes::ATTRIBUTE;
use super::encoded::Encoder;
use super::index::{Extent, Index, ResourceEntry, ScopeEntry};
use super::overlay::{Overlay, SPAN_ATTRIBUTES};
use super::view::KeyValue;
use super::wire::{Fields, LEN, bytes_field_len, put_bytes, put_tag, put_varint};

/// Bytes of the tag and the length of a span at most, which is far below 4 GiB.
const MAX_PREFIX: usize = 6;

/// What becomes of a container or span.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Copied as it is.
    Keep,
    /// Left out.
    Drop,
    /// Written again with a payload of this many bytes.
    Rewrite(usize),
}

impl Fate {
    /// Bytes of the whole field, for a field whose tag is one byte.
    fn field_len(self, extent: Extent) -> usize {
        match self {
            Self::Keep => extent.field_len(),
            Self::Drop => 0,
            Self::Rewrite(len) => bytes_field_len(1, len),
        }
    }
}

/// The fates of everything in a chunk, in index order.
struct Plan {
    resources: Vec<Fate>,
    scopes: Vec<Fate>,
    spans: Vec<Fate>,
    cuts: Vec<Cut>,
}

/// A field of a span that is left out, as a range of the chunk's bytes.
#[derive(Debug, Clone, Copy)]
struct Cut {
    span: usize,
    start: usize,
    end: usize,
}

/// Appends the chunk's encoded form.
pub(super) fn encode_into(chunk: &Chunk, index: &Index, out: &mut Encoder) {
    let plan = Plan::of(chunk, index);
    let added = chunk.overlay.as_ref().map_or(0, |overlay| overlay.len_bytes());
    out.source(&chunk.bytes, index.spans.len(), added + index.spans.len() * MAX_PREFIX);
    let mut pos = 0;
    for (id, (resource, &fate)) in index.resources.iter().zip(&plan.resources).enumerate() {
        out.keep(pos..resource.extent.field as usize);
        pos = resource.extent.end as usize;
        put_field(out, 1, resource.extent, fate, |out| put_scopes(chunk, index, &plan, id, out));
    }
    out.keep(pos..chunk.bytes.len());
}

fn put_scopes(chunk: &Chunk, index: &Index, plan: &Plan, id: usize, out: &mut Encoder) {
    let resource = &index.resources[id];
    let changed = ChangedResource::of(chunk, resource, id);
    if let Some(changed) = &changed {
        put_bytes(out.new_bytes(), 1, changed.message);
    }
    let replaced = changed.as_ref().and_then(|c| c.replaced.as_ref());
    let mut pos = resource.extent.body as usize;
    for id in resource.first_scope as usize..resource.end_scope as usize {
        let scope = &index.scopes[id];
        put_without(out, pos..scope.extent.field as usize, replaced);
        pos = scope.extent.end as usize;
        put_field(out, 2, scope.extent, plan.scopes[id], |out| put_spans(chunk, index, plan, scope, out));
    }
    put_without(out, pos..resource.extent.end as usize, replaced);
}

/// A Resource that was changed.
struct ChangedResource<'a> {
    message: &'a [u8],
    /// Where the field that it replaces lies, if there is one.
    replaced: Option<Range<usize>>,
}

impl<'a> ChangedResource<'a> {
    fn of(chunk: &'a Chunk, resource: &ResourceEntry, id: usize) -> Option<Self> {
        let message = chunk.overlay.as_ref()?.resource(id)?;
        let base = resource.extent.body as usize;
        let own = Fields::new(resource.extent.payload(&chunk.bytes)).find(|f| f.number == 1);
        Some(Self { message, replaced: own.map(|f| base + f.start..base + f.end) })
    }

    /// By how many bytes the ResourceSpans grows.
    fn growth(&self) -> isize {
        bytes_field_len(1, self.message.len()).cast_signed()
            - self.replaced.as_ref().map_or(0, Range::len).cast_signed()
    }
}

/// Keeps a range of the bytes except for a field that lies within it or outside of it.
fn put_without(out: &mut Encoder, range: Range<usize>, field: Option<&Range<usize>>) {
    match field {
        Some(field) if range.contains(&field.start) => {
            out.keep(range.start..field.start);
            out.keep(field.end..range.end);
        }
        _ => out.keep(range),
    }
}

fn put_spans(chunk: &Chunk, index: &Index, plan: &Plan, scope: &ScopeEntry, out: &mut Encoder) {
    let mut pos = scope.extent.body as usize;
    for id in scope.first_span as usize..scope.end_span as usize {
        let extent = index.spans[id].extent;
        out.keep(pos..extent.field as usize);
        pos = extent.end as usize;
        put_field(out, 2, extent, plan.spans[id], |out| {
            let Some(overlay) = &chunk.overlay else { return };
            let (mut from, end) = (extent.body as usize, extent.end as usize);
            if overlay.is_cutting(id) {
                for cut in plan.cuts_of(id) {
                    out.keep(from..cut.start);
                    from = cut.end;
                }
            }
            out.keep(from..end);
            overlay.put_added(id, out.new_bytes());
        });
    }
    out.keep(pos..scope.extent.end as usize);
}

fn put_field(out: &mut Encoder, number: u32, extent: Extent, fate: Fate, body: impl FnOnce(&mut Encoder)) {
    match fate {
        Fate::Keep => out.keep(extent.field as usize..extent.end as usize),
        Fate::Drop => {}
        Fate::Rewrite(len) => {
            put_tag(out.new_bytes(), number, LEN);
            put_varint(out.new_bytes(), len as u64);
            let start = out.len();
            body(out);
            debug_assert_eq!(out.len() - start, len, "the plan and the pieces must agree");
        }
    }
}

/// Shows the ranges of a span's own fields that the overlay replaces or removes.
pub(super) fn hidden_fields(
    overlay: &Overlay,
    index: &Index,
    span: usize,
    body: &[u8],
    mut show: impl FnMut(usize, usize),
) {
    let entry = &index.spans[span];
    let only_attributes = !overlay.replaces_fields(span);
    if index.attributes.is_none() {
        let fields = Fields::new(body).filter(|f| match f.number {
            SPAN_ATTRIBUTES => overlay.hides(span, KeyValue::parse(f.bytes).key.as_bytes()),
            number => overlay.replaces(span, number),
        });
        return fields.for_each(|f| show(f.start, f.end));
    }
    // Where nothing else is replaced, the places of what is hidden are mostly known; else the walk begins with the first
    // attribute and ends with the last that is hidden.
    let mut left = usize::MAX;
    if only_attributes {
        let fields = overlay.hidden_among(entry.attributes);
        if fields.clone().all(|field| field.is_some()) {
            let base = entry.extent.body;
            return fields.flatten().for_each(|(start, end)| show((start - base) as usize, (end - base) as usize));
        }
        left = fields.count();
    }
    let mut fields = Fields::from(body, if only_attributes { entry.row.0 as usize } else { 0 });
    let mut numbers = entry.attributes.0..;
    while left > 0 {
        let mut start = fields.pos();
        if fields.next_if(ATTRIBUTE).is_none() {
            let Some(field) = fields.next() else { return };
            // There may be a group before it.
            start = field.start;
            if field.number != SPAN_ATTRIBUTES {
                if overlay.replaces(span, field.number) {
                    show(field.start, field.end);
                }
                continue;
            }
        }
        if numbers.next().is_some_and(|number| overlay.hides_number(span, number)) {
            show(start, fields.pos());
            left -= 1;
        }
    }
}

impl Plan {
    fn of(chunk: &Chunk, index: &Index) -> Self {
        let (spans, cuts) = span_fates(chunk, index);
        let mut scopes = Vec::with_capacity(index.scopes.len());
        let mut resources = Vec::with_capacity(index.resources.len());
        for (id, resource) in index.resources.iter().enumerate() {
            for scope in &index.scopes[resource.first_scope as usize..resource.end_scope as usize] {
                let children = index.spans[scope.first_span as usize..scope.end_span as usize]
                    .iter()
                    .map(|s| s.extent)
                    .zip(spans[scope.first_span as usize..scope.end_span as usize].iter().copied());
                scopes.push(container_fate(scope.extent, children, 0));
            }
            let range = resource.first_scope as usize..resource.end_scope as usize;
            let children = index.scopes[range.clone()].iter().map(|s| s.extent).zip(scopes[range].iter().copied());
            let changed = ChangedResource::of(chunk, resource, id);
            let growth = changed.as_ref().map_or(0, ChangedResource::growth);
            let fate = match container_fate(resource.extent, children, growth) {
                Fate::Keep if changed.is_some() => {
                    Fate::Rewrite(resource.extent.body_len().saturating_add_signed(growth))
                }
                fate => fate,
            };
            resources.push(fate);
        }
        Self { resources, scopes, spans, cuts }
    }

    fn cuts_of(&self, span: usize) -> &[Cut] {
        let from = self.cuts.partition_point(|cut| cut.span < span);
        let cuts = &self.cuts[from..];
        &cuts[..cuts.iter().take_while(|cut| cut.span == span).count()]
    }
}

fn span_fates(chunk: &Chunk, index: &Index) -> (Vec<Fate>, Vec<Cut>) {
    let mut fates = Vec::with_capacity(index.spans.len());
    let mut cuts = Vec::new();
    for (id, span) in index.spans.iter().enumerate() {
        fates.push(match &chunk.overlay {
            _ if !chunk.alive.contains(id) => Fate::Drop,
            Some(overlay) if overlay.is_touched(id) => {
                let mut len = span.extent.body_len() + overlay.added_len(id);
                if overlay.is_cutting(id) {
                    let base = span.extent.body as usize;
                    hidden_fields(overlay, index, id, span.extent.payload(&chunk.bytes), |start, end| {
                        len -= end - start;
                        cuts.push(Cut { span: id, start: base + start, end: base + end });
                    });
                }
                Fate::Rewrite(len)
            }
            _ => Fate::Keep,
        });
    }
    (fates, cuts)
}

/// A container whose children all went goes too; one that never had any stays. `growth`: by how many bytes the rest of
/// the container changes.
fn container_fate(extent: Extent, children: impl Iterator<Item = (Extent, Fate)>, growth: isize) -> Fate {
    let (mut len, mut any, mut alive, mut changed) = (extent.body_len(), false, false, false);
    for (child, fate) in children {
        any = true;
        alive |= fate != Fate::Drop;
        changed |= fate != Fate::Keep;
        len = len + fate.field_len(child) - child.field_len();
    }
    match () {
        () if !changed => Fate::Keep,
        () if any && !alive => Fate::Drop,
        () => Fate::Rewrite(len.saturating_add_signed(growth)),
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::Batch;
    use crate::batch::wire::put_bytes;
    use crate::signal::Signal;

    fn field(number: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, body);
        out
    }

    /// Attributes that mean the same to every decoder and are written in as many ways, each with its key.
    fn attributes() -> Vec<(String, Vec<u8>)> {
        let key = |n: usize| format!("key.{n}");
        let text = |n: usize| field(1, format!("value {n}").as_bytes());
        let plain = |n: usize| field(9, &[field(1, key(n).as_bytes()), field(2, &text(n))].concat());
        let long = |mut bytes: Vec<u8>, at: usize| {
            bytes[at] |= 0x80;
            bytes.insert(at + 1, 0);
            bytes
        };
        let value_first = |n: usize| field(9, &[field(2, &text(n)), field(1, key(n).as_bytes())].concat());
        let of = |n: usize, body: &[u8]| field(9, &[&field(1, key(n).as_bytes())[..], body].concat());
        // Ends in what looks like the beginning of an attribute of the next one's key.
        let bait = field(9, &[field(1, b"key.8"), field(2, &field(1, b"J\x11\x0a\x07key.9"))].concat());
        vec![
            (key(0), plain(0)),
            (key(1), long(plain(1), 1)),
            (key(2), of(2, &long(field(2, &text(2)), 1))),
            (key(3), of(3, &field(2, &long(text(3), 1)))),
            (key(4), value_first(4)),
            (key(5), of(5, &field(2, &field(5, &field(1, &text(5)))))),
            (key(6), of(6, &[])),
            (key(7), of(7, &field(2, b""))),
            (key(8), bait),
            (key(9), value_first(9)),
            (key(10), plain(10)),
        ]
    }

    #[test]
    fn what_is_removed_is_all_that_goes_however_it_was_written() {
        let attributes = attributes();
        let request = |attributes: &[&[u8]]| {
            let span = |n: u8| field(2, &[&field(1, &[n; 16])[..], &field(2, &[n; 8]), &attributes.concat()].concat());
            // Of the second span the keys are foreseen.
            field(1, &field(2, &[span(1), span(2)].concat()))
        };
        let all: Vec<&[u8]> = attributes.iter().map(|(_, bytes)| &bytes[..]).collect();
        for remove in 0..1u32 << attributes.len() {
            let mut batch = Batch::decode(Signal::Traces, request(&all).into()).unwrap();
            let is_removed = |n: usize| remove >> n & 1 == 1;
            batch.for_each_mut(|span| {
                let removed = attributes.iter().enumerate().filter(|(n, _)| is_removed(*n));
                removed.for_each(|(_, (key, _))| span.remove(key));
            });
            let kept: Vec<&[u8]> = all.iter().enumerate().filter(|(n, _)| !is_removed(*n)).map(|(_, a)| *a).collect();
            assert_eq!(batch.encode(), request(&kept), "{remove:b}");
        }
    }
}
