//! Addresses to listen on, as configurations write them, and the sockets on them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;

use socket2::{Domain, Socket, Type};
use weir_pipeline::sockets::Sockets;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 64;

/// `host:port`; an empty host means every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; empty for all.
    pub host: String,
    /// 0 for one that is free.
    pub port: u16,
}

/// Why an endpoint cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{0} is already in use")]
    InUse(SocketAddr),
    /// The machine refuses.
    #[error("cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
    /// The name has no address.
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, io::Error),
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "is not `host:port`, such as `localhost:13133` or `0.0.0.0:13133`";
        let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let port = port.parse().map_err(|_| EXPECTED)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(EXPECTED),
            None if host.contains([':', '/', ' ', '[', ']']) => return Err(EXPECTED),
            None => host,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Endpoint {
    /// Opens a socket on each address, or takes over that of a component which is being replaced. `localhost` is both
    /// loopback addresses, where the machine has both.
    ///
    /// # Errors
    /// If the name has no address, or it cannot be listened on.
    pub fn listen(&self, sockets: &Sockets) -> Result<Vec<TcpListener>, ListenError> {
        let listen = |address| listen(address, sockets);
        if self.host == "localhost" {
            let first = listen((Ipv4Addr::LOCALHOST, self.port).into())?;
            let port = first.local_addr().map_or(self.port, |address| address.port());
            let second = match listen((Ipv6Addr::LOCALHOST, port).into()) {
                Ok(second) => Some(second),
                Err(error @ ListenError::InUse(_)) if self.port != 0 => return Err(error),
                Err(error) => {
                    tracing::debug!("{error}");
                    None
                }
            };
            return Ok(std::iter::once(first).chain(second).collect());
        }
        if self.host.is_empty() {
            // As Go listens on `:8888`: over both protocols if the machine has both.
            let has_v6 = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
            let all: IpAddr = if has_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            return Ok(vec![listen((all, self.port).into())?]);
        }
        let failed = |error| ListenError::Resolve(self.to_string(), error);
        let mut found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let nothing = || failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        Ok(vec![listen(*found.first().ok_or_else(nothing)?)?])
    }
}

fn listen(address: SocketAddr, sockets: &Sockets) -> Result<TcpListener, ListenError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        _ => ListenError::Address(address, error),
    };
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let SocketAddr::V6(v6) = address {
            socket.set_only_v6(!v6.ip().is_unspecified())?;
        }
        // Without it a restart has to wait for the old connections' TIME_WAIT.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(vec![socket.into()])
    };
    let mut opened = sockets.listen(address, 1, failed, || open().map_err(failed))?;
    opened.pop().ok_or_else(|| failed(io::ErrorKind::Other.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_the_collector_writes_them() {
        for (text, host, port) in [
            ("localhost:13133", "localhost", 13133),
            (":8888", "", 8888),
            ("0.0.0.0:0", "0.0.0.0", 0),
            ("[::1]:1777", "::1", 1777),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.to_string(), text);
        }
        for text in ["", "localhost", "8888", "localhost:", "localhost:99999", "http://localhost:1", "::1:80", "[x]:1"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_from_other_failures() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        for host in ["127.0.0.1", "localhost"] {
            let endpoint = Endpoint { host: host.to_owned(), port: address.port() };
            assert!(
                matches!(endpoint.listen(&Sockets::default()), Err(ListenError::InUse(a)) if a == address),
                "{host}"
            );
        }
        let nowhere = Endpoint { host: "a\0b".to_owned(), port: 1 };
        assert!(matches!(nowhere.listen(&Sockets::default()), Err(ListenError::Resolve(..))));
    }
}
