//! OTLP/JSON to protobuf.
//!
//! serde_json drives, and the seeds below write each value as it passes straight into one buffer. A nested message is
//! written before its length is known, so one byte is kept free for it and the message moved where that is too little:
//! every length is the shortest varint, as any protobuf writer would have it.
//!
//! Every scalar that JSON gives is written, zeros included: where protobuf knows presence (`oneof` and `optional`) it
//! means something, and elsewhere it reads the same.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Found, JsonError, Limits, Problem, scalar};
use crate::batch::validate::MAX_DEPTH;
use crate::batch::wire::{FIXED32, FIXED64, LEN, put_bytes, put_tag, put_varint, varint_len};
use crate::otlp::schema::{Field, Kind, Message, json_name, json_name_eq};

/// Rewrites the OTLP/JSON form of `message` as protobuf; the fields keep the order they have in JSON.
///
/// What is accepted is told in the [module's documentation](super).
///
/// # Errors
///
/// [`JsonError`], if the body is not JSON, does not fit the message, or goes past the limits or [`MAX_DEPTH`].
pub fn to_protobuf(message: &'static Message, json: &[u8], limits: Limits) -> Result<Vec<u8>, JsonError> {
    let text = match simdutf8::compat::from_utf8(json) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(message, json.get(..error.valid_up_to()).unwrap_or_default())),
    };
    // Punctuation, names and hexadecimal go: two thirds are left of what SDKs send.
    let out = Vec::with_capacity((json.len() / 4 * 3).min(limits.max_bytes));
    let mut writer = Writer { out, path: Vec::new(), problem: None, max_bytes: limits.max_bytes };
    let mut reader = serde_json::Deserializer::from_str(text);
    // Messages are counted instead, so that all of MAX_DEPTH can be used; what is skipped is not recursed into.
    reader.disable_recursion_limit();
    let body = Node { writer: &mut writer, shape: Shape::Object(message), number: None, depth: 0, place: Place::Body };
    match body.deserialize(&mut reader).and_then(|_| reader.end()) {
        Ok(()) => Ok(writer.out),
        Err(error) => Err(writer.into_error(message, &error)),
    }
}

fn not_utf8(message: &Message, valid: &[u8]) -> JsonError {
    let line_start = valid.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    JsonError {
        path: message.name.to_owned(),
        problem: Problem::Utf8,
        line: valid.iter().filter(|b| **b == b'\n').count() + 1,
        column: valid.len() - line_start + 1,
    }
}

/// Where the protobuf goes, and where in the JSON we are.
struct Writer {
    out: Vec<u8>,
    /// Fields from the body down to the current one. Left as it is on an error, for the error's path.
    path: Vec<Step>,
    /// What went wrong, if it was not the syntax: serde's error can only carry a text.
    problem: Option<Problem>,
    max_bytes: usize,
}

struct Step {
    field: &'static Field,
    /// Which element of the list, once inside.
    index: Option<usize>,
}

impl Writer {
    /// Starts a length-delimited field; what is written until [`Self::close`] is its content.
    fn open(&mut self, number: u32) -> usize {
        put_tag(&mut self.out, number, LEN);
        self.out.push(0);
        self.out.len()
    }

    /// Puts the length in front of what has been written since `open` returned `start`.
    fn close(&mut self, start: usize) {
        let end = self.out.len();
        let mut len = end - start;
        let more = varint_len(len as u64) - 1;
        if more > 0 {
            self.out.resize(end + more, 0);
            self.out.copy_within(start..end, start + more);
        }
        for byte in self.out.iter_mut().skip(start - 1).take(more + 1) {
            *byte = len as u8 | 0x80;
            len >>= 7;
        }
        if let Some(last) = self.out.get_mut(start - 1 + more) {
            *last &= 0x7f;
        }
    }

