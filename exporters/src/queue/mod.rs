//! `sending_queue` and `retry_on_failure`: between a pipeline and a destination that may be slow or away.
//!
//! ```yaml
//! sending_queue:            # the Collector's keys and defaults
//!   enabled: true
//!   num_consumers: 10       # requests sent at once, over all lanes
//!   queue_size: 1000
//!   sizer: requests         # requests | items | bytes
//!   block_on_overflow: false
//!   wait_for_result: false
//!   drop_on_overflow:       # Weir's own, see below: true, false; default: only if another destination has it
//!   batch:                  # off unless it is there
//!     flush_timeout: 200ms
//!     min_size: 8192
//!     max_size: 0           # 0: no limit
//!     sizer: items          # items | bytes; by default that of the queue, if it is set
//!     partition: {metadata_keys: []}
//!   storage: file_storage   # an extension: what is accepted is on disk until it is delivered; not by default
//! retry_on_failure:
//!   enabled: true
//!   initial_interval: 5s
//!   randomization_factor: 0.5
//!   multiplier: 1.5
//!   max_interval: 30s
//!   max_elapsed_time: 5m    # a last attempt is made when it is over; 0: never give up
//! ```
//!
//! # What it guarantees
//!
//! * Memory is bounded: in units of `sizer`, and in bytes ([`capacity::DEFAULT_BYTES`], or
//!   [`capacity::STORED_BYTES`] where all is on disk too) whatever the sizer is. What is
//!   being sent counts until it is settled. What a full queue does is a choice, below.
//! * A batch is queued and sent on the lane that brought it, and `batch` joins what one lane brings. Capacity and the
//!   number of requests under way are those of the whole process, as they are in the Collector.
//! * Batches of different values of `metadata_keys` are never joined; a joined batch keeps the metadata of these keys
//!   alone, as in the Collector, and who sent it. Without keys it keeps its metadata if all its parts had the same. What
//!   authenticators found to be different senders is not joined where there are keys or `auth` reads who the sender is.
//! * A request that is too large, by `max_request_size` or because the destination says so, is cut in halves until the
//!   parts fit. A single record that does not fit is dropped alone, with the reason `too_large`. What a destination has
//!   refused is remembered for ten minutes, so that not every batch has to be refused first.
//! * Receipts settle as done when the batch is queued; with `wait_for_result`, or without a queue, by the result.
//! * Every record ends in one counter: `consumed = sent + send_failed + enqueue_failed + in_flight` at all times; with
//!   `storage`, `consumed + recovered = sent + send_failed + enqueue_failed + in_flight + kept`.
//! * With `storage` a batch is accepted when it is in the [log], and what is not delivered when the process ends is
//!   delivered by the next one, at least once. The bound in bytes is then that of memory alone: what exceeds it waits on
//!   disk. A disk that takes no more makes the client come again.
//! * Of request metadata the log has what is read of it when the batch is sent, and nothing else: the headers and the
//!   attributes of the sender that `auth` names (`headers_setter`: `from_context`, `from_attribute`) and the headers of
//!   `metadata_keys`. They are as readable there as the data, so whoever names `authorization` has passwords on disk.
//!   Of an authenticator that does not say what it reads everything is kept but headers whose names sound of secrets.
//! * From the moment the shutdown is requested nothing is held back to be joined, and each request gets one more
//!   attempt, at once; it is not retried. What is in a log stays there.
//! * Where receipts settle by the result, what failed is not tried again once nobody waits for it any more
//!   ([`Receipt::is_abandoned`](weir_pipeline::receipt::Receipt::is_abandoned)), and is counted as `abandoned`.
//!
//! # One destination that is away
//!
//! A destination that is away fills its own queue and disturbs nobody until that is full. What happens then is a choice
//! between evils, since a client that is told to come again sends its data to the other destinations again too:
//!
//! | setting | the others | the data that this queue has no room for |
//! |---|---|---|
//! | default | undisturbed | dropped and counted if another destination has taken it; else the client comes again |
//! | `drop_on_overflow: true` | undisturbed | dropped and counted |
//! | `drop_on_overflow: false`, or `wait_for_result: true` | get it twice | the client comes again |
//! | `block_on_overflow: true` | wait | waits |
//!
//! With `storage` the default is `drop_on_overflow: false`: it was asked for so that nothing is lost.
//!
//! Decision: the default differs from the Collector's, which is `drop_on_overflow: false`: there one backend that is
//! away for some minutes doubles the data of all others, and the client gives up in the end all the same. A queue in
//! memory promises little; who needs more says `wait_for_result`. What only prints or discards (`debug`, `nop`) has not
//! taken anything, so a single real destination always pushes back.

