//! A connection's bytes: what it opens with decides the protocol, and a close that does not cut off the last answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::ahead::Ahead;
use super::connection::Connection;
use super::pace::{Pace, Pacer};

/// What every HTTP/2 connection starts with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the rest of a refused request is thrown away before the connection is cut.
const LINGER: Duration = Duration::from_secs(5);

/// A connection with its first bytes read: the preface, or less if it starts otherwise.
pub(super) struct Opening<S> {
    inner: S,
    buffer: [u8; PREFACE.len()],
    len: usize,
}

impl<S: AsyncRead + Unpin> Opening<S> {
    /// Reads until it is clear whether this is HTTP/2.
    pub(super) async fn read(mut inner: S) -> io::Result<Self> {
        let mut buffer = [0; PREFACE.len()];
        let mut len = 0;
        while len < buffer.len() && buffer[..len] == PREFACE[..len] {
            match inner.read(&mut buffer[len..]).await? {
                0 => break,
                read => len += read,
            }
        }
        Ok(Self { inner, buffer, len })
    }

    /// The bytes read.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The connection with its first bytes put back.
    pub(super) fn into_socket(self, connection: Arc<Connection>, pace: Pace) -> Socket<S> {
        let pacer = Pacer::new(pace, &connection);
        // HTTP/1 asks for as much as there is by itself.
        let ahead = (self.bytes() == PREFACE).then(Ahead::default);
        Socket { opening: self, taken: 0, ahead, connection, pacer, lingering: None }
    }
}

/// A connection as the HTTP implementation sees it.
///
/// Closing a TCP socket while the peer is still sending makes the kernel reset the connection, and the reset destroys an
/// answer that the peer has not read yet: a client whose body is too large would see a broken connection instead of a
/// 413. So a close after a refusal first ends the sending side and then reads on for a while.
pub(super) struct Socket<S> {
    opening: Opening<S>,
    /// Bytes of the opening that were read again.
    taken: usize,
    ahead: Option<Ahead>,
    connection: Arc<Connection>,
    pacer: Option<Box<Pacer>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    fn paced<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.pacer {
            None => polled,
            Some(pacer) => pacer.write(cx, polled),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = this.opening.bytes().get(this.taken..).unwrap_or_default();
        if left.is_empty() {
            let before = buf.filled().len();
            let polled = match &mut this.ahead {
                None => Pin::new(&mut this.opening.inner).poll_read(cx, buf),
                Some(ahead) => ahead.poll_read(&mut this.opening.inner, cx, buf),
            };
            return match &mut this.pacer {
                None => polled,
                Some(pacer) => pacer.read(&this.connection, cx, polled, buf.filled().len() - before),
            };
        }
        let now = left.len().min(buf.remaining());
        buf.put_slice(&left[..now]);
        this.taken += now;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.opening.inner).poll_write(cx, buf);
        self.paced(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.opening.inner).poll_write_vectored(cx, bufs);
        self.paced(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.opening.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.opening.inner).poll_flush(cx);
        self.paced(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.opening.inner).poll_shutdown(cx))?;
            if !this.connection.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let lingering = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scrap = [0; 16 << 10];
        loop {
            // The timer comes first: a peer that never stops sending must not keep the loop busy for ever.
            if lingering.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut this.opening.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
