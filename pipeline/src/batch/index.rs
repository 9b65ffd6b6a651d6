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
//!
//! A span takes two bytes on the wire at least, and many times that here and in what processors note of it. So who takes
//! bytes from strangers has each growth of the index paid for ([`Limits`]), as far as it goes beyond the request's size.

use super::attributes::{Attributes, Recorder};
use super::overlay::SPAN_ATTRIBUTES;
use super::validate::{self, Located, MAX_DEPTH, Malformed, Progress};
use super::view::{Resource, Scope, Text};
use super::wire::{FIXED32, FIXED64, Fault, Fields, LEN, Reader};
use crate::otlp::schema;

/// Room is made for so many spans that each has these bytes.
const SPAN_BYTES: usize = 1024;

/// About what processors note of a span beside what they add to it.
const NOTED_BYTES: usize = 64;

/// What a request may come to in memory.
pub(crate) struct Limits<'l> {
    /// Resources, scopes and spans there may be of each.
    pub(crate) entries: usize,
    /// Is told how many bytes are taken beside the request's own, and says whether they can be had.
    pub(crate) room: &'l mut dyn FnMut(usize) -> bool,
}

/// A length-delimited field in the bytes: tag at `field`, payload `body..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) field: u32,
    pub(crate) body: u32,
    pub(crate) end: u32,
}

impl Extent {
    #[inline]
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
    /// Range of its name.
    name: (u32, u32),
    pub(crate) resource: u32,
    pub(crate) first_span: u32,
    pub(crate) end_span: u32,
}

impl ResourceEntry {
    /// The Resource message, if there is one.
    pub(crate) fn message<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        message(bytes, self.resource)
    }
}

impl ScopeEntry {
    /// The InstrumentationScope message, if there is one.
    pub(crate) fn message<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        message(bytes, self.scope)
    }
}

/// A span and the ScopeSpans it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanEntry {
    pub(crate) extent: Extent,
    pub(crate) scope: u32,
    /// Its attributes among those of the chunk: first, and one past the last.
    pub(crate) attributes: (u32, u32),
    /// Where its first attributes stand in a row, as offsets within the payload: what a reader of other fields skips,
    /// and before which there is no attribute.
    pub(crate) row: (u32, u32),
    /// What is asked of most spans.
    pub(crate) head: SpanHead,
}

/// What tells a span apart from others: where its ids are, and when it was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpanHead {
    /// Where the ids begin; 0 where one is absent or empty.
    pub(crate) trace_id: u32,
    pub(crate) span_id: u32,
    pub(crate) parent_span_id: u32,
    pub(crate) start_time_unix_nano: u64,
    pub(crate) end_time_unix_nano: u64,
}

impl SpanHead {
    /// Reads the fields before the attributes if they are there as every encoder writes them: ids, name, kind and
    /// times, with or without a parent; else stays. `base` is where the span's bytes begin.
    #[inline(always)]
    fn usual(reader: &mut Reader<'_>, base: u32) -> Option<Self> {
        let mut ahead = *reader;
        let mut head = Self::default();
        let id = |ahead: &mut Reader<'_>, tag, len| {
            (ahead.field_if(tag)?.len() == len).then(|| base + (ahead.pos() - len) as u32)
        };
        head.trace_id = id(&mut ahead, 0x0a, 16)?;
        head.span_id = id(&mut ahead, 0x12, 8)?;
        if let Some(parent) = ahead.field_if(0x22) {
            head.parent_span_id = if parent.len() == 8 { base + ahead.pos() as u32 - 8 } else { return None };
        }
        if !validate::is_utf8(ahead.field_if(0x2a)?) {
            return None;
        }
        // 30 <kind> 39 <start> 41 <end>
        let [0x30, ..0x80, 0x39] = *ahead.array()? else { return None };
        head.start_time_unix_nano = u64::from_le_bytes(*ahead.array()?);
        let [0x41] = *ahead.array()? else { return None };
        head.end_time_unix_nano = u64::from_le_bytes(*ahead.array()?);
        *reader = ahead;
        Some(head)
    }

    /// Takes an id of this field number and length; of several the last counts. False if no id is so long.
    #[inline]
    fn take_id(&mut self, number: u32, len: usize, start: usize) -> bool {
        let (place, usual) = match number {
            1 => (&mut self.trace_id, 16),
            2 => (&mut self.span_id, 8),
            _ => (&mut self.parent_span_id, 8),
        };
        *place = if len == usual { start as u32 } else { 0 };
        len == usual || len == 0
    }
}

/// Where everything is.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) resources: Vec<ResourceEntry>,
    pub(crate) scopes: Vec<ScopeEntry>,
    pub(crate) spans: Vec<SpanEntry>,
    /// Keys and values; `None` where noting them is not worth it.
    pub(crate) attributes: Option<Attributes>,
}

