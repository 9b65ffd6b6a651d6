//! `/v2/projects`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::tenant::Slug;

use super::{Confirm, Json, Path, Query, State, answer, complete};
use crate::admin::describe::Operation;
use crate::admin::problem::Problem;
use crate::admin::view::{AmountView, DeletedView, ProjectList, ProjectView, StoredView};

/// The operations on projects.
pub(super) fn operations() -> [Operation; 6] {
    const ONE: &str = "/v2/projects/{project}";
    [
        Operation::get("/v2/projects", list).about("projects", "All projects.").answers::<ProjectList>(StatusCode::OK),
        Operation::post("/v2/projects", create)
            .about("projects", "Makes a project.")
            .takes::<NewProject>()
            .answers::<ProjectView>(StatusCode::CREATED)
            .names(),
        Operation::get(ONE, get).about("projects", "A project.").answers::<ProjectView>(StatusCode::OK),
        Operation::patch(ONE, rename)
            .about("projects", "Changes the name that people read. The slug, keys and data stay.")
            .takes::<NewProject>()
            .answers::<ProjectView>(StatusCode::OK)
            .refuses(StatusCode::CONFLICT, "It is being deleted")
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "The name is none"),
        Operation::delete(ONE, delete)
            .about(
                "projects",
                "Deletes a project with its keys and all its spans, for good. Its keys are refused at once; the answer \
                 comes when everything is gone, which takes a quarter of a minute and more.",
            )
            .deletes("Spans keep arriving"),
        Operation::get("/v2/projects/{project}/stored", stored)
            .about("projects", "How much is stored of a project, by environment.")
            .answers::<StoredView>(StatusCode::OK)
            .needs_room(),
    ]
}

/// A project that is to be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    /// What people read; the slug is made of it: `Web App` becomes `web-app`.
    #[schemars(example = &"Web App")]
    name: String,
}

pub(super) async fn list(state: State) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let organization = registry.organization().await?;
    let (projects, unreadable) = registry.projects().await?;
    Ok(answer(StatusCode::OK, ProjectList::of(&projects, &unreadable, &organization)))
}

pub(super) async fn create(state: State, Json(new): Json<NewProject>) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    state.maintenance.root().check_conditional_put().await?;
    let project = registry.create_project(&new.name).await?;
    let view = ProjectView::of(&project, &registry.organization().await?);
    let location = format!("/v2/projects/{}", project.slug);
    Ok(([(LOCATION, location)], answer(StatusCode::CREATED, view)).into_response())
}

pub(super) async fn get(state: State, Path(slug): Path<Slug>) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let project = registry.project(&slug).await?;
    Ok(answer(StatusCode::OK, ProjectView::of(&project, &registry.organization().await?)))
}

pub(super) async fn rename(
    state: State,
    Path(slug): Path<Slug>,
    Json(new): Json<NewProject>,
) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let rename = |project: &mut weir_pipeline::tenant::Project| {
        project.rename(&new.name)?;
        Ok(project.clone())
    };
    let project = registry.change_project(&slug, rename).await?;
    Ok(answer(StatusCode::OK, ProjectView::of(&project, &registry.organization().await?)))
}

pub(super) async fn delete(
    state: State,
    Path(slug): Path<Slug>,
    Query(confirm): Query<Confirm>,
) -> Result<Response, Problem> {
    let room = state.room()?;
    state.maintenance.registry().project(&slug).await?;
    if !confirm.is_given(&slug) {
        let stored = state.maintenance.stored(slug.as_str()).await?;
        confirm.check(&slug, &format!("the project `{slug}`"), AmountView::all(slug.as_str(), &stored))?;
    }
    let shared = Arc::clone(&state);
    let view = complete(async move {
        let removed = shared.maintenance.delete_project(&slug).await?;
        drop(room);
        Ok(DeletedView::of(&slug, &BTreeMap::from([(slug.to_string(), removed)])))
    });
    Ok(answer(StatusCode::OK, view.await?))
}

pub(super) async fn stored(state: State, Path(slug): Path<Slug>) -> Result<Response, Problem> {
    let _room = state.room()?;
    state.maintenance.registry().project(&slug).await?;
    let stored = state.maintenance.stored(slug.as_str()).await?;
    Ok(answer(StatusCode::OK, StoredView { stored: AmountView::all(slug.as_str(), &stored) }))
}
