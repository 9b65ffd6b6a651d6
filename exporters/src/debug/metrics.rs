//! Metrics as text.

use std::fmt::{self, Display, Write as _};

use weir_pipeline::batch::view::KeyValue;
use weir_pipeline::batch::wire::{FIXED64, Fields, LEN, Reader};

use super::text::{Clean, Id, Time, all, attributes, last, plain, scalar, text};

/// The kinds of metric by the field that holds their data.
const KINDS: [(u32, &str); 5] =
    [(5, "Gauge"), (7, "Sum"), (9, "Histogram"), (10, "ExponentialHistogram"), (11, "Summary")];

/// The kind of a metric and its data. As with every `oneof`, the last one counts.
fn data(metric: &[u8]) -> (u32, &'static str, &[u8]) {
    let of = |number| KINDS.iter().find(|(n, _)| *n == number);
    let found = Fields::new(metric).filter_map(|f| of(f.number).map(|(n, name)| (*n, *name, f.bytes))).last();
    found.unwrap_or((0, "Empty", &[]))
}

// === normal ===

/// `normal` verbosity: `name{attribute=value} value`, a line per data point. Writing to a `String` cannot fail.
pub(super) fn lines(metric: &[u8], out: &mut String) {
    let (kind, _, data) = data(metric);
    for point in all(data, 1) {
        let _ = write!(out, "{}{{", text(metric, 1));
        for (i, bytes) in all(point, attributes_field(kind)).enumerate() {
            let (key, value) = KeyValue::parse(bytes).pair();
            let _ = write!(out, "{}{}=", if i > 0 { "," } else { "" }, Clean(key.as_str()));
            plain(value, out);
        }
        out.push_str("} ");
        match kind {
            9 => histogram_line(point, out),
            10 => exponential_line(point, out),
            11 => summary_line(point, out),
            _ => match number(point, 6, 4) {
                Some(Number::Int(value)) => _ = write!(out, "{value}"),
                Some(Number::Double(value)) => _ = write!(out, "{}", Shortest(value)),
                None => {}
            },
        }
        out.push('\n');
    }
}

fn histogram_line(point: &[u8], out: &mut String) {
    let _ = write!(out, "count={}", scalar(point, 4));
    extremes_line(point, [5, 11, 12], out);
    let bounds = fixed64s(point, 7);
    for (i, count) in fixed64s(point, 6).into_iter().enumerate() {
        match bounds.get(i) {
            Some(bound) => _ = write!(out, " le{}={count}", Shortest(f64::from_bits(*bound))),
            None => _ = write!(out, " {count}"),
        }
    }
}

fn exponential_line(point: &[u8], out: &mut String) {
    let _ = write!(out, "count={}", scalar(point, 4));
    extremes_line(point, [5, 12, 13], out);
    let Exponential { factor, negative, positive } = Exponential::of(point);
    for (index, count) in negative.iter().rev() {
        let _ = write!(out, " le{}={count}", Shortest(-(index * factor).exp()));
    }
    let zero = scalar(point, 7);
    if zero != 0 {
        let _ = write!(out, " zero={zero}");
    }
    for (index, count) in positive {
        let _ = write!(out, " le{}={count}", Shortest(((index + 1.0) * factor).exp()));
    }
}

fn summary_line(point: &[u8], out: &mut String) {
    let _ = write!(out, "count={} sum={}", scalar(point, 4), Six(float(point, 5)));
    for quantile in all(point, 6) {
        let _ = write!(out, " q{}={}", Shortest(float(quantile, 1)), Shortest(float(quantile, 2)));
    }
}

/// Sum, minimum and maximum, as far as they are there.
fn extremes_line(point: &[u8], fields: [u32; 3], out: &mut String) {
    for (name, field) in ["sum", "min", "max"].into_iter().zip(fields) {
        if let Some(value) = optional(point, field) {
            let _ = write!(out, " {name}={}", Shortest(value));
        }
    }
}

// === detailed ===

