//! A batch in its encoded form, which need not have been copied together.
//!
//! Most bytes of a batch that was changed are still those that arrived. Its encoded form is therefore a list of pieces:
//! ranges of those bytes and, between them, ranges of one buffer of what is new, which are length prefixes and added
//! attributes.
//!
//! ```text
//! arrived  │ … span 7's body ──────────────┐│ … │ span 8's body ──────────┐│ …
//! new      │            tag, length │ added to 7, tag, length of 8 │ added to 8, …
//! pieces   │ arrived 612..2301, new 4..330, arrived 2305..4009, new 330..657, …
//! ```
//!
//! Whoever writes it to a socket hands on the pieces as they are ([`EncodedReader`]); whoever needs it in one piece has
//! it copied ([`Encoded::into_bytes`]).

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};

/// Ranges up to this size are copied to what is new: looking after a piece costs more.
const SMALL: usize = 128;

/// A request in protobuf. See the [module](self).
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    sources: Vec<Bytes>,
    pieces: Vec<Piece>,
    len: usize,
}

/// Bytes `start..end` of a source; never empty.
#[derive(Debug, Clone, Copy)]
struct Piece {
    source: usize,
    start: usize,
    end: usize,
}

impl Encoded {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it, copied together unless it is one piece.
    pub fn into_bytes(self) -> Bytes {
        match &self.pieces[..] {
            [] => Bytes::new(),
            [Piece { source, start, end }] => self.sources[*source].slice(*start..*end),
            pieces => {
                let mut out = Vec::with_capacity(self.len);
                pieces.iter().for_each(|piece| out.extend_from_slice(self.bytes_of(*piece)));
                out.into()
            }
        }
    }

    /// The same with these bytes before it.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Bytes) -> Self {
        if !prefix.is_empty() {
            self.len += prefix.len();
            self.pieces.insert(0, Piece { source: self.sources.len(), start: 0, end: prefix.len() });
            self.sources.push(prefix);
        }
        self
    }

    fn bytes_of(&self, Piece { source, start, end }: Piece) -> &[u8] {
        self.sources.get(source).and_then(|bytes| bytes.get(start..end)).unwrap_or_default()
    }
}

impl From<Bytes> for Encoded {
    fn from(bytes: Bytes) -> Self {
        Self::default().with_prefix(bytes)
    }
}

/// Reads an [`Encoded`] from its beginning; any number can read the same one.
#[derive(Debug, Clone, Default)]
pub struct EncodedReader {
    encoded: Arc<Encoded>,
    /// The piece to be read next, and how much of it has been.
    piece: usize,
    read: usize,
    remaining: usize,
}

impl From<Encoded> for EncodedReader {
    fn from(encoded: Encoded) -> Self {
        Self { remaining: encoded.len, encoded: Arc::new(encoded), piece: 0, read: 0 }
    }
}

impl Buf for EncodedReader {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        let piece = self.encoded.pieces.get(self.piece);
        piece.map_or(&[], |piece| &self.encoded.bytes_of(*piece)[self.read..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.encoded.pieces.get(self.piece..).unwrap_or_default();
        let mut read = self.read;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(&self.encoded.bytes_of(*piece)[read..]);
            read = 0;
        }
        pieces.len().min(slices.len())
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "cannot advance past the end");
        self.remaining -= count;
        self.read += count;
        while let Some(piece) = self.encoded.pieces.get(self.piece)
            && self.read >= piece.end - piece.start
        {
            self.read -= piece.end - piece.start;
            self.piece += 1;
        }
    }
}

/// Puts together an [`Encoded`].
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// What is new. It becomes the last source; until then its pieces have the number [`NEW`].
    new: Vec<u8>,
    /// How much of it is in pieces.
    in_pieces: usize,
    sources: Vec<Bytes>,
    pieces: Vec<Piece>,
    /// Bytes in pieces of sources.
    kept: usize,
}

const NEW: usize = usize::MAX;

