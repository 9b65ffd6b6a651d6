//! A queue with a log: how batches get into it, and out of it again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_pipeline::batch::Batch;
use weir_pipeline::metadata::Reads;
use weir_pipeline::node::{Shutdown, ShutdownTrigger};
use weir_pipeline::receipt::Outcome;

use super::capacity::Space;
use super::holding::Held;
use super::log::{Entry, Log, LogSettings, ReadError};
use super::report::Kind;
use super::{Destination, Inner, Item, Queue, State, kept};

/// Between attempts to open a log.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a batch that cannot be read is left alone.
const REST: Duration = Duration::from_secs(60);
/// Bytes that may be on their way into a log at one time, unless one batch is larger.
const MAX_WRITING: usize = 64 << 20;
/// What they are counted in.
const UNIT: usize = 1 << 10;

/// The log of a queue, which may not be open yet: another process may still have it.
#[derive(Debug)]
pub(super) struct Storage {
    settings: LogSettings,
    /// What of the metadata is written beside the data: they may be secret, so only what something reads.
    kept_metadata: Reads,
    /// Bytes on their way into the log, in units of [`UNIT`].
    writing: Arc<Semaphore>,
    log: Mutex<Option<Arc<Log>>>,
}

/// A shutdown of one lane, which is that of the process too, and what sets it off.
pub(super) fn own_shutdown(mut process: Shutdown) -> (Arc<ShutdownTrigger>, Shutdown) {
    let (trigger, shutdown) = Shutdown::channel();
    let (trigger, mut own) = (Arc::new(trigger), shutdown.clone());
    let retire = Arc::clone(&trigger);
    tokio::spawn(async move {
        tokio::select! {
            () = process.requested() => trigger.request(),
            () = own.requested() => {}
        }
    });
    (retire, shutdown)
}

impl Storage {
    pub(super) fn new(settings: LogSettings, kept_metadata: Reads) -> Self {
        let writing = Arc::new(Semaphore::new(MAX_WRITING / UNIT));
        Self { settings, kept_metadata, writing, log: Mutex::new(None) }
    }

    /// The log, if it is open.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many bytes may be written.
    pub(super) async fn begin(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = (bytes / UNIT).clamp(1, MAX_WRITING / UNIT) as u32;
        // It is never closed.
        Arc::clone(&self.writing).acquire_many_owned(units).await.ok()
    }

    fn metadata(&self, batch: &Batch) -> Vec<u8> {
        batch.metadata().map_or_else(Vec::new, |metadata| kept::encode(metadata, &self.kept_metadata))
    }
}

impl Queue {
    /// Returns when the log, if there is one, says what was delivered.
    pub(crate) async fn finish(&self) {
        if let Some(log) = self.storage.as_ref().and_then(|storage| storage.log()) {
            log.flush().await;
        }
    }

    /// Opens the log unless it is open, and takes note of what waits in it.
    ///
    /// # Errors
    /// Says why that is not possible now.
    pub(super) fn open_log(&self, storage: &Storage) -> Result<Arc<Log>, String> {
        let mut open = storage.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &*open {
            return Ok(Arc::clone(log));
        }
        let directory = storage.settings.directory.display();
        let log = Log::open(&storage.settings).map_err(|error| format!("{directory}: {error}"))?;
        let waiting = log.admit(|records, bytes| self.capacity.force_units(records, bytes));
        if waiting > 0 {
            self.counters.recover(waiting);
            tracing::info!(
                "{}: {waiting} {} of an earlier process wait in {directory}",
                self.context.id,
                self.signal.records()
            );
        }
        let damaged = log.damaged();
        if damaged > 0 {
            tracing::error!(
                "{}: {damaged} files in {directory} are damaged: a part of what they held is lost",
                self.context.id
            );
        }
        *open = Some(Arc::clone(&log));
        Ok(log)
    }
}

