//! A socket whose writes are gathered.
//!
//! hyper's HTTP/2 writes and flushes each frame on its own, and most servers take frames of 16 KiB: a request of LLM
//! spans is a dozen system calls, each of which wakes the reader. Here they are copied to one buffer, and a task sends it
//! once everything else that was ready has had its turn.
//!
//! ```text
//! hyper ──write──► gathered ──swap──► under way ──► socket
//!                     ▲                               │
//!                     └──── waits while it is full ◄──┘
//! ```
//!
//! Measured (`benches/load`, loopback): a request of 170 KiB in one write takes about a third of the CPU of eleven.
//! What was written and could not be sent is reported to the next write; the reader notices a broken connection anyway.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use weir_pipeline::copy::append;

/// Bytes above which a write waits until the ones before are under way. More would not stay in a processor's cache.
const FULL: usize = 128 << 10;
/// A buffer that grew larger than this is not kept: one write may be of any size.
const KEPT: usize = 2 * FULL;
/// How long the rest may take that is left when the connection is dropped.
const LINGER: Duration = Duration::from_secs(5);

/// The connection as HTTP and TLS see it.
#[derive(Debug)]
pub(super) struct Gathering<R> {
    socket: R,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells the sending task that there is something to do.
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    gathered: Vec<u8>,
    /// Who waits for room, or for the end.
    waiting: Option<Waker>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Open,
    /// Nothing more will be written.
    Closing,
    /// Everything was sent and the sending side is shut down.
    Closed,
    /// The socket failed; told once, then it is just broken.
    Failed(Option<io::Error>),
}

impl<R> Gathering<R> {
    /// Takes over the halves of a socket. Its task ends with it.
    pub(super) fn new<W>((socket, sending): (R, W)) -> Self
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        tokio::spawn(send(Arc::clone(&shared), sending));
        Self { socket, shared }
    }

    /// Appends with `write` if there is room.
    fn gather(&self, cx: &Context<'_>, write: impl FnOnce(&mut Vec<u8>) -> usize) -> Poll<io::Result<usize>> {
        let mut state = self.shared.state();
        match &mut state.phase {
            Phase::Open => {}
            Phase::Failed(error) => {
                return Poll::Ready(Err(error.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())));
            }
            Phase::Closing | Phase::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        if state.gathered.len() >= FULL {
            state.wait(cx);
            return Poll::Pending;
        }
        let written = write(&mut state.gathered);
        drop(state);
        self.shared.work.notify_one();
        Poll::Ready(Ok(written))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gathering<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<R: Unpin> AsyncWrite for Gathering<R> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.gather(cx, |gathered| {
            append(gathered, buf);
            buf.len()
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.gather(cx, |gathered| {
            let before = gathered.len();
            bufs.iter().for_each(|buf| append(gathered, buf));
            gathered.len() - before
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way: nobody need wait for it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.state();
        match &mut state.phase {
            Phase::Closed => return Poll::Ready(Ok(())),
            Phase::Failed(error) => return Poll::Ready(error.take().map_or(Ok(()), Err)),
            phase => *phase = Phase::Closing,
        }
        state.wait(cx);
        drop(state);
        self.shared.work.notify_one();
        Poll::Pending
    }
}

impl<R> Drop for Gathering<R> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.waiting = None;
        if let Phase::Open = state.phase {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.shared.work.notify_one();
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends in this phase, and tells who waits.
    fn end(&self, phase: Phase) {
        let waiting = {
            let mut state = self.state();
            state.phase = phase;
            state.gathered = Vec::new();
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Swaps what is gathered for `sent`, which is empty; tells whether anything more can come.
    fn take(&self, sent: &mut Vec<u8>) -> bool {
        let (waiting, is_open) = {
            let mut state = self.state();
            std::mem::swap(&mut state.gathered, sent);
            let is_open = matches!(state.phase, Phase::Open);
            // At the end only `end` wakes.
            (if is_open { state.waiting.take() } else { None }, is_open)
        };
        waiting.into_iter().for_each(Waker::wake);
        is_open
    }
}

/// Sends what is gathered until the connection is closed.
async fn send(shared: Arc<Shared>, mut socket: impl AsyncWrite + Unpin) {
    let mut under_way = Vec::new();
    loop {
        let is_open = shared.take(&mut under_way);
        let sent = if is_open {
            socket.write_all(&under_way).await
        } else {
            let rest = async {
                socket.write_all(&under_way).await?;
                socket.shutdown().await
            };
            tokio::time::timeout(LINGER, rest).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match sent {
            Ok(()) if is_open => {}
            Ok(()) => return shared.end(Phase::Closed),
            Err(error) => return shared.end(Phase::Failed(Some(error))),
        }
        let has_more = !under_way.is_empty();
        under_way.clear();
        under_way.shrink_to(KEPT);
        if !has_more {
            shared.work.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::tcp::OwnedReadHalf;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Gathering<OwnedReadHalf>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Gathering::new(near.unwrap().into_split()), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_is_written_arrives_in_order_and_then_the_end() {
        let (mut near, mut far) = pair().await;
        // More than buffers and sockets hold, so that writes have to wait.
        let data: Vec<u8> = (0..32u32 << 20).map(|n| (n >> 3) as u8).collect();
        let expected = data.clone();
        let writer = tokio::spawn(async move {
            for (n, part) in data.chunks(100_000).enumerate() {
                match n % 2 {
                    0 => near.write_all(part).await.unwrap(),
                    _ => {
                        let (a, b) = part.split_at(part.len() / 3);
                        let mut slices = [io::IoSlice::new(a), io::IoSlice::new(b)];
                        let mut left = &mut slices[..];
                        while !left.is_empty() {
                            let written = near.write_vectored(left).await.unwrap();
                            io::IoSlice::advance_slices(&mut left, written);
                        }
                    }
                }
            }
            near.shutdown().await.unwrap();
            assert!(near.write(b"x").await.is_err(), "nothing can be written after the end");
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn the_rest_is_sent_when_the_connection_is_dropped() {
        let (mut near, mut far) = pair().await;
        near.write_all(&[7; 1000]).await.unwrap();
        drop(near);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [7; 1000]);
    }

    #[tokio::test]
    async fn reading_goes_on_beside_it() {
        let (mut near, mut far) = pair().await;
        far.write_all(b"pong").await.unwrap();
        near.write_all(b"ping").await.unwrap();
        let (mut to_near, mut to_far) = ([0; 4], [0; 4]);
        tokio::try_join!(near.read_exact(&mut to_near), far.read_exact(&mut to_far)).unwrap();
        assert_eq!((&to_near, &to_far), (b"pong", b"ping"));
    }

    #[tokio::test]
    async fn a_broken_connection_ends_writing() {
        let (mut near, far) = pair().await;
        far.set_zero_linger().unwrap();
        drop(far);
        let error = loop {
            if let Err(error) = near.write_all(&[0; 1000]).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    }
}
