//! What is known of one connection: whether it is in use, and since when it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::config::Lifetime;

/// Shared by a connection's socket, its requests and its end. All of them run in one lane, so nothing here contends.
#[derive(Debug)]
pub(super) struct Connection {
    began: Instant,
    /// Whether anybody asks how long it has been idle.
    is_timed: bool,
    /// Requests under way.
    open: AtomicU32,
    /// Whether a part of a request's head has come, and no more.
    in_head: AtomicBool,
    /// Milliseconds from the beginning to the last time no request was under way.
    idle_since: AtomicU64,
    /// Milliseconds from the beginning to the first byte of the last request.
    request_began: AtomicU64,
    /// Whether the peer may still be sending what was refused.
    lingers: AtomicBool,
    first: Notify,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

/// Why a connection is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Idle,
    /// With the grace that requests under way have.
    Old(Option<Duration>),
    /// Somebody else needs its place.
    Crowded,
}

impl Connection {
    pub(super) fn new(is_timed: bool) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            is_timed,
            open: AtomicU32::new(0),
            in_head: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            request_began: AtomicU64::new(0),
            lingers: AtomicBool::new(false),
            first: Notify::new(),
        })
    }

    /// Begins a request, which ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.in_head.store(false, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Whether a part of a request's head has come, and no more.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    /// Remembers that bytes of a request's head have come; whether they are the first.
    pub(super) fn head_comes(&self) -> bool {
        let is_first = !self.in_head.swap(true, Ordering::Relaxed);
        if is_first {
            self.request_began.store(self.elapsed(), Ordering::Relaxed);
        }
        is_first
    }

    pub(super) fn request_began(&self) -> Instant {
        self.began + Duration::from_millis(self.request_began.load(Ordering::Relaxed))
    }

    pub(super) fn set_lingers(&self, lingers: bool) {
        self.lingers.store(lingers, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Resolves when the first request has come.
    pub(super) async fn first_request(&self) {
        self.first.notified().await;
    }

    pub(super) fn notify_first_request(&self) {
        self.first.notify_one();
    }

    /// Resolves when the connection has lasted long enough. `stretch` makes connections that began together end one
    /// after the other: it multiplies the age.
    pub(super) async fn outlives(&self, lifetime: &Lifetime, stretch: f64) -> End {
        let old = lifetime.max_age.and_then(|age| self.began.checked_add(age.mul_f64(stretch)));
        loop {
            let idle = lifetime.max_idle.and_then(|limit| self.idle_since().checked_add(limit));
            let Some(next) = old.into_iter().chain(idle).min() else { return std::future::pending().await };
            sleep_until(next).await;
            let now = Instant::now();
            if old.is_some_and(|old| old <= now) {
                return End::Old(lifetime.max_age_grace);
            }
            // A request may have come and gone meanwhile.
            if lifetime.max_idle.is_some_and(|limit| self.idle_since() + limit <= now) {
                return End::Idle;
            }
        }
    }

    /// The last time that no request was under way; now if one is, or begins.
    fn idle_since(&self) -> Instant {
        if self.is_busy() || self.is_in_head() {
            Instant::now()
        } else {
            self.began + Duration::from_millis(self.idle_since.load(Ordering::Relaxed))
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Busy {
    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(connection) = self;
        if connection.is_timed {
            connection.idle_since.store(connection.elapsed(), Ordering::Relaxed);
        }
        connection.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_limits_lasts() {
        let connection = Connection::new(false);
        let ended = tokio::time::timeout(SECOND * 1_000_000, connection.outlives(&Lifetime::default(), 1.0)).await;
        assert!(ended.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_last_request() {
        let connection = Connection::new(true);
        let began = Instant::now();
        let lifetime = Lifetime { max_idle: Some(SECOND * 10), ..Lifetime::default() };
        let busy = connection.begin();
        let worker = tokio::spawn(async move {
            tokio::time::sleep(SECOND * 25).await;
            drop(busy);
        });
        assert_eq!(connection.outlives(&lifetime, 1.0).await, End::Idle);
        assert_eq!(began.elapsed().as_secs(), 35);
        worker.await.unwrap();
        assert!(!connection.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_request_begins_is_not_idle() {
        let connection = Connection::new(true);
        let lifetime = Lifetime { max_idle: Some(SECOND * 10), ..Lifetime::default() };
        tokio::time::advance(SECOND * 4).await;
        assert!(connection.head_comes() && !connection.head_comes());
        assert_eq!(connection.request_began(), connection.began + SECOND * 4);
        assert!(tokio::time::timeout(SECOND * 1000, connection.outlives(&lifetime, 1.0)).await.is_err());
        drop(connection.begin());
        let began = Instant::now();
        assert_eq!(connection.outlives(&lifetime, 1.0).await, End::Idle);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert!(connection.head_comes(), "the next one");
    }

    #[tokio::test(start_paused = true)]
    async fn age_counts_whether_busy_or_not() {
        let connection = Connection::new(true);
        let began = Instant::now();
        let grace = Some(SECOND * 3);
        let lifetime = Lifetime {
            max_age: Some(SECOND * 100),
            max_age_grace: grace,
            max_idle: Some(SECOND * 60),
            ..Lifetime::default()
        };
        let busy = connection.begin();
        assert_eq!(connection.outlives(&lifetime, 0.9).await, End::Old(grace));
        assert_eq!(began.elapsed().as_secs(), 90);
        drop(busy);
    }
}
