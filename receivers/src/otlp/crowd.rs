//! How many connections there may be, among which those that are not used make way.
//!
//! Each takes a file descriptor. The process has a limited number of them, and without one it can neither send nor store
//! what it has, nor read its configuration. So clients may have three quarters of them. When these are taken, whoever has
//! no request under way is told to go: a client that has something to say comes again. While there is nobody to go, new
//! ones are turned away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Connection;

/// A connection that has said nothing yet has so long to do so before it makes way.
const WELCOME: Duration = Duration::from_secs(1);

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Places there are; an eighth more can be taken for the moment until somebody has gone.
    places: usize,
    taken: AtomicUsize,
    /// Counted up when somebody has to go.
    leave: watch::Sender<u64>,
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Crowd>);

impl Crowd {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, taken: AtomicUsize::new(0), leave: watch::Sender::new(0) })
    }

    /// All connections of the process, whose file descriptors are shared by all ports.
    pub(super) fn of_process() -> Arc<Self> {
        static CROWD: LazyLock<Arc<Crowd>> =
            LazyLock::new(|| Crowd::new(descriptors().map_or(usize::MAX, |n| n / 4 * 3)));
        Arc::clone(&CROWD)
    }

    /// A place for a new connection. If none is free, somebody who is idle is told to go; `None` if that has not helped.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before >= self.places {
            self.leave.send_modify(|times| *times = times.wrapping_add(1));
        }
        (before < self.places.saturating_add(self.places / 8).max(1)).then_some(place)
    }
}

impl Place {
    /// Resolves when somebody has to go and this connection has no request under way.
    pub(super) async fn must_leave(&self, connection: &Connection) {
        let Self(crowd) = self;
        let mut leave = crowd.leave.subscribe();
        // Its sender lives as long as the place.
        while leave.changed().await.is_ok() {
            if !connection.is_busy() && !connection.is_in_head() {
                return;
            }
        }
    }

    /// The same for a connection that has not begun.
    pub(super) async fn must_leave_unheard(&self) {
        let Self(crowd) = self;
        let (mut leave, began) = (crowd.leave.subscribe(), Instant::now());
        while leave.changed().await.is_ok() {
            if began.elapsed() >= WELCOME {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// File descriptors that the process may have.
#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok())
}

#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn places_are_free_again_when_a_connection_ends() {
        let crowd = Crowd::new(8);
        let mut places: Vec<_> = (0..9).map(|_| crowd.enter()).collect();
        assert!(places.iter().all(Option::is_some), "one more for the moment");
        assert!(crowd.enter().is_none());
        places.pop();
        assert!(crowd.enter().is_some());
        drop(places);
        assert_eq!(crowd.taken.load(Ordering::Relaxed), 0);
        assert!(Crowd::new(usize::MAX).enter().is_some());
        assert!(Crowd::new(0).enter().is_some(), "one is always let in");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_request_under_way_stays() {
        let crowd = Crowd::new(2);
        let (place, connection) = (crowd.enter().unwrap(), Connection::new(false));
        let mut leaves = std::pin::pin!(place.must_leave(&connection));
        let mut unheard = std::pin::pin!(place.must_leave_unheard());
        let _second = crowd.enter().unwrap();
        assert!((&mut leaves).now_or_never().is_none() && (&mut unheard).now_or_never().is_none(), "there is room");
        let busy = connection.begin();
        assert!(crowd.enter().is_none());
        assert!((&mut leaves).now_or_never().is_none(), "it has a request");
        assert!((&mut unheard).now_or_never().is_none(), "it has just come");
        drop(busy);
        assert!((&mut leaves).now_or_never().is_none(), "nobody asks any more");
        tokio::time::advance(WELCOME).await;
        assert!(crowd.enter().is_none());
        assert!(leaves.now_or_never().is_some() && unheard.now_or_never().is_some());
    }
}
