//! Connections between requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::body::Payload;

/// A connection and its number, by which it can be taken out of the pool.
pub(super) struct Pooled {
    pub(super) id: u64,
    pub(super) sender: Sender,
}

impl Pooled {
    /// A connection that was just made.
    pub(super) fn new(sender: Sender) -> Self {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Self { id: LAST_ID.fetch_add(1, Ordering::Relaxed), sender }
    }

    /// Another handle on the connection if it is open and can be shared.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http2(sender) if !sender.is_closed() => {
                Some(Self { id: self.id, sender: Sender::Http2(sender.clone()) })
            }
            Sender::Http1(_) | Sender::Http2(_) => None,
        }
    }
}

/// The way into a connection. Over HTTP/2 it can be shared.
pub(super) enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

/// Connections that can be used, the one used last at the end.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    /// `None`: connections are kept as long as the server keeps them.
    idle_timeout: Option<Duration>,
    /// How many are kept; `None`: all.
    max_idle: Option<usize>,
}

#[derive(Default)]
struct State {
    connections: Vec<(Pooled, Instant)>,
    /// Whether a task closes what nobody has used for long.
    is_watched: bool,
}

impl Pool {
    pub(super) fn new(idle_timeout: Option<Duration>, max_idle: Option<usize>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), idle_timeout, max_idle })
    }

    /// A connection that is open: over HTTP/2 a handle on the one that all share.
    pub(super) fn take(&self) -> Option<Pooled> {
        let mut state = self.state();
        while let Some((pooled, _)) = state.connections.pop() {
            if let Sender::Http1(sender) = &pooled.sender
                && !sender.is_closed()
            {
                return Some(pooled);
            }
            if let Some(shared) = pooled.share() {
                state.connections.push((pooled, Instant::now()));
                return Some(shared);
            }
        }
        None
    }

    /// Keeps a connection for the next request, unless there are enough of them.
    pub(super) fn put(self: &Arc<Self>, pooled: Pooled) {
        let mut state = self.state();
        if self.max_idle.is_some_and(|most| state.connections.len() >= most) {
            return;
        }
        state.connections.push((pooled, Instant::now()));
        if let (Some(idle_timeout), false) = (self.idle_timeout, state.is_watched) {
            state.is_watched = true;
            tokio::spawn(close_idle(Arc::downgrade(self), idle_timeout));
        }
    }

    /// Takes a connection out for good.
    pub(super) fn discard(&self, id: Option<u64>) {
        self.state().connections.retain(|(pooled, _)| Some(pooled.id) != id);
    }

    /// Connections kept now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().connections.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody has used for `idle_timeout`, as long as there is anything. A connection closes when its last
/// handle is dropped and the requests on it are through.
async fn close_idle(pool: Weak<Pool>, idle_timeout: Duration) {
    loop {
        let next = {
            let Some(pool) = pool.upgrade() else { return };
            let mut state = pool.state();
            state.connections.retain(|(_, used)| used.elapsed() < idle_timeout);
            let oldest = state.connections.iter().map(|(_, used)| *used).min();
            state.is_watched = oldest.is_some();
            oldest
        };
        let Some(oldest) = next else { return };
        tokio::time::sleep_until(oldest + idle_timeout).await;
    }
}
