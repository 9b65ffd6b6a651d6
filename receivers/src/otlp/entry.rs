//! The way into the graph, the same for both transports: decode, hand over, wait for the receipt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::node::{Outlet, Outlets};
use weir_pipeline::otlp::json::{Limits, to_protobuf};
use weir_pipeline::receipt::{Outcome, Receipt, Waiter};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ReceiverCounters;

use super::access::Sender;
use super::body::{self, Bounds, Framing, Hold};
use super::config::Timeouts;
use super::encoding::Encoding;
use super::journal::Journal;
use super::ownership::{Ledger, Shares};
use super::refusal::Refusal;

/// Requests estimated to take more work than decoding this many bytes of protobuf (about two milliseconds) are unpacked
/// on a thread of their own, so that one large request does not hold up its lane.
const OFFLOAD_ABOVE: usize = 4 << 20;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

/// The entries of one transport in one lane.
#[derive(Debug)]
pub(super) struct Entries {
    transport: &'static str,
    entries: [Entry; 3],
    journal: Arc<Journal>,
}

impl Entries {
    pub(super) fn new(
        transport: &'static str,
        outlets: &Outlets,
        max_bytes: usize,
        timeouts: Timeouts,
        journal: Arc<Journal>,
        books: impl Fn(Signal) -> Books,
    ) -> Self {
        let entries = Signal::ALL.map(|signal| Entry {
            signal,
            outlet: outlets.get(signal).cloned(),
            books: books(signal),
            max_bytes,
            timeouts,
            under_way: AtomicUsize::new(0),
        });
        Self { transport, entries, journal }
    }

    /// Requests that the pipelines have and have not answered.
    pub(super) fn under_way(&self) -> usize {
        self.entries.iter().map(|entry| entry.under_way.load(Ordering::Relaxed)).sum()
    }

    /// The entry of a signal.
    pub(super) fn get(&self, signal: Signal) -> &Entry {
        let [traces, metrics, logs] = &self.entries;
        match signal {
            Signal::Traces => traces,
            Signal::Metrics => metrics,
            Signal::Logs => logs,
        }
    }

    /// Logs a refusal and counts it, unless its records have been counted.
    pub(super) fn note(&self, signal: Option<Signal>, refusal: &Refusal) {
        self.journal.note(self.transport, signal, refusal);
        if let Some(signal) = signal
            && !refusal.is_after_decoding()
        {
            self.get(signal).books.counters.failed_requests.add(1);
        }
    }
}

/// What is counted of one signal.
#[derive(Debug, Clone)]
pub(super) struct Books {
    pub(super) counters: ReceiverCounters,
    pub(super) ledger: Arc<Ledger>,
}

/// The way in for one signal.
#[derive(Debug)]
pub(super) struct Entry {
    signal: Signal,
    outlet: Option<Outlet>,
    books: Books,
    max_bytes: usize,
    timeouts: Timeouts,
    /// Requests that the pipelines have.
    under_way: AtomicUsize,
}

impl Entry {
    /// Reads a body, until `deadline` if there is one; returns it with the memory that is taken for it, and for what is
    /// kept of its sender meanwhile.
    pub(super) async fn read<B>(
        &self,
        body: B,
        framing: Framing,
        deadline: Option<Instant>,
        sender: Option<&Sender>,
    ) -> Result<(Bytes, Holds), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let mut head = Hold::new(self.outlet()?);
        head.cover(sender.map_or(0, |sender| sender.bytes))?;
        let mut hold = Hold::beside(&head);
        let Timeouts { body_idle: idle, body_total: total, .. } = self.timeouts;
        let bounds = Bounds { size: self.max_bytes, idle, total, deadline };
        let bytes = body::read(body, framing, bounds, &mut hold).await?;
        Ok((bytes, Holds { head, body: hold }))
    }

    /// Unpacks a message, sends it down the pipelines and waits for the receipt, at most until the client's deadline.
    pub(super) async fn deliver(
        &self,
        message: Message,
        sender: Option<Sender>,
        client_timeout: Option<Duration>,
    ) -> Result<(), Refusal> {
        let outlet = self.outlet()?;
        let now = Instant::now();
        let _under_way = UnderWay::new(&self.under_way);
        let parcel = Parcel { signal: self.signal, message, max: self.max_bytes };
        let mut batch = parcel.unpack_somewhere().await?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(Sender { metadata, owner, .. }) = sender {
            batch = batch.with_metadata(metadata);
            batch = self.books.ledger.assign(batch, owner).await?;
        }
        let records = batch.len();
        // All of it may have been a deleted project's.
        if records == 0 {
            return Ok(());
        }
        let (receipt, waiter) = Receipt::pair();
        let mut ending = Ending { waiter: Some(waiter), records, shares: Shares::of(&batch), books: &self.books };
        let ours = now + self.timeouts.answer;
        let deadline = client_timeout.and_then(|t| now.checked_add(t)).map_or(ours, |theirs| theirs.min(ours));
        let settled = timeout_at(deadline, async {
            outlet.send(batch.with_receipt(receipt)).await;
            (&mut ending).await
        });
        match settled.await {
            Ok(outcome) => Refusal::of(outcome),
            Err(_) => {
                ending.give_up();
                Err(if deadline < ours { Refusal::Deadline } else { Refusal::NoAnswer(self.timeouts.answer) })
            }
        }
    }

    fn outlet(&self) -> Result<&Outlet, Refusal> {
        self.outlet.as_ref().ok_or(Refusal::NoPipeline(self.signal))
    }
}