impl<D: Destination> Inner<D> {
    /// Puts a batch into the log; the client is answered when it is there.
    pub(super) fn store(
        self: &Arc<Self>,
        storage: &Arc<Storage>,
        mut batch: Batch,
        space: Space,
        writing: Option<OwnedSemaphorePermit>,
    ) {
        let Some(log) = storage.log() else {
            return self.refuse(batch, "its log is not open, see there");
        };
        self.state().pending += 1;
        let (inner, storage) = (Arc::clone(self), Arc::clone(storage));
        tokio::spawn(async move {
            let (records, metadata, body) = (batch.len(), storage.metadata(&batch), batch.encode());
            let bytes = body.len();
            let appended = log.append(records, metadata, body, space).await;
            drop(writing);
            match appended {
                Ok(mut entry) => {
                    batch.take_receipts().into_iter().for_each(|receipt| receipt.settle(Outcome::Done));
                    if entry.hold(bytes) {
                        inner.accept(batch, Held::Entry(entry));
                    } else {
                        // It is read again when its turn has come.
                        inner.queue.counters.keep(records, 0);
                    }
                }
                Err(error) => inner.refuse(batch, &error.to_string()),
            }
            inner.settled();
        });
    }

    /// The client is to come again: the log does not take the batch.
    fn refuse(&self, batch: Batch, why: &str) {
        let message = format!("the batch cannot be stored: {why}");
        self.queue.counters.refuse(batch.len(), Kind::Storage.reason());
        self.queue.report.tell(Kind::Storage, batch.len(), &message);
        batch.settle(&Outcome::Retry { after: None, reason: Cow::Owned(message) });
    }

    /// Starts a worker if something waits in the log and there are not enough.
    pub(super) fn wake(self: &Arc<Self>, state: &mut State, log: &Log) {
        if log.has_waiting() && state.workers < self.queue.settings.num_consumers {
            state.workers += 1;
            tokio::spawn(Arc::clone(self).work());
        }
    }

    /// Looks after what waits in the log, until the shutdown. Opens it first.
    pub(super) async fn watch(inner: Weak<Self>, storage: Arc<Storage>, mut shutdown: Shutdown) {
        let log = loop {
            let Some(inner) = inner.upgrade() else { return };
            match inner.queue.open_log(&storage) {
                Ok(log) => break log,
                Err(error) => tracing::error!("{}: cannot open the log: {error}", inner.queue.context.id),
            }
            drop(inner);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.requested() => return,
            }
        };
        loop {
            let waits = log.waits();
            tokio::pin!(waits);
            waits.as_mut().enable();
            match inner.upgrade() {
                Some(inner) => inner.wake(&mut inner.state(), &log),
                None => return,
            }
            tokio::select! {
                () = waits => {}
                () = shutdown.requested() => return,
            }
        }
    }

    /// Reads a batch that waited in the log. `None` if that is not possible; it then waits on or is lost, and counted.
    pub(super) async fn fetch(&self, entry: Entry) -> Option<Item> {
        let queue = &self.queue;
        let records = entry.records;
        if !entry.has_space() {
            // Nobody has counted it yet.
            queue.counters.recover(records);
        }
        let entry = entry.with_space(|| queue.capacity.force_units(records, 0));
        queue.counters.resume(records);
        let read = tokio::task::spawn_blocking(move || (entry.read(), entry)).await;
        // It only fails when the runtime is going away; the entry then waits as before.
        let Ok((read, entry)) = read else {
            queue.counters.keep(records, 0);
            return None;
        };
        let decoded = match read {
            Ok((metadata, body)) => Batch::decode(queue.signal, body)
                .map_err(|error| error.to_string())
                .and_then(|batch| match batch.len() == records {
                    true => Ok(batch),
                    false => Err(format!("{} records where {records} were written", batch.len())),
                })
                .map(|batch| match kept::decode(&metadata) {
                    Some(metadata) => batch.with_metadata(Arc::new(metadata)),
                    None => batch,
                }),
            Err(ReadError::Io { path, error }) => {
                queue.report.tell(Kind::Retrying, records, &format!("cannot read {}: {error}", path.display()));
                queue.counters.keep(records, 0);
                // Meanwhile others have their turn.
                let mut shutdown = self.shutdown.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(REST) => {}
                        () = shutdown.requested() => {}
                    }
                    drop(entry);
                });
                return None;
            }
            Err(error @ ReadError::Corrupt { .. }) => Err(error.to_string()),
        };
        match decoded {
            Ok(batch) => Some(self.item(batch, vec![Held::Entry(entry)])),
            Err(error) => {
                queue.counters.fail(records, Kind::Corrupt.reason());
                queue.report.tell(Kind::Corrupt, records, &error);
                entry.damaged();
                None
            }
        }
    }
}
