//! Listening sockets that outlive the components which listen on them.
//!
//! When a configuration is loaded anew and a component is replaced by another that listens on the same address, the new
//! one gets copies of the old one's sockets. They share one queue of connections in the kernel, so that no client is
//! refused in between.
//!
//! An address belongs to the component that opened it. Only while that component is about to go may another have it;
//! anybody else finds the address in use, as with any other process.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sockets of the process, as one component sees them.
#[derive(Clone)]
pub struct Sockets {
    shared: Arc<Shared>,
    owner: u64,
}

#[derive(Default)]
struct Shared {
    next_owner: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// Components that are about to go.
    leaving: BTreeSet<u64>,
    /// The process stops.
    is_closed: bool,
}

struct Entry {
    /// What was asked for: the port may be 0.
    asked: SocketAddr,
    sockets: Vec<TcpListener>,
    owners: BTreeSet<u64>,
}

impl Default for Sockets {
    fn default() -> Self {
        let shared = Arc::new(Shared::default());
        shared.next_owner.store(1, Ordering::Relaxed);
        Self { shared, owner: 0 }
    }
}

impl Sockets {
    /// The same sockets, for another component.
    #[must_use]
    pub fn for_another(&self) -> Self {
        let owner = self.shared.next_owner.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), owner }
    }

    /// `count` sockets that listen on `address`: copies of those of a component that is about to go, or else what
    /// `open` opens.
    ///
    /// # Errors
    /// Those of `open`; and whatever `failed` makes of a socket that cannot be copied, or of a process that stops.
    pub fn listen<E>(
        &self,
        address: SocketAddr,
        count: usize,
        failed: impl Fn(std::io::Error) -> E,
        open: impl FnOnce() -> Result<Vec<TcpListener>, E>,
    ) -> Result<Vec<TcpListener>, E> {
        let copies =
            |sockets: &[TcpListener]| sockets.iter().map(TcpListener::try_clone).collect::<Result<Vec<_>, _>>();
        let mut state = self.state();
        if state.is_closed {
            return Err(failed(std::io::Error::other("the process is stopping")));
        }
        let State { entries, leaving, .. } = &mut *state;
        let is_free = |entry: &&mut Entry| {
            let is_there = entry.asked == address
                || entry.sockets.first().is_some_and(|socket| socket.local_addr().is_ok_and(|a| a == address));
            is_there && entry.sockets.len() == count && entry.owners.is_subset(leaving)
        };
        if let Some(entry) = entries.iter_mut().find(is_free) {
            let sockets = copies(&entry.sockets).map_err(failed)?;
            entry.owners.insert(self.owner);
            return Ok(sockets);
        }
        let sockets = open()?;
        let kept = copies(&sockets).map_err(failed)?;
        entries.push(Entry { asked: address, sockets: kept, owners: BTreeSet::from([self.owner]) });
        Ok(sockets)
    }

    /// Says that this component is about to go: whoever comes may have its addresses.
    pub fn leave(&self) {
        self.state().leaving.insert(self.owner);
    }

    /// Says that it stays after all.
    pub fn stay(&self) {
        self.state().leaving.remove(&self.owner);
    }

    /// Lets go of what this component listens on; sockets that nobody else has are closed here. Its own copies it
    /// closes itself.
    pub fn release(&self) {
        let mut state = self.state();
        state.leaving.remove(&self.owner);
        for entry in &mut state.entries {
            entry.owners.remove(&self.owner);
        }
        state.entries.retain(|entry| !entry.owners.is_empty());
    }

    /// Lets go of everything: the process stops, and nobody comes after, not even who is on the way.
    pub fn close_all(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.entries.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("owner", &self.owner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    fn open(sockets: &Sockets, address: SocketAddr) -> Result<TcpListener, Error> {
        let bind = || Ok(vec![TcpListener::bind(address)?]);
        sockets.listen(address, 1, |error| error, bind).map(|mut sockets| sockets.remove(0))
    }

    #[test]
    fn only_who_comes_after_one_that_goes_gets_its_sockets() {
        let first = Sockets::default().for_another();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = open(&first, any).unwrap();
        let address = socket.local_addr().unwrap();
        let second = first.for_another();
        assert_eq!(open(&second, address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        first.leave();
        let copy = open(&second, address).unwrap();
        // Each address is given away once: a third finds another free port, and this one in use.
        let third = first.for_another();
        assert_ne!(open(&third, any).unwrap().local_addr().unwrap(), address);
        assert_eq!(open(&third, address).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        drop(socket);
        first.release();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(copy.accept().unwrap().1, client.local_addr().unwrap());
        drop((copy, client));
        second.release();
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens there any more");
    }

    #[test]
    fn who_stays_keeps_its_sockets_and_the_end_closes_all() {
        let first = Sockets::default().for_another();
        let socket = open(&first, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        first.leave();
        let second = first.for_another();
        drop(open(&second, address).unwrap());
        second.release();
        first.stay();
        assert!(open(&second, address).is_err());
        first.close_all();
        drop(socket);
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(open(&second, "127.0.0.1:0".parse().unwrap()).unwrap_err().to_string().contains("stopping"));
    }
}
