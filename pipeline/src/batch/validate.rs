//! Complete validation of foreign bytes, driven by the tables of [`crate::otlp::schema`].
//!
//! After [`validate`] has accepted a request, every view into it is infallible: all lengths fit, all known fields have
//! their wire type, all strings are UTF-8, nesting is bounded.
//!
//! Decision: two things that protobuf allows and no OTLP encoder does are refused, because they would make a field mean
//! something else than its bytes say: a singular *message* field that occurs twice (protobuf would merge the two), and
//! a second member of a `oneof`. A scalar that occurs twice is fine: the last one counts. Ids of another length than OTLP
//! gives them are refused too, as the Collector does: it would refuse whatever else they had been joined with.

use std::fmt;

use super::wire::{FIXED64, Fault, LEN, Reader, VARINT, whole_prefix};
use crate::otlp::schema::{ANY_VALUE, Field, Kind, Message, Usual};

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
    check(message, bytes, MAX_DEPTH).map_err(|located| malformed(message, bytes, located))
}

/// The error that says where in a request something is wrong.
pub(super) fn malformed(message: &'static Message, bytes: &[u8], (offset, fault): Located) -> Malformed {
    Malformed { message: message.name, offset, path: path_to(message, bytes, offset), fault }
}

/// Offset within the message, and the fault there.
pub(super) type Located = (usize, Fault);

/// What the fields of a message seen so far forbid.
#[derive(Default)]
pub(super) struct Progress {
    /// A bit for each singular message field; all their numbers are below 64.
    seen: u64,
    /// Whether a member of the oneof was there.
    chosen: bool,
}

impl Progress {
    /// Whether the singular message field of this number comes for the first time.
    #[inline]
    pub(super) fn is_first(&mut self, number: u32) -> bool {
        let bit = 1u64 << (number & 63);
        let is_first = self.seen & bit == 0;
        self.seen |= bit;
        is_first
    }
}

pub(super) fn check(message: &'static Message, bytes: &[u8], depth: usize) -> Result<(), Located> {
    let mut reader = Reader::new(bytes);
    let mut progress = Progress::default();
    while !reader.is_empty() {
        let is_plain = match message.usual {
            // A key and a value nest two deep.
            Usual::Attributes(tag) if depth >= 2 => {
                skip_plain(&mut reader, tag, |body| plain_key_value(body).is_some())
            }
            Usual::Values(tag) if depth >= 1 => {
                skip_doubles(&mut reader, tag) || skip_plain(&mut reader, tag, |body| plain_value(body).is_some())
            }
            _ => false,
        };
        if !is_plain {
            check_field(message, &mut reader, &mut progress, depth)?;
        }
    }
    Ok(())
}

/// Skips the next field if it has this tag and its body is plain.
#[inline]
fn skip_plain<'a>(reader: &mut Reader<'a>, tag: u8, is_plain: impl FnOnce(&'a [u8]) -> bool) -> bool {
    let mut ahead = *reader;
    let is_plain = ahead.field_if(tag).is_some_and(is_plain);
    if is_plain {
        *reader = ahead;
    }
    is_plain
}

/// Skips values that are numbers with a fraction, if there are any: all are of one length and begin alike.
fn skip_doubles(reader: &mut Reader<'_>, tag: u8) -> bool {
    // <tag> 09 21 <8 bytes>
    const LEN: usize = 11;
    let (values, _) = reader.rest().as_chunks::<LEN>();
    let doubles = values.iter().take_while(|value| value[..3] == [tag, 9, 0x21]).count();
    doubles > 0 && reader.skip(doubles * LEN).is_ok()
}

/// Checks the next field of a message and skips it.
pub(super) fn check_field(
    message: &'static Message,
    reader: &mut Reader<'_>,
    progress: &mut Progress,
    depth: usize,
) -> Result<(), Located> {
    let start = reader.pos();
    let at = |fault| (start, fault);
    let (number, wire_type) = reader.tag().map_err(at)?;
    let Some(field) = message.field(number) else {
        return reader.skip_value(wire_type, number, depth).map_err(at);
    };
    if field.oneof {
        if progress.chosen {
            return Err(at(Fault::Twice));
        }
        progress.chosen = true;
    }
    if wire_type != field.kind.wire_type() {
        return packed(field, wire_type, reader).map_err(at);
    }
    match field.kind {
        Kind::String => {
            let body = reader.len_delimited().map_err(at)?;
            if !is_utf8(body) {
                return Err(at(Fault::Utf8));
            }
        }
        Kind::Message(inner) => {
            if !field.repeated && !progress.is_first(number) {
                return Err(at(Fault::Twice));
            }
            if depth == 0 {
                return Err(at(Fault::TooDeep));
            }
            let body = reader.len_delimited().map_err(at)?;
            check(inner, body, depth - 1).map_err(|(offset, fault)| (reader.pos() - body.len() + offset, fault))?;
        }
        Kind::Id(len) => {
            let body = reader.len_delimited().map_err(at)?;
            if !body.is_empty() && body.len() != usize::from(len) {
                return Err(at(Fault::IdLength(body.len(), len)));
            }
        }
        Kind::Bytes => drop(reader.len_delimited().map_err(at)?),
        _ => reader.skip_value(wire_type, number, 0).map_err(at)?,
    }
    Ok(())
}

