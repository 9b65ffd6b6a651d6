//! Spans of many requests, in the order they are stored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use foldhash::fast::RandomState;
use weir_pipeline::batch::wire::Fields;
use weir_pipeline::batch::{Batch, ChunkRef, ResourceSpansRef, ScopeSpansRef, Span};

use super::any::{Any, Attribute, text, write_json};
use super::buffers::Values;

/// The environment of spans whose resource names none.
pub const DEFAULT_ENVIRONMENT: &str = "default";
/// Longer names of environments are cut: a name becomes a directory's name, in which each byte may take five.
const ENVIRONMENT_BYTES: usize = 40;

/// Bytes of spans that are columns at one time: so few that the columns are in the second level of the processor's cache
/// still when they are encoded. They are half as large again.
const CACHED_BYTES: usize = 128 << 10;
/// But so many rows, as each column of each part has its price (half a microsecond, and there are a hundred),
const MIN_ROWS: usize = 64;
/// and no more than these,
pub(crate) const MAX_ROWS: usize = 1024;
/// nor more bytes.
const MAX_BYTES: usize = 16 << 20;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

/// The last start of a span that is a timestamp of nanoseconds for everybody: in April 2262.
pub(super) const LAST_START: u64 = i64::MAX as u64;
const MINUTES_PER_DAY: u64 = 24 * 60;

/// Where a row is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The deployment environment.
    pub environment: String,
    /// Days since 1970-01-01 (UTC) at which the span started.
    pub date: i32,
}

/// Spans to store. Nothing is copied but what their resources say.
#[derive(Default)]
pub struct Rows<'a> {
    chunks: Vec<ChunkRef<'a>>,
    pub(super) spans: Vec<Row>,
    pub(super) resources: Vec<ResourceRow<'a>>,
    pub(super) scopes: Vec<ScopeRow<'a>>,
    environments: Vec<String>,
    known: HashMap<Origin<'a>, u32, RandomState>,
}

/// A resource's bytes, schema URL and the environment it is known to be of.
type Origin<'a> = (&'a [u8], &'a [u8], Option<&'a str>);

#[derive(Clone, Copy)]
pub(super) struct Row {
    environment: u32,
    /// Minutes since the epoch at the start.
    minute: u64,
    /// The ids as numbers: their first 16 and 8 bytes, which is all that ids are supposed to have.
    trace: u128,
    start: u64,
    span: u64,
    pub(super) scope: u32,
    /// The span: its chunk, and its number there.
    pub(super) chunk: u32,
    id: u32,
    /// Bytes of its message at most.
    len: u32,
}

/// What a resource puts into each of its rows.
#[derive(Debug, Default)]
pub(super) struct ResourceRow<'a> {
    environment: u32,
    pub(super) service_name: Option<String>,
    /// `None`: there is no resource.
    pub(super) attributes: Option<ResourceAttributes>,
    pub(super) schema_url: &'a str,
    /// The message, where the attributes do not say everything.
    pub(super) otlp: Option<&'a [u8]>,
    /// Length of the message and the schema URL.
    bytes: usize,
}

/// Keys and values in the order they are stored.
#[derive(Debug, Default)]
pub(super) struct ResourceAttributes {
    pub(super) keys: Values,
    pub(super) values: Values,
}

/// What a scope puts into each of its rows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ScopeRow<'a> {
    pub(super) resource: u32,
    /// `None`: there is no scope.
    pub(super) name: Option<&'a str>,
    pub(super) version: &'a str,
    pub(super) schema_url: &'a str,
    /// The message, where name and version do not say everything.
    pub(super) otlp: Option<&'a [u8]>,
    /// Length of the message and the schema URL.
    bytes: usize,
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("spans", &self.spans.len()).finish_non_exhaustive()
    }
}

impl<'a> Rows<'a> {
    /// Adds the spans of a batch of traces. They are of their tenant's environment if that is known, else of that which
    /// their resources name.
    pub fn add(&mut self, batch: &'a Batch) {
        for chunk in batch.chunks() {
            let owner = chunk.tenant().map(|tenant| tenant.environment.as_str());
            let number = self.chunks.len() as u32;
            self.chunks.push(chunk);
            for spans in chunk.resource_spans() {
                self.add_resource(spans, owner, number);
            }
        }
    }

