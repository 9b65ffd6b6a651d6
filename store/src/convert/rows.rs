//! Spans of many requests, in the order they are stored.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;
use weir_pipeline::batch::view::SpanFields;
use weir_pipeline::batch::wire::Fields;

use super::any::{Any, Attribute, text, write_json};
use super::buffers::Values;

/// The environment of spans whose resource names none.
pub const DEFAULT_ENVIRONMENT: &str = "default";
/// Longer names of environments are cut: a name becomes a directory's name, in which each byte may take five.
const ENVIRONMENT_BYTES: usize = 40;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;
const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// Where a row is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The deployment environment.
    pub environment: String,
    /// Days since 1970-01-01 (UTC) at which the span started.
    pub date: i32,
}

/// Spans to store. Nothing is copied but what their resources say.
#[derive(Debug, Default)]
pub struct Rows<'a> {
    pub(super) spans: Vec<Row<'a>>,
    pub(super) resources: Vec<ResourceRow<'a>>,
    pub(super) scopes: Vec<ScopeRow<'a>>,
    environments: Vec<String>,
    known: HashMap<Origin<'a>, u32, RandomState>,
}

/// A resource's bytes, schema URL and the environment it is known to be of.
type Origin<'a> = (&'a [u8], &'a [u8], Option<&'a str>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    environment: u32,
    date: u32,
    minute: u64,
    /// The first eight bytes of the trace id, which tell most traces apart without a look at the span.
    trace: u64,
    trace_id: &'a [u8],
    start: u64,
    span_id: &'a [u8],
    /// The span's message.
    pub(super) span: &'a [u8],
    pub(super) scope: u32,
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
#[derive(Debug, Default)]
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

impl<'a> Rows<'a> {
    /// Adds the spans of a validated `ExportTraceServiceRequest`. They are of the `owner`'s environment if one is given,
    /// else of that which their resources name.
    pub fn add(&mut self, request: &'a [u8], owner: Option<&'a str>) {
        for resource_spans in Fields::new(request).filter(|f| f.number == 1) {
            let (mut resource, mut schema_url): (Option<&[u8]>, &[u8]) = (None, &[]);
            for field in Fields::new(resource_spans.bytes) {
                match field.number {
                    1 => resource = Some(field.bytes),
                    3 => schema_url = field.bytes,
                    _ => {}
                }
            }
            let resource = self.resource(resource, schema_url, owner);
            for scope_spans in Fields::new(resource_spans.bytes).filter(|f| f.number == 2) {
                self.add_scope(scope_spans.bytes, resource);
            }
        }
    }

    fn add_scope(&mut self, scope_spans: &'a [u8], resource: u32) {
        let id = self.scopes.len() as u32;
        let environment = self.resources.get(resource as usize).map_or(0, |r| r.environment);
        let mut scope = ScopeRow { resource, ..ScopeRow::default() };
        for field in Fields::new(scope_spans) {
            match field.number {
                1 => {
                    scope.bytes += field.bytes.len();
                    let (name, version, exact) = read_scope(field.bytes);
                    scope.name = Some(name);
                    scope.version = version;
                    scope.otlp = (!exact).then_some(field.bytes);
                }
                2 => self.spans.push(Row::new(field.bytes, environment, id)),
                3 => {
                    scope.bytes += field.bytes.len();
                    scope.schema_url = text(field.bytes);
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
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
        self.spans.sort_unstable_by(Row::compare);
    }

    /// The partitions in order with their rows. The rows must be [sorted](Self::sort).
    pub fn partitions(&self) -> Vec<(Partition, Range<usize>)> {
        let mut start = 0;
        let groups = self.spans.chunk_by(|a, b| (a.environment, a.date) == (b.environment, b.date));
        let partition = |rows: &[Row<'a>]| {
            let range = start..start + rows.len();
            start = range.end;
            let first = rows.first()?;
            let environment = self.environments.get(first.environment as usize)?.clone();
            Some((Partition { environment, date: first.date as i32 }, range))
        };
        groups.filter_map(partition).collect()
    }

    /// Bytes of the rows in a range: of the spans, and of their resources and scopes, which each row has a copy of.
    pub(super) fn bytes(&self, range: Range<usize>) -> usize {
        let container = |row: &Row<'_>| {
            let scope = self.scopes.get(row.scope as usize)?;
            Some(scope.bytes + self.resources.get(scope.resource as usize)?.bytes)
        };
        let rows = self.spans.get(range).unwrap_or_default();
        rows.iter().map(|row| row.span.len() + container(row).unwrap_or_default()).sum()
    }

    /// Cuts a range into parts of at most `rows` rows and about `bytes` bytes.
    pub fn chunks(&self, range: Range<usize>, rows: usize, bytes: usize) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut size) = (range.start, 0);
        for at in range.clone() {
            let span = self.bytes(at..at + 1);
            if at > start && (at - start >= rows || size + span > bytes) {
                chunks.push(start..at);
                (start, size) = (at, 0);
            }
            size += span;
        }
        if start < range.end {
            chunks.push(start..range.end);
        }
        chunks
    }

    pub(super) fn environment_of(&self, row: &Row<'a>) -> &str {
        self.environments.get(row.environment as usize).map_or(DEFAULT_ENVIRONMENT, String::as_str)
    }
}

impl<'a> Row<'a> {
    fn new(span: &'a [u8], environment: u32, scope: u32) -> Self {
        let fields = SpanFields::parse(span);
        let start = fields.start_time_unix_nano;
        Self {
            environment,
            // At most 213,503: the year 2554.
            date: (start / NANOS_PER_DAY) as u32,
            minute: start / NANOS_PER_MINUTE,
            trace: prefix(fields.trace_id),
            trace_id: fields.trace_id,
            start,
            span_id: fields.span_id,
            span,
            scope,
        }
    }

    /// The order of the prefixes is that of the ids as far as it goes.
    fn compare(&self, other: &Self) -> Ordering {
        let coarse = |row: &Self| (row.environment, row.date, row.minute, row.trace);
        let fine = |row: &Self| (row.trace_id, row.start, row.span_id);
        coarse(self).cmp(&coarse(other)).then_with(|| fine(self).cmp(&fine(other)))
    }

    pub(super) fn date(&self) -> i32 {
        self.date as i32
    }
}

/// The first eight bytes as a number, with zeros behind a shorter id.
fn prefix(id: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(id).for_each(|(byte, from)| *byte = *from);
    u64::from_be_bytes(bytes)
}

/// The last value of each key as text, in order of the keys' first occurrence; and whether that is all there is.
fn read_resource(resource: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut attributes: Vec<(String, String)> = Vec::new();
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
        let key = text(attribute.key);
        match attributes.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => {
                exact = false;
                *known = value;
            }
            None => attributes.push((key.to_owned(), value)),
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
