//! How far one file was read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::MAX_RECORD;
use super::record::{Framing, Next, next};

/// Bytes that are read at once, unless a record is larger.
const CHUNK: usize = 1 << 20;

/// The place in a file up to which everything was handed over.
#[derive(Debug, Default)]
pub(super) struct Tail {
    offset: u64,
    /// Told by the first byte.
    framing: Option<Framing>,
    /// Which file it is, where the system can say so: another one may have taken its name.
    identity: Option<u64>,
    /// Length at the last look.
    length: u64,
    /// Whether the rest of the current line is passed over.
    skips_line: bool,
}

/// Records that were read together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) framing: Framing,
    pub(super) records: Vec<Vec<u8>>,
    /// Records that are passed over for their size.
    pub(super) too_large: usize,
    /// Bytes up to the next chunk.
    taken: u64,
    /// Whether the next chunk begins inside of a line that is passed over.
    skips_line: bool,
}

impl Tail {
    /// The end of a file as it is now.
    pub(super) fn at_end(path: &Path) -> Self {
        let Ok(metadata) = path.metadata() else { return Self::default() };
        let mut first = [0];
        let framing = File::open(path).and_then(|mut file| file.read_exact(&mut first)).ok();
        Self {
            offset: metadata.len(),
            framing: framing.map(|()| Framing::of(first[0])),
            identity: identity(&metadata),
            length: metadata.len(),
            skips_line: false,
        }
    }

    /// Whether the file was read to its end.
    pub(super) fn is_through(&self) -> bool {
        self.offset >= self.length
    }

    /// Counts a chunk as handed over.
    pub(super) fn advance(&mut self, chunk: &Chunk) {
        self.offset = self.offset.saturating_add(chunk.taken);
        self.skips_line = chunk.skips_line;
    }

    /// The records after this place, as far as they are complete; `None` if there are none.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Option<Chunk>> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if self.identity != identity(&metadata) || metadata.len() < self.offset {
            *self = Self { identity: identity(&metadata), ..Self::default() };
        }
        let is_settled = metadata.len() == std::mem::replace(&mut self.length, metadata.len());
        let left = metadata.len().saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        let framing = match self.framing {
            Some(framing) => framing,
            None => {
                let mut first = [0];
                file.read_exact(&mut first)?;
                *self.framing.insert(Framing::of(first[0]))
            }
        };
        let mut size = CHUNK;
        loop {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(self.offset))?;
            (&mut file).take(size as u64).read_to_end(&mut bytes)?;
            let is_end = bytes.len() as u64 >= left;
            let chunk = self.split(framing, &bytes, is_end && is_settled);
            if chunk.taken > 0 {
                return Ok(Some(chunk));
            }
            if is_end || size > MAX_RECORD + 4 {
                return Ok(None);
            }
            size = size.saturating_mul(4).min(MAX_RECORD + 5);
        }
    }

    fn split(&self, framing: Framing, bytes: &[u8], is_whole: bool) -> Chunk {
        let mut chunk = Chunk { framing, records: Vec::new(), too_large: 0, taken: 0, skips_line: self.skips_line };
        let mut rest = bytes;
        let mut taken = 0;
        while !rest.is_empty() {
            let step = match next(framing, rest, is_whole) {
                Next::Record(_, step) if chunk.skips_line => {
                    chunk.skips_line = false;
                    step
                }
                Next::Record(record, step) => {
                    chunk.records.push(record.to_vec());
                    step
                }
                Next::Incomplete if chunk.skips_line => rest.len(),
                Next::Incomplete => break,
                Next::TooLarge(Some(step)) => {
                    chunk.too_large += usize::from(!chunk.skips_line);
                    chunk.skips_line = false;
                    step
                }
                Next::TooLarge(None) => {
                    chunk.too_large += usize::from(!chunk.skips_line);
                    chunk.skips_line = true;
                    rest.len()
                }
            };
            taken += step;
            rest = rest.get(step..).unwrap_or_default();
        }
        chunk.taken = taken as u64;
        chunk
    }
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<u64> {
    None
}
