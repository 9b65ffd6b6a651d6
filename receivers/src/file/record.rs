//! Requests in a file: where each begins and ends, and what it holds.

use bytes::Bytes;
use memchr::{memchr, memmem};
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json::{Limits, to_protobuf};
use weir_pipeline::signal::Signal;

use super::MAX_RECORD;

/// The first bytes of everything that zstd has compressed.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How requests lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// One per line.
    Lines,
    /// Each after its length in four bytes, big-endian.
    Lengths,
}

impl Framing {
    /// Told by the first byte: that of a length up to [`MAX_RECORD`] is no character of a text.
    pub(super) fn of(first: u8) -> Self {
        if usize::from(first) <= MAX_RECORD >> 24 { Self::Lengths } else { Self::Lines }
    }
}

/// What is at the beginning of some bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A record, and the number of bytes up to the one after it.
    Record(&'a [u8], usize),
    /// The record goes on behind these bytes.
    Incomplete,
    /// A record that is too large, with the number of bytes up to the one after it; `None`: the line goes on.
    TooLarge(Option<usize>),
}

/// Looks for the first record. `is_end` if nothing has been written after these bytes so far.
pub(super) fn next(framing: Framing, bytes: &[u8], is_end: bool) -> Next<'_> {
    match framing {
        Framing::Lines => match memchr(b'\n', bytes) {
            Some(end) if end > MAX_RECORD => Next::TooLarge(Some(end + 1)),
            Some(end) => Next::Record(bytes.get(..end).unwrap_or_default(), end + 1),
            None if bytes.len() > MAX_RECORD => Next::TooLarge(None),
            None if is_end && !bytes.is_empty() && is_whole(bytes) => Next::Record(bytes, bytes.len()),
            None => Next::Incomplete,
        },
        Framing::Lengths => {
            let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Next::Incomplete };
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            match rest.get(..length) {
                _ if length > MAX_RECORD => Next::TooLarge(Some(length.saturating_add(4))),
                Some(record) => Next::Record(record, length + 4),
                None => Next::Incomplete,
            }
        }
    }
}

/// Whether a line needs nothing but its end: it is blank, or an object that is closed. What a writer has flushed of an
/// object never is.
fn is_whole(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    // Nearly all that is torn ends here.
    if !(line.starts_with(b"{") && line.ends_with(b"}")) {
        return line.is_empty();
    }
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (i, byte) in line.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1 == line.len();
                }
            }
            _ => {}
        }
    }
    false
}

/// Decodes a record as one of these signals. `None` if it holds nothing of them.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub(super) fn decode(framing: Framing, record: &[u8], signals: &[Signal]) -> Result<Option<Batch>, String> {
    let unpacked;
    let body = if record.starts_with(&ZSTD) {
        unpacked = decompress(record)?;
        &unpacked
    } else {
        record
    };
    // Not where it may be protobuf, which begins with what would be a line break.
    let body = if framing == Framing::Lines { body.trim_ascii() } else { body };
    if body.is_empty() {
        return Ok(None);
    }
    if body.first() != Some(&b'{') {
        if framing == Framing::Lines {
            return Err("it is no JSON object".to_owned());
        }
        let [signal] = signals else {
            return Err("it is protobuf, which does not say its signal: use a receiver of its own for each".to_owned());
        };
        let batch = Batch::decode(*signal, Bytes::copy_from_slice(body)).map_err(|e| e.to_string())?;
        return Ok((!batch.is_empty()).then_some(batch));
    }
    for signal in signals {
        let key = match signal {
            Signal::Traces => "\"resourceSpans\"",
            Signal::Metrics => "\"resourceMetrics\"",
            Signal::Logs => "\"resourceLogs\"",
        };
        // It may also be part of some text, and then there is nothing to decode.
        if memmem::find(body, key.as_bytes()).is_none() {
            continue;
        }
        let limits = Limits { max_bytes: MAX_RECORD };
        let protobuf = to_protobuf(message_of(*signal), body, limits).map_err(|e| e.to_string())?;
        let batch = Batch::decode(*signal, protobuf.into()).map_err(|e| e.to_string())?;
        if !batch.is_empty() {
            return Ok(Some(batch));
        }
    }
    // A line that is no JSON at all is told apart from one of other signals.
    if !body.trim_ascii_end().ends_with(b"}") {
        return Err("it ends before its object does".to_owned());
    }
    Ok(None)
}

fn decompress(record: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let decoder = zstd::stream::read::Decoder::new(record).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    let limit = MAX_RECORD as u64 + 1;
    decoder.take(limit).read_to_end(&mut out).map_err(|e| format!("cannot decompress it: {e}"))?;
    if out.len() > MAX_RECORD {
        return Err("it is larger than 64 MiB once decompressed".to_owned());
    }
    Ok(out)
}
