//! The pace that a client has to keep on one connection.
//!
//! Only there where the configuration asks for it: otherwise hyper's own limit on a request's head is all there is.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::connection::Connection;

/// Limits on a client's pace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// From a request's first byte to the end of its head; HTTP/1 only.
    pub(super) head: Option<Duration>,
    /// For the client to read something of what is sent.
    pub(super) write: Option<Duration>,
}

/// Watches the pace.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    reading: Timer,
    writing: Timer,
}

impl Pacer {
    /// A pacer for a connection whose first bytes are there already, if there is anything to watch.
    pub(super) fn new(pace: Pace, connection: &Connection) -> Option<Box<Self>> {
        if pace == Pace::default() {
            return None;
        }
        let mut reading = Timer::default();
        if pace.head.is_some() {
            connection.head_comes();
            reading.set(pace.head);
        }
        Some(Box::new(Self { pace, reading, writing: Timer::default() }))
    }

    /// Looks at an attempt to read that brought `bytes`.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<()>>,
        bytes: usize,
    ) -> Poll<io::Result<()>> {
        if self.pace.head.is_none() {
            return polled;
        }
        // Bodies have limits of their own, and so has the time between two requests.
        if bytes > 0 && !connection.is_busy() && connection.head_comes() {
            self.reading.set(self.pace.head);
        }
        if !connection.is_in_head() {
            self.reading.set(None);
        }
        self.reading.limit(cx, polled)
    }

    /// Looks at an attempt to write.
    pub(super) fn write<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing.set(None);
        } else if self.writing.0.is_none() {
            self.writing.set(self.pace.write);
        }
        self.writing.limit(cx, polled)
    }
}

/// Nothing, or a time that must not come.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn set(&mut self, limit: Option<Duration>) {
        match (&mut self.0, limit) {
            (Some(timer), Some(limit)) => timer.as_mut().reset(Instant::now() + limit),
            (none, Some(limit)) => *none = Some(Box::pin(sleep(limit))),
            (timer, None) => *timer = None,
        }
    }

    /// An error in place of waiting any longer.
    fn limit<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending()
            && let Some(timer) = &mut self.0
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Waits for bytes that never come.
    async fn wait(pacer: &mut Pacer, connection: &Connection) -> io::Result<()> {
        poll_fn(|cx| pacer.read(connection, cx, Poll::Pending, 0)).await
    }

    async fn bytes_come(pacer: &mut Pacer, connection: &Connection) {
        poll_fn(|cx| pacer.read(connection, cx, Poll::Ready(Ok(())), 1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_heads_are_limited() {
        let connection = Connection::new(true);
        let pace = Pace { head: Some(LIMIT), write: None };
        let mut pacer = Pacer::new(pace, &connection).unwrap();
        // A request, its answer and the wait for the next one may each take long.
        let busy = connection.begin();
        assert!(timeout(LIMIT * 100, wait(&mut pacer, &connection)).await.is_err());
        bytes_come(&mut pacer, &connection).await;
        drop(busy);
        assert!(timeout(LIMIT * 100, wait(&mut pacer, &connection)).await.is_err());
        // Also if nothing was read meanwhile that could have stopped the clock.
        bytes_come(&mut pacer, &connection).await;
        drop(connection.begin());
        assert!(timeout(LIMIT * 100, wait(&mut pacer, &connection)).await.is_err());
        // A head may not, even one that keeps coming.
        bytes_come(&mut pacer, &connection).await;
        for _ in 0..3 {
            advance(LIMIT / 4).await;
            bytes_come(&mut pacer, &connection).await;
        }
        let ended = timeout(LIMIT / 2, wait(&mut pacer, &connection)).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_limited_from_where_it_gets_stuck() {
        let pace = Pace { head: None, write: Some(LIMIT) };
        let mut pacer = Pacer::new(pace, &Connection::new(false)).unwrap();
        for _ in 0..3 {
            let stuck = poll_fn(|cx| pacer.write::<usize>(cx, Poll::Pending));
            assert!(timeout(LIMIT / 2, stuck).await.is_err());
            poll_fn(|cx| pacer.write(cx, Poll::Ready(Ok(1)))).await.unwrap();
        }
        let stuck = poll_fn(|cx| pacer.write::<usize>(cx, Poll::Pending));
        let ended = timeout(LIMIT * 2, stuck).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
