//! Compression of requests.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor, Decompressor};

/// Above this size a batch is compressed on the blocking pool: it would hold up everything else on its lane.
const INLINE: usize = 1 << 20;

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
    engine: Arc<Mutex<Option<Engine>>>,
}

enum Engine {
    Gzip(Compressor),
    Zlib(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compress {
    /// A compressor at [`LEVEL`].
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, engine: Arc::default() }
    }

    /// Compresses; hands `data` back where nothing is to be done.
    pub(super) async fn run(&self, data: Bytes) -> Result<Bytes, CompressError> {
        let compression = self.compression;
        if compression == Compression::None {
            return Ok(data);
        }
        if data.len() <= INLINE {
            return run(compression, &self.engine, &data);
        }
        let engine = Arc::clone(&self.engine);
        let task = tokio::task::spawn_blocking(move || run(compression, &engine, &data));
        task.await.unwrap_or_else(|e| Err(CompressError(e.to_string())))
    }
}

fn run(compression: Compression, engine: &Mutex<Option<Engine>>, data: &[u8]) -> Result<Bytes, CompressError> {
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = match &mut *engine {
        Some(engine) => engine,
        none => none.insert(Engine::new(compression)?),
    };
    engine.run(data)
}

impl Engine {
    fn new(compression: Compression) -> Result<Self, CompressError> {
        let level = || CompressionLvl::new(LEVEL).unwrap_or_default();
        Ok(match compression {
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(LEVEL).map_err(failed)?),
            Compression::Zlib | Compression::Deflate => Self::Zlib(Compressor::new(level())),
            Compression::Gzip | Compression::None => Self::Gzip(Compressor::new(level())),
        })
    }

    fn run(&mut self, data: &[u8]) -> Result<Bytes, CompressError> {
        let (mut out, written) = match self {
            Self::Zstd(compressor) => return compressor.compress(data).map(Bytes::from).map_err(failed),
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
            Compression::None => return data.to_vec(),
        };
        out
    }

    #[tokio::test]
    async fn every_format_is_read_by_another_implementation_at_any_size() {
        let all = [Compression::Gzip, Compression::Zstd, Compression::Zlib, Compression::Deflate, Compression::None];
        for compression in all {
            let compress = Compress::new(compression);
            for size in [0, 1, 1_000, INLINE + 1] {
                let data: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
                let packed = compress.run(Bytes::from(data.clone())).await.unwrap();
                assert!(decoded(compression, &packed) == data, "{compression:?} of {size} bytes");
            }
        }
    }

    #[test]
    fn answers_are_decompressed_within_the_limit() {
        let packed = zstd::bulk::compress(&[7; 1_000], 1).unwrap();
        assert_eq!(decompress(b"zstd", &packed, 1_000).unwrap(), [7; 1_000].as_slice());
        assert_eq!(decompress(b"zstd", &packed, 999), None);
        assert_eq!(decompress(b"br", &packed, 1_000), None);
    }
}
