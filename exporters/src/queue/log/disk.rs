//! The thread that writes a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::record::{self, HEADER, Header, Kind, MAGIC};
use super::recover::{file_name, open_regular, read_payload, recover};
use super::{Place, ReadError, Segment, State};

/// From this size on a new segment is begun.
const SEGMENT: u64 = 16 << 20;
/// Bytes that are made durable together at most, unless one batch is larger.
const GROUP: usize = 4 << 20;
/// A log this many times as large as what waits in it is made smaller.
const SLACK: u64 = 3;

/// What the writer is asked to do, in this order.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        number: u64,
        records: usize,
        metadata: Vec<u8>,
        body: Bytes,
        told: oneshot::Sender<Result<(), Arc<io::Error>>>,
    },
    /// The batch is done with; the state knows already.
    Done(u64),
    /// Tells when all that came before is written.
    Flush(oneshot::Sender<()>),
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    fsync: Arc<AtomicBool>,
    /// The segment that is written, if there is one.
    current: Option<Current>,
    next_segment: u64,
    /// What is about to be written.
    buffer: Vec<u8>,
    /// Whether the last attempt to write failed, which is told once.
    is_failing: bool,
    /// Batches that are done with, of which that could not be written.
    owed: Vec<u64>,
    /// A segment of which something cannot be read, so that it is not moved.
    unmovable: Option<u64>,
    /// Held until the log is closed.
    _lock: File,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: File,
    len: u64,
}

