//! The writer: one per table and process, shared by all lanes. Those of several tables share a [`Pool`].
//!
//! ```text
//! lanes ─ write() ─► buffer ─┬─ max_bytes ─► encode ─┐ in order,   ┌─► receipts: Done
//!   waits for room           └─ max_age  ─►  encode ─┴─ grouped ─► commit ─► maintenance
//! ```
//!
//! * Batches are taken while there is room in bytes; the room comes back when a batch is settled. So memory is bounded
//!   and a slow store is felt as back-pressure. One table has three quarters of it at most, and once its log cannot be
//!   read or it cannot be opened, its clients are told to come again as soon as these are used up: the tables of others
//!   go on, unless several are in trouble, which between them may have all of it.
//! * The buffer is flushed when it is large or old enough, at once on [`Writer::drain`] and after [`Writer::hurry`].
//!   While one flush is encoded and another committed, the next fills.
//! * Encoding runs on the writer's own threads, never on the caller's lane.
//! * Flushes are committed in order. Those that are ready while a commit runs go into the next commit together.
//! * What was sent again, because the answer did not come in time, is left out: see [`recent`].
//! * Before a flush is encoded, batches whose project or environment was deleted while they waited are taken out of it.
//! * A batch is settled as done when its commit is in the log; as rejected if it can never be written; as "come again" if
//!   the store failed for longer than the retries last.

mod committer;
mod encode;
mod pool;
mod recent;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use object_store::ObjectStore;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::telemetry::ExporterCounters;
use weir_pipeline::tenant::{Closed, Tenant};

pub(crate) use self::encode::open_with;
pub use self::encode::{properties, write_files};
pub use self::pool::Pool;
use self::recent::{Fate, Memory};
use crate::StoreError;
use crate::commit::Backoff;
use crate::convert::Stamp;
use crate::objects::one_line;
use crate::registry::Guard;
use crate::table::{DataFile, Table};

/// Limits of a [`Writer`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The oldest batch waits at most this long before it is written.
    pub max_age: Duration,
    /// A flush begins when the waiting requests have this many bytes.
    pub max_bytes: usize,
    /// Bytes of requests taken and not yet settled.
    pub max_buffered_bytes: usize,
    /// Threads that encode.
    pub threads: usize,
    /// How long a store that fails is asked again.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(1),
            max_bytes: 32 << 20,
            max_buffered_bytes: 128 << 20,
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8) / 2 + 1),
            backoff: Backoff::default(),
        }
    }
}

/// Opens the table; called again after a failure.
pub type Open = Box<dyn Fn() -> BoxFuture<'static, Result<Box<dyn Table>, StoreError>> + Send + Sync>;

/// See the [module](self).
#[derive(Debug)]
pub struct Writer {
    commands: mpsc::UnboundedSender<Command>,
    pool: Arc<Pool>,
    /// What this table may have of the pool's room.
    room: Arc<Semaphore>,
    /// Bytes of `room`.
    share: u32,
    /// Why nothing is committed for some time, if that is so.
    troubled: watch::Receiver<Option<String>>,
    counters: ExporterCounters,
}

#[derive(Debug)]
enum Command {
    Write(Pending),
    Drain(oneshot::Sender<()>),
    Hurry,
}

/// A batch that waits for its commit.
#[derive(Debug)]
struct Pending {
    batch: Batch,
    records: usize,
    bytes: usize,
    /// Whose it is: known also when all of it was left out.
    tenant: Option<Arc<Tenant>>,
    /// Flushes that have what was left out of the batch.
    elsewhere: Vec<Fate>,
    _room: [Option<OwnedSemaphorePermit>; 2],
}

impl Writer {
    /// A writer with a [`Pool`] of its own, for who has one table.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn start(
        settings: Settings,
        environment: Environment,
        counters: ExporterCounters,
        open: Open,
    ) -> std::io::Result<Self> {
        Ok(Pool::start(settings, environment, None)?.writer(counters, open))
    }

    /// Takes a batch of spans over, waiting for room. Its receipts are settled when it is stored. All of it is one
    /// tenant's, or nobody's.
    pub async fn write(&self, batch: Batch) {
        let (records, bytes) = (batch.len(), batch.size_hint());
        self.counters.take(records);
        if records == 0 {
            batch.settle(&Outcome::Done);
            return;
        }
        let want = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.share);
        let mut troubled = self.troubled.clone();
        let room = tokio::select! {
            biased;
            room = self.room_for(want) => room,
            // It cannot be closed before the committer has ended.
            Ok(trouble) = troubled.wait_for(Option::is_some) => {
                let reason = trouble.clone().unwrap_or_default();
                let pending = Pending { batch, records, bytes, tenant: None, elsewhere: Vec::new(), _room: [None, None] };
                return settle(&self.counters, pending, &End::Outcome(come_again(reason)));
            }
        };
        let tenant = batch.tenant().cloned();
        let pending = Pending { batch, records, bytes, tenant, elsewhere: Vec::new(), _room: room };
        if let Err(mpsc::error::SendError(Command::Write(pending))) = self.commands.send(Command::Write(pending)) {
            let outcome = Outcome::Retry { after: None, reason: "the store has been closed".into() };
            settle(&self.counters, pending, &End::Outcome(outcome));
        }
    }

    /// Waits for room: first for the table's own, so that who waits for it holds nothing of the others'.
    async fn room_for(&self, bytes: u32) -> [Option<OwnedSemaphorePermit>; 2] {
        // The semaphores are never closed, so there is always a permit.
        let own = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok();
        [own, Arc::clone(&self.pool.room).acquire_many_owned(bytes).await.ok()]
    }

    /// Writes what is waiting at once and returns when everything taken so far is settled.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.commands.send(Command::Drain(done)).is_ok() {
            // An error means that the writer has been closed, which settles everything.
            let _ = drained.await;
        }
    }

    /// From now on nothing waits for company: the process is stopping.
    pub fn hurry(&self) {
        // If the writer has been closed there is nothing to hurry.
        let _ = self.commands.send(Command::Hurry);
    }

    /// Drains, then stops the threads of its pool, which is to be its own. Batches that come later are not taken.
    pub async fn close(&self) {
        self.drain().await;
        self.pool.stop();
    }
}

