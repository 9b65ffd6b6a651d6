//! A socket that joins small pieces before it writes them.
//!
//! A batch that was changed comes in hundreds of pieces ([`weir_pipeline::batch::Encoded`]), and the system takes longer
//! to look after each than to copy it. They are copied to one buffer, which is small enough to stay in a processor's
//! cache, and written from there when it is full or flushed: each write wakes the reader, which costs more than copying
//! a few dozen kilobytes. A piece that is large goes out as it is.
//!
//! HTTP/1 only: it hands over a request in a few calls and flushes it once. HTTP/2 flushes each frame, see
//! [`gather`](super::gather).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weir_pipeline::copy::append;

/// Bytes that are joined at most after a flush: a usual request.
const FIRST: usize = 256 << 10;
/// Bytes that are joined at most of what is longer: these stay in the cache while the reader begins to read.
const FULL: usize = 64 << 10;
/// A piece of this size is written as it is.
const LARGE: usize = 16 << 10;

/// A connection that is written in pieces.
#[derive(Debug)]
pub(super) struct Joining<S> {
    socket: S,
    joined: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    /// Bytes that are joined at most now.
    limit: usize,
}

impl<S: AsyncWrite + Unpin> Joining<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, joined: Vec::new(), written: 0, limit: FIRST }
    }

    /// Writes what is joined.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.joined.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.joined.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Joining<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Joining<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let filled = || bufs.iter().filter(|buf| !buf.is_empty());
        // A request's head before a body in one piece goes out with it.
        if filled().take(2).any(|buf| buf.len() >= LARGE) {
            ready!(self.poll_rest(cx))?;
            return Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        }
        // Before the buffer is full, there may be more to write with what is in it.
        let next = filled().next().map_or(0, |buf| buf.len());
        if self.written > 0 || self.joined.len() + next > self.limit {
            ready!(self.poll_rest(cx))?;
            self.limit = FULL;
        }
        let Self { joined, limit, .. } = &mut *self;
        let before = joined.len();
        for buf in bufs {
            let len = joined.len() + buf.len();
            if buf.len() >= LARGE || len > *limit {
                break;
            }
            if len > joined.capacity() {
                // As a vector grows, but not beyond what is ever joined.
                joined.reserve_exact((2 * len).min(FIRST) - joined.len());
            }
            append(joined, buf);
        }
        Poll::Ready(Ok(joined.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        self.limit = FIRST;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn pieces_of_any_size_arrive_in_order() {
        // Less than a piece fits the pipe, so that most writes are of a part.
        let (near, mut far) = tokio::io::duplex(1000);
        let mut near = Joining::new(near);
        let data: Vec<u8> = (0..2_000_000_u32).map(|n| (n >> 3) as u8).collect();
        let expected = data.clone();
        let writer = tokio::spawn(async move {
            let mut rest = &data[..];
            for len in [1, 300, LARGE - 1, LARGE, LARGE + 1, FULL, FIRST, 3 * FULL, 7].into_iter().cycle() {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                let (first, second) = piece.split_at(piece.len() / 3);
                let mut slices = [IoSlice::new(first), IoSlice::new(second)];
                let mut left = &mut slices[..];
                IoSlice::advance_slices(&mut left, 0);
                while !left.is_empty() {
                    let written = near.write_vectored(left).await.unwrap();
                    assert!(written > 0);
                    IoSlice::advance_slices(&mut left, written);
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            near.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_flush_waits_until_all_is_written() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = Joining::new(near);
        assert_eq!(near.write(&[7; 100]).await.unwrap(), 100);
        let reader = async {
            let mut all = [0; 100];
            far.read_exact(&mut all).await.unwrap();
            all
        };
        let (flushed, all) = tokio::join!(near.flush(), reader);
        flushed.unwrap();
        assert_eq!(all, [7; 100]);
    }

    /// A socket that takes everything, and how much each write gave it.
    #[derive(Default)]
    struct Sink(Vec<usize>);

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(buf.len());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_pieces_wait_for_a_flush() {
        let mut near = Joining::new(Sink::default());
        for _ in 0..100 {
            near.write_all(&[7; 1000]).await.unwrap();
        }
        assert!(near.socket.0.is_empty());
        near.flush().await.unwrap();
        assert_eq!(near.socket.0, [100_000]);
        near.flush().await.unwrap();
        assert_eq!(near.socket.0, [100_000], "nothing is left");
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let mut near = Joining::new(Sink::default());
        for _ in 0..1000 {
            near.write_all(&[7; 1000]).await.unwrap();
            assert!(near.joined.capacity() <= FIRST);
        }
        near.flush().await.unwrap();
        assert_eq!(near.socket.0.iter().sum::<usize>(), 1_000_000);
        let [first, rest @ ..] = &near.socket.0[..] else { panic!("nothing was written") };
        assert!((FIRST - 1000..=FIRST).contains(first), "{first}");
        assert!(rest.len() <= (1_000_000 - first) / (FULL - 1000) + 1, "{rest:?}");
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        let mut near = Joining::new(near);
        assert!(near.write_all(&[0; LARGE]).await.is_err());
        near.write_all(&[0; 100]).await.unwrap();
        assert!(near.flush().await.is_err(), "told by the flush");
    }
}
