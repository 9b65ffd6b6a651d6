//! From rows back to OTLP.
//!
//! The spans that come out equal the ones that went in, but for the order of their attributes and of the spans
//! themselves: spans of one resource and scope are gathered. See [`crate::schema`] for how the columns express them.

mod json;

use std::collections::{HashMap, HashSet};
use std::fmt;

use deltalake::arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Int16Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray,
};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int16Type, Int32Type, Int64Type};
use deltalake::arrow::datatypes::{DataType, TimestampMicrosecondType};
use weir_pipeline::batch::wire::{FIXED32, FIXED64, Fields, put_bytes, put_tag, put_uint};

use self::json::{any_of_json, put_attributes, take_apart};
use crate::StoreError;
use crate::convert::content::{Source, source_named};
use crate::convert::{ASSOCIATION, KINDS, STATUSES};
use crate::schema;

/// Encodes rows as one `ExportTraceServiceRequest`. Columns may have any type that casts to the table's own, as queries
/// return them.
///
/// # Errors
/// If a column is missing, or holds what [`crate::convert`] does not write.
pub fn request(rows: &RecordBatch) -> Result<Vec<u8>, StoreError> {
    let rows = Rows::new(rows)?;
    let mut resources: Vec<(Header, Vec<(Header, Spans)>)> = Vec::new();
    let mut known: HashMap<Header, usize> = HashMap::new();
    for row in 0..rows.len {
        let resource = (rows.resource(row), rows.resource_schema_url.value_or_empty(row).to_owned());
        let scope = (rows.scope(row), rows.scope_schema_url.value_or_empty(row).to_owned());
        let at = *known.entry(resource.clone()).or_insert_with(|| {
            resources.push((resource, Vec::new()));
            resources.len() - 1
        });
        let Some((_, scopes)) = resources.get_mut(at) else { continue };
        let span = rows.span(row)?;
        match scopes.iter_mut().find(|(header, _)| *header == scope) {
            Some((_, spans)) => put_bytes(spans, 2, &span),
            None => {
                let mut spans = Vec::new();
                put_bytes(&mut spans, 2, &span);
                scopes.push((scope, spans));
            }
        }
    }
    let mut out = Vec::new();
    for ((resource, schema_url), scopes) in resources {
        let mut resource_spans = resource.unwrap_or_default();
        for ((scope, schema_url), spans) in scopes {
            let mut scope_spans = scope.unwrap_or_default();
            scope_spans.extend(spans);
            put_text(&mut scope_spans, 3, &schema_url);
            put_bytes(&mut resource_spans, 2, &scope_spans);
        }
        put_text(&mut resource_spans, 3, &schema_url);
        put_bytes(&mut out, 1, &resource_spans);
    }
    Ok(out)
}

/// Encodes rows as one `ExportTraceServiceRequest` whose spans are in the order of the rows, each in a `ResourceSpans` of
/// its own.
///
/// # Errors
/// As [`request`].
pub fn request_in_order(rows: &RecordBatch) -> Result<Vec<u8>, StoreError> {
    let rows = Rows::new(rows)?;
    let mut out = Vec::new();
    for row in 0..rows.len {
        let mut scope_spans = rows.scope(row).unwrap_or_default();
        put_bytes(&mut scope_spans, 2, &rows.span(row)?);
        put_text(&mut scope_spans, 3, rows.scope_schema_url.value_or_empty(row));
        let mut resource_spans = rows.resource(row).unwrap_or_default();
        put_bytes(&mut resource_spans, 2, &scope_spans);
        put_text(&mut resource_spans, 3, rows.resource_schema_url.value_or_empty(row));
        put_bytes(&mut out, 1, &resource_spans);
    }
    Ok(out)
}

/// A resource or scope as a field, if there is one, and the schema URL.
type Header = (Option<Vec<u8>>, String);
/// Encoded fields of a `ScopeSpans`.
type Spans = Vec<u8>;

/// The columns a span is rebuilt from.
struct Rows {
    len: usize,
    trace_id: StringArray,
    span_id: StringArray,
    parent_span_id: StringArray,
    start_time: deltalake::arrow::array::TimestampMicrosecondArray,
    start_nanos: Int16Array,
    duration_ns: Int64Array,
    name: StringArray,
    kind: StringArray,
    status: StringArray,
    status_message: StringArray,
    has_status: BooleanArray,
    trace_state: StringArray,
    scope_name: StringArray,
    scope_version: StringArray,
    resource_schema_url: StringArray,
    scope_schema_url: StringArray,
    association_properties: MapArray,
    attributes_string: MapArray,
    attributes_int: MapArray,
    attributes_double: MapArray,
    attributes_bool: MapArray,
    attributes_json: MapArray,
    resource_attributes: MapArray,
    events: ListArray,
    links: ListArray,
    counts: [(u32, Int32Array); 3],
    flags: Int32Array,
    content: [(StringArray, StringArray); 3],
    rest: BinaryArray,
    otlp_resource: BinaryArray,
    otlp_scope: BinaryArray,
}

