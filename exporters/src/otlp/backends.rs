//! The servers behind one name, used in turn: gRPC's `round_robin`.
//!
//! HTTP/2 keeps one connection for everything and as long as it can. A name that stands for many servers, as that of a
//! headless service in Kubernetes does, would lead to one of them only. So there is a connection to each address:
//!
//! * The first is made to whichever address answers first, TLS included, by whoever needs it. The others are made beside
//!   it, and take their turns as soon as they are there: nobody waits for them.
//! * An address that does not answer has no turn. It is tried again after a pause, which doubles up to two minutes, and
//!   last of all. So is one that takes connections and answers no request; only an answer ends that.
//! * While requests go out, the name is looked up again every half minute. New addresses are connected to. One that is
//!   no longer named stays for five minutes if its connection does: some names stand for other addresses each time.
//!   If nothing is found, everything stays as it is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::client::{ClientError, Target};
use super::connect::open_at;
use super::dial::{Names, race};
use super::pool::Pooled;

/// After this a name may stand for others.
const FRESH: Duration = Duration::from_secs(30);
/// How long a connection is used to an address that is no longer named.
const KEPT: Duration = Duration::from_secs(300);
/// Addresses that are used at most.
const MAX_BACKENDS: usize = 128;
/// Pause after an address did not answer, doubled with each failure in a row …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this: gRPC's limits (its document "connection-backoff").
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// For a connection, where nothing else limits it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The connections to the servers of one name.
pub(super) struct Backends {
    target: Target,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    backends: Vec<Backend>,
    /// Whose turn is next.
    next: usize,
    /// When the name was last looked up.
    looked_up: Option<Instant>,
    is_looking_up: bool,
}

struct Backend {
    address: SocketAddr,
    connection: Option<Pooled>,
    is_connecting: bool,
    pause: Duration,
    /// When it may be tried again.
    due: Instant,
    /// Whether its connection has brought an answer.
    has_answered: bool,
    /// When the name last stood for it.
    named: Instant,
}

impl Backend {
    fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            connection: None,
            is_connecting: false,
            pause: Duration::ZERO,
            due: now,
            has_answered: false,
            named: now,
        }
    }
}

