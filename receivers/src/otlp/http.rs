//! OTLP/HTTP: one POST per request, protobuf or JSON.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use weir_pipeline::otlp::status::{SUCCESS_JSON, SUCCESS_PROTOBUF};
use weir_pipeline::signal::Signal;

use super::answer::Answer;
use super::body::Framing;
use super::config::Paths;
use super::encoding::{Encoding, SUPPORTED};
use super::entry::{Entries, Format};
use super::refusal::Refusal;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const METHOD_NOT_ALLOWED: &str = "405 method not allowed, supported: [POST]";
const UNSUPPORTED_TYPE: &str = "415 unsupported media type, supported: [application/json, application/x-protobuf]";

/// The HTTP side of the receiver in one lane.
#[derive(Debug)]
pub(super) struct Http {
    paths: Paths,
    entries: Entries,
    not_found: String,
}

impl Http {
    pub(super) fn new(paths: Paths, entries: Entries) -> Self {
        let not_found =
            format!("404 page not found, OTLP is received at: {}, {}, {}", paths.traces, paths.metrics, paths.logs);
        Self { paths, entries, not_found }
    }

    /// Answers a request.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Some(signal) = self.paths.signal(&without_repeated_slashes(request.uri().path())) else {
            return text(StatusCode::NOT_FOUND, self.not_found.clone());
        };
        if request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let Some(format) = format_of(request.headers().get(CONTENT_TYPE)) else {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_TYPE);
        };
        match self.take(signal, format, request).await {
            Ok(()) => success(format),
            Err(refusal) => {
                self.entries.note(Some(signal), &refusal);
                refuse(&refusal, format)
            }
        }
    }

    async fn take<B>(&self, signal: Signal, format: Format, request: Request<B>) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let encoding = Encoding::parse(request.headers().get(CONTENT_ENCODING))?;
        let entry = self.entries.get(signal);
        let (body, hold) = entry.read(request.into_body(), Framing::Plain).await?;
        entry.deliver(body, hold, encoding, format, None).await
    }
}

/// Base URLs that end in a slash make clients post to `//v1/traces`.
fn without_repeated_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The format of a content type, whatever its parameters.
fn format_of(content_type: Option<&HeaderValue>) -> Option<Format> {
    let media_type = content_type?.as_bytes().split(|b| *b == b';').next()?.trim_ascii();
    if media_type.eq_ignore_ascii_case(PROTOBUF.as_bytes()) {
        Some(Format::Protobuf)
    } else if media_type.eq_ignore_ascii_case(JSON.as_bytes()) {
        Some(Format::Json)
    } else {
        None
    }
}

fn success(format: Format) -> Response<Answer> {
    let body = match format {
        Format::Protobuf => SUCCESS_PROTOBUF,
        Format::Json => SUCCESS_JSON,
    };
    with_type(format, Answer::data(Bytes::from_static(body)))
}

/// A `google.rpc.Status` in the request's format.
fn refuse(refusal: &Refusal, format: Format) -> Response<Answer> {
    let status = refusal.status();
    let body = match format {
        Format::Protobuf => Answer::data(status.encode()),
        Format::Json => Answer::data(status.to_json()),
    };
    let mut response = with_type(format, body);
    *response.status_mut() = refusal.http_status();
    if let Some(delay) = status.retry_delay {
        // The header counts whole seconds.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(refusal, Refusal::Encoding(_)) {
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(SUPPORTED));
    }
    response
}

fn with_type(format: Format, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let content_type = match format {
        Format::Protobuf => PROTOBUF,
        Format::Json => JSON,
    };
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A plain-text answer, for requests that are no OTLP.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::data(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_slashes_collapse() {
        for (path, want) in [("/v1/traces", "/v1/traces"), ("//v1///traces", "/v1/traces"), ("/", "/"), ("//", "/")] {
            assert_eq!(without_repeated_slashes(path), want);
        }
    }

    #[test]
    fn content_types() {
        let format = |text: &'static str| format_of(Some(&HeaderValue::from_static(text)));
        assert_eq!(format("application/x-protobuf"), Some(Format::Protobuf));
        assert_eq!(format("Application/JSON; charset=utf-8"), Some(Format::Json));
        assert_eq!(format("application/json ;x=y"), Some(Format::Json));
        for other in ["", "text/plain", "application/jsonl", "application/grpc"] {
            assert_eq!(format(other), None, "{other}");
        }
        assert_eq!(format_of(None), None);
    }
}