mod backoff;
pub(crate) mod capacity;
pub(crate) mod config;
mod deliver;
mod forming;
mod holding;
mod kept;
pub(crate) mod log;
mod report;
pub(crate) mod settings;
mod storing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore};
use weir_pipeline::batch::{Batch, Encoded};
use weir_pipeline::metadata::Metadata;
use weir_pipeline::node::{Context, Exporter, Shutdown, ShutdownTrigger};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;

use self::capacity::Capacity;
use self::deliver::Learned;
use self::forming::Forming;
use self::holding::{Held, Holding};
use self::log::LogSettings;
use self::report::{Kind, Report};
use self::settings::{Overflow, QueueSettings, RetrySettings};
use self::storing::Storage;

/// What a client reads, in the Collector's words.
const FULL: &str = "sending queue is full";

/// One lane's way to a destination.
pub(crate) trait Destination: Send + Sync + 'static {
    /// What is sent, made once per request and sent again as it is.
    type Payload: Send + Sync;

    /// A batch as a request, before it is compressed.
    fn encode(&self, batch: &Batch) -> impl Future<Output = Result<Encoded, Failure>> + Send;

    /// Makes an encoded request ready to be sent; `metadata` is that of its batch.
    fn pack(
        &self,
        request: Encoded,
        metadata: Option<&Arc<Metadata>>,
    ) -> impl Future<Output = Result<Self::Payload, Failure>> + Send;

    /// Sends once; bounded in time.
    fn attempt(&self, payload: &Self::Payload) -> impl Future<Output = Result<Accepted, Failure>> + Send;
}

/// The destination took the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Records that it did not take (OTLP's partial success). They must not be sent again.
    pub(crate) rejected: usize,
    /// Why, or a warning.
    pub(crate) message: String,
}

/// The destination did not take the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It never will.
    Permanent(String),
    /// It never will take so large a request.
    TooLarge(String),
    /// It may do so later.
    Transient {
        /// The least it wants us to wait.
        delay: Option<Duration>,
        /// What happened.
        message: String,
    },
}

impl Failure {
    /// A failure that says nothing about when to come again.
    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self::Transient { delay: None, message: message.into() }
    }
}

/// What the lanes of one exporter share for one signal.
#[derive(Debug)]
pub(crate) struct Queue {
    settings: QueueSettings,
    retry: RetrySettings,
    /// The largest request that is sent, before compression.
    max_request_bytes: usize,
    learned: Learned,
    capacity: Arc<Capacity>,
    /// One permit per consumer.
    consumers: Semaphore,
    counters: ExporterCounters,
    report: Report,
    context: Context,
    signal: Signal,
    /// Where what was accepted is until it is delivered, if not in memory alone.
    storage: Option<Arc<Storage>>,
}

