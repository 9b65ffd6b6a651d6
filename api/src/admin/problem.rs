//! What is answered when something is not possible.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use weir_pipeline::tenant::{InvalidKeep, InvalidSlug, RecordError, key::InvalidLifetime};
use weir_store::StoreError;
use weir_store::maintain::MaintainError;
use weir_store::registry::RegistryError;

use super::view::AmountView;

/// Why a request was not done, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what to do.
    detail: String,
    /// Before a deletion that was not confirmed: what would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_delete: Option<Vec<AmountView>>,
}

impl Problem {
    /// A problem of this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            would_delete: None,
        }
    }

    /// Something in the request that cannot be done, though it can be understood.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// The store cannot be read now.
    pub(super) fn store(error: &StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store cannot be used now: {error}"))
    }

    /// With what a deletion would take.
    pub(super) fn with_amounts(self, amounts: Vec<AmountView>) -> Self {
        Self { would_delete: Some(amounts), ..self }
    }

    /// The answer: status, headers, body.
    pub(super) fn parts(&self) -> (StatusCode, HeaderMap, Bytes) {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        // It has texts and numbers only.
        (status, headers, serde_json::to_vec(self).unwrap_or_default().into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.parts().into_response()
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        let status = match &error {
            RecordError::Name(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RecordError::Unknown { .. } => StatusCode::NOT_FOUND,
            RecordError::Format(_) => StatusCode::INTERNAL_SERVER_ERROR,
            RecordError::Exists { .. }
            | RecordError::BuiltIn(_)
            | RecordError::OrganizationLevel(_)
            | RecordError::Deleting(_)
            | RecordError::DeletingEnvironment(_)
            | RecordError::TooMany(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Record(error) => error.into(),
            RegistryError::Store(error) => Self::store(&error),
            RegistryError::Contended(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

impl From<MaintainError> for Problem {
    fn from(error: MaintainError) -> Self {
        match error {
            MaintainError::Registry(error) => error.into(),
            MaintainError::Store(error) => Self::store(&error),
            MaintainError::StillWritten { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

impl From<InvalidSlug> for Problem {
    fn from(error: InvalidSlug) -> Self {
        Self::unprocessable(error.to_string())
    }
}

impl From<InvalidKeep> for Problem {
    fn from(error: InvalidKeep) -> Self {
        Self::unprocessable(error.to_string())
    }
}

impl From<InvalidLifetime> for Problem {
    fn from(error: InvalidLifetime) -> Self {
        Self::unprocessable(error.to_string())
    }
}
