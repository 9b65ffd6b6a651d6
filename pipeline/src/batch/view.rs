//! Lazy views over validated OTLP bytes: nothing is copied, nothing can fail.
//!
//! A view is a slice and the knowledge of what message it holds. Reading a field walks that message once; long strings
//! are skipped by their length. All views are `Copy` and borrow the batch.

use std::fmt;

use super::wire::{Fields, RawField, Reader, Repeated, whole_prefix};

/// A string of the wire. Its UTF-8 was checked when the batch was made; [`Self::as_str`] checks again only because
/// `unsafe` is forbidden, at more than 10 GB/s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<'a>(pub(crate) &'a [u8]);

impl<'a> Text<'a> {
    /// The bytes, without another look at them.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The string.
    #[inline]
    pub fn as_str(self) -> &'a str {
        simdutf8::basic::from_utf8(self.0).unwrap_or_default()
    }

    /// Whether the string has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.0.len()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(s: &'a str) -> Self {
        Self(s.as_bytes())
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An attribute's value (`AnyValue`).
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// No value set.
    Empty,
    /// `string_value`
    Str(Text<'a>),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `array_value`
    Array(Array<'a>),
    /// `kvlist_value`
    KvList(Attributes<'a>),
    /// `bytes_value`
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads the bytes of an `AnyValue`. `string_value_strindex` belongs to profiles only and reads as [`Self::Empty`].
    #[inline(always)]
    pub fn parse(any_value: &'a [u8]) -> Self {
        // One scalar and nothing else, which most values are.
        if let Some(text) = plain_text(any_value) {
            return Self::Str(text);
        }
        if let Some(n) = plain_small_int(any_value) {
            return Self::Int(i64::from(n));
        }
        if let [0x10, b @ ..0x80] = *any_value {
            return Self::Bool(b != 0);
        }
        Self::parse_any(any_value)
    }

    #[inline(never)]
    fn parse_any(any_value: &'a [u8]) -> Self {
        let Some(field) = Fields::new(any_value).filter(|f| (1..=7).contains(&f.number)).last() else {
            return Self::Empty;
        };
        match field.number {
            1 => Self::Str(Text(field.bytes)),
            2 => Self::Bool(field.scalar != 0),
            3 => Self::Int(field.scalar as i64),
            4 => Self::Double(f64::from_bits(field.scalar)),
            5 => Self::Array(Array(field.bytes)),
            6 => Self::KvList(Attributes { bytes: field.bytes, number: 1 }),
            _ => Self::Bytes(field.bytes),
        }
    }

    /// The string, if it is one.
    pub fn as_text(self) -> Option<Text<'a>> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The string, if it is one.
    pub fn as_str(self) -> Option<&'a str> {
        self.as_text().map(Text::as_str)
    }
}

/// The text of an `AnyValue` that is one and nothing else.
#[inline(always)]
fn plain_text(any_value: &[u8]) -> Option<Text<'_>> {
    match any_value {
        [0x0a, rest @ ..] => whole_prefix(rest).map(Text),
        _ => None,
    }
}

/// The number of an `AnyValue` that is one of up to three bytes and nothing else.
#[inline(always)]
fn plain_small_int(any_value: &[u8]) -> Option<u32> {
    match *any_value {
        [0x18, a] if a < 0x80 => Some(u32::from(a)),
        [0x18, a, b] if b < 0x80 => Some(u32::from(a & 0x7f) | u32::from(b) << 7),
        [0x18, a, b, c] if c < 0x80 => Some(u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(c) << 14),
        _ => None,
    }
}

/// An `ArrayValue`.
#[derive(Clone, Copy)]
pub struct Array<'a>(pub(crate) &'a [u8]);

impl<'a> Array<'a> {
    /// The values in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        Fields::new(self.0).filter(|f| f.number == 1).map(|f| Value::parse(f.bytes))
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The `KeyValue`s that some message holds under one field number, as they are on the wire: duplicates included.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// The whole enclosing message.
    pub(crate) bytes: &'a [u8],
    /// Field number of the repeated `KeyValue`.
    pub(crate) number: u32,
}