impl Backends {
    /// Those of a target; nothing is connected yet.
    pub(super) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self { target, state: Mutex::default() })
    }

    /// The connection whose turn it is, unless none is open. Sees to what is missing or may have changed.
    pub(super) fn take(self: &Arc<Self>) -> Option<Pooled> {
        let now = Instant::now();
        let mut state = self.state();
        if state.backends.is_empty() {
            return None;
        }
        if state.looked_up.is_none_or(|at| now.duration_since(at) >= FRESH)
            && !state.is_looking_up
            && !Names::is_address(&self.target.host)
        {
            state.is_looking_up = true;
            tokio::spawn(Self::look_up(Arc::downgrade(self), self.target.clone()));
        }
        // Where none is open, whoever asked connects, and waits for it.
        let (shared, due) = state.turn(now);
        if let Some(address) = due {
            tokio::spawn(Self::connect(Arc::downgrade(self), self.target.clone(), address));
        }
        shared
    }

    /// Opens a connection for who finds none open: to whichever address answers first, those last that have failed of
    /// late.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Pooled, ClientError> {
        let target = &self.target;
        let failed = |e| ClientError::Connect(target.address(), Arc::new(e));
        let addresses = target.names.look_up(&target.host, target.port).await.map_err(failed)?;
        let addresses = {
            let mut state = self.state();
            state.found(&addresses, Instant::now());
            state.by_failures(addresses)
        };
        let (tried, backends) = (Arc::new(self.target.clone()), Arc::downgrade(self));
        let open = move |address| {
            let (target, backends) = (Arc::clone(&tried), Weak::clone(&backends));
            async move {
                let opened = open_at(&target, address).await;
                if opened.is_err()
                    && let Some(backends) = backends.upgrade()
                    && let Some(backend) = backends.state().at(address)
                {
                    backend.has_failed();
                }
                opened.map(|sender| (sender, address))
            }
        };
        let (sender, address) = race(addresses, open, failed).await?;
        let opened = Pooled::new(sender);
        if let Some(shared) = opened.share()
            && let Some(backend) = self.state().at(address)
        {
            backend.has_opened(shared);
        }
        Ok(opened)
    }

    /// An answer has come on this connection.
    pub(super) fn answered(&self, id: u64) {
        let mut state = self.state();
        if let Some(backend) = state.of_connection(id)
            && !backend.has_answered
        {
            (backend.has_answered, backend.pause) = (true, Duration::ZERO);
        }
    }

    /// Takes a connection out for good, on which no answer came in time.
    pub(super) fn discard(&self, id: Option<u64>) {
        let mut state = self.state();
        if let Some(backend) = id.and_then(|id| state.of_connection(id)) {
            backend.connection = None;
            backend.has_failed();
        }
    }

    /// Connections that are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().backends.iter().filter(|backend| backend.connection.is_some()).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(backends: Weak<Self>, target: Target) {
        let found = timeout(PATIENCE, target.names.look_up(&target.host, target.port)).await;
        let Some(backends) = backends.upgrade() else { return };
        let found = found.ok().and_then(Result::ok).unwrap_or_default();
        backends.state().found(&found, Instant::now());
    }

    async fn connect(backends: Weak<Self>, target: Target, address: SocketAddr) {
        let limit = target.connect_timeout.unwrap_or(PATIENCE);
        let opened = timeout(limit, open_at(&target, address)).await;
        let opened = opened.unwrap_or_else(|_| Err(ClientError::ConnectTimeout(address.to_string())));
        let Some(backends) = backends.upgrade() else { return };
        let mut state = backends.state();
        // It may have gone while it was connected to.
        let Some(backend) = state.at(address) else { return };
        backend.is_connecting = false;
        match opened {
            Ok(sender) => backend.has_opened(Pooled::new(sender)),
            Err(error) => {
                tracing::debug!(%error, "one of the servers behind a name does not answer");
                backend.has_failed();
            }
        }
    }
}

impl Backend {
    /// A connection was made; that is not an answer yet.
    fn has_opened(&mut self, connection: Pooled) {
        self.connection = Some(connection);
        self.has_answered = false;
        // If it ends at once, the next one is not made at once.
        self.due = Instant::now() + self.pause.max(FIRST_PAUSE);
    }

    fn has_failed(&mut self) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.due = Instant::now() + self.pause;
    }
}

