//! Delivering one batch: as one request, or as several where one would be too large.
//!
//! ```text
//!            ┌────────── too large ──────────┐
//!            ▼                               │
//!  parts ─► encode ─► within limits? ─► pack ─► attempt ─► sent, or given up
//!            │  ▲          │                 ▲      │
//!            │  └─ halves ◄┘                 └ wait ┘
//!            └─ one record: dropped, `too_large`
//! ```
//!
//! `batch::max_size` in records is kept to before anything is encoded, whatever way the batch came.
//!
//! Where somebody waits for the outcome, an attempt that failed is not repeated once all of them have gone: they send the
//! data again, and it would be delivered as often as they did.
//!
//! Decision: a destination that asks to be left alone (`Retry-After`, `RetryInfo`) is left alone for a minute at most, or
//! for `max_interval` if that is longer. The Collector waits as long as it is told to, so that a proxy with a wrong clock,
//! or whoever answers in the destination's place, decides that data is dropped, or never sent.
//!
//! Decision: where the next attempt would come after `max_elapsed_time`, a last one is made when that is over. The
//! Collector gives up as soon as it knows, so that one long wait drops data that there was time for.
//!
//! Two limits are not the same. `max_request_size` holds for everything: a record above it is dropped. What the
//! destination once refused, and `batch::max_size` in bytes, only say where to cut: a single record above them is sent.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::receipt::{Outcome, Receipt};

use super::backoff::Backoff;
use super::report::Kind;
use super::settings::BatchSizer;
use super::{Accepted, Destination, Failure, Inner, Queue};

/// A request that is refused for its size is not cut below this: a destination that refuses so little refuses everything,
/// and asking it once per record would only add to its trouble.
const SMALLEST_CUT: usize = 16 << 10;

/// How long a destination's refusal is remembered: its limit may be raised.
const MEMORY: Duration = Duration::from_secs(600);

/// The longest wait that a destination may ask for, unless our own are longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The largest request that the destination has not yet refused, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<Option<(usize, Instant)>>);

impl Learned {
    /// The limit that still counts.
    fn get(&self) -> Option<usize> {
        let learned = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        learned.filter(|(_, at)| at.elapsed() < MEMORY).map(|(limit, _)| limit)
    }

    /// Remembers that a request of so many bytes was refused while smaller ones were taken.
    fn refused(&self, bytes: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((bytes.saturating_sub(1), Instant::now()));
    }
}

/// No further attempt will be made.
struct GivenUp {
    kind: Kind,
    message: String,
    after: Option<Duration>,
}

impl From<Failure> for GivenUp {
    /// For failures before there was an attempt.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Permanent(message) => Self { kind: Kind::Permanent, message, after: None },
            Failure::TooLarge(message) => Self { kind: Kind::TooLarge, message, after: None },
            Failure::Transient { delay, message } => Self { kind: Kind::Exhausted, message, after: delay },
        }
    }
}

/// Why a part cannot be sent as one request.
enum TooLarge {
    /// It is above a limit that only says where to cut.
    Unwieldy,
    /// It is above `max_request_size`.
    Forbidden(String),
    /// The destination refuses so many bytes.
    Refused(usize, String),
}

/// How a batch ended.
pub(super) struct Delivered {
    /// What to tell the client.
    pub(super) outcome: Outcome,
    /// Records that are in no counter, since they stay in the log.
    pub(super) kept: usize,
}

/// How the parts of a batch ended so far.
#[derive(Default)]
struct Tally {
    kept: usize,
    is_any_sent: bool,
    worst: Option<Outcome>,
    too_large: Option<String>,
    /// The smallest request that the destination refused for its size and that was cut.
    refused_bytes: Option<usize>,
}

impl Tally {
    /// What to tell the client. Records that are too large are no reason to send the others again.
    fn outcome(self) -> Outcome {
        match (self.worst, self.too_large) {
            (Some(worst), _) => worst,
            (None, Some(message)) if !self.is_any_sent => Outcome::Rejected(message.into()),
            (None, _) => Outcome::Done,
        }
    }
}

impl<D: Destination> Inner<D> {
    /// Sends a batch, in parts and again if need be, and counts how that ended.
    ///
    /// `receipts` are those of the batch, which has none itself.
    pub(super) async fn deliver(&self, batch: Batch, receipts: &[Receipt]) -> Delivered {
        let mut tally = Tally::default();
        // A part, and whether it is as small as it can be made.
        let mut parts = Vec::new();
        batch.split_into(self.queue.settings.max_items(), &mut |part| parts.push((part, false)));
        parts.reverse();
        while let Some((part, is_smallest)) = parts.pop() {
            let records = part.len();
            // What is in the log is as safe there as an attempt could make it.
            if self.queue.storage.is_some() && self.shutdown.is_requested() {
                tally.kept += records;
                continue;
            }
            let sent = self.deliver_part(&part, is_smallest, receipts, &mut tally).await;
            let Err(too_large) = sent else { continue };
            match (halves(part), too_large) {
                (Err(part), TooLarge::Unwieldy) => parts.push((part, true)),
                (Err(_), TooLarge::Forbidden(message) | TooLarge::Refused(_, message)) => {
                    self.drop_too_large(records, message, &mut tally);
                }
                (Ok(_), TooLarge::Refused(bytes, message)) if bytes < SMALLEST_CUT => {
                    self.drop_too_large(records, message, &mut tally);
                }
                (Ok((first, second)), too_large) => {
                    if let TooLarge::Refused(bytes, _) = too_large {
                        tally.refused_bytes = Some(bytes);
                    }
                    parts.extend([(second, false), (first, false)]);
                }
            }
        }
        // A destination that refused everything has said nothing about sizes.
        if let (true, Some(bytes)) = (tally.is_any_sent, tally.refused_bytes) {
            self.queue.learned.refused(bytes);
        }
        Delivered { kept: tally.kept, outcome: tally.outcome() }
    }

