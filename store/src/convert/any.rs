//! Attributes and their values, read so that one can tell whether columns will express them completely.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use weir_pipeline::batch::wire::Fields;

/// A key of [`write_json`]'s own: an object with it alone is bytes.
pub(crate) const BYTES_KEY: &str = "bytesValue";
/// A key of [`write_json`]'s own: an object with it alone is a double that JSON has no number for.
pub(crate) const DOUBLE_KEY: &str = "doubleValue";

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Any<'a> {
    Empty,
    /// UTF-8, which was checked when the request was decoded; it is not looked at again value by value.
    Str(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An `ArrayValue`.
    Array(&'a [u8]),
    /// A `KeyValueList`.
    KvList(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> Any<'a> {
    /// Reads an `AnyValue`; the second part is false if it has parts this type has no place for.
    #[inline(always)]
    pub(crate) fn read(any_value: &'a [u8]) -> (Self, bool) {
        Self::read_plain(any_value).map_or_else(|| Self::read_any(any_value), |any| (any, true))
    }

    /// What encoders write: one member, nothing else.
    #[inline(always)]
    fn read_plain(any_value: &'a [u8]) -> Option<Self> {
        Some(match any_value {
            [0x0a, ..] => Self::Str(only(any_value, 0x0a)?),
            [0x10, 0] => Self::Bool(false),
            [0x10, 1] => Self::Bool(true),
            [0x18, rest @ ..] => {
                let (number, rest) = varint(rest)?;
                rest.is_empty().then_some(Self::Int(number as i64))?
            }
            [0x21, rest @ ..] => Self::Double(f64::from_le_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }

    #[inline(never)]
    fn read_any(any_value: &'a [u8]) -> (Self, bool) {
        let mut exact = true;
        let mut any = Self::Empty;
        for field in Fields::new(any_value) {
            any = match field.number {
                1 => Self::Str(field.bytes),
                2 => Self::Bool(field.scalar != 0),
                3 => Self::Int(field.scalar as i64),
                4 => Self::Double(f64::from_bits(field.scalar)),
                5 => Self::Array(field.bytes),
                6 => Self::KvList(field.bytes),
                7 => Self::Bytes(field.bytes),
                _ => {
                    exact = false;
                    any
                }
            };
        }
        (any, exact)
    }

    pub(crate) fn as_str(self) -> Option<&'a str> {
        if let Self::Str(s) = self { Some(text(s)) } else { None }
    }

    /// A count: integers, whole doubles and numbers in strings, none of them negative.
    pub(crate) fn as_count(self) -> Option<i64> {
        let count = match self {
            Self::Int(i) => i,
            // 2^53: above it a double is no exact count.
            Self::Double(d) if d.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&d) => d as i64,
            Self::Str(s) => text(s).trim().parse().ok()?,
            _ => return None,
        };
        (count >= 0).then_some(count)
    }

    pub(crate) fn as_double(self) -> Option<f64> {
        match self {
            Self::Double(d) => Some(d),
            Self::Int(i) => Some(i as f64),
            Self::Str(s) => text(s).trim().parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(b),
            Self::Str(s) if s.eq_ignore_ascii_case(b"true") => Some(true),
            Self::Str(s) if s.eq_ignore_ascii_case(b"false") => Some(false),
            _ => None,
        }
    }
}

/// A `KeyValue`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Any<'a>,
    /// Whether key and value are all there is.
    pub(crate) exact: bool,
}

impl<'a> Attribute<'a> {
    #[inline(always)]
    pub(crate) fn read(raw: &'a [u8]) -> Self {
        Self::read_plain(raw).unwrap_or_else(|| Self::read_any(raw))
    }

    /// What encoders write: a key, a value, one member in the value, nothing else.
    #[inline(always)]
    fn read_plain(raw: &'a [u8]) -> Option<Self> {
        let (key, rest) = take(raw, 0x0a)?;
        let value = Any::read_plain(only(rest, 0x12)?)?;
        Some(Self { key, value, exact: true })
    }

    #[cold]
    fn read_any(raw: &'a [u8]) -> Self {
        let (mut key, mut value, mut exact, mut values) = (&raw[..0], Any::Empty, true, 0);
        for field in Fields::new(raw) {
            match field.number {
                1 => key = field.bytes,
                2 => {
                    let (any, any_exact) = Any::read(field.bytes);
                    value = any;
                    exact &= any_exact;
                    values += 1;
                }
                _ => exact = false,
            }
        }
        // No value at all is not the same bytes as an empty value, so it is no exact one.
        Self { key, value, exact: exact && values == 1 }
    }
}

/// The payload of a length-delimited field with this one-byte tag, and what follows it.
#[inline(always)]
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match bytes {
        [first, len @ 0..0x80, rest @ ..] if *first == tag => rest.split_at_checked(usize::from(*len)),
        [first, rest @ ..] if *first == tag => {
            let (len, rest) = varint(rest)?;
            rest.split_at_checked(usize::try_from(len).ok()?)
        }
        _ => None,
    }
}

/// The payload of a length-delimited field with this one-byte tag, if nothing follows it.
#[inline(always)]
fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (len, payload) = match bytes {
        [first, len @ 0..0x80, payload @ ..] if *first == tag => (usize::from(*len), payload),
        [first, low, high @ 0..0x80, payload @ ..] if *first == tag => {
            (usize::from(low & 0x7f) | usize::from(*high) << 7, payload)
        }
        [first, rest @ ..] if *first == tag => {
            let (len, payload) = varint(rest)?;
            (usize::try_from(len).ok()?, payload)
        }
        _ => return None,
    };
    (payload.len() == len).then_some(payload)
}

