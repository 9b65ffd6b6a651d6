//! Protobuf's wire format: reading fields out of a slice, writing them to a buffer.
//!
//! Two readers exist on purpose. [`Reader`] checks everything and is what foreign bytes meet first. [`Fields`] walks
//! bytes that a [`Reader`] has already accepted, and therefore has no error to return: on bytes that were never
//! validated it stops early instead of panicking.

use std::fmt;

/// Wire type 0: varint.
pub const VARINT: u8 = 0;
/// Wire type 1: eight bytes, little endian.
pub const FIXED64: u8 = 1;
/// Wire type 2: a length and that many bytes.
pub const LEN: u8 = 2;
/// Wire type 3: start of a group (deprecated, still legal in unknown fields).
pub const START_GROUP: u8 = 3;
/// Wire type 4: end of a group.
pub const END_GROUP: u8 = 4;
/// Wire type 5: four bytes, little endian.
pub const FIXED32: u8 = 5;

/// What is wrong at some place in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end inside a field.
    Truncated,
    /// A length prefix reaches past the end of its message: (declared, left).
    Overrun(u64, usize),
    /// A varint of more than ten bytes, or more than 64 bits.
    VarintTooLong,
    /// Field number 0 or above 2^29-1.
    FieldNumber(u64),
    /// A wire type that does not exist (6, 7) or an unmatched end of a group.
    WireType(u8),
    /// A known field with the wrong wire type: (found, expected).
    WireTypeMismatch(u8, u8),
    /// A string that is not UTF-8.
    Utf8,
    /// Messages nested deeper than [`super::validate::MAX_DEPTH`].
    TooDeep,
    /// A singular message field that occurs twice, or a second member of a oneof.
    Twice,
    /// An id of a length that no id has: (found, expected).
    IdLength(usize, u8),
    /// More containers or spans than one request may have.
    TooMany(usize),
    /// There is no memory for what has to be noted of so many spans.
    NoRoom,
    /// A packed list whose length is no multiple of its element's size.
    PackedLength,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the bytes end inside a field"),
            Self::Overrun(want, left) => write!(f, "a length of {want} bytes is declared but {left} are left"),
            Self::VarintTooLong => write!(f, "a varint is longer than 64 bits"),
            Self::FieldNumber(n) => write!(f, "field number {n} does not exist in protobuf"),
            Self::WireType(t) => write!(f, "wire type {t} is not possible here"),
            Self::WireTypeMismatch(found, want) => write!(f, "wire type {found} where {want} is expected"),
            Self::Utf8 => write!(f, "the string is not valid UTF-8"),
            Self::TooDeep => write!(f, "messages are nested deeper than {} levels", super::validate::MAX_DEPTH),
            Self::Twice => write!(f, "the field occurs twice"),
            Self::IdLength(found, want) => write!(f, "an id of {found} bytes where {want}, or none, are expected"),
            Self::TooMany(most) => write!(f, "there are more than {most} of it: send fewer at once"),
            Self::NoRoom => write!(f, "there is no memory for so many"),
            Self::PackedLength => write!(f, "the packed list's length does not fit its elements"),
        }
    }
}

