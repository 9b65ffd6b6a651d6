//! The OTLP messages as data: field numbers, names and types of `opentelemetry-proto` 1.9 for traces, metrics and logs.
//!
//! One table serves the validator ([`super::validate`]), both JSON directions ([`super::json`]) and the field paths in
//! error messages, so the three cannot disagree. Fields that are not listed are unknown: validated for structure, kept
//! on the wire, ignored in JSON.

/// A protobuf message type.
pub struct Message {
    /// Name as in the `.proto` files, for error texts.
    pub name: &'static str,
    /// Fields in ascending order of their number.
    pub fields: &'static [Field],
    /// What most of its bytes are: the validator's fast path.
    pub usual: Usual,
}

/// A field that most of a message consists of, by its tag of one byte.
#[derive(Debug, Clone, Copy)]
pub enum Usual {
    /// None in particular.
    Any,
    /// Attributes, mostly each a key and a scalar.
    Attributes(u8),
    /// Values, mostly scalars: an embedding is an array of a thousand numbers and more.
    Values(u8),
}

/// A field of a [`Message`].
pub struct Field {
    /// Field number.
    pub number: u32,
    /// Name in the `.proto` file (snake case). The JSON name is its lowerCamelCase form ([`json_name_eq`]).
    pub name: &'static str,
    /// Type of one element.
    pub kind: Kind,
    /// Whether the field may occur many times.
    pub repeated: bool,
    /// Whether the field belongs to the message's `oneof` (no OTLP message has more than one).
    pub oneof: bool,
}

/// Type of a field's element.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `sint32` (zigzag)
    Sint32,
    /// An enumeration with its value names.
    Enum(&'static [(&'static str, i32)]),
    /// `fixed32`
    Fixed32,
    /// `fixed64`
    Fixed64,
    /// `sfixed64`
    Sfixed64,
    /// `double`
    Double,
    /// `string`: must be UTF-8.
    String,
    /// `bytes`, base64 in JSON.
    Bytes,
    /// `bytes` that hold a trace or span id of this length, or nothing: hexadecimal in JSON (OTLP specification, "JSON
    /// Protobuf Encoding").
    Id(u8),
    /// A nested message.
    Message(&'static Message),
}

impl Kind {
    /// The protobuf wire type of one (unpacked) element.
    pub const fn wire_type(self) -> u8 {
        match self {
            Self::Bool | Self::Int32 | Self::Int64 | Self::Uint32 | Self::Uint64 | Self::Sint32 | Self::Enum(_) => 0,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => 1,
            Self::String | Self::Bytes | Self::Id(_) | Self::Message(_) => 2,
            Self::Fixed32 => 5,
        }
    }

    /// What the field holds, if that is a message.
    pub const fn message(self) -> Option<&'static Message> {
        if let Self::Message(message) = self { Some(message) } else { None }
    }
}

impl Message {
    /// The number of the field that holds attributes, if there is one.
    pub const fn attributes_number(&self) -> Option<u32> {
        match self.usual {
            Usual::Attributes(tag) => Some((tag >> 3) as u32),
            Usual::Any | Usual::Values(_) => None,
        }
    }

    /// The field with this number.
    #[inline]
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        // Most tables are dense from 1, so the guess almost always hits.
        if let Some(field) = self.fields.get((number as usize).wrapping_sub(1))
            && field.number == number
        {
            return Some(field);
        }
        self.fields.iter().find(|field| field.number == number)
    }
}

/// Whether `json` names the field `snake` in JSON: by its lowerCamelCase form, or as it is.
///
/// Decision: OTLP says that the names of the `.proto` file are not valid in JSON, but who uses them means these fields. To
/// skip them as unknown would be to lose the data with an OK; the Collector reads them too.
pub fn json_name_eq(snake: &str, json: &str) -> bool {
    if snake == json {
        return true;
    }
    let mut want = snake.bytes();
    let mut have = json.bytes();
    loop {
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some(b'_'), Some(h)) => match want.next() {
                Some(w) if w.to_ascii_uppercase() == h => {}
                _ => return false,
            },
            (Some(w), Some(h)) if w == h => {}
            _ => return false,
        }
    }
}

/// The lowerCamelCase form of a field name.
pub fn json_name(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false, oneof: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: true, oneof: false }
}

const fn either(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false, oneof: true }
}

use Kind::{
    Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int32, Int64, Sfixed64, Sint32, String as Str, Uint32, Uint64,
};

