//! Receipts: the promise that someone waits for.
//!
//! A receiver makes a [`Receipt`] with every batch and answers its client when the [`Waiter`] resolves. Every branch the
//! batch takes holds a branch of the receipt and settles it; when the last branch is gone the worst outcome wins. A
//! branch that is dropped without being settled settles as [`Outcome::Lost`]: forgetting cannot look like success.
//!
//! # Several destinations
//!
//! Where the same data goes to several destinations, each has a receipt of its own ([`Receipt::fan_out`]), because there
//! is something between taken and not taken: a queue in memory that has no room ([`Receipt::full`]).
//!
//! ```text
//!                    ┌─ a: done ─┐
//!  parents ─ fan out ┼─ b: full ─┼─ all settled ─► parents: done, and b has dropped (and counted) what it had no room for
//!                    └─ c: done ─┘
//! ```
//!
//! Decision: if one of the others has taken the data, a full queue is no reason to ask the client for it again: it would
//! send it to all of them again, and the destination that is away would double the data of those that are not. Where
//! nobody has taken it, the client is asked to come again. The Collector asks always.
//!
//! # Nobody waits any more
//!
//! A client that went away, or was told that it took too long, sends its data again. Whoever has not delivered it yet can
//! ask ([`Receipt::is_abandoned`]) and leave it at that, instead of delivering it once for each time it was sent.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

/// How a branch ended, from best to worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has taken responsibility.
    Done,
    /// The destination will never take this data; sending it again is pointless.
    Rejected(Cow<'static, str>),
    /// Not taken now; the client should send it again, after the given time if there is one.
    Retry {
        /// Delay that the destination asked for.
        after: Option<Duration>,
        /// Why, for the client's log.
        reason: Cow<'static, str>,
    },
    /// Nobody can say what became of it. The client should send it again.
    Lost,
}

impl Outcome {
    const fn badness(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Rejected(_) => 1,
            Self::Retry { .. } => 2,
            Self::Lost => 3,
        }
    }

    /// The worse of two outcomes; of two equally bad ones the first.
    pub fn worst(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }
}

/// What the branches of one promise have said.
#[derive(Debug)]
struct Verdict {
    worst: Outcome,
    /// Somebody has taken responsibility.
    is_taken: bool,
    /// A queue had no room: why, for the client's log.
    full: Option<Cow<'static, str>>,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { worst: Outcome::Done, is_taken: false, full: None }
    }
}

impl Verdict {
    fn add(&mut self, outcome: Outcome) {
        if outcome == Outcome::Done {
            self.is_taken = true;
        } else {
            let so_far = std::mem::replace(&mut self.worst, Outcome::Done);
            self.worst = so_far.worst(outcome);
        }
    }

    /// As one outcome, for someone who must either send again or not.
    fn into_outcome(self) -> Outcome {
        match self.full {
            Some(reason) => self.worst.worst(Outcome::Retry { after: None, reason }),
            None => self.worst,
        }
    }

    /// Adds what one of several destinations has said.
    fn add_destination(&mut self, other: Self) {
        let is_taken = other.is_taken && other.full.is_none() && other.worst == Outcome::Done;
        self.is_taken |= is_taken;
        if other.worst != Outcome::Done {
            self.add(other.into_outcome());
        } else if let Some(reason) = other.full {
            self.full.get_or_insert(reason);
        }
    }
}

/// Whom to tell when all branches are settled.
enum Then {
    Waiter(oneshot::Sender<Outcome>),
    /// One of several destinations.
    FanOut(Arc<FanOut>),
}

struct Shared {
    verdict: Mutex<Verdict>,
    then: Mutex<Option<Then>>,
    /// Who waits wants to know, but its client does not.
    is_abandoned: AtomicBool,
}

impl Shared {
    fn new(then: Then) -> Arc<Self> {
        Arc::new(Self { verdict: Mutex::default(), then: Mutex::new(Some(then)), is_abandoned: AtomicBool::new(false) })
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
            || match &*self.then.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(Then::Waiter(waiter)) => waiter.is_closed(),
                Some(Then::FanOut(fan_out)) => Receipt::are_abandoned(&fan_out.parents),
                None => false,
            }
    }

    fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let verdict = std::mem::take(self.verdict.get_mut().unwrap_or_else(PoisonError::into_inner));
        match self.then.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // A client that has gone away is nobody to tell.
            Some(Then::Waiter(waiter)) => drop(waiter.send(verdict.into_outcome())),
            Some(Then::FanOut(fan_out)) => {
                fan_out.verdict.lock().unwrap_or_else(PoisonError::into_inner).add_destination(verdict);
            }
            None => {}
        }
    }
}

