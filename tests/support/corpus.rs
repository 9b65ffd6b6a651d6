//! The corpus of real OTLP payloads, `tests/fixtures/corpus.tar.zst`.

// Each test binary compiles this module for itself and may need only a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Spans in one pass over the corpus.
pub const SPANS: usize = 2_498;

/// Path of the archive. Every crate of the workspace lies at most one folder below the root.
fn archive() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    [here, here.parent().unwrap()]
        .iter()
        .map(|root| root.join("tests/fixtures/corpus.tar.zst"))
        .find(|p| p.exists())
        .unwrap()
}

/// The files below a folder of the archive (`traces/`, `metrics/`, `logs/`, or a file's name), by path.
pub fn files(prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(archive()).unwrap();
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut archive = tar::Archive::new(decoder);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        if path.starts_with(prefix) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}
