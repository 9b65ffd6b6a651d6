//! Weir's own metrics as an OTLP request.
//!
//! Counters are sums, from the start of the process or from the last request ([`Temporality`]), levels are gauges; money
//! and times are doubles in the unit that is said, counts are integers. Names, labels and units are those of the
//! Collector, without the suffixes of Prometheus.

use std::collections::BTreeMap;

use weir_pipeline::batch::wire::{FIXED64, put_bytes, put_tag, put_uint};
use weir_pipeline::telemetry::{Description, Family, Kind, Labels, Level, Temporality};

use super::collect::{Collected, DIFFERENCE, DIFFERENCE_IS, shown_name};
use super::since::Since;

/// `AGGREGATION_TEMPORALITY_DELTA`
const DELTA: u64 = 1;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// Which metrics are told, from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extract<'a> {
    pub(super) level: Level,
    pub(super) started_unix_nanos: u64,
    pub(super) now_unix_nanos: u64,
    pub(super) temporality: Temporality,
    /// What sums of delta temporality begin with.
    pub(super) since: &'a Since,
}

/// The protobuf bytes of an `ExportMetricsServiceRequest`.
pub(super) fn request(collected: &Collected, resource: &BTreeMap<String, String>, extract: Extract<'_>) -> Vec<u8> {
    let times = Times { started: extract.started_unix_nanos, now: extract.now_unix_nanos };
    let times_since = Times { started: extract.since.unix_nanos(), ..times };
    let mut scope_metrics = message(|scope_metrics| {
        let scope = message(|scope| {
            put_bytes(scope, 1, b"weir");
            put_bytes(scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        });
        put_bytes(scope_metrics, 1, &scope);
    });
    let shown = collected.families.iter().filter(|family| family.description.level <= extract.level);
    let counted_now = shown.map(|family| (family, extract.temporality != Temporality::Cumulative));
    let read_now = collected.process.iter().map(|family| (family, extract.temporality == Temporality::Delta));
    for (family, is_delta) in counted_now.chain(read_now) {
        let Family { name, description, series } = family;
        let is_delta = is_delta && description.kind == Kind::Counter;
        let points = series.iter().filter_map(|(labels, value)| {
            let value = if is_delta { extract.since.news(name, labels, *value) } else { *value };
            if is_delta && value == 0 {
                return None;
            }
            let number = match description.divisor {
                0 | 1 => Number::integer(value.into()),
                divisor => Number::Double(value as f64 / divisor as f64),
            };
            Some(point(labels, number, if is_delta { times_since } else { times }))
        });
        let temporality = if is_delta { DELTA } else { CUMULATIVE };
        put_metric(&mut scope_metrics, &shown_name(name, *description), *description, temporality, points);
    }
    let points = collected.balances.iter().map(|balance| {
        let labels: Labels =
            vec![("exporter", balance.exporter.clone()), ("signal", balance.signal.as_str().to_owned())];
        point(&labels, Number::integer(balance.difference()), times)
    });
    put_metric(&mut scope_metrics, DIFFERENCE, DIFFERENCE_IS, CUMULATIVE, points);
    let resource_metrics = message(|out| {
        let resource = message(|out| resource.iter().for_each(|(name, value)| put_attribute(out, 1, name, value)));
        put_bytes(out, 1, &resource);
        put_bytes(out, 2, &scope_metrics);
    });
    message(|out| put_bytes(out, 1, &resource_metrics))
}

#[derive(Clone, Copy)]
struct Times {
    started: u64,
    now: u64,
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    /// As an integer if it is small enough for one.
    fn integer(value: i128) -> Self {
        i64::try_from(value).map_or(Self::Double(value as f64), Self::Int)
    }
}

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

/// A metric, unless it has no points. The temporality is for sums.
fn put_metric(
    out: &mut Vec<u8>,
    name: &str,
    description: Description,
    temporality: u64,
    points: impl Iterator<Item = Vec<u8>>,
) {
    let mut data = message(|data| points.for_each(|point| put_bytes(data, 1, &point)));
    if data.is_empty() {
        return;
    }
    let metric = message(|metric| {
        put_bytes(metric, 1, name.as_bytes());
        put_bytes(metric, 2, description.help.as_bytes());
        put_bytes(metric, 3, description.unit.as_bytes());
        match description.kind {
            Kind::Gauge => put_bytes(metric, 5, &data),
            Kind::Counter => {
                put_uint(&mut data, 2, temporality);
                // It only goes up.
                put_uint(&mut data, 3, 1);
                put_bytes(metric, 7, &data);
            }
        }
    });
    put_bytes(out, 2, &metric);
}

/// A `NumberDataPoint`.
fn point(labels: &Labels, number: Number, times: Times) -> Vec<u8> {
    message(|point| {
        put_fixed64(point, 2, times.started);
        put_fixed64(point, 3, times.now);
        match number {
            Number::Int(int) => put_fixed64(point, 6, int as u64),
            Number::Double(double) => put_fixed64(point, 4, double.to_bits()),
        }
        labels.iter().for_each(|(name, value)| put_attribute(point, 7, name, value));
    })
}

fn put_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    put_tag(out, number, FIXED64);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, text: &str) {
    let attribute = message(|attribute| {
        put_bytes(attribute, 1, key.as_bytes());
        put_bytes(attribute, 2, &message(|any| put_bytes(any, 1, text.as_bytes())));
    });
    put_bytes(out, number, &attribute);
}
