//! The routes, each beside its description.

mod environments;
mod keys;
mod projects;
mod retention;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use weir_pipeline::tenant::Slug;

use super::describe::{self, Operation};
use super::problem::Problem;
use super::service::Shared;
use super::view::{AmountView, DeletedView};

/// What every handler gets.
type State = axum::extract::State<Arc<Shared>>;

/// All routes, and their description.
pub(super) fn router() -> (Router<Arc<Shared>>, Value) {
    let operations = (projects::operations().into_iter())
        .chain(environments::operations())
        .chain(keys::operations())
        .chain(retention::operations());
    let (router, description) = describe::route(operations);
    (router.fallback(nowhere).method_not_allowed_fallback(not_so), description)
}

async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path; /openapi.json has all paths")
}

async fn not_so() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method; /openapi.json has all methods")
}

/// A body of JSON, whatever its content type says: `curl -d` calls everything a form.
struct Json<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Problem::unprocessable(format!("the body: {error}")),
            _ => Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}")),
        })
    }
}

/// A path with slugs. What is none names nothing.
struct Path<T>(T);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Path<Slug> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let Strings([only]) = Strings::from_request_parts(parts, state).await?;
        Ok(Self(slug(&only)?))
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Path<(Slug, Slug)> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let Strings([first, second]) = Strings::from_request_parts(parts, state).await?;
        Ok(Self((slug(&first)?, slug(&second)?)))
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Path<(Slug, String)> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let Strings([first, second]) = Strings::from_request_parts(parts, state).await?;
        Ok(Self((slug(&first)?, second)))
    }
}

/// The variable parts of a path, decoded.
struct Strings<const N: usize>([String; N]);

impl<const N: usize, S: Send + Sync> axum::extract::FromRequestParts<S> for Strings<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let nothing = |detail: String| Problem::new(StatusCode::NOT_FOUND, detail);
        let strings = axum::extract::Path::<Vec<String>>::from_request_parts(parts, state).await;
        let axum::extract::Path(strings) = strings.map_err(|error| nothing(error.body_text()))?;
        let strings = strings.try_into().map_err(|_| nothing("the path has other parts".to_owned()))?;
        Ok(Self(strings))
    }
}

fn slug(text: &str) -> Result<Slug, Problem> {
    text.parse::<Slug>().map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))
}

/// What a query string is read as; what it should not have is told.
struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let axum::extract::Query(query) =
            query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(Self(query))
    }
}

/// The word without which nothing is deleted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Confirm {
    /// The slug of what is to be deleted, once more. Without it nothing happens, and the answer says what would go.
    confirm: Option<String>,
}

impl Operation {
    /// It deletes for good what is confirmed; `conflict` is why that may not be possible.
    fn deletes(self, conflict: &'static str) -> Self {
        let operation = self.asks::<Confirm>().answers::<DeletedView>(StatusCode::OK);
        let operation = operation.refuses(StatusCode::CONFLICT, conflict);
        operation.refuses(StatusCode::UNPROCESSABLE_ENTITY, "It is not confirmed").needs_room()
    }
}

impl Confirm {
    /// Whether the deletion is confirmed.
    ///
    /// # Errors
    /// Tells what would go, and how to confirm it.
    fn check(&self, slug: &Slug, what: &str, goes: Vec<AmountView>) -> Result<(), Problem> {
        if self.confirm.as_deref() == Some(slug.as_str()) {
            return Ok(());
        }
        let detail = format!("this deletes {what} for good: repeat it with ?confirm={slug}");
        Err(Problem::unprocessable(detail).with_amounts(goes))
    }

    fn is_given(&self, slug: &Slug) -> bool {
        self.confirm.as_deref() == Some(slug.as_str())
    }
}

impl Shared {
    /// Room to read tables.
    ///
    /// # Errors
    /// If too many do so already.
    fn room(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.tables).try_acquire_owned().map_err(|_| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests read or delete data at once: try again")
        })
    }
}

/// Does work that goes on although the client may go away.
async fn complete<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "it broke off; doing it again goes on");
    tokio::spawn(work).await.unwrap_or_else(|error| Err(failed(error)))
}

/// An answer with JSON.
fn answer(status: StatusCode, body: impl serde::Serialize) -> Response {
    (status, axum::Json(body)).into_response()
}
