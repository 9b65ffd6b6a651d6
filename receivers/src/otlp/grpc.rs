//! OTLP/gRPC.
//!
//! Decision: OTLP's gRPC is three unary methods with one message each way, so the framing (a flag, a length, the bytes)
//! is spoken here, directly on hyper's HTTP/2. A generated service would decode the message into structs and copy it on
//! the way; here it stays the bytes that arrived, and the answer to a good request is five constant bytes.
//!
//! Deviations in framing are answered as grpc-go does. `te: trailers` is not asked for; grpc-go does not either.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use weir_pipeline::otlp::status::Code;
use weir_pipeline::signal::Signal;

use super::access::Access;
use super::answer::Answer;
use super::body::{Framing, PREFIX};
use super::encoding::{Encoding, Encodings};
use super::entry::{Entries, Format, Message};
use super::http::text;
use super::refusal::Refusal;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// gRPC announces encodings without spaces.
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,zstd,snappy,deflate,identity");

/// An uncompressed message of no bytes: an export response with nothing in it.
const SUCCESS: &[u8] = &[0; PREFIX];

/// Longest error text sent; clients limit the size of headers.
const MAX_MESSAGE: usize = 1024;

const WRONG_TYPE: &str = "415 this port receives OTLP/gRPC, content type application/grpc; \
    OTLP/HTTP goes to the http endpoint, normally port 4318";

/// What a client that speaks HTTP/1 here is told.
pub(super) const NOT_HTTP1: &str = "this port receives OTLP/gRPC, which is HTTP/2; \
    OTLP/HTTP goes to the http endpoint, normally port 4318\n";

/// The gRPC side of the receiver in one lane.
#[derive(Debug)]
pub(super) struct Grpc {
    access: Access,
    entries: Entries,
}

impl Grpc {
    pub(super) fn new(access: Access, entries: Entries) -> Self {
        Self { access, entries }
    }

    /// Whether clients have to say who they are.
    pub(super) fn asks_who(&self) -> bool {
        self.access.authenticator.is_some()
    }

    /// Requests that the pipelines have and have not answered.
    pub(super) fn under_way(&self) -> usize {
        self.entries.under_way()
    }

    /// Answers a call.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "405 gRPC calls are POST requests");
        }
        if !is_grpc(request.headers().get(CONTENT_TYPE)) {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, WRONG_TYPE);
        }
        let signal = signal_of(request.uri().path());
        match self.take(signal, request).await {
            Ok(()) => success(),
            Err(refusal) => {
                self.entries.note(signal, &refusal);
                refuse(&refusal)
            }
        }
    }

    async fn take<B>(&self, signal: Option<Signal>, request: Request<B>) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let sender = self.access.admit(request.headers(), request.uri()).await?;
        let Some(signal) = signal else {
            return Err(Refusal::NoMethod(request.uri().path().chars().take(200).collect()));
        };
        let headers = request.headers();
        let timeout = headers.get(GRPC_TIMEOUT).map(|t| parse_timeout(t).ok_or(Refusal::Timeout)).transpose()?;
        let encoding = Encoding::parse(headers.get(GRPC_ENCODING), Encodings::GRPC)?;

        let entry = self.entries.get(signal);
        let (framed, holds) = entry.read(request.into_body(), Framing::Grpc, None, sender.as_ref()).await?;
        let encoding = match (framed.first(), encoding) {
            (Some(0), _) => Encoding::Identity,
            (_, Encoding::Identity) => {
                return Err(Refusal::Framing(
                    "the message is marked compressed, but grpc-encoding names nothing".into(),
                ));
            }
            (_, encoding) => encoding,
        };
        let message = Message { bytes: framed.slice(PREFIX..), holds, encoding, format: Format::Protobuf };
        entry.deliver(message, sender, timeout).await
    }
}

fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let media_type = content_type.and_then(|value| value.as_bytes().split(|b| *b == b';').next());
    matches!(media_type.map(<[u8]>::trim_ascii), Some(b"application/grpc" | b"application/grpc+proto"))
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

/// One to eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

fn success() -> Response<Answer> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, OK);
    let mut response = Response::new(Answer::with_trailers(Bytes::from_static(SUCCESS), trailers));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    response
}

/// A response without a message, its trailers sent as headers.
fn refuse(refusal: &Refusal) -> Response<Answer> {
    let mut status = refusal.status();
    truncate(&mut status.message, MAX_MESSAGE);
    let mut response = Response::new(Answer::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status.code.number())));
    if let Ok(message) = HeaderValue::from_bytes(&percent_encoded(&status.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    let has_details = status.retry_delay.is_some() || status.field_violation.is_some();
    if has_details
        && status.code != Code::Ok
        && let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.encode()))
    {
        headers.insert(GRPC_DETAILS, details);
    }
    response
}

fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

/// A status message as gRPC writes it: printable ASCII but `%` as it is, all other bytes as `%XX`.
fn percent_encoded(message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => {
                const HEX: [u8; 16] = *b"0123456789ABCDEF";
                out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let parse = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("10m"), Some(Duration::from_millis(10)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1.5S", "1 S"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("a b~"), b"a b~");
        assert_eq!(percent_encoded("100%\n\u{e9}"), b"100%25%0A%C3%A9");
    }

    #[test]
    fn content_types() {
        let is = |text: &'static str| is_grpc(Some(&HeaderValue::from_static(text)));
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; charset=utf-8"));
        assert!(!is("application/grpc-web") && !is("application/grpc+json") && !is("application/x-protobuf"));
        assert!(!is_grpc(None));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut text = "\u{e9}".repeat(MAX_MESSAGE);
        text.insert(0, 'a');
        truncate(&mut text, MAX_MESSAGE);
        assert_eq!(text.len(), MAX_MESSAGE - 1);
    }
}
