//! Whole LZ4 frames, one after another.

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

/// Reads frames to the end of the input. The decoder alone stops after the first frame, and takes a frame that is cut
/// off between two blocks for a whole one.
pub(super) struct Frames<'a> {
    decoder: FrameDecoder<Source<'a>>,
    is_done: bool,
}

/// The input, which remembers whether more was asked of it than it had.
struct Source<'a> {
    rest: &'a [u8],
    is_overrun: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { decoder: FrameDecoder::new(Source { rest: input, is_overrun: false }), is_done: false }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_done || buf.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.decoder.read(buf)?;
            let source = self.decoder.get_ref();
            if source.is_overrun {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if read > 0 {
                return Ok(read);
            }
            if source.rest.is_empty() {
                self.is_done = true;
                return Ok(0);
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.is_overrun |= buf.len() > self.rest.len();
        self.rest.read(buf)
    }
}