impl<'a> Attributes<'a> {
    /// Keys and values in wire order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (Text<'a>, Value<'a>)> {
        Repeated::new(self.bytes, self.number).map(|kv| KeyValue::parse(kv).pair())
    }

    /// The value of the last attribute with this key.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.iter().filter(|(k, _)| k.0 == key.as_bytes()).last().map(|(_, value)| value)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A `KeyValue` with its value not yet read.
#[derive(Clone, Copy)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: Text<'a>,
    /// The bytes of the `AnyValue`; empty where it is absent.
    pub any_value: &'a [u8],
}

impl<'a> KeyValue<'a> {
    /// Reads the bytes of a `KeyValue`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Self {
        // As every encoder writes it: key, value, nothing else.
        let mut reader = Reader::new(bytes);
        if let Some(key) = reader.field_if(0x0a)
            && let Some(any_value) = reader.field_if(0x12)
            && reader.is_empty()
        {
            return Self { key: Text(key), any_value };
        }
        Self::parse_any(bytes)
    }

    fn parse_any(bytes: &'a [u8]) -> Self {
        let (mut key, mut any_value): (&[u8], &[u8]) = (&[], &[]);
        for field in Fields::new(bytes) {
            match field.number {
                1 => key = field.bytes,
                2 => any_value = field.bytes,
                _ => {}
            }
        }
        Self { key: Text(key), any_value }
    }

    /// The parsed value.
    #[inline]
    pub fn value(self) -> Value<'a> {
        Value::parse(self.any_value)
    }

    /// The value, if it is a string and written as every encoder does: cheaper than [`Self::value`] for whoever expects
    /// one and asks that otherwise.
    #[inline(always)]
    pub fn plain_text(self) -> Option<Text<'a>> {
        plain_text(self.any_value)
    }

    /// The same for a whole number below 2²¹ that is not negative.
    #[inline(always)]
    pub fn plain_small_int(self) -> Option<u32> {
        plain_small_int(self.any_value)
    }

    /// Key and parsed value.
    #[inline]
    pub fn pair(self) -> (Text<'a>, Value<'a>) {
        (self.key, Value::parse(self.any_value))
    }
}

/// A `Resource`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resource<'a>(pub(crate) &'a [u8]);

impl<'a> Resource<'a> {
    /// The resource's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { bytes: self.0, number: 1 }
    }

    /// Attributes the SDK dropped.
    pub fn dropped_attributes_count(self) -> u32 {
        last_scalar(self.0, 2) as u32
    }

    /// The message's bytes: equal bytes are an equal resource.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// An `InstrumentationScope`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a>(pub(crate) &'a [u8]);

impl<'a> Scope<'a> {
    /// The scope's name, empty if unknown.
    pub fn name(self) -> Text<'a> {
        last_text(self.0, 1)
    }

    /// The scope's version.
    pub fn version(self) -> Text<'a> {
        last_text(self.0, 2)
    }

    /// The scope's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { bytes: self.0, number: 3 }
    }

    /// Attributes the SDK dropped.
    pub fn dropped_attributes_count(self) -> u32 {
        last_scalar(self.0, 4) as u32
    }

    /// The message's bytes: equal bytes are an equal scope.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The singular fields of a `Span`, read in one walk.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpanFields<'a> {
    /// 16 bytes in valid spans; whatever was sent otherwise.
    pub trace_id: &'a [u8],
    /// 8 bytes in valid spans; whatever was sent otherwise.
    pub span_id: &'a [u8],
    /// Empty for a root span.
    pub parent_span_id: &'a [u8],
    /// W3C tracestate.
    pub trace_state: Text<'a>,
    /// The span's name.
    pub name: Text<'a>,
    /// `SpanKind` as a number (unknown numbers are kept).
    pub kind: i32,
    /// Nanoseconds since the epoch.
    pub start_time_unix_nano: u64,
    /// Nanoseconds since the epoch.
    pub end_time_unix_nano: u64,
    /// Attributes the SDK dropped.
    pub dropped_attributes_count: u32,
    /// Events the SDK dropped.
    pub dropped_events_count: u32,
    /// Links the SDK dropped.
    pub dropped_links_count: u32,
    /// Whether a `Status` message is present at all.
    pub has_status: bool,
    /// `StatusCode` as a number.
    pub status_code: i32,
    /// The status message.
    pub status_message: Text<'a>,
    /// `SpanFlags`.
    pub flags: u32,
}