    fn drop_too_large(&self, records: usize, message: String, tally: &mut Tally) {
        self.queue.counters.fail(records, Kind::TooLarge.reason());
        self.queue.report.tell(Kind::TooLarge, records, &message);
        tally.too_large = Some(message);
    }

    /// Sends a part as one request and counts how that ended, unless it is too large for that.
    async fn deliver_part(
        &self,
        part: &Batch,
        is_smallest: bool,
        receipts: &[Receipt],
        tally: &mut Tally,
    ) -> Result<(), TooLarge> {
        let records = part.len();
        let request = match self.destination.encode(part).await {
            Ok(request) => request,
            Err(failure) => {
                self.give_up(failure.into(), records, tally);
                return Ok(());
            }
        };
        let bytes = request.len();
        self.queue.check_size(bytes, is_smallest || records == 1)?;
        let sent = match self.destination.pack(request, part.metadata()).await {
            Ok(payload) => self.persist(&payload, records, receipts).await,
            Err(failure) => Err(failure.into()),
        };
        match sent {
            Ok(accepted) => {
                self.succeed(accepted, records);
                tally.is_any_sent = true;
            }
            Err(GivenUp { kind: Kind::TooLarge, message, .. }) => return Err(TooLarge::Refused(bytes, message)),
            Err(given_up) => self.give_up(given_up, records, tally),
        }
        Ok(())
    }

    fn succeed(&self, Accepted { rejected, message }: Accepted, records: usize) {
        let queue = &*self.queue;
        let rejected = rejected.min(records);
        queue.counters.succeed(records - rejected);
        // What was rejected must not be sent again either, so for the client this is a success.
        if rejected > 0 {
            queue.counters.fail(rejected, Kind::Partial.reason());
            queue.report.tell(Kind::Partial, rejected, &message);
        } else if !message.is_empty() {
            queue.report.tell(Kind::Warning, records, &message);
        }
    }

    fn give_up(&self, GivenUp { kind, message, after }: GivenUp, records: usize, tally: &mut Tally) {
        if kind == Kind::Shutdown && self.queue.storage.is_some() {
            tally.kept += records;
            return;
        }
        self.queue.counters.fail(records, kind.reason());
        self.queue.report.tell(kind, records, &message);
        let outcome = match kind {
            Kind::Permanent => Outcome::Rejected(message.into()),
            _ => Outcome::Retry { after, reason: message.into() },
        };
        tally.worst = Some(match tally.worst.take() {
            Some(worst) => worst.worst(outcome),
            None => outcome,
        });
    }

    /// Attempts until it succeeds, is refused for good, or time is up: the last attempt is made then.
    async fn persist(&self, payload: &D::Payload, records: usize, receipts: &[Receipt]) -> Result<Accepted, GivenUp> {
        let Queue { retry, report, context, .. } = &*self.queue;
        let started = Instant::now();
        let mut backoff = Backoff::new(retry);
        let mut is_stopping = false;
        loop {
            is_stopping |= self.shutdown.is_requested();
            let (delay, message) = match self.destination.attempt(payload).await {
                Ok(accepted) => return Ok(accepted),
                Err(Failure::Transient { delay, message }) => {
                    (delay.map(|delay| delay.min(retry.max_interval.max(LONGEST_DELAY))), message)
                }
                Err(lasting) => return Err(lasting.into()),
            };
            if is_stopping {
                return Err(GivenUp { kind: Kind::Shutdown, message, after: delay });
            }
            let left = retry.max_elapsed_time.map(|max| max.saturating_sub(started.elapsed()));
            if !retry.enabled || left.is_some_and(|left| left.is_zero()) {
                return Err(GivenUp { kind: Kind::Exhausted, message, after: delay });
            }
            let wait = backoff.next(context.environment.random_unit()).max(delay.unwrap_or_default());
            let wait = left.map_or(wait, |left| wait.min(left));
            report.tell(Kind::Retrying, records, &message);
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.requested() => is_stopping = true,
            }
            if Receipt::are_abandoned(receipts) {
                let message = format!("whoever sent them has stopped waiting: {message}");
                return Err(GivenUp { kind: Kind::Abandoned, message, after: None });
            }
        }
    }
}

/// Two batches with about as many records each, or the batch itself if it has but one.
fn halves(mut batch: Batch) -> Result<(Batch, Batch), Batch> {
    let at = batch.len() / 2;
    if at == 0 {
        return Err(batch);
    }
    let rest = batch.split_off(at);
    Ok((batch, rest))
}

impl Queue {
    /// Whether a request of so many bytes may be sent; `is_smallest` if it cannot be cut.
    fn check_size(&self, bytes: usize, is_smallest: bool) -> Result<(), TooLarge> {
        let most = self.max_request_bytes;
        if bytes > most {
            let message = format!("{bytes} bytes are more than the {most} bytes that `max_request_size` allows");
            return Err(TooLarge::Forbidden(message));
        }
        let wanted = match &self.settings.batch {
            Some(batch) if batch.sizer == BatchSizer::Bytes => batch.max_size,
            _ => None,
        };
        let limit = wanted.into_iter().chain(self.learned.get()).min();
        match limit {
            Some(limit) if bytes > limit && !is_smallest => Err(TooLarge::Unwieldy),
            _ => Ok(()),
        }
    }
}
