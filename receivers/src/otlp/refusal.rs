//! Why a request was not taken, and how that is said over gRPC and HTTP.
//!
//! | refusal | gRPC | HTTP | the client should |
//! |---|---|---|---|
//! | malformed data | INVALID_ARGUMENT + BadRequest | 400 | drop |
//! | broken gRPC framing | INTERNAL, as grpc-go | – | drop |
//! | too large, compressed or not | RESOURCE_EXHAUSTED | 413 | drop (send smaller) |
//! | the client is nobody the authenticator knows | UNAUTHENTICATED | 401 | drop |
//! | who the client is cannot be told now | UNAVAILABLE + RetryInfo | 503 + Retry-After | repeat |
//! | compression unknown or not accepted | UNIMPLEMENTED | 415 | drop |
//! | no pipeline of the signal, unknown method | UNIMPLEMENTED | 404 | drop |
//! | refused for good downstream | INTERNAL | 500 | drop |
//! | no memory, not taken downstream, lost, no answer in time, stalled body | UNAVAILABLE + RetryInfo | 503 + Retry-After | repeat |
//! | the client's own deadline (`grpc-timeout`) | DEADLINE_EXCEEDED | – | repeat |
//!
//! Decision: 413 and 503 where the Collector says 400 and 429. The OTLP specification asks for 413, and 503 is the only
//! answer that every client repeats: Python's exporter dropped the batch on 429 until late 2026. For the compression it
//! is 415 with `Accept-Encoding` (RFC 9110 §12.5.3), where the Collector says 400.

use std::time::Duration;

use http::StatusCode;
use weir_pipeline::batch::Malformed;
use weir_pipeline::extension::Denied;
use weir_pipeline::node::Refused;
use weir_pipeline::otlp::json::{JsonError, Problem};
use weir_pipeline::otlp::status::{Code, Status};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;

use super::encoding::Encodings;

