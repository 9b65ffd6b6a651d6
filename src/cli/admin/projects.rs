//! `weir projects`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use weir_api::admin::view::{DeletedView, ProjectList, ProjectView};
use weir_pipeline::tenant::{Project, Slug};

use super::super::answer;
use super::super::store::{StoreArguments, block_on};
use super::arguments::{AnswerArguments, ConsentArguments};
use super::{complain, confirm, json, keys_line, lines, removed_lines, row, say, slug, table};

#[derive(Subcommand)]
pub(crate) enum ProjectsCommand {
    /// List the projects
    List(ListArguments),
    /// Make a project
    Create(CreateArguments),
    /// Change the name that people read; the slug, keys and data stay
    Rename(RenameArguments),
    /// Delete a project with its keys and all its spans, for good
    Delete(DeleteArguments),
}

#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct CreateArguments {
    /// What people read, such as "Web App"; its slug is made of it: web-app
    name: String,
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct RenameArguments {
    /// The project
    #[arg(value_name = "SLUG", value_parser = slug)]
    project: Slug,
    /// Its new name
    name: String,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Args)]
pub(crate) struct DeleteArguments {
    /// The project
    #[arg(value_name = "SLUG", value_parser = slug)]
    project: Slug,
    #[command(flatten)]
    consent: ConsentArguments,
    #[command(flatten)]
    answer: AnswerArguments,
}

pub(in crate::cli) fn projects(command: &ProjectsCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            ProjectsCommand::List(arguments) => list(arguments).await,
            ProjectsCommand::Create(arguments) => create(arguments).await,
            ProjectsCommand::Rename(arguments) => rename(arguments).await,
            ProjectsCommand::Delete(arguments) => Box::pin(delete(arguments)).await,
        }
    })
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    let organization = maintenance.registry().organization().await?;
    let (projects, unreadable) = maintenance.registry().projects().await?;
    complain(&unreadable);
    let list = ProjectList::of(&projects, &unreadable, &organization);
    if arguments.answer.is_json() {
        return answer(&json(&list)?);
    }
    if list.projects.is_empty() {
        say("there are no projects yet: weir projects create NAME");
    }
    let mut rows = vec![row(["SLUG", "NAME", "CREATED", "ENVIRONMENTS", "KEYS", ""])];
    rows.extend(list.projects.iter().map(|project| {
        let alive = project.environments.iter().filter(|e| !e.deleting);
        let environments: Vec<&str> = alive.map(|e| e.slug.as_str()).collect();
        let state = if project.deleting { "being deleted" } else { "" };
        let keys = project.keys.to_string();
        row([&project.slug, &project.name, &project.created, &environments.join(", "), &keys, state])
    }));
    answer(&table(&rows))
}

async fn create(arguments: &CreateArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    maintenance.root().check_conditional_put().await?;
    let project = maintenance.registry().create_project(&arguments.name).await?;
    if arguments.answer.is_json() {
        let organization = maintenance.registry().organization().await?;
        return answer(&json(&ProjectView::of(&project, &organization))?);
    }
    answer(&format!("created the project `{}` ({})\n", project.slug, project.name))
}

async fn rename(arguments: &RenameArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.store.maintenance()?;
    let rename = |project: &mut Project| {
        project.rename(&arguments.name)?;
        Ok(project.name.clone())
    };
    let name = maintenance.registry().change_project(&arguments.project, rename).await?;
    answer(&format!("the project `{}` is called {name} now\n", arguments.project))
}

async fn delete(arguments: &DeleteArguments) -> anyhow::Result<ExitCode> {
    let slug = &arguments.project;
    let maintenance = arguments.answer.store.maintenance()?;
    let project = maintenance.registry().project(slug).await?;
    let mut goes = vec![keys_line(project.keys.iter().filter(|key| key.revoked_unix_nano.is_none()).count())];
    match maintenance.stored(slug.as_str()).await {
        Ok(stored) if stored.is_empty() => goes.push("no spans".to_owned()),
        Ok(stored) => goes.extend(lines(&stored)),
        Err(error) => goes.push(format!("whatever is stored; its table cannot be read: {error}")),
    }
    confirm(&format!("the project `{slug}` ({})", project.name), slug, &goes, arguments.consent.yes)?;
    say("its keys are refused now; waiting until every collector knows, then deleting …");
    let removed = maintenance.delete_project(slug).await?;
    if arguments.answer.is_json() {
        return answer(&json(&DeletedView::of(slug, &BTreeMap::from([(slug.to_string(), removed)])))?);
    }
    answer(&format!("deleted the project `{slug}`:\n  {}\n", removed_lines(&removed).join("\n  ")))
}
