//! The calls of one HTTP/2 connection, which run in the connection's own task.
//!
//! hyper gives each call to an executor, and as a task of its own it would have its turn after all connections that are
//! ready have read: with a few dozen of them what a call has received is then no longer in any of the processor's caches.
//! Here a connection reads what there is and its calls go on at once, as over HTTP/1.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::unconstrained;

/// Calls that go on before other connections have their turn: some milliseconds of work.
const TURN: usize = 32;

/// The calls under way. Those that are left when it is dropped, because the client is gone, go on by themselves: what a
/// pipeline has been given is counted.
#[derive(Default)]
pub(super) struct Calls {
    intake: Intake,
    under_way: FuturesUnordered<Call>,
    /// How many went on in this turn.
    polled: Arc<AtomicUsize>,
}

/// Takes calls from hyper.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<Mutex<Vec<BoxedCall>>>);

type BoxedCall = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Intake {
    fn execute(&self, call: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(call));
    }
}

impl Calls {
    /// Where new ones come from.
    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Lets the connection read and write, and then the calls go on that can.
    pub(super) fn beside<'a, C>(&'a mut self, connection: Pin<&'a mut C>) -> Beside<'a, C> {
        Beside { connection, calls: self }
    }

    fn take_in(&mut self) {
        let Self { intake: Intake(new), under_way, polled } = self;
        let mut new = new.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.extend(new.drain(..).map(|call| Call { call, polled: Arc::clone(polled) }));
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let new = std::mem::take(&mut *self.intake.0.lock().unwrap_or_else(PoisonError::into_inner));
        let old = std::mem::take(&mut self.under_way).into_iter().map(|Call { call, .. }| call);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        old.chain(new).for_each(|call| drop(runtime.spawn(call)));
    }
}

/// A call that waits if it is not its turn.
struct Call {
    call: BoxedCall,
    polled: Arc<AtomicUsize>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.polled.fetch_add(1, Ordering::Relaxed) >= TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.call.as_mut().poll(cx)
    }
}

/// See [`Calls::beside`].
pub(super) struct Beside<'a, C> {
    connection: Pin<&'a mut C>,
    calls: &'a mut Calls,
}

impl<C: Future> Future for Beside<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Self { connection, calls } = &mut *self;
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        calls.take_in();
        calls.polled.store(0, Ordering::Relaxed);
        // However much the connection read: a client that never stops sending must not keep its calls from going on.
        while let Poll::Ready(Some(())) = pin!(unconstrained(calls.under_way.next())).poll(cx) {}
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use hyper::rt::Executor;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn a_call_runs_in_the_turn_in_which_it_came() {
        let mut calls = Calls::default();
        let intake = calls.intake();
        let (done, mut is_done) = oneshot::channel();
        let mut call = Some(async move { done.send(()).unwrap() });
        let mut connection = pin!(poll_fn(|_| {
            if let Some(call) = call.take() {
                intake.execute(call);
            }
            Poll::<()>::Pending
        }));
        let mut beside = calls.beside(connection.as_mut());
        let is_pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut beside).poll(cx).is_pending())).await;
        assert!(is_pending);
        is_done.try_recv().unwrap();
    }

    #[tokio::test]
    async fn calls_do_not_wait_for_each_other() {
        let mut calls = Calls::default();
        let intake = calls.intake();
        let (ended, mut all_ended) = mpsc::unbounded_channel();
        let (release, released) = oneshot::channel::<()>();
        let first = ended.clone();
        intake.execute(async move {
            released.await.unwrap();
            first.send(1).unwrap();
        });
        intake.execute(async move {
            ended.send(2).unwrap();
            release.send(()).unwrap();
        });
        let connection = async { [all_ended.recv().await, all_ended.recv().await] };
        assert_eq!(calls.beside(pin!(connection)).await, [Some(2), Some(1)]);
    }

    #[tokio::test]
    async fn a_crowd_of_calls_lets_others_have_their_turn() {
        let mut calls = Calls::default();
        let intake = calls.intake();
        let (ended, mut all_ended) = mpsc::unbounded_channel();
        for n in 0..3 * TURN {
            let ended = ended.clone();
            intake.execute(async move { ended.send(n).unwrap() });
        }
        let mut in_turns = Vec::new();
        let connection = poll_fn(|cx| {
            let mut turn = Vec::new();
            while all_ended.poll_recv_many(cx, &mut turn, TURN).is_ready() {}
            in_turns.push(turn.len());
            if turn.contains(&(3 * TURN - 1)) { Poll::Ready(()) } else { Poll::Pending }
        });
        calls.beside(pin!(connection)).await;
        assert_eq!(in_turns, [0, TURN, TURN, TURN]);
    }

    #[tokio::test]
    async fn calls_outlive_their_connection() {
        let mut calls = Calls::default();
        let intake = calls.intake();
        let (begun, has_begun) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let (ended, has_ended) = oneshot::channel();
        intake.execute(async move {
            begun.send(()).unwrap();
            released.await.unwrap();
            ended.send(()).unwrap();
        });
        calls.beside(pin!(has_begun)).await.unwrap();
        let (late, has_come) = oneshot::channel();
        intake.execute(async move { late.send(()).unwrap() });
        drop(calls);
        has_come.await.unwrap();
        release.send(()).unwrap();
        has_ended.await.unwrap();
    }
}
