//! What a server's answer means (OTLP specification, "OTLP/gRPC Response", "OTLP/HTTP Response").

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use weir_pipeline::otlp::status::{Code, Status, partial_success};

use super::client::Reply;
use super::compress::decompress;
use crate::queue::{Accepted, Failure};

/// Largest response that is read over HTTP, and …
pub(super) const MAX_HTTP_RESPONSE: usize = 64 << 10;
/// … over gRPC, where the status comes after the message: what other gRPC clients take by default.
pub(super) const MAX_GRPC_RESPONSE: usize = 4 << 20;

/// Characters of a server's message that are passed on.
const MAX_MESSAGE: usize = 256;

/// Binary metadata comes with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the end of a gRPC call.
pub(super) fn grpc(reply: &Reply) -> Result<Accepted, Failure> {
    // A call that failed before there was a message carries its status in the headers.
    let trailers = [reply.answer.trailers.as_ref(), Some(&reply.headers)];
    let Some(trailers) = trailers.into_iter().flatten().find(|t| t.contains_key("grpc-status")) else {
        return without_grpc_status(reply);
    };
    let code = number(trailers, "grpc-status").map_or(Code::Unknown, Code::from_number);
    if code == Code::Ok {
        return Ok(message_of(reply).as_deref().map(accepted).unwrap_or_default());
    }
    let details = trailers
        .get("grpc-status-details-bin")
        .and_then(|value| BASE64.decode(value.as_bytes()).ok())
        .and_then(|bytes| Status::decode(&bytes));
    let delay = details.and_then(|status| status.retry_delay);
    let text = trailers.get("grpc-message").map(|value| percent_decoded(value.as_bytes())).unwrap_or_default();
    let message = format!("{}: {}", code.name(), shortened(&text));
    if delay.is_none() && is_about_size(code, &text) {
        return Err(Failure::TooLarge(message));
    }
    Err(failure(is_repeatable(code, delay), delay, message))
}

/// Reads an HTTP response; `now` is the time that a date in `Retry-After` is compared with.
pub(super) fn http(reply: &Reply, now_unix_nanos: u64) -> Result<Accepted, Failure> {
    if reply.status.is_success() {
        // What a server that answers in another format has to say beside "OK" is passed over.
        return Ok(match content_type(&reply.headers) {
            kind if kind.starts_with(b"application/x-protobuf") => accepted(&reply.answer.data),
            kind if kind.starts_with(b"application/json") => accepted_json(&reply.answer.data),
            _ => Accepted::default(),
        });
    }
    let is_repeatable = matches!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let is_throttling = matches!(reply.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let delay = is_throttling.then(|| retry_after(&reply.headers, now_unix_nanos)).flatten();
    let mut message = format!("HTTP status {}", reply.status);
    // Only the message of a `Status`: a page from a proxy may quote the request, and so the prompts in it.
    let said = match content_type(&reply.headers) {
        kind if kind.starts_with(b"application/x-protobuf") => Status::decode(&reply.answer.data).map(|s| s.message),
        kind if kind.starts_with(b"application/json") => json_status(&reply.answer.data),
        _ => None,
    };
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        message = format!("{message}: {}", shortened(&said));
    }
    if reply.status == StatusCode::PAYLOAD_TOO_LARGE {
        return Err(Failure::TooLarge(message));
    }
    Err(failure(is_repeatable, delay, message))
}

fn failure(is_repeatable: bool, delay: Option<Duration>, message: String) -> Failure {
    if is_repeatable { Failure::Transient { delay, message } } else { Failure::Permanent(message) }
}

/// `ResourceExhausted` is a quota if the server says when to come again, and a size limit if it does not.
fn is_repeatable(code: Code, delay: Option<Duration>) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => delay.is_some(),
        _ => false,
    }
}

