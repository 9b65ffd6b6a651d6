//! `weir keys`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use weir_api::admin::view::{KeyList, KeyView, NewKeyView, time};
use weir_pipeline::tenant::Slug;
use weir_pipeline::tenant::key::lifetime;

use super::super::answer;
use super::super::store::{StoreArguments, block_on};
use super::arguments::{AnswerArguments, ProjectArguments};
use super::{json, row, say, slug, table};

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key; it is printed this once, alone on the standard output
    Create(CreateArguments),
    /// List the keys of a project; what is shown of them opens nothing
    List(ListArguments),
    /// Refuse a key from now on, everywhere within seconds
    Revoke(RevokeArguments),
}

#[derive(Args)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    of: ProjectArguments,
    /// The environment
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    env: Slug,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// After this time it is refused: 90d, 12h, 52w; by default never
    #[arg(long, value_name = "TIME", value_parser = age)]
    expires: Option<u64>,
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    of: ProjectArguments,
    /// Only those of this environment
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    env: Option<Slug>,
    #[command(flatten)]
    answer: AnswerArguments,
}

#[derive(Args)]
pub(crate) struct RevokeArguments {
    /// The key's id, as `weir keys list` shows it
    id: String,
    #[command(flatten)]
    of: ProjectArguments,
    #[command(flatten)]
    store: StoreArguments,
}

/// A time from now, in nanoseconds.
fn age(text: &str) -> Result<u64, String> {
    lifetime(text).map_err(|error| error.to_string())
}

pub(in crate::cli) fn keys(command: &KeysCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            KeysCommand::Create(arguments) => create(arguments).await,
            KeysCommand::List(arguments) => list(arguments).await,
            KeysCommand::Revoke(arguments) => revoke(arguments).await,
        }
    })
}

async fn create(arguments: &CreateArguments) -> anyhow::Result<ExitCode> {
    let CreateArguments { of: ProjectArguments { project }, env, name, expires, answer: how } = arguments;
    let maintenance = how.store.maintenance()?;
    let expires = expires.map(|age| maintenance.now_unix_nanos().saturating_add(age));
    let (key, record) = maintenance.registry().create_key(project, env, name, expires).await?;
    if how.is_json() {
        let record = KeyView::of(&record, None, maintenance.now_unix_nanos());
        return answer(&json(&NewKeyView { key: key.expose().to_owned(), record })?);
    }
    let until = record.expires_unix_nano.map(|at| format!(", until {}", time(at))).unwrap_or_default();
    say(&format!("key {} of {project}/{env}{until}; it is not shown again:", record.id));
    answer(&format!("{}\n", key.expose()))
}

async fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    let organization = maintenance.registry().organization().await?;
    let project = maintenance.registry().project(&arguments.of.project).await?;
    if let Some(env) = &arguments.env {
        project.check_environment(&organization, env)?;
    }
    let now = maintenance.now_unix_nanos();
    let list = KeyList::of(&project, arguments.env.as_ref(), &maintenance.registry().key_uses().await?, now);
    if arguments.answer.is_json() {
        return answer(&json(&list)?);
    }
    let mut rows = vec![row(["ID", "KEY", "ENVIRONMENT", "NAME", "CREATED", "LAST USED", "EXPIRES", "STATE"])];
    rows.extend(list.keys.iter().map(|key| {
        let prefix = format!("{}…", key.prefix);
        let expires = key.expires.as_deref().unwrap_or("never");
        let used = key.last_used.as_deref().unwrap_or("");
        row([&key.id, &prefix, &key.environment, &key.name, &key.created, used, expires, key.state.as_str()])
    }));
    answer(&table(&rows))
}

async fn revoke(arguments: &RevokeArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.store.maintenance()?;
    let record = maintenance.registry().revoke_key(&arguments.of.project, &arguments.id).await?;
    answer(&format!(
        "revoked the key {} ({}…) of {}/{}\n",
        record.id, record.prefix, arguments.of.project, record.environment
    ))
}