/// `detailed` verbosity.
pub(super) fn everything(metric: &[u8], out: &mut String) {
    let (kind, type_name, data) = data(metric);
    let _ = writeln!(out, "Descriptor:\n     -> Name: {}", text(metric, 1));
    let _ = writeln!(out, "     -> Description: {}\n     -> Unit: {}", text(metric, 2), text(metric, 3));
    let _ = writeln!(out, "     -> DataType: {type_name}");
    attributes("     ", "     -> Metadata", metric, 12, out);
    if kind == 7 {
        let _ = writeln!(out, "     -> IsMonotonic: {}", scalar(data, 3) != 0);
    }
    if matches!(kind, 7 | 9 | 10) {
        let temporality = match scalar(data, 2) {
            0 => "Unspecified",
            1 => "Delta",
            2 => "Cumulative",
            _ => "",
        };
        let _ = writeln!(out, "     -> AggregationTemporality: {temporality}");
    }
    let name = match kind {
        9 => "HistogramDataPoints",
        10 => "ExponentialHistogramDataPoints",
        11 => "SummaryDataPoints",
        _ => "NumberDataPoints",
    };
    for (i, point) in all(data, 1).enumerate() {
        let _ = writeln!(out, "{name} #{i}");
        attributes("", "Data point attributes", point, attributes_field(kind), out);
        let _ = writeln!(out, "StartTimestamp: {}\nTimestamp: {}", Time(scalar(point, 2)), Time(scalar(point, 3)));
        match kind {
            9 => histogram(point, out),
            10 => exponential(point, out),
            11 => summary(point, out),
            _ => {
                value("Value: ", number(point, 6, 4), out);
                exemplars(point, 5, out);
            }
        }
    }
}

fn histogram(point: &[u8], out: &mut String) {
    let _ = writeln!(out, "Count: {}", scalar(point, 4));
    extremes(point, [5, 11, 12], out);
    for (i, bound) in fixed64s(point, 7).into_iter().enumerate() {
        let _ = writeln!(out, "ExplicitBounds #{i}: {}", Six(f64::from_bits(bound)));
    }
    for (i, count) in fixed64s(point, 6).into_iter().enumerate() {
        let _ = writeln!(out, "Buckets #{i}, Count: {count}");
    }
    exemplars(point, 8, out);
}

fn exponential(point: &[u8], out: &mut String) {
    let _ = writeln!(out, "Count: {}", scalar(point, 4));
    extremes(point, [5, 12, 13], out);
    let Exponential { factor, negative, positive } = Exponential::of(point);
    let bounds = |index: f64| ((index * factor).exp(), ((index + 1.0) * factor).exp());
    for (index, count) in negative.iter().rev() {
        let (lower, upper) = bounds(*index);
        let _ = writeln!(out, "Bucket [{}, {}), Count: {count}", Six(-upper), Six(-lower));
    }
    let zero = scalar(point, 7);
    if zero != 0 {
        let _ = writeln!(out, "Bucket [0, 0], Count: {zero}");
    }
    for (index, count) in positive {
        let (lower, upper) = bounds(index);
        let _ = writeln!(out, "Bucket ({}, {}], Count: {count}", Six(lower), Six(upper));
    }
    exemplars(point, 11, out);
}

fn summary(point: &[u8], out: &mut String) {
    let _ = writeln!(out, "Count: {}\nSum: {}", scalar(point, 4), Six(float(point, 5)));
    for (i, quantile) in all(point, 6).enumerate() {
        let (q, value) = (Six(float(quantile, 1)), Six(float(quantile, 2)));
        let _ = writeln!(out, "QuantileValue #{i}: Quantile {q}, Value {value}");
    }
}

fn extremes(point: &[u8], fields: [u32; 3], out: &mut String) {
    for (name, field) in ["Sum", "Min", "Max"].into_iter().zip(fields) {
        if let Some(value) = optional(point, field) {
            let _ = writeln!(out, "{name}: {}", Six(value));
        }
    }
}