/// Bytes of a trace id.
const TRACE_ID: u8 = 16;
/// Bytes of a span id.
const SPAN_ID: u8 = 8;

const fn msg(message: &'static Message) -> Kind {
    Kind::Message(message)
}

// === common.v1, resource.v1 ===

/// `opentelemetry.proto.common.v1.AnyValue`
pub static ANY_VALUE: Message = Message {
    name: "AnyValue",
    usual: Usual::Any,
    fields: &[
        either(1, "string_value", Str),
        either(2, "bool_value", Bool),
        either(3, "int_value", Int64),
        either(4, "double_value", Double),
        either(5, "array_value", msg(&ARRAY_VALUE)),
        either(6, "kvlist_value", msg(&KEY_VALUE_LIST)),
        either(7, "bytes_value", Bytes),
        either(8, "string_value_strindex", Int32),
    ],
};

/// `opentelemetry.proto.common.v1.ArrayValue`
pub static ARRAY_VALUE: Message =
    Message { name: "ArrayValue", usual: Usual::Values(1 << 3 | 2), fields: &[many(1, "values", msg(&ANY_VALUE))] };

/// `opentelemetry.proto.common.v1.KeyValueList`
pub static KEY_VALUE_LIST: Message = Message {
    name: "KeyValueList",
    usual: Usual::Attributes(1 << 3 | 2),
    fields: &[many(1, "values", msg(&KEY_VALUE))],
};

/// `opentelemetry.proto.common.v1.KeyValue`
pub static KEY_VALUE: Message = Message {
    name: "KeyValue",
    usual: Usual::Any,
    fields: &[one(1, "key", Str), one(2, "value", msg(&ANY_VALUE)), one(3, "key_strindex", Int32)],
};

/// `opentelemetry.proto.common.v1.InstrumentationScope`
pub static SCOPE: Message = Message {
    name: "InstrumentationScope",
    usual: Usual::Attributes(3 << 3 | 2),
    fields: &[
        one(1, "name", Str),
        one(2, "version", Str),
        many(3, "attributes", msg(&KEY_VALUE)),
        one(4, "dropped_attributes_count", Uint32),
    ],
};

static ENTITY_REF: Message = Message {
    name: "EntityRef",
    usual: Usual::Any,
    fields: &[
        one(1, "schema_url", Str),
        one(2, "type", Str),
        many(3, "id_keys", Str),
        many(4, "description_keys", Str),
    ],
};

/// `opentelemetry.proto.resource.v1.Resource`
pub static RESOURCE: Message = Message {
    name: "Resource",
    usual: Usual::Attributes(1 << 3 | 2),
    fields: &[
        many(1, "attributes", msg(&KEY_VALUE)),
        one(2, "dropped_attributes_count", Uint32),
        many(3, "entity_refs", msg(&ENTITY_REF)),
    ],
};