/// Checked reading of one message's bytes.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// What has not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }

    /// Whether everything has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    /// Skips a length-delimited field if the next byte is exactly this tag and the field is whole; else stays.
    #[inline]
    pub fn field_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.pos..)?;
        let (&[first, a], more) = rest.split_first_chunk()?;
        if first != tag {
            return None;
        }
        let (len, head) = if a < 0x80 {
            (usize::from(a), 2)
        } else {
            // A body this long has two bytes and more.
            let [b, c] = *more.first_chunk()?;
            let len = usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7;
            match (b, c) {
                (..0x80, _) => (len, 3),
                (_, ..0x80) => (len | usize::from(c) << 14, 4),
                _ => return None,
            }
        };
        let body = rest.get(head..head + len)?;
        self.pos += head + len;
        Some(body)
    }

    /// Reads a varint of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.pos..) {
            Some(&[a, ..]) if a < 0x80 => {
                self.pos += 1;
                Ok(u64::from(a))
            }
            Some(&[a, b, ..]) if b < 0x80 => {
                self.pos += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.varint_slow(),
        }
    }

    #[cold]
    fn varint_slow(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for i in 0..10 {
            let b = *self.bytes.get(self.pos + i).ok_or(Fault::Truncated)?;
            value |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                if i == 9 && b > 1 {
                    return Err(Fault::VarintTooLong);
                }
                self.pos += i + 1;
                return Ok(value);
            }
        }
        Err(Fault::VarintTooLong)
    }

    /// Reads a field's tag: number and wire type.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u8), Fault> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Fault::FieldNumber(number));
        }
        Ok((number as u32, (tag & 7) as u8))
    }

    /// Reads a length prefix and the bytes it covers.
    #[inline]
    pub fn len_delimited(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        let left = self.bytes.len() - self.pos;
        if len > left as u64 {
            return Err(Fault::Overrun(len, left));
        }
        let body = &self.bytes[self.pos..self.pos + len as usize];
        self.pos += len as usize;
        Ok(body)
    }

    /// Reads so many bytes, if they are there.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let bytes = self.bytes.get(self.pos..)?.first_chunk()?;
        self.pos += N;
        Some(bytes)
    }

    /// Reads eight bytes, little endian.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Fault> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Fault::Truncated)
    }

    /// Skips `n` bytes.
    #[inline]
    pub fn skip(&mut self, n: usize) -> Result<(), Fault> {
        if self.bytes.len() - self.pos < n {
            return Err(Fault::Truncated);
        }
        self.pos += n;
        Ok(())
    }

    /// Skips the value of a field of this wire type; a group with everything inside it.
    pub fn skip_value(&mut self, wire_type: u8, number: u32, depth: usize) -> Result<(), Fault> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.skip(8),
            LEN => self.len_delimited().map(drop),
            FIXED32 => self.skip(4),
            START_GROUP => {
                if depth == 0 {
                    return Err(Fault::TooDeep);
                }
                loop {
                    let (inner, wire_type) = self.tag()?;
                    if wire_type == END_GROUP {
                        return if inner == number { Ok(()) } else { Err(Fault::WireType(END_GROUP)) };
                    }
                    self.skip_value(wire_type, inner, depth - 1)?;
                }
            }
            other => Err(Fault::WireType(other)),
        }
    }
}

/// The bytes covered by a length prefix of up to three bytes, if they are all there is.
#[inline]
pub(crate) fn whole_prefix(bytes: &[u8]) -> Option<&[u8]> {
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

/// The payloads of one length-delimited field with a number below 16, in wire order: what [`Fields`] finds, faster where
/// most fields are of that one kind.
#[derive(Clone)]
pub struct Repeated<'a> {
    fields: Fields<'a>,
    number: u32,
    tag: u8,
}

impl<'a> Repeated<'a> {
    /// The occurrences of field `number` in `message`.
    #[inline]
    pub fn new(message: &'a [u8], number: u32) -> Self {
        debug_assert!(number < 16, "the tag must be one byte");
        Self { fields: Fields::new(message), number, tag: (number << 3) as u8 | LEN }
    }
}

impl<'a> Iterator for Repeated<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(body) = self.fields.next_if(self.tag) {
                return Some(body);
            }
            let field = self.fields.next()?;
            if field.number == self.number {
                return Some(field.bytes);
            }
        }
    }
}

/// One field of a validated message.
#[derive(Debug, Clone, Copy)]
pub struct RawField<'a> {
    /// Field number.
    pub number: u32,
    /// Wire type.
    pub wire_type: u8,
    /// The value of a varint, fixed32 or fixed64 field.
    pub scalar: u64,
    /// The bytes of a length-delimited field, else empty.
    pub bytes: &'a [u8],
    /// Offset of the tag within the message.
    pub start: usize,
    /// Offset of [`Self::bytes`] (or of the scalar) within the message.
    pub body: usize,
    /// Offset just past the field.
    pub end: usize,
}

