//! An attribute's value as a text, for patterns, conversions and names.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::view::Value;

impl<'a> Value<'a> {
    /// The value as the Collector writes it as a text: strings as they are, numbers in decimal, bytes in base64, lists
    /// and maps as JSON with sorted keys, nothing for an empty value.
    pub fn to_text(self) -> Cow<'a, str> {
        match self {
            Self::Empty => Cow::Borrowed(""),
            Self::Str(text) => Cow::Borrowed(text.as_str()),
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Double(value) => Cow::Owned(double(value)),
            Self::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes)),
            Self::Array(_) | Self::KvList(_) => {
                let mut out = String::new();
                json(self, &mut out);
                Cow::Owned(out)
            }
        }
    }

    /// The same, but numbers without an exponent, however large or small: where the Collector formats them itself.
    pub fn to_plain_text(self) -> Cow<'a, str> {
        match self {
            // Go's words for these are others than JavaScript's.
            Self::Double(f64::INFINITY) => Cow::Borrowed("+Inf"),
            Self::Double(f64::NEG_INFINITY) => Cow::Borrowed("-Inf"),
            Self::Double(value) => Cow::Owned(value.to_string()),
            other => other.to_text(),
        }
    }

    /// Whether two values are of one kind and equal. The order of a map's entries does not matter.
    pub fn is_same(self, other: Value<'_>) -> bool {
        match (self, other) {
            (Self::Empty, Value::Empty) => true,
            (Self::Str(a), Value::Str(b)) => a.as_bytes() == b.as_bytes(),
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Int(a), Value::Int(b)) => a == b,
            (Self::Double(a), Value::Double(b)) => a == b,
            (Self::Bytes(a), Value::Bytes(b)) => a == b,
            (Self::Array(a), Value::Array(b)) => {
                a.iter().count() == b.iter().count() && a.iter().zip(b.iter()).all(|(a, b)| a.is_same(b))
            }
            (Self::KvList(a), Value::KvList(b)) => {
                a.iter().count() == b.iter().count()
                    && a.iter().all(|(key, value)| b.get(key.as_str()).is_some_and(|other| value.is_same(other)))
            }
            _ => false,
        }
    }
}

/// As JavaScript and Go's JSON write it: an exponent only far from one.
fn double(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    value.to_string()
}

/// Nesting is bounded by what validation accepts. Writing to a String cannot fail.
fn json(value: Value<'_>, out: &mut String) {
    match value {
        Value::Empty => out.push_str("null"),
        Value::Bool(value) => _ = write!(out, "{value}"),
        Value::Int(value) => _ = write!(out, "{value}"),
        // JSON has no words for the others.
        Value::Double(value) if value.is_finite() => out.push_str(&double(value)),
        Value::Str(_) | Value::Double(_) | Value::Bytes(_) => json_text(&value.to_text(), out),
        Value::Array(array) => {
            out.push('[');
            for (n, item) in array.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                json(item, out);
            }
            out.push(']');
        }
        Value::KvList(entries) => {
            let mut entries: Vec<(&str, Value<'_>)> = entries.iter().map(|(key, item)| (key.as_str(), item)).collect();
            // As Go writes a map: sorted, by bytes. Of several entries with one key its map keeps the last.
            entries.sort_by_key(|(key, _)| *key);
            let last = entries.chunk_by(|(a, _), (b, _)| a == b).filter_map(<[_]>::last);
            out.push('{');
            for (n, (key, item)) in last.enumerate() {
                if n > 0 {
                    out.push(',');
                }
                json_text(key, out);
                out.push(':');
                json(*item, out);
            }
            out.push('}');
        }
    }
}

fn json_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use crate::batch::wire::{put_bytes, put_uint};

    use super::*;

    fn list(items: &[&[u8]]) -> Vec<u8> {
        let mut array = Vec::new();
        items.iter().for_each(|item| put_bytes(&mut array, 1, item));
        let mut out = Vec::new();
        put_bytes(&mut out, 5, &array);
        out
    }

    fn map(items: &[(&str, &[u8])]) -> Vec<u8> {
        let mut entries = Vec::new();
        for (key, value) in items {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, value);
            put_bytes(&mut entries, 1, &entry);
        }
        let mut out = Vec::new();
        put_bytes(&mut out, 6, &entries);
        out
    }

    #[test]
    fn values_are_written_as_the_collector_writes_them() {
        for (value, text) in [
            (Value::Empty, ""),
            (Value::Str("a\"b".into()), "a\"b"),
            (Value::Bool(true), "true"),
            (Value::Int(-7), "-7"),
            (Value::Double(1.0), "1"),
            (Value::Double(0.1), "0.1"),
            (Value::Double(-0.0), "-0"),
            (Value::Double(1e21), "1e+21"),
            (Value::Double(1.5e-7), "1.5e-7"),
            (Value::Double(f64::NEG_INFINITY), "-Infinity"),
            (Value::Double(123_456_789.5), "123456789.5"),
            (Value::Bytes(&[1, 2, 255]), "AQL/"),
        ] {
            assert_eq!(value.to_text(), text);
        }
    }

    #[test]
    fn plain_numbers_have_no_exponent() {
        for (value, text) in [
            (Value::Double(1e21), "1000000000000000000000"),
            (Value::Double(1e-7), "0.0000001"),
            (Value::Double(-2.5), "-2.5"),
            (Value::Double(f64::NAN), "NaN"),
            (Value::Double(f64::INFINITY), "+Inf"),
            (Value::Double(f64::NEG_INFINITY), "-Inf"),
            (Value::Int(-7), "-7"),
            (Value::Bool(true), "true"),
        ] {
            assert_eq!(value.to_plain_text(), text);
        }
    }

    #[test]
    fn the_keys_of_maps_are_sorted_and_of_equal_ones_the_last_counts() {
        let int = |n| {
            let mut out = Vec::new();
            put_uint(&mut out, 3, n);
            out
        };
        let [one, two, three] = [1, 2, 3].map(int);
        let inner = map(&[("b", &one), ("a", &two), ("B", &three), ("b", &two)]);
        assert_eq!(Value::parse(&inner).to_text(), r#"{"B":3,"a":2,"b":2}"#);
        let nested = map(&[("é", &one), ("z", &list(&[&two, &list(&[&inner])])), ("", &three)]);
        assert_eq!(Value::parse(&nested).to_text(), r#"{"":3,"z":[2,[{"B":3,"a":2,"b":2}]],"é":1}"#);
    }

    #[test]
    fn lists_and_maps_are_json_and_compared_by_what_they_hold() {
        let text = [0x0a, 2, b'"', b'x'];
        let mut int = Vec::new();
        put_uint(&mut int, 3, 7);
        let (ab, ba) = (map(&[("a", &text), ("b", &int)]), map(&[("b", &int), ("a", &text)]));
        let nested = list(&[&ab, &text, &[]]);
        assert_eq!(Value::parse(&nested).to_text(), r#"[{"a":"\"x","b":7},"\"x",null]"#);
        assert!(Value::parse(&ab).is_same(Value::parse(&ba)));
        assert!(Value::parse(&nested).is_same(Value::parse(&list(&[&ba, &text, &[]]))));
        assert!(!Value::parse(&nested).is_same(Value::parse(&list(&[&text, &ba, &[]]))));
        assert!(!Value::parse(&ab).is_same(Value::parse(&map(&[("a", &text)]))));
        assert!(!Value::Int(1).is_same(Value::Double(1.0)));
    }
}
