//! What a directory holds when it is opened.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::record::{HEADER, Header, Kind, MAGIC, MAX_PAYLOAD, is_newer};
use super::{Place, Segment, State};

/// How much of a segment is read at once.
const BLOCK: usize = 64 << 10;

/// How far the next sound record is looked for: the one behind a record whose length is not known is no farther.
const REACH: u64 = MAX_PAYLOAD + 2 * HEADER as u64;

/// What looks like a record there and has a wrong checksum, until the search is given up: each costs reading it.
const MAX_DOUBTS: usize = 64;

/// Numbers that batches in a segment of a newer version may have.
const UNREAD_NUMBERS: u64 = 1 << 40;

/// The name of a segment's file.
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:020}.log")
}

/// The segments in a directory, in ascending order; in the state, the last number that any file has.
fn segments(directory: &Path, state: &mut State) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        // What has another name was not put there by us.
        let is_ours = |number: &u64| *number < u64::MAX && name.to_str() == Some(file_name(*number).as_str());
        let Some(number) = number.filter(is_ours) else { continue };
        state.last_segment = state.last_segment.max(number);
        // Opening a pipe would wait for somebody who writes into it.
        if entry.file_type()?.is_file() {
            found.push(number);
        } else {
            tracing::warn!("{}: is not a regular file and left alone", entry.path().display());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens a regular file to read it.
///
/// # Errors
/// If it cannot be opened, or is something else.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    match path.symlink_metadata()?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// Reads what is in all segments. All batches that are not done with wait.
pub(super) fn recover(directory: &Path) -> io::Result<State> {
    let mut state = State::default();
    let segments = segments(directory, &mut state)?;
    let mut is_any_newer = false;
    for segment in &segments {
        let is_last = segments.last() == Some(segment);
        is_any_newer |= read_segment(directory, *segment, is_last, &mut state)?;
    }
    if is_any_newer {
        // Our batches must not have the numbers of those, which whoever reads both takes for the same.
        state.last_number = state.last_number.saturating_add(UNREAD_NUMBERS);
    }
    state.waiting = state.batches.keys().map(|number| (*number, None)).collect();
    Ok(state)
}

/// Returns whether the segment is of a newer version, and was left alone.
fn read_segment(directory: &Path, segment: u64, is_last: bool, state: &mut State) -> io::Result<bool> {
    let path = directory.join(file_name(segment));
    let file = open_regular(&path)?;
    let len = file.metadata()?.len();
    let mut reader = Reader {
        file: BufReader::with_capacity(BLOCK, file),
        segment,
        len,
        at: 0,
        sound: 0,
        places: 0,
        first: 0,
        unreadable: 0,
    };
    let end = reader.read_all(is_last, state).unwrap_or_else(|error| {
        // The disk has it no more. All that was read before counts.
        tracing::error!("{}: {error}", path.display());
        End::Damaged
    });
    let mut entry = Segment { bytes: len, ..state.segments.get(&segment).copied().unwrap_or_default() };
    match end {
        End::Whole => {}
        End::Newer(version) => {
            tracing::error!(
                "{}: is of a newer version of Weir (`{version}`): it is left alone, and what waits in it is sent by \
                 that version",
                path.display()
            );
            return Ok(true);
        }
        // It was being written when the process or the machine stopped, and was promised to nobody.
        End::Torn if is_last => {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(reader.sound)?;
            file.sync_all()?;
            entry.bytes = reader.sound;
        }
        End::Torn | End::Damaged => reader.note_unreadable(reader.sound, len),
    }
    if reader.places > 0 {
        state.damaged += 1;
        entry.is_damaged = true;
        tracing::error!(
            "{}: parts that cannot be read: {}, of {} bytes, the first at byte {}: the batches in them, one or more in \
             each, are lost; the file will be kept",
            path.display(),
            reader.places,
            reader.unreadable,
            reader.first
        );
    }
    state.segments.insert(segment, entry);
    Ok(false)
}

/// How a segment ends.
#[derive(Debug)]
enum End {
    Whole,
    /// In what was not written to its end.
    Torn,
    /// In something else than a record.
    Damaged,
    /// It has a format of this name, which is not known yet.
    Newer(String),
}

/// What is at a place in a segment.
enum Found {
    /// A record, and whether its payload has the right checksum, as far as that was looked at.
    Record(Place, bool),
    /// The beginning of one that does not fit into the file.
    Torn,
    /// Something else.
    Garbage,
}

/// A segment that is read for the first time.
struct Reader {
    file: BufReader<File>,
    segment: u64,
    /// Of the file.
    len: u64,
    /// Where the file is read next.
    at: u64,
    /// Where the last sound record ends.
    sound: u64,
    /// Places that cannot be read, where the first of them is, and their bytes.
    places: usize,
    first: u64,
    unreadable: u64,
}

impl Reader {
    /// Takes note of all records of the segment, and of what cannot be read between them.
    fn read_all(&mut self, is_last: bool, state: &mut State) -> io::Result<End> {
        let mut magic = [0; MAGIC.len()];
        let mut offset = magic.len() as u64;
        if self.len < offset {
            return Ok(End::Torn);
        }
        self.fill(&mut magic)?;
        if is_newer(&magic) {
            return Ok(End::Newer(magic.escape_ascii().to_string()));
        }
        if magic == MAGIC {
            self.sound = offset;
        } else {
            offset = 0;
        }
        // A batch with a wrong checksum: damaged if something sound comes after it, else not written to its end.
        let mut doubtful: Option<Place> = None;
        while offset < self.len {
            let found = if offset == 0 { Found::Garbage } else { self.record_at(offset, is_last)? };
            let (place, is_whole) = match found {
                Found::Record(place, is_whole) => (place, is_whole),
                Found::Torn => return Ok(End::Torn),
                Found::Garbage => match self.find_sound(offset)? {
                    Ok(next) => {
                        self.note_unreadable(offset, next);
                        offset = next;
                        continue;
                    }
                    Err(end) => return Ok(end),
                },
            };
            offset = place.end();
            if !is_whole && doubtful.is_none() {
                doubtful = Some(place);
                continue;
            }
            if let Some(damaged) = doubtful.take() {
                state.put(damaged);
            }
            match place.header.kind {
                // Whoever reads it finds out.
                Kind::Batch => state.put(place),
                Kind::Done => {
                    state.last_number = state.last_number.max(place.header.number);
                    state.finish(place.header.number);
                }
            }
            self.sound = offset;
        }
        Ok(if doubtful.is_some() { End::Torn } else { End::Whole })
    }

    /// What is at `offset`. The checksum of a payload is looked at where it `may_be_torn`.
    fn record_at(&mut self, offset: u64, may_be_torn: bool) -> io::Result<Found> {
        let mut header = [0; HEADER];
        let payload = offset + HEADER as u64;
        if payload > self.len {
            return Ok(Found::Torn);
        }
        self.seek(offset)?;
        self.fill(&mut header)?;
        let Some(header) = Header::decode(&header) else { return Ok(Found::Garbage) };
        let place = Place { segment: self.segment, offset: payload, header };
        if place.end() > self.len {
            return Ok(Found::Torn);
        }
        let is_whole = !may_be_torn || self.is_whole(place)?;
        Ok(Found::Record(place, is_whole))
    }

    /// Where the next record begins, all of which is sound; or how the segment ends.
    fn find_sound(&mut self, from: u64) -> io::Result<Result<u64, End>> {
        let (mut block, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
        let (mut offset, mut is_zero, mut doubts) = (from, true, 0);
        while offset - from < REACH {
            let left = usize::try_from(self.len - offset).unwrap_or(BLOCK);
            let bytes = &mut block[..left.min(BLOCK)];
            self.seek(offset)?;
            self.fill(bytes)?;
            let is_empty = zeros.starts_with(bytes);
            is_zero &= is_empty;
            // In a file with a hole, that is most of it.
            let windows = bytes.windows(HEADER).take(if is_empty { 0 } else { BLOCK });
            for (at, window) in (offset..).zip(windows) {
                let Some(header) = window.first_chunk().and_then(Header::decode) else { continue };
                let place = Place { segment: self.segment, offset: at + HEADER as u64, header };
                if place.end() <= self.len && self.is_whole(place)? {
                    return Ok(Ok(at));
                }
                doubts += 1;
                if doubts == MAX_DOUBTS {
                    return Ok(Err(End::Damaged));
                }
            }
            if left <= BLOCK {
                // Nothing but zeros is what a file system may leave of what was not written.
                return Ok(Err(if is_zero { End::Torn } else { End::Damaged }));
            }
            // A header may begin in this block and end in the next one.
            offset += (BLOCK - HEADER + 1) as u64;
        }
        Ok(Err(End::Damaged))
    }

    /// Whether the payload of a record has the right checksum. It may be large: no more than a block of it is in memory.
    fn is_whole(&mut self, Place { offset, header, .. }: Place) -> io::Result<bool> {
        if header.kind == Kind::Done && header.payload_len() == 0 {
            return Ok(true);
        }
        self.seek(offset)?;
        let mut payload = self.file.by_ref().take(header.payload_len());
        let mut hasher = crc32fast::Hasher::new();
        loop {
            let bytes = payload.fill_buf()?;
            let read = bytes.len();
            if read == 0 {
                break;
            }
            hasher.update(bytes);
            payload.consume(read);
        }
        self.at = offset + header.payload_len() - payload.limit();
        Ok(payload.limit() == 0 && hasher.finalize() == header.checksum)
    }

    fn note_unreadable(&mut self, from: u64, to: u64) {
        if self.places == 0 {
            self.first = from;
        }
        self.places += 1;
        self.unreadable += to.saturating_sub(from);
    }

    /// Within what is buffered this reads nothing anew.
    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.file.seek_relative(offset.wrapping_sub(self.at).cast_signed())?;
        self.at = offset;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The payload of a batch.
pub(super) fn read_payload(file: &mut File, place: Place) -> io::Result<Vec<u8>> {
    if place.end() > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(place.offset))?;
    let mut payload = vec![0; place.header.payload_len() as usize];
    file.read_exact(&mut payload)?;
    Ok(payload)
}