impl Queue {
    /// An empty queue, whose bytes come out of `bytes`.
    pub(crate) fn new(
        context: &Context,
        signal: Signal,
        settings: &QueueSettings,
        retry: &RetrySettings,
        max_request_bytes: usize,
        bytes: capacity::Bytes,
    ) -> Arc<Self> {
        let labels = [("exporter", context.id.as_str()), ("data_type", signal.as_str())];
        let gauge = |name: &str| context.telemetry.gauge(name, &labels);
        gauge("otelcol_exporter_queue_capacity").set(settings.queue_size);
        let capacity = Capacity::new(settings.queue_size, settings.sizer, bytes).spilling(settings.storage.is_some());
        let storage = settings.storage.as_ref().map(|storage| {
            let directory = storage.directory.join(log_name(&context.id, signal));
            let kept_metadata = settings.kept_metadata.clone();
            Arc::new(Storage::new(LogSettings { directory, fsync: storage.fsync }, kept_metadata))
        });
        let queue = Arc::new(Self {
            settings: settings.clone(),
            retry: retry.clone(),
            max_request_bytes,
            learned: Learned::default(),
            capacity: Arc::new(capacity.shown_in(gauge("otelcol_exporter_queue_size"))),
            consumers: Semaphore::new(settings.num_consumers.min(Semaphore::MAX_PERMITS)),
            counters: ExporterCounters::new(&context.telemetry, &context.id, signal),
            report: Report::new(&context.id, signal.records()),
            context: context.clone(),
            signal,
            storage,
        });
        if let Some(storage) = &queue.storage {
            queue.counters.have_storage();
            // If that fails, what looks after it tries again, and says so.
            queue.open_log(storage).ok();
        }
        queue
    }
}

/// The directory of an exporter's log. Whatever an id has that not every file system takes is written as its code.
fn log_name(id: &str, signal: Signal) -> String {
    let mut name = "exporter_".to_owned();
    for c in id.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => name.push(c),
            c => name.push_str(&format!("%{:x}", u32::from(c))),
        }
    }
    name + "_" + signal.as_str()
}

/// The queue in front of one lane's destination.
pub(crate) struct Lane<D>(Arc<Inner<D>>);

struct Inner<D> {
    queue: Arc<Queue>,
    destination: D,
    /// Of the process; with a log also of this lane alone, which hands over what it has not delivered.
    shutdown: Shutdown,
    /// Ends the lane, where there is a log.
    retire: Option<Arc<ShutdownTrigger>>,
    state: Mutex<State>,
    /// Told when nothing is pending any more.
    idle: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    /// What waits to be joined with more.
    forming: Forming,
    /// Tasks that take from `waiting`.
    workers: usize,
    /// Batches taken and not settled.
    pending: usize,
}

struct Item {
    batch: Batch,
    /// The room it takes and its place in the log; parts of one batch share it.
    holding: Arc<Holding>,
}

impl Item {
    fn new(batch: Batch, holding: &Arc<Holding>) -> Self {
        holding.begin();
        Self { batch, holding: Arc::clone(holding) }
    }
}

/// What is sent next.
enum Next {
    Item(Item),
    /// A batch that waits in the log.
    Stored(log::Entry),
}

impl<D: Destination> Lane<D> {
    /// A lane of `queue` that sends to `destination`.
    pub(crate) fn new(queue: Arc<Queue>, destination: D, shutdown: Shutdown) -> Self {
        let (retire, shutdown) = match queue.storage.is_some() {
            true => {
                let (retire, own) = storing::own_shutdown(shutdown);
                (Some(retire), own)
            }
            false => (None, shutdown),
        };
        let (storage, state) = (queue.storage.clone(), Mutex::default());
        let inner = Arc::new(Inner { queue, destination, shutdown, retire, state, idle: Notify::new() });
        if let Some(storage) = storage {
            tokio::spawn(Inner::watch(Arc::downgrade(&inner), storage, inner.shutdown.clone()));
        }
        Self(inner)
    }
}

