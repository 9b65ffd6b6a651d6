//! Reading a request's body: contiguous, bounded in size and time, and paid for before it is held.
//!
//! Decision: a length that is announced must be to be had, or the request is refused at once; but what is taken from the
//! limiters is what has come, and as much again. Otherwise a few bytes that announce much would keep everybody else out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use weir_pipeline::budget::Lease;
use weir_pipeline::copy::append;
use weir_pipeline::node::{Outlet, Refused};

use super::refusal::Refusal;

/// Bytes of a gRPC message's prefix: the compressed flag and the length.
pub(super) const PREFIX: usize = 5;

/// Memory that is taken for a body at first, unless it is announced to be smaller.
const FIRST: usize = 4 << 10;

/// An announced length reserves this much at most before the bytes are there.
const MAX_RESERVE: usize = 8 << 20;

/// How the end of the body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The body is the message.
    Plain,
    /// The body is one length-prefixed gRPC message, returned with its prefix.
    Grpc,
}

/// The bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Largest message in bytes.
    pub(super) size: usize,
    /// Longest silence between two pieces.
    pub(super) idle: Duration,
    /// Longest time for the whole.
    pub(super) total: Duration,
    /// When it must be there in any case.
    pub(super) deadline: Option<Instant>,
}

/// Memory taken from the limiters downstream for one buffer, growing with it.
#[derive(Debug)]
pub(super) struct Hold {
    outlet: Outlet,
    leases: Vec<Lease>,
    bytes: usize,
    /// Bytes that the request has beside these.
    beside: usize,
}

impl Hold {
    /// Nothing yet.
    pub(super) fn new(outlet: &Outlet) -> Self {
        Self { outlet: outlet.clone(), leases: Vec::new(), bytes: 0, beside: 0 }
    }

    /// Nothing yet, for another form of what `other` holds.
    pub(super) fn beside(other: &Self) -> Self {
        Self { beside: other.total(), ..Self::new(&other.outlet) }
    }

    /// Bytes that the request has in all.
    pub(super) fn total(&self) -> usize {
        self.beside.saturating_add(self.bytes)
    }

    /// Bytes that are taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes sure that `bytes` in all are taken.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<(), Refused> {
        if bytes > self.bytes {
            self.leases.extend(self.outlet.admit(self.total(), bytes - self.bytes)?);
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Takes `bytes` in all, or as many as a request can have if those are more than `least`; returns how many. For a
    /// buffer whose size is a guess: that it could be larger than allowed is no reason to refuse what may fit.
    pub(super) fn cover_about(&mut self, bytes: usize, least: usize) -> Result<usize, Refused> {
        let refused = match self.cover(bytes) {
            Ok(()) => return Ok(bytes),
            Err(refused) => refused,
        };
        match refused.most.map(|most| most.saturating_sub(self.beside)) {
            Some(most) if most >= least && most < bytes => self.cover(most).map(|()| most),
            _ => Err(refused),
        }
    }

    /// The same bytes, now that the other form is gone which they were held [beside](Self::beside), and only `other` is
    /// left of that.
    pub(super) fn beside_again(self, other: &Self) -> Self {
        Self { beside: other.total(), ..self }
    }

    /// As [`cover`](Self::cover) for a buffer that grows to at most `max` bytes: takes as much again, as long as there is
    /// room for it.
    pub(super) fn cover_growing(&mut self, bytes: usize, max: usize) -> Result<(), Refused> {
        if bytes <= self.bytes {
            return Ok(());
        }
        self.cover(bytes.saturating_mul(2).max(FIRST).min(max.max(bytes))).or_else(|_| self.cover(bytes))
    }

    /// Whether `bytes` in all could be taken now.
    fn probe(&self, bytes: usize) -> Result<(), Refused> {
        self.outlet.admit(self.total(), bytes.saturating_sub(self.bytes)).map(drop)
    }

    /// The leases, for the batch that holds the buffer.
    pub(super) fn into_leases(self) -> Vec<Lease> {
        self.leases
    }
}

/// A body that knows whether it was read to its end.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    has_ended: bool,
}