    /// Writes a scalar with its tag.
    fn put_field(&mut self, field: &Field, raw: &str) -> Result<(), Found> {
        match field.kind {
            Kind::String => {
                let quoted = scalar::quoted(raw).ok_or_else(|| scalar::found(raw))?;
                if quoted.contains('\\') {
                    let start = self.open(field.number);
                    scalar::unescape_into(quoted, &mut self.out);
                    self.close(start);
                } else {
                    put_bytes(&mut self.out, field.number, quoted.as_bytes());
                }
            }
            Kind::Id(len) => {
                let start = self.open(field.number);
                scalar::hex_into(raw, &mut self.out)?;
                let read = self.out.len() - start;
                if read != 0 && read != usize::from(len) {
                    return Err(scalar::found(raw));
                }
                self.close(start);
            }
            Kind::Bytes => {
                let start = self.open(field.number);
                scalar::base64_into(raw, &mut self.out)?;
                self.close(start);
            }
            _ => {
                let bits = scalar::bits(field.kind, raw)?;
                put_tag(&mut self.out, field.number, field.kind.wire_type());
                self.put_bits(field.kind, bits);
            }
        }
        Ok(())
    }

    fn put_bits(&mut self, kind: Kind, bits: u64) {
        match kind.wire_type() {
            FIXED64 => self.out.extend_from_slice(&bits.to_le_bytes()),
            FIXED32 => self.out.extend_from_slice(&(bits as u32).to_le_bytes()),
            _ => put_varint(&mut self.out, bits),
        }
    }

    fn check_length<E: Error>(&mut self) -> Result<(), E> {
        if self.out.len() > self.max_bytes { Err(self.fail(Problem::TooLong(self.max_bytes))) } else { Ok(()) }
    }

    fn fail<E: Error>(&mut self, problem: Problem) -> E {
        self.problem.get_or_insert(problem);
        E::custom("")
    }

    fn misfit<E: Error>(&mut self, expected: &'static str, found: Found) -> E {
        self.fail(Problem::Expected { expected, found })
    }

    fn into_error(self, message: &Message, error: &serde_json::Error) -> JsonError {
        let mut path = String::new();
        for step in &self.path {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&json_name(step.field.name));
            if let Some(index) = step.index {
                path.push_str(&format!("[{index}]"));
            }
        }
        if path.is_empty() {
            path.push_str(message.name);
        }
        let problem = self.problem.unwrap_or_else(|| {
            // Only the syntax is left. serde_json's words for it quote nothing, and end with the position.
            let text = error.to_string();
            Problem::Syntax(text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned())
        });
        JsonError { path, problem, line: error.line(), column: error.column() }
    }
}

/// What a JSON object or array is to become.
#[derive(Clone, Copy)]
enum Shape {
    Object(&'static Message),
    List(&'static Field),
}

/// Where it stands, which decides about `null`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Body,
    Field,
    Element,
}

/// A JSON value that has to be an object or an array. Yields whether the field is present, that is, not `null`.
struct Node<'w> {
    writer: &'w mut Writer,
    shape: Shape,
    /// Field number of the message that is written, unless it is the body.
    number: Option<u32>,
    /// Messages above.
    depth: usize,
    place: Place,
}

