//! Compression of requests.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use weir_pipeline::batch::Encoded;

/// Above this size a batch is compressed, or written as JSON, on the blocking pool: it would hold up everything else on
/// its lane.
pub(super) const INLINE: usize = 1 << 20;

/// Decision: level 1 throughout, where the Collector takes 6 for gzip. On LLM spans level 6 costs five times the CPU
/// for a few percent of bytes.
const LEVEL: i32 = 1;

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compression {
    /// RFC 1952.
    #[default]
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950. OTLP/HTTP only.
    Zlib,
    /// RFC 1950 too: what HTTP calls `deflate`. OTLP/HTTP only.
    Deflate,
    /// One block of snappy over HTTP, the framing format over gRPC, as in the Collector.
    Snappy,
    /// The framing format of snappy. OTLP/HTTP only.
    #[serde(rename = "x-snappy-framed")]
    SnappyFramed,
    /// The frame format of LZ4. OTLP/HTTP only.
    Lz4,
    /// As it is.
    #[serde(alias = "")]
    None,
}

impl Compression {
    /// The name on the wire; `None` for no compression.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Zlib => Some("zlib"),
            Self::Deflate => Some("deflate"),
            Self::Snappy => Some("snappy"),
            Self::SnappyFramed => Some("x-snappy-framed"),
            Self::Lz4 => Some("lz4"),
            Self::None => None,
        }
    }
}

/// Compression failed; in practice for want of memory.
#[derive(Debug, thiserror::Error)]
#[error("cannot compress the request: {0}")]
pub(super) struct CompressError(String);

/// One lane's compressor. Its state is large, so it is made at first use and kept.
pub(super) struct Compress {
    compression: Compression,
    level: i32,
    engine: Arc<Mutex<Option<Engine>>>,
}

enum Engine {
    Gzip(Compressor),
    Zlib(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    Snappy(Box<snap::raw::Encoder>),
    SnappyFramed,
    Lz4,
}

impl Compress {
    /// A compressor at `level`, by default [`LEVEL`]. -1 is zlib's default; a level that zstd does not have is the
    /// nearest one.
    pub(super) fn new(compression: Compression, level: Option<i32>) -> Self {
        Self { compression, level: level.unwrap_or(LEVEL), engine: Arc::default() }
    }

    /// Compresses; hands `data` back where nothing is to be done.
    pub(super) async fn run(&self, data: Encoded) -> Result<Encoded, CompressError> {
        let (compression, level) = (self.compression, self.level);
        if compression == Compression::None {
            return Ok(data);
        }
        if data.len() <= INLINE {
            return run(compression, level, &self.engine, data);
        }
        let engine = Arc::clone(&self.engine);
        let task = tokio::task::spawn_blocking(move || run(compression, level, &engine, data));
        task.await.unwrap_or_else(|e| Err(CompressError(e.to_string())))
    }
}

fn run(
    compression: Compression,
    level: i32,
    engine: &Mutex<Option<Engine>>,
    data: Encoded,
) -> Result<Encoded, CompressError> {
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = match &mut *engine {
        Some(engine) => engine,
        none => none.insert(Engine::new(compression, level)?),
    };
    engine.run(&data.into_bytes()).map(Encoded::from)
}

impl Engine {
    fn new(compression: Compression, level: i32) -> Result<Self, CompressError> {
        let deflate = || CompressionLvl::new(if level == -1 { 6 } else { level }).unwrap_or_default();
        Ok(match compression {
            Compression::Zstd => {
                let range = zstd::compression_level_range();
                let level = level.clamp(*range.start(), *range.end());
                Self::Zstd(zstd::bulk::Compressor::new(level).map_err(failed)?)
            }
            Compression::Zlib | Compression::Deflate => Self::Zlib(Compressor::new(deflate())),
            Compression::Gzip | Compression::None => Self::Gzip(Compressor::new(deflate())),
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::SnappyFramed => Self::SnappyFramed,
            Compression::Lz4 => Self::Lz4,
        })
    }

    fn run(&mut self, data: &[u8]) -> Result<Bytes, CompressError> {
        let (mut out, written) = match self {
            Self::Zstd(compressor) => return compressor.compress(data).map(Bytes::from).map_err(failed),
            Self::Snappy(encoder) => return encoder.compress_vec(data).map(Bytes::from).map_err(failed),
            Self::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(data).map_err(failed)?;
                return encoder.into_inner().map(Bytes::from).map_err(failed);
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(data).map_err(failed)?;
                return encoder.finish().map(Bytes::from).map_err(failed);
            }
            Self::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(data.len())];
                let written = compressor.gzip_compress(data, &mut out);
                (out, written)
            }
            Self::Zlib(compressor) => {
                let mut out = vec![0; compressor.zlib_compress_bound(data.len())];
                let written = compressor.zlib_compress(data, &mut out);
                (out, written)
            }
        };
        out.truncate(written.map_err(failed)?);
        // The room was for the worst case, and the request may have to wait long for its destination.
        out.shrink_to_fit();
        Ok(Bytes::from(out))
    }
}

