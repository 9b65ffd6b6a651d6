//! The calls of one HTTP/2 connection, which run in the connection's own task.
//!
//! hyper gives each call to an executor, and as a task of its own it would have its turn after all connections that are
//! ready have read: with a few dozen of them what a call has received is then no longer in any of the processor's caches.
//! Here a connection reads what there is and its calls go on at once, as over HTTP/1.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use futures::{FutureExt, StreamExt};
use tokio::task::{unconstrained, yield_now};

/// Calls that go on before other connections have their turn.
const TURN: usize = 32;

/// The calls under way. Those that are left when it is dropped, because the client is gone, go on by themselves: what a
/// pipeline has been given is counted.
pub(super) struct Calls {
    intake: Intake,
    under_way: FuturesUnordered<Call>,
    /// Whether some could not that can.
    are_waiting: bool,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

/// Takes calls from hyper.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<Mutex<Vec<BoxedCall>>>);

type BoxedCall = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Intake {
    fn execute(&self, call: F) {
        // As of a task: the other calls of the connection go on.
        let call = AssertUnwindSafe(call).catch_unwind().map(drop);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(call));
    }
}

impl Calls {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            intake: Intake::default(),
            under_way: FuturesUnordered::new(),
            are_waiting: false,
            waker: Arc::clone(&bell).into(),
            bell,
        }
    }

    /// Where new ones come from.
    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    fn take_in(&mut self) {
        let Self { intake: Intake(new), under_way, bell, .. } = self;
        let mut new = new.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.extend(new.drain(..).map(|call| Call { call, bell: Arc::clone(bell) }));
    }

    /// Lets those go on that can, which ends the turn.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        let Self { under_way, are_waiting, bell, waker, .. } = self;
        let mut calls_cx = Context::from_waker(waker);
        // What rang so far is looked at now.
        bell.rang();
        // However much the connection read: a client that never stops sending must not keep its calls from going on.
        loop {
            match pin!(unconstrained(under_way.next())).poll(&mut calls_cx) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(())) if !bell.is_turn_over() => {}
                // It rings as well where it has just looked at all of them.
                Poll::Pending if bell.rang() && !bell.is_turn_over() => {}
                _ => break,
            }
        }
        let were_waiting = std::mem::replace(are_waiting, bell.is_turn_over());
        let has_more = bell.end();
        if *are_waiting {
            // When everybody had a turn and what has arrived meanwhile is known.
            let is_later = pin!(yield_now()).poll(cx);
            debug_assert!(is_later.is_pending());
        } else if has_more || were_waiting {
            // The connection has not heard yet what it was woken for.
            cx.waker().wake_by_ref();
        }
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
    bell: Arc<Bell>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.bell.polled.fetch_add(1, Ordering::Relaxed) >= TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.call.as_mut().poll(cx)
    }
}

/// Wakes the connection's task for its calls, but not within its turn: they go on then anyway.
#[derive(Debug, Default)]
struct Bell {
    task: AtomicWaker,
    is_turn: AtomicBool,
    has_rung: AtomicBool,
    /// Calls that went on in this turn, or would have.
    polled: AtomicUsize,
}

impl Bell {
    fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.polled.store(0, Ordering::Relaxed);
        self.is_turn.store(true, Ordering::SeqCst);
    }

    fn is_turn_over(&self) -> bool {
        self.polled.load(Ordering::Relaxed) > TURN
    }

    /// Whether it rang since it was last asked.
    fn rang(&self) -> bool {
        self.has_rung.swap(false, Ordering::SeqCst)
    }

    /// The same, when it wakes the task again.
    fn end(&self) -> bool {
        self.is_turn.store(false, Ordering::SeqCst);
        self.rang()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::SeqCst);
        if !self.is_turn.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// Lets a connection read and write, and then its calls go on that can. HTTP/1 has none beside the connection.
pub(super) fn beside<'a, C>(connection: Pin<&'a mut C>, calls: &'a mut Option<Calls>) -> Beside<'a, C> {
    Beside { connection, calls: calls.as_mut() }
}

/// See [`beside`].
pub(super) struct Beside<'a, C> {
    connection: Pin<&'a mut C>,
    calls: Option<&'a mut Calls>,
}

