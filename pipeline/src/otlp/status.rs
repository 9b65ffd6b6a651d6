//! What an OTLP server answers: `google.rpc.Status` for failures, the export responses for the rest.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::batch::wire::{Fields, LEN, Reader, VARINT, put_bytes, put_uint};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// The body of a complete success as protobuf: an export response with nothing in it. The specification forbids to set
/// `partial_success` here.
pub const SUCCESS_PROTOBUF: &[u8] = b"";
/// The body of a complete success as JSON.
pub const SUCCESS_JSON: &[u8] = b"{}";

/// A failure as gRPC and OTLP/HTTP report it: the message `google.rpc.Status` with the details that OTLP uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of failure.
    pub code: Code,
    /// For the people on the other side.
    pub message: String,
    /// How long the client should wait (`RetryInfo`): present on refusals that may be repeated.
    pub retry_delay: Option<Duration>,
    /// Path of the field that made the request a bad one (`BadRequest`), such as `resourceSpans[0].scopeSpans`.
    pub field_violation: Option<String>,
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_delay: None, field_violation: None }
    }

    /// The protobuf form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.code != Code::Ok {
            put_uint(&mut out, 1, u64::from(self.code.number()));
        }
        if !self.message.is_empty() {
            put_bytes(&mut out, 2, self.message.as_bytes());
        }
        if let Some(field) = &self.field_violation {
            let mut violation = Vec::new();
            put_bytes(&mut violation, 1, field.as_bytes());
            put_bytes(&mut violation, 2, self.message.as_bytes());
            let mut bad_request = Vec::new();
            put_bytes(&mut bad_request, 1, &violation);
            put_detail(&mut out, BAD_REQUEST, &bad_request);
        }
        if let Some(delay) = self.retry_delay {
            let mut duration = Vec::new();
            put_uint(&mut duration, 1, delay.as_secs());
            put_uint(&mut duration, 2, u64::from(delay.subsec_nanos()));
            let mut retry_info = Vec::new();
            put_bytes(&mut retry_info, 1, &duration);
            put_detail(&mut out, RETRY_INFO, &retry_info);
        }
        out
    }

    /// The proto3 JSON form, on one line.
    pub fn to_json(&self) -> String {
        let mut details = Vec::new();
        if let Some(field) = &self.field_violation {
            let violation = json!({ "field": field, "description": self.message });
            details.push(json!({ "@type": BAD_REQUEST, "fieldViolations": [violation] }));
        }
        if let Some(delay) = self.retry_delay {
            details.push(json!({ "@type": RETRY_INFO, "retryDelay": duration_text(delay) }));
        }
        let mut status = Map::new();
        status.insert("code".to_owned(), Value::from(self.code.number()));
        status.insert("message".to_owned(), Value::from(self.message.as_str()));
        if !details.is_empty() {
            status.insert("details".to_owned(), Value::from(details));
        }
        Value::from(status).to_string()
    }

    /// Reads what a server sent: a response's body, or the decoded `grpc-status-details-bin` trailer.
    ///
    /// Tolerant, for it is only read to learn what to do next: unknown codes are [`Code::Unknown`], broken UTF-8 is
    /// replaced, unknown or malformed details are passed over. `None` if the bytes are no protobuf at all, such as a
    /// proxy's HTML page.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut status = Self::new(Code::Ok, "");
        for field in checked(bytes)? {
            match (field.number, field.wire_type) {
                (1, VARINT) => status.code = Code::from_number(field.scalar as i32),
                (2, LEN) => status.message = text(field.bytes),
                (3, LEN) => status.read_detail(field.bytes),
                _ => {}
            }
        }
        Some(status)
    }

    fn read_detail(&mut self, any: &[u8]) {
        let (Some(type_url), Some(value)) = (submessage(any, 1), submessage(any, 2)) else { return };
        // Only what follows the last slash names the type.
        match type_url.rsplit(|b| *b == b'/').next() {
            Some(b"google.rpc.RetryInfo") => {
                self.retry_delay = submessage(value, 1).and_then(read_duration).or(self.retry_delay);
            }
            Some(b"google.rpc.BadRequest") => {
                let field = submessage(value, 1).and_then(|violation| submessage(violation, 1)).map(text);
                self.field_violation = field.or_else(|| self.field_violation.take());
            }
            _ => {}
        }
    }
}

