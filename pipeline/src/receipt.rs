//! Receipts: the promise that someone waits for.
//!
//! A receiver makes a [`Receipt`] with every batch and answers its client when the [`Waiter`] resolves. Every branch the
//! batch takes holds a branch of the receipt and settles it; when the last branch is gone the worst outcome wins. A
//! branch that is dropped without being settled settles as [`Outcome::Lost`]: forgetting cannot look like success.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

struct Shared {
    worst: Mutex<Outcome>,
    waiter: Mutex<Option<oneshot::Sender<Outcome>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let outcome = std::mem::replace(self.worst.get_mut().unwrap_or_else(PoisonError::into_inner), Outcome::Done);
        if let Some(waiter) = self.waiter.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // A client that has gone away is nobody to tell.
            let _ = waiter.send(outcome);
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
        let shared = Shared { worst: Mutex::new(Outcome::Done), waiter: Mutex::new(Some(sender)) };
        (Self { shared: Some(Arc::new(shared)) }, Waiter(receiver))
    }

    /// Another branch of the same promise.
    pub fn branch(&self) -> Self {
        Self { shared: self.shared.clone() }
    }

    /// Settles this branch.
    pub fn settle(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        let Some(shared) = self.shared.take() else { return };
        if outcome != Outcome::Done {
            let mut worst = shared.worst.lock().unwrap_or_else(PoisonError::into_inner);
            let so_far = std::mem::replace(&mut *worst, Outcome::Done);
            *worst = so_far.worst(outcome);
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

/// Resolves to the worst outcome once every branch is settled.
#[derive(Debug)]
pub struct Waiter(oneshot::Receiver<Outcome>);

impl Future for Waiter {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0).poll(cx).map(|outcome| outcome.unwrap_or(Outcome::Lost))
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

    fn futures_poll(waiter: &mut Waiter) -> Option<Outcome> {
        match Pin::new(waiter).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}
