//! Undoing compression, within limits.
//!
//! Decision: the whole body is there before it is inflated, so whole-buffer decoders are used: libdeflate is three times
//! as fast as a streaming inflate (`benches/load`). They need the size of the output beforehand. Gzip tells it in its
//! trailer and zstd in its frame header; where that is missing or wrong, a streaming decoder takes over.
//!
//! The output never grows past the limit, and the memory for it is taken from the limiters before it is allocated.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use libdeflater::{DecompressionError, Decompressor};
use memchr::memmem;

use super::body::Hold;
use super::refusal::Refusal;

/// What [`Encoding`] knows, for error texts and `Accept-Encoding`.
pub(super) const SUPPORTED: &str = "gzip, zstd, deflate, identity";

/// Largest zstd window, 32 MiB: what the most eager Go encoder asks for. A larger one only wastes the reader's memory.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Deflate cannot shrink data further than this.
const DEFLATE_MAX_RATIO: usize = 1032;

/// First guess at an output of unknown size, as a multiple of the input.
const GUESS: usize = 8;
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
    /// zlib (RFC 1950), which is what HTTP means by it; bare deflate (RFC 1951) is tolerated.
    Deflate,
}

impl Encoding {
    /// Reads `Content-Encoding` or `grpc-encoding`; no header means identity.
    pub(super) fn parse(header: Option<&http::HeaderValue>) -> Result<Self, Refusal> {
        let Some(header) = header else { return Ok(Self::Identity) };
        let name = header.as_bytes().trim_ascii();
        let is = |names: &[&str]| names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
        if is(&["", "identity"]) {
            Ok(Self::Identity)
        } else if is(&["gzip", "x-gzip"]) {
            Ok(Self::Gzip)
        } else if is(&["zstd"]) {
            Ok(Self::Zstd)
        } else if is(&["deflate", "zlib"]) {
            Ok(Self::Deflate)
        } else {
            Err(Refusal::Encoding(String::from_utf8_lossy(name).chars().take(40).collect()))
        }
    }