fn put_detail(out: &mut Vec<u8>, type_url: &str, value: &[u8]) {
    let mut any = Vec::new();
    put_bytes(&mut any, 1, type_url.as_bytes());
    put_bytes(&mut any, 2, value);
    put_bytes(out, 3, &any);
}

/// A `google.protobuf.Duration` in JSON: seconds with as few digits as do.
fn duration_text(duration: Duration) -> String {
    let nanos = format!("{:09}", duration.subsec_nanos());
    match nanos.trim_end_matches('0') {
        "" => format!("{}s", duration.as_secs()),
        fraction => format!("{}.{fraction}s", duration.as_secs()),
    }
}

/// A `google.protobuf.Duration`; `None` where it is negative or malformed.
fn read_duration(bytes: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes).filter(|f| f.wire_type == VARINT) {
        match field.number {
            1 => seconds = field.scalar as i64,
            2 => nanos = field.scalar as i32,
            _ => {}
        }
    }
    let nanos = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// What a server took only in part (`Export*PartialSuccess`, alike for the three signals), or has a warning about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Spans, data points or log records it did not take; 0 for a mere warning.
    pub rejected: i64,
    /// Why.
    pub message: String,
}

/// Reads the `partial_success` of an `Export*ServiceResponse`. `None` where there is none, where it says nothing (which
/// means complete success), and where the bytes are no protobuf.
pub fn partial_success(response: &[u8]) -> Option<PartialSuccess> {
    let bytes = checked(response)?.filter(|f| f.number == 1 && f.wire_type == LEN).last()?.bytes;
    let mut partial = PartialSuccess { rejected: 0, message: String::new() };
    for field in Fields::new(bytes) {
        match (field.number, field.wire_type) {
            (1, VARINT) => partial.rejected = field.scalar as i64,
            (2, LEN) => partial.message = text(field.bytes),
            _ => {}
        }
    }
    (partial.rejected != 0 || !partial.message.is_empty()).then_some(partial)
}

/// The fields of a message that nobody has validated: `None` unless its structure holds to the end.
fn checked(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (number, wire_type) = reader.tag().ok()?;
        reader.skip_value(wire_type, number, crate::batch::validate::MAX_DEPTH).ok()?;
    }
    Some(Fields::new(bytes))
}