impl Rows {
    fn new(batch: &RecordBatch) -> Result<Self, StoreError> {
        let text = |name| column(batch, name).map(|array| array.as_string::<i32>().clone());
        let map = |name| column(batch, name).map(|array| array.as_map().clone());
        let binary = |name| column(batch, name).map(|array| array.as_binary::<i32>().clone());
        Ok(Self {
            len: batch.num_rows(),
            trace_id: text("trace_id")?,
            span_id: text("span_id")?,
            parent_span_id: text("parent_span_id")?,
            start_time: column(batch, "start_time")?.as_primitive::<TimestampMicrosecondType>().clone(),
            start_nanos: column(batch, "start_nanos")?.as_primitive::<Int16Type>().clone(),
            duration_ns: column(batch, "duration_ns")?.as_primitive::<Int64Type>().clone(),
            name: text("name")?,
            kind: text("kind")?,
            status: text("status")?,
            status_message: text("status_message")?,
            has_status: column(batch, "has_status")?.as_boolean().clone(),
            trace_state: text("trace_state")?,
            scope_name: text("scope_name")?,
            scope_version: text("scope_version")?,
            resource_schema_url: text("resource_schema_url")?,
            scope_schema_url: text("scope_schema_url")?,
            association_properties: map("association_properties")?,
            attributes_string: map("attributes_string")?,
            attributes_int: map("attributes_int")?,
            attributes_double: map("attributes_double")?,
            attributes_bool: map("attributes_bool")?,
            attributes_json: map("attributes_json")?,
            resource_attributes: map("resource_attributes")?,
            events: column(batch, "events")?.as_list::<i32>().clone(),
            links: column(batch, "links")?.as_list::<i32>().clone(),
            counts: [
                (10, column(batch, "dropped_attributes")?.as_primitive::<Int32Type>().clone()),
                (12, column(batch, "dropped_events")?.as_primitive::<Int32Type>().clone()),
                (14, column(batch, "dropped_links")?.as_primitive::<Int32Type>().clone()),
            ],
            flags: column(batch, "flags")?.as_primitive::<Int32Type>().clone(),
            content: [
                (text("input")?, text("input_key")?),
                (text("output")?, text("output_key")?),
                (text("tool_definitions")?, text("tool_definitions_key")?),
            ],
            rest: binary("otlp_rest")?,
            otlp_resource: binary("otlp_resource")?,
            otlp_scope: binary("otlp_scope")?,
        })
    }

    /// The `Resource` as field 1.
    fn resource(&self, row: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if self.otlp_resource.is_valid(row) {
            put_bytes(&mut out, 1, self.otlp_resource.value(row));
            return Some(out);
        }
        if self.resource_attributes.is_null(row) {
            return None;
        }
        let mut resource = Vec::new();
        let entries = self.resource_attributes.value(row);
        for (key, at) in keys(&entries) {
            put_attribute(&mut resource, 1, key, |any| put_bytes(any, 1, map_text(&entries, at).as_bytes()));
        }
        put_bytes(&mut out, 1, &resource);
        Some(out)
    }

    /// The `InstrumentationScope` as field 1.
    fn scope(&self, row: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if self.otlp_scope.is_valid(row) {
            put_bytes(&mut out, 1, self.otlp_scope.value(row));
            return Some(out);
        }
        if self.scope_name.is_null(row) {
            return None;
        }
        let mut scope = Vec::new();
        put_text(&mut scope, 1, self.scope_name.value(row));
        put_text(&mut scope, 2, self.scope_version.value_or_empty(row));
        put_bytes(&mut out, 1, &scope);
        Some(out)
    }

    fn span(&self, row: usize) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        let rest = if self.rest.is_valid(row) { self.rest.value(row) } else { &[] };
        // What `otlp_rest` says of a field or an attribute's key, it says completely.
        let told: HashSet<u32> = Fields::new(rest).map(|f| f.number).collect();
        let told_keys: HashSet<&[u8]> = Fields::new(rest).filter(|f| f.number == 9).map(|f| key_of(f.bytes)).collect();

