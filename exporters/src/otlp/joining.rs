//! A socket that joins small pieces before it writes them.
//!
//! A batch that was changed comes in hundreds of pieces ([`weir_pipeline::batch::Encoded`]), and the system takes longer
//! to look after each than to copy it. They are copied to one buffer, which is small enough to stay in a processor's
//! cache, and written from there; a piece that is large goes out as it is.
//!
//! HTTP/1 only: it writes a request in few calls and flushes it once. HTTP/2 flushes each frame, see
//! [`gather`](super::gather).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are joined at most, unless one piece is longer.
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
}

impl<S: AsyncWrite + Unpin> Joining<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, joined: Vec::new(), written: 0 }
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
        ready!(self.poll_rest(cx))?;
        // A request's head before a body in one piece goes out with it.
        if bufs.iter().take(2).any(|buf| buf.len() >= LARGE) {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            if buf.len() >= LARGE || self.joined.len() + buf.len() > FULL {
                break;
            }
            self.joined.extend_from_slice(buf);
        }
        let taken = self.joined.len();
        // What cannot be written now is with the next call.
        match self.poll_rest(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
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
            for len in [1, 300, LARGE - 1, LARGE, LARGE + 1, FULL, 3 * FULL, 7].into_iter().cycle() {
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

    #[tokio::test]
    async fn a_broken_connection_is_an_error() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        assert!(Joining::new(near).write_all(&[0; 100]).await.is_err());
    }
}
