//! `otlp_json_file` (alias `otlpjsonfile`): reads the files that the `file` exporter writes, Weir's or the Collector's.
//!
//! ```yaml
//! receivers:
//!   otlp_json_file:
//!     include: [./spans*.jsonl]   # shell patterns; ** is any number of folders, {a,b} one or the other, [{] a brace
//!     exclude: []
//!     start_at: end               # end (default) | beginning: of the files that are there at the start
//!     replay_file: false          # read every file again from its beginning, for ever
//!     poll_interval: 200ms
//! ```
//!
//! A file of lines holds one OTLP/JSON request per line. A file of records (the exporter's `format: proto`, and
//! everything compressed) holds each request after its length, and may be compressed with zstd; it is told from the other
//! by its first byte. JSON says itself what signal it holds, and what no pipeline takes is passed over. Protobuf does not
//! say it, so a receiver of such files belongs into pipelines of one signal.
//!
//! # What it guarantees
//!
//! * A request is read again until the pipelines have taken it, or have refused it for good.
//! * A request that is malformed or larger than [`MAX_RECORD`] is counted and passed over.
//! * A last line without its end is taken once it is a whole JSON object; until then it waits, however long. So does a
//!   record that is shorter than its length says. What is never completed is counted when its file is truncated, moved
//!   away or removed. A writer that died within a line and then goes on behind it makes one malformed line of the two.
//! * A file is followed whatever its name (on Unix: by device and inode), so one that is rotated is not read again, nor
//!   is its end lost. One whose new name does not match, or that is removed, is read further for ten seconds, and stays
//!   open so long. 256 files are kept open, those that grew last; of more than these, what is written shortly before one
//!   loses its name can be lost. A copy is another file.
//! * A file that was replaced or truncated is read from its beginning. Where it stopped reading is not kept over a
//!   restart. One file after the other, one request at a time, by one lane.

mod config;
mod follow;
mod record;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::node::{Context, Outlets, Receiver, Refused, Shutdown, StartError};
use weir_pipeline::receipt::{Outcome, Receipt};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ReceiverCounters;

use self::config::FileSettings;
pub use self::config::schema;
use self::follow::Followed;
use self::tail::{Chunk, Identity};

/// Largest request that is read, in bytes, compressed or not.
pub const MAX_RECORD: usize = 64 << 20;

/// Wait before a request is handed over again, unless the destination asks for more.
const RETRY: Duration = Duration::from_secs(1);

/// The receiver.
pub struct FileReceiver {
    settings: FileSettings,
    context: Context,
}

impl FileReceiver {
    /// The receiver that is configured at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: Context) -> Result<Self, ConfigError> {
        Ok(Self { settings: FileSettings::parse(node, path)?, context })
    }
}

#[async_trait]
impl Receiver for FileReceiver {
    fn bind(&self, _lanes: usize) -> Result<(), StartError> {
        Ok(())
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    async fn run(self: Arc<Self>, lane: usize, outlets: Outlets, mut shutdown: Shutdown) {
        if lane > 0 {
            // Its outlets must not be dropped before the others stop.
            shutdown.requested().await;
            return;
        }
        let Context { id, telemetry, .. } = &self.context;
        let counters = Signal::ALL.map(|signal| ReceiverCounters::new(telemetry, id, signal, "file"));
        let mut reading = Reading { receiver: &self, outlets, shutdown: shutdown.clone(), counters, followed: None };
        while !shutdown.is_requested() {
            reading.poll().await;
            tokio::select! {
                () = tokio::time::sleep(self.settings.poll_interval) => {}
                () = shutdown.requested() => return,
            }
        }
    }
}

/// What one run keeps.
struct Reading<'a> {
    receiver: &'a FileReceiver,
    outlets: Outlets,
    shutdown: Shutdown,
    /// By signal, in the order of [`Signal::ALL`].
    counters: [ReceiverCounters; 3],
    /// The files, and how far they were read; `None` before the first look.
    followed: Option<Followed>,
}

