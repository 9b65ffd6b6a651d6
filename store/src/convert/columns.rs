//! One builder per column.

use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBufferBuilder, BooleanBuilder, Date32Builder,
    Decimal128Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondBuilder,
};
use deltalake::arrow::buffer::{NullBuffer, OffsetBuffer};
use deltalake::arrow::datatypes::{Field, Fields};
use deltalake::arrow::error::ArrowError;

use super::any::{write_hex, write_object};
use crate::schema::{self, Type};
use weir_pipeline::batch::wire::Fields as WireFields;

/// Builders of one type.
trait Build {
    fn start() -> Self;
    fn array(&mut self) -> Result<ArrayRef, ArrowError>;
}

macro_rules! build {
    ($($builder:ty = $start:expr),* $(,)?) => {$(
        impl Build for $builder {
            fn start() -> Self {
                $start
            }
            fn array(&mut self) -> Result<ArrayRef, ArrowError> {
                Ok(Arc::new(self.finish()))
            }
        }
    )*};
}

build! {
    BooleanBuilder = Self::new(),
    Int16Builder = Self::new(),
    Int32Builder = Self::new(),
    Int64Builder = Self::new(),
    Float64Builder = Self::new(),
    Date32Builder = Self::new(),
    BinaryBuilder = Self::new(),
    TimestampMicrosecondBuilder = Self::new().with_data_type(schema::data_type(Type::Time)),
    Decimal128Builder = Self::new().with_data_type(schema::data_type(Type::Money)),
}

/// A column of text, whose UTF-8 is checked once for all rows.
pub(super) struct Texts(BinaryBuilder);

impl Texts {
    #[inline]
    pub(super) fn append_value(&mut self, utf8: &(impl AsRef<[u8]> + ?Sized)) {
        self.0.append_value(utf8.as_ref());
    }

    #[inline]
    pub(super) fn append_null(&mut self) {
        self.0.append_null();
    }

    #[inline]
    pub(super) fn append_option(&mut self, utf8: Option<&(impl AsRef<[u8]> + ?Sized)>) {
        match utf8 {
            Some(utf8) => self.append_value(utf8),
            None => self.append_null(),
        }
    }

    fn len(&self) -> usize {
        ArrayBuilder::len(&self.0)
    }
}

impl Build for Texts {
    fn start() -> Self {
        Self(BinaryBuilder::new())
    }

    fn array(&mut self) -> Result<ArrayRef, ArrowError> {
        let binary = self.0.finish();
        // The next rows will be about as many and as long.
        self.0 = BinaryBuilder::with_capacity(binary.len(), binary.values().len());
        Ok(Arc::new(StringArray::try_from_binary(binary)?))
    }
}

/// A column of maps from text.
pub(super) struct Map<V> {
    pub(super) keys: Texts,
    pub(super) values: V,
    offsets: Vec<i32>,
    present: BooleanBufferBuilder,
}

impl<V> Map<V> {
    /// Ends a row's map, or says that it has none.
    pub(super) fn end(&mut self, present: bool) {
        self.offsets.push(i32::try_from(self.keys.len()).unwrap_or(i32::MAX));
        self.present.append(present);
    }
}

impl<V: Build> Build for Map<V> {
    fn start() -> Self {
        Self { keys: Build::start(), values: V::start(), offsets: vec![0], present: BooleanBufferBuilder::new(0) }
    }

    fn array(&mut self) -> Result<ArrayRef, ArrowError> {
        let (keys, values) = (self.keys.array()?, self.values.array()?);
        let fields = schema::map_entry(values.data_type().clone());
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let entry = Arc::new(Field::new_struct(schema::ENTRIES, fields.clone(), false));
        let entries = StructArray::try_new(fields, vec![keys, values], None)?;
        let nulls = NullBuffer::new(self.present.finish());
        Ok(Arc::new(MapArray::try_new(entry, offsets, entries, Some(nulls).filter(|n| n.null_count() > 0), false)?))
    }
}

macro_rules! columns {
    ($($name:ident: $builder:ty),* $(,)?) => {
        /// The builders of the table's columns, in its order.
        pub(super) struct Columns {
            $(pub(super) $name: $builder,)*
        }

        impl Columns {
            #[cfg(test)]
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

            pub(super) fn new() -> Self {
                Self { $($name: <$builder as Build>::start(),)* }
            }

            /// The rows so far; the builders start anew.
            pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
                RecordBatch::try_new(schema::spans(), vec![$(self.$name.array()?),*])
            }
        }
    };
}

columns! {
    environment: Texts,
    date: Date32Builder,
    trace_id: Texts,
    span_id: Texts,
    parent_span_id: Texts,
    start_time: TimestampMicrosecondBuilder,
    start_nanos: Int16Builder,
    duration_ns: Int64Builder,
    ingest_time: TimestampMicrosecondBuilder,
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
    streaming: BooleanBuilder,
    finish_reason: Texts,
    temperature: Float64Builder,
    top_p: Float64Builder,
    max_tokens: Int64Builder,
    ttft_ns: Int64Builder,
    input_tokens: Int64Builder,
    output_tokens: Int64Builder,
    cache_read_tokens: Int64Builder,
    cache_write_tokens: Int64Builder,
    reasoning_tokens: Int64Builder,
    audio_input_tokens: Int64Builder,
    audio_output_tokens: Int64Builder,
    total_tokens: Int64Builder,
    input_cost: Decimal128Builder,
    output_cost: Decimal128Builder,
    cache_read_cost: Decimal128Builder,
    cache_write_cost: Decimal128Builder,
    total_cost: Decimal128Builder,
    price_version: Texts,
    association_properties: Map<Texts>,
    attributes_string: Map<Texts>,
    attributes_int: Map<Int64Builder>,
    attributes_double: Map<Float64Builder>,
    attributes_bool: Map<BooleanBuilder>,
    attributes_json: Map<Texts>,
    resource_attributes: Map<Texts>,
    events: Events,
    links: Links,
    flags: Int32Builder,
    dropped_attributes: Int32Builder,
    dropped_events: Int32Builder,
    dropped_links: Int32Builder,
    input: Texts,
    output: Texts,
    tool_definitions: Texts,
    input_key: Texts,
    output_key: Texts,
    tool_definitions_key: Texts,
    content_bytes: Int64Builder,
    span_bytes: Int32Builder,
    source: Texts,
    seq: Int64Builder,
    has_status: BooleanBuilder,
    resource_schema_url: Texts,
    scope_schema_url: Texts,
    otlp_rest: BinaryBuilder,
    otlp_resource: BinaryBuilder,
    otlp_scope: BinaryBuilder,
}

