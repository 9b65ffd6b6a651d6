//! Requests as text, as the Collector's debug exporter writes them: containers and spans.
//!
//! What differs: duplicate keys are all shown, and so are lists and maps that hold infinities or no numbers, of which the
//! Collector shows nothing.
//!
//! Decision: control characters in what clients sent are shown as escapes: `\n`, `\u001b`. The Collector writes them as
//! they are, so that whoever may send a span may write lines of their own into a log, or colours into a terminal.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir_pipeline::batch::view::{KeyValue, SpanFields, Text, Value};
use weir_pipeline::batch::wire::Fields;
use weir_pipeline::hex::Hex;
use weir_pipeline::signal::Signal;

use super::{logs, metrics};
use crate::calendar::Civil;

/// The line of counts. Writing to a `String` cannot fail, here and below.
pub(super) fn counts(signal: Signal, request: &[u8], records: usize, out: &mut String) {
    let resources = all(request, 1).count();
    let _ = match signal {
        Signal::Traces => writeln!(out, "Traces\t{{\"resource spans\": {resources}, \"spans\": {records}}}"),
        Signal::Logs => writeln!(out, "Logs\t{{\"resource logs\": {resources}, \"log records\": {records}}}"),
        Signal::Metrics => {
            let metrics: usize =
                all(request, 1).flat_map(|resource| all(resource, 2)).map(|scope| all(scope, 2).count()).sum();
            let counts = format!("\"resource metrics\": {resources}, \"metrics\": {metrics}");
            writeln!(out, "Metrics\t{{{counts}, \"data points\": {records}}}")
        }
    };
}

/// `normal` verbosity: a line per resource, scope and span, log record or data point.
pub(super) fn lines(signal: Signal, request: &[u8], out: &mut String) {
    let (resource, scope_name) = match signal {
        Signal::Traces => ("ResourceTraces", "ScopeTraces"),
        Signal::Logs => ("ResourceLog", "ScopeLog"),
        Signal::Metrics => ("ResourceMetrics", "ScopeMetrics"),
    };
    for (i, resource_spans) in all(request, 1).enumerate() {
        let _ = write!(out, "{resource} #{i}");
        schema_url(resource_spans, out);
        pairs(last(resource_spans, 1), 1, out);
        out.push('\n');
        for (j, scope_spans) in all(resource_spans, 2).enumerate() {
            let scope = last(scope_spans, 1);
            let _ = write!(out, "{scope_name} #{j}");
            match (text(scope, 1), text(scope, 2)) {
                (name, version) if name.is_empty() && version.is_empty() => {}
                (name, version) if version.is_empty() => _ = write!(out, " {name}"),
                (name, version) => _ = write!(out, " {name}@{version}"),
            }
            schema_url(scope_spans, out);
            pairs(scope, 3, out);
            out.push('\n');
            for record in all(scope_spans, 2) {
                match signal {
                    Signal::Traces => span_line(record, out),
                    Signal::Logs => logs::line(record, out),
                    Signal::Metrics => metrics::lines(record, out),
                }
            }
        }
    }
}

/// `detailed` verbosity.
pub(super) fn everything(signal: Signal, request: &[u8], out: &mut String) {
    let (resource, scopes, name) = match signal {
        Signal::Traces => ("ResourceSpans", "ScopeSpans", "Span"),
        Signal::Logs => ("ResourceLog", "ScopeLogs", "LogRecord"),
        Signal::Metrics => ("ResourceMetrics", "ScopeMetrics", "Metric"),
    };
    for (i, resource_spans) in all(request, 1).enumerate() {
        let _ = writeln!(out, "{resource} #{i}\nResource SchemaURL: {}", text(resource_spans, 3));
        attributes("", "Resource attributes", last(resource_spans, 1), 1, out);
        for (j, scope_spans) in all(resource_spans, 2).enumerate() {
            let scope = last(scope_spans, 1);
            let _ = writeln!(out, "{scopes} #{j}\n{scopes} SchemaURL: {}", text(scope_spans, 3));
            let _ = writeln!(out, "InstrumentationScope {} {}", text(scope, 1), text(scope, 2));
            attributes("", "InstrumentationScope attributes", scope, 3, out);
            for (k, record) in all(scope_spans, 2).enumerate() {
                let _ = writeln!(out, "{name} #{k}");
                match signal {
                    Signal::Traces => span_text(record, out),
                    Signal::Logs => logs::everything(record, out),
                    Signal::Metrics => metrics::everything(record, out),
                }
            }
        }
    }
}