#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [a, rest @ ..] if *a < 0x80 => Some((u64::from(*a), rest)),
        [a, b, rest @ ..] if *b < 0x80 => Some((u64::from(*a & 0x7f) | u64::from(*b) << 7, rest)),
        _ => {
            let mut value = 0;
            for (at, byte) in bytes.iter().enumerate().take(10) {
                value |= u64::from(byte & 0x7f) << (7 * at);
                if *byte < 0x80 {
                    return Some((value, bytes.get(at + 1..)?));
                }
            }
            None
        }
    }
}

/// A string whose UTF-8 was checked when the request was decoded.
pub(crate) fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

/// Appends a value as natural JSON. False if the JSON does not say everything: reading it back would give another value.
pub(crate) fn write_json(out: &mut Vec<u8>, value: Any<'_>) -> bool {
    match value {
        Any::Empty => out.extend_from_slice(b"null"),
        Any::Str(s) => write_string(out, s),
        Any::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Any::Int(i) => number(out, i),
        // The shortest text that reads back as the same number; it always has a point or an exponent.
        Any::Double(d) if d.is_finite() => number(out, d),
        Any::Double(d) => {
            let name = if d.is_nan() {
                "NaN"
            } else if d > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            let _ = write!(out, "{{\"{DOUBLE_KEY}\":\"{name}\"}}");
            return !d.is_nan() || d.to_bits() == f64::NAN.to_bits();
        }
        Any::Bytes(bytes) => {
            let _ = write!(out, "{{\"{BYTES_KEY}\":\"{}\"}}", BASE64.encode(bytes));
        }
        Any::Array(array) => {
            let mut exact = true;
            out.push(b'[');
            for (n, field) in Fields::new(array).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                let (any, any_exact) = Any::read(field.bytes);
                exact &= any_exact && field.number == 1;
                exact &= write_json(out, any);
            }
            out.push(b']');
            return exact;
        }
        Any::KvList(list) => return write_object(out, list, 1),
    }
    true
}

/// Appends a number: an embedding is a thousand of them, and `write!` takes three times as long.
fn number(out: &mut Vec<u8>, number: impl serde::Serialize) {
    // Neither writing to memory nor a finite number can fail.
    let _ = serde_json::to_writer(out, &number);
}

/// Appends the `KeyValue`s that `message` has under `number` as a JSON object. False if that does not say everything.
pub(crate) fn write_object(out: &mut Vec<u8>, message: &[u8], number: u32) -> bool {
    let mut exact = true;
    let mut keys: Vec<&[u8]> = Vec::new();
    out.push(b'{');
    for field in Fields::new(message).filter(|f| f.number == number) {
        if !keys.is_empty() {
            out.push(b',');
        }
        let attribute = Attribute::read(field.bytes);
        keys.push(attribute.key);
        write_string(out, attribute.key);
        out.push(b':');
        exact &= attribute.exact;
        exact &= write_json(out, attribute.value);
    }
    out.push(b'}');
    let reserved = matches!(&keys[..], [only] if *only == BYTES_KEY.as_bytes() || *only == DOUBLE_KEY.as_bytes());
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    exact && !reserved && keys.len() == count
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, utf8: &[u8]) {
    out.reserve(utf8.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    for (at, byte) in utf8.iter().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x20.. => continue,
            _ => b"",
        };
        out.extend_from_slice(utf8.get(copied..at).unwrap_or_default());
        copied = at + 1;
        if escaped.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.extend_from_slice(escaped);
        }
    }
    out.extend_from_slice(utf8.get(copied..).unwrap_or_default());
    out.push(b'"');
}
