//! `weir envs`: environments of all projects, or of one.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use weir_api::admin::view::{DeletedView, EnvironmentList};
use weir_pipeline::tenant::{Organization, Project, Slug};
use weir_store::maintain::Removed;

use super::super::answer;
use super::super::store::{StoreArguments, block_on};
use super::arguments::{AnswerArguments, ConsentArguments, ScopeArguments};
use super::{confirm, json, keys_line, removed_lines, row, say, slug, table};

#[derive(Subcommand)]
pub(crate) enum EnvsCommand {
    /// List the environments of a project, or without --project those that all projects have
    List(ListArguments),
    /// Make an environment in one project, or without --project in all, present and future
    Create(CreateArguments),
    /// Delete an environment with its keys and spans, for good: from one project, or without --project from all
    Delete(DeleteArguments),
}

#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct CreateArguments {
    /// What people read, such as "EU Production"; its slug is made of it: eu-production
    name: String,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Args)]
pub(crate) struct DeleteArguments {
    /// The environment
    #[arg(value_name = "SLUG", value_parser = slug)]
    environment: Slug,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    consent: ConsentArguments,
    #[command(flatten)]
    answer: AnswerArguments,
}

pub(in crate::cli) fn envs(command: &EnvsCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            EnvsCommand::List(arguments) => list(arguments).await,
            EnvsCommand::Create(arguments) => create(arguments).await,
            EnvsCommand::Delete(arguments) => Box::pin(delete(arguments)).await,
        }
    })
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    let organization = maintenance.registry().organization().await?;
    let project = match &arguments.scope.project {
        Some(slug) => Some(maintenance.registry().project(slug).await?),
        None => None,
    };
    let list = EnvironmentList::of(&organization, project.as_ref());
    if arguments.answer.is_json() {
        return answer(&json(&list)?);
    }
    let mut rows = vec![row(["SLUG", "NAME", "LEVEL", "KEEP", ""])];
    rows.extend(
        list.environments
            .iter()
            .map(|e| row([&e.slug, &e.name, e.level.as_str(), &e.keep, if e.deleting { "being deleted" } else { "" }])),
    );
    answer(&table(&rows))
}

async fn create(arguments: &CreateArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.store.maintenance()?;
    maintenance.root().check_conditional_put().await?;
    let registry = maintenance.registry();
    let now = maintenance.now_unix_nanos();
    let name = &arguments.name;
    let (slug, place) = match &arguments.scope.project {
        Some(project) => {
            let organization = registry.organization().await?;
            let add = |document: &mut Project| document.add_environment(&organization, name, now);
            (registry.change_project(project, add).await?, format!("in the project `{project}`"))
        }
        None => {
            let add = |organization: &mut Organization| organization.add_environment(name, now);
            (registry.change_organization(add).await?, "in all projects".to_owned())
        }
    };
    answer(&format!("created the environment `{slug}` {place}\n"))
}

async fn delete(arguments: &DeleteArguments) -> anyhow::Result<ExitCode> {
    let (maintenance, slug) = (arguments.answer.store.maintenance()?, &arguments.environment);
    let registry = maintenance.registry();
    let mut organization = registry.organization().await?;
    let keys = |project: &Project| {
        project.keys.iter().filter(|k| k.environment == *slug && k.revoked_unix_nano.is_none()).count()
    };
    let (what, goes) = match &arguments.scope.project {
        Some(name) => {
            let mut project = registry.project(name).await?;
            let goes =
                vec![keys_line(keys(&project)), maintenance.stored(name.as_str()).await?.of(slug.as_str()).to_string()];
            // Says now what would be said after the question.
            project.begin_delete_environment(&organization, slug)?;
            (format!("the environment `{slug}` of the project `{name}`"), goes)
        }
        None => {
            organization.begin_delete_environment(slug)?;
            let (projects, unreadable) = registry.projects().await?;
            super::complain(&unreadable);
            let mut goes = vec![keys_line(projects.iter().map(keys).sum())];
            let stored = maintenance.stored_everywhere(slug).await?;
            goes.extend(stored.iter().map(|(project, amount)| format!("{project}: {amount}")));
            (format!("the environment `{slug}` of all projects"), goes)
        }
    };
    confirm(&what, slug, &goes, arguments.consent.yes)?;
    say("its keys are refused now; waiting until every collector knows, then deleting …");
    let removed: BTreeMap<String, Removed> = match &arguments.scope.project {
        Some(project) => BTreeMap::from([(project.to_string(), maintenance.delete_environment(project, slug).await?)]),
        None => maintenance.delete_organization_environment(slug).await?,
    };
    if arguments.answer.is_json() {
        return answer(&json(&DeletedView::of(slug, &removed))?);
    }
    let mut text = format!("deleted {what}\n");
    for (project, removed) in &removed {
        text.push_str(&format!("  {project}: {}\n", removed_lines(removed).join(", ")));
    }
    answer(&text)
}
