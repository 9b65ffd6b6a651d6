//! The way into the graph, the same for both transports: decode, hand over, wait for the receipt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
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
        });
        Self { transport, entries, journal }
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
}

impl Entry {
    /// Reads a body, until `deadline` if there is one; returns it with the memory that is taken for it.
    pub(super) async fn read<B>(
        &self,
        body: B,
        framing: Framing,
        deadline: Option<Instant>,
    ) -> Result<(Bytes, Hold), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let mut hold = Hold::new(self.outlet()?);
        let Timeouts { body_idle: idle, body_total: total, .. } = self.timeouts;
        let bounds = Bounds { size: self.max_bytes, idle, total, deadline };
        let bytes = body::read(body, framing, bounds, &mut hold).await?;
        Ok((bytes, hold))
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
        let parcel = Parcel { signal: self.signal, message, max: self.max_bytes };
        let (mut batch, held) = parcel.unpack_somewhere().await?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(Sender { metadata, bytes, owner }) = sender {
            let leases = outlet.admit(held, bytes)?;
            batch = leases.into_iter().fold(batch, Batch::with_lease).with_metadata(metadata);
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

/// A message as it arrived.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Bytes,
    /// Covers the bytes.
    pub(super) hold: Hold,
    pub(super) encoding: Encoding,
    pub(super) format: Format,
}

/// A message on its way to becoming a batch.
struct Parcel {
    signal: Signal,
    message: Message,
    max: usize,
}

impl Parcel {
    async fn unpack_somewhere(self) -> Result<(Batch, usize), Refusal> {
        // An estimate by the measured costs of `benches/load`.
        let Message { bytes, encoding, format, .. } = &self.message;
        let decompressed = bytes.len().saturating_mul(if *encoding == Encoding::Identity { 1 } else { 10 });
        let work = decompressed.saturating_mul(if *format == Format::Json { 8 } else { 1 });
        if work <= OFFLOAD_ABOVE {
            return self.unpack();
        }
        // It only fails when the runtime is going away.
        tokio::task::spawn_blocking(move || self.unpack()).await.unwrap_or(Err(Refusal::Stopping))
    }

    /// The batch, and the bytes that are held for it.
    fn unpack(self) -> Result<(Batch, usize), Refusal> {
        let Self { signal, message: Message { bytes: mut message, mut hold, encoding, format }, max } = self;
        // Each step's memory is taken before it and the previous step's given back after it, together with the bytes.
        if encoding != Encoding::Identity {
            let mut larger = Hold::beside(&hold);
            message = encoding.decode(message, max, &mut larger)?;
            // The compressed form is given back here.
            hold = larger.alone();
        }
        if format == Format::Json {
            let mut protobuf = Hold::beside(&hold);
            // Nearly always the shorter form.
            protobuf.cover(message.len())?;
            message = to_protobuf(message_of(signal), &message, Limits { max_bytes: max })?.into();
            protobuf.cover(message.len())?;
            hold = protobuf.alone();
        }
        let batch = Batch::decode(signal, message)?;
        let held = hold.bytes();
        Ok((hold.into_leases().into_iter().fold(batch, Batch::with_lease), held))
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
