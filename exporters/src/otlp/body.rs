//! Bodies: what goes out without a copy, and what comes back within a limit.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use weir_pipeline::batch::{Encoded, EncodedReader};

/// A request's body, which goes out as it is, piece by piece.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload(EncodedReader);

impl Payload {
    /// A body of `data` alone.
    pub(super) fn plain(data: Encoded) -> Self {
        Self(data.into())
    }

    /// A gRPC message: flag, length, data. `None` if the length does not fit its 32 bits.
    pub(super) fn grpc(data: Encoded, is_compressed: bool) -> Option<Self> {
        let mut head = BytesMut::with_capacity(5);
        head.extend_from_slice(&[u8::from(is_compressed)]);
        head.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
        Some(Self(data.with_prefix(head.freeze()).into()))
    }
}

impl Body for Payload {
    type Data = EncodedReader;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<EncodedReader>, Infallible>>> {
        let all = std::mem::take(&mut self.0);
        Poll::Ready(all.has_remaining().then(|| Ok(Frame::data(all))))
    }

    fn is_end_stream(&self) -> bool {
        !self.0.has_remaining()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.remaining() as u64)
    }
}

/// A response's body.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The data, as far as the limit allows; empty if the body broke off.
    pub(super) data: Bytes,
    /// Trailers, if the body was read to its end and has some.
    pub(super) trailers: Option<HeaderMap>,
    /// Whether there was more than the limit.
    pub(super) is_cut: bool,
    /// Why the body did not come to its end.
    pub(super) broken: Option<String>,
}

/// Reads a body up to `limit` bytes, without a copy if it comes in one piece.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Answer, hyper::Error> {
    let mut answer = Answer::default();
    let mut pieces = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if answer.data.len() + pieces.len() + data.len() > limit => {
                answer.is_cut = true;
                break;
            }
            Ok(data) if answer.data.is_empty() && pieces.is_empty() => answer.data = data,
            Ok(data) => {
                pieces.extend_from_slice(&std::mem::take(&mut answer.data));
                pieces.extend_from_slice(&data);
            }
            Err(frame) => answer.trailers = frame.into_trailers().ok(),
        }
    }
    if !pieces.is_empty() {
        answer.data = pieces.freeze();
    }
    Ok(answer)
}