/// Whether a call failed because its message is too large. The code alone does not say so: it is also that of a quota,
/// and a quota that is used up is not mended by sending more and smaller requests.
fn is_about_size(code: Code, message: &str) -> bool {
    /// What the gRPC libraries for Go and C++, Java, Rust (of which older ones answer OUT_OF_RANGE), and proxies say.
    const TEXTS: [&str; 5] = [
        "larger than max",
        "exceeds maximum size",
        "message length too large",
        "message too large",
        "request too large",
    ];
    let message = message.to_ascii_lowercase();
    matches!(code, Code::ResourceExhausted | Code::OutOfRange) && TEXTS.iter().any(|text| message.contains(text))
}

/// What a response without a status stands for: one that is too large, one that broke off, or one that no gRPC server
/// sent (gRPC, "HTTP to gRPC Status Code Mapping").
fn without_grpc_status(reply: &Reply) -> Result<Accepted, Failure> {
    let is_grpc = content_type(&reply.headers).starts_with(b"application/grpc");
    Err(match reply.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::transient(format!("HTTP status {}", reply.status)),
        // Only an answer that is OK has a message, and what is OK must not be sent again.
        StatusCode::OK if is_grpc && reply.answer.is_cut => {
            let message = format!("the answer is larger than {} MiB and was not read", MAX_GRPC_RESPONSE >> 20);
            return Ok(Accepted { rejected: 0, message });
        }
        StatusCode::OK if is_grpc => {
            let why = reply.answer.broken.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            Failure::transient(format!("the response ended without a gRPC status{why}"))
        }
        StatusCode::OK => Failure::Permanent("the server does not speak gRPC".to_owned()),
        StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge(format!("HTTP status {}", reply.status)),
        status => Failure::Permanent(format!("HTTP status {status} without a gRPC status")),
    })
}

/// The message of a gRPC response, decompressed. `None` if there is none that can be read, which matters little: the
/// call has succeeded.
fn message_of(reply: &Reply) -> Option<Bytes> {
    let data = &reply.answer.data;
    let (head, message) = data.split_first_chunk::<5>()?;
    let [flag, a, b, c, d] = *head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let message = message.get(..length)?;
    match flag {
        0 => Some(data.slice_ref(message)),
        1 => decompress(reply.headers.get("grpc-encoding")?.as_bytes(), message, MAX_GRPC_RESPONSE),
        _ => None,
    }
}

fn accepted(response: &[u8]) -> Accepted {
    partial_success(response).map_or_else(Accepted::default, |partial| Accepted {
        rejected: usize::try_from(partial.rejected).unwrap_or(0),
        message: shortened(&partial.message),
    })
}

/// The same in JSON, where the number of rejected records is a number or a text.
fn accepted_json(response: &[u8]) -> Accepted {
    let response: serde_json::Value = serde_json::from_slice(response).unwrap_or_default();
    let partial = &response["partialSuccess"];
    let counts = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"].map(|key| &partial[key]);
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let rejected = counts.into_iter().find_map(number).unwrap_or(0);
    let message = shortened(partial["errorMessage"].as_str().unwrap_or_default());
    Accepted { rejected: usize::try_from(rejected).unwrap_or(usize::MAX), message }
}

/// The message of a `Status` in JSON, which has a code; other objects with a message may be about anything.
fn json_status(response: &[u8]) -> Option<String> {
    let status: serde_json::Value = serde_json::from_slice(response).ok()?;
    status["code"].is_number().then(|| status["message"].as_str().unwrap_or_default().to_owned())
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now_unix_nanos: u64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_nanos(now_unix_nanos)))
}

fn number(headers: &HeaderMap, name: &str) -> Option<i32> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    headers.get(CONTENT_TYPE).map_or(&[], |value| value.as_bytes())
}

/// A foreign text on one line, of bounded length.
pub(super) fn shortened(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_MESSAGE).is_some() {
        out.push('…');
    }
    out
}

/// gRPC percent-encodes `grpc-message`; what is not well-formed is kept as it is.
pub(super) fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match tail {
            [high, low, after @ ..] if *first == b'%' => {
                if let (Some(high), Some(low)) = (hex(high), hex(low)) {
                    out.push(high << 4 | low);
                    rest = after;
                    continue;
                }
                out.push(*first);
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