fn failed(error: impl std::fmt::Display) -> CompressError {
    CompressError(error.to_string())
}

/// Decompresses a response of a server that answers in the encoding of the request. `None` if it does not fit `limit`.
pub(super) fn decompress(encoding: &[u8], data: &[u8], limit: usize) -> Option<Bytes> {
    if encoding == b"snappy" {
        let mut out = Vec::new();
        let most = u64::try_from(limit).ok()?.saturating_add(1);
        snap::read::FrameDecoder::new(data).take(most).read_to_end(&mut out).ok()?;
        return (out.len() <= limit).then(|| out.into());
    }
    let mut out = vec![0; limit];
    let length = match encoding {
        b"gzip" => Decompressor::new().gzip_decompress(data, &mut out).ok()?,
        b"zstd" => zstd::bulk::decompress_to_buffer(data, &mut out).ok()?,
        _ => return None,
    };
    out.truncate(length);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(compression: Compression, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap(),
            Compression::Zlib | Compression::Deflate => {
                flate2::read::ZlibDecoder::new(data).read_to_end(&mut out).unwrap()
            }
            Compression::Zstd => return zstd::bulk::decompress(data, 4 << 20).unwrap(),
            Compression::Snappy => return snap::raw::Decoder::new().decompress_vec(data).unwrap(),
            Compression::SnappyFramed => snap::read::FrameDecoder::new(data).read_to_end(&mut out).unwrap(),
            Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(data).read_to_end(&mut out).unwrap(),
            Compression::None => return data.to_vec(),
        };
        out
    }

    #[tokio::test]
    async fn every_format_is_read_by_another_implementation_at_any_size() {
        use Compression::{Deflate, Gzip, Lz4, Snappy, SnappyFramed, Zlib, Zstd};
        let levels = [None, Some(-1), Some(0), Some(9), Some(i32::MAX)];
        let all = [Gzip, Zstd, Zlib, Deflate, Snappy, SnappyFramed, Lz4, Compression::None];
        for (compression, level) in all.into_iter().flat_map(|c| levels.map(|level| (c, level))) {
            let compress = Compress::new(compression, level);
            for size in [0, 1, 1_000, INLINE + 1] {
                let data: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
                let packed = compress.run(Bytes::from(data.clone()).into()).await.unwrap().into_bytes();
                assert!(decoded(compression, &packed) == data, "{compression:?} of {size} bytes");
            }
        }
    }

    #[tokio::test]
    async fn a_higher_level_makes_it_smaller() {
        let words = ["prompt", "completion", "token", "model", "span", "the", "of", "tool", "answer", "weir"];
        let word = |i: u64| words[(i.wrapping_mul(6_364_136_223_846_793_005) >> 60) as usize % words.len()];
        let data = (0..20_000).map(|i| format!("{} ", word(i * i + 7))).collect::<String>().into_bytes();
        for compression in [Compression::Gzip, Compression::Zlib, Compression::Zstd] {
            let mut sizes = Vec::new();
            for level in [None, Some(9)] {
                sizes
                    .push(Compress::new(compression, level).run(Bytes::from(data.clone()).into()).await.unwrap().len());
            }
            assert!(sizes[1] < sizes[0], "{compression:?}: {sizes:?}");
        }
    }

    #[test]
    fn answers_are_decompressed_within_the_limit() {
        let packed = zstd::bulk::compress(&[7; 1_000], 1).unwrap();
        assert_eq!(decompress(b"zstd", &packed, 1_000).unwrap(), [7; 1_000].as_slice());
        assert_eq!(decompress(b"zstd", &packed, 999), None);
        let mut framed = snap::write::FrameEncoder::new(Vec::new());
        framed.write_all(&[7; 1_000]).unwrap();
        let framed = framed.into_inner().unwrap();
        assert_eq!(decompress(b"snappy", &framed, 1_000).unwrap(), [7; 1_000].as_slice());
        assert_eq!(decompress(b"snappy", &framed, 999), None);
        assert_eq!(decompress(b"br", &packed, 1_000), None);
    }
}