    /// Undoes the compression. The output is at most `max` bytes, all of them covered by `hold`.
    pub(super) fn decode(self, input: Bytes, max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
        match self {
            Self::Identity => Ok(input),
            Self::Gzip => gunzip(&input, max, hold),
            Self::Deflate => inflate(&input, max, hold),
            Self::Zstd => unzstd(&input, max, hold),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
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

fn inflate(input: &[u8], max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let is_zlib = matches!(input, [cmf, flags, ..]
        if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)).is_multiple_of(31));
    // Neither form tells its size, so the output grows until it fits.
    let mut room = input.len().saturating_mul(GUESS).max(MIN_OUTPUT).min(max);
    loop {
        hold.cover(room)?;
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
            Err(DecompressionError::InsufficientSpace) if room < max => room = room.saturating_mul(4).min(max),
            Err(DecompressionError::InsufficientSpace) => return Err(Refusal::TooLarge { limit: max }),
            Err(DecompressionError::BadData) => return Err(Encoding::Deflate.broken(&"corrupt or cut short")),
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

/// Reads to the end, or one byte past the limit.
fn stream(encoding: Encoding, mut decoder: impl Read, max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let mut out: Vec<u8> = Vec::new();
    loop {
        let next = out.len().saturating_mul(2).max(MIN_OUTPUT).min(max.saturating_add(1));
        hold.cover(next.min(max))?;
        let room = next - out.len();
        out.reserve_exact(room);
        let read = (&mut decoder).take(room as u64).read_to_end(&mut out).map_err(|error| encoding.broken(&error))?;
        if out.len() > max {
            return Err(Refusal::TooLarge { limit: max });
        }
        if read < room {
            return Ok(out.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use weir_pipeline::budget::Budget;
    use weir_pipeline::node::Outlet;

    use super::*;

    const MAX: usize = 1 << 20;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_streamed(data: &[u8]) -> Vec<u8> {
        // Without a pledged size the frame header does not tell it.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_bulk(data: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(data, 1).unwrap()
    }

    fn decode(encoding: Encoding, input: &[u8], budget: usize) -> (Result<Bytes, Refusal>, usize) {
        let budget = Budget::new(budget);
        let mut hold = Hold::new(&Outlet::new(Vec::new(), vec![budget.clone()]));
        let result = encoding.decode(Bytes::copy_from_slice(input), MAX, &mut hold);
        (result, budget.used())
    }

    type Compress = fn(&[u8]) -> Vec<u8>;
    const ALL: [(Encoding, Compress); 5] = [
        (Encoding::Gzip, gzip),
        (Encoding::Deflate, zlib),
        (Encoding::Deflate, raw_deflate),
        (Encoding::Zstd, zstd_bulk),
        (Encoding::Zstd, zstd_streamed),
    ];

    fn samples() -> Vec<Vec<u8>> {
        let noise: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
        vec![vec![], vec![7], b"hello".repeat(20_000), noise, vec![0; MAX]]
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for (encoding, compress) in ALL {
            for sample in samples() {
                let (out, used) = decode(encoding, &compress(&sample), usize::MAX);
                assert_eq!(out.as_deref(), Ok(&sample[..]), "{encoding:?}");
                assert!(used >= sample.len() && used <= MAX.max(MIN_OUTPUT), "{encoding:?}: {used} bytes held");
            }
        }
    }

    #[test]
    fn concatenated_members_are_joined() {
        let (a, b) = (b"first".repeat(5), b"other".repeat(5));
        for (encoding, compress) in [ALL[0], ALL[3], ALL[4]] {
            // Equal and unequal sizes, identical members, an empty one at either end.
            for parts in
                [vec![&a[..], &b], vec![&a, &a], vec![&a, &a, &a], vec![&a, b"x"], vec![b"", &a], vec![&a, b""]]
            {
                let input: Vec<u8> = parts.iter().flat_map(|p| compress(p)).collect();
                assert_eq!(decode(encoding, &input, usize::MAX).0.as_deref(), Ok(&parts.concat()[..]), "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = vec![0; 64 << 20];
        for (encoding, compress) in ALL {
            let (out, used) = decode(encoding, &compress(&bomb), usize::MAX);
            assert_eq!(out, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
            assert!(used <= MAX, "{encoding:?} took {used} bytes");
        }
        // One byte over is over; and members that are small each but not together.
        for (encoding, compress) in ALL {
            let (out, _) = decode(encoding, &compress(&bomb[..MAX + 1]), usize::MAX);
            assert_eq!(out, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
        }
        for (encoding, compress) in [ALL[0], ALL[3]] {
            let members = compress(&bomb[..MAX / 2]).repeat(3);
            assert_eq!(decode(encoding, &members, usize::MAX).0, Err(Refusal::TooLarge { limit: MAX }), "{encoding:?}");
        }
    }

    #[test]
    fn the_memory_is_taken_before_it_is_used() {
        let sample = vec![1; MAX / 2];
        for (encoding, compress) in ALL {
            let (out, used) = decode(encoding, &compress(&sample), 100);
            assert!(matches!(out, Err(Refusal::NoMemory(_))), "{encoding:?}: {out:?}");
            assert_eq!(used, 0, "{encoding:?}");
        }
    }

    #[test]
    fn broken_input_is_malformed() {
        let sample = b"some spans".repeat(100);
        for (encoding, compress) in ALL {
            let whole = compress(&sample);
            for cut in 0..whole.len() {
                let out = decode(encoding, &whole[..cut], usize::MAX).0;
                // Nothing at all is an empty stream to zstd.
                let is_empty_zstd = encoding == Encoding::Zstd && cut == 0 && out.as_deref() == Ok(&[]);
                assert!(
                    matches!(out, Err(Refusal::Malformed { .. })) || is_empty_zstd,
                    "{encoding:?} cut at {cut}: {out:?}"
                );
            }
        }
        // Gzip and zlib carry checksums: a flipped bit is noticed, unless it is in a part that means nothing.
        for (encoding, compress) in &ALL[..2] {
            let whole = compress(&sample);
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                let out = decode(*encoding, &flipped, usize::MAX).0;
                assert!(!out.is_ok_and(|out| out != sample), "{encoding:?} flipped at {at}");
            }
        }
        // A trailer that lies about the size, and bytes after the end.
        let mut lying = gzip(&sample);
        let end = lying.len();
        lying[end - 4..].copy_from_slice(&77u32.to_le_bytes());
        assert!(matches!(decode(Encoding::Gzip, &lying, usize::MAX).0, Err(Refusal::Malformed { .. })));
        let mut longer = gzip(&sample);
        longer.extend_from_slice(b"garbage");
        assert!(matches!(decode(Encoding::Gzip, &longer, usize::MAX).0, Err(Refusal::Malformed { .. })));
    }

    #[test]
    fn header_values() {
        let parse = |text: &'static str| Encoding::parse(Some(&HeaderValue::from_static(text)));
        assert_eq!(Encoding::parse(None), Ok(Encoding::Identity));
        for (text, want) in [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("GZip", Encoding::Gzip),
            (" x-gzip ", Encoding::Gzip),
            ("zstd", Encoding::Zstd),
            ("deflate", Encoding::Deflate),
            ("zlib", Encoding::Deflate),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for text in ["br", "gzip, gzip", "snappy"] {
            assert_eq!(parse(text), Err(Refusal::Encoding(text.to_owned())));
        }
    }
}