    /// Adds those of a resource that has any: a part of a large request has few of its resources.
    fn add_resource(&mut self, spans: ResourceSpansRef<'a>, owner: Option<&'a str>, chunk: u32) {
        let mut resource = None;
        for scope in spans.scope_spans().filter(|scope| scope.spans().next().is_some()) {
            let resource = *resource.get_or_insert_with(|| self.resource(spans.resource(), spans.schema_url(), owner));
            self.add_scope(scope, resource, chunk);
        }
    }

    fn add_scope(&mut self, spans: ScopeSpansRef<'a>, resource: u32, chunk: u32) {
        let scope = self.scopes.len() as u32;
        let environment = self.resources.get(resource as usize).map_or(0, |r| r.environment);
        self.spans.extend(spans.spans().map(|(id, span)| Row {
            environment,
            scope,
            chunk,
            id: id as u32,
            ..Row::new(span)
        }));
        let schema_url = spans.schema_url();
        let mut row =
            ScopeRow { resource, schema_url: text(schema_url), bytes: schema_url.len(), ..ScopeRow::default() };
        if let Some(message) = spans.scope() {
            row.bytes += message.len();
            let (name, version, exact) = read_scope(message);
            row.name = Some(name);
            row.version = version;
            row.otlp = (!exact).then_some(message);
        }
        self.scopes.push(row);
    }

    fn resource(&mut self, resource: Option<&'a [u8]>, schema_url: &'a [u8], owner: Option<&'a str>) -> u32 {
        let id = self.resources.len() as u32;
        if let Some(bytes) = resource {
            let known = *self.known.entry((bytes, schema_url, owner)).or_insert(id);
            if known != id {
                return known;
            }
        }
        let bytes = resource.map_or(0, <[u8]>::len) + schema_url.len();
        let mut row = ResourceRow { schema_url: text(schema_url), bytes, ..ResourceRow::default() };
        if let Some(bytes) = resource {
            let (attributes, exact) = read_resource(bytes);
            let find = |key: &str| attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            row.service_name = find("service.name").map(str::to_owned);
            let named = || find("deployment.environment.name").or_else(|| find("deployment.environment"));
            let named = || named().filter(|name| !name.trim().is_empty());
            row.environment = self.environment(owner.or_else(named));
            let mut lists = ResourceAttributes::default();
            for (key, value) in &attributes {
                lists.keys.push(key.as_bytes());
                lists.values.push(value.as_bytes());
            }
            row.attributes = Some(lists);
            row.otlp = (!exact).then_some(bytes);
        } else {
            row.environment = self.environment(owner);
        }
        self.resources.push(row);
        id
    }

