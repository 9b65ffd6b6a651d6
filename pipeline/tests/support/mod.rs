//! Random OTLP requests for property tests, as prost makes them: [`arb_traces`], [`arb_metrics`], [`arb_logs`].
//!
//! They are small but mean: empty and repeated keys, absent values, all kinds of `AnyValue` nested in each other, NaN and
//! infinities, the ends of every integer's range, ids that are empty, and text from all of Unicode. Every field of every
//! message is set now and then.

// Each test binary compiles this module for itself and may need only a part of it.
#![allow(dead_code)]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A trace request of up to eight spans.
pub(crate) fn arb_traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = (option::of(scope()), vec(span(), 0..3), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    });
    let resource = (option::of(resource()), vec(scope, 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// A metrics request of up to eight metrics.
pub(crate) fn arb_metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let scope = (option::of(scope()), vec(metric(), 0..3), text())
        .prop_map(|(scope, metrics, schema_url)| ScopeMetrics { scope, metrics, schema_url });
    let resource = (option::of(resource()), vec(scope, 0..3), text())
        .prop_map(|(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url });
    vec(resource, 0..3).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

/// A logs request of up to eight records.
pub(crate) fn arb_logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope = (option::of(scope()), vec(log_record(), 0..3), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource = (option::of(resource()), vec(scope, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resource, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

// === Scalars ===

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("say \"hi\",\\ \u{0}\u{1f}\u{7f}\r\n\t/ \u{2028} naïve 日本 🦀".to_owned()),
        vec(any::<char>(), 0..6).prop_map(String::from_iter),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known = ["", "a", "gen_ai.request.model", "gen_ai.usage.input_tokens"].map(str::to_owned);
    prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => text()]
}

fn u32s() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn u64s() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), Just(1_795_225_645_962_000_000), any::<u64>()]
}

fn i32s() -> impl Strategy<Value = i32> {
    prop_oneof![Just(0), Just(i32::MIN), Just(i32::MAX), any::<i32>()]
}

fn i64s() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), any::<i64>()]
}

fn doubles() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 7.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 5e-324];
    prop_oneof![prop::sample::select(special.to_vec()), any::<f64>().prop_filter("one NaN is enough", |v| !v.is_nan())]
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), len), 1 => Just(Vec::new())]
}

/// An enumeration's number, now and then one that has no name.
fn number(known: i32) -> impl Strategy<Value = i32> {
    prop_oneof![9 => 0..=known, 1 => any::<i32>()]
}

// === Common ===

fn any_value() -> impl Strategy<Value = AnyValue> {
    use any_value::Value;
    let leaf = prop_oneof![
        1 => Just(None),
        4 => text().prop_map(|v| Some(Value::StringValue(v))),
        1 => any::<bool>().prop_map(|v| Some(Value::BoolValue(v))),
        2 => i64s().prop_map(|v| Some(Value::IntValue(v))),
        2 => doubles().prop_map(|v| Some(Value::DoubleValue(v))),
        1 => vec(any::<u8>(), 0..20).prop_map(|v| Some(Value::BytesValue(v))),
        1 => i32s().prop_map(|v| Some(Value::StringValueStrindex(v))),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(key_value(inner), 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    (key(), option::weighted(0.9, value), prop_oneof![9 => Just(0), 1 => i32s()])
        .prop_map(|(key, value, key_strindex)| KeyValue { key, value, key_strindex })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(any_value()), 0..4)
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    );
    (attributes(), u32s(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| Resource {
        attributes,
        dropped_attributes_count,
        entity_refs,
    })
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (text(), text(), attributes(), u32s()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count }
    })
}

// === Traces ===