#[async_trait]
impl<D: Destination> Exporter for Lane<D> {
    async fn consume(&self, mut batch: Batch) {
        let queue = &self.0.queue;
        let (records, bytes) = (batch.len(), batch.size_hint());
        if records == 0 {
            batch.settle(&Outcome::Done);
            return;
        }
        queue.counters.take(records);
        let space = if queue.settings.block_on_overflow {
            let mut shutdown = self.0.shutdown.clone();
            tokio::select! {
                biased;
                space = queue.capacity.wait(records, bytes) => Some(space),
                // What stays in the log makes no room any more.
                () = shutdown.requested(), if queue.storage.is_some() => None,
            }
        } else {
            queue.capacity.take(records, bytes)
        };
        let Some(space) = space else {
            queue.counters.refuse(records, Kind::Full.reason());
            queue.report.tell(Kind::Full, records, FULL);
            match queue.settings.overflow {
                Overflow::Drop => batch.settle(&Outcome::Done),
                Overflow::Refuse => {
                    batch.settle(&Outcome::Retry { after: None, reason: Cow::Borrowed(FULL) });
                }
                Overflow::Yield => batch.full(FULL),
            }
            return;
        };
        if let Some(storage) = &queue.storage {
            let writing = storage.begin(bytes).await;
            return self.0.store(storage, batch, space, writing);
        }
        if !queue.settings.wait_for_result {
            batch.take_receipts().into_iter().for_each(|receipt| receipt.settle(Outcome::Done));
        }
        self.0.accept(batch, Held::Space { _room: space });
    }

    async fn drain(&self) {
        // What is in the log is taken over by whoever opens it next, which after a reload is the new exporter.
        if let Some(retire) = &self.0.retire {
            retire.request();
        }
        self.0.flush();
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.0.state().pending == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl<D: Destination> Inner<D> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch into the queue, to be joined with others if that is wanted.
    fn accept(self: &Arc<Self>, batch: Batch, held: Held) {
        match &self.queue.settings.batch {
            Some(batching) if !self.shutdown.is_requested() => self.gather(batching, batch, held),
            _ => self.enqueue(&mut self.state(), [self.item(batch, vec![held])]),
        }
    }

    fn item(&self, batch: Batch, held: Vec<Held>) -> Item {
        Item::new(batch, &Arc::new(Holding::new(held, &self.queue.counters)))
    }

    /// Lets items wait for a worker, of which there are then enough.
    fn enqueue(self: &Arc<Self>, state: &mut State, items: impl IntoIterator<Item = Item>) {
        for item in items {
            state.waiting.push_back(item);
            state.pending += 1;
            if state.workers < self.queue.settings.num_consumers {
                state.workers += 1;
                tokio::spawn(Arc::clone(self).work());
            }
        }
    }

    /// Sends what is waiting until nothing is.
    async fn work(self: Arc<Self>) {
        loop {
            // Fair over lanes: the semaphore serves in the order of asking. It is never closed.
            let _consumer = self.queue.consumers.acquire().await;
            let next = self.next(&mut self.state());
            let item = match next {
                None => return,
                Some(Next::Item(item)) => Some(item),
                Some(Next::Stored(entry)) => self.fetch(entry).await,
            };
            if let Some(item) = item {
                self.serve(item).await;
            }
            self.settled();
        }
    }

    /// What is sent next: the oldest, where there is a log. Without anything a worker ends.
    fn next(self: &Arc<Self>, state: &mut State) -> Option<Next> {
        let storage = self.queue.storage.as_ref().filter(|_| !self.shutdown.is_requested());
        if let Some(log) = storage.and_then(|storage| storage.log())
            && let Some(entry) = log.take_before(state.waiting.front().and_then(|item| item.holding.number()))
        {
            state.pending += 1;
            self.wake(state, &log);
            return Some(Next::Stored(entry));
        }
        let item = state.waiting.pop_front();
        if item.is_none() {
            state.workers -= 1;
        }
        item.map(Next::Item)
    }

    async fn serve(&self, Item { mut batch, holding }: Item) {
        let (records, receipts) = (batch.len(), batch.take_receipts());
        let delivered = self.deliver(batch, &receipts).await;
        receipts.into_iter().for_each(|receipt| receipt.settle(delivered.outcome.clone()));
        holding.end(records - delivered.kept, delivered.kept);
    }

    /// One less is pending.
    fn settled(&self) {
        let mut state = self.state();
        state.pending -= 1;
        if state.pending == 0 {
            self.idle.notify_waiters();
        }
    }
}