fn span_line(span: &[u8], out: &mut String) {
    let fields = SpanFields::parse(span);
    let _ = write!(out, "{} {} {}", Clean(fields.name.as_str()), Id(fields.trace_id), Id(fields.span_id));
    pairs(span, 9, out);
    out.push('\n');
}

fn span_text(span: &[u8], out: &mut String) {
    let fields = SpanFields::parse(span);
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "    {name:<15}: {value}");
    };
    line("Trace ID", &Id(fields.trace_id));
    line("Parent ID", &Id(fields.parent_span_id));
    line("ID", &Id(fields.span_id));
    line("Name", &Clean(fields.name.as_str()));
    line("Kind", &kind(fields.kind));
    if !fields.trace_state.is_empty() {
        line("TraceState", &Clean(fields.trace_state.as_str()));
    }
    line("Start time", &Time(fields.start_time_unix_nano));
    line("End time", &Time(fields.end_time_unix_nano));
    line("Status code", &status(fields.status_code));
    line("Status message", &Clean(fields.status_message.as_str()));
    line("DroppedAttributesCount", &fields.dropped_attributes_count);
    line("DroppedEventsCount", &fields.dropped_events_count);
    line("DroppedLinksCount", &fields.dropped_links_count);
    attributes("", "Attributes", span, 9, out);
    for (i, event) in all(span, 11).enumerate() {
        if i == 0 {
            out.push_str("Events:\n");
        }
        let _ = writeln!(out, "SpanEvent #{i}");
        let _ = writeln!(out, "     -> Name: {}", text(event, 2));
        let _ = writeln!(out, "     -> Timestamp: {}", Time(scalar(event, 1)));
        let _ = writeln!(out, "     -> DroppedAttributesCount: {}", scalar(event, 4));
        attributes("     ", "     -> Attributes:", event, 3, out);
    }
    for (i, link) in all(span, 13).enumerate() {
        if i == 0 {
            out.push_str("Links:\n");
        }
        let _ = writeln!(out, "SpanLink #{i}");
        let _ = writeln!(out, "     -> Trace ID: {}", Id(last(link, 1)));
        let _ = writeln!(out, "     -> ID: {}", Id(last(link, 2)));
        let _ = writeln!(out, "     -> TraceState: {}", text(link, 3));
        let _ = writeln!(out, "     -> DroppedAttributesCount: {}", scalar(link, 5));
        attributes("     ", "     -> Attributes:", link, 4, out);
    }
}

const fn kind(number: i32) -> &'static str {
    match number {
        0 => "Unspecified",
        1 => "Internal",
        2 => "Server",
        3 => "Client",
        4 => "Producer",
        5 => "Consumer",
        _ => "",
    }
}

const fn status(number: i32) -> &'static str {
    match number {
        0 => "Unset",
        1 => "Ok",
        2 => "Error",
        _ => "",
    }
}

/// The `KeyValue`s that `message` holds in field `number`, one per line below a header.
pub(super) fn attributes(indent: &str, header: &str, message: &[u8], number: u32, out: &mut String) {
    for (i, bytes) in all(message, number).enumerate() {
        if i == 0 {
            let _ = writeln!(out, "{header}:");
        }
        let (key, value) = KeyValue::parse(bytes).pair();
        let _ = write!(out, "{indent}     -> {}: {}(", Clean(key.as_str()), type_name(value));
        plain(value, out);
        out.push_str(")\n");
    }
}