/// The point where data goes to several destinations.
struct FanOut {
    verdict: Mutex<Verdict>,
    parents: Vec<Receipt>,
}

impl Drop for FanOut {
    fn drop(&mut self) {
        let mut verdict = std::mem::take(self.verdict.get_mut().unwrap_or_else(PoisonError::into_inner));
        if verdict.is_taken {
            verdict.full = None;
        }
        let parents = std::mem::take(&mut self.parents);
        for parent in parents {
            match (&verdict.worst, &verdict.full, verdict.is_taken) {
                (Outcome::Done, None, true) => parent.settle(Outcome::Done),
                (Outcome::Done, None, false) => parent.ignore(),
                (Outcome::Done, Some(reason), _) => parent.full(reason.clone()),
                (worst, None, _) => parent.settle(worst.clone()),
                (worst, Some(reason), _) => {
                    let full = Outcome::Retry { after: None, reason: reason.clone() };
                    parent.settle(worst.clone().worst(full));
                }
            }
        }
    }
}

/// One branch of a promise. Settle it exactly once.
pub struct Receipt {
    shared: Option<Arc<Shared>>,
}

impl Receipt {
    /// A receipt and the future that resolves when all its branches are settled.
    pub fn pair() -> (Self, Waiter) {
        let (sender, receiver) = oneshot::channel();
        let shared = Shared::new(Then::Waiter(sender));
        let waiter = Waiter { outcome: receiver, shared: Arc::downgrade(&shared) };
        (Self { shared: Some(shared) }, waiter)
    }

