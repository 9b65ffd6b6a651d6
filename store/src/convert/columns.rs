//! One column per field of the table, and the columns inside those that are maps and lists.

use std::sync::Arc;

use deltalake::arrow::array::{ArrayRef, ListArray, MapArray, RecordBatch, StructArray};
use deltalake::arrow::buffer::OffsetBuffer;
use deltalake::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use deltalake::arrow::error::ArrowError;
use weir_pipeline::batch::wire::Fields as WireFields;
use weir_pipeline::hex;

use super::any::write_object;
use super::buffers::{Binaries, Bools, Build, Numbers, Texts, Validity, Values};
use super::keys::Place;
use crate::schema;

/// A column of maps from text.
///
/// Neighbours mostly have the same keys in the same order, so the keys of a row are compared with those of the row before
/// and copied from there in one piece as far as they agree.
pub(super) struct Map<V> {
    keys: Texts,
    pub(super) values: V,
    offsets: Vec<i32>,
    absent: Validity,
    entries: Fields,
    /// What is known of the last row's keys, and the number of the first.
    last: Vec<Place>,
    last_start: usize,
    /// How many keys of this row are those of the last row; `None` once one was not.
    same: Option<usize>,
}

impl<V> Map<V> {
    /// Appends a key; its value is up to the caller.
    #[inline]
    pub(super) fn key(&mut self, place: Place, key: &[u8]) {
        if let Some(same) = &mut self.same {
            if place.is_known() && self.last.get(*same) == Some(&place) {
                *same += 1;
                return;
            }
            self.part();
        }
        self.keys.push(key);
        self.last.push(place);
    }

    /// Writes the keys that are those of the last row.
    fn part(&mut self) {
        if let Some(same) = self.same.take() {
            let start = self.keys.len();
            self.keys.repeat(self.last_start..self.last_start + same);
            self.last.truncate(same);
            self.last_start = start;
        }
    }

    /// Appends all entries of a list.
    pub(super) fn push_all(&mut self, keys: &Values, values: &Values)
    where
        V: AsMut<Texts>,
    {
        self.part();
        self.last.clear();
        self.keys.push_all(keys);
        self.values.as_mut().push_all(values);
    }

    /// Ends a row's map, or says that it has none.
    #[inline]
    pub(super) fn end(&mut self, present: bool) {
        // A row without keys leaves the last ones to the next.
        if self.same != Some(0) {
            self.part();
        }
        self.same = Some(0);
        if present {
            self.absent.value();
        } else {
            self.absent.nulls(self.offsets.len().saturating_sub(1), 1);
        }
        self.offsets.push(i32::try_from(self.keys.len()).unwrap_or(i32::MAX));
    }
}

impl<V: Build> Build for Map<V> {
    fn start(kind: &DataType) -> Self {
        let entries = match kind {
            DataType::Map(entry, _) => match entry.data_type() {
                DataType::Struct(fields) => fields.clone(),
                _ => Fields::empty(),
            },
            _ => Fields::empty(),
        };
        let kind = |at: usize| entries.get(at).map_or(&DataType::Null, |field| field.data_type());
        Self {
            keys: Build::start(kind(0)),
            values: Build::start(kind(1)),
            offsets: vec![0],
            absent: Validity::default(),
            last: Vec::new(),
            last_start: 0,
            same: Some(0),
            entries: entries.clone(),
        }
    }

    fn array(&mut self, _: usize) -> Result<ArrayRef, ArrowError> {
        let entries = self.keys.len();
        let columns = vec![self.keys.array(entries)?, self.values.array(entries)?];
        let offsets = std::mem::take(&mut self.offsets);
        self.offsets.reserve(offsets.len());
        self.offsets.push(0);
        self.last.clear();
        self.last_start = 0;
        let entries = StructArray::try_new(self.entries.clone(), columns, None)?;
        let entry = Arc::new(Field::new_struct(schema::ENTRIES, self.entries.clone(), false));
        let nulls = self.absent.finish();
        Ok(Arc::new(MapArray::try_new(entry, OffsetBuffer::new(offsets.into()), entries, nulls, false)?))
    }
}

macro_rules! columns {
    ($($name:ident: $column:ty),* $(,)?) => {
        /// The table's columns, in its order.
        pub(super) struct Columns {
            $(pub(super) $name: $column,)*
        }

        impl Columns {
            #[cfg(test)]
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

            pub(super) fn new() -> Self {
                let schema = schema::spans();
                let mut fields = schema.fields().iter();
                // Both list the columns in one order, which a test asserts.
                let mut kind = || fields.next().map_or(&DataType::Null, |field| field.data_type());
                Self { $($name: <$column as Build>::start(kind()),)* }
            }

            /// The rows so far, `rows` in number; the columns start anew.
            pub(super) fn finish(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
                RecordBatch::try_new(schema::spans(), vec![$(self.$name.array(rows)?),*])
            }
        }
    };
}

