//! What a row of the `spans` table is.
//!
//! One row is one span; resource and scope are copied into it. What a filter, a group-by or a price needs is a typed
//! column, everything else is in typed maps. `null` means unknown, `0` means zero: a span without usage is not free.
//!
//! # Reading the columns
//!
//! * **Usage is inclusive**: `input_tokens` counts the tokens read from and written to a cache, `output_tokens` counts
//!   reasoning. `cache_read_tokens`, `cache_write_tokens`, `reasoning_tokens` and `audio_*_tokens` are the parts.
//! * **Money** is US dollars as `Decimal(18, 12)`, exact. An amount that does not fit (a million dollars for one span) is
//!   `null` here and stays an attribute.
//! * **Ids** are lower-case hexadecimal of whatever bytes were sent, so ids of a wrong length survive.
//! * **`start_time`** is cut to microseconds, `start_nanos` (0..=999) is the rest. A start after April 2262 is clamped to
//!   then and kept exactly in `otlp_rest`: many functions of SQL count nanoseconds in an `i64`, and one client's clock must
//!   not make them fail for all. `duration_ns` is end minus start and negative where a client's clock was set back. A
//!   difference beyond an `i64` (292 years) is clamped too and the exact end kept in the same place.
//! * **`kind`, `status`** are the names of the specification in lower case; a number without a name is written as that
//!   number. `has_status` is false where the span has no status message at all, which reads as `unset`.
//! * **`input`, `output`, `tool_definitions`** hold the content an LLM call, a workflow or a tool was given and gave.
//!   `input_key` and so on name the attribute the text was *moved* from, unchanged: it is not in `attributes_string` as
//!   well. A key with a star, such as `gen_ai.prompt.*`, is a family of attributes (`gen_ai.prompt.0.content`, …) that
//!   were put together as a JSON array of objects and can be taken apart again. Where that is not possible (a family with
//!   arrays among its values, say) the content is `null` and the attributes stay in their maps.
//! * **`association_properties`** has the attributes `traceloop.association.properties.<key>`, all as text. The ones that
//!   are strings are only here; others are in their typed map too.
//!
//! # What a call cost
//!
//! `SELECT sum(total_cost)` counts each call once: only the span that carries the cost of its call has one.
//!
//! | column | holds |
//! |---|---|
//! | `total_cost` | what the call cost. `input_cost` and so on are parts of it; fees of requests and searches have no part |
//! | `cost_status` | why there is a cost or none: `priced`, `estimated` and `given` have one, `duplicate` and `aggregate` leave it to another span, the others say what is missing (`unknown_model`, `no_usage` …); `null` where no `cost` processor saw the span |
//! | `cost_deferred_to` | `<trace id>/<span id>` of the span that carries the cost instead |
//! | `cost_source` | who said `total_cost`: `local` if Weir computed it, `application` if its emitter did |
//! | `cost_caveat` | what the cost leaves out or takes to be as usual: `tier_unknown`, `fee_unknown` |
//! | `given_cost` | what the emitter said it cost, in US dollars, whatever `total_cost` is |
//! | `price_key`, `price_version` | the price and the version of the price list it was computed with |
//! | `previous_total_cost`, `previous_price_version`, `recost_time` | what was there before the cost was last computed again ([`crate::recost`]), and when that was |
//!
//! Costs in other currencies than US dollars stay attributes. Where no `cost` processor saw a span, `total_cost` is
//! what its emitter wrote into `gen_ai.usage.cost.amount`, and nobody has seen to it that a call counts once. The
//! attributes stay what they were on arrival; these columns are what counts.
//!
//! # Tables of older versions
//!
//! Columns are only ever added, and those can be `null`. A table that an older version made gets the columns it lacks
//! when a writer opens it, and its older files are read with `null` in their place.
//!
//! # Attributes of other types
//!
//! `attributes_json` holds arrays, key-value lists, bytes and empty values as natural JSON: `["stop"]`, `{"a":1,"b":1.0}`
//! (an integer has no point, a double always has a point or an exponent), `{"bytesValue":"…"}` with base64 for bytes,
//! `{"doubleValue":"NaN"}` for doubles that JSON lacks. Events and links have their attributes as one such object.
//! `resource_attributes` has strings as they are and everything else as such JSON.
//!
//! # What is needed to rebuild a span and is nothing to query
//!
//! | column | holds |
//! |---|---|
//! | `otlp_rest` | Protobuf fields of `Span` that the columns cannot express, to be added to what they express: every occurrence of an attribute key that occurs twice (the maps have the last one), attributes with unknown parts, numbers that do not fit their column, all events (or links) if one of them cannot be expressed, unknown fields |
//! | `otlp_resource` | the whole `Resource`, where `resource_attributes` does not say everything: other types than strings, duplicate keys, a dropped count, entity references |
//! | `otlp_scope` | the whole `InstrumentationScope`, where it has more than a name and a version |
//!
//! `resource_attributes` is `null` where there was no `Resource`, `scope_name` where there was no scope. Not kept: the
//! order of attributes, unknown fields of the containers `ResourceSpans` and `ScopeSpans`, and containers without spans.

