//! `sending_queue::storage`: a log of what was accepted and is not yet delivered, which survives the process.
//!
//! Each exporter and signal has a log of its own, a directory below that of the `file_storage` extension:
//!
//! ```text
//! exporter_otlp_grpc_backup_traces/
//!   lock                         held as long as a process has the log open
//!   00000000000000000007.log     segments: what is appended goes to the last one
//!   00000000000000000008.log
//! ```
//!
//! **Writing.** One thread writes. It takes all that waits to be appended, writes it, makes it durable once, and then
//! tells everybody: the more load, the more batches share one `fsync`. What cannot be written, because the disk is full,
//! is cut off again and refused, so the client comes again.
//!
//! **Reading.** A batch has a number. While there is room in memory it is kept there too and never read back; otherwise,
//! and after a restart, it waits on disk and is read when its turn has come, the oldest first. Starting reads headers
//! alone, and of the last segment everything.
//!
//! **Forgetting.** A batch that is done with, delivered or given up, is noted by a record of 32 bytes. Such notes are
//! not made durable by themselves: one that is lost means that a batch is delivered twice. A segment is deleted once all
//! its batches and those of older segments are done with, so a note never outlives what it speaks of by less than the
//! batch itself. Where few batches of an old segment are left while the log has become far larger than what waits in
//! it, they are written again at its end.
//!
//! **Damage.** A record that was being written when the machine stopped ends the last segment: it was promised to
//! nobody. Elsewhere, what has a wrong checksum is skipped: a payload alone; behind a header, which says where the next
//! record begins, all up to the next record that is found sound by its own checksums. What is skipped is counted and
//! logged, and its segment is kept as `….corrupt`. Starting never fails on it. A segment of a newer version is no damage:
//! it is left alone for that version, and so is what is not a regular file. A batch has [`record::MAX_PAYLOAD`] bytes at
//! most, and a larger one is refused: what a file claims beyond that, or beyond its end, is not believed.
//!
//! Decision: what lies behind a damaged header is found by how it looks, so a client that had foreseen the damage could
//! have put a record of its own into its data. The alternative is to lose all that others sent behind it.
//!
//! Directory and files are readable by their owner alone: they hold prompts.
//!
//! Decision: the charter wants one log for all exporters, written once for all of them. That saves writes where several
//! destinations have storage, but lets one that is away keep the data of all others on disk, and ties their queues
//! together. One log each is what the Collector does, and an exporter can be given a disk of its own.

mod disk;
mod record;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use self::disk::{Command, Disk};
use self::record::Header;
use super::capacity::Space;

/// Where a log is, and how sure it is of what it has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) directory: PathBuf,
    /// Whether a batch is accepted only when it would survive a loss of power, not only the end of the process.
    pub(crate) fsync: bool,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    state: Arc<Mutex<State>>,
    /// Told when a batch waits on disk to be delivered.
    waits: Notify,
    fsync: Arc<AtomicBool>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

/// What a log holds.
#[derive(Debug, Default)]
struct State {
    /// All batches that are not done with.
    batches: BTreeMap<u64, Place>,
    /// Those of them that nobody has in hand, with the room they take in the queue if it was told of them.
    waiting: BTreeMap<u64, Option<Space>>,
    segments: BTreeMap<u64, Segment>,
    /// Payload bytes of all batches.
    bytes: u64,
    /// Segments of which a part cannot be read, until that is told.
    damaged: usize,
    last_number: u64,
    /// The largest number that a file has which is named like a segment.
    last_segment: u64,
}

/// Where a batch lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    /// Of the payload.
    offset: u64,
    header: Header,
}

