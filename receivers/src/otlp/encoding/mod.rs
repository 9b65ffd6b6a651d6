//! Undoing compression, within limits.
//!
//! Decision: the whole body is there before it is inflated, so whole-buffer decoders are used: libdeflate is three times
//! as fast as a streaming inflate (`benches/load`). They need the size of the output beforehand. Gzip tells it in its
//! trailer, zstd in its frame header and snappy's block format at its beginning; where that is missing or wrong, a
//! streaming decoder takes over.
//!
//! Decision: `snappy` means the block format, but what starts as a framed stream is read as one. gRPC in Go and older
//! Collectors send frames under that name.
//!
//! The output never grows past the limit, and the memory for it is taken from the limiters before it is allocated.

mod accepted;
mod lz4;

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use libdeflater::{DecompressionError, Decompressor};
use memchr::memmem;

pub use self::accepted::Encodings;
use super::body::Hold;
use super::refusal::Refusal;

/// Largest zstd window, 32 MiB: what the most eager Go encoder asks for. A larger one only wastes the reader's memory.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Deflate cannot shrink data further than this.
const DEFLATE_MAX_RATIO: usize = 1032;

/// First guess at an output of unknown size, as a multiple of the input.
const GUESS: usize = 8;

/// Snappy cannot shrink data further than this: its longest copy makes 64 bytes of three.
const SNAPPY_MAX_RATIO: usize = 22;

/// What snappy's framing format starts with.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

const MIN_OUTPUT: usize = 64 << 10;

thread_local! {
    // Kept because setting one up clears its tables (11 KB and 160 KB).
    static DEFLATE: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    static ZSTD: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::default();
}

/// A compression of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    /// RFC 1950 under its own name.
    Zlib,
    /// zlib (RFC 1950), which is what HTTP means by it; bare deflate (RFC 1951) is tolerated.
    Deflate,
    /// The block format; a framed stream is recognised.
    Snappy,
    SnappyFramed,
    /// The frame format.
    Lz4,
}

impl Encoding {
    pub(super) const ALL: [Self; 8] = [
        Self::Gzip,
        Self::Zstd,
        Self::Zlib,
        Self::Snappy,
        Self::Deflate,
        Self::Lz4,
        Self::SnappyFramed,
        Self::Identity,
    ];

    /// Reads `Content-Encoding` or `grpc-encoding`; no header means identity.
    pub(super) fn parse(header: Option<&http::HeaderValue>, accepted: Encodings) -> Result<Self, Refusal> {
        let name = header.map_or(&b""[..], |header| header.as_bytes().trim_ascii());
        let known = match name {
            b"" => Some(Self::Identity),
            name if name.eq_ignore_ascii_case(b"x-gzip") => Some(Self::Gzip),
            name => Self::ALL.into_iter().find(|known| name.eq_ignore_ascii_case(known.name().as_bytes())),
        };
        known.filter(|known| accepted.contains(*known)).ok_or_else(|| Refusal::Encoding {
            name: match name {
                b"" => Self::Identity.name().to_owned(),
                name => String::from_utf8_lossy(name).chars().take(40).collect(),
            },
            accepted,
        })
    }

    /// The size that the data says it has, if that is seen at a glance. It may be wrong.
    pub(super) fn announces(self, input: &[u8]) -> Option<usize> {
        (self == Self::Gzip).then(|| input.last_chunk().map(|size| u32::from_le_bytes(*size) as usize)).flatten()
    }

    /// Undoes the compression. The output is at most `max` bytes, all of them covered by `hold`.
    pub(super) fn decode(self, input: Bytes, max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
        match self {
            Self::Identity => Ok(input),
            Self::Gzip => gunzip(&input, max, hold),
            Self::Zlib | Self::Deflate => inflate(self, &input, max, hold),
            Self::Zstd => unzstd(&input, max, hold),
            Self::Snappy if !input.starts_with(SNAPPY_STREAM) => unsnap(&input, max, hold),
            // The decoder takes nothing at all for an empty stream.
            Self::SnappyFramed if !input.starts_with(SNAPPY_STREAM) => Err(self.broken(&"it has no stream header")),
            Self::Snappy | Self::SnappyFramed => stream(self, snap::read::FrameDecoder::new(&input[..]), max, hold),
            Self::Lz4 => stream(self, lz4::Frames::new(&input), max, hold),
        }
    }

    /// What it is called in headers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::SnappyFramed => "x-snappy-framed",
            Self::Lz4 => "lz4",
        }
    }

    fn broken(self, why: &dyn std::fmt::Display) -> Refusal {
        Refusal::Malformed { message: format!("broken {} data: {why}", self.name()), field: None }
    }
}

