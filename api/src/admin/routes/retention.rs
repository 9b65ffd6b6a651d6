//! `/v2/retention` and `/v2/projects/{project}/retention`

use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::tenant::{Keep, Organization, Project, RecordError, Slug};
use weir_store::registry::RegistryError;

use super::{Json, Path, State, answer};
use crate::admin::describe::Operation;
use crate::admin::problem::Problem;
use crate::admin::view::RetentionView;

/// The operations on retention.
pub(super) fn operations() -> [Operation; 4] {
    const ALL: &str = "/v2/retention";
    const OF_PROJECT: &str = "/v2/projects/{project}/retention";
    [
        Operation::get(ALL, get)
            .about("retention", "How long spans are kept where their project says nothing.")
            .answers::<RetentionView>(StatusCode::OK),
        Operation::put(ALL, set)
            .about(
                "retention",
                "Says how long spans are kept where their project says nothing. What is past its time goes with the next \
                 maintenance.",
            )
            .takes::<SetRetention>()
            .answers::<RetentionView>(StatusCode::OK)
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "There is no such environment, or this is no time"),
        Operation::get(OF_PROJECT, get_of_project)
            .about("retention", "How long the spans of a project are kept.")
            .answers::<RetentionView>(StatusCode::OK),
        Operation::put(OF_PROJECT, set_of_project)
            .about(
                "retention",
                "Says how long the spans of a project are kept. What is past its time goes with the next maintenance.",
            )
            .takes::<SetRetention>()
            .answers::<RetentionView>(StatusCode::OK)
            .refuses(StatusCode::CONFLICT, "The project is being deleted")
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "There is no such environment, or this is no time"),
    ]
}

/// A word about retention.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRetention {
    /// Of one environment; of all others without.
    environment: Option<String>,
    /// Days such as `30d`, `forever`, or `null` to take back what was said.
    #[serde(deserialize_with = "given")]
    #[schemars(with = "Option<String>", required, example = &"30d")]
    keep: Option<Keep>,
}

/// A value that must be there, be it `null`.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Keep>, D::Error> {
    Option::deserialize(deserializer)
}

impl SetRetention {
    fn environment(&self) -> Result<Option<Slug>, Problem> {
        Ok(self.environment.as_deref().map(str::parse).transpose()?)
    }
}

pub(super) async fn get(state: State) -> Result<Response, Problem> {
    let organization = state.maintenance.registry().organization().await?;
    Ok(answer(StatusCode::OK, RetentionView::of(&organization, None)))
}

pub(super) async fn set(state: State, Json(said): Json<SetRetention>) -> Result<Response, Problem> {
    state.maintenance.root().check_conditional_put().await?;
    let environment = said.environment()?;
    let set = |organization: &mut Organization| {
        organization.set_retention(environment.as_ref(), said.keep)?;
        Ok(organization.clone())
    };
    let organization = state.maintenance.registry().change_organization(set).await.map_err(of_the_body)?;
    Ok(answer(StatusCode::OK, RetentionView::of(&organization, None)))
}

pub(super) async fn get_of_project(state: State, Path(project): Path<Slug>) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let project = registry.project(&project).await?;
    Ok(answer(StatusCode::OK, RetentionView::of(&registry.organization().await?, Some(&project))))
}

pub(super) async fn set_of_project(
    state: State,
    Path(project): Path<Slug>,
    Json(said): Json<SetRetention>,
) -> Result<Response, Problem> {
    let registry = state.maintenance.registry();
    let environment = said.environment()?;
    let organization = registry.organization().await?;
    let set = |document: &mut Project| {
        document.set_retention(&organization, environment.as_ref(), said.keep)?;
        Ok(document.clone())
    };
    let document = registry.change_project(&project, set).await.map_err(of_the_body)?;
    Ok(answer(StatusCode::OK, RetentionView::of(&organization, Some(&document))))
}

/// An unknown environment is what the body says, and not what the path names.
fn of_the_body(error: RegistryError) -> Problem {
    match error {
        RegistryError::Record(error @ RecordError::Unknown { what: "environment", .. }) => {
            Problem::unprocessable(error.to_string())
        }
        error => error.into(),
    }
}
