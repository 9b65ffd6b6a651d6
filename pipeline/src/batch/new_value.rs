//! Attributes as they are written: values, blocks encoded ahead of time, and edits of a message's attributes.

use super::overlay::SPAN_ATTRIBUTES;
use super::view::KeyValue;
use super::wire::{FIXED64, Fields, LEN, bytes_field_len, put_bytes, put_tag, put_uint, put_varint, varint_len};

/// A value to write into an attribute.
#[derive(Debug, Clone, Copy)]
pub enum NewValue<'a> {
    /// `string_value`
    Str(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `bytes_value`
    Bytes(&'a [u8]),
    /// The encoded bytes of an `AnyValue` that came from a view.
    Raw(&'a [u8]),
}

impl NewValue<'_> {
    /// Encoded size of the `AnyValue`.
    fn encoded_len(self) -> usize {
        match self {
            Self::Str(s) => bytes_field_len(1, s.len()),
            Self::Bool(_) => 2,
            Self::Int(i) => 1 + varint_len(i as u64),
            Self::Double(_) => 9,
            Self::Bytes(b) => bytes_field_len(7, b.len()),
            Self::Raw(raw) => raw.len(),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Str(s) => put_bytes(out, 1, s.as_bytes()),
            Self::Bool(b) => put_uint(out, 2, u64::from(b)),
            Self::Int(i) => put_uint(out, 3, i as u64),
            Self::Double(d) => {
                put_tag(out, 4, FIXED64);
                out.extend_from_slice(&d.to_bits().to_le_bytes());
            }
            Self::Bytes(b) => put_bytes(out, 7, b),
            Self::Raw(raw) => out.extend_from_slice(raw),
        }
    }
}

/// Attributes encoded ahead of time, to be added to many spans as one copy. Doubles can be changed in place.
#[derive(Debug, Clone, Default)]
pub struct AttributeBlock {
    pub(super) bytes: Vec<u8>,
}

/// Where a double stands in an [`AttributeBlock`].
#[derive(Debug, Clone, Copy)]
pub struct DoubleSlot(usize);

impl AttributeBlock {
    /// Appends an attribute.
    pub fn push(&mut self, key: &str, value: NewValue<'_>) {
        put_attribute(&mut self.bytes, SPAN_ATTRIBUTES, key, value);
    }

    /// Appends a double whose value is given later, by [`set_double`](Self::set_double).
    pub fn push_double(&mut self, key: &str) -> DoubleSlot {
        self.push(key, NewValue::Double(0.0));
        DoubleSlot(self.bytes.len() - 8)
    }

    /// Changes the double at a slot of this block.
    #[inline]
    pub fn set_double(&mut self, slot: DoubleSlot, value: f64) {
        if let Some(at) = self.bytes.get_mut(slot.0..slot.0 + 8) {
            at.copy_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

/// What becomes of an attribute that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeEdit {
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
    /// Its value becomes this text.
    Text(String),
}

/// Appends those of a message's attributes, its fields `number`, that `edit` leaves, and says whether it changed any.
pub(super) fn put_edited(
    out: &mut Vec<u8>,
    message: &[u8],
    number: u32,
    edit: &mut dyn FnMut(KeyValue<'_>) -> AttributeEdit,
) -> bool {
    let mut changed = false;
    for field in Fields::new(message).filter(|f| f.number == number) {
        let attribute = KeyValue::parse(field.bytes);
        match edit(attribute) {
            AttributeEdit::Keep => out.extend_from_slice(&message[field.start..field.end]),
            AttributeEdit::Remove => changed = true,
            AttributeEdit::Text(text) => {
                put_attribute(out, number, attribute.key.as_str(), NewValue::Str(&text));
                changed = true;
            }
        }
    }
    changed
}

/// Appends an attribute as the field `number` of its message and returns where its key begins.
pub(super) fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: NewValue<'_>) -> usize {
    let value_len = value.encoded_len();
    put_tag(out, number, LEN);
    put_varint(out, (bytes_field_len(1, key.len()) + bytes_field_len(2, value_len)) as u64);
    put_tag(out, 1, LEN);
    put_varint(out, key.len() as u64);
    let key_at = out.len();
    out.extend_from_slice(key.as_bytes());
    put_tag(out, 2, LEN);
    put_varint(out, value_len as u64);
    value.put(out);
    key_at
}