/// The fields of a message that a [`Reader`] has accepted before, in wire order; groups are left out.
#[derive(Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Fields<'a> {
    /// Walks `message`, the bytes of one message without its length prefix.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Self { bytes: message, pos: 0 }
    }

    /// The fields from this offset on, at which one must begin.
    #[inline]
    pub(crate) fn from(message: &'a [u8], pos: usize) -> Self {
        Self { bytes: message, pos }
    }

    /// Offset of the next field, or of a group before it.
    #[inline]
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// The payload of the next field, if that is a length-delimited one with this one-byte tag.
    #[inline]
    pub fn next_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut reader = Reader { bytes: self.bytes, pos: self.pos };
        let body = reader.field_if(tag)?;
        self.pos = reader.pos;
        Some(body)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.pos)?;
        self.pos += 1;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let second = *self.bytes.get(self.pos)?;
        if second < 0x80 {
            self.pos += 1;
            return Some(u64::from(first & 0x7f) | u64::from(second) << 7);
        }
        self.varint_slow(u64::from(first & 0x7f))
    }

    #[cold]
    fn varint_slow(&mut self, mut value: u64) -> Option<u64> {
        let mut shift = 7;
        loop {
            let b = *self.bytes.get(self.pos)?;
            self.pos += 1;
            value |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Some(value);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = RawField<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawField<'a>> {
        loop {
            let start = self.pos;
            let tag = self.varint()?;
            let (number, wire_type) = ((tag >> 3) as u32, (tag & 7) as u8);
            let mut body = self.pos;
            let (scalar, bytes): (u64, &[u8]) = match wire_type {
                VARINT => (self.varint()?, &[]),
                LEN => {
                    let len = self.varint()? as usize;
                    body = self.pos;
                    let bytes = self.bytes.get(body..body.checked_add(len)?)?;
                    self.pos = body + len;
                    (0, bytes)
                }
                FIXED64 => {
                    let raw = self.bytes.get(body..body + 8)?;
                    self.pos += 8;
                    (u64::from_le_bytes(raw.try_into().ok()?), &[])
                }
                FIXED32 => {
                    let raw = self.bytes.get(body..body + 4)?;
                    self.pos += 4;
                    (u64::from(u32::from_le_bytes(raw.try_into().ok()?)), &[])
                }
                START_GROUP => {
                    let mut reader = Reader { bytes: self.bytes, pos: self.pos };
                    reader.skip_value(START_GROUP, number, super::validate::MAX_DEPTH).ok()?;
                    self.pos = reader.pos;
                    continue;
                }
                _ => return None,
            };
            return Some(RawField { number, wire_type, scalar, bytes, start, body, end: self.pos });
        }
    }
}

// === Writing ===

/// Bytes that `value` takes as a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // 7 payload bits a byte; the `| 1` gives zero its one byte.
    (((64 - (value | 1).leading_zeros()) as usize) * 9 + 64) / 64
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's tag.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a length-delimited field.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LEN);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

/// Bytes that [`put_bytes`] takes for a payload of `len` bytes.
#[inline]
pub const fn bytes_field_len(number: u32, len: usize) -> usize {
    varint_len((number as u64) << 3) + varint_len(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_what_put_varint_writes() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, (1u64 << shift) + 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(Reader::new(&out).varint(), Ok(value));
            }
        }
        assert_eq!(varint_len(u64::MAX), 10);
    }

    #[test]
    fn a_varint_past_64_bits_is_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(0x02);
        assert_eq!(Reader::new(&bytes).varint(), Err(Fault::VarintTooLong));
        assert_eq!(Reader::new(&[0x80; 11]).varint(), Err(Fault::VarintTooLong));
        assert_eq!(Reader::new(&[0x80; 3]).varint(), Err(Fault::Truncated));
    }

    #[test]
    fn groups_are_skipped_when_they_match() {
        // group 3 { 1: 5 } then field 1 = 7
        let bytes = [3 << 3 | 3, 8, 5, 3 << 3 | 4, 8, 7];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.tag(), Ok((3, START_GROUP)));
        assert_eq!(reader.skip_value(START_GROUP, 3, 4), Ok(()));
        assert_eq!(reader.tag(), Ok((1, VARINT)));
        let fields: Vec<_> = Fields::new(&bytes).map(|f| (f.number, f.scalar)).collect();
        assert_eq!(fields, [(1, 7)]);
        let mut wrong = Reader::new(&[3 << 3 | 3, 4 << 3 | 4]);
        wrong.tag().unwrap();
        assert_eq!(wrong.skip_value(START_GROUP, 3, 4), Err(Fault::WireType(END_GROUP)));
    }
}