impl Encoder {
    /// Begins with bytes of which about `pieces` pieces are to be kept, with `new` new bytes between them.
    pub(super) fn source(&mut self, bytes: &Bytes, pieces: usize, new: usize) {
        self.sources.push(bytes.clone());
        self.pieces.reserve(2 * pieces);
        self.new.reserve(new);
    }

    /// Goes on with a range of the last source.
    #[inline]
    pub(super) fn keep(&mut self, range: Range<usize>) {
        let Some(source) = self.sources.len().checked_sub(1) else { return };
        if range.len() <= SMALL {
            let bytes = self.sources[source].get(range).unwrap_or_default();
            self.new.extend_from_slice(bytes);
            return;
        }
        self.end_new_piece();
        self.kept += range.len();
        match self.pieces.last_mut() {
            Some(last) if last.source == source && last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece { source, start: range.start, end: range.end }),
        }
    }

    /// Where new bytes are appended.
    #[inline]
    pub(super) fn new_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.new
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.kept + self.new.len()
    }

    pub(super) fn finish(mut self) -> Encoded {
        self.end_new_piece();
        let (len, new) = (self.len(), self.sources.len());
        let Self { mut sources, mut pieces, .. } = self;
        pieces.iter_mut().filter(|piece| piece.source == NEW).for_each(|piece| piece.source = new);
        sources.push(self.new.into());
        Encoded { sources, pieces, len }
    }

    #[inline]
    fn end_new_piece(&mut self) {
        let (start, end) = (self.in_pieces, self.new.len());
        if start < end {
            self.pieces.push(Piece { source: NEW, start, end });
            self.in_pieces = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Encoded, Vec<u8>) {
        let arrived: Vec<u8> = (0..2000u32).map(|n| (n % 251) as u8).collect();
        let (bytes, mut encoder) = (Bytes::from(arrived.clone()), Encoder::default());
        let mut plain = Vec::new();
        encoder.source(&bytes, 3, 10);
        for (range, new) in [(0..500, "a"), (500..600, "bc"), (700..1500, ""), (1500..1999, "def"), (3..3, "g")] {
            encoder.keep(range.clone());
            encoder.new_bytes().extend_from_slice(new.as_bytes());
            plain.extend_from_slice(&arrived[range]);
            plain.extend_from_slice(new.as_bytes());
        }
        assert_eq!(encoder.len(), plain.len());
        (encoder.finish(), plain)
    }

    #[test]
    fn pieces_are_what_was_put_together() {
        let (encoded, plain) = made();
        assert_eq!(encoded.pieces.len(), 4, "small ranges join what is new, neighbours each other");
        assert_eq!(encoded.len(), plain.len());
        assert_eq!(encoded.clone().into_bytes(), plain);
        let prefixed = encoded.with_prefix(Bytes::from_static(b"head"));
        assert_eq!(prefixed.into_bytes(), [b"head", &plain[..]].concat());
    }

    #[test]
    fn reading_in_any_steps_gives_the_same() {
        let (encoded, plain) = made();
        let reader = EncodedReader::from(encoded);
        for step in [1, 7, 499, 500, 501, 700, 5000] {
            let (mut left, mut read) = (reader.clone(), Vec::new());
            while left.has_remaining() {
                let now = step.min(left.remaining());
                let mut slices = [IoSlice::new(&[]); 8];
                let count = left.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                assert!(all.starts_with(left.chunk()) && !left.chunk().is_empty());
                assert_eq!(all.len(), left.remaining());
                read.extend_from_slice(&all[..now]);
                left.advance(now);
            }
            assert_eq!(read, plain, "{step}");
            assert_eq!((left.chunk(), left.chunks_vectored(&mut [IoSlice::new(&[])])), (&[][..], 0));
        }
    }

    #[test]
    fn nothing_is_nothing_and_one_piece_is_not_copied() {
        assert!(Encoded::default().is_empty() && Encoded::from(Bytes::new()).into_bytes().is_empty());
        let bytes = Bytes::from(vec![7; 300]);
        assert_eq!(Encoded::from(bytes.clone()).into_bytes().as_ptr(), bytes.as_ptr());
    }
}