/// How a batch ended.
#[derive(Debug, Clone)]
enum End {
    Outcome(Outcome),
    /// It waited while its project or environment was deleted.
    Closed(Closed),
}

fn settle(counters: &ExporterCounters, pending: Pending, end: &End) {
    match end {
        End::Outcome(Outcome::Done) => counters.succeed(pending.records),
        End::Outcome(Outcome::Rejected(_)) => counters.fail(pending.records, "permanent_error"),
        End::Outcome(Outcome::Retry { .. } | Outcome::Lost) => counters.fail(pending.records, "retries_exhausted"),
        End::Closed(closed) => counters.fail(pending.records, closed.reason()),
    }
    match end {
        End::Outcome(outcome) => pending.batch.settle(outcome),
        End::Closed(closed) => pending.batch.settle(&Outcome::Rejected(closed.to_string().into())),
    }
}

// === Collecting ===

/// A flush: its number in the table's log, and what becomes of it.
#[derive(Debug, Clone, Default)]
struct Flush {
    seq: i64,
    fate: Fate,
}

/// What the committer works through, in order.
enum Job {
    Commit { flush: Flush, group: Arc<Vec<Pending>>, encoded: JoinHandle<Encoded> },
    Drained(oneshot::Sender<()>),
}

async fn collect(
    mut inbox: mpsc::UnboundedReceiver<Command>,
    jobs: mpsc::UnboundedSender<Job>,
    hurry: watch::Sender<bool>,
    encoder: Encoder,
    memory: Memory,
    settings: Settings,
) {
    let mut buffer: Vec<Pending> = Vec::new();
    let (mut bytes, mut next) = (0, Flush { seq: 1, fate: Fate::default() });
    let mut deadline = Instant::now();
    loop {
        let event = tokio::select! {
            command = inbox.recv() => command.map_or(Event::Closed, Event::Command),
            () = tokio::time::sleep_until(deadline), if !buffer.is_empty() => Event::Aged,
        };
        let closed = matches!(event, Event::Closed);
        let mut drained = None;
        let flush = match event {
            Event::Command(Command::Write(mut pending)) => {
                let (elsewhere, left_out) = memory.leave_out(&mut pending.batch, &next.fate);
                pending.elsewhere = elsewhere;
                if left_out > 0 {
                    tracing::debug!(spans = left_out, "spans that came again were left out");
                }
                if buffer.is_empty() {
                    deadline = Instant::now() + settings.max_age;
                }
                bytes += pending.bytes;
                buffer.push(pending);
                bytes >= settings.max_bytes || *hurry.borrow()
            }
            Event::Command(Command::Hurry) => {
                hurry.send_replace(true);
                true
            }
            Event::Command(Command::Drain(done)) => {
                hurry.send_replace(true);
                drained = Some(done);
                true
            }
            Event::Aged | Event::Closed => true,
        };
        if flush && !buffer.is_empty() {
            bytes = 0;
            let following = Flush { seq: next.seq + 1, fate: Fate::default() };
            let flush = std::mem::replace(&mut next, following);
            let group = Arc::new(std::mem::take(&mut buffer));
            let encoded = tokio::spawn(encoder.clone().run(flush.seq, Arc::clone(&group)));
            // The committer ends after this task.
            let _ = jobs.send(Job::Commit { flush, group, encoded });
        }
        if let Some(done) = drained {
            let _ = jobs.send(Job::Drained(done));
        }
        if closed {
            return;
        }
    }
}

/// What wakes the collector.
enum Event {
    Command(Command),
    /// The oldest batch has waited long enough.
    Aged,
    /// The writer is gone.
    Closed,
}

// === Encoding ===

/// Where files go.
#[derive(Debug, Clone)]
enum StoreState {
    Opening,
    Open(Arc<dyn ObjectStore>),
    /// The process stops and the store still cannot be opened.
    GivenUp(String),
}

