//! Log records as text.

use std::fmt::Write as _;

use weir_pipeline::batch::view::Value;

use super::text::{Id, Time, all, attributes, last, pairs, plain, scalar, text, type_name};

/// `normal` verbosity: the body, then the attributes.
pub(super) fn line(record: &[u8], out: &mut String) {
    plain(body(record), out);
    match all(record, 6).next() {
        Some(_) => pairs(record, 6, out),
        None => out.push(' '),
    }
    out.push('\n');
}

/// `detailed` verbosity. Writing to a `String` cannot fail.
pub(super) fn everything(record: &[u8], out: &mut String) {
    let _ = writeln!(out, "ObservedTimestamp: {}", Time(scalar(record, 11)));
    let _ = writeln!(out, "Timestamp: {}", Time(scalar(record, 1)));
    let _ = writeln!(out, "SeverityText: {}", text(record, 3));
    let number = scalar(record, 2);
    let _ = writeln!(out, "SeverityNumber: {}({number})", Severity(number));
    let event_name = text(record, 12);
    if !event_name.is_empty() {
        let _ = writeln!(out, "EventName: {event_name}");
    }
    let body = body(record);
    let _ = write!(out, "Body: {}(", type_name(body));
    plain(body, out);
    out.push_str(")\n");
    attributes("", "Attributes", record, 6, out);
    let _ = writeln!(out, "Trace ID: {}", Id(last(record, 9)));
    let _ = writeln!(out, "Span ID: {}", Id(last(record, 10)));
    let _ = writeln!(out, "Flags: {}", scalar(record, 8));
}

fn body(record: &[u8]) -> Value<'_> {
    Value::parse(last(record, 5))
}

/// The name of a severity number: six ranges of four.
struct Severity(u64);

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            0 => return f.write_str("Unspecified"),
            1..=4 => "Trace",
            5..=8 => "Debug",
            9..=12 => "Info",
            13..=16 => "Warn",
            17..=20 => "Error",
            21..=24 => "Fatal",
            _ => return Ok(()),
        };
        f.write_str(name)?;
        match (self.0 - 1) % 4 {
            0 => Ok(()),
            step => write!(f, "{}", step + 1),
        }
    }
}