// === trace.v1 ===

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`
pub static TRACES: Message = Message {
    name: "ExportTraceServiceRequest",
    usual: Usual::Any,
    fields: &[many(1, "resource_spans", msg(&RESOURCE_SPANS))],
};

/// `ResourceSpans`.
pub static RESOURCE_SPANS: Message = Message {
    name: "ResourceSpans",
    usual: Usual::Any,
    fields: &[one(1, "resource", msg(&RESOURCE)), many(2, "scope_spans", msg(&SCOPE_SPANS)), one(3, "schema_url", Str)],
};

/// `ScopeSpans`.
pub static SCOPE_SPANS: Message = Message {
    name: "ScopeSpans",
    usual: Usual::Any,
    fields: &[one(1, "scope", msg(&SCOPE)), many(2, "spans", msg(&SPAN)), one(3, "schema_url", Str)],
};

/// `opentelemetry.proto.trace.v1.Span.SpanKind`
pub const SPAN_KINDS: &[(&str, i32)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];

/// `opentelemetry.proto.trace.v1.Status.StatusCode`
pub const STATUS_CODES: &[(&str, i32)] = &[("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];

/// `opentelemetry.proto.trace.v1.Span`
pub static SPAN: Message = Message {
    name: "Span",
    usual: Usual::Attributes(9 << 3 | 2),
    fields: &[
        one(1, "trace_id", Id(TRACE_ID)),
        one(2, "span_id", Id(SPAN_ID)),
        one(3, "trace_state", Str),
        one(4, "parent_span_id", Id(SPAN_ID)),
        one(5, "name", Str),
        one(6, "kind", Enum(SPAN_KINDS)),
        one(7, "start_time_unix_nano", Fixed64),
        one(8, "end_time_unix_nano", Fixed64),
        many(9, "attributes", msg(&KEY_VALUE)),
        one(10, "dropped_attributes_count", Uint32),
        many(11, "events", msg(&EVENT)),
        one(12, "dropped_events_count", Uint32),
        many(13, "links", msg(&LINK)),
        one(14, "dropped_links_count", Uint32),
        one(15, "status", msg(&STATUS)),
        one(16, "flags", Fixed32),
    ],
};

/// `opentelemetry.proto.trace.v1.Span.Event`
pub static EVENT: Message = Message {
    name: "Event",
    usual: Usual::Attributes(3 << 3 | 2),
    fields: &[
        one(1, "time_unix_nano", Fixed64),
        one(2, "name", Str),
        many(3, "attributes", msg(&KEY_VALUE)),
        one(4, "dropped_attributes_count", Uint32),
    ],
};

/// `opentelemetry.proto.trace.v1.Span.Link`
pub static LINK: Message = Message {
    name: "Link",
    usual: Usual::Attributes(4 << 3 | 2),
    fields: &[
        one(1, "trace_id", Id(TRACE_ID)),
        one(2, "span_id", Id(SPAN_ID)),
        one(3, "trace_state", Str),
        many(4, "attributes", msg(&KEY_VALUE)),
        one(5, "dropped_attributes_count", Uint32),
        one(6, "flags", Fixed32),
    ],
};

static STATUS: Message = Message {
    name: "Status",
    usual: Usual::Any,
    fields: &[one(2, "message", Str), one(3, "code", Enum(STATUS_CODES))],
};

// === metrics.v1 ===

/// `opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest`
pub static METRICS: Message = Message {
    name: "ExportMetricsServiceRequest",
    usual: Usual::Any,
    fields: &[many(1, "resource_metrics", msg(&RESOURCE_METRICS))],
};

static RESOURCE_METRICS: Message = Message {
    name: "ResourceMetrics",
    usual: Usual::Any,
    fields: &[
        one(1, "resource", msg(&RESOURCE)),
        many(2, "scope_metrics", msg(&SCOPE_METRICS)),
        one(3, "schema_url", Str),
    ],
};

static SCOPE_METRICS: Message = Message {
    name: "ScopeMetrics",
    usual: Usual::Any,
    fields: &[one(1, "scope", msg(&SCOPE)), many(2, "metrics", msg(&METRIC)), one(3, "schema_url", Str)],
};

static METRIC: Message = Message {
    name: "Metric",
    usual: Usual::Any,
    fields: &[
        one(1, "name", Str),
        one(2, "description", Str),
        one(3, "unit", Str),
        either(5, "gauge", msg(&GAUGE)),
        either(7, "sum", msg(&SUM)),
        either(9, "histogram", msg(&HISTOGRAM)),
        either(10, "exponential_histogram", msg(&EXPONENTIAL_HISTOGRAM)),
        either(11, "summary", msg(&SUMMARY)),
        many(12, "metadata", msg(&KEY_VALUE)),
    ],
};

const TEMPORALITIES: &[(&str, i32)] = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];

static GAUGE: Message =
    Message { name: "Gauge", usual: Usual::Any, fields: &[many(1, "data_points", msg(&NUMBER_POINT))] };

static SUM: Message = Message {
    name: "Sum",
    usual: Usual::Any,
    fields: &[
        many(1, "data_points", msg(&NUMBER_POINT)),
        one(2, "aggregation_temporality", Enum(TEMPORALITIES)),
        one(3, "is_monotonic", Bool),
    ],
};

static HISTOGRAM: Message = Message {
    name: "Histogram",
    usual: Usual::Any,
    fields: &[many(1, "data_points", msg(&HISTOGRAM_POINT)), one(2, "aggregation_temporality", Enum(TEMPORALITIES))],
};

static EXPONENTIAL_HISTOGRAM: Message = Message {
    name: "ExponentialHistogram",
    usual: Usual::Any,
    fields: &[many(1, "data_points", msg(&EXPONENTIAL_POINT)), one(2, "aggregation_temporality", Enum(TEMPORALITIES))],
};

static SUMMARY: Message =
    Message { name: "Summary", usual: Usual::Any, fields: &[many(1, "data_points", msg(&SUMMARY_POINT))] };

static NUMBER_POINT: Message = Message {
    name: "NumberDataPoint",
    usual: Usual::Attributes(7 << 3 | 2),
    fields: &[
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        either(4, "as_double", Double),
        many(5, "exemplars", msg(&EXEMPLAR)),
        either(6, "as_int", Sfixed64),
        many(7, "attributes", msg(&KEY_VALUE)),
        one(8, "flags", Uint32),
    ],
};

static HISTOGRAM_POINT: Message = Message {
    name: "HistogramDataPoint",
    usual: Usual::Attributes(9 << 3 | 2),
    fields: &[
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "bucket_counts", Fixed64),
        many(7, "explicit_bounds", Double),
        many(8, "exemplars", msg(&EXEMPLAR)),
        many(9, "attributes", msg(&KEY_VALUE)),
        one(10, "flags", Uint32),
        one(11, "min", Double),
        one(12, "max", Double),
    ],
};

static EXPONENTIAL_POINT: Message = Message {
    name: "ExponentialHistogramDataPoint",
    usual: Usual::Attributes(1 << 3 | 2),
    fields: &[
        many(1, "attributes", msg(&KEY_VALUE)),
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        one(6, "scale", Sint32),
        one(7, "zero_count", Fixed64),
        one(8, "positive", msg(&BUCKETS)),
        one(9, "negative", msg(&BUCKETS)),
        one(10, "flags", Uint32),
        many(11, "exemplars", msg(&EXEMPLAR)),
        one(12, "min", Double),
        one(13, "max", Double),
        one(14, "zero_threshold", Double),
    ],
};

static BUCKETS: Message = Message {
    name: "Buckets",
    usual: Usual::Any,
    fields: &[one(1, "offset", Sint32), many(2, "bucket_counts", Uint64)],
};

static SUMMARY_POINT: Message = Message {
    name: "SummaryDataPoint",
    usual: Usual::Attributes(7 << 3 | 2),
    fields: &[
        one(2, "start_time_unix_nano", Fixed64),
        one(3, "time_unix_nano", Fixed64),
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "quantile_values", msg(&QUANTILE)),
        many(7, "attributes", msg(&KEY_VALUE)),
        one(8, "flags", Uint32),
    ],
};

static QUANTILE: Message = Message {
    name: "ValueAtQuantile",
    usual: Usual::Any,
    fields: &[one(1, "quantile", Double), one(2, "value", Double)],
};

static EXEMPLAR: Message = Message {
    name: "Exemplar",
    usual: Usual::Any,
    fields: &[
        one(2, "time_unix_nano", Fixed64),
        either(3, "as_double", Double),
        one(4, "span_id", Id(SPAN_ID)),
        one(5, "trace_id", Id(TRACE_ID)),
        either(6, "as_int", Sfixed64),
        many(7, "filtered_attributes", msg(&KEY_VALUE)),
    ],
};

// === logs.v1 ===

/// `opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest`
pub static LOGS: Message = Message {
    name: "ExportLogsServiceRequest",
    usual: Usual::Any,
    fields: &[many(1, "resource_logs", msg(&RESOURCE_LOGS))],
};

static RESOURCE_LOGS: Message = Message {
    name: "ResourceLogs",
    usual: Usual::Any,
    fields: &[one(1, "resource", msg(&RESOURCE)), many(2, "scope_logs", msg(&SCOPE_LOGS)), one(3, "schema_url", Str)],
};

static SCOPE_LOGS: Message = Message {
    name: "ScopeLogs",
    usual: Usual::Any,
    fields: &[one(1, "scope", msg(&SCOPE)), many(2, "log_records", msg(&LOG_RECORD)), one(3, "schema_url", Str)],
};

/// `opentelemetry.proto.logs.v1.SeverityNumber`
pub const SEVERITIES: &[(&str, i32)] = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];

/// `opentelemetry.proto.logs.v1.LogRecord`
pub static LOG_RECORD: Message = Message {
    name: "LogRecord",
    usual: Usual::Attributes(6 << 3 | 2),
    fields: &[
        one(1, "time_unix_nano", Fixed64),
        one(2, "severity_number", Enum(SEVERITIES)),
        one(3, "severity_text", Str),
        one(5, "body", msg(&ANY_VALUE)),
        many(6, "attributes", msg(&KEY_VALUE)),
        one(7, "dropped_attributes_count", Uint32),
        one(8, "flags", Fixed32),
        one(9, "trace_id", Id(TRACE_ID)),
        one(10, "span_id", Id(SPAN_ID)),
        one(11, "observed_time_unix_nano", Fixed64),
        one(12, "event_name", Str),
    ],
};
