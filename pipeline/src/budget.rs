//! Bytes in flight: the limit that keeps memory bounded (I7).
//!
//! A receiver takes a [`Lease`] on a [`Budget`] before it decodes a request, the batch carries it through the graph,
//! and the bytes are given back when the last branch of the batch is gone. Nothing waits: a budget that is spent
//! refuses at once, and the client is told to come again.
//!
//! Decision: what a request alone takes may be twice the budget. Otherwise one that is a little larger could never be
//! taken, and its client would come again for ever. One that is larger still is refused for good.

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

    /// Takes `bytes` for a request that has `own` already.
    ///
    /// # Errors
    /// If they are not to be had, now or ever; nothing is taken then.
    pub fn take(self: &Arc<Self>, own: usize, bytes: usize) -> Result<Lease, Short> {
        let most = self.limit.saturating_mul(2);
        if own.saturating_add(bytes) > most {
            return Err(Short::ForEver { most });
        }
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.limit || used <= own)
        });
        match taken {
            Ok(_) => Ok(Lease(Arc::new(Held { budget: Arc::clone(self), bytes }))),
            Err(_) => Err(Short::Now),
        }
    }

    /// The most that all may have in flight together.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in flight now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// Why bytes are not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// Others have them.
    Now,
    /// No request can have so many.
    ForEver {
        /// The most that one can have.
        most: usize,
    },
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
        let lease = budget.take(0, 7).unwrap();
        assert_eq!(budget.take(0, 4).unwrap_err(), Short::Now);
        let clone = lease.clone();
        drop(lease);
        assert_eq!(budget.used(), 7);
        drop(clone);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_request_alone_may_take_more_but_not_anything() {
        let budget = Budget::new(10);
        let first = budget.take(0, 11).unwrap();
        assert_eq!(budget.take(0, 1).unwrap_err(), Short::Now, "it is alone no longer");
        let second = budget.take(11, 9).unwrap();
        assert_eq!(budget.take(20, 1).unwrap_err(), Short::ForEver { most: 20 });
        drop((first, second));
        assert_eq!(budget.take(0, usize::MAX).unwrap_err(), Short::ForEver { most: 20 });
        let _other = budget.take(0, 1).unwrap();
        assert_eq!(budget.take(0, 11).unwrap_err(), Short::Now);
        assert!(budget.take(0, 9).is_ok());
    }
}
