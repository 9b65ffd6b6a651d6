//! `weir sql`: asks the stored spans, also while a collector runs.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use weir_pipeline::clock::Environment;
use weir_pipeline::tenant::RecordError;
use weir_store::StoreError;
use weir_store::query::Engine;
use weir_store::registry::{Registry, RegistryError};

use super::store::{OutputFormat, SpansArguments, block_on};

#[derive(Args)]
pub(crate) struct SqlArguments {
    #[command(flatten)]
    spans: SpansArguments,
    /// The one environment whose spans can be seen; by default those of all
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// The query; the table is `spans`, and `DESCRIBE spans` lists its columns
    query: String,
}

pub(super) fn sql(arguments: &SqlArguments) -> anyhow::Result<ExitCode> {
    block_on(async {
        let engine = open(arguments).await?;
        match engine.write(&arguments.query, arguments.format.into(), std::io::stdout().lock()).await? {
            // Whoever reads has seen enough: `weir sql … | head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS).context("cannot write the answer"),
        }
    })
}

/// The project's spans. What is being deleted is not to be seen any more, whatever is left of it.
async fn open(arguments: &SqlArguments) -> anyhow::Result<Engine> {
    let root = arguments.spans.store.root()?;
    let (slug, registry) = (&arguments.spans.project, Registry::new(&root, Environment::system()));
    let known = registry.project(slug).await;
    if let Ok(project) = &known {
        anyhow::ensure!(!project.deleting, RecordError::Deleting(slug.clone()));
        let organization = registry.organization().await?;
        if let Some(env) = arguments.env.as_ref().and_then(|env| env.parse().ok()) {
            anyhow::ensure!(!project.is_deleting(&organization, &env), RecordError::DeletingEnvironment(env));
        }
    }
    let engine = match (Engine::over(&root, slug.as_str()).await, known) {
        (Ok(engine), _) => engine,
        // A misspelling is more likely than a project without spans, if there are others.
        (Err(StoreError::NoTable { .. }), Err(RegistryError::Record(error @ RecordError::Unknown { .. }))) if matches!(&error, RecordError::Unknown { known, .. } if !known.is_empty()) =>
        {
            return Err(error.into());
        }
        (Err(error @ StoreError::Delta(_)), _) => {
            return Err(error).with_context(|| format!("the table of the project `{slug}` cannot be read"));
        }
        (Err(error), _) => return Err(error.into()),
    };
    Ok(match &arguments.env {
        Some(environment) => engine.within(environment),
        None => engine,
    })
}
