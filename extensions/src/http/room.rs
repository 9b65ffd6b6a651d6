//! Room for a limited number of connections, in which idle ones make way.
//!
//! A client that connects and says nothing costs next to nothing, but it must not keep out one that asks. So when all
//! seats are taken and somebody waits, whoever has been without a request for longest has to leave; if all have one,
//! whoever has been sending its body for longest. Only a request that is being answered keeps its seat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The seats of a server.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: HashMap<u64, Taken>,
    /// Connections without a seat.
    waiting: usize,
    /// Numbers seats and what happens on them, in the order of time.
    clock: u64,
}

#[derive(Debug)]
struct Taken {
    stage: Stage,
    /// When the stage began.
    since: u64,
    /// Whether it has been told to.
    leaves: bool,
    leave: Arc<Notify>,
}

/// What a connection is about. Earlier ones leave first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There is no request, or not its whole head; an answer may still be on its way.
    Idle,
    /// The body of a request is on its way.
    Receiving,
    /// A request is being answered.
    Answering,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    number: u64,
    leave: Arc<Notify>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// One who waits, until this is dropped.
struct Waiting<'r>(&'r Room);

impl Room {
    /// Room for so many.
    pub(super) fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(seats)), state: Mutex::default() })
    }

    /// A seat, as soon as there is one.
    pub(super) async fn enter(self: &Arc<Self>) -> Seat {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let _waiting = Waiting::begin(self);
                // The semaphore is never closed.
                Arc::clone(&self.free).acquire_owned().await.ok()
            }
        };
        let leave = Arc::new(Notify::new());
        let mut state = self.state();
        let number = state.tick();
        let taken = Taken { stage: Stage::Idle, since: number, leaves: false, leave: Arc::clone(&leave) };
        state.taken.insert(number, taken);
        state.make_way();
        drop(state);
        Seat { room: Arc::clone(self), number, leave, _permit: permit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Tells as many to leave as there are waiting, if there are as many that can.
    fn make_way(&mut self) {
        let mut leaving = self.taken.values().filter(|taken| taken.leaves).count();
        while leaving < self.waiting {
            let can = self.taken.values_mut().filter(|taken| !taken.leaves && taken.stage < Stage::Answering);
            let Some(first) = can.min_by_key(|taken| (taken.stage, taken.since)) else { return };
            first.leaves = true;
            first.leave.notify_one();
            leaving += 1;
        }
    }
}

impl<'r> Waiting<'r> {
    fn begin(room: &'r Room) -> Self {
        let mut state = room.state();
        state.waiting += 1;
        state.make_way();
        Self(room)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Seat {
    /// Says what the connection is about from now on.
    pub(super) fn at(&self, stage: Stage) {
        let mut state = self.room.state();
        let since = state.tick();
        if let Some(taken) = state.taken.get_mut(&self.number) {
            (taken.stage, taken.since) = (stage, since);
        }
        state.make_way();
    }

    /// Whether that is what it is about.
    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.room.state().taken.get(&self.number).is_some_and(|taken| taken.stage == stage)
    }

    /// Resolves when somebody else needs the seat more.
    pub(super) async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The permit comes after this: whoever gets it finds the seat free.
        self.room.state().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn seats<const N: usize>(room: &Arc<Room>) -> [Seat; N] {
        std::array::from_fn(|_| at_once(room.enter()).unwrap())
    }

    /// Who is told to leave, once each.
    fn told(seats: &[Seat]) -> Vec<usize> {
        (0..seats.len()).filter(|&n| at_once(seats[n].is_needed()).is_some()).collect()
    }

    #[tokio::test]
    async fn who_was_idle_for_longest_makes_way_and_nobody_else() {
        let room = Room::new(4);
        let seats: [Seat; 4] = seats(&room);
        seats[0].at(Stage::Answering);
        seats[0].at(Stage::Idle);
        seats[1].at(Stage::Receiving);
        seats[3].at(Stage::Answering);
        assert!(told(&seats).is_empty());
        let expected = [2, 0, 1];
        let mut entering: Vec<_> = expected.iter().map(|_| Box::pin(room.enter())).collect();
        for (enter, expected) in entering.iter_mut().zip(expected) {
            assert!(at_once(enter.as_mut()).is_none());
            assert_eq!(told(&seats), [expected]);
        }
        let mut late = Box::pin(room.enter());
        assert!(at_once(late.as_mut()).is_none());
        assert!(told(&seats).is_empty(), "who is being answered stays");
        seats[3].at(Stage::Idle);
        assert_eq!(told(&seats), [3]);
        drop(seats);
        for enter in entering {
            enter.await;
        }
        late.await;
        let state = room.state();
        assert_eq!((state.taken.len(), state.waiting, room.free.available_permits()), (0, 0, 4));
    }

    #[tokio::test]
    async fn who_no_longer_waits_drives_nobody_out() {
        let room = Room::new(1);
        let seats: [Seat; 1] = seats(&room);
        seats[0].at(Stage::Answering);
        {
            let mut enter = Box::pin(room.enter());
            assert!(at_once(enter.as_mut()).is_none());
        }
        seats[0].at(Stage::Idle);
        assert!(told(&seats).is_empty());
    }
}
