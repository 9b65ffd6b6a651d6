//! Complete validation of foreign bytes, driven by the tables of [`crate::otlp::schema`].
//!
//! After [`validate`] has accepted a request, every view into it is infallible: all lengths fit, all known fields have
//! their wire type, all strings are UTF-8, nesting is bounded.
//!
//! Decision: two things that protobuf allows and no OTLP encoder does are refused, because they would make a field mean
//! something else than its bytes say: a singular *message* field that occurs twice (protobuf would merge the two), and
//! a second member of a `oneof`. A scalar that occurs twice is fine: the last one counts.

use std::fmt;

use super::wire::{FIXED64, Fault, LEN, Reader, VARINT};
use crate::otlp::schema::{ANY_VALUE, Field, Kind, Message};

/// How many levels deep messages may be nested below the request: prost's limit too.
pub const MAX_DEPTH: usize = 100;

/// Where and why bytes are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The request's message type.
    pub message: &'static str,
    /// Offset of the offending field's tag (or of the missing byte) from the start of the request.
    pub offset: usize,
    /// Path of the offending field: `resource_spans[0].scope_spans[1].spans[3].name`. Empty at the top level.
    pub path: String,
    /// What is wrong there.
    pub fault: Fault,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {} at byte {}", self.message, self.offset)?;
        if !self.path.is_empty() {
            write!(f, ", {}", self.path)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for Malformed {}

/// Checks that `bytes` are one complete `message`.
pub fn validate(message: &'static Message, bytes: &[u8]) -> Result<(), Malformed> {
    check(message, bytes, MAX_DEPTH).map_err(|(offset, fault)| Malformed {
        message: message.name,
        offset,
        path: path_to(message, bytes, offset),
        fault,
    })
}

/// Offset within the message, and the fault there.
type Located = (usize, Fault);

fn check(message: &'static Message, bytes: &[u8], depth: usize) -> Result<(), Located> {
    let mut reader = Reader::new(bytes);
    // Singular message fields seen so far, by field number (all are below 64), and whether a oneof member was.
    let mut seen = 0u64;
    let mut chosen = false;
    let attributes = message.attributes;
    while !reader.is_empty() {
        // Most fields of most messages are attributes, and most attributes are plain.
        if let Some(tag) = attributes
            && let mut ahead = reader
            && let Some(body) = ahead.field_if(tag)
            && plain_key_value(body, depth).is_some()
        {
            reader = ahead;
            continue;
        }
        let start = reader.pos();
        let at = |fault| (start, fault);
        let (number, wire_type) = reader.tag().map_err(at)?;
        let Some(field) = message.field(number) else {
            reader.skip_value(wire_type, number, depth).map_err(at)?;
            continue;
        };
        if field.oneof {
            if chosen {
                return Err(at(Fault::Twice));
            }
            chosen = true;
        }
        if wire_type != field.kind.wire_type() {
            packed(field, wire_type, &mut reader).map_err(at)?;
            continue;
        }
        match field.kind {
            Kind::String => {
                let body = reader.len_delimited().map_err(at)?;
                if !is_utf8(body) {
                    return Err(at(Fault::Utf8));
                }
            }
            Kind::Message(inner) => {
                if !field.repeated {
                    let bit = 1u64 << (number & 63);
                    if seen & bit != 0 {
                        return Err(at(Fault::Twice));
                    }
                    seen |= bit;
                }
                if depth == 0 {
                    return Err(at(Fault::TooDeep));
                }
                let body = reader.len_delimited().map_err(at)?;
                check(inner, body, depth - 1).map_err(|(offset, fault)| (reader.pos() - body.len() + offset, fault))?;
            }
            Kind::Bytes | Kind::Id => drop(reader.len_delimited().map_err(at)?),
            _ => reader.skip_value(wire_type, number, 0).map_err(at)?,
        }
    }
    Ok(())
}

/// `Some` if the bytes are exactly a key and a scalar value, written as every encoder does; `None` asks for the full
/// check, which also finds out what is wrong.
#[inline]
fn plain_key_value(bytes: &[u8], depth: usize) -> Option<()> {
    // It nests two messages.
    if depth < 2 {
        return None;
    }
    // 0a <length> key 12 <length> value, and nothing behind it
    let (key, rest) = short_prefix(bytes.strip_prefix(&[0x0a])?)?;
    let value = whole_prefix(rest.strip_prefix(&[0x12])?)?;
    if !is_utf8(key) {
        return None;
    }
    let (&tag, rest) = value.split_first()?;
    match tag {
        0x0a => is_utf8(whole_prefix(rest)?).then_some(()),
        0x10 | 0x18 => {
            let mut reader = Reader::new(rest);
            reader.varint().ok()?;
            reader.is_empty().then_some(())
        }
        0x21 => (rest.len() == 8).then_some(()),
        _ => None,
    }
}

/// The bytes covered by a length prefix of one byte, and what follows them.
#[inline]
fn short_prefix(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    if len < 0x80 { rest.split_at_checked(len as usize) } else { None }
}

/// The bytes covered by a length prefix of up to three bytes, if they are all there is.
#[inline]
fn whole_prefix(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = match *bytes {
        [a, ref rest @ ..] if a < 0x80 => (usize::from(a), rest),
        [a, b, ref rest @ ..] if b < 0x80 => (usize::from(a & 0x7f) | usize::from(b) << 7, rest),
        [a, b, c, ref rest @ ..] if c < 0x80 => {
            (usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7 | usize::from(c) << 14, rest)
        }
        _ => return None,
    };
    (rest.len() == len).then_some(rest)
}

/// Most strings are short and ASCII, which is cheaper to see than to decode.
#[inline]
fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// A repeated scalar may come packed into one length-delimited field; anything else with that wire type is wrong.
fn packed(field: &Field, wire_type: u8, reader: &mut Reader<'_>) -> Result<(), Fault> {
    let element = field.kind.wire_type();
    if !field.repeated || wire_type != LEN || element == LEN {
        return Err(Fault::WireTypeMismatch(wire_type, element));
    }
    let body = reader.len_delimited()?;
    match element {
        VARINT => {
            let mut inner = Reader::new(body);
            while !inner.is_empty() {
                inner.varint()?;
            }
            Ok(())
        }
        _ => {
            let size = if element == FIXED64 { 8 } else { 4 };
            if body.len().is_multiple_of(size) { Ok(()) } else { Err(Fault::PackedLength) }
        }
    }
}

/// Names the field that covers `offset`, by walking again as far as the bytes are sound. Only errors pay for this.
fn path_to(message: &'static Message, bytes: &[u8], offset: usize) -> String {
    let mut path = String::new();
    let (mut message, mut bytes, mut offset) = (message, bytes, offset);
    'descend: loop {
        let mut reader = Reader::new(bytes);
        let mut counts = [0usize; 64];
        while let Ok((number, wire_type)) = {
            let start = reader.pos();
            if start > offset { Err(Fault::Truncated) } else { reader.tag() }
        } {
            let start_of_value = reader.pos();
            let field = message.field(number);
            let count = &mut counts[number as usize & 63];
            let body = if wire_type == LEN { reader.len_delimited().ok() } else { None };
            if body.is_none() && wire_type != LEN && reader.skip_value(wire_type, number, MAX_DEPTH).is_err() {
                push_segment(&mut path, field, *count);
                return path;
            }
            let inside = wire_type == LEN && body.is_none() || offset < reader.pos();
            if !inside {
                *count += 1;
                continue;
            }
            push_segment(&mut path, field, *count);
            if let (Some(Field { kind: Kind::Message(inner), .. }), Some(body)) = (field, body) {
                let body_start = reader.pos() - body.len();
                if offset >= body_start && offset > start_of_value - 1 {
                    (message, bytes, offset) = (inner, body, offset - body_start);
                    continue 'descend;
                }
            }
            return path;
        }
        return path;
    }
}

fn push_segment(path: &mut String, field: Option<&Field>, count: usize) {
    let Some(field) = field else { return };
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(field.name);
    if field.repeated {
        path.push_str(&format!("[{count}]"));
    }
}

/// Validates the bytes of one `AnyValue`.
pub fn validate_any_value(bytes: &[u8]) -> Result<(), Malformed> {
    validate(&ANY_VALUE, bytes)
}