impl State {
    fn of_connection(&mut self, id: u64) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.connection.as_ref().is_some_and(|known| known.id == id))
    }

    fn at(&mut self, address: SocketAddr) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.address == address)
    }

    /// The addresses in their order, but those last that have failed, the more often the later.
    fn by_failures(&mut self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.sort_by_cached_key(|address| self.at(*address).map_or(Duration::ZERO, |backend| backend.pause));
        addresses
    }

    /// The next connection that is open, and of those before it an address to connect to, which is taken to be done.
    fn turn(&mut self, now: Instant) -> (Option<Pooled>, Option<SocketAddr>) {
        let (count, looked_up) = (self.backends.len(), self.looked_up);
        let mut due = None;
        for at in (self.next..).take(count).map(|at| at % count) {
            let Some(backend) = self.backends.get_mut(at) else { break };
            if let Some(shared) = backend.connection.as_ref().and_then(Pooled::share) {
                self.next = at + 1;
                let backend = due.and_then(|at: usize| self.backends.get_mut(at));
                let due = backend.map(|backend| {
                    backend.is_connecting = true;
                    backend.address
                });
                return (Some(shared), due);
            }
            if backend.connection.take().is_some() && !backend.has_answered {
                backend.has_failed();
            }
            let is_named = looked_up.is_none_or(|at| backend.named >= at);
            if due.is_none() && is_named && !backend.is_connecting && backend.due <= now {
                due = Some(at);
            }
        }
        (None, None)
    }

    /// Takes over what the name stands for.
    fn found(&mut self, addresses: &[SocketAddr], now: Instant) {
        self.is_looking_up = false;
        self.looked_up = Some(now);
        let is_known = |backend: &Backend| addresses.is_empty() || addresses.contains(&backend.address);
        self.backends.iter_mut().filter(|backend| is_known(backend)).for_each(|backend| backend.named = now);
        self.backends.retain(|backend| {
            backend.named == now || backend.connection.is_some() && now.duration_since(backend.named) < KEPT
        });
        for address in addresses {
            if self.backends.len() < MAX_BACKENDS && self.backends.iter().all(|known| known.address != *address) {
                self.backends.push(Backend::new(*address, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::super::pool::Sender;
    use super::*;

    fn at(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    /// A connection that is open as long as the other end of its pipe is there.
    async fn connection(open: &mut Vec<tokio::io::DuplexStream>) -> Pooled {
        let (near, far) = tokio::io::duplex(1 << 10);
        open.push(far);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
        tokio::spawn(async move { connection.await.is_ok() });
        Pooled::new(Sender::Http2(sender))
    }

    fn addresses(state: &State) -> Vec<u16> {
        state.backends.iter().map(|backend| backend.address.port()).collect()
    }

    #[tokio::test]
    async fn turns_are_of_those_that_are_open() {
        let (now, mut open) = (Instant::now(), Vec::new());
        let mut state = State::default();
        state.found(&[at(1), at(2), at(3)], now);
        assert!(matches!(state.turn(now), (None, None)), "whoever asked connects");
        let second = connection(&mut open).await;
        let id = second.id;
        state.backends[1].connection = Some(second);
        let turn = |state: &mut State, after: u64| {
            let (shared, due) = state.turn(now + Duration::from_secs(after));
            (shared.map(|shared| shared.id), due.map(|address| address.port()))
        };
        assert_eq!(turn(&mut state, 0), (Some(id), Some(1)));
        assert_eq!(turn(&mut state, 0), (Some(id), Some(3)));
        assert_eq!(turn(&mut state, 0), (Some(id), None), "both are being connected to");
        state.backends[0].is_connecting = false;
        state.backends[0].due = now + Duration::from_secs(2);
        assert_eq!(turn(&mut state, 1), (Some(id), None), "not yet");
        assert_eq!(turn(&mut state, 2), (Some(id), Some(1)));
        let third = connection(&mut open).await;
        let other = third.id;
        state.backends[2].connection = Some(third);
        let turns: Vec<_> = (0..4).map(|_| turn(&mut state, 0).0).collect();
        assert_eq!(turns, [Some(other), Some(id), Some(other), Some(id)]);
    }

    #[tokio::test]
    async fn what_a_name_stood_for_stays_for_a_while_if_it_is_connected() {
        let (now, mut open) = (Instant::now(), Vec::new());
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut state = State::default();
        state.found(&[at(1), at(2), at(3)], now);
        state.backends[0].connection = Some(connection(&mut open).await);
        state.backends[1].connection = Some(connection(&mut open).await);
        state.found(&[at(2), at(4)], after(30));
        assert_eq!(addresses(&state), [1, 2, 4], "nobody was connected to 3");
        state.found(&[], after(200));
        assert_eq!(addresses(&state), [1, 2, 4], "nothing was found");
        assert!(state.backends.iter().all(|backend| backend.named == after(200)));
        state.found(&[at(2)], after(499));
        assert_eq!(addresses(&state), [1, 2]);
        state.backends[0].connection = None;
        assert!(matches!(state.turn(after(499)), (Some(_), None)), "what is not named is not connected to");
        state.backends[0].connection = Some(connection(&mut open).await);
        state.found(&[at(2)], after(500));
        assert_eq!(addresses(&state), [2], "too long ago");
    }

    #[test]
    fn there_are_not_too_many() {
        let mut state = State::default();
        let all: Vec<_> = (0..1_000).map(at).collect();
        state.found(&all, Instant::now());
        assert_eq!(state.backends.len(), MAX_BACKENDS);
    }
}