impl<B: Body> Watched<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, has_ended: false }
    }

    /// Whether nothing of the body is left, as of one that was empty from the beginning.
    pub(super) fn was_read(&self) -> bool {
        // hyper says of a chunked body that it has ended only by its last frame.
        self.has_ended || self.body.is_end_stream()
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.has_ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a body to its end. A body that came in one piece is returned as it came, others are copied once.
pub(super) async fn read<B>(body: B, framing: Framing, bounds: Bounds, hold: &mut Hold) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut expected = match framing {
        Framing::Plain => body.size_hint().exact().map(|announced| within(announced, bounds.size)).transpose()?,
        Framing::Grpc => None,
    };
    hold.probe(expected.unwrap_or(0))?;

    let deadline = bounds.deadline.unwrap_or_else(|| Instant::now() + bounds.total);
    let mut gathered = Gathered::default();
    loop {
        let idle = Instant::now() + bounds.idle;
        let limit = if idle < deadline { bounds.idle } else { bounds.total };
        let frame = timeout_at(idle.min(deadline), body.frame()).await.map_err(|_| Refusal::Stalled(limit))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Refusal::Framing(format!("the request body broke off: {error}")))?;
        // Trailers say nothing that OTLP uses.
        let Ok(data) = frame.into_data() else { continue };
        let len = gathered.len() + data.len();
        match framing {
            Framing::Plain => {
                within(len as u64, bounds.size)?;
                hold.cover_growing(len, expected.unwrap_or(bounds.size))?;
                gathered.push(data, expected.unwrap_or(0));
            }
            Framing::Grpc => {
                gathered.push(data, expected.unwrap_or(0));
                if let (None, Some(prefix)) = (expected, gathered.prefix()) {
                    let announced = announced(prefix, bounds.size)?;
                    hold.probe(announced)?;
                    expected = Some(announced);
                }
                if expected.is_some_and(|expected| len > expected) {
                    return Err(Refusal::Framing("more bytes than the one message of a unary call".to_owned()));
                }
                hold.cover_growing(len, expected.unwrap_or(PREFIX))?;
            }
        }
    }
    match (framing, expected) {
        (Framing::Plain, _) => {}
        (Framing::Grpc, None) if gathered.len() == 0 => {
            return Err(Refusal::Framing("the call ended without a message".to_owned()));
        }
        (Framing::Grpc, Some(expected)) if gathered.len() == expected => {}
        (Framing::Grpc, _) => return Err(Refusal::Framing("the call ended inside its message".to_owned())),
    }
    Ok(gathered.into_bytes())
}

/// The length if it is allowed.
fn within(len: u64, limit: usize) -> Result<usize, Refusal> {
    usize::try_from(len).ok().filter(|len| *len <= limit).ok_or(Refusal::TooLarge { limit })
}

/// The length of a gRPC message with its prefix.
fn announced(prefix: [u8; PREFIX], limit: usize) -> Result<usize, Refusal> {
    let [flag, length @ ..] = prefix;
    if flag > 1 {
        return Err(Refusal::Framing(format!("the message starts with {flag}, neither compressed (1) nor not (0)")));
    }
    within(u64::from(u32::from_be_bytes(length)), limit).map(|len| len + PREFIX)
}

/// Pieces made contiguous.
#[derive(Default)]
struct Gathered {
    /// The only piece so far, unless `rest` has begun.
    first: Bytes,
    rest: Vec<u8>,
}

impl Gathered {
    fn len(&self) -> usize {
        if self.rest.is_empty() { self.first.len() } else { self.rest.len() }
    }

    fn prefix(&self) -> Option<[u8; PREFIX]> {
        let bytes = if self.rest.is_empty() { &self.first[..] } else { &self.rest[..] };
        bytes.first_chunk().copied()
    }

    fn push(&mut self, data: Bytes, expected: usize) {
        if self.len() == 0 {
            self.first = data;
        } else if !data.is_empty() {
            if self.rest.is_empty() {
                self.rest.reserve(expected.min(MAX_RESERVE).max(self.first.len() + data.len()));
                append(&mut self.rest, &std::mem::take(&mut self.first));
            }
            append(&mut self.rest, &data);
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.into() }
    }
}