        put_nonempty(&mut out, 1, &unhex("trace_id", self.trace_id.value(row))?);
        put_nonempty(&mut out, 2, &unhex("span_id", self.span_id.value(row))?);
        put_text(&mut out, 3, self.trace_state.value_or_empty(row));
        put_nonempty(&mut out, 4, &unhex("parent_span_id", self.parent_span_id.value_or_empty(row))?);
        put_text(&mut out, 5, self.name.value(row));
        put_nonzero(&mut out, 6, i64::from(number("kind", KINDS, self.kind.value(row))?) as u64);
        let start = self.start_time.value(row) as u64 * 1000 + self.start_nanos.value(row) as u64;
        if !told.contains(&7) {
            put_fixed64(&mut out, 7, start);
        }
        if !told.contains(&8) {
            put_fixed64(&mut out, 8, start.wrapping_add_signed(self.duration_ns.value(row)));
        }
        self.attributes(row, &told_keys, &mut out)?;
        for (field, counts) in &self.counts {
            if !told.contains(field) {
                put_nonzero(&mut out, *field, counts.value(row) as u64);
            }
        }
        if !told.contains(&11) {
            put_events(&self.events.value(row), &mut out)?;
        }
        if !told.contains(&13) {
            put_links(&self.links.value(row), &mut out)?;
        }
        if self.has_status.value(row) && !told.contains(&15) {
            let mut status = Vec::new();
            put_text(&mut status, 2, self.status_message.value_or_empty(row));
            put_nonzero(&mut status, 3, i64::from(number("status", STATUSES, self.status.value(row))?) as u64);
            put_bytes(&mut out, 15, &status);
        }
        if !told.contains(&16) {
            put_fixed32(&mut out, 16, self.flags.value(row) as u32);
        }
        out.extend_from_slice(rest);
        Ok(out)
    }

    fn attributes(&self, row: usize, told: &HashSet<&[u8]>, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let mut put = |key: &str, value: &mut dyn FnMut(&mut Vec<u8>)| {
            if !told.contains(key.as_bytes()) {
                put_attribute(out, 9, key, value);
            }
        };
        let strings = self.attributes_string.value(row);
        for (key, at) in keys(&strings) {
            put(key, &mut |any| put_bytes(any, 1, map_text(&strings, at).as_bytes()));
        }
        let mut typed: HashSet<String> = HashSet::new();
        let integers = self.attributes_int.value(row);
        for (key, at) in keys(&integers) {
            typed.insert(key.to_owned());
            put(key, &mut |any| put_uint(any, 3, primitive::<Int64Type>(&integers, 1, at) as u64));
        }
        let doubles = self.attributes_double.value(row);
        for (key, at) in keys(&doubles) {
            typed.insert(key.to_owned());
            put(key, &mut |any| {
                put_tag(any, 4, FIXED64);
                any.extend_from_slice(&primitive::<Float64Type>(&doubles, 1, at).to_le_bytes());
            });
        }
        let booleans = self.attributes_bool.value(row);
        for (key, at) in keys(&booleans) {
            typed.insert(key.to_owned());
            let value = booleans.column(1).as_boolean().value(at);
            put(key, &mut |any| put_uint(any, 2, u64::from(value)));
        }
        let others = self.attributes_json.value(row);
        for (key, at) in keys(&others) {
            typed.insert(key.to_owned());
            if told.contains(key.as_bytes()) {
                // Its JSON is for reading only.
                continue;
            }
            let value = any_of_json(map_text(&others, at)).map_err(wrong("attributes_json"))?;
            put(key, &mut |any| any.extend_from_slice(&value));
        }
        let properties = self.association_properties.value(row);
        for (property, at) in keys(&properties) {
            let key = format!("{ASSOCIATION}{property}");
            if !typed.contains(&key) {
                put(&key, &mut |any| put_bytes(any, 1, map_text(&properties, at).as_bytes()));
            }
        }
        for (text, key) in self.content.iter().filter(|(_, key)| key.is_valid(row)) {
            let unknown = || wrong("input_key")("the name of no source of content");
            match source_named(key.value(row)).ok_or_else(unknown)? {
                (Source::Text(key), _) => put(key, &mut |any| put_bytes(any, 1, text.value(row).as_bytes())),
                (Source::Family(prefix, second), stripped) => {
                    let second = second.filter(|_| stripped);
                    let mut leaves = Vec::new();
                    take_apart(text.value(row), prefix, second, &mut leaves).map_err(wrong("input"))?;
                    for (key, value) in leaves {
                        put(&key, &mut |any| any.extend_from_slice(&value));
                    }
                }
            }
        }
        Ok(())
    }
}

