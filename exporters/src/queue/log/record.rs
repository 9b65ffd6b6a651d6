//! How a record lies in a segment.
//!
//! ```text
//! offset  size
//!  0      4    CRC-32 of the 28 bytes that follow
//!  4      4    kind: 1 a batch, 2 a batch that is done with
//!  8      8    number of the batch
//! 16      4    records of the batch (spans, log records, data points)
//! 20      4    bytes of metadata
//! 24      4    bytes of OTLP
//! 28      4    CRC-32 of metadata and OTLP
//! 32           metadata, OTLP
//! ```
//!
//! All numbers are little-endian. The header has a checksum of its own, so that a reader may skip a payload without
//! reading it, trust where the next record begins, and find a record behind what it cannot read.

/// What every segment begins with: a name and a version.
pub(super) const MAGIC: [u8; 8] = *b"weirlog1";

/// The most bytes of metadata and OTLP that a record has. Who reads one needs as much memory, and a number in a file is
/// nothing to take that on trust for.
pub(super) const MAX_PAYLOAD: u64 = 512 << 20;

/// Whether a segment that begins so has the format of a later version.
pub(super) fn is_newer(magic: &[u8; 8]) -> bool {
    let ([name @ .., version], [our_name @ .., ours]) = (magic, &MAGIC);
    name == our_name && version > ours
}

/// Bytes of a header.
pub(super) const HEADER: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A batch, which waits to be delivered.
    Batch,
    /// A batch of this number need not be delivered any more.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) records: u32,
    pub(super) metadata_len: u32,
    pub(super) body_len: u32,
    pub(super) checksum: u32,
}

impl Header {
    pub(super) fn done(number: u64) -> Self {
        Self { kind: Kind::Done, number, records: 0, metadata_len: 0, body_len: 0, checksum: 0 }
    }

    /// Bytes behind the header.
    pub(super) fn payload_len(&self) -> u64 {
        u64::from(self.metadata_len) + u64::from(self.body_len)
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let kind: u32 = match self.kind {
            Kind::Batch => 1,
            Kind::Done => 2,
        };
        let mut all = [0; HEADER];
        all[4..8].copy_from_slice(&kind.to_le_bytes());
        all[8..16].copy_from_slice(&self.number.to_le_bytes());
        let numbers = [self.records, self.metadata_len, self.body_len, self.checksum];
        for (place, n) in all[16..].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *place = n.to_le_bytes();
        }
        let checksum = crc32fast::hash(&all[4..]);
        all[..4].copy_from_slice(&checksum.to_le_bytes());
        all
    }

    /// `None` if these bytes are no header.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        // Before the checksum, which whoever looks for a header need not work out at every byte.
        let kind = match u32_at(4)? {
            1 => Kind::Batch,
            2 => Kind::Done,
            _ => return None,
        };
        let (checksum, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*checksum) != crc32fast::hash(rest) {
            return None;
        }
        let header = Self {
            kind,
            number: u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?),
            records: u32_at(16)?,
            metadata_len: u32_at(20)?,
            body_len: u32_at(24)?,
            checksum: u32_at(28)?,
        };
        (header.payload_len() <= MAX_PAYLOAD).then_some(header)
    }
}

/// The checksum of a payload that comes in pieces.
pub(super) fn checksum<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    pieces.into_iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written_and_no_other_bytes_are_one(
            number: u64, records: u32, metadata_len in 0..=1_u32 << 20, body_len in 0..=511_u32 << 20, checksum: u32,
            is_done: bool,
            at in 0..HEADER, flip in 1..=255u8,
        ) {
            let kind = if is_done { Kind::Done } else { Kind::Batch };
            let header = Header { kind, number, records, metadata_len, body_len, checksum };
            let mut bytes = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Some(header));
            bytes[at] ^= flip;
            prop_assert_eq!(Header::decode(&bytes), None);
        }
    }

    #[test]
    fn a_record_that_claims_more_than_any_has_is_none() {
        let header = |body_len| Header { body_len, ..Header::done(1) }.encode();
        assert!(Header::decode(&header(MAX_PAYLOAD as u32)).is_some());
        assert_eq!(Header::decode(&header(MAX_PAYLOAD as u32 + 1)), None);
        assert_eq!(Header::decode(&header(u32::MAX)), None);
    }

    #[test]
    fn only_later_versions_are_newer() {
        for (magic, expected) in [(b"weirlog1", false), (b"weirlog2", true), (b"weirlog0", false), (b"weirlag2", false)]
        {
            assert_eq!(is_newer(magic), expected, "{}", magic.escape_ascii());
        }
    }
}
