//! Bytes in flight: the limit that keeps memory bounded (I7).
//!
//! A receiver takes a [`Lease`] on a [`Budget`] before it decodes a request, the batch carries it through the graph,
//! and the bytes are given back when the last branch of the batch is gone. Nothing waits: a budget that is spent
//! refuses at once, and the client is told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that may be in flight.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Takes `bytes`, or nothing if fewer are left.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .ok()
            .map(|_| Lease(Arc::new(Held { budget: Arc::clone(self), bytes })))
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in flight now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes taken from a [`Budget`], given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Lease(#[expect(dead_code, reason = "held for its Drop")] Arc<Held>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_with_the_last_clone() {
        let budget = Budget::new(10);
        let lease = budget.take(7).unwrap();
        assert!(budget.take(4).is_none());
        let clone = lease.clone();
        drop(lease);
        assert_eq!(budget.used(), 7);
        drop(clone);
        assert_eq!(budget.used(), 0);
        assert!(budget.take(11).is_none() && budget.take(usize::MAX).is_none());
    }
}
