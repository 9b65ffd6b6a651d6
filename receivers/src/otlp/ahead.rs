//! Reading ahead: what the system has is taken in large steps, whatever is asked for.
//!
//! HTTP/2 reads eight to sixteen kilobytes at a time, and most clients send frames of 16 KiB: a request of LLM spans
//! would be two dozen system calls, after each of which the system may also tell the peer that there is room again. A
//! read that fills what was asked for says that more is there, and the next one takes all of it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at once. More would not stay in a processor's cache until they are read again.
const STEP: usize = 128 << 10;

/// Buffers a thread keeps for the next read. A connection has one only while there is something in it.
const SPARE: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// What was read and not yet asked for.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    buffer: Option<Box<[u8]>>,
    /// Where the rest of it is.
    start: usize,
    end: usize,
    /// Whether the last read got all that it asked for.
    has_more: bool,
}

impl Ahead {
    /// Reads from what is there, else from the socket.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            if !self.has_more || buf.remaining() >= STEP {
                let (before, room) = (buf.filled().len(), buf.remaining());
                ready!(Pin::new(socket).poll_read(cx, buf))?;
                self.has_more = room > 0 && buf.filled().len() - before == room;
                return Poll::Ready(Ok(()));
            }
            let buffer = self.buffer.get_or_insert_with(take);
            let mut step = ReadBuf::new(buffer);
            let polled = Pin::new(socket).poll_read(cx, &mut step);
            (self.start, self.end) = (0, step.filled().len());
            self.has_more = self.end == STEP;
            if self.end == 0 {
                self.buffer.take().into_iter().for_each(keep);
                return polled;
            }
        }
        let rest = self.buffer.as_deref().and_then(|buffer| buffer.get(self.start..self.end)).unwrap_or_default();
        let now = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..now]);
        self.start += now;
        if self.start == self.end {
            self.buffer.take().into_iter().for_each(keep);
        }
        Poll::Ready(Ok(()))
    }
}

fn take() -> Box<[u8]> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; STEP].into())
}

fn keep(buffer: Box<[u8]>) {
    BUFFERS.with_borrow_mut(|spare| {
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// What a system has: parts that came one after the other, none of which is there before it was asked for once.
    struct Source {
        parts: Vec<Vec<u8>>,
        asked: usize,
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked += 1;
            match self.parts.first_mut() {
                Some(part) if part.is_empty() => {
                    self.parts.remove(0);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(part) => {
                    let read = part.as_slice().read(buf.initialize_unfilled()).unwrap();
                    part.drain(..read);
                    buf.advance(read);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads to the end, asking for so many bytes in turn; and how often the system was asked.
    fn read(parts: Vec<Vec<u8>>, steps: &[usize]) -> (Vec<u8>, usize) {
        let (mut source, mut ahead, mut cx) =
            (Source { parts, asked: 0 }, Ahead::default(), Context::from_waker(Waker::noop()));
        let (mut all, mut scrap) = (Vec::new(), vec![0; 2 * STEP]);
        for step in steps.iter().cycle() {
            let mut buf = ReadBuf::new(&mut scrap[..*step]);
            match ahead.poll_read(&mut source, &mut cx, &mut buf) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    result.unwrap();
                    if buf.filled().is_empty() {
                        break;
                    }
                    all.extend_from_slice(buf.filled());
                }
            }
            assert_eq!(ahead.buffer.is_some(), ahead.start < ahead.end, "a buffer is held while something is in it");
        }
        (all, source.asked)
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 7 + (n >> 8)) as u8).collect()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_came(
            lens in prop::collection::vec(prop_oneof![1..100_usize, 1..400_000_usize], 0..5),
            steps in prop::collection::vec(prop_oneof![1..100_usize, 1..2 * STEP], 1..4),
        ) {
            let parts: Vec<Vec<u8>> = lens.into_iter().map(bytes).collect();
            prop_assert_eq!(read(parts.clone(), &steps).0, parts.concat());
        }
    }

    #[test]
    fn a_request_is_taken_in_few_reads() {
        // As HTTP/2 asks for it.
        let (all, asked) = read(vec![bytes(172_000)], &[8 << 10]);
        assert_eq!(all, bytes(172_000));
        assert!(asked <= 5, "{asked}");
        // What is small needs no other buffer.
        assert_eq!(read(vec![bytes(1_000)], &[8 << 10]).1, 3);
    }
}
