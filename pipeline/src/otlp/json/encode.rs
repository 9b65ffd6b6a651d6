//! Protobuf to OTLP/JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::batch::validate::MAX_DEPTH;
use crate::batch::wire::{FIXED32, FIXED64, Fields, LEN, RawField, Reader};
use crate::hex;
use crate::otlp::schema::{Field, Kind, Message};

/// The OTLP/JSON form of a validated message, in UTF-8: see [`write_json`].
pub fn to_json(message: &'static Message, protobuf: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(protobuf.len().saturating_mul(2));
    write_json(message, protobuf, &mut out);
    out
}

/// Appends the OTLP/JSON form of a validated message, on one line, as the OpenTelemetry Collector writes it: 64-bit
/// integers as strings, enumerations as numbers, ids in hexadecimal, other bytes in base64; infinities as the protobuf
/// specification spells them.
///
/// Fields come in the order of their numbers, each once: repeated fields as one array however their elements lie on the
/// wire, of a scalar that occurs several times the last value. Scalars that are on the wire are written, zeros included.
/// Unknown fields and the bits of a NaN are left out. Bytes that were never validated still give JSON, of what can be
/// read.
pub fn write_json(message: &'static Message, protobuf: &[u8], out: &mut Vec<u8>) {
    Encoder { out, fields: Vec::new() }.message(message, protobuf, 0);
}

struct Encoder<'a, 'o> {
    out: &'o mut Vec<u8>,
    /// The fields of the messages from the outermost to the current one, each message's sorted by number.
    fields: Vec<(&'static Field, RawField<'a>)>,
}

impl<'a> Encoder<'a, '_> {
    fn message(&mut self, message: &'static Message, bytes: &'a [u8], depth: usize) {
        self.out.push(b'{');
        let start = self.fields.len();
        if depth <= MAX_DEPTH {
            self.fields.extend(
                Fields::new(bytes)
                    .filter_map(|raw| Some((message.field(raw.number)?, raw)))
                    .filter(|(f, raw)| fits(f, raw)),
            );
            self.sort(start);
        }
        let end = self.fields.len();
        let mut at = start;
        while let Some(&(field, first)) = self.fields.get(at).filter(|_| at < end) {
            let same =
                self.fields.get(at..end).unwrap_or_default().iter().take_while(|(f, _)| f.number == field.number);
            let next = at + same.count();
            if at > start {
                self.out.push(b',');
            }
            self.name(field);
            if field.repeated {
                self.out.push(b'[');
                let before = self.out.len();
                for i in at..next {
                    if let Some(&(_, raw)) = self.fields.get(i) {
                        self.elements(field, &raw, depth, before);
                    }
                }
                self.out.push(b']');
            } else {
                let last = self.fields.get(next - 1).map_or(first, |(_, raw)| *raw);
                self.value(field, &last, depth);
            }
            at = next;
        }
        self.fields.truncate(start);
        self.out.push(b'}');
    }

    /// Sorts the fields from `start`: stable, and free of charge in the usual case that they are in order.
    fn sort(&mut self, start: usize) {
        if let Some(fields) = self.fields.get_mut(start..)
            && !fields.is_sorted_by_key(|(field, _)| field.number)
        {
            fields.sort_by_key(|(field, _)| field.number);
        }
    }

    fn name(&mut self, field: &Field) {
        self.out.push(b'"');
        let mut upper = false;
        for b in field.name.bytes() {
            match b {
                b'_' => upper = true,
                b => {
                    self.out.push(if upper { b.to_ascii_uppercase() } else { b });
                    upper = false;
                }
            }
        }
        self.out.extend_from_slice(b"\":");
    }

    /// Writes what one occurrence of a repeated field holds: an element, or many where it is packed. The array's content
    /// starts at `before`.
    fn elements(&mut self, field: &'static Field, raw: &RawField<'a>, depth: usize, before: usize) {
        if field.kind.wire_type() == raw.wire_type {
            self.comma(before);
            self.value(field, raw, depth);
            return;
        }
        let mut packed = Packed { reader: Reader::new(raw.bytes), bytes: raw.bytes };
        while let Some(scalar) = packed.next(field.kind.wire_type()) {
            self.comma(before);
            self.scalar(field.kind, scalar);
        }
    }

    fn comma(&mut self, before: usize) {
        if self.out.len() > before {
            self.out.push(b',');
        }
    }

    fn value(&mut self, field: &Field, raw: &RawField<'a>, depth: usize) {
        match field.kind {
            Kind::Message(message) => self.message(message, raw.bytes, depth + 1),
            Kind::String => match simdutf8::basic::from_utf8(raw.bytes) {
                Ok(text) => self.json(text),
                Err(_) => self.json(&String::from_utf8_lossy(raw.bytes)),
            },
            Kind::Bytes => self.json(&STANDARD.encode(raw.bytes)),
            Kind::Id(_) => {
                self.out.push(b'"');
                hex::append(self.out, raw.bytes);
                self.out.push(b'"');
            }
            kind => self.scalar(kind, raw.scalar),
        }
    }

    fn scalar(&mut self, kind: Kind, bits: u64) {
        match kind {
            Kind::Bool => self.json(&(bits != 0)),
            Kind::Int32 | Kind::Enum(_) => self.json(&(bits as i32)),
            Kind::Sint32 => self.json(&((bits as u32 >> 1) as i32 ^ -((bits & 1) as i32))),
            Kind::Uint32 | Kind::Fixed32 => self.json(&(bits as u32)),
            Kind::Int64 | Kind::Sfixed64 => self.digits(&(bits as i64)),
            Kind::Uint64 | Kind::Fixed64 => self.digits(&bits),
            Kind::Double => match f64::from_bits(bits) {
                v if v.is_nan() => self.json("NaN"),
                f64::INFINITY => self.json("Infinity"),
                f64::NEG_INFINITY => self.json("-Infinity"),
                v => self.json(&v),
            },
            Kind::String | Kind::Bytes | Kind::Id(_) | Kind::Message(_) => self.json(&()),
        }
    }

    /// A 64-bit integer, between quotes: JavaScript's numbers end at 2^53.
    fn digits<T: Serialize>(&mut self, value: &T) {
        self.out.push(b'"');
        self.json(value);
        self.out.push(b'"');
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        // A `Vec` takes every write, and neither text nor number can fail to be JSON.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }
}

/// Whether the occurrence has the wire type of its field, packed or not.
fn fits(field: &Field, raw: &RawField<'_>) -> bool {
    raw.wire_type == field.kind.wire_type() || (field.repeated && raw.wire_type == LEN)
}

/// The elements of a packed list.
struct Packed<'a> {
    reader: Reader<'a>,
    bytes: &'a [u8],
}

impl Packed<'_> {
    fn next(&mut self, wire_type: u8) -> Option<u64> {
        let at = self.reader.pos();
        let fixed = |len: usize| self.bytes.get(at..at + len);
        let scalar = match wire_type {
            FIXED64 => u64::from_le_bytes(fixed(8)?.try_into().ok()?),
            FIXED32 => u64::from(u32::from_le_bytes(fixed(4)?.try_into().ok()?)),
            _ => return self.reader.varint().ok(),
        };
        self.reader.skip(if wire_type == FIXED64 { 8 } else { 4 }).ok()?;
        Some(scalar)
    }
}