impl Index {
    /// Validates and indexes the bytes of an ExportTraceServiceRequest in one walk.
    ///
    /// The three levels of containers and the attributes of spans are walked here; everything else is checked by
    /// [`check_field`], so that there is one validator.
    pub(crate) fn build(bytes: &[u8], limits: Limits<'_>) -> Result<Self, Malformed> {
        let spans = Vec::with_capacity(bytes.len() / SPAN_BYTES);
        let mut builder = Builder { index: Self { spans, ..Self::default() }, recorder: Recorder::new(bytes), limits };
        builder.request(bytes).map_err(|located| validate::malformed(&schema::TRACES, bytes, located))?;
        let Builder { mut index, recorder, .. } = builder;
        index.attributes = recorder.finish();
        Ok(index)
    }

    /// The spans of a resource.
    pub(crate) fn spans_of(&self, resource: usize) -> std::ops::Range<usize> {
        let entry = self.resources.get(resource);
        let scopes = entry.map_or(0..0, |r| r.first_scope as usize..r.end_scope as usize);
        let scopes = self.scopes.get(scopes).unwrap_or_default();
        match (scopes.first(), scopes.last()) {
            (Some(first), Some(last)) => first.first_span as usize..last.end_span as usize,
            _ => 0..0,
        }
    }

    pub(crate) fn resource_of<'a>(&self, scope: u32, bytes: &'a [u8]) -> Resource<'a> {
        let entry = self.scopes.get(scope as usize).and_then(|s| self.resources.get(s.resource as usize));
        Resource(entry.map_or(&[], |r| slice(bytes, r.resource)))
    }

    pub(crate) fn scope_name_of<'a>(&self, scope: u32, bytes: &'a [u8]) -> Text<'a> {
        Text(self.scopes.get(scope as usize).map_or(&[], |s| slice(bytes, s.name)))
    }

    /// The bytes of a Resource message; none if it is absent.
    pub(crate) fn resource_message<'a>(&self, resource: usize, bytes: &'a [u8]) -> &'a [u8] {
        self.resources.get(resource).map_or(&[], |r| slice(bytes, r.resource))
    }

    pub(crate) fn scope_of<'a>(&self, scope: u32, bytes: &'a [u8]) -> Scope<'a> {
        Scope(self.scopes.get(scope as usize).map_or(&[], |s| slice(bytes, s.scope)))
    }
}

struct Builder<'b, 'l> {
    index: Index,
    recorder: Recorder<'b>,
    limits: Limits<'l>,
}

/// Whether one more would make a list grow.
fn is_full<T>(list: &Vec<T>) -> bool {
    list.len() == list.capacity()
}

