//! `/v2/projects/{project}/keys`

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::tenant::key::lifetime;
use weir_pipeline::tenant::{RecordError, Slug};
use weir_store::registry::RegistryError;

use super::{Json, Path, Query, State, answer};
use crate::admin::describe::Operation;
use crate::admin::problem::Problem;
use crate::admin::view::{KeyList, KeyView, NewKeyView};

/// The operations on keys.
pub(super) fn operations() -> [Operation; 3] {
    const OF_PROJECT: &str = "/v2/projects/{project}/keys";
    [
        Operation::get(OF_PROJECT, list)
            .about("keys", "The keys of a project, revoked ones included. What is shown of them opens nothing.")
            .asks::<Which>()
            .answers::<KeyList>(StatusCode::OK)
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "There is no such environment"),
        Operation::post(OF_PROJECT, create)
            .about("keys", "Makes a key. It is in this answer and can never be had again.")
            .takes::<NewKey>()
            .answers::<NewKeyView>(StatusCode::CREATED)
            .refuses(StatusCode::CONFLICT, "The project is being deleted, or has too many keys")
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "There is no such environment"),
        Operation::delete("/v2/projects/{project}/keys/{id}", revoke)
            .about(
                "keys",
                "Refuses a key from now on; every collector knows within seconds. A second time changes nothing.",
            )
            .done(),
    ]
}

/// A key that is to be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// The environment that its spans will belong to.
    #[schemars(example = &"prd")]
    environment: String,
    /// What it is for.
    #[serde(default)]
    name: String,
    /// After this time it is refused: hours, days or weeks. Never if it is not given.
    #[schemars(example = &"90d")]
    expires_in: Option<String>,
}

/// Which keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those of this environment.
    environment: Option<String>,
}

pub(super) async fn list(
    state: State,
    Path(project): Path<Slug>,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let document = registry.project(&project).await?;
    let environment = which.environment.as_deref().map(str::parse::<Slug>).transpose()?;
    if let Some(environment) = &environment {
        let known = document.check_environment(&registry.organization().await?, environment);
        known.map_err(|error| Problem::unprocessable(error.to_string()))?;
    }
    let now = state.maintenance.now_unix_nanos();
    Ok(answer(StatusCode::OK, KeyList::of(&document, environment.as_ref(), &registry.key_uses().await?, now)))
}

pub(super) async fn create(
    state: State,
    Path(project): Path<Slug>,
    Json(new): Json<NewKey>,
) -> Result<Response, Problem> {
    let environment: Slug = new.environment.parse()?;
    let now = state.maintenance.now_unix_nanos();
    let expires = new.expires_in.as_deref().map(lifetime).transpose()?.map(|age| now.saturating_add(age));
    let made = state.maintenance.registry().create_key(&project, &environment, &new.name, expires).await;
    let (key, record) = made.map_err(|error| match error {
        // The project is what the path names; the environment is what the body says.
        RegistryError::Record(error @ RecordError::Unknown { what: "environment", .. }) => {
            Problem::unprocessable(error.to_string())
        }
        error => error.into(),
    })?;
    let location = format!("/v2/projects/{project}/keys/{}", record.id);
    let view = NewKeyView { key: key.expose().to_owned(), record: KeyView::of(&record, None, now) };
    Ok(([(LOCATION, location)], answer(StatusCode::CREATED, view)).into_response())
}

pub(super) async fn revoke(state: State, Path((project, id)): Path<(Slug, String)>) -> Result<Response, Problem> {
    state.maintenance.registry().revoke_key(&project, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