fn put_events(events: &dyn Array, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let events = events.as_struct();
    for at in 0..events.len() {
        let mut event = Vec::new();
        let micros = primitive::<TimestampMicrosecondType>(events, 0, at) as u64;
        put_fixed64(&mut event, 1, micros * 1000 + primitive::<Int16Type>(events, 1, at) as u64);
        put_text(&mut event, 2, events.column(2).as_string::<i32>().value(at));
        put_attributes(&mut event, 3, events.column(3).as_string::<i32>().value_or_empty(at))
            .map_err(wrong("events"))?;
        put_nonzero(&mut event, 4, primitive::<Int32Type>(events, 4, at) as u64);
        put_bytes(out, 11, &event);
    }
    Ok(())
}

fn put_links(links: &dyn Array, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let links = links.as_struct();
    let text = |column: usize, at| links.column(column).as_string::<i32>().value_or_empty(at);
    for at in 0..links.len() {
        let mut link = Vec::new();
        put_nonempty(&mut link, 1, &unhex("links", text(0, at))?);
        put_nonempty(&mut link, 2, &unhex("links", text(1, at))?);
        put_text(&mut link, 3, text(2, at));
        put_attributes(&mut link, 4, text(3, at)).map_err(wrong("links"))?;
        put_nonzero(&mut link, 5, primitive::<Int32Type>(links, 4, at) as u64);
        put_fixed32(&mut link, 6, primitive::<Int32Type>(links, 5, at) as u32);
        put_bytes(out, 13, &link);
    }
    Ok(())
}

// === Columns ===

/// A column of the table with the table's type.
fn column(batch: &RecordBatch, name: &'static str) -> Result<deltalake::arrow::array::ArrayRef, StoreError> {
    let missing = |message: &str| StoreError::Column { column: name, message: message.to_owned() };
    let array = batch.column_by_name(name).ok_or_else(|| missing("it is not among the columns"))?;
    let schema = schema::spans();
    let want: &DataType = schema.field_with_name(name)?.data_type();
    Ok(if array.data_type() == want { array.clone() } else { cast(array, want)? })
}

trait OrEmpty {
    fn value_or_empty(&self, row: usize) -> &str;
}

impl OrEmpty for StringArray {
    fn value_or_empty(&self, row: usize) -> &str {
        if self.is_valid(row) { self.value(row) } else { "" }
    }
}

/// The keys of one row's map.
fn keys(entries: &StructArray) -> impl Iterator<Item = (&str, usize)> {
    let keys = entries.column(0).as_string::<i32>();
    (0..entries.len()).map(|at| (keys.value(at), at))
}

fn map_text(entries: &StructArray, at: usize) -> &str {
    entries.column(1).as_string::<i32>().value_or_empty(at)
}

fn primitive<T: ArrowPrimitiveType>(entries: &StructArray, column: usize, at: usize) -> T::Native {
    entries.column(column).as_primitive::<T>().value(at)
}

fn wrong<E: fmt::Display>(column: &'static str) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Column { column, message: error.to_string() }
}

fn number(column: &'static str, names: &[&str], name: &str) -> Result<i32, StoreError> {
    match names.iter().position(|known| *known == name) {
        Some(number) => Ok(number as i32),
        None => name.parse().map_err(wrong(column)),
    }
}

fn unhex(column: &'static str, hex: &str) -> Result<Vec<u8>, StoreError> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|d| d as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| wrong(column)("not hexadecimal"))
}

fn key_of(key_value: &[u8]) -> &[u8] {
    Fields::new(key_value).filter(|f| f.number == 1).last().map_or(&[], |f| f.bytes)
}

// === Protobuf, where zero and empty are not written ===

fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    let mut any = Vec::new();
    value(&mut any);
    let mut key_value = Vec::with_capacity(key.len() + any.len() + 12);
    put_text(&mut key_value, 1, key);
    put_bytes(&mut key_value, 2, &any);
    put_bytes(out, number, &key_value);
}

fn put_double(out: &mut Vec<u8>, value: f64) {
    put_tag(out, 4, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    put_nonempty(out, number, text.as_bytes());
}

fn put_nonempty(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, number, bytes);
    }
}

fn put_nonzero(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_uint(out, number, value);
    }
}

fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_tag(out, number, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    if value != 0 {
        put_tag(out, number, FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