    fn environment(&mut self, name: Option<&str>) -> u32 {
        let name = environment_name(name.unwrap_or(DEFAULT_ENVIRONMENT));
        let known = self.environments.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.environments.push(name);
            self.environments.len() - 1
        }) as u32
    }

    /// Number of spans.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no span.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Brings the spans into the table's order: partition, then minute of the start, trace, start, span. Within a minute
    /// the spans of a trace are neighbours, which is how they are read and compress best.
    pub fn sort(&mut self) {
        self.spans.sort_unstable_by_key(|row| (row.environment, row.minute, row.trace, row.start, row.span));
    }

    /// The partitions in order with their rows. The rows must be [sorted](Self::sort).
    pub fn partitions(&self) -> Vec<(Partition, Range<usize>)> {
        let mut start = 0;
        let groups = self.spans.chunk_by(|a, b| (a.environment, a.date()) == (b.environment, b.date()));
        let partition = |rows: &[Row]| {
            let range = start..start + rows.len();
            start = range.end;
            let first = rows.first()?;
            let environment = self.environments.get(first.environment as usize)?.clone();
            Some((Partition { environment, date: first.date() }, range))
        };
        groups.filter_map(partition).collect()
    }

    /// The span of a row and its chunk.
    #[inline]
    pub(super) fn span(&self, row: &Row) -> Option<(ChunkRef<'a>, Span<'a>)> {
        let chunk = *self.chunks.get(row.chunk as usize)?;
        Some((chunk, chunk.span(row.id as usize)?))
    }

    /// Bytes of the rows in a range at most: of the spans, and of their resources and scopes, of which each row has a copy.
    pub(super) fn bytes(&self, range: Range<usize>) -> usize {
        let container = |row: &Row| {
            let scope = self.scopes.get(row.scope as usize)?;
            Some(scope.bytes + self.resources.get(scope.resource as usize)?.bytes)
        };
        let rows = self.spans.get(range).unwrap_or_default();
        rows.iter().map(|row| row.len as usize + container(row).unwrap_or_default()).sum()
    }

    /// Cuts a range into parts that are columns at one time.
    pub fn parts(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let (mut start, mut size) = (range.start, 0);
        for at in range.clone() {
            let row = self.bytes(at..at + 1);
            let (rows, bytes) = (at - start, size + row);
            let is_full = rows >= MAX_ROWS || rows >= MIN_ROWS && bytes > CACHED_BYTES || bytes > MAX_BYTES;
            if rows > 0 && is_full {
                parts.push(start..at);
                (start, size) = (at, 0);
            }
            size += row;
        }
        if start < range.end {
            parts.push(start..range.end);
        }
        parts
    }

    pub(super) fn environment_of(&self, row: &Row) -> &str {
        self.environments.get(row.environment as usize).map_or(DEFAULT_ENVIRONMENT, String::as_str)
    }
}

impl Row {
    fn new(span: Span<'_>) -> Self {
        let (trace, id) = match (span.trace_id(), span.span_id()) {
            (Some(trace), Some(id)) => (*trace, *id),
            _ => {
                let fields = span.fields();
                (prefix(fields.trace_id), prefix(fields.span_id))
            }
        };
        let start = span.start_time_unix_nano().min(LAST_START);
        Self {
            environment: 0,
            minute: start / NANOS_PER_MINUTE,
            trace: u128::from_be_bytes(trace),
            start,
            span: u64::from_be_bytes(id),
            scope: 0,
            chunk: 0,
            id: 0,
            len: u32::try_from(span.max_len()).unwrap_or(u32::MAX),
        }
    }

    /// Days since 1970-01-01: at most 106,751, in the year 2262.
    pub(super) fn date(&self) -> i32 {
        (self.minute / MINUTES_PER_DAY) as i32
    }
}

/// The first bytes, with zeros behind a shorter id.
fn prefix<const N: usize>(id: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(id).for_each(|(byte, from)| *byte = *from);
    bytes
}

/// The last value of each key as text, in order of the keys' first occurrence; and whether that is all there is.
fn read_resource(resource: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    let mut exact = true;
    for field in Fields::new(resource) {
        if field.number != 1 {
            exact = false;
            continue;
        }
        let attribute = Attribute::read(field.bytes);
        let value = match attribute.value {
            Any::Str(s) => text(s).to_owned(),
            other => {
                exact = false;
                let mut json = Vec::new();
                write_json(&mut json, other);
                text(&json).to_owned()
            }
        };
        exact &= attribute.exact;
        match known.entry(attribute.key) {
            Entry::Occupied(at) => {
                exact = false;
                if let Some((_, known)) = attributes.get_mut(*at.get()) {
                    *known = value;
                }
            }
            Entry::Vacant(new) => {
                new.insert(attributes.len());
                attributes.push((text(attribute.key).to_owned(), value));
            }
        }
    }
    (attributes, exact)
}

fn read_scope(scope: &[u8]) -> (&str, &str, bool) {
    let (mut name, mut version, mut exact) = ("", "", true);
    for field in Fields::new(scope) {
        match field.number {
            1 => name = text(field.bytes),
            2 => version = text(field.bytes),
            _ => exact = false,
        }
    }
    (name, version, exact)
}

/// A name that fits into a path: control characters become `_`, what is too long is cut.
fn environment_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len().min(ENVIRONMENT_BYTES));
    for c in name.trim().chars() {
        if out.len() + c.len_utf8() > ENVIRONMENT_BYTES {
            break;
        }
        out.push(if c.is_control() { '_' } else { c });
    }
    out
}