    /// Whether the data will be sent again, since whoever sent it does not wait for an answer any more.
    pub fn is_abandoned(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_abandoned())
    }

    /// Whether there are receipts, and all of them are abandoned.
    pub fn are_abandoned(receipts: &[Self]) -> bool {
        !receipts.is_empty() && receipts.iter().all(Self::is_abandoned)
    }

    /// A receipt for each of several destinations that get the same data. When all are settled, so are the parents.
    pub fn fan_out(parents: Vec<Self>, destinations: usize) -> impl Iterator<Item = Self> {
        let fan_out = Arc::new(FanOut { verdict: Mutex::default(), parents });
        (0..destinations).map(move |_| Self { shared: Some(Shared::new(Then::FanOut(Arc::clone(&fan_out)))) })
    }

    /// Another branch of the same promise.
    pub fn branch(&self) -> Self {
        Self { shared: self.shared.clone() }
    }

    /// Settles this branch.
    pub fn settle(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    /// Settles this branch of data that was let go of on purpose, and that nobody has taken.
    pub fn ignore(mut self) {
        self.shared = None;
    }

    /// Settles this branch of data for which a queue in memory had no room, and which it has counted as dropped. If
    /// another destination has taken the same data, that is the end of it; otherwise the client should send it again.
    pub fn full(mut self, reason: Cow<'static, str>) {
        if let Some(shared) = self.shared.take() {
            shared.verdict().full.get_or_insert(reason);
        }
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(shared) = self.shared.take() {
            shared.verdict().add(outcome);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.record(Outcome::Lost);
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

/// Resolves to the worst outcome once every branch is settled. Dropping it abandons the receipt.
pub struct Waiter {
    outcome: oneshot::Receiver<Outcome>,
    shared: Weak<Shared>,
}

impl Waiter {
    /// The client will not hear of the outcome, whatever it is: it went away. Waiting goes on.
    pub fn abandon(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.is_abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiter")
    }
}

impl Future for Waiter {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| outcome.unwrap_or(Outcome::Lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_worst_branch_wins_and_only_the_last_one_resolves() {
        let (receipt, mut waiter) = Receipt::pair();
        let (a, b, c) = (receipt.branch(), receipt.branch(), receipt);
        a.settle(Outcome::Done);
        b.settle(Outcome::Retry { after: None, reason: "busy".into() });
        assert!(futures_poll(&mut waiter).is_none());
        c.settle(Outcome::Rejected("no".into()));
        assert_eq!(waiter.await, Outcome::Retry { after: None, reason: "busy".into() });
    }

    #[tokio::test]
    async fn a_dropped_branch_is_lost() {
        let (receipt, waiter) = Receipt::pair();
        receipt.branch().settle(Outcome::Done);
        drop(receipt);
        assert_eq!(waiter.await, Outcome::Lost);
    }

    #[tokio::test]
    async fn a_full_queue_matters_only_where_nobody_else_has_taken_the_data() {
        #[derive(Clone, Copy)]
        enum End {
            Done,
            Full,
            /// A part of it was taken.
            HalfFull,
            Ignored,
            Retry,
            Rejected,
        }
        use End::{Done, Full, HalfFull, Ignored, Rejected, Retry};
        let retry = |reason: &'static str| Outcome::Retry { after: None, reason: reason.into() };
        let settle = |receipt: Receipt, end| match end {
            Done => receipt.settle(Outcome::Done),
            Full => receipt.full("full".into()),
            HalfFull => {
                receipt.branch().settle(Outcome::Done);
                receipt.full("full".into());
            }
            Ignored => receipt.ignore(),
            Retry => receipt.settle(retry("busy")),
            Rejected => receipt.settle(Outcome::Rejected("no".into())),
        };
        for (ends, outcome) in [
            (&[Done, Full][..], Outcome::Done),
            (&[Full, Done, Full], Outcome::Done),
            (&[Full, Full], retry("full")),
            (&[Full, Ignored], retry("full")),
            (&[HalfFull, Full], retry("full")),
            (&[HalfFull, Done], Outcome::Done),
            (&[HalfFull], retry("full")),
            (&[Ignored, Ignored], Outcome::Done),
            (&[Done, Retry, Full], retry("busy")),
            (&[Full, Rejected], retry("full")),
            (&[Done, Rejected], Outcome::Rejected("no".into())),
            // Somebody has it, and a repetition would be rejected again.
            (&[Done, Full, Rejected], Outcome::Rejected("no".into())),
        ] {
            let (receipt, waiter) = Receipt::pair();
            Receipt::fan_out(vec![receipt], ends.len()).zip(ends).for_each(|(receipt, end)| settle(receipt, *end));
            assert_eq!(waiter.await, outcome);
        }
        // Without a fan-out there is nobody else.
        for end in [Full, HalfFull] {
            let (receipt, waiter) = Receipt::pair();
            settle(receipt, end);
            assert_eq!(waiter.await, retry("full"));
        }
    }

    #[tokio::test]
    async fn a_fan_out_within_a_fan_out_counts_as_one_destination() {
        let (receipt, waiter) = Receipt::pair();
        let mut outer: Vec<Receipt> = Receipt::fan_out(vec![receipt], 2).collect();
        Receipt::fan_out(vec![outer.remove(0)], 2).for_each(|receipt| receipt.full("full".into()));
        outer.remove(0).settle(Outcome::Done);
        assert_eq!(waiter.await, Outcome::Done);
        // A destination that forgets its receipt is still lost.
        let (receipt, waiter) = Receipt::pair();
        let mut receipts = Receipt::fan_out(vec![receipt], 2);
        receipts.next().unwrap().settle(Outcome::Done);
        drop(receipts.next());
        drop(receipts);
        assert_eq!(waiter.await, Outcome::Lost);
    }

    #[tokio::test]
    async fn a_receipt_is_abandoned_when_all_who_wait_have_gone() {
        let (receipt, waiter) = Receipt::pair();
        let (other, other_waiter) = Receipt::pair();
        assert!(!Receipt::are_abandoned(&[]));
        let joined = [receipt.branch(), other];
        drop(other_waiter);
        assert!(!Receipt::are_abandoned(&joined) && joined[1].is_abandoned());
        let destinations: Vec<Receipt> = Receipt::fan_out(joined.into(), 2).collect();
        assert!(!Receipt::are_abandoned(&destinations));
        waiter.abandon();
        assert!(receipt.is_abandoned() && Receipt::are_abandoned(&destinations));
        destinations.into_iter().for_each(|receipt| receipt.settle(Outcome::Done));
        receipt.settle(Outcome::Done);
        assert_eq!(waiter.await, Outcome::Done, "it is still told");
    }

    fn futures_poll(waiter: &mut Waiter) -> Option<Outcome> {
        match Pin::new(waiter).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}