/// Shortest delay a client is asked to wait, and the one it is asked for when nobody knows better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bytes are not what they claim to be: text, and the path of the field if there is one.
    Malformed { message: String, field: Option<String> },
    /// The request's framing is broken, or the body broke off.
    Framing(String),
    /// Over the size limit, in bytes.
    TooLarge { limit: usize },
    /// It takes more memory than a limiter ever has for one request.
    Unfit { most: usize },
    /// The authenticator does not know the client.
    Unauthenticated(&'static str),
    /// The authenticator cannot tell now who the client is.
    Undecided(&'static str),
    /// A compression that is not accepted here, and those that are.
    Encoding { name: String, accepted: Encodings },
    /// A `grpc-timeout` that is none.
    Timeout,
    /// No pipeline of this signal names the receiver.
    NoPipeline(Signal),
    /// A gRPC method that does not exist.
    NoMethod(String),
    /// The memory limiter has no room.
    NoMemory(Refused),
    /// The body did not arrive in time.
    Stalled(Duration),
    /// The pipeline refused the records for good.
    Rejected(String),
    /// The pipeline did not take the records this time.
    NotTaken { after: Option<Duration>, reason: String },
    /// No receipt in time.
    NoAnswer(Duration),
    /// No receipt before the client's own deadline.
    Deadline,
    /// The receiver could not do its work, through no fault of the request.
    Stopping,
}

impl Refusal {
    /// The outcome of a batch as an answer: nothing if it was taken.
    pub(super) fn of(outcome: Outcome) -> Result<(), Self> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Rejected(reason) => Err(Self::Rejected(reason.into_owned())),
            Outcome::Retry { after, reason } => Err(Self::NotTaken { after, reason: reason.into_owned() }),
            Outcome::Lost => Err(Self::NotTaken { after: None, reason: "the outcome is unknown".to_owned() }),
        }
    }

    /// Whether records were counted as refused already; otherwise it is a failed request.
    pub(super) fn is_after_decoding(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::NotTaken { .. } | Self::NoAnswer(_) | Self::Deadline)
    }

    /// Whether the same request may be taken another time.
    pub(super) fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::NoMemory(refused) => Some(refused.retry_after.max(RETRY_AFTER)),
            Self::NotTaken { after, .. } => Some(after.unwrap_or(RETRY_AFTER).max(RETRY_AFTER)),
            Self::Stalled(_) | Self::NoAnswer(_) | Self::Stopping | Self::Undecided(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } => Code::InvalidArgument,
            Self::Framing(_) | Self::Timeout | Self::Rejected(_) => Code::Internal,
            Self::TooLarge { .. } | Self::Unfit { .. } => Code::ResourceExhausted,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Encoding { .. } | Self::NoPipeline(_) | Self::NoMethod(_) => Code::Unimplemented,
            Self::NoMemory(_)
            | Self::Stalled(_)
            | Self::NotTaken { .. }
            | Self::NoAnswer(_)
            | Self::Stopping
            | Self::Undecided(_) => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
        }
    }

    /// The `google.rpc.Status`.
    pub(super) fn status(&self) -> Status {
        let field_violation = match self {
            // A malformed body without a path is the request's own top level, named by the empty path.
            Self::Malformed { field, .. } => Some(field.clone().unwrap_or_default()),
            _ => None,
        };
        Status { retry_delay: self.retry_delay(), field_violation, ..Status::new(self.code(), self.to_string()) }
    }

    /// The HTTP status.
    pub(super) fn http_status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } | Self::Unfit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // Only ever seen by a client that broke its own body off.
            Self::Framing(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::from_u16(self.code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// A word for logs.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } => Kind::Malformed,
            Self::Framing(_) | Self::Timeout => Kind::Framing,
            Self::TooLarge { .. } | Self::Unfit { .. } => Kind::TooLarge,
            Self::Unauthenticated(_) | Self::Undecided(_) => Kind::Unauthenticated,
            Self::Encoding { .. } | Self::NoPipeline(_) | Self::NoMethod(_) => Kind::Unsupported,
            Self::NoMemory(_) => Kind::NoMemory,
            Self::Stalled(_) => Kind::Stalled,
            Self::Rejected(_) => Kind::Rejected,
            Self::NotTaken { .. } | Self::NoAnswer(_) | Self::Deadline | Self::Stopping => Kind::NotTaken,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed { message, .. } | Self::Framing(message) => f.write_str(message),
            Self::TooLarge { limit } => write!(f, "the request is larger than the {limit} bytes allowed"),
            Self::Unfit { most } => write!(
                f,
                "the request takes more than the {most} bytes of memory that a memory_limiter has for one: \
                 send smaller ones, or raise `limit_mib`"
            ),
            Self::Unauthenticated(reason) | Self::Undecided(reason) => f.write_str(reason),
            Self::Encoding { name, accepted } => {
                write!(f, "compression `{name}` is not supported, supported: {accepted}")
            }
            Self::Timeout => f.write_str("malformed grpc-timeout"),
            Self::NoPipeline(signal) => write!(f, "no {signal} pipeline names this receiver"),
            Self::NoMethod(path) => write!(f, "unknown method {path}"),
            Self::NoMemory(refused) => f.write_str(refused.reason),
            Self::Stalled(limit) => write!(f, "the request body did not arrive within {} s", limit.as_secs()),
            Self::Rejected(reason) => f.write_str(reason),
            Self::NotTaken { reason, .. } => f.write_str(reason),
            Self::NoAnswer(limit) => write!(f, "the pipeline did not answer within {} s", limit.as_secs()),
            Self::Deadline => f.write_str("the pipeline did not answer before the request's deadline"),
            Self::Stopping => f.write_str("the receiver is stopping"),
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown(reason) => Self::Unauthenticated(reason),
            Denied::Undecided(reason) => Self::Undecided(reason),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Self {
        let message = error.to_string();
        Self::Malformed { message, field: Some(error.path).filter(|path| !path.is_empty()) }
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        match error.problem {
            Problem::TooLong(limit) => Self::TooLarge { limit },
            _ => Self::Malformed { message: error.to_string(), field: Some(error.path) },
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused.most {
            Some(most) => Self::Unfit { most },
            None => Self::NoMemory(refused),
        }
    }
}

/// A class of refusals, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Malformed,
    Framing,
    TooLarge,
    Unauthenticated,
    Unsupported,
    NoMemory,
    Stalled,
    Rejected,
    NotTaken,
}

impl Kind {
    pub(super) const COUNT: usize = 9;
}