/// What came of a flush.
struct Encoded {
    files: Vec<DataFile>,
    /// Per batch of the group, in its order: how it ended already, if it did.
    ended: Vec<Option<End>>,
}

#[derive(Clone)]
struct Encoder {
    stores: watch::Receiver<StoreState>,
    slots: Arc<Semaphore>,
    guard: Option<Arc<Guard>>,
    backoff: Backoff,
    environment: Environment,
    source: String,
}

impl Encoder {
    async fn run(mut self, seq: i64, group: Arc<Vec<Pending>>) -> Encoded {
        let store = match self.store().await {
            Ok(store) => store,
            Err(reason) => return Encoded::none(&group, &come_again(reason)),
        };
        let mut ended = self.closed(&group).await;
        let open: Vec<usize> = (0..group.len()).filter(|at| ended[*at].is_none()).collect();
        if open.is_empty() {
            return Encoded { files: Vec::new(), ended };
        }
        let _slot = self.slots.acquire().await;
        let mut files = Vec::new();
        match self.attempt(&store, seq, &group, &open).await {
            Ok(written) => files = written,
            // One batch cannot be written; it must not take the others with it.
            Err(Outcome::Rejected(_)) if open.len() > 1 => {
                for at in open {
                    match self.attempt(&store, seq, &group, &[at]).await {
                        Ok(written) => files.extend(written),
                        Err(outcome) => ended[at] = Some(End::Outcome(outcome)),
                    }
                }
            }
            Err(outcome) => open.iter().for_each(|at| ended[*at] = Some(End::Outcome(outcome.clone()))),
        }
        Encoded { files, ended }
    }

    /// How those of the group end that must not be written any more.
    async fn closed(&self, group: &[Pending]) -> Vec<Option<End>> {
        let mut ended = vec![None; group.len()];
        if let Some(guard) = &self.guard {
            for (pending, ended) in group.iter().zip(&mut ended) {
                let folder = guard.folder(pending.tenant.as_deref()).await;
                *ended = folder.err().map(End::Closed);
            }
        }
        ended
    }

    /// Where files go, as soon as that is known.
    async fn store(&mut self) -> Result<Arc<dyn ObjectStore>, String> {
        match self.stores.wait_for(|state| !matches!(state, StoreState::Opening)).await.as_deref() {
            Ok(StoreState::Open(store)) => Ok(Arc::clone(store)),
            Ok(StoreState::GivenUp(reason)) => Err(reason.clone()),
            _ => Err("the store has been closed".to_owned()),
        }
    }

    /// Writes these batches of the group, trying again while that may help.
    async fn attempt(
        &self,
        store: &Arc<dyn ObjectStore>,
        seq: i64,
        group: &Arc<Vec<Pending>>,
        chosen: &[usize],
    ) -> Result<Vec<DataFile>, Outcome> {
        let mut failures = 0;
        loop {
            let (store, group, chosen) = (Arc::clone(store), Arc::clone(group), chosen.to_vec());
            let ingest_micros = (self.environment.now_unix_nanos() / 1000) as i64;
            let stamp = Stamp { ingest_micros, source: self.source.clone(), seq };
            // A task of its own, so that a panic is an answer too.
            let writing = tokio::spawn(async move {
                let chosen = chosen.iter().filter_map(|at| group.get(*at));
                let batches: Vec<&Batch> = chosen.map(|pending| &pending.batch).collect();
                Box::pin(write_files(store, &batches, &stamp)).await
            });
            let error = match writing.await {
                Ok(Ok(files)) => return Ok(files),
                Ok(Err(error)) if is_permanent(&error) => return Err(rejected(&error)),
                Ok(Err(error)) => error,
                Err(panicked) => return Err(rejected(&panicked)),
            };
            failures += 1;
            let reason = one_line(&error);
            if failures >= self.backoff.attempts {
                tracing::error!(attempts = failures, error = reason, "spans could not be written to the store");
                return Err(come_again(format!("the store failed: {reason}")));
            }
            tracing::warn!(attempt = failures, error = reason, "writing to the store failed, trying again");
            tokio::time::sleep(self.backoff.pause(failures, &self.environment)).await;
        }
    }
}

impl Encoded {
    fn none(group: &[Pending], outcome: &Outcome) -> Self {
        Self { files: Vec::new(), ended: vec![Some(End::Outcome(outcome.clone())); group.len()] }
    }
}

/// Whether the same spans would fail again.
fn is_permanent(error: &StoreError) -> bool {
    use deltalake::DeltaTableError::{Arrow, SchemaMismatch};
    match error {
        StoreError::Arrow(_) => true,
        StoreError::Delta(source) => matches!(**source, Arrow { .. } | SchemaMismatch { .. }),
        _ => false,
    }
}

fn come_again(reason: String) -> Outcome {
    Outcome::Retry { after: None, reason: reason.into() }
}

fn rejected(error: &dyn std::error::Error) -> Outcome {
    let reason = one_line(error);
    tracing::error!(error = reason, "spans cannot be stored");
    Outcome::Rejected(format!("the spans cannot be stored: {reason}").into())
}