fn exemplars(point: &[u8], field: u32, out: &mut String) {
    for (i, exemplar) in all(point, field).enumerate() {
        if i == 0 {
            out.push_str("Exemplars:\n");
        }
        let _ = writeln!(out, "Exemplar #{i}\n     -> Trace ID: {}", Id(last(exemplar, 5)));
        let _ = writeln!(out, "     -> Span ID: {}", Id(last(exemplar, 4)));
        let _ = writeln!(out, "     -> Timestamp: {}", Time(scalar(exemplar, 2)));
        value("     -> Value: ", number(exemplar, 6, 3), out);
        attributes("     ", "     -> FilteredAttributes", exemplar, 7, out);
    }
}

fn value(label: &str, number: Option<Number>, out: &mut String) {
    match number {
        Some(Number::Int(value)) => _ = writeln!(out, "{label}{value}"),
        Some(Number::Double(value)) => _ = writeln!(out, "{label}{}", Six(value)),
        None => {}
    }
}

// === Fields ===

/// Where the data points of a kind have their attributes.
const fn attributes_field(kind: u32) -> u32 {
    match kind {
        9 => 9,
        10 => 1,
        _ => 7,
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

/// The value of a data point or exemplar, by the fields of the two alternatives.
fn number(message: &[u8], int: u32, double: u32) -> Option<Number> {
    let last = Fields::new(message).filter(|f| f.number == int || f.number == double).last()?;
    Some(if last.number == int {
        Number::Int(last.scalar.cast_signed())
    } else {
        Number::Double(f64::from_bits(last.scalar))
    })
}

fn float(message: &[u8], number: u32) -> f64 {
    optional(message, number).unwrap_or(0.0)
}

fn optional(message: &[u8], number: u32) -> Option<f64> {
    Fields::new(message).filter(|f| f.number == number).last().map(|f| f64::from_bits(f.scalar))
}

/// A repeated field of eight bytes each, packed or not.
fn fixed64s(message: &[u8], number: u32) -> Vec<u64> {
    let mut values = Vec::new();
    for field in Fields::new(message).filter(|f| f.number == number) {
        match field.wire_type {
            FIXED64 => values.push(field.scalar),
            LEN => values.extend(field.bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))),
            _ => {}
        }
    }
    values
}

/// A repeated varint, packed or not.
fn varints(message: &[u8], number: u32) -> Vec<u64> {
    let mut values = Vec::new();
    for field in Fields::new(message).filter(|f| f.number == number) {
        if field.wire_type == LEN {
            let mut reader = Reader::new(field.bytes);
            while !reader.is_empty() {
                let Ok(value) = reader.varint() else { break };
                values.push(value);
            }
        } else {
            values.push(field.scalar);
        }
    }
    values
}

/// protobuf's `sint32`.
fn zigzag(value: u64) -> f64 {
    // Both are 32 bits wide on the wire.
    let value = (value & u64::from(u32::MAX)) as u32;
    f64::from((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

/// The buckets of an exponential histogram: index and count.
struct Exponential {
    /// Natural logarithm of the ratio of two bounds.
    factor: f64,
    negative: Vec<(f64, u64)>,
    positive: Vec<(f64, u64)>,
}

impl Exponential {
    fn of(point: &[u8]) -> Self {
        let buckets = |bytes: &[u8]| {
            let offset = zigzag(scalar(bytes, 1));
            varints(bytes, 2).into_iter().enumerate().map(|(i, count)| (offset + i as f64, count)).collect()
        };
        Self {
            factor: std::f64::consts::LN_2 * (-zigzag(scalar(point, 6))).exp2(),
            negative: buckets(last(point, 9)),
            positive: buckets(last(point, 8)),
        }
    }
}

// === Numbers as Go prints them ===

/// `%f`: six decimals.
struct Six(f64);

impl Display for Six {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(f, "{value:.6}"),
        }
    }
}

/// `%v`: the shortest digits that read back as the same number, with an exponent of at least two digits below 1e-4 and
/// from 1e21 on.
struct Shortest(f64);

impl Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if !self.0.is_finite() {
            return Six(self.0).fmt(f);
        }
        if magnitude == 0.0 || (1e-4..1e21).contains(&magnitude) {
            return write!(f, "{}", self.0);
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        write!(f, "{digits}e{sign}{exponent:0>2}")
    }
}
