//! Room for a limited number of connections, in which idle ones make way.
//!
//! A client that connects and says nothing costs next to nothing, but it must not keep out one that asks. So when all
//! seats are taken and somebody comes, another loses its seat to it, at once: one that has sent a part of a head, which
//! no client that asks for a page does for long; else whoever has been without a request for longest; else whoever has
//! been sending its body for longest. Only a request that is being answered keeps its seat; if all are, who comes waits.
//!
//! Who has lost its seat may have sent its request already, where nobody has looked yet. It gets a seat again with it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The seats of a server.
#[derive(Debug)]
pub(super) struct Room {
    seats: usize,
    state: Mutex<State>,
    /// Somebody has gone, or can.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: HashMap<u64, Taken>,
    /// Numbers seats and what happens on them, in the order of time.
    clock: u64,
}

#[derive(Debug)]
struct Taken {
    stage: Stage,
    /// When the stage began.
    since: u64,
    /// Whether another has got the seat.
    is_lost: bool,
    leave: Arc<Notify>,
}

/// What a connection is about. Earlier ones leave first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A part of the head of a request has come.
    Begun,
    /// There is no request; an answer may still be on its way.
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
}

impl Room {
    /// Room for so many.
    pub(super) fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self { seats, state: Mutex::default(), changed: Notify::new() })
    }

    /// A seat, as soon as there is one.
    pub(super) async fn enter(self: &Arc<Self>) -> Seat {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on, so that nothing is missed while it is looked.
            changed.as_mut().enable();
            if let Some(seat) = self.try_enter() {
                return seat;
            }
            changed.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state();
        if !state.make_way(self.seats) {
            return None;
        }
        let leave = Arc::new(Notify::new());
        let number = state.tick();
        let taken = Taken { stage: Stage::Idle, since: number, is_lost: false, leave: Arc::clone(&leave) };
        state.taken.insert(number, taken);
        Some(Seat { room: Arc::clone(self), number, leave })
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

    /// Makes room for one more of so many; whether there is.
    fn make_way(&mut self, seats: usize) -> bool {
        if self.taken.values().filter(|taken| !taken.is_lost).count() < seats {
            return true;
        }
        let can = self.taken.values_mut().filter(|taken| !taken.is_lost && taken.stage < Stage::Answering);
        let Some(first) = can.min_by_key(|taken| (taken.stage, taken.since)) else { return false };
        first.is_lost = true;
        first.leave.notify_one();
        true
    }
}

impl Seat {
    /// Says what the connection is about from now on. Returns whether it has a seat: with a request it gets one again, if
    /// it can be had.
    pub(super) fn at(&self, stage: Stage) -> bool {
        let mut state = self.room.state();
        let since = state.tick();
        let is_lost = state.taken.get(&self.number).is_none_or(|taken| taken.is_lost);
        let is_lost = is_lost && !(stage > Stage::Idle && state.make_way(self.room.seats));
        if let Some(taken) = state.taken.get_mut(&self.number) {
            (taken.stage, taken.since, taken.is_lost) = (stage, since, is_lost);
        }
        drop(state);
        if stage < Stage::Answering {
            self.room.changed.notify_waiters();
        }
        !is_lost
    }

    /// Says that something of a request has come. What is known of it already stays as it is.
    pub(super) fn has_begun(&self) {
        if self.room.state().taken.get(&self.number).is_some_and(|taken| taken.stage == Stage::Idle) {
            self.at(Stage::Begun);
        }
    }

    /// Whether another has got it.
    pub(super) fn is_lost(&self) -> bool {
        self.room.state().taken.get(&self.number).is_none_or(|taken| taken.is_lost)
    }

    /// Resolves when another has got it, or had for a moment.
    pub(super) async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.state().taken.remove(&self.number);
        self.room.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn half_a_head_makes_way_first_and_then_who_was_idle_for_longest() {
        let room = Room::new(5);
        let seats: [Seat; 5] = seats(&room);
        seats[0].at(Stage::Answering);
        seats[0].at(Stage::Idle);
        seats[1].at(Stage::Receiving);
        seats[3].at(Stage::Answering);
        seats[4].has_begun();
        // Not the head of another.
        seats[1].has_begun();
        assert!(told(&seats).is_empty());
        let mut entered = Vec::new();
        for expected in [4, 2, 0, 1] {
            let seat = at_once(room.enter()).expect("it need not wait");
            seat.at(Stage::Answering);
            entered.push(seat);
            assert_eq!(told(&seats), [expected]);
            assert!(seats[expected].is_lost());
        }
        let mut late = Box::pin(room.enter());
        assert!(at_once(late.as_mut()).is_none());
        assert!(told(&seats).is_empty() && !seats[3].is_lost(), "who is being answered stays");
        seats[3].at(Stage::Idle);
        let late = at_once(late).unwrap();
        assert_eq!(told(&seats), [3]);
        drop((seats, entered, late));
        assert!(room.state().taken.is_empty());
    }

    #[test]
    fn who_goes_leaves_room_for_who_waits() {
        let room = Room::new(1);
        let [seat] = seats(&room);
        seat.at(Stage::Answering);
        let (mut first, mut second) = (Box::pin(room.enter()), Box::pin(room.enter()));
        assert!(at_once(first.as_mut()).is_none() && at_once(second.as_mut()).is_none());
        drop(seat);
        let first = at_once(first).unwrap();
        first.at(Stage::Answering);
        assert!(at_once(second.as_mut()).is_none());
        first.at(Stage::Idle);
        assert!(at_once(second).is_some() && first.is_lost());
    }

    #[test]
    fn a_request_that_had_come_gets_a_seat_again_and_no_more_than_there_are() {
        let room = Room::new(2);
        let [first, second] = seats(&room);
        let third = at_once(room.enter()).unwrap();
        assert!(first.is_lost() && !second.is_lost());
        assert!(!first.at(Stage::Idle), "for nothing it gets none");
        assert!(first.at(Stage::Receiving) && !first.is_lost() && second.is_lost());
        assert!(first.at(Stage::Answering) && third.at(Stage::Answering));
        assert!(!second.at(Stage::Receiving), "all are being answered");
        drop(third);
        assert!(second.at(Stage::Receiving));
    }
}