impl<'b> Builder<'b, '_> {
    /// Makes room in the lists that are full, if there may be more and their memory can be had. `at`: whose entry is the
    /// next.
    #[cold]
    fn grow(&mut self, at: Extent) -> Result<(), Located> {
        let Index { resources, scopes, spans, .. } = &mut self.index;
        let fault = |fault| (at.field as usize, fault);
        let wanted = |len: usize, capacity: usize| if len == capacity { (2 * len).max(8) } else { capacity };
        let capacities = [
            wanted(resources.len(), resources.capacity()),
            wanted(scopes.len(), scopes.capacity()),
            wanted(spans.len(), spans.capacity()),
        ];
        if [resources.len(), scopes.len(), spans.len()].iter().any(|len| *len >= self.limits.entries) {
            return Err(fault(Fault::TooMany(self.limits.entries)));
        }
        let sizes = [size_of::<ResourceEntry>(), size_of::<ScopeEntry>(), size_of::<SpanEntry>() + NOTED_BYTES];
        let bytes: usize = capacities.iter().zip(sizes).map(|(capacity, size)| capacity.saturating_mul(size)).sum();
        let beside = bytes.saturating_sub(self.recorder.bytes().len());
        if beside > 0 && !(self.limits.room)(beside) {
            return Err(fault(Fault::NoRoom));
        }
        resources.reserve_exact(capacities[0] - resources.len());
        scopes.reserve_exact(capacities[1] - scopes.len());
        spans.reserve_exact(capacities[2] - spans.len());
        Ok(())
    }

    fn request(&mut self, bytes: &'b [u8]) -> Result<(), Located> {
        walk(&schema::TRACES, bytes, 0, MAX_DEPTH, |number, body, at| match number {
            1 => self.resource_spans(body, at).map(|()| true),
            _ => Ok(false),
        })
    }

    fn resource_spans(&mut self, bytes: &'b [u8], at: Extent) -> Result<(), Located> {
        let resource_id = self.index.resources.len() as u32;
        let first_scope = self.index.scopes.len() as u32;
        let mut resource = (0, 0);
        walk(&schema::RESOURCE_SPANS, bytes, at.body as usize, MAX_DEPTH - 1, |number, body, at| match number {
            2 => self.scope_spans(body, at, resource_id).map(|()| true),
            1 => {
                resource = (at.body, at.end);
                Ok(false)
            }
            _ => Ok(false),
        })?;
        let end_scope = self.index.scopes.len() as u32;
        if is_full(&self.index.resources) {
            self.grow(at)?;
        }
        self.index.resources.push(ResourceEntry { extent: at, resource, first_scope, end_scope });
        Ok(())
    }

    fn scope_spans(&mut self, bytes: &'b [u8], at: Extent, resource: u32) -> Result<(), Located> {
        let scope_id = self.index.scopes.len() as u32;
        let first_span = self.index.spans.len() as u32;
        let mut scope = (0, 0);
        walk(&schema::SCOPE_SPANS, bytes, at.body as usize, MAX_DEPTH - 2, |number, body, at| match number {
            2 => self.span(body, at, scope_id).map(|()| true),
            1 => {
                scope = (at.body, at.end);
                Ok(false)
            }
            _ => Ok(false),
        })?;
        let end_span = self.index.spans.len() as u32;
        let name = Fields::new(slice(self.recorder.bytes(), scope)).filter(|f| f.number == 1).last();
        let name = name.map_or((0, 0), |f| (scope.0 + f.body as u32, scope.0 + f.end as u32));
        if is_full(&self.index.scopes) {
            self.grow(at)?;
        }
        self.index.scopes.push(ScopeEntry { extent: at, scope, name, resource, first_span, end_span });
        Ok(())
    }

    fn span(&mut self, bytes: &'b [u8], at: Extent, scope: u32) -> Result<(), Located> {
        const DEPTH: usize = MAX_DEPTH - 3;
        let base = at.body as usize;
        let first = self.recorder.start_span();
        let mut row = (0, 0);
        let mut reader = Reader::new(bytes);
        let mut head = SpanHead::usual(&mut reader, at.body).unwrap_or_default();
        let mut progress = Progress::default();
        while !reader.is_empty() {
            let start = reader.pos();
            self.recorder.row(&mut reader, base, DEPTH - 1)?;
            if reader.pos() > start {
                // The first row is the only one in what encoders write.
                if row == (0, 0) {
                    row = (start as u32, reader.pos() as u32);
                }
                continue;
            }
            let mut ahead = reader;
            match ahead.tag() {
                // An unusual tag or a long attribute.
                Ok((SPAN_ATTRIBUTES, LEN)) => {
                    let body = ahead.len_delimited().map_err(|fault| (base + start, fault))?;
                    self.recorder.unforeseen(base + start, base + ahead.pos() - body.len(), body, DEPTH - 1)?;
                    reader = ahead;
                    if row == (0, 0) {
                        row = (start as u32, reader.pos() as u32);
                    }
                }
                // What is kept of a span: ids and times, where they do not stand as usual.
                Ok((number @ (1 | 2 | 4), LEN))
                    if let Ok(id) = ahead.len_delimited()
                        && head.take_id(number, id.len(), base + ahead.pos() - id.len()) =>
                {
                    reader = ahead;
                }
                Ok((7, FIXED64)) if let Ok(time) = ahead.fixed64() => {
                    head.start_time_unix_nano = time;
                    reader = ahead;
                }
                Ok((8, FIXED64)) if let Ok(time) = ahead.fixed64() => {
                    head.end_time_unix_nano = time;
                    reader = ahead;
                }
                // A status of a code or nothing.
                Ok((15, LEN))
                    if let Ok([] | [0x18, ..0x80]) = ahead.len_delimited()
                        && progress.is_first(15) =>
                {
                    reader = ahead;
                }
                // Flags.
                Ok((16, FIXED32)) if ahead.skip(4).is_ok() => reader = ahead,
                _ => validate::check_field(&schema::SPAN, &mut reader, &mut progress, DEPTH)
                    .map_err(|(offset, fault)| (base + offset, fault))?,
            }
        }
        let attributes = (first, self.recorder.position());
        if is_full(&self.index.spans) {
            self.grow(at)?;
        }
        self.index.spans.push(SpanEntry { extent: at, scope, attributes, row, head });
        Ok(())
    }
}

/// Walks the fields of a container that begins at `base`. `visit` gets number, payload and place of each that is
/// length-delimited and says whether it has checked the field; the others are checked here.
fn walk<'b>(
    message: &'static schema::Message,
    bytes: &'b [u8],
    base: usize,
    depth: usize,
    mut visit: impl FnMut(u32, &'b [u8], Extent) -> Result<bool, Located>,
) -> Result<(), Located> {
    let mut reader = Reader::new(bytes);
    let mut progress = Progress::default();
    while !reader.is_empty() {
        let start = reader.pos();
        let mut ahead = reader;
        if let Ok((number, LEN)) = ahead.tag()
            && let Ok(body) = ahead.len_delimited()
        {
            let at = extent(base, start, ahead.pos() - body.len(), ahead.pos());
            if visit(number, body, at)? {
                reader = ahead;
                continue;
            }
        }
        validate::check_field(message, &mut reader, &mut progress, depth)
            .map_err(|(offset, fault)| (base + offset, fault))?;
    }
    Ok(())
}

fn extent(base: usize, field: usize, body: usize, end: usize) -> Extent {
    Extent { field: (base + field) as u32, body: (base + body) as u32, end: (base + end) as u32 }
}

/// A message whose payload no message begins with: its tag comes before it.
fn message(bytes: &[u8], range: (u32, u32)) -> Option<&[u8]> {
    (range.0 > 0).then(|| slice(bytes, range))
}

fn slice(bytes: &[u8], (start, end): (u32, u32)) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}
