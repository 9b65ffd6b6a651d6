//! `weir retention`: how long spans are kept.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use weir_api::admin::view::RetentionView;
use weir_pipeline::tenant::{Keep, Organization, Project, Slug};

use super::super::answer;
use super::super::store::{StoreArguments, block_on};
use super::arguments::{AnswerArguments, ScopeArguments};
use super::{json, row, slug, table};

#[derive(Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show how long the spans of a project are kept, or without --project what is said for all
    Show(ShowArguments),
    /// Say how long spans are kept: the closest word counts, first of a project and environment, last of all projects
    Set(SetArguments),
}

#[derive(Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct SetArguments {
    /// Days such as 30d, `forever`, or `inherit` to take back what was said
    #[arg(value_name = "KEEP", value_parser = keep)]
    keep: Said,
    #[command(flatten)]
    scope: ScopeArguments,
    /// The environment
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    env: Option<Slug>,
    #[command(flatten)]
    store: StoreArguments,
}

/// A word about retention. Not an `Option` itself, which the command line would take for an argument that may be missing.
#[derive(Clone, Copy)]
struct Said(Option<Keep>);

fn keep(text: &str) -> Result<Said, String> {
    match text {
        "inherit" => Ok(Said(None)),
        text => text.parse().map(|keep| Said(Some(keep))).map_err(|error| format!("{error}, or `inherit`")),
    }
}

pub(in crate::cli) fn retention(command: &RetentionCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            RetentionCommand::Show(arguments) => show(arguments).await,
            RetentionCommand::Set(arguments) => set(arguments).await,
        }
    })
}

async fn show(arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    let organization = maintenance.registry().organization().await?;
    let project = match &arguments.scope.project {
        Some(slug) => Some(maintenance.registry().project(slug).await?),
        None => None,
    };
    let view = RetentionView::of(&organization, project.as_ref());
    if arguments.answer.is_json() {
        return answer(&json(&view)?);
    }
    let mut rows = vec![row(["ENVIRONMENT", "KEEP", "SAID OF"])];
    rows.extend(view.retention.iter().map(|kept| row([&kept.environment, &kept.keep, kept.said_of.words()])));
    answer(&table(&rows))
}

async fn set(arguments: &SetArguments) -> anyhow::Result<ExitCode> {
    let SetArguments { keep: Said(keep), scope: ScopeArguments { project }, env, store } = arguments;
    let maintenance = store.maintenance()?;
    maintenance.root().check_conditional_put().await?;
    let registry = maintenance.registry();
    match project {
        Some(project) => {
            let organization = registry.organization().await?;
            let set = |document: &mut Project| document.set_retention(&organization, env.as_ref(), *keep);
            registry.change_project(project, set).await?;
        }
        None => {
            let set = |organization: &mut Organization| organization.set_retention(env.as_ref(), *keep);
            registry.change_organization(set).await?;
        }
    }
    let of = match (project, env) {
        (Some(project), Some(env)) => format!("{project}/{env}"),
        (Some(project), None) => format!("the project `{project}`"),
        (None, Some(env)) => format!("`{env}` of all projects"),
        (None, None) => "all projects".to_owned(),
    };
    answer(&match keep {
        Some(keep) => format!("spans of {of}: {keep}\n"),
        None => format!("spans of {of}: nothing is said any more\n"),
    })
}
