//! What the Traceloop SDKs ask of the address that they send to, beside OTLP.
//!
//! They fetch prompts, and whose content may be traced, when they start, and take any answer but a 200 as a reason to
//! fail: `Traceloop.init()` then raises, and the application does not come up. There are no prompts here, and nobody's
//! content is an exception, so that is what they are told. All else of that API is not here, which is said in the form
//! in which the SDKs show errors.

use http::{HeaderValue, Method, Response, StatusCode, header::CONTENT_TYPE};

use super::answer::Answer;

const PROMPTS: &str = r#"{"prompts":[]}"#;
const ALLOW_LIST: &str = r#"{"associationPropertyAllowList":[]}"#;
const NOT_HERE: &str = r#"{"error":"this address takes telemetry (OTLP) only: Traceloop's API is not here"}"#;

/// The answer to a request of Traceloop's API; `None` if it is none. `path` has no repeated slashes.
pub(super) fn answer(method: &Method, path: &str) -> Option<Response<Answer>> {
    let (status, body) = match path {
        "/v1/traceloop/prompts" if method == Method::GET => (StatusCode::OK, PROMPTS),
        "/v1/traceloop/pii/tracing-allow-list" if method == Method::GET => (StatusCode::OK, ALLOW_LIST),
        _ if path.starts_with("/v1/traceloop/") || path.starts_with("/v2/") => (StatusCode::NOT_FOUND, NOT_HERE),
        _ => return None,
    };
    let mut response = Response::new(Answer::data(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
}