impl Node<'_> {
    fn object<'de, A: MapAccess<'de>>(&mut self, message: &'static Message, mut map: A) -> Result<(), A::Error> {
        if self.depth > MAX_DEPTH {
            return Err(self.writer.fail(Problem::TooDeep));
        }
        let mut seen = 0u32;
        let mut member: Option<&'static Field> = None;
        while let Some(key) = map.next_key_seed(Key(message))? {
            let Some((bit, field)) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.writer.path.push(Step { field, index: None });
            if self.value(field, &mut map)? {
                if seen & bit != 0 {
                    return Err(self.writer.fail(Problem::Twice));
                }
                seen |= bit;
                if field.oneof
                    && let Some(first) = member.replace(field)
                {
                    return Err(self.writer.fail(Problem::SecondMember(json_name(first.name))));
                }
                self.writer.check_length()?;
            }
            self.writer.path.pop();
        }
        Ok(())
    }

    fn value<'de, A: MapAccess<'de>>(&mut self, field: &'static Field, map: &mut A) -> Result<bool, A::Error> {
        let shape = match field.kind {
            _ if field.repeated => Shape::List(field),
            Kind::Message(message) => Shape::Object(message),
            kind => {
                let raw = map.next_value::<&RawValue>()?.get();
                if raw == "null" {
                    return Ok(false);
                }
                let written = self.writer.put_field(field, raw);
                written.map_err(|found| self.writer.misfit(scalar::expectation(kind), found))?;
                return Ok(true);
            }
        };
        let (number, depth) = (Some(field.number), self.depth + 1);
        map.next_value_seed(Node { writer: &mut *self.writer, shape, number, depth, place: Place::Field })
    }

    fn list<'de, A: SeqAccess<'de>>(&mut self, field: &'static Field, mut seq: A) -> Result<(), A::Error> {
        // Numbers are packed: one field with all of them.
        let packed = field.kind.wire_type() != LEN;
        let before = self.writer.out.len();
        let start = packed.then(|| self.writer.open(field.number));
        let mut index = 0;
        loop {
            if let Some(step) = self.writer.path.last_mut() {
                step.index = Some(index);
            }
            if let Kind::Message(message) = field.kind {
                let (number, depth) = (Some(field.number), self.depth);
                let shape = Shape::Object(message);
                let node = Node { writer: &mut *self.writer, shape, number, depth, place: Place::Element };
                if seq.next_element_seed(node)?.is_none() {
                    break;
                }
            } else {
                let Some(raw) = seq.next_element::<&RawValue>()? else { break };
                let written = if packed {
                    scalar::bits(field.kind, raw.get()).map(|bits| self.writer.put_bits(field.kind, bits))
                } else {
                    self.writer.put_field(field, raw.get())
                };
                written.map_err(|found| self.writer.misfit(scalar::expectation(field.kind), found))?;
            }
            self.writer.check_length()?;
            index += 1;
        }
        if let Some(step) = self.writer.path.last_mut() {
            step.index = None;
        }
        match start {
            Some(_) if index == 0 => self.writer.out.truncate(before),
            Some(start) => self.writer.close(start),
            None => {}
        }
        Ok(())
    }

    fn refuse<E: Error>(self, found: Found) -> Result<bool, E> {
        let expected = match self.shape {
            Shape::Object(_) => "an object",
            Shape::List(_) => "an array",
        };
        Err(self.writer.misfit(expected, found))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<bool, A::Error> {
        let Shape::Object(message) = self.shape else { return self.refuse(Found::Object) };
        let start = self.number.map(|number| self.writer.open(number));
        self.object(message, map)?;
        if let Some(start) = start {
            self.writer.close(start);
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, seq: A) -> Result<bool, A::Error> {
        let Shape::List(field) = self.shape else { return self.refuse(Found::Array) };
        self.list(field, seq)?;
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        match (self.place, self.number) {
            (Place::Field, _) => Ok(false),
            (Place::Element, Some(number)) => {
                put_bytes(&mut self.writer.out, number, &[]);
                Ok(true)
            }
            _ => self.refuse(Found::Null),
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        self.refuse(Found::Bool)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        self.refuse(Found::Number)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        self.refuse(Found::Number)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        self.refuse(Found::Number)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        self.refuse(Found::String(value.len()))
    }
}

/// The name of a field: the field with its bit in a set of fields, or `None` where it is unknown.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<(u32, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<(u32, &'static Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let mut fields = self.0.fields.iter().enumerate();
        Ok(fields.find(|(_, field)| json_name_eq(field.name, name)).map(|(i, field)| (1 << i, field)))
    }
}