impl Place {
    /// Where what follows the payload begins.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.header.payload_len())
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Segment {
    bytes: u64,
    /// Batches in it that are not done with.
    batches: usize,
    /// Whether it has parts that cannot be read.
    is_damaged: bool,
}

/// A batch in the log, in somebody's hand. Dropped, it waits to be taken again; see [`done`](Self::done).
#[derive(Debug)]
pub(crate) struct Entry {
    log: Arc<Log>,
    pub(crate) number: u64,
    pub(crate) records: usize,
    space: Option<Space>,
    is_done: bool,
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: wrong checksum at byte {offset}")]
    Corrupt { path: PathBuf, offset: u64 },
}

impl State {
    /// Takes note of a batch, which may have been elsewhere before.
    fn put(&mut self, place: Place) {
        self.last_number = self.last_number.max(place.header.number);
        self.bytes += place.header.payload_len();
        if let Some(before) = self.batches.insert(place.header.number, place) {
            self.leave(before);
        }
        self.segments.entry(place.segment).or_default().batches += 1;
    }

    /// Forgets a batch.
    fn finish(&mut self, number: u64) {
        self.waiting.remove(&number);
        if let Some(place) = self.batches.remove(&number) {
            self.leave(place);
        }
    }

    fn leave(&mut self, place: Place) {
        self.bytes = self.bytes.saturating_sub(place.header.payload_len());
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.batches = segment.batches.saturating_sub(1);
        }
    }
}

/// Logs that are open in this process, or being closed. A new graph gets the log that the old one still drains.
fn open_logs() -> &'static Mutex<HashMap<PathBuf, Weak<Log>>> {
    static OPEN: OnceLock<Mutex<HashMap<PathBuf, Weak<Log>>>> = OnceLock::new();
    OPEN.get_or_init(Mutex::default)
}