/// The memory that a request has taken.
#[derive(Debug)]
pub(super) struct Holds {
    /// For what is kept of its head.
    head: Hold,
    /// For its body, in whichever form.
    body: Hold,
}

/// A message as it arrived.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Bytes,
    pub(super) holds: Holds,
    pub(super) encoding: Encoding,
    pub(super) format: Format,
}

/// One of the requests that are counted, until this is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on its way to becoming a batch.
struct Parcel {
    signal: Signal,
    message: Message,
    max: usize,
}

impl Parcel {
    async fn unpack_somewhere(mut self) -> Result<Batch, Refusal> {
        // An estimate by the measured costs of `benches/load`.
        let cost = if self.message.format == Format::Json { 8 } else { 1 };
        let is_small = |bytes: usize| bytes.saturating_mul(cost) <= OFFLOAD_ABOVE;
        let is_compressed = self.message.encoding != Encoding::Identity;
        if is_small(self.message.bytes.len().saturating_mul(if is_compressed { 10 } else { 1 })) {
            // What a compressed request comes to is only known when it is there: a few bytes can stand for a thousand times
            // as many.
            if self.inflate(OFFLOAD_ABOVE / cost)? {
                return self.unpack();
            }
        }
        // It only fails when the runtime is going away.
        let unpacking = move || match self.inflate(self.max)? {
            true => self.unpack(),
            false => Err(Refusal::TooLarge { limit: self.max }),
        };
        tokio::task::spawn_blocking(unpacking).await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Undoes the compression, if there is one; false if that comes to more than `most` bytes, when nothing has changed.
    fn inflate(&mut self, most: usize) -> Result<bool, Refusal> {
        let Message { bytes, holds, encoding, .. } = &mut self.message;
        if *encoding == Encoding::Identity {
            return Ok(true);
        }
        // Each step's memory is taken before it and the previous step's given back after it, together with the bytes.
        let most = most.min(self.max);
        // What it says may be wrong: that decides where the work is done, and nothing else.
        if most < self.max && encoding.announces(bytes).is_some_and(|announced| announced > most) {
            return Ok(false);
        }
        let mut larger = Hold::beside(&holds.body);
        match encoding.decode(bytes.clone(), most, &mut larger) {
            Ok(inflated) => *bytes = inflated,
            Err(Refusal::TooLarge { .. }) => return Ok(false),
            Err(refusal) => return Err(refusal),
        }
        // The compressed form is given back here.
        holds.body = larger.beside_again(&holds.head);
        *encoding = Encoding::Identity;
        Ok(true)
    }

    /// The batch of a request that is not compressed.
    fn unpack(self) -> Result<Batch, Refusal> {
        let Self { signal, message: Message { bytes: mut message, holds, format, .. }, max } = self;
        let Holds { head, body: mut hold } = holds;
        if format == Format::Json {
            let mut protobuf = Hold::beside(&hold);
            // Nearly always the shorter form.
            protobuf.cover(message.len())?;
            message = to_protobuf(message_of(signal), &message, Limits { max_bytes: max })?.into();
            protobuf.cover(message.len())?;
            hold = protobuf.beside_again(&head);
        }
        let (own, mut refused) = (hold.bytes(), None);
        let decoded = Batch::decode_within(signal, message, &mut |beside| match hold.cover(own + beside) {
            Ok(()) => true,
            Err(why) => {
                refused = Some(why);
                false
            }
        });
        if let Some(refused) = refused {
            return Err(refused.into());
        }
        let leases = hold.into_leases().into_iter().chain(head.into_leases());
        Ok(leases.fold(decoded?, Batch::with_lease))
    }
}

/// Waits for a receipt and counts how it ended, even if the client goes away and the waiting is cancelled (I2).
struct Ending<'a> {
    waiter: Option<Waiter>,
    records: usize,
    shares: Shares,
    books: &'a Books,
}

impl Ending<'_> {
    /// The client is told that the records were not taken, whatever becomes of them.
    fn give_up(mut self) {
        self.waiter = None;
        self.books.count(self.records, &self.shares, false);
    }
}

impl Future for &mut Ending<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(waiter) = &mut self.waiter else { return Poll::Ready(Outcome::Lost) };
        let Poll::Ready(outcome) = Pin::new(waiter).poll(cx) else { return Poll::Pending };
        self.waiter = None;
        self.books.count(self.records, &self.shares, outcome == Outcome::Done);
        Poll::Ready(outcome)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let (Some(waiter), Ok(runtime)) = (self.waiter.take(), tokio::runtime::Handle::try_current()) else { return };
        // The client sends it again, or nobody does.
        waiter.abandon();
        let (books, records, shares) = (self.books.clone(), self.records, std::mem::take(&mut self.shares));
        runtime.spawn(async move { books.count(records, &shares, waiter.await == Outcome::Done) });
    }
}

impl Books {
    fn count(&self, records: usize, shares: &Shares, accepted: bool) {
        let counter = if accepted { &self.counters.accepted } else { &self.counters.refused };
        counter.add(records);
        self.ledger.count(shares, accepted);
    }
}