fn gunzip(input: &[u8], max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    // The trailer of the last member ends with its size modulo 2^32 (RFC 1952): the whole size if there is one member.
    let hint = input.last_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    if hint > 0 && hint <= max && hint <= input.len().saturating_mul(DEFLATE_MAX_RATIO) {
        hold.cover(hint)?;
        let mut out = vec![0; hint];
        let written = DEFLATE.with_borrow_mut(|inflater| inflater.gzip_decompress(input, &mut out));
        if written == Ok(hint) && !may_have_second_member(input, hint) {
            return Ok(out.into());
        }
    }
    stream(Encoding::Gzip, MultiGzDecoder::new(input), max, hold)
}

/// libdeflate stops after the first member without saying so. A first member of `size` bytes with another one after it
/// is given away by its own trailer followed by the next member's magic.
fn may_have_second_member(input: &[u8], size: usize) -> bool {
    let [a, b, c, d] = (size as u32).to_le_bytes();
    memmem::find(input, &[a, b, c, d, 0x1f, 0x8b, 8]).is_some()
}

fn inflate(encoding: Encoding, input: &[u8], max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let is_zlib = matches!(input, [cmf, flags, ..]
        if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)).is_multiple_of(31));
    // Neither form tells its size, so the output grows until it fits.
    let (mut room, mut least) = (input.len().saturating_mul(GUESS).max(MIN_OUTPUT).min(max), 1);
    loop {
        let taken = hold.cover_about(room, least)?;
        let is_most = taken < room;
        (room, least) = (taken, taken.saturating_add(1));
        let mut out = vec![0; room];
        let written = DEFLATE.with_borrow_mut(|inflater| {
            if is_zlib {
                inflater.zlib_decompress(input, &mut out)
            } else {
                inflater.deflate_decompress(input, &mut out)
            }
        });
        match written {
            Ok(written) => {
                out.truncate(written);
                return Ok(out.into());
            }
            // No request can have more.
            Err(DecompressionError::InsufficientSpace) if is_most => hold.cover(least)?,
            Err(DecompressionError::InsufficientSpace) if room < max => room = room.saturating_mul(4).min(max),
            Err(DecompressionError::InsufficientSpace) => return Err(Refusal::TooLarge { limit: max }),
            Err(DecompressionError::BadData) => return Err(encoding.broken(&"corrupt or cut short")),
        }
    }
}

fn unzstd(input: &[u8], max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    if let Ok(Some(size)) = zstd::zstd_safe::get_frame_content_size(input) {
        let size = usize::try_from(size).ok().filter(|size| *size <= max).ok_or(Refusal::TooLarge { limit: max })?;
        hold.cover(size)?;
        let mut out = Vec::with_capacity(size);
        if ZSTD.with_borrow_mut(|decoder| decoder.decompress_to_buffer(input, &mut out)).is_ok() {
            return Ok(out.into());
        }
        // More than one frame, or broken: the streaming decoder tells which.
    }
    let broken = |error: std::io::Error| Encoding::Zstd.broken(&error);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
    stream(Encoding::Zstd, decoder, max, hold)
}

fn unsnap(input: &[u8], max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let broken = |error: snap::Error| Encoding::Snappy.broken(&error);
    let size = snap::raw::decompress_len(input).map_err(broken)?;
    if size > max {
        return Err(Refusal::TooLarge { limit: max });
    }
    if size > input.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(Encoding::Snappy.broken(&"more bytes are declared than there can be"));
    }
    hold.cover(size)?;
    snap::raw::Decoder::new().decompress_vec(input).map(Bytes::from).map_err(broken)
}

/// Reads to the end, or one byte past the limit.
fn stream(encoding: Encoding, mut decoder: impl Read, max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let mut out: Vec<u8> = Vec::new();
    loop {
        let next = out.len().saturating_mul(2).max(MIN_OUTPUT).min(max.saturating_add(1));
        let wanted = next.min(max);
        let taken = hold.cover_about(wanted, out.len())?;
        // Reading one byte more tells whether there is more.
        let next = if taken < wanted { taken.saturating_add(1) } else { next };
        let room = next.saturating_sub(out.len());
        out.reserve_exact(room);
        let read = (&mut decoder).take(room as u64).read_to_end(&mut out).map_err(|error| encoding.broken(&error))?;
        if out.len() > max {
            return Err(Refusal::TooLarge { limit: max });
        }
        if out.len() > taken {
            hold.cover(out.len())?;
        }
        if read < room {
            return Ok(out.into());
        }
    }
}

#[cfg(test)]
mod tests;