use std::sync::{Arc, LazyLock};

use deltalake::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// Columns whose values are directories.
pub const PARTITION_COLUMNS: [&str; 2] = ["environment", "date"];

/// Digits of a money column, in all and behind the point.
pub const MONEY: (u8, i8) = (18, 12);

/// Columns with file statistics. No money: Delta writes decimals as floating-point numbers there, and DataFusion takes
/// a column whose least and greatest value are equal from the statistics (wrong results were seen).
pub const STATS_COLUMNS: [&str; 15] = [
    "trace_id",
    "start_time",
    "duration_ns",
    "name",
    "status",
    "service_name",
    "span_type",
    "workflow_name",
    "conversation_id",
    "session_id",
    "user_id",
    "provider",
    "request_model",
    "response_model",
    "total_tokens",
];

/// Columns with large texts.
pub const CONTENT_COLUMNS: [&str; 3] = ["input", "output", "tool_definitions"];

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Bool,
    Short,
    Int,
    Long,
    Double,
    Date,
    Time,
    Money,
    Binary,
    /// From text to this.
    Map(MapOf),
    Events,
    Links,
}

/// The values of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapOf {
    Text,
    Long,
    Double,
    Bool,
}

use Type::{Binary, Bool, Date, Double, Events, Int, Links, Long, Map, Money, Short, Text, Time};

/// The columns in order: name, type, whether null is possible.
pub(crate) const COLUMNS: &[(&str, Type, bool)] = &[
    // Identity.
    ("environment", Text, false),
    ("date", Date, false),
    ("trace_id", Text, false),
    ("span_id", Text, false),
    ("parent_span_id", Text, true),
    ("start_time", Time, false),
    ("start_nanos", Short, false),
    ("duration_ns", Long, false),
    ("ingest_time", Time, false),
    // What it is.
    ("name", Text, false),
    ("kind", Text, false),
    ("status", Text, false),
    ("status_message", Text, true),
    ("trace_state", Text, true),
    ("service_name", Text, true),
    ("scope_name", Text, true),
    ("scope_version", Text, true),
    ("span_type", Text, false),
    // Grouping.
    ("workflow_name", Text, true),
    ("entity_name", Text, true),
    ("entity_path", Text, true),
    ("agent_name", Text, true),
    ("prompt_key", Text, true),
    ("prompt_version", Text, true),
    ("conversation_id", Text, true),
    ("session_id", Text, true),
    ("user_id", Text, true),
    // Model.
    ("provider", Text, true),
    ("operation", Text, true),
    ("request_model", Text, true),
    ("response_model", Text, true),
    ("price_key", Text, true),
    ("streaming", Bool, true),
    ("finish_reason", Text, true),
    ("temperature", Double, true),
    ("top_p", Double, true),
    ("max_tokens", Long, true),
    ("ttft_ns", Long, true),
    // Usage.
    ("input_tokens", Long, true),
    ("output_tokens", Long, true),
    ("cache_read_tokens", Long, true),
    ("cache_write_tokens", Long, true),
    ("reasoning_tokens", Long, true),
    ("audio_input_tokens", Long, true),
    ("audio_output_tokens", Long, true),
    ("total_tokens", Long, true),
    // Money.
    ("input_cost", Money, true),
    ("output_cost", Money, true),
    ("cache_read_cost", Money, true),
    ("cache_write_cost", Money, true),
    ("total_cost", Money, true),
    ("price_version", Text, true),
    ("cost_status", Text, true),
    ("cost_source", Text, true),
    ("cost_deferred_to", Text, true),
    ("cost_caveat", Text, true),
    ("given_cost", Money, true),
    ("previous_total_cost", Money, true),
    ("previous_price_version", Text, true),
    ("recost_time", Time, true),
    // The open part.
    ("association_properties", Map(MapOf::Text), false),
    ("attributes_string", Map(MapOf::Text), false),
    ("attributes_int", Map(MapOf::Long), false),
    ("attributes_double", Map(MapOf::Double), false),
    ("attributes_bool", Map(MapOf::Bool), false),
    ("attributes_json", Map(MapOf::Text), false),
    ("resource_attributes", Map(MapOf::Text), true),
    ("events", Events, false),
    ("links", Links, false),
    ("flags", Int, false),
    ("dropped_attributes", Int, false),
    ("dropped_events", Int, false),
    ("dropped_links", Int, false),
    // Content.
    ("input", Text, true),
    ("output", Text, true),
    ("tool_definitions", Text, true),
    // Bookkeeping.
    ("input_key", Text, true),
    ("output_key", Text, true),
    ("tool_definitions_key", Text, true),
    ("content_bytes", Long, false),
    ("span_bytes", Int, false),
    ("source", Text, false),
    ("seq", Long, false),
    ("has_status", Bool, false),
    ("resource_schema_url", Text, true),
    ("scope_schema_url", Text, true),
    ("otlp_rest", Binary, true),
    ("otlp_resource", Binary, true),
    ("otlp_scope", Binary, true),
];

