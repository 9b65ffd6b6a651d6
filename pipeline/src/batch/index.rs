//! The index of a traces chunk: where each ResourceSpans, ScopeSpans and Span lies in the bytes.
//!
//! ```text
//! bytes  ┌ 0a len ┌ ResourceSpans ─────────────────────────────────────────────────────────┐
//!        │        │ 0a len Resource │ 12 len ┌ ScopeSpans ──────────────────────────────┐ │
//!        │        │                 │        │ 0a len Scope │ 12 len Span │ 12 len Span │ │
//!        ▲        ▲                          ▲              ▲      ▲    ▲
//!     field     body                      body            field  body  end      (SpanEntry)
//! ```
//!
//! Entries are 32-bit offsets: a request is limited to far less than 4 GiB.

use super::view::{Resource, Scope};
use super::wire::Fields;

/// A length-delimited field in the bytes: tag at `field`, payload `body..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) field: u32,
    pub(crate) body: u32,
    pub(crate) end: u32,
}

impl Extent {
    pub(crate) fn payload(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.body as usize..self.end as usize).unwrap_or_default()
    }

    pub(crate) const fn field_len(self) -> usize {
        (self.end - self.field) as usize
    }

    pub(crate) const fn body_len(self) -> usize {
        (self.end - self.body) as usize
    }
}

/// A ResourceSpans and its ScopeSpans `first_scope..end_scope`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResourceEntry {
    pub(crate) extent: Extent,
    /// Payload range of the Resource message; empty if absent.
    resource: (u32, u32),
    pub(crate) first_scope: u32,
    pub(crate) end_scope: u32,
}

/// A ScopeSpans and its spans `first_span..end_span`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeEntry {
    pub(crate) extent: Extent,
    /// Payload range of the InstrumentationScope message; empty if absent.
    scope: (u32, u32),
    pub(crate) resource: u32,
    pub(crate) first_span: u32,
    pub(crate) end_span: u32,
}

/// A span and the ScopeSpans it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanEntry {
    pub(crate) extent: Extent,
    pub(crate) scope: u32,
}

/// Where everything is.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) resources: Vec<ResourceEntry>,
    pub(crate) scopes: Vec<ScopeEntry>,
    pub(crate) spans: Vec<SpanEntry>,
}

impl Index {
    /// Indexes validated bytes of an ExportTraceServiceRequest.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut index = Self::default();
        for r in Fields::new(bytes).filter(|f| f.number == 1) {
            let resource_id = index.resources.len() as u32;
            let first_scope = index.scopes.len() as u32;
            let mut resource = (0, 0);
            for s in Fields::new(r.bytes) {
                let base = r.body;
                match s.number {
                    1 => resource = range(base + s.body, base + s.end),
                    2 => index.scope(s.bytes, extent(base, s.start, s.body, s.end), resource_id),
                    _ => {}
                }
            }
            index.resources.push(ResourceEntry {
                extent: extent(0, r.start, r.body, r.end),
                resource,
                first_scope,
                end_scope: index.scopes.len() as u32,
            });
        }
        index
    }

    fn scope(&mut self, bytes: &[u8], at: Extent, resource: u32) {
        let scope_id = self.scopes.len() as u32;
        let first_span = self.spans.len() as u32;
        let base = at.body as usize;
        let mut scope = (0, 0);
        for f in Fields::new(bytes) {
            match f.number {
                1 => scope = range(base + f.body, base + f.end),
                2 => self.spans.push(SpanEntry { extent: extent(base, f.start, f.body, f.end), scope: scope_id }),
                _ => {}
            }
        }
        self.scopes.push(ScopeEntry { extent: at, scope, resource, first_span, end_span: self.spans.len() as u32 });
    }

    pub(crate) fn resource_of<'a>(&self, scope: u32, bytes: &'a [u8]) -> Resource<'a> {
        let entry = self.scopes.get(scope as usize).and_then(|s| self.resources.get(s.resource as usize));
        Resource(entry.map_or(&[], |r| slice(bytes, r.resource)))
    }

    /// The bytes of a Resource message; none if it is absent.
    pub(crate) fn resource_message<'a>(&self, resource: usize, bytes: &'a [u8]) -> &'a [u8] {
        self.resources.get(resource).map_or(&[], |r| slice(bytes, r.resource))
    }

    pub(crate) fn scope_of<'a>(&self, scope: u32, bytes: &'a [u8]) -> Scope<'a> {
        Scope(self.scopes.get(scope as usize).map_or(&[], |s| slice(bytes, s.scope)))
    }
}

fn extent(base: usize, field: usize, body: usize, end: usize) -> Extent {
    Extent { field: (base + field) as u32, body: (base + body) as u32, end: (base + end) as u32 }
}

fn range(start: usize, end: usize) -> (u32, u32) {
    (start as u32, end as u32)
}

fn slice(bytes: &[u8], (start, end): (u32, u32)) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}