impl Reading<'_> {
    /// Reads what is new in all files.
    async fn poll(&mut self) {
        let settings = self.receiver.settings.clone();
        let at_end = self.followed.is_none() && !settings.from_beginning;
        let (mut followed, now) = (self.followed.take().unwrap_or_default(), Instant::now());
        let looked = tokio::task::spawn_blocking(move || {
            let due = followed.look(settings.paths(), at_end, now);
            (followed, due)
        });
        // It only fails when the runtime is going away.
        let Ok((mut followed, due)) = looked.await else { return };
        for id in due {
            self.read(id, &mut followed).await;
            if self.shutdown.is_requested() {
                return;
            }
        }
        for tail in followed.let_go(now) {
            if tail.is_torn() {
                self.failed(&tail.path, "it was not completed before the file was moved or removed");
            }
        }
        self.followed = Some(followed);
    }

    /// Reads one file to its end.
    async fn read(&self, id: Identity, followed: &mut Followed) {
        let Some(mut tail) = followed.take(&id) else { return };
        let replays = self.receiver.settings.replays;
        if replays && tail.gone_since.is_some() {
            // It was read to its end before it began anew.
            followed.put(id, tail);
            return;
        }
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let chunk = tail.read();
                (tail, chunk)
            });
            let Ok((reader, chunk)) = read.await else { return };
            tail = reader;
            if tail.take_cut() {
                self.failed(&tail.path, "it was not completed before the file was truncated or replaced");
            }
            match chunk {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    if !self.hand_over(&tail.path, &chunk).await {
                        break;
                    }
                    tail.advance(chunk);
                }
                // It was renamed or removed since it was found.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => {
                    let receiver = self.receiver.context.id.as_str();
                    tracing::warn!(%error, receiver, "cannot read {}", tail.path.display());
                    break;
                }
            }
        }
        if replays {
            tail.rewind();
        }
        followed.put(id, tail);
    }

    /// Hands over the requests of a chunk. Returns whether all of them are settled; they are not if the process stops.
    async fn hand_over(&self, path: &Path, chunk: &Chunk) -> bool {
        for _ in 0..chunk.too_large {
            self.failed(path, "a record is larger than 64 MiB");
        }
        let signals: Vec<Signal> = Signal::ALL.into_iter().filter(|s| self.outlets.get(*s).is_some()).collect();
        for record in &chunk.records {
            match record::decode(chunk.framing, record, &signals) {
                Ok(Some(batch)) => {
                    if !self.deliver(batch).await {
                        return false;
                    }
                }
                Ok(None) => {}
                Err(message) => self.failed(path, &message),
            }
        }
        true
    }

    fn failed(&self, path: &Path, message: &str) {
        let [counters, ..] = &self.counters;
        counters.failed_requests.add(1);
        let receiver = self.receiver.context.id.as_str();
        tracing::warn!(receiver, "passing over a record of {}: {message}", path.display());
    }

    /// Sends a batch until the pipelines have settled it for good. Returns false if the process stops before.
    async fn deliver(&self, batch: Batch) -> bool {
        let signal = batch.signal();
        let Some(outlet) = self.outlets.get(signal) else { return true };
        let Some(counters) = Signal::ALL.iter().position(|s| *s == signal).and_then(|i| self.counters.get(i)) else {
            return true;
        };
        loop {
            let wait = match outlet.admit(0, batch.size_hint()) {
                Err(Refused { most: Some(most), .. }) => {
                    counters.refused.add(batch.len());
                    tracing::warn!(
                        receiver = self.receiver.context.id,
                        "a request takes more than the {most} bytes of memory that a memory_limiter has for one"
                    );
                    return true;
                }
                Err(refused) => refused.retry_after,
                Ok(leases) => {
                    let (receipt, waiter) = Receipt::pair();
                    let sent = leases.into_iter().fold(batch.fork().with_receipt(receipt), Batch::with_lease);
                    outlet.send(sent).await;
                    match waiter.await {
                        Outcome::Done => {
                            counters.accepted.add(batch.len());
                            return true;
                        }
                        Outcome::Rejected(reason) => {
                            counters.refused.add(batch.len());
                            tracing::warn!(receiver = self.receiver.context.id, "a request was refused: {reason}");
                            return true;
                        }
                        Outcome::Retry { after, .. } => after.unwrap_or(RETRY).max(RETRY),
                        Outcome::Lost => RETRY,
                    }
                }
            };
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.requested() => return false,
            }
        }
    }
}
