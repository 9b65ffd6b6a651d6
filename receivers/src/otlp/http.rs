//! OTLP/HTTP: one POST per request, protobuf or JSON.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;
use weir_pipeline::otlp::status::{SUCCESS_JSON, SUCCESS_PROTOBUF};
use weir_pipeline::signal::Signal;

use super::access::{Access, Sender};
use super::answer::Answer;
use super::body::{Framing, Watched};
use super::config::Paths;
use super::cors::Cors;
use super::encoding::{Encoding, Encodings};
use super::entry::{Entries, Format, Message};
use super::refusal::Refusal;
use super::traceloop;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const METHOD_NOT_ALLOWED: &str = "405 method not allowed, supported: [POST]";
const UNSUPPORTED_TYPE: &str = "415 unsupported media type, supported: [application/json, application/x-protobuf]";

/// What the HTTP port answers with, and what it accepts.
#[derive(Debug, Clone)]
pub(super) struct HttpRules {
    pub(super) paths: Paths,
    pub(super) access: Access,
    pub(super) accepted: Encodings,
    pub(super) cors: Option<Cors>,
    /// Sent with every answer that does not have them of its own.
    pub(super) response_headers: HeaderMap,
}

/// The HTTP side of the receiver in one lane.
#[derive(Debug)]
pub(super) struct Http {
    rules: HttpRules,
    entries: Entries,
    not_found: String,
}

impl Http {
    pub(super) fn new(rules: HttpRules, entries: Entries) -> Self {
        let Paths { traces, metrics, logs } = &rules.paths;
        let not_found = format!("404 page not found, OTLP is received at: {traces}, {metrics}, {logs}");
        Self { rules, entries, not_found }
    }

    /// Whether clients have to say who they are.
    pub(super) fn asks_who(&self) -> bool {
        self.rules.access.authenticator.is_some()
    }

    /// Requests that the pipelines have and have not answered.
    pub(super) fn under_way(&self) -> usize {
        self.entries.under_way()
    }

    /// Answers a request, whose body must be there before `deadline` if there is one.
    pub(super) async fn answer<B>(&self, request: Request<B>, deadline: Option<Instant>) -> Response<Answer>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let is_http1 = request.version() < Version::HTTP_2;
        let (head, body) = request.into_parts();
        let mut body = Watched::new(body);
        let mut response = self.answer_any(Request::from_parts(head, &mut body), deadline).await;
        if is_http1 && !body.was_read() {
            // The connection ends with this answer, since the rest of the body is on it. Without a word a client would
            // send its next request into it, and get no answer at all.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Answers a request of any kind, preflights among them.
    async fn answer_any<B>(&self, request: Request<B>, deadline: Option<Instant>) -> Response<Answer>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let HttpRules { cors, response_headers, .. } = &self.rules;
        let cross_origin = match cors {
            Some(cors) => {
                if let Some(headers) = cors.preflight(request.method(), request.headers()) {
                    let mut response = Response::new(Answer::default());
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    *response.headers_mut() = headers;
                    add_missing(response.headers_mut(), response_headers);
                    return response;
                }
                cors.headers(request.method(), request.headers())
            }
            // An empty map allocates nothing.
            None => HeaderMap::new(),
        };
        let mut response = self.respond(request, deadline).await;
        add_missing(response.headers_mut(), &cross_origin);
        add_missing(response.headers_mut(), response_headers);
        response
    }

    async fn respond<B>(&self, request: Request<B>, deadline: Option<Instant>) -> Response<Answer>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let HttpRules { paths, access, .. } = &self.rules;
        let path = without_repeated_slashes(request.uri().path());
        let signal = paths.signal(&path);
        let format = format_of(request.headers().get(CONTENT_TYPE));
        // Before all else: who is not let in learns nothing.
        let sender = match access.admit(request.headers(), request.uri()).await {
            Ok(sender) => sender,
            Err(refusal) => {
                self.entries.note(signal, &refusal);
                return match format {
                    Some(format) => refuse(&refusal, format),
                    None => {
                        let mut response = text(refusal.http_status(), refusal.to_string());
                        ask_again(response.headers_mut(), refusal.retry_delay());
                        response
                    }
                };
            }
        };
        let Some(signal) = signal else {
            let elsewhere = traceloop::answer(request.method(), &path);
            return elsewhere.unwrap_or_else(|| text(StatusCode::NOT_FOUND, self.not_found.clone()));
        };
        if request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let Some(format) = format else {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_TYPE);
        };
        let encoding = Encoding::parse(request.headers().get(CONTENT_ENCODING), self.rules.accepted);
        // The head ends here: only the body is moved on.
        let taken = match encoding {
            Ok(encoding) => self.take(signal, format, encoding, request.into_body(), sender, deadline).await,
            Err(refusal) => Err(refusal),
        };
        match taken {
            Ok(()) => success(format),
            Err(refusal) => {
                self.entries.note(Some(signal), &refusal);
                refuse(&refusal, format)
            }
        }
    }

    async fn take<B>(
        &self,
        signal: Signal,
        format: Format,
        encoding: Encoding,
        body: B,
        sender: Option<Sender>,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let entry = self.entries.get(signal);
        let (bytes, holds) = entry.read(body, Framing::Plain, deadline, sender.as_ref()).await?;
        entry.deliver(Message { bytes, holds, encoding, format }, sender, None).await
    }
}

/// Adds the headers that are not there yet.
fn add_missing(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.entry(name).or_insert_with(|| value.clone());
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
    ask_again(response.headers_mut(), status.retry_delay);
    if let Refusal::Encoding { accepted, .. } = refusal
        && let Ok(accepted) = HeaderValue::try_from(accepted.to_string())
    {
        response.headers_mut().insert(ACCEPT_ENCODING, accepted);
    }
    response
}

fn ask_again(headers: &mut HeaderMap, after: Option<Duration>) {
    if let Some(delay) = after {
        // The header counts whole seconds.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
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