columns! {
    environment: Texts,
    date: Numbers<Date32Type>,
    trace_id: Texts,
    span_id: Texts,
    parent_span_id: Texts,
    start_time: Numbers<TimestampMicrosecondType>,
    start_nanos: Numbers<Int16Type>,
    duration_ns: Numbers<Int64Type>,
    ingest_time: Numbers<TimestampMicrosecondType>,
    name: Texts,
    kind: Texts,
    status: Texts,
    status_message: Texts,
    trace_state: Texts,
    service_name: Texts,
    scope_name: Texts,
    scope_version: Texts,
    span_type: Texts,
    workflow_name: Texts,
    entity_name: Texts,
    entity_path: Texts,
    agent_name: Texts,
    prompt_key: Texts,
    prompt_version: Texts,
    conversation_id: Texts,
    session_id: Texts,
    user_id: Texts,
    provider: Texts,
    operation: Texts,
    request_model: Texts,
    response_model: Texts,
    price_key: Texts,
    streaming: Bools,
    finish_reason: Texts,
    temperature: Numbers<Float64Type>,
    top_p: Numbers<Float64Type>,
    max_tokens: Numbers<Int64Type>,
    ttft_ns: Numbers<Int64Type>,
    input_tokens: Numbers<Int64Type>,
    output_tokens: Numbers<Int64Type>,
    cache_read_tokens: Numbers<Int64Type>,
    cache_write_tokens: Numbers<Int64Type>,
    reasoning_tokens: Numbers<Int64Type>,
    audio_input_tokens: Numbers<Int64Type>,
    audio_output_tokens: Numbers<Int64Type>,
    total_tokens: Numbers<Int64Type>,
    input_cost: Numbers<Decimal128Type>,
    output_cost: Numbers<Decimal128Type>,
    cache_read_cost: Numbers<Decimal128Type>,
    cache_write_cost: Numbers<Decimal128Type>,
    total_cost: Numbers<Decimal128Type>,
    price_version: Texts,
    cost_status: Texts,
    cost_source: Texts,
    cost_deferred_to: Texts,
    cost_caveat: Texts,
    given_cost: Numbers<Decimal128Type>,
    previous_total_cost: Numbers<Decimal128Type>,
    previous_price_version: Texts,
    recost_time: Numbers<TimestampMicrosecondType>,
    association_properties: Map<Texts>,
    attributes_string: Map<Texts>,
    attributes_int: Map<Numbers<Int64Type>>,
    attributes_double: Map<Numbers<Float64Type>>,
    attributes_bool: Map<Bools>,
    attributes_json: Map<Texts>,
    resource_attributes: Map<Texts>,
    events: Events,
    links: Links,
    flags: Numbers<Int32Type>,
    dropped_attributes: Numbers<Int32Type>,
    dropped_events: Numbers<Int32Type>,
    dropped_links: Numbers<Int32Type>,
    input: Texts,
    output: Texts,
    tool_definitions: Texts,
    input_key: Texts,
    output_key: Texts,
    tool_definitions_key: Texts,
    content_bytes: Numbers<Int64Type>,
    span_bytes: Numbers<Int32Type>,
    source: Texts,
    seq: Numbers<Int64Type>,
    has_status: Bools,
    resource_schema_url: Texts,
    scope_schema_url: Texts,
    otlp_rest: Binaries,
    otlp_resource: Binaries,
    otlp_scope: Binaries,
}

/// Microseconds since the epoch, and the nanoseconds that do not fit in. All of `u64` fits: the year 2554 has 1.8·10^16.
pub(super) fn split_time(nanos: u64) -> (i64, i16) {
    ((nanos / 1000) as i64, (nanos % 1000) as i16)
}

/// The number, clamped, and whether it fits.
pub(super) fn count(count: u32) -> (i32, bool) {
    i32::try_from(count).map_or((i32::MAX, false), |count| (count, true))
}

/// Appends an id in hexadecimal.
#[inline]
pub(super) fn put_hex(column: &mut Texts, row: usize, id: &[u8]) {
    column.put_with(row, |out| hex::append(out, id));
}

/// Lists of structs under way.
struct Lists {
    offsets: Vec<i32>,
    fields: Fields,
}

impl Lists {
    fn new(fields: Fields) -> Self {
        Self { offsets: vec![0], fields }
    }

    fn end(&mut self, items: usize) {
        self.offsets.push(i32::try_from(items).unwrap_or(i32::MAX));
    }

    fn items(&self) -> usize {
        self.offsets.last().map_or(0, |items| usize::try_from(*items).unwrap_or(0))
    }

    fn array(&mut self, columns: Vec<ArrayRef>) -> Result<ArrayRef, ArrowError> {
        let offsets = std::mem::take(&mut self.offsets);
        self.offsets.reserve(offsets.len());
        self.offsets.push(0);
        let item = Arc::new(Field::new_struct(schema::ITEM, self.fields.clone(), true));
        let items = StructArray::try_new(self.fields.clone(), columns, None)?;
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::new(offsets.into()), Arc::new(items), None)?))
    }
}

