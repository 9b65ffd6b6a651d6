//! Listening sockets: one per lane and address, so that the kernel spreads connections over the lanes.

#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
#[cfg(unix)]
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use weir_pipeline::sockets::Sockets;

#[cfg(unix)]
pub(super) use self::unix::SocketFile;
use super::config::{Address, Endpoint};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket of one lane.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the file it stands for, which goes when the last lane lets go of it.
    #[cfg(unix)]
    Unix(UnixListener, Arc<SocketFile>),
}

impl Listener {
    /// Where it listens, if that is a port.
    pub(super) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(..) => Ok(None),
        }
    }
}

/// The files of sockets that are listened on.
#[derive(Debug, Default)]
pub(super) struct Files {
    #[cfg(unix)]
    files: Vec<std::sync::Weak<SocketFile>>,
}

impl Files {
    /// Remembers the file of a listener, if it has one.
    #[cfg_attr(not(unix), expect(clippy::unused_self, reason = "there are none"))]
    pub(super) fn note(&mut self, listener: &Listener) {
        match listener {
            Listener::Tcp(_) => {}
            #[cfg(unix)]
            Listener::Unix(_, file) => self.files.push(Arc::downgrade(file)),
        }
    }

    /// Whether there were files, and all have been taken away while somebody listens.
    ///
    /// Decision: not if only some have. The others are still listened on, and could not be listened on anew.
    pub(super) fn are_gone(&self) -> bool {
        #[cfg(unix)]
        {
            let mut files = self.files.iter().filter_map(std::sync::Weak::upgrade).peekable();
            files.peek().is_some() && files.all(|file| !file.is_there())
        }
        #[cfg(not(unix))]
        false
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Ok(()), |address| address.fmt(f)),
            #[cfg(unix)]
            Self::Unix(_, file) => file.path().display().fmt(f),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[cfg(unix)]
    #[error("{} is already in use: another collector?", .0.display())]
    SocketInUse(PathBuf),
    #[cfg(unix)]
    #[error("{} exists and is no socket: choose another path, or remove it", .0.display())]
    NoSocket(PathBuf),
    #[error("cannot listen on {}: {}", .0.display(), .1)]
    Path(PathBuf, io::Error),
    #[error("{0} is already in use: another collector?")]
    InUse(SocketAddr),
    #[error("cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, io::Error),
}

/// Opens `lanes` sockets on each address: the outer list is by address, the inner by lane. Those of a receiver that this
/// one replaces are in `sockets`.
pub(super) fn listen(address: &Address, lanes: usize, sockets: &Sockets) -> Result<Vec<Vec<Listener>>, ListenError> {
    match address {
        Address::Tcp(endpoint) => {
            let opened = listen_tcp(endpoint, lanes, sockets)?;
            Ok(opened.into_iter().map(|by_lane| by_lane.into_iter().map(Listener::Tcp).collect()).collect())
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(vec![unix::listen(path, lanes)?]),
        #[cfg(not(unix))]
        Address::Unix(path) => Err(ListenError::Path(path.clone(), io::ErrorKind::Unsupported.into())),
    }
}

fn listen_tcp(endpoint: &Endpoint, lanes: usize, sockets: &Sockets) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    let listen_on = |address| listen_on(address, lanes.max(1), sockets);
    let (mut addresses, optional) = resolve(endpoint)?;
    let first = listen_on(addresses.remove(0))?;
    // With port 0 the system chose one, and the second address follows.
    let port = first.first().and_then(|socket| socket.local_addr().ok()).map_or(endpoint.port, |at| at.port());
    let mut opened = vec![first];
    for mut address in addresses {
        address.set_port(port);
        match listen_on(address) {
            Ok(more) => opened.push(more),
            // A chosen port that is taken there is nobody's mistake; one that was asked for is.
            Err(ListenError::InUse(_)) if endpoint.port == 0 => {}
            Err(error @ ListenError::InUse(_)) => return Err(error),
            Err(error) if !optional => return Err(error),
            Err(error) => tracing::debug!("{error}"),
        }
    }
    Ok(opened)
}

/// The addresses of an endpoint, at least one; and whether all but the first may be missing.
fn resolve(endpoint: &Endpoint) -> Result<(Vec<SocketAddr>, bool), ListenError> {
    let port = endpoint.port;
    let loopback = || vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    match endpoint.host.as_str() {
        "localhost" => Ok((loopback(), true)),
        "" => {
            // As Go listens on `:4317`: everywhere, over both protocols if the machine has both.
            let all: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
            let has_v6 = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
            Ok((vec![if has_v6 { all } else { (Ipv4Addr::UNSPECIFIED, port).into() }], false))
        }
        host => {
            let failed = |error| ListenError::Resolve(endpoint.to_string(), error);
            let mut found: Vec<_> = (host, port).to_socket_addrs().map_err(failed)?.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            found.truncate(1);
            if found.is_empty() {
                return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
            }
            Ok((found, false))
        }
    }
}

fn listen_on(address: SocketAddr, lanes: usize, sockets: &Sockets) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Address(address, error),
    };
    sockets.listen(address, lanes, failed, || open_all(address, lanes).map_err(failed))
}

fn open_all(address: SocketAddr, lanes: usize) -> io::Result<Vec<TcpListener>> {
    if lanes == 1 || !cfg!(unix) {
        let socket = open(address, false)?;
        return (0..lanes).map(|_| socket.try_clone()).collect();
    }
    // Two processes of one user may share a port by SO_REUSEPORT, and each would get half of the connections. A socket
    // without the option is refused if anybody is there.
    if address.port() != 0 {
        drop(bind(address, false)?);
    }
    let first = open(address, true)?;
    let actual = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..lanes {
        sockets.push(open(actual, true)?);
    }
    Ok(sockets)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = bind(address, shared)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let SocketAddr::V6(v6) = address {
        // `[::]` means both protocols, as in Go; anything else must not claim the other protocol's port.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    // Without it a restart has to wait for the old connections' TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    #[test]
    fn every_lane_gets_a_socket_on_the_same_port() {
        for host in ["127.0.0.1", "localhost"] {
            let sockets = listen_tcp(&endpoint(host, 0), 3, &Sockets::default()).unwrap();
            let port = sockets[0][0].local_addr().unwrap().port();
            assert_ne!(port, 0);
            for socket in sockets.iter().flatten() {
                assert_eq!(socket.local_addr().unwrap().port(), port);
                assert!(socket.local_addr().unwrap().ip().is_loopback());
            }
            assert!(sockets.iter().all(|lanes| lanes.len() == 3));
        }
    }

    #[test]
    fn an_address_in_use_is_an_error_even_where_it_could_be_shared() {
        for (theirs, ours) in [(1, 1), (1, 4), (4, 1), (4, 4)] {
            let first = listen_tcp(&endpoint("127.0.0.1", 0), theirs, &Sockets::default()).unwrap();
            let address = first[0][0].local_addr().unwrap();
            let error = listen_tcp(&endpoint("127.0.0.1", address.port()), ours, &Sockets::default()).unwrap_err();
            assert_eq!(error.to_string(), format!("{address} is already in use: another collector?"));
            drop(first);
            listen_tcp(&endpoint("127.0.0.1", address.port()), ours, &Sockets::default()).unwrap();
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_an_error() {
        // A name that the resolver refuses without asking the network.
        let error = listen_tcp(&endpoint("a\0b", 1), 1, &Sockets::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve a\0b:1: "), "{error}");
    }
}