impl<'a> SpanFields<'a> {
    /// Reads the bytes of a `Span`.
    pub fn parse(span: &'a [u8]) -> Self {
        Self::parse_around(span, (0, 0))
    }

    /// Reads the bytes of a `Span`, whose attributes stand in a row at `row.0..row.1`.
    pub(crate) fn parse_around(span: &'a [u8], row: (u32, u32)) -> Self {
        let mut out = Self::default();
        out.take(span.get(..row.0 as usize).unwrap_or_default());
        out.take(span.get(row.1 as usize..).unwrap_or_default());
        out
    }

    fn take(&mut self, fields: &'a [u8]) {
        for f in Fields::new(fields) {
            match f.number {
                1 => self.trace_id = f.bytes,
                2 => self.span_id = f.bytes,
                3 => self.trace_state = Text(f.bytes),
                4 => self.parent_span_id = f.bytes,
                5 => self.name = Text(f.bytes),
                6 => self.kind = f.scalar as i32,
                7 => self.start_time_unix_nano = f.scalar,
                8 => self.end_time_unix_nano = f.scalar,
                10 => self.dropped_attributes_count = f.scalar as u32,
                12 => self.dropped_events_count = f.scalar as u32,
                14 => self.dropped_links_count = f.scalar as u32,
                15 => {
                    self.has_status = true;
                    self.status_message = last_text(f.bytes, 2);
                    self.status_code = last_scalar(f.bytes, 3) as i32;
                }
                16 => self.flags = f.scalar as u32,
                _ => {}
            }
        }
    }
}

/// A `Span.Event`.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a>(pub(crate) &'a [u8]);

impl<'a> Event<'a> {
    /// Nanoseconds since the epoch.
    pub fn time_unix_nano(self) -> u64 {
        last_scalar(self.0, 1)
    }

    /// The event's name.
    pub fn name(self) -> Text<'a> {
        last_text(self.0, 2)
    }

    /// The event's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { bytes: self.0, number: 3 }
    }

    /// Attributes the SDK dropped.
    pub fn dropped_attributes_count(self) -> u32 {
        last_scalar(self.0, 4) as u32
    }
}

/// A `Span.Link`.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a>(pub(crate) &'a [u8]);

impl<'a> Link<'a> {
    /// The linked trace.
    pub fn trace_id(self) -> &'a [u8] {
        last_bytes(self.0, 1)
    }

    /// The linked span.
    pub fn span_id(self) -> &'a [u8] {
        last_bytes(self.0, 2)
    }

    /// W3C tracestate of the link.
    pub fn trace_state(self) -> Text<'a> {
        last_text(self.0, 3)
    }

    /// The link's attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { bytes: self.0, number: 4 }
    }

    /// Attributes the SDK dropped.
    pub fn dropped_attributes_count(self) -> u32 {
        last_scalar(self.0, 5) as u32
    }

    /// `SpanFlags` of the link.
    pub fn flags(self) -> u32 {
        last_scalar(self.0, 6) as u32
    }
}

/// Code and message of a `Status`.
pub(super) fn last_status(status: &[u8]) -> (i32, Text<'_>) {
    (last_scalar(status, 3) as i32, last_text(status, 2))
}

/// Protobuf: of a singular field that occurs several times, the last one counts.
fn last(message: &[u8], number: u32) -> Option<RawField<'_>> {
    Fields::new(message).filter(|f| f.number == number).last()
}

fn last_scalar(message: &[u8], number: u32) -> u64 {
    last(message, number).map_or(0, |f| f.scalar)
}

pub(super) fn last_bytes(message: &[u8], number: u32) -> &[u8] {
    last(message, number).map_or(&[], |f| f.bytes)
}

fn last_text(message: &[u8], number: u32) -> Text<'_> {
    Text(last_bytes(message, number))
}
