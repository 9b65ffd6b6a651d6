//! `/v2/environments` and `/v2/projects/{project}/environments`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::tenant::{Organization, Project, Slug};

use super::{Confirm, Json, Path, Query, State, answer, complete};
use crate::admin::describe::Operation;
use crate::admin::problem::Problem;
use crate::admin::view::{AmountView, DeletedView, EnvironmentList, EnvironmentView};

/// The operations on environments.
pub(super) fn operations() -> [Operation; 6] {
    const ALL: &str = "/v2/environments";
    const OF_PROJECT: &str = "/v2/projects/{project}/environments";
    [
        Operation::get(ALL, list)
            .about("environments", "The environments that all projects have.")
            .answers::<EnvironmentList>(StatusCode::OK),
        Operation::post(ALL, create)
            .about("environments", "Makes an environment in all projects, present and future.")
            .takes::<NewEnvironment>()
            .answers::<EnvironmentView>(StatusCode::CREATED)
            .names(),
        Operation::delete("/v2/environments/{environment}", delete)
            .about(
                "environments",
                "Deletes an environment with its keys and spans from all projects, for good. See the deletion of a project.",
            )
            .deletes("It is built in, or spans keep arriving"),
        Operation::get(OF_PROJECT, list_of_project)
            .about("environments", "The environments of a project, those of the organization included.")
            .answers::<EnvironmentList>(StatusCode::OK),
        Operation::post(OF_PROJECT, create_in_project)
            .about("environments", "Makes an environment in one project.")
            .takes::<NewEnvironment>()
            .answers::<EnvironmentView>(StatusCode::CREATED)
            .names(),
        Operation::delete("/v2/projects/{project}/environments/{environment}", delete_from_project)
            .about(
                "environments",
                "Deletes an environment of one project with its keys and spans, for good. See the deletion of a project.",
            )
            .deletes("It belongs to the organization, or spans keep arriving"),
    ]
}

/// An environment that is to be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEnvironment {
    /// What people read; the slug is made of it: `EU Production` becomes `eu-production`.
    #[schemars(example = &"EU Production")]
    name: String,
}

pub(super) async fn list(state: State) -> Result<Response, Problem> {
    let organization = state.maintenance.registry().organization().await?;
    Ok(answer(StatusCode::OK, EnvironmentList::of(&organization, None)))
}

pub(super) async fn create(state: State, Json(new): Json<NewEnvironment>) -> Result<Response, Problem> {
    state.maintenance.root().check_conditional_put().await?;
    let now = state.maintenance.now_unix_nanos();
    let add = |organization: &mut Organization| {
        let slug = organization.add_environment(&new.name, now)?;
        Ok((slug, organization.clone()))
    };
    let (slug, organization) = state.maintenance.registry().change_organization(add).await?;
    Ok(created(&slug, &EnvironmentList::of(&organization, None), &format!("/v2/environments/{slug}")))
}

pub(super) async fn delete(
    state: State,
    Path(slug): Path<Slug>,
    Query(confirm): Query<Confirm>,
) -> Result<Response, Problem> {
    let room = state.room()?;
    state.maintenance.registry().organization().await?.begin_delete_environment(&slug)?;
    if !confirm.is_given(&slug) {
        let stored = state.maintenance.stored_everywhere(&slug).await?;
        let goes = stored.iter().map(|(project, amount)| AmountView::of(project, slug.as_str(), *amount)).collect();
        confirm.check(&slug, &format!("the environment `{slug}` of all projects"), goes)?;
    }
    let shared = Arc::clone(&state);
    let view = complete(async move {
        let removed = shared.maintenance.delete_organization_environment(&slug).await?;
        drop(room);
        Ok(DeletedView::of(&slug, &removed))
    });
    Ok(answer(StatusCode::OK, view.await?))
}

pub(super) async fn list_of_project(state: State, Path(project): Path<Slug>) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let project = registry.project(&project).await?;
    Ok(answer(StatusCode::OK, EnvironmentList::of(&registry.organization().await?, Some(&project))))
}

pub(super) async fn create_in_project(
    state: State,
    Path(project): Path<Slug>,
    Json(new): Json<NewEnvironment>,
) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let now = state.maintenance.now_unix_nanos();
    let organization = registry.organization().await?;
    let add = |document: &mut Project| {
        let slug = document.add_environment(&organization, &new.name, now)?;
        Ok((slug, document.clone()))
    };
    let (slug, document) = registry.change_project(&project, add).await?;
    let location = format!("/v2/projects/{project}/environments/{slug}");
    Ok(created(&slug, &EnvironmentList::of(&organization, Some(&document)), &location))
}

pub(super) async fn delete_from_project(
    state: State,
    Path((project, slug)): Path<(Slug, Slug)>,
    Query(confirm): Query<Confirm>,
) -> Result<Response, Problem> {
    let room = state.room()?;
    let registry = state.maintenance.registry();
    let organization = registry.organization().await?;
    registry.project(&project).await?.begin_delete_environment(&organization, &slug)?;
    if !confirm.is_given(&slug) {
        let amount = state.maintenance.stored(project.as_str()).await?.of(slug.as_str());
        let goes = vec![AmountView::of(project.as_str(), slug.as_str(), amount)];
        confirm.check(&slug, &format!("the environment `{slug}` of the project `{project}`"), goes)?;
    }
    let shared = Arc::clone(&state);
    let view = complete(async move {
        let removed = shared.maintenance.delete_environment(&project, &slug).await?;
        drop(room);
        Ok(DeletedView::of(&slug, &BTreeMap::from([(project.to_string(), removed)])))
    });
    Ok(answer(StatusCode::OK, view.await?))
}

fn created(slug: &Slug, list: &EnvironmentList, location: &str) -> Response {
    let view = list.environments.iter().find(|environment| environment.slug == slug.as_str());
    ([(LOCATION, location.to_owned())], answer(StatusCode::CREATED, view)).into_response()
}
