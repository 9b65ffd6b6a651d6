//! Encoding a chunk again: slice copies, and three rewritten length prefixes around each changed span.
//!
//! Sizes first, bytes second: one allocation of the exact size, one pass of copies. Whatever is not a known container
//! (unknown fields, schema URLs, the resource, the scope) is copied as the bytes between the containers; a container in
//! which nothing changed is copied as a whole, including its tag and a length prefix that may not be minimal.

use std::ops::Range;

use super::Chunk;
use super::index::{Extent, Index, ResourceEntry, ScopeEntry};
use super::overlay::{Overlay, SPAN_ATTRIBUTES};
use super::view::KeyValue;
use super::wire::{Fields, LEN, bytes_field_len, put_bytes, put_tag, put_varint};

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
    total: usize,
}

/// Appends the chunk's encoded form.
pub(super) fn encode_into(chunk: &Chunk, index: &Index, out: &mut Vec<u8>) {
    let plan = Plan::of(chunk, index);
    out.reserve(plan.total);
    let bytes = &chunk.bytes[..];
    let mut pos = 0;
    for (id, (resource, &fate)) in index.resources.iter().zip(&plan.resources).enumerate() {
        out.extend_from_slice(&bytes[pos..resource.extent.field as usize]);
        pos = resource.extent.end as usize;
        put_field(out, bytes, 1, resource.extent, fate, |out| put_scopes(chunk, index, &plan, id, out));
    }
    out.extend_from_slice(&bytes[pos..]);
}

fn put_scopes(chunk: &Chunk, index: &Index, plan: &Plan, id: usize, out: &mut Vec<u8>) {
    let bytes = &chunk.bytes[..];
    let resource = &index.resources[id];
    let changed = ChangedResource::of(chunk, resource, id);
    if let Some(changed) = &changed {
        put_bytes(out, 1, changed.message);
    }
    let replaced = changed.as_ref().and_then(|c| c.replaced.as_ref());
    let mut pos = resource.extent.body as usize;
    for id in resource.first_scope as usize..resource.end_scope as usize {
        let scope = &index.scopes[id];
        put_without(out, bytes, pos..scope.extent.field as usize, replaced);
        pos = scope.extent.end as usize;
        put_field(out, bytes, 2, scope.extent, plan.scopes[id], |out| put_spans(chunk, index, plan, scope, out));
    }
    put_without(out, bytes, pos..resource.extent.end as usize, replaced);
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

/// Copies a range of the bytes except for a field that lies within it or outside of it.
fn put_without(out: &mut Vec<u8>, bytes: &[u8], range: Range<usize>, field: Option<&Range<usize>>) {
    match field {
        Some(field) if range.contains(&field.start) => {
            out.extend_from_slice(&bytes[range.start..field.start]);
            out.extend_from_slice(&bytes[field.end..range.end]);
        }
        _ => out.extend_from_slice(&bytes[range]),
    }
}

fn put_spans(chunk: &Chunk, index: &Index, plan: &Plan, scope: &ScopeEntry, out: &mut Vec<u8>) {
    let bytes = &chunk.bytes[..];
    let mut pos = scope.extent.body as usize;
    for id in scope.first_span as usize..scope.end_span as usize {
        let extent = index.spans[id].extent;
        out.extend_from_slice(&bytes[pos..extent.field as usize]);
        pos = extent.end as usize;
        put_field(out, bytes, 2, extent, plan.spans[id], |out| {
            let body = extent.payload(bytes);
            let Some(overlay) = &chunk.overlay else { return };
            if overlay.is_cutting(id) {
                let mut kept = 0;
                for hidden in hidden_fields(overlay, id, body) {
                    out.extend_from_slice(&body[kept..hidden.0]);
                    kept = hidden.1;
                }
                out.extend_from_slice(&body[kept..]);
            } else {
                out.extend_from_slice(body);
            }
            overlay.put_added(id, out);
        });
    }
    out.extend_from_slice(&bytes[pos..scope.extent.end as usize]);
}

fn put_field(
    out: &mut Vec<u8>,
    bytes: &[u8],
    number: u32,
    extent: Extent,
    fate: Fate,
    body: impl FnOnce(&mut Vec<u8>),
) {
    match fate {
        Fate::Keep => out.extend_from_slice(&bytes[extent.field as usize..extent.end as usize]),
        Fate::Drop => {}
        Fate::Rewrite(len) => {
            put_tag(out, number, LEN);
            put_varint(out, len as u64);
            let start = out.len();
            body(out);
            debug_assert_eq!(out.len() - start, len, "the plan and the copy must agree");
        }
    }
}

/// Ranges of a span's own fields that the overlay replaces or removes.
fn hidden_fields<'a>(overlay: &'a Overlay, span: usize, body: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let shadowing = overlay.is_shadowing(span);
    Fields::new(body)
        .filter(move |f| match f.number {
            SPAN_ATTRIBUTES => shadowing && overlay.hides(span, KeyValue::parse(f.bytes).key.as_bytes()),
            number => overlay.replaces(span, number),
        })
        .map(|f| (f.start, f.end))
}

impl Plan {
    fn of(chunk: &Chunk, index: &Index) -> Self {
        let spans = span_fates(chunk, index);
        let mut scopes = Vec::with_capacity(index.scopes.len());
        let mut resources = Vec::with_capacity(index.resources.len());
        let mut total = chunk.bytes.len();
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
            total = total + fate.field_len(resource.extent) - resource.extent.field_len();
            resources.push(fate);
        }
        Self { resources, scopes, spans, total }
    }
}

fn span_fates(chunk: &Chunk, index: &Index) -> Vec<Fate> {
    let mut fates = Vec::with_capacity(index.spans.len());
    for (id, span) in index.spans.iter().enumerate() {
        fates.push(match &chunk.overlay {
            _ if !chunk.alive.contains(id) => Fate::Drop,
            Some(overlay) if overlay.is_touched(id) => {
                let mut len = span.extent.body_len() + overlay.added_len(id);
                if overlay.is_cutting(id) {
                    let body = span.extent.payload(&chunk.bytes);
                    len -= hidden_fields(overlay, id, body).map(|(start, end)| end - start).sum::<usize>();
                }
                Fate::Rewrite(len)
            }
            _ => Fate::Keep,
        });
    }
    fates
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