/// Key and `AnyValue`, if the bytes are exactly a key and a scalar value, written as every encoder does; `None` asks for
/// the full check, which also finds out what is wrong. Nests two messages.
#[inline]
pub(super) fn plain_key_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // 0a <length> key 12 <length> value, and nothing behind it
    let (key, rest) = short_prefix(bytes.strip_prefix(&[0x0a])?)?;
    let value = plain_prefixed_value(rest.strip_prefix(&[0x12])?)?;
    is_utf8(key).then_some((key, value))
}

/// The `AnyValue` behind its length, if the bytes are exactly that and it is exactly one scalar.
#[inline]
pub(super) fn plain_prefixed_value(bytes: &[u8]) -> Option<&[u8]> {
    // A short text, which most are: <length> 0a <length> text. A length of one byte that is right is below 128.
    if let [all, 0x0a, len, text @ ..] = bytes
        && usize::from(*len) == text.len()
        && usize::from(*all) == text.len() + 2
        && *all < 0x80
    {
        return is_utf8(text).then(|| &bytes[1..]);
    }
    let value = whole_prefix(bytes)?;
    plain_value(value)?;
    Some(value)
}

/// `Some` if the bytes of an `AnyValue` are exactly one scalar.
#[inline]
pub(super) fn plain_value(value: &[u8]) -> Option<()> {
    let (&tag, rest) = value.split_first()?;
    if tag == 0x0a {
        return is_utf8(whole_prefix(rest)?).then_some(());
    }
    match tag {
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

/// Most strings are short and ASCII, which is cheaper to see than to decode.
#[inline]
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Reads whole words, the last of which may overlap the one before: the standard library goes byte by byte where a
/// string is short or its length odd, and most are.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (blocks, _) = bytes.as_chunks::<32>();
    if let Some(last) = bytes.last_chunk::<32>() {
        let mut all = [0u8; 32];
        for block in blocks.iter().chain([last]) {
            for (sum, byte) in all.iter_mut().zip(block) {
                *sum |= byte;
            }
        }
        return all.iter().fold(0, |sum, byte| sum | byte) < 0x80;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        let all = u128::from_ne_bytes(*first) | u128::from_ne_bytes(*last);
        return (all as u64 | (all >> 64) as u64) & HIGH == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last)) & HIGH == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & HIGH as u32 == 0;
    }
    bytes.iter().all(|b| *b < 0x80)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::schema::ARRAY_VALUE;

    fn value(tag: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x0a, payload.len() as u8 + 1, tag], payload].concat()
    }

    /// A vector of an embedding, and what else may stand in an array.
    #[test]
    fn values_of_arrays_are_checked_wherever_they_stand() {
        let double = value(0x21, &1.5_f64.to_le_bytes());
        let vector = double.repeat(1_536);
        let fault = |bytes: &[u8]| validate(&ARRAY_VALUE, bytes).map_err(|e| (e.offset, e.path, e.fault));
        assert_eq!(fault(&vector), Ok(()));
        let others = [value(0x18, &[7]), value(0x10, &[1]), vec![0x0a, 0], vec![0x0a, 4, 0x0a, 2, b'h', b'i']].concat();
        let mixed = [&others[..], &vector, &others, &double, &[0x0a, 13, 0x2a, 11], &double, &others].concat();
        assert_eq!(fault(&mixed), Ok(()), "numbers, a truth, nothing, a text and an array");
        // In the middle of the vector: another wire type, a value that is too short, a text and no field.
        let at = 11 * 700;
        for (byte, to, expected) in [
            (at + 2, 0x22, Fault::WireTypeMismatch(LEN, FIXED64)),
            (at + 1, 8, Fault::Truncated),
            (at + 2, 0x0a, Fault::FieldNumber(0)),
        ] {
            let mut broken = vector.clone();
            broken[byte] = to;
            let (offset, path, fault) = fault(&broken).unwrap_err();
            assert_eq!((path.split('.').next(), fault), (Some("values[700]"), expected), "at {offset}");
            assert!((at..at + 11).contains(&offset), "{offset}");
        }
        for missing in 1..11 {
            let (_, path, fault) = fault(&vector[..vector.len() - missing]).unwrap_err();
            let expected = if missing < 10 { Fault::Overrun(9, 9 - missing) } else { Fault::Truncated };
            assert_eq!((path.as_str(), fault), ("values[1535]", expected));
        }
        let text = [&vector[..], &[0x0a, 3, 0x0a, 1, 0xff]].concat();
        assert_eq!(fault(&text).unwrap_err().2, Fault::Utf8);
    }
}