fn span() -> impl Strategy<Value = Span> {
    let event = (u64s(), text(), attributes(), u32s()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), text(), attributes(), u32s(), u32s()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    );
    let status = (text(), number(2)).prop_map(|(message, code)| Status { message, code });
    let ids = (id(16), id(8), id(8), text(), u32s());
    let base = (text(), number(5), u64s(), u64s(), option::of(status));
    let lists = (attributes(), u32s(), vec(event, 0..3), u32s(), vec(link, 0..3), u32s());
    (ids, base, lists).prop_map(|(ids, base, lists)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        flags: ids.4,
        name: base.0,
        kind: base.1,
        start_time_unix_nano: base.2,
        end_time_unix_nano: base.3,
        status: base.4,
        attributes: lists.0,
        dropped_attributes_count: lists.1,
        events: lists.2,
        dropped_events_count: lists.3,
        links: lists.4,
        dropped_links_count: lists.5,
    })
}

// === Metrics ===

fn metric() -> impl Strategy<Value = Metric> {
    let data = prop_oneof![
        vec(number_point(), 0..3).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number_point(), 0..3), number(2), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| {
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
            }
        ),
        (vec(histogram_point(), 0..3), number(2)).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        (vec(exponential_point(), 0..3), number(2)).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }),
        vec(summary_point(), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ];
    (text(), text(), text(), attributes(), option::weighted(0.9, data))
        .prop_map(|(name, description, unit, metadata, data)| Metric { name, description, unit, metadata, data })
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let value = prop_oneof![doubles().prop_map(exemplar::Value::AsDouble), i64s().prop_map(exemplar::Value::AsInt)];
    (attributes(), u64s(), id(8), id(16), option::of(value)).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    )
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    use number_data_point::Value;
    let value = prop_oneof![doubles().prop_map(Value::AsDouble), i64s().prop_map(Value::AsInt)];
    (attributes(), u64s(), u64s(), vec(exemplar(), 0..2), u32s(), option::weighted(0.9, value)).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        },
    )
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    let base = (attributes(), u64s(), u64s(), u64s(), vec(exemplar(), 0..2), u32s());
    let summary = (option::of(doubles()), option::of(doubles()), option::of(doubles()));
    (base, summary, vec(u64s(), 0..4), vec(doubles(), 0..4)).prop_map(
        |(base, (sum, min, max), bucket_counts, explicit_bounds)| HistogramDataPoint {
            attributes: base.0,
            start_time_unix_nano: base.1,
            time_unix_nano: base.2,
            count: base.3,
            exemplars: base.4,
            flags: base.5,
            sum,
            min,
            max,
            bucket_counts,
            explicit_bounds,
        },
    )
}

fn exponential_point() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        let buckets = (i32s(), vec(u64s(), 0..4));
        option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }))
    };
    let base = (attributes(), u64s(), u64s(), u64s(), vec(exemplar(), 0..2), u32s());
    let summary = (option::of(doubles()), option::of(doubles()), option::of(doubles()));
    (base, summary, i32s(), u64s(), doubles(), buckets(), buckets()).prop_map(
        |(base, (sum, min, max), scale, zero_count, zero_threshold, positive, negative)| {
            ExponentialHistogramDataPoint {
                attributes: base.0,
                start_time_unix_nano: base.1,
                time_unix_nano: base.2,
                count: base.3,
                exemplars: base.4,
                flags: base.5,
                sum,
                min,
                max,
                scale,
                zero_count,
                zero_threshold,
                positive,
                negative,
            }
        },
    )
}

fn summary_point() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (doubles(), doubles()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), u64s(), u64s(), u64s(), doubles(), vec(quantile, 0..3), u32s()).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, count, sum, quantile_values, flags)| SummaryDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            count,
            sum,
            quantile_values,
            flags,
        },
    )
}

// === Logs ===

fn log_record() -> impl Strategy<Value = LogRecord> {
    let base = (u64s(), u64s(), number(24), text(), text());
    let rest = (option::of(any_value()), attributes(), u32s(), u32s(), id(16), id(8));
    (base, rest).prop_map(|(base, rest)| LogRecord {
        time_unix_nano: base.0,
        observed_time_unix_nano: base.1,
        severity_number: base.2,
        severity_text: base.3,
        event_name: base.4,
        body: rest.0,
        attributes: rest.1,
        dropped_attributes_count: rest.2,
        flags: rest.3,
        trace_id: rest.4,
        span_id: rest.5,
    })
}
