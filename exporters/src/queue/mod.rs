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
//! retry_on_failure:
//!   enabled: true
//!   initial_interval: 5s
//!   randomization_factor: 0.5
//!   multiplier: 1.5
//!   max_interval: 30s
//!   max_elapsed_time: 5m    # 0: never give up
//! ```
//!
//! # What it guarantees
//!
//! * Memory is bounded: in units of `sizer`, and in bytes ([`capacity::DEFAULT_BYTES`]) whatever the sizer is. What is
//!   being sent counts until it is settled. A full queue refuses, or waits if `block_on_overflow` is set.
//! * A batch is queued and sent on the lane that brought it. Capacity and the number of requests under way are those of
//!   the whole process, as they are in the Collector.
//! * Receipts settle as done when the batch is queued; with `wait_for_result`, or without a queue, by the result.
//! * Every record ends in one counter: `consumed = sent + send_failed + enqueue_failed + in_flight` at all times.
//! * From the moment the shutdown is requested each batch gets one more attempt, at once; it is not retried.

mod backoff;
pub(crate) mod capacity;
pub(crate) mod config;

mod report;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::node::{Context, Exporter, Shutdown};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;

use self::backoff::Backoff;
use self::capacity::{Capacity, Space};
use self::report::{Kind, Report};
use self::settings::{QueueSettings, RetrySettings};

/// One lane's way to a destination.
pub(crate) trait Destination: Send + Sync + 'static {
    /// What is sent, made once per batch and sent again as it is.
    type Payload: Send + Sync;

    /// Encodes a batch.
    fn prepare(&self, batch: &Batch) -> impl Future<Output = Result<Self::Payload, Failure>> + Send;

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
    capacity: Arc<Capacity>,
    /// One permit per consumer.
    consumers: Semaphore,
    counters: ExporterCounters,
    report: Report,
    context: Context,
}

impl Queue {
    /// An empty queue, whose bytes come out of `bytes`.
    pub(crate) fn new(
        context: &Context,
        signal: Signal,
        settings: &QueueSettings,
        retry: &RetrySettings,
        bytes: capacity::Bytes,
    ) -> Arc<Self> {
        let labels = [("exporter", context.id.as_str()), ("data_type", signal.as_str())];
        let gauge = |name: &str| context.telemetry.gauge(name, &labels);
        gauge("otelcol_exporter_queue_capacity").set(settings.queue_size);
        let capacity = Capacity::new(settings.queue_size, settings.sizer, bytes);
        Arc::new(Self {
            settings: settings.clone(),
            retry: retry.clone(),
            capacity: Arc::new(capacity.shown_in(gauge("otelcol_exporter_queue_size"))),
            consumers: Semaphore::new(settings.num_consumers.min(Semaphore::MAX_PERMITS)),
            counters: ExporterCounters::new(&context.telemetry, &context.id, signal),
            report: Report::new(&context.id, signal.records()),
            context: context.clone(),
        })
    }
}

/// The queue in front of one lane's destination.
pub(crate) struct Lane<D>(Arc<Inner<D>>);

struct Inner<D> {
    queue: Arc<Queue>,
    destination: D,
    shutdown: Shutdown,
    state: Mutex<State>,
    /// Told when nothing is pending any more.
    idle: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    /// Tasks that take from `waiting`.
    workers: usize,
    /// Batches taken and not settled.
    pending: usize,
}

struct Item {
    batch: Batch,
    records: usize,
    space: Space,
}

