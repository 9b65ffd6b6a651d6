//! How far one file was read.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::time::Instant;

use super::MAX_RECORD;
use super::record::{Framing, Next, next};

/// Bytes that are read at once, unless a record is larger.
const CHUNK: usize = 1 << 20;

/// Bytes before the offset by which a file is known again. With those that come last in what was read, files of one
/// writer differ, whose first bytes are often the same.
const KNOWN: usize = 1 << 10;

/// Which file it is, whatever its name: its device and inode. Where the system does not say these it is the name, as long
/// as what was read is still there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity(#[cfg(unix)] (u64, u64), #[cfg(not(unix))] PathBuf);

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(_: &Path, metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self((metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    pub(super) fn of(path: &Path, _: &Metadata) -> Self {
        Self(path.to_owned())
    }
}

/// By what it is seen that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The place in a file up to which everything was handed over.
#[derive(Debug)]
pub(super) struct Tail {
    identity: Identity,
    /// The name under which it was found last.
    pub(super) path: PathBuf,
    /// Since when no name that matches is its.
    pub(super) gone_since: Option<Instant>,
    /// When something of it was handed over last.
    pub(super) grew_at: Option<Instant>,
    file: Option<File>,
    offset: u64,
    /// The bytes right before the offset, at most [`KNOWN`].
    known: Vec<u8>,
    /// Told by the first byte.
    framing: Option<Framing>,
    /// As it was when nothing complete was left to read.
    through: Option<Stamp>,
    /// Whether the rest of the current line is passed over.
    skips_line: bool,
    /// Whether a record was cut off together with its file.
    is_cut: bool,
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
    /// The bytes right before the next chunk.
    known: Vec<u8>,
    /// Whether the next chunk begins inside of a line that is passed over.
    skips_line: bool,
}

impl Tail {
    /// The beginning of a file.
    pub(super) fn new(path: PathBuf, identity: Identity) -> Self {
        Self {
            identity,
            path,
            gone_since: None,
            grew_at: None,
            file: None,
            offset: 0,
            known: Vec::new(),
            framing: None,
            through: None,
            skips_line: false,
            is_cut: false,
        }
    }

    /// Goes to the end of the file as it is now. Half a line that is there is passed over with its other half.
    pub(super) fn skip_to_end(&mut self, length: u64) -> io::Result<()> {
        // What is there now is passed over even if it cannot be read yet.
        self.offset = length;
        self.open()?;
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        let length = file.metadata()?.len();
        let known = length.min(KNOWN as u64);
        let mut first = Vec::new();
        file.rewind()?;
        file.take(1).read_to_end(&mut first)?;
        file.seek(SeekFrom::Start(length - known))?;
        let mut last = Vec::new();
        file.take(known).read_to_end(&mut last)?;
        let framing = first.first().map(|first| Framing::of(*first));
        self.skips_line = framing == Some(Framing::Lines) && !last.ends_with(b"\n");
        (self.offset, self.known, self.framing) = (length, last, framing);
        Ok(())
    }

    /// Opens the file under its name, unless it is open.
    ///
    /// # Errors
    /// As of opening a file; [`io::ErrorKind::NotFound`] if another one has the name by now.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let file = File::open(&self.path)?;
            if Identity::of(&self.path, &file.metadata()?) != self.identity {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.file = Some(file);
        }
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Lets the file go, which is opened again when it has grown.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Whether there may be something to read in a file of this length and time.
    pub(super) fn may_have_grown(&self, metadata: &Metadata) -> bool {
        self.through != Some(Stamp::of(metadata))
    }

    /// Whether a record was begun at the end, and not completed.
    pub(super) fn is_torn(&self) -> bool {
        !self.skips_line && self.through.is_some_and(|stamp| stamp.length > self.offset)
    }

    /// Whether a record was cut off since this was asked last.
    pub(super) fn take_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    /// Counts a chunk as handed over.
    pub(super) fn advance(&mut self, chunk: Chunk) {
        self.offset = self.offset.saturating_add(chunk.taken);
        self.framing = Some(chunk.framing);
        self.known = chunk.known;
        self.skips_line = chunk.skips_line;
        self.grew_at = Some(Instant::now());
    }

    /// Goes back to the beginning.
    pub(super) fn rewind(&mut self) {
        (self.offset, self.framing, self.through, self.skips_line) = (0, None, None, false);
        self.known.clear();
    }

    /// The records after this place, as far as they are complete; `None` if there are none.
    ///
    /// # Errors
    /// As of [`open`](Self::open) and of reading.
    pub(super) fn read(&mut self) -> io::Result<Option<Chunk>> {
        self.open()?;
        let Some(file) = self.file.take() else { return Ok(None) };
        let chunk = self.read_from(&file);
        self.file = Some(file);
        chunk
    }

    fn read_from(&mut self, mut file: &File) -> io::Result<Option<Chunk>> {
        let metadata = file.metadata()?;
        if !self.may_have_grown(&metadata) {
            return Ok(None);
        }
        if metadata.len() < self.offset {
            self.begin_anew();
        }
        let mut size = CHUNK;
        loop {
            let known = self.known.len();
            file.seek(SeekFrom::Start(self.offset.saturating_sub(known as u64)))?;
            let mut bytes = Vec::new();
            file.take((known + size) as u64).read_to_end(&mut bytes)?;
            let Some(fresh) = bytes.strip_prefix(self.known.as_slice()) else {
                // Truncated and written again, or another file that was given the inode.
                self.begin_anew();
                continue;
            };
            let is_end = fresh.len() < size;
            let framing = self.framing.or_else(|| fresh.first().map(|first| Framing::of(*first)));
            if let Some(framing) = framing {
                let mut chunk = self.split(framing, fresh, is_end, metadata.len().saturating_sub(self.offset));
                if chunk.taken > 0 {
                    let end = known + usize::try_from(chunk.taken).unwrap_or(fresh.len());
                    chunk.known = bytes.get(end.saturating_sub(KNOWN)..end).unwrap_or_default().to_vec();
                    return Ok(Some(chunk));
                }
            }
            if is_end || size > MAX_RECORD + 4 {
                self.through = Some(Stamp::of(&metadata));
                return Ok(None);
            }
            size = size.saturating_mul(4).min(MAX_RECORD + 5);
        }
    }

    /// Goes back to the beginning since what was read is no longer there.
    fn begin_anew(&mut self) {
        self.is_cut |= self.is_torn();
        self.rewind();
    }

    /// Takes the records in `bytes`, of which the file has so many in all.
    fn split(&self, framing: Framing, bytes: &[u8], is_end: bool, in_file: u64) -> Chunk {
        let (known, skips_line) = (Vec::new(), self.skips_line);
        let mut chunk = Chunk { framing, records: Vec::new(), too_large: 0, taken: 0, known, skips_line };
        let mut rest = bytes;
        let mut taken = 0;
        while !rest.is_empty() {
            // What ends a line that is passed over is its line break alone.
            let step = match next(framing, rest, is_end && !chunk.skips_line) {
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
                // It is not all there, or what is taken for its length is none: beyond its end the file would seem to
                // have been cut, and be read anew.
                Next::TooLarge(Some(step)) if (taken + step) as u64 > in_file => break,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(path: &Path) -> Tail {
        Tail::new(path.to_owned(), Identity::of(path, &path.metadata().unwrap()))
    }

    /// What is new, as text.
    fn read(tail: &mut Tail) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(chunk) = tail.read().unwrap() {
            all.extend(chunk.records.iter().map(|record| String::from_utf8(record.clone()).unwrap()));
            tail.advance(chunk);
        }
        all
    }

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        // A file system's clock may not have gone on since the last look.
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() + std::time::Duration::from_secs(text.len() as u64)).unwrap();
    }

    #[test]
    fn a_length_that_leads_beyond_the_file_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // What a writer that died within a record, and then went on, makes of the next length.
        let torn = [&[0, 0, 0, 3][..], b"one", b"zzzz", b"more"].concat();
        std::fs::write(&path, &torn).unwrap();
        let mut tail = tail(&path);
        assert_eq!(read(&mut tail), ["one"]);
        assert!(tail.is_torn());
        std::fs::write(&path, [&torn[..], b"more"].concat()).unwrap();
        assert!(read(&mut tail).is_empty(), "nothing is read twice");
    }

    #[test]
    fn a_line_without_its_end_waits_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let whole = r#"{"a":"}\"]\\","b":[{}]}"#;
        write(&path, "");
        let mut tail = tail(&path);
        for length in 1..whole.len() {
            write(&path, &whole[..length]);
            assert_eq!((read(&mut tail), tail.is_torn()), (vec![], true), "{}", &whole[..length]);
        }
        write(&path, whole);
        assert_eq!((read(&mut tail), tail.is_torn()), (vec![whole.to_owned()], false));
        // Its end is that of an empty line.
        write(&path, &format!("{whole}\n{{}}\n"));
        assert_eq!((read(&mut tail), tail.is_torn()), (vec![String::new(), "{}".to_owned()], false));
    }

    #[test]
    fn a_record_without_its_end_waits_until_it_is_as_long_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut tail = {
            write(&path, "");
            tail(&path)
        };
        for part in ["\0", "\0\0\0\x02", "\0\0\0\x02{"] {
            write(&path, part);
            assert_eq!((read(&mut tail), tail.is_torn()), (vec![], true));
        }
        write(&path, "\0\0\0\x02{}");
        assert_eq!((read(&mut tail), tail.is_torn()), (vec!["{}".to_owned()], false));
    }

    #[test]
    fn a_file_with_other_content_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "one\ntwo\nthr");
        let mut tail = tail(&path);
        assert_eq!(read(&mut tail), ["one", "two"]);
        assert!(!tail.take_cut());
        // Longer than what was read, shorter, and just as long.
        for (text, lines) in
            [("1\n2\n3\n4\n5\n", vec!["1", "2", "3", "4", "5"]), ("a\n", vec!["a"]), ("b\n", vec!["b"])]
        {
            write(&path, text);
            assert_eq!(read(&mut tail), lines);
            assert_eq!(tail.take_cut(), text.starts_with('1'), "the half line is gone");
        }
        // What it was in the beginning is told anew.
        write(&path, "\0\0\0\x01x");
        assert_eq!(read(&mut tail), ["x"]);
        // And nothing is read again for having been touched.
        write(&path, "\0\0\0\x01x");
        assert_eq!(read(&mut tail), [""; 0]);
    }

    #[test]
    fn half_a_line_at_the_end_is_passed_over_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let old = "x".repeat(2 * KNOWN);
        for (text, more, lines) in [
            (format!("{old}\n"), "a\nb\n", vec!["a", "b"]),
            (format!("{old}\n{{\"a"), "\":{}}\nb\n", vec!["b"]),
            (String::new(), "a\n", vec!["a"]),
        ] {
            write(&path, &text);
            let mut tail = tail(&path);
            tail.skip_to_end(path.metadata().unwrap().len()).unwrap();
            assert_eq!((read(&mut tail), tail.is_torn()), (vec![], false));
            write(&path, &format!("{text}{more}"));
            assert_eq!(read(&mut tail), lines);
        }
    }
}