impl<C: Future> Future for Beside<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Self { connection, calls } = &mut *self;
        let Some(calls) = calls else { return connection.as_mut().poll(cx) };
        calls.bell.begin(cx.waker());
        // Nothing new is read while others wait: a client may begin and reset any number of calls.
        if !calls.are_waiting
            && let Poll::Ready(ended) = connection.as_mut().poll(cx)
        {
            calls.bell.end();
            return Poll::Ready(ended);
        }
        calls.take_in();
        calls.go_on(cx);
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

    fn calls() -> (Option<Calls>, Intake) {
        let calls = Calls::new();
        let intake = calls.intake();
        (Some(calls), intake)
    }

    #[tokio::test]
    async fn a_call_runs_in_the_turn_in_which_it_came() {
        let (mut calls, intake) = calls();
        let (done, mut is_done) = oneshot::channel();
        let mut call = Some(async move { done.send(()).unwrap() });
        let mut connection = pin!(poll_fn(|_| {
            if let Some(call) = call.take() {
                intake.execute(call);
            }
            Poll::<()>::Pending
        }));
        let mut beside = beside(connection.as_mut(), &mut calls);
        let is_pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut beside).poll(cx).is_pending())).await;
        assert!(is_pending);
        is_done.try_recv().unwrap();
    }

    #[tokio::test]
    async fn calls_do_not_wait_for_each_other() {
        let (mut calls, intake) = calls();
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
        assert_eq!(beside(pin!(connection), &mut calls).await, [Some(2), Some(1)]);
    }

    #[tokio::test]
    async fn a_crowd_of_calls_lets_others_have_their_turn() {
        let (mut calls, intake) = calls();
        let ended = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 * TURN + 1 {
            let ended = Arc::clone(&ended);
            intake.execute(async move {
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        let polled = AtomicUsize::new(0);
        let mut connection = pin!(poll_fn(|_| {
            polled.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        }));
        let mut beside = beside(connection.as_mut(), &mut calls);
        let mut seen = Vec::new();
        // Each time it is woken, until it has been told twice that the connection may read.
        poll_fn(|cx| {
            let is_pending = Pin::new(&mut beside).poll(cx).is_pending();
            seen.push((polled.load(Ordering::Relaxed), ended.load(Ordering::Relaxed)));
            assert!(is_pending && seen.len() < 10);
            if polled.load(Ordering::Relaxed) == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let all = 2 * TURN + 1;
        assert_eq!(seen, [(1, TURN), (1, 2 * TURN), (1, all), (2, all)], "times the connection read, calls that ended");
    }

    #[tokio::test]
    async fn a_client_that_begins_calls_without_end_does_not_fill_the_memory() {
        const AT_ONCE: usize = 10 * TURN;
        let (mut calls, intake) = calls();
        let mut rounds = 0;
        let mut connection = pin!(poll_fn(|cx| {
            (0..AT_ONCE).for_each(|_| intake.execute(async {}));
            rounds += 1;
            cx.waker().wake_by_ref();
            if rounds == 50 { Poll::Ready(()) } else { Poll::Pending }
        }));
        poll_fn(|cx| {
            let is_over = beside(connection.as_mut(), &mut calls).poll_unpin(cx);
            assert!(calls.as_ref().unwrap().under_way.len() <= AT_ONCE);
            is_over
        })
        .await;
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let (mut calls, intake) = calls();
        let (other, is_done) = oneshot::channel();
        intake.execute(async { panic!("on purpose") });
        intake.execute(async move { other.send(()).unwrap() });
        beside(pin!(is_done), &mut calls).await.unwrap();
    }

    #[tokio::test]
    async fn calls_outlive_their_connection() {
        let (mut calls, intake) = calls();
        let (begun, has_begun) = oneshot::channel();
        let (release, released) = oneshot::channel::<()>();
        let (ended, has_ended) = oneshot::channel();
        intake.execute(async move {
            begun.send(()).unwrap();
            released.await.unwrap();
            ended.send(()).unwrap();
        });
        beside(pin!(has_begun), &mut calls).await.unwrap();
        let (late, has_come) = oneshot::channel();
        intake.execute(async move { late.send(()).unwrap() });
        drop(calls);
        has_come.await.unwrap();
        release.send(()).unwrap();
        has_ended.await.unwrap();
    }
}