fn submessage(bytes: &[u8], number: u32) -> Option<&[u8]> {
    Fields::new(bytes).find(|f| f.number == number && f.wire_type == LEN).map(|f| f.bytes)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// gRPC's status codes (`google.rpc.Code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nothing more is known.
    Unknown = 2,
    /// The request is wrong, whatever the server's state.
    InvalidArgument = 3,
    /// Time ran out before the end.
    DeadlineExceeded = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// What was to be made exists.
    AlreadyExists = 6,
    /// The caller is known, and may not.
    PermissionDenied = 7,
    /// A quota or a size limit. Repeatable only where a retry delay comes with it.
    ResourceExhausted = 8,
    /// The server's state does not allow it.
    FailedPrecondition = 9,
    /// A conflict with another call.
    Aborted = 10,
    /// Past the end of what there is.
    OutOfRange = 11,
    /// The server has no such method.
    Unimplemented = 12,
    /// A bug or a broken invariant.
    Internal = 13,
    /// Not now; to be repeated.
    Unavailable = 14,
    /// Data is lost or corrupted.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// All codes; each stands at the index that is its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number on the wire (`grpc-status`).
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number, [`Self::Unknown`] if there is none, as gRPC has it.
    pub fn from_number(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|i| Self::ALL.get(i)).copied().unwrap_or(Self::Unknown)
    }

    /// The name in `google.rpc.Code`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The HTTP status of a response that reports this code, as the OpenTelemetry Collector's OTLP receiver answers:
    /// whatever gRPC clients repeat is one of the statuses that OTLP/HTTP clients repeat.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::Unimplemented => 404,
            Self::ResourceExhausted => 429,
            Self::Cancelled
            | Self::DeadlineExceeded
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unavailable
            | Self::DataLoss => 503,
            Self::Unknown | Self::NotFound | Self::AlreadyExists | Self::FailedPrecondition | Self::Internal => 500,
        }
    }

    /// The code that an HTTP response stands for when its body does not say.
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 => Self::ResourceExhausted,
            502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Status {
        Status {
            code: Code::InvalidArgument,
            message: "expected an object, found a number".to_owned(),
            retry_delay: Some(Duration::from_millis(1500)),
            field_violation: Some("resourceSpans[0]".to_owned()),
        }
    }

    #[test]
    fn a_status_survives_the_wire() {
        let bare = Status::new(Code::Unavailable, "queue full");
        let seconds = Status { retry_delay: Some(Duration::from_secs(30)), ..bare.clone() };
        for status in [full(), bare, seconds, Status::new(Code::Ok, "")] {
            assert_eq!(Status::decode(&status.encode()), Some(status));
        }
        assert!(Status::new(Code::Ok, "").encode().is_empty());
    }

    #[test]
    fn the_bytes_are_those_of_googles_messages() {
        let status = Status { retry_delay: Some(Duration::from_secs(2)), ..Status::new(Code::Unavailable, "no") };
        let mut want = vec![0x08, 14, 0x12, 2, b'n', b'o', 0x1a, 50, 0x0a, 40];
        want.extend_from_slice(b"type.googleapis.com/google.rpc.RetryInfo");
        want.extend_from_slice(&[0x12, 6, 0x0a, 4, 0x08, 2, 0x10, 0]);
        assert_eq!(status.encode(), want);
    }

    #[test]
    fn the_json_is_that_of_proto3() {
        let want = concat!(
            r#"{"code":3,"details":["#,
            r#"{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":["#,
            r#"{"description":"expected an object, found a number","field":"resourceSpans[0]"}]},"#,
            r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}],"#,
            r#""message":"expected an object, found a number"}"#
        );
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(&full().to_json()), json(want));
        assert_eq!(json(&Status::new(Code::Internal, "a \"b\"").to_json()), json(r#"{"code":13,"message":"a \"b\""}"#));
        assert_eq!(duration_text(Duration::from_secs(30)), "30s");
        assert_eq!(duration_text(Duration::new(0, 1)), "0.000000001s");
    }

    #[test]
    fn foreign_bytes_are_read_as_far_as_they_make_sense() {
        assert_eq!(Status::decode(b"<html>busy</html>"), None);
        assert_eq!(Status::decode(b"{\"code\":14}"), None);
        assert_eq!(Status::decode(&[0x08]), None);
        let odd = Status::decode(&[0x08, 99, 0x12, 1, 0xff, 0x1a, 2, 0x12, 9]);
        assert_eq!(odd, Some(Status::new(Code::Unknown, "\u{fffd}")));
        // A negative delay, and one whose nanoseconds make more than a second, are no delay.
        for duration in
            [&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], &[0x10, 0x80, 0x94, 0xeb, 0xdc, 3]]
        {
            assert_eq!(read_duration(duration), None);
        }
        assert_eq!(read_duration(&[]), Some(Duration::ZERO));
    }

    #[test]
    fn partial_successes_are_told_from_complete_ones() {
        assert_eq!(partial_success(SUCCESS_PROTOBUF), None);
        assert_eq!(partial_success(&[0x0a, 0]), None, "set, but empty");
        assert_eq!(partial_success(&[0x0a, 5, 8]), None, "truncated");
        let some = |rejected, message: &str| Some(PartialSuccess { rejected, message: message.to_owned() });
        assert_eq!(partial_success(&[0x0a, 6, 8, 3, 0x12, 2, b'n', b'o']), some(3, "no"));
        assert_eq!(partial_success(&[0x0a, 4, 0x12, 2, b'n', b'o']), some(0, "no"));
    }

    #[test]
    fn codes_have_their_numbers_names_and_http_statuses() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(Code::from_number(number as i32), code);
            assert_eq!(format!("{code:?}").to_uppercase(), code.name().replace('_', ""));
        }
        assert_eq!([-1, 17, i32::MAX].map(Code::from_number), [Code::Unknown; 3]);
        let http = Code::ALL.map(Code::http_status);
        assert_eq!(http, [200, 503, 500, 400, 503, 500, 500, 403, 429, 500, 503, 503, 404, 500, 503, 503, 401]);
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented] {
            assert_eq!(Code::from_http_status(code.http_status()), code);
        }
        assert_eq!([502, 503, 504].map(Code::from_http_status), [Code::Unavailable; 3]);
        assert_eq!([302, 413, 418, 500].map(Code::from_http_status), [Code::Unknown; 4]);
    }
}