impl Log {
    /// Opens the log in a directory, which is made if need be; what is in it waits.
    ///
    /// # Errors
    /// If the directory cannot be made, read or written, or another process has it. Most of these pass.
    pub(crate) fn open(settings: &LogSettings) -> io::Result<Arc<Self>> {
        disk::create_private(&settings.directory)?;
        let directory = settings.directory.canonicalize()?;
        let mut open = open_logs().lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(&directory).map(Weak::upgrade) {
            None => {}
            Some(Some(log)) => {
                log.fsync.store(settings.fsync, Ordering::Relaxed);
                return Ok(log);
            }
            // Its last holder waits for its writer.
            Some(None) => return Err(io::Error::other("it is just being closed")),
        }
        let fsync = Arc::new(AtomicBool::new(settings.fsync));
        let (disk, state) = Disk::open(&directory, Arc::clone(&fsync))?;
        let state = Arc::new(state);
        let (commands, received) = mpsc::channel();
        let writer = std::thread::Builder::new().name("weir-log".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || disk.run(&received, &state)
        })?;
        let log = Arc::new(Self {
            directory: directory.clone(),
            state,
            waits: Notify::new(),
            fsync,
            commands: Some(commands),
            writer: Some(writer),
        });
        open.insert(directory, Arc::downgrade(&log));
        Ok(log)
    }

    /// Appends a batch: `Ok` when it is as durable as the log makes it.
    ///
    /// # Errors
    /// When the disk takes it not.
    pub(crate) async fn append(
        self: &Arc<Self>,
        records: usize,
        metadata: Vec<u8>,
        body: Bytes,
        space: Space,
    ) -> Result<Entry, Arc<io::Error>> {
        let (told, outcome) = oneshot::channel();
        let bytes = metadata.len() as u64 + body.len() as u64;
        if bytes > record::MAX_PAYLOAD {
            let message = format!("its {bytes} bytes are more than the {} that the log takes", record::MAX_PAYLOAD);
            return Err(Arc::new(io::Error::other(message)));
        }
        let number = {
            let mut state = self.state();
            let next = state.last_number.checked_add(1);
            state.last_number = next.ok_or_else(|| io::Error::other("the log has no numbers left: start a new one"))?;
            state.last_number
        };
        self.send(Command::Append { number, records, metadata, body, told });
        match outcome.await {
            Ok(Ok(())) => Ok(Entry { log: Arc::clone(self), number, records, space: Some(space), is_done: false }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Arc::new(io::Error::other("the log is closed"))),
        }
    }

    /// Returns when all that was said so far is written, as far as it can be.
    pub(crate) async fn flush(&self) {
        let (told, flushed) = oneshot::channel();
        self.send(Command::Flush(told));
        flushed.await.ok();
    }

    /// The batch that has waited longest, if it is older than the one of this number.
    pub(crate) fn take_before(self: &Arc<Self>, number: Option<u64>) -> Option<Entry> {
        let mut state = self.state();
        let oldest = state.waiting.first_entry()?;
        if number.is_some_and(|number| number <= *oldest.key()) {
            return None;
        }
        let (number, space) = oldest.remove_entry();
        let records = state.batches.get(&number).map_or(0, |place| place.header.records as usize);
        Some(Entry { log: Arc::clone(self), number, records, space, is_done: false })
    }

    /// Whether any batch waits.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Gives all that waits room in this queue, which another may have had before: `room` is told records and bytes.
    /// Returns the records of what no queue had been told of.
    pub(crate) fn admit(&self, mut room: impl FnMut(usize, usize) -> Space) -> usize {
        let mut state = self.state();
        let State { waiting, batches, .. } = &mut *state;
        let mut admitted = 0;
        for (number, space) in waiting {
            if let Some(Place { header, .. }) = batches.get(number) {
                let is_new = space.is_none();
                *space = Some(room(header.records as usize, header.payload_len() as usize));
                admitted += if is_new { header.records as usize } else { 0 };
            }
        }
        admitted
    }

    /// Segments of which a part was found that cannot be read, since this was last asked.
    pub(crate) fn damaged(&self) -> usize {
        std::mem::take(&mut self.state().damaged)
    }

    /// Resolves when a batch waits that did not before.
    pub(crate) fn waits(&self) -> Notified<'_> {
        self.waits.notified()
    }

    fn send(&self, command: Command) {
        // It only fails when the writer has gone, which then drops the command and with it whoever waits.
        if let Some(commands) = &self.commands {
            commands.send(command).ok();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Log {
    /// Waits until all that was appended is written.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
        open_logs().lock().unwrap_or_else(PoisonError::into_inner).remove(&self.directory);
    }
}

impl Entry {
    /// Metadata and OTLP of the batch. Reads a file: not for a thread that others wait for.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn read(&self) -> Result<(Bytes, Bytes), ReadError> {
        let place = || self.log.state().batches.get(&self.number).copied();
        let mut at = place();
        loop {
            let Some(read_at) = at else {
                // Nobody but its holder is done with it, so this does not happen.
                return Err(ReadError::Corrupt { path: self.log.directory.clone(), offset: 0 });
            };
            let read = disk::read(&self.log.directory, read_at);
            at = place();
            // It may have been moved, and the file deleted, between asking and reading.
            if read.is_ok() || at.is_none_or(|now| now.segment == read_at.segment) {
                return read;
            }
        }
    }

    /// The batch need not be kept any more.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }

    /// It cannot be read: its segment is kept for whoever wants to look.
    pub(crate) fn damaged(self) {
        let mut state = self.log.state();
        if let Some(segment) = state.batches.get(&self.number).map(|place| place.segment) {
            state.segments.entry(segment).or_default().is_damaged = true;
        }
        drop(state);
        self.done();
    }

    /// Takes room in memory for the batch, if there is any: it is then sent from there.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        self.space.as_mut().is_some_and(|space| space.hold(bytes))
    }

    /// Whether a queue was told of it.
    pub(crate) fn has_space(&self) -> bool {
        self.space.is_some()
    }

    /// Gives it room in the queue, if it has none.
    pub(crate) fn with_space(mut self, room: impl FnOnce() -> Space) -> Self {
        self.space.get_or_insert_with(room);
        self
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.log.state();
        if self.is_done {
            state.finish(self.number);
            drop(state);
            self.log.send(Command::Done(self.number));
        } else {
            let mut space = self.space.take();
            if let Some(space) = &mut space {
                space.release();
            }
            state.waiting.insert(self.number, space);
            drop(state);
            self.log.waits.notify_waiters();
        }
    }
}