static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |(name, kind, nullable): &(&str, Type, bool)| Field::new(*name, data_type(*kind), *nullable);
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
});

/// The schema of the `spans` table.
pub fn spans() -> SchemaRef {
    Arc::clone(&SPANS)
}

static FILE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let is_stored = |field: &&Arc<Field>| !PARTITION_COLUMNS.contains(&field.name().as_str());
    Arc::new(Schema::new(SPANS.fields().iter().filter(is_stored).cloned().collect::<Vec<_>>()))
});

/// The schema of a data file: all columns but those that are [directories](PARTITION_COLUMNS).
pub fn file() -> SchemaRef {
    Arc::clone(&FILE)
}

pub(crate) fn data_type(kind: Type) -> DataType {
    match kind {
        Text => DataType::Utf8,
        Bool => DataType::Boolean,
        Short => DataType::Int16,
        Int => DataType::Int32,
        Long => DataType::Int64,
        Double => DataType::Float64,
        Date => DataType::Date32,
        Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Money => DataType::Decimal128(MONEY.0, MONEY.1),
        Binary => DataType::Binary,
        Map(of) => map_type(of),
        Events => list_of(event_fields()),
        Links => list_of(link_fields()),
    }
}

// Delta Lake's own names for the parts of maps and lists.

/// Name of a map's entries.
pub(crate) const ENTRIES: &str = "key_value";
/// Name of a list's items.
pub(crate) const ITEM: &str = "element";

fn map_type(of: MapOf) -> DataType {
    let value = match of {
        MapOf::Text => DataType::Utf8,
        MapOf::Long => DataType::Int64,
        MapOf::Double => DataType::Float64,
        MapOf::Bool => DataType::Boolean,
    };
    DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(map_entry(value)), false)), false)
}

/// The parts of a map's entry.
pub(crate) fn map_entry(value: DataType) -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)])
}

fn list_of(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new(ITEM, DataType::Struct(fields), true)))
}

/// The parts of an event.
pub(crate) fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", data_type(Time), true),
        Field::new("time_nanos", DataType::Int16, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("attributes_json", DataType::Utf8, true),
        Field::new("dropped_attributes", DataType::Int32, true),
    ])
}

/// The parts of a link.
pub(crate) fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("attributes_json", DataType::Utf8, true),
        Field::new("dropped_attributes", DataType::Int32, true),
        Field::new("flags", DataType::Int32, true),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn column(name: &str) -> Option<&'static (&'static str, Type, bool)> {
        COLUMNS.iter().find(|column| column.0 == name)
    }

    #[test]
    fn names_are_unique_and_need_no_quotes() {
        let names: HashSet<_> = COLUMNS.iter().map(|c| c.0).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn statistics_name_existing_columns_without_money() {
        for name in STATS_COLUMNS {
            let column = column(name).unwrap_or_else(|| panic!("{name}"));
            assert_ne!(column.1, Type::Money, "{name}");
        }
        for name in CONTENT_COLUMNS.iter().chain(&PARTITION_COLUMNS) {
            assert!(column(name).is_some(), "{name}");
        }
    }

    #[test]
    fn delta_takes_the_schema() {
        use deltalake::kernel::StructType;
        use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
        let kernel: StructType = spans().as_ref().try_into_kernel().unwrap();
        let back: Schema = (&kernel).try_into_arrow().unwrap();
        assert_eq!(back, *spans(), "Delta's idea of the schema and ours must be the same, names of inner fields too");
    }
}