impl<D: Destination> Lane<D> {
    /// A lane of `queue` that sends to `destination`.
    pub(crate) fn new(queue: Arc<Queue>, destination: D, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { queue, destination, shutdown, state: Mutex::default(), idle: Notify::new() }))
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
            Some(queue.capacity.wait(records, bytes).await)
        } else {
            queue.capacity.take(records, bytes)
        };
        let Some(space) = space else {
            queue.counters.overflow(records);
            queue.report.tell(Kind::Full, records, "sending queue is full");
            batch.settle(&Outcome::Retry { after: None, reason: Cow::Borrowed("sending queue is full") });
            return;
        };
        if !queue.settings.wait_for_result {
            batch.take_receipts().into_iter().for_each(|receipt| receipt.settle(Outcome::Done));
        }
        let mut state = self.0.state();
        state.waiting.push_back(Item { batch, records, space });
        state.pending += 1;
        if state.workers < queue.settings.num_consumers {
            state.workers += 1;
            drop(state);
            tokio::spawn(Arc::clone(&self.0).work());
        }
    }

    async fn drain(&self) {
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

    /// Sends what is waiting until nothing is.
    async fn work(self: Arc<Self>) {
        loop {
            // Fair over lanes: the semaphore serves in the order of asking. It is never closed.
            let _consumer = self.queue.consumers.acquire().await;
            let item = {
                let mut state = self.state();
                let item = state.waiting.pop_front();
                if item.is_none() {
                    state.workers -= 1;
                }
                item
            };
            let Some(Item { batch, records, space }) = item else { return };
            let outcome = self.deliver(&batch, records).await;
            batch.settle(&outcome);
            drop(space);
            let mut state = self.state();
            state.pending -= 1;
            if state.pending == 0 {
                self.idle.notify_waiters();
            }
        }
    }

    /// Sends one batch, again if need be, and counts how that ended.
    async fn deliver(&self, batch: &Batch, records: usize) -> Outcome {
        let queue = &*self.queue;
        let result = match self.destination.prepare(batch).await {
            Ok(payload) => self.persist(&payload, records).await,
            Err(Failure::Permanent(message)) => Err(GivenUp { kind: Kind::Permanent, message, after: None }),
            Err(Failure::Transient { delay, message }) => Err(GivenUp { kind: Kind::Exhausted, message, after: delay }),
        };
        match result {
            Ok(Accepted { rejected, message }) => {
                let rejected = rejected.min(records);
                queue.counters.succeed(records - rejected);
                if rejected > 0 {
                    queue.counters.fail(rejected, Kind::Partial.reason());
                    queue.report.tell(Kind::Partial, rejected, &message);
                } else if !message.is_empty() {
                    queue.report.tell(Kind::Warning, records, &message);
                }
                // The rest must not be sent again, so for the client this is a success.
                Outcome::Done
            }
            Err(GivenUp { kind, message, after }) => {
                queue.counters.fail(records, kind.reason());
                queue.report.tell(kind, records, &message);
                match kind {
                    Kind::Permanent => Outcome::Rejected(message.into()),
                    _ => Outcome::Retry { after, reason: message.into() },
                }
            }
        }
    }

    /// Attempts until it succeeds, is refused for good, or time is up.
    async fn persist(&self, payload: &D::Payload, records: usize) -> Result<Accepted, GivenUp> {
        let Queue { retry, report, context, .. } = &*self.queue;
        let started = Instant::now();
        let mut backoff = Backoff::new(retry);
        let mut is_stopping = false;
        loop {
            is_stopping |= self.shutdown.is_requested();
            let (delay, message) = match self.destination.attempt(payload).await {
                Ok(accepted) => return Ok(accepted),
                Err(Failure::Permanent(message)) => {
                    return Err(GivenUp { kind: Kind::Permanent, message, after: None });
                }
                Err(Failure::Transient { delay, message }) => (delay, message),
            };
            if is_stopping {
                return Err(GivenUp { kind: Kind::Shutdown, message, after: delay });
            }
            let wait = backoff.next(context.environment.random_unit()).max(delay.unwrap_or_default());
            let is_too_late = retry.max_elapsed_time.is_some_and(|max| started.elapsed().saturating_add(wait) > max);
            if !retry.enabled || is_too_late {
                return Err(GivenUp { kind: Kind::Exhausted, message, after: delay });
            }
            report.tell(Kind::Retrying, records, &message);
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.requested() => is_stopping = true,
            }
        }
    }
}

/// No further attempt will be made.
struct GivenUp {
    kind: Kind,
    message: String,
    after: Option<Duration>,
}
