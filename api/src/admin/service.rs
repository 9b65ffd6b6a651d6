//! The service between the server and the routes: lets in whoever has the key.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use weir_extensions::http::{Ask, BodyError, Page, Pages};
use weir_pipeline::tenant::KeyHash;
use weir_store::maintain::Maintenance;

use super::problem::Problem;
use super::routes;

/// Most bytes of a request's body.
const BODY_LIMIT: usize = 64 << 10;

/// Most bytes of an answer: that of ten thousand projects has a tenth of it.
const ANSWER_LIMIT: usize = 256 << 20;

/// Requests at one time that read tables.
const TABLES: usize = 4;

/// Where the description is, which needs no key.
const OPENAPI: &str = "/openapi.json";

/// What the routes share.
pub(super) struct Shared {
    pub(super) maintenance: Maintenance,
    /// Room for requests that read tables.
    pub(super) tables: Arc<Semaphore>,
}

/// Answers all requests: the extension without its server.
pub struct Service {
    key: KeyHash,
    router: Router,
    openapi: Vec<u8>,
}

impl Service {
    /// Serves what `maintenance` looks after to whoever has the key of this hash.
    pub fn new(maintenance: Maintenance, key: KeyHash) -> Self {
        let (router, openapi) = routes::router();
        let shared = Shared { maintenance, tables: Arc::new(Semaphore::new(TABLES)) };
        let router = router.with_state(Arc::new(shared));
        let openapi = openapi.to_string().into_bytes();
        Self { key, router, openapi }
    }

    /// Whether a request has the admin key, in a time that does not tell how much of it is right.
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
        let (scheme, key) = value.split_once(' ').unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer") && KeyHash::of(key.trim()).is(&self.key)
    }

    async fn route(&self, ask: &Ask) -> Result<Page, Problem> {
        let body = match &ask.body {
            Ok(body) => body.clone(),
            Err(error @ BodyError::TooLarge) => {
                let detail = format!("{error}: at most {BODY_LIMIT} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            Err(error) => return Err(Problem::new(StatusCode::BAD_REQUEST, error.to_string())),
        };
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        *request.headers_mut() = ask.headers.clone();
        // A router has no errors of its own.
        let answered = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (head, body) = answered.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_LIMIT).await;
        let body = body.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long"))?;
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

#[async_trait]
impl Pages for Service {
    async fn answer(&self, ask: &Ask) -> Page {
        let mut page = if ask.uri.path() == OPENAPI && (ask.method == "GET" || ask.method == "HEAD") {
            let mut page = Response::new(Full::new(self.openapi.clone().into()));
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            page
        } else if self.lets_in(&ask.headers) {
            self.route(ask).await.unwrap_or_else(|problem| refuse(&problem))
        } else {
            refuse(&Problem::new(
                StatusCode::UNAUTHORIZED,
                "this needs the admin key: `Authorization: Bearer <admin_key>`, as `admin_api` is configured",
            ))
        };
        // Some of it is said once, and all of it may be different the next moment.
        page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page
    }

    fn methods(&self, _path: &str) -> &'static str {
        // The routes know better.
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    }

    fn body_limit(&self) -> usize {
        BODY_LIMIT
    }
}

fn refuse(problem: &Problem) -> Page {
    let (status, headers, body) = problem.parts();
    let mut page = Response::new(Full::new(body));
    *page.status_mut() = status;
    *page.headers_mut() = headers;
    page
}