/// Microseconds since the epoch, and the nanoseconds that do not fit in. All of `u64` fits: the year 2554 has 1.8·10^16.
pub(super) fn split_time(nanos: u64) -> (i64, i16) {
    ((nanos / 1000) as i64, (nanos % 1000) as i16)
}

/// Appends text, or null for none.
pub(super) fn append_nonempty(column: &mut Texts, value: &(impl AsRef<[u8]> + ?Sized)) {
    if value.as_ref().is_empty() { column.append_null() } else { column.append_value(value) }
}

/// The number, clamped; false if it did not fit.
pub(super) fn append_count(column: &mut Int32Builder, count: u32) -> bool {
    column.append_value(i32::try_from(count).unwrap_or(i32::MAX));
    i32::try_from(count).is_ok()
}

/// A list of structs under way.
struct Rows {
    offsets: Vec<i32>,
}

impl Rows {
    fn end(&mut self, items: usize) {
        self.offsets.push(i32::try_from(items).unwrap_or(i32::MAX));
    }

    fn list(&mut self, fields: Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let item = Arc::new(Field::new_struct(schema::ITEM, fields.clone(), true));
        let items = StructArray::try_new(fields, columns, None)?;
        Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(items), None)?))
    }
}

/// The `events` column.
pub(super) struct Events {
    rows: Rows,
    time: TimestampMicrosecondBuilder,
    time_nanos: Int16Builder,
    name: Texts,
    attributes: Texts,
    dropped: Int32Builder,
}

impl Events {
    /// Appends the events of a span. False if the column cannot express them all.
    pub(super) fn append(&mut self, events: &[&[u8]], scratch: &mut Vec<u8>) -> bool {
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
            self.time.append_value(micros);
            self.time_nanos.append_value(nanos);
            self.name.append_value(name);
            exact &= append_attributes(&mut self.attributes, any.then_some((*event, 3)), scratch);
            exact &= append_count(&mut self.dropped, dropped);
        }
        self.rows.end(self.name.len());
        exact
    }
}

impl Build for Events {
    fn start() -> Self {
        Self {
            rows: Rows { offsets: vec![0] },
            time: Build::start(),
            time_nanos: Build::start(),
            name: Build::start(),
            attributes: Build::start(),
            dropped: Build::start(),
        }
    }

    fn array(&mut self) -> Result<ArrayRef, ArrowError> {
        let columns = vec![
            self.time.array()?,
            self.time_nanos.array()?,
            self.name.array()?,
            self.attributes.array()?,
            self.dropped.array()?,
        ];
        self.rows.list(schema::event_fields(), columns)
    }
}

/// The `links` column.
pub(super) struct Links {
    rows: Rows,
    trace_id: Texts,
    span_id: Texts,
    trace_state: Texts,
    attributes: Texts,
    dropped: Int32Builder,
    flags: Int32Builder,
}

impl Links {
    /// Appends the links of a span. False if the column cannot express them all.
    pub(super) fn append(&mut self, links: &[&[u8]], scratch: &mut Vec<u8>) -> bool {
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
            append_hex(&mut self.trace_id, trace_id, scratch);
            append_hex(&mut self.span_id, span_id, scratch);
            append_nonempty(&mut self.trace_state, trace_state);
            exact &= append_attributes(&mut self.attributes, any.then_some((*link, 4)), scratch);
            exact &= append_count(&mut self.dropped, dropped);
            exact &= append_count(&mut self.flags, flags);
        }
        self.rows.end(self.trace_id.len());
        exact
    }
}

impl Build for Links {
    fn start() -> Self {
        Self {
            rows: Rows { offsets: vec![0] },
            trace_id: Build::start(),
            span_id: Build::start(),
            trace_state: Build::start(),
            attributes: Build::start(),
            dropped: Build::start(),
            flags: Build::start(),
        }
    }

    fn array(&mut self) -> Result<ArrayRef, ArrowError> {
        let columns = vec![
            self.trace_id.array()?,
            self.span_id.array()?,
            self.trace_state.array()?,
            self.attributes.array()?,
            self.dropped.array()?,
            self.flags.array()?,
        ];
        self.rows.list(schema::link_fields(), columns)
    }
}

/// Appends an id in hexadecimal.
pub(super) fn append_hex(column: &mut Texts, id: &[u8], scratch: &mut Vec<u8>) {
    scratch.clear();
    write_hex(scratch, id);
    column.append_value(&*scratch);
}

fn append_attributes(column: &mut Texts, message: Option<(&[u8], u32)>, scratch: &mut Vec<u8>) -> bool {
    let Some((message, number)) = message else {
        column.append_null();
        return true;
    };
    scratch.clear();
    let exact = write_object(scratch, message, number);
    column.append_value(&*scratch);
    exact
}
