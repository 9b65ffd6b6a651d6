//! The first of a host's addresses that takes a connection (RFC 8305, "Happy Eyeballs").

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address is waited for before the next one is tried beside it; the RFC recommends this.
const HEAD_START: Duration = Duration::from_millis(250);

/// What names stand for.
#[derive(Debug, Clone, Default)]
pub(super) enum Names {
    /// What the system says.
    #[default]
    System,
    /// These addresses, whatever the name, which a test can change.
    #[cfg(test)]
    Fixed(std::sync::Arc<std::sync::Mutex<Vec<SocketAddr>>>),
}

impl Names {
    /// The addresses of a host, in the order in which they are to be tried.
    pub(super) async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(interleaved(tokio::net::lookup_host((host, port)).await?)),
            #[cfg(test)]
            Self::Fixed(addresses) => Ok(addresses.lock().unwrap().clone()),
        }
    }

    /// Whether a host is an address itself, which is not worth looking up again.
    pub(super) fn is_address(host: &str) -> bool {
        host.parse::<IpAddr>().is_ok()
    }
}

/// Connects to a host, by whichever of its addresses answers first: one family may lead nowhere.
pub(super) async fn dial(names: &Names, host: &str, port: u16) -> io::Result<TcpStream> {
    race(names.look_up(host, port).await?, TcpStream::connect, |error| error).await
}

/// The addresses in their order, which is the system's preference, but with the families in turn.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let is_first_ipv6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv6() == is_first_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

/// What `connect` makes of the first address with which it succeeds. Another is tried when one has failed, and when one
/// takes long. If all fail, the error is that of the first to do so. What is wrong with the race itself is said as `failed`
/// puts it: a name without addresses, an attempt that panicked.
pub(super) async fn race<T, E, C>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> C,
    failed: impl Fn(io::Error) -> E,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
    C: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut addresses = addresses.into_iter();
    // Those under way end when it is dropped.
    let mut attempts = JoinSet::new();
    let mut first_error = None;
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(connect(address));
        }
        let ended = match addresses.len() {
            0 => attempts.join_next().await,
            _ => match timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        let error = match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => failed(io::Error::other(error)),
            None => {
                let nowhere = || failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                return Err(first_error.unwrap_or_else(nowhere));
            }
        };
        first_error.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Addresses on port 1 never answer, on port 2 they refuse, on others they answer after so many milliseconds.
    async fn pretend(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => std::future::pending().await,
            2 => Err(io::Error::new(io::ErrorKind::ConnectionRefused, address.to_string())),
            ms => {
                tokio::time::sleep(Duration::from_millis(ms.into())).await;
                Ok(address)
            }
        }
    }

    #[test]
    fn families_take_turns() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let mixed = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
        assert_eq!(interleaved(given.into_iter()), mixed);
        let given = addresses(&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"]);
        assert_eq!(interleaved(given.into_iter()), addresses(&["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]));
        assert!(interleaved(std::iter::empty()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_or_refuses_is_passed_over() {
        for (given, winner, after) in [
            (&["[::1]:1", "[::2]:1", "127.0.0.1:30"][..], "127.0.0.1:30", 530),
            (&["[::1]:2", "127.0.0.1:30"], "127.0.0.1:30", 30),
            // Slow, but still first.
            (&["[::1]:260", "127.0.0.1:30"], "[::1]:260", 260),
            (&["[::1]:300", "127.0.0.1:30"], "127.0.0.1:30", 280),
            (&["127.0.0.1:999"], "127.0.0.1:999", 999),
        ] {
            let began = Instant::now();
            let connected = race(addresses(given), pretend, |error| error).await.unwrap();
            assert_eq!((connected.to_string().as_str(), began.elapsed().as_millis()), (winner, after), "{given:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_error_is_told_if_nobody_answers() {
        let error = race(addresses(&["[::1]:2", "127.0.0.1:2"]), pretend, |error| error).await.unwrap_err();
        assert_eq!(error.to_string(), "[::1]:2");
        let error = race(Vec::new(), pretend, |error| error).await.unwrap_err();
        assert_eq!(error.to_string(), "the name has no address");
    }

    #[tokio::test]
    async fn a_port_that_is_closed_leads_to_the_next_address() {
        let (closed, open) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await);
        let open = open.unwrap();
        let given = [&closed, &open].map(|listener| listener.local_addr().unwrap());
        drop(closed);
        let connected = race(given.to_vec(), TcpStream::connect, |error| error).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), given[1]);
    }
}