/// The same as ` key=value` on one line.
pub(super) fn pairs(message: &[u8], number: u32, out: &mut String) {
    for bytes in all(message, number) {
        let (key, value) = KeyValue::parse(bytes).pair();
        let _ = write!(out, " {}=", Clean(key.as_str()));
        plain(value, out);
    }
}

fn schema_url(message: &[u8], out: &mut String) {
    let url = text(message, 3);
    if !url.is_empty() {
        let _ = write!(out, " [{url}]");
    }
}

pub(super) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Empty => "Empty",
        Value::Str(_) => "Str",
        Value::Bool(_) => "Bool",
        Value::Int(_) => "Int",
        Value::Double(_) => "Double",
        Value::Array(_) => "Slice",
        Value::KvList(_) => "Map",
        Value::Bytes(_) => "Bytes",
    }
}

/// A value by itself: texts without quotes, compound values as JSON.
pub(super) fn plain(value: Value<'_>, out: &mut String) {
    match value {
        Value::Empty => {}
        Value::Str(text) => _ = write!(out, "{}", Clean(text.as_str())),
        Value::Bytes(bytes) => STANDARD.encode_string(bytes, out),
        other => json(other, out),
    }
}

/// A value as Go's encoding/json writes it, with sorted keys.
fn json(value: Value<'_>, out: &mut String) {
    match value {
        Value::Empty => out.push_str("null"),
        Value::Str(text) => quoted(text, out),
        Value::Bool(value) => _ = write!(out, "{value}"),
        Value::Int(value) => _ = write!(out, "{value}"),
        Value::Double(value) => double(value, out),
        Value::Bytes(bytes) => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
        Value::Array(array) => {
            out.push('[');
            for (i, value) in array.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json(value, out);
            }
            out.push(']');
        }
        Value::KvList(list) => {
            let mut entries: Vec<_> = list.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quoted(key, out);
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
    }
}

fn quoted(text: Text<'_>, out: &mut String) {
    // A string always has a JSON form, which leaves some control characters as they are.
    let _ = write!(out, "{}", Clean(&serde_json::to_string(text.as_str()).unwrap_or_default()));
}

/// The shortest digits that read back as the same number; with an exponent where Go writes one.
pub(super) fn double(value: f64, out: &mut String) {
    let magnitude = value.abs();
    let _ = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}", if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            _ => write!(out, "{text}"),
        }
    } else {
        write!(out, "{value}")
    };
}

/// A text without control characters, which are shown as escapes.
#[derive(Clone, Copy)]
pub(super) struct Clean<'t>(pub(super) &'t str);

impl Clean<'_> {
    pub(super) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in self.0.split_inclusive(is_control) {
            let mut before = piece.chars();
            let Some(control) = before.next_back().filter(|c| is_control(*c)) else {
                f.write_str(piece)?;
                continue;
            };
            f.write_str(before.as_str())?;
            match control {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                other => write!(f, "\\u{:04x}", u32::from(other))?,
            }
        }
        Ok(())
    }
}

/// Whether a character does something to a terminal or begins a line there.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// An id in hexadecimal; nothing if it is all zeros.
pub(super) struct Id<'a>(pub(super) &'a [u8]);

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.iter().all(|b| *b == 0) {
            return Ok(());
        }
        Hex(self.0).fmt(f)
    }
}

/// Nanoseconds since the epoch, as Go prints a time in UTC.
pub(super) struct Time(pub(super) u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let Civil { year, month, day, hour, minute, second } = Civil::of_unix_seconds(seconds);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
        if nanos > 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str(" +0000 UTC")
    }
}

/// The submessages of field `number`.
pub(super) fn all(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter(move |f| f.number == number).map(|f| f.bytes)
}

pub(super) fn last(message: &[u8], number: u32) -> &[u8] {
    all(message, number).last().unwrap_or_default()
}

pub(super) fn text(message: &[u8], number: u32) -> Clean<'_> {
    Clean(std::str::from_utf8(last(message, number)).unwrap_or_default())
}

pub(super) fn scalar(message: &[u8], number: u32) -> u64 {
    Fields::new(message).filter(|f| f.number == number).last().map_or(0, |f| f.scalar)
}