/// The `events` column.
pub(super) struct Events {
    lists: Lists,
    time: Numbers<TimestampMicrosecondType>,
    time_nanos: Numbers<Int16Type>,
    name: Texts,
    attributes: Texts,
    dropped: Numbers<Int32Type>,
}

impl Events {
    /// Appends the events of a span. False if the column cannot express them all.
    pub(super) fn append(&mut self, events: &[&[u8]]) -> bool {
        let mut exact = true;
        for event in events {
            let (mut time, mut name, mut dropped, mut any): (u64, &[u8], u32, bool) = (0, &[], 0, false);
            for field in WireFields::new(event) {
                match field.number {
                    1 => time = field.scalar,
                    2 => name = field.bytes,
                    3 => any = true,
                    4 => dropped = field.scalar as u32,
                    _ => exact = false,
                }
            }
            let (micros, nanos) = split_time(time);
            self.time.push(micros);
            self.time_nanos.push(nanos);
            self.name.push(name);
            exact &= push_attributes(&mut self.attributes, any.then_some((*event, 3)));
            exact &= push_count(&mut self.dropped, dropped);
        }
        self.lists.end(self.name.len());
        exact
    }
}

impl Build for Events {
    fn start(_: &DataType) -> Self {
        let fields = schema::event_fields();
        let kind = |at: usize| fields.get(at).map_or(&DataType::Null, |field| field.data_type());
        Self {
            time: Build::start(kind(0)),
            time_nanos: Build::start(kind(1)),
            name: Build::start(kind(2)),
            attributes: Build::start(kind(3)),
            dropped: Build::start(kind(4)),
            lists: Lists::new(fields.clone()),
        }
    }

    fn array(&mut self, _: usize) -> Result<ArrayRef, ArrowError> {
        let items = self.lists.items();
        let columns = vec![
            self.time.array(items)?,
            self.time_nanos.array(items)?,
            self.name.array(items)?,
            self.attributes.array(items)?,
            self.dropped.array(items)?,
        ];
        self.lists.array(columns)
    }
}

/// The `links` column.
pub(super) struct Links {
    lists: Lists,
    trace_id: Texts,
    span_id: Texts,
    trace_state: Texts,
    attributes: Texts,
    dropped: Numbers<Int32Type>,
    flags: Numbers<Int32Type>,
}

impl Links {
    /// Appends the links of a span. False if the column cannot express them all.
    pub(super) fn append(&mut self, links: &[&[u8]]) -> bool {
        let mut exact = true;
        for link in links {
            let (mut trace_id, mut span_id, mut trace_state): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
            let (mut dropped, mut flags, mut any) = (0, 0, false);
            for field in WireFields::new(link) {
                match field.number {
                    1 => trace_id = field.bytes,
                    2 => span_id = field.bytes,
                    3 => trace_state = field.bytes,
                    4 => any = true,
                    5 => dropped = field.scalar as u32,
                    6 => flags = field.scalar as u32,
                    _ => exact = false,
                }
            }
            let item = self.trace_id.len();
            put_hex(&mut self.trace_id, item, trace_id);
            put_hex(&mut self.span_id, item, span_id);
            self.trace_state.put_nonempty(item, trace_state);
            exact &= push_attributes(&mut self.attributes, any.then_some((*link, 4)));
            exact &= push_count(&mut self.dropped, dropped);
            exact &= push_count(&mut self.flags, flags);
        }
        self.lists.end(self.trace_id.len());
        exact
    }
}

impl Build for Links {
    fn start(_: &DataType) -> Self {
        let fields = schema::link_fields();
        let kind = |at: usize| fields.get(at).map_or(&DataType::Null, |field| field.data_type());
        Self {
            trace_id: Build::start(kind(0)),
            span_id: Build::start(kind(1)),
            trace_state: Build::start(kind(2)),
            attributes: Build::start(kind(3)),
            dropped: Build::start(kind(4)),
            flags: Build::start(kind(5)),
            lists: Lists::new(fields.clone()),
        }
    }

    fn array(&mut self, _: usize) -> Result<ArrayRef, ArrowError> {
        let items = self.lists.items();
        let columns = vec![
            self.trace_id.array(items)?,
            self.span_id.array(items)?,
            self.trace_state.array(items)?,
            self.attributes.array(items)?,
            self.dropped.array(items)?,
            self.flags.array(items)?,
        ];
        self.lists.array(columns)
    }
}

fn push_count(column: &mut Numbers<Int32Type>, number: u32) -> bool {
    let (number, fits) = count(number);
    column.push(number);
    fits
}

fn push_attributes(column: &mut Texts, message: Option<(&[u8], u32)>) -> bool {
    match message {
        Some((message, number)) => column.push_with(|out| write_object(out, message, number)),
        None => {
            column.push_null();
            true
        }
    }
}