impl Disk {
    /// The files in a directory, and what is in them.
    pub(super) fn open(directory: &Path, fsync: Arc<AtomicBool>) -> io::Result<(Self, Mutex<State>)> {
        let path = directory.join("lock");
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other(format!("{} is not a regular file", path.display())));
        }
        let lock = private().create(true).truncate(false).open(&path)?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                io::Error::other(format!("{} is in use by another process", directory.display()))
            }
            std::fs::TryLockError::Error(error) => error,
        })?;
        let state = recover(directory)?;
        let next_segment = state.last_segment.saturating_add(1);
        let mut disk = Self {
            directory: directory.to_owned(),
            fsync,
            current: None,
            next_segment,
            buffer: Vec::new(),
            is_failing: false,
            owed: Vec::new(),
            unmovable: None,
            _lock: lock,
        };
        if disk.is_durable() {
            // The directory itself may be new.
            directory.parent().map_or(Ok(()), sync_directory)?;
        }
        let state = Mutex::new(state);
        disk.delete_old(&state);
        Ok((disk, state))
    }

    /// Writes until nobody is left who could ask for it.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>, state: &Mutex<State>) {
        while let Ok(first) = commands.recv() {
            let mut group = vec![first];
            let mut bytes = 0;
            while bytes < GROUP
                && let Ok(next) = commands.try_recv()
            {
                bytes += HEADER + if let Command::Append { body, .. } = &next { body.len() } else { 0 };
                group.push(next);
            }
            self.write(group, state);
            // One large batch is no reason to hold so much for ever.
            self.buffer.shrink_to(2 * GROUP);
            self.delete_old(state);
            self.move_oldest(state);
        }
    }

    fn write(&mut self, group: Vec<Command>, state: &Mutex<State>) {
        let (mut headers, mut told, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
        self.buffer.clear();
        let mut done = std::mem::take(&mut self.owed);
        for number in &done {
            self.put(Header::done(*number), &[], &[], &mut headers);
        }
        for command in group {
            match command {
                Command::Append { number, records, metadata, body, told: teller } => {
                    let header = Header {
                        kind: Kind::Batch,
                        number,
                        records: u32::try_from(records).unwrap_or(u32::MAX),
                        // The sizes were checked by whoever appends.
                        metadata_len: metadata.len() as u32,
                        body_len: body.len() as u32,
                        checksum: record::checksum([&metadata[..], &body[..]]),
                    };
                    self.put(header, &metadata, &body, &mut headers);
                    told.push((number, teller));
                }
                Command::Done(number) => {
                    self.put(Header::done(number), &[], &[], &mut headers);
                    done.push(number);
                }
                Command::Flush(teller) => flushed.push(teller),
            }
        }
        let outcome = self.append(&headers, !told.is_empty(), state, |_, _| true).map_err(Arc::new);
        if outcome.is_err() {
            self.owed = done;
        }
        match (&outcome, self.is_failing) {
            _ if headers.is_empty() => {}
            (Err(error), false) => tracing::error!("{}: cannot write: {error}", self.directory.display()),
            (Ok(()), true) => tracing::info!("{}: can be written again", self.directory.display()),
            _ => {}
        }
        self.is_failing = if headers.is_empty() { self.is_failing } else { outcome.is_err() };
        for teller in flushed {
            teller.send(()).ok();
        }
        for (number, teller) in told {
            // The batch of whoever gave up waiting waits here, as after a restart.
            if teller.send(outcome.clone()).is_err() && outcome.is_ok() {
                lock(state).waiting.insert(number, None);
            }
        }
    }

    /// Adds a record to what is about to be written; `headers` gets it with its offset in there.
    fn put(&mut self, header: Header, metadata: &[u8], body: &[u8], headers: &mut Vec<(u64, Header)>) {
        self.buffer.extend_from_slice(&header.encode());
        headers.push((self.buffer.len() as u64, header));
        self.buffer.extend_from_slice(metadata);
        self.buffer.extend_from_slice(body);
    }

    /// Writes the buffer, with these records in it, and makes it durable if that matters to somebody. Takes note of those
    /// that count.
    fn append(
        &mut self,
        headers: &[(u64, Header)],
        matters: bool,
        state: &Mutex<State>,
        counts: impl Fn(&State, u64) -> bool,
    ) -> io::Result<()> {
        if headers.is_empty() {
            return Ok(());
        }
        if self.current.as_ref().is_none_or(|current| current.len >= SEGMENT) {
            // Notes alone are not worth a segment where there is nothing they could speak of.
            if !matters && lock(state).segments.is_empty() {
                return Ok(());
            }
            self.begin_segment(state)?;
        }
        let is_durable = matters && self.is_durable();
        let Some(current) = &mut self.current else { return Ok(()) };
        let written = current.file.write_all(&self.buffer);
        let written = written.and_then(|()| if is_durable { current.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // What was written of it is not to be found later. If that fails too, nothing more goes into this file.
            if current.file.set_len(current.len).is_err() || seek_to(&mut current.file, current.len).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        let (segment, start) = (current.number, current.len);
        current.len += self.buffer.len() as u64;
        let mut state = lock(state);
        state.segments.entry(segment).or_default().bytes = current.len;
        for (offset, header) in headers.iter().filter(|(_, header)| header.kind == Kind::Batch) {
            if counts(&state, header.number) {
                state.put(Place { segment, offset: start + offset, header: *header });
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, state: &Mutex<State>) -> io::Result<()> {
        let number = self.next_segment;
        // Whatever becomes of it: a file that cannot be removed again must not be in the way of the next one.
        self.next_segment = self.next_segment.saturating_add(1);
        let path = self.directory.join(file_name(number));
        let mut file = private().create_new(true).open(&path)?;
        let begun = file
            .write_all(&MAGIC)
            .and_then(|()| if self.is_durable() { sync_directory(&self.directory) } else { Ok(()) });
        if let Err(error) = begun {
            std::fs::remove_file(&path).ok();
            return Err(error);
        }
        let len = MAGIC.len() as u64;
        lock(state).segments.insert(number, Segment { bytes: len, ..Segment::default() });
        self.current = Some(Current { number, file, len });
        Ok(())
    }

    fn is_durable(&self) -> bool {
        self.fsync.load(Ordering::Relaxed)
    }

    /// Deletes segments from the oldest on, as long as all their batches are done with. Nobody else does, so the state
    /// need not be locked meanwhile.
    fn delete_old(&mut self, state: &Mutex<State>) {
        loop {
            let oldest = lock(state).segments.first_key_value().map(|(number, segment)| (*number, *segment));
            let current = self.current.as_ref().map(|current| current.number);
            let Some((number, segment)) = oldest.filter(|(number, s)| s.batches == 0 && current != Some(*number))
            else {
                return;
            };
            let path = self.directory.join(file_name(number));
            let gone = match segment.is_damaged {
                true => std::fs::rename(&path, path.with_extension("corrupt")),
                false => std::fs::remove_file(&path),
            };
            if let Err(error) = gone
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("{}: cannot be deleted: {error}", path.display());
                return;
            }
            lock(state).segments.remove(&number);
        }
    }

    /// Writes what is left of the oldest segment again at the end, if the log is far larger than what waits in it.
    fn move_oldest(&mut self, state: &Mutex<State>) {
        let (oldest, places) = {
            let state = lock(state);
            let all: u64 = state.segments.values().map(|segment| segment.bytes).sum();
            let current = self.current.as_ref().map(|current| current.number);
            let Some((oldest, segment)) = state.segments.first_key_value() else { return };
            if self.is_failing || self.unmovable == Some(*oldest) {
                return;
            }
            if all <= SLACK * (state.bytes + SEGMENT) || current == Some(*oldest) || segment.batches == 0 {
                return;
            }
            let places = state.batches.values().filter(|place| place.segment == *oldest).copied();
            (*oldest, places.collect::<Vec<_>>())
        };
        let Ok(mut file) = open_regular(&self.directory.join(file_name(oldest))) else { return };
        let mut headers = Vec::new();
        self.buffer.clear();
        for place in places {
            // One that cannot be read stays where it is, and with it the segment: whoever takes it will say so.
            let Ok(payload) = read_payload(&mut file, place) else {
                self.unmovable = Some(oldest);
                return;
            };
            self.put(place.header, &payload, &[], &mut headers);
        }
        // What is done with by now has its note behind this, which holds for this too.
        let is_there = |state: &State, number: u64| state.batches.contains_key(&number);
        if let Err(error) = self.append(&headers, true, state, is_there) {
            tracing::warn!("{}: cannot make the log smaller: {error}", self.directory.display());
            self.is_failing = true;
            return;
        }
        self.delete_old(state);
    }
}

/// A file that was just made is there after a loss of power only if its directory says so.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// How to open a file that nobody else is to read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory that nobody else is to read, and what is above it.
pub(super) fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Metadata and OTLP of a batch.
pub(super) fn read(directory: &Path, place: Place) -> Result<(Bytes, Bytes), ReadError> {
    let path = directory.join(file_name(place.segment));
    let payload = open_regular(&path).and_then(|mut file| read_payload(&mut file, place));
    let payload = match payload {
        Ok(payload) => Bytes::from(payload),
        // Waiting brings no bytes back.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            return Err(ReadError::Corrupt { path, offset: place.offset });
        }
        Err(error) => return Err(ReadError::Io { path, error }),
    };
    if record::checksum([&payload[..]]) != place.header.checksum {
        return Err(ReadError::Corrupt { path, offset: place.offset });
    }
    let mut metadata = payload;
    let body = metadata.split_off(place.header.metadata_len as usize);
    Ok((metadata, body))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seek_to(file: &mut File, offset: u64) -> io::Result<u64> {
    io::Seek::seek(file, io::SeekFrom::Start(offset))
}
