//! `weir sql`: asks the stored spans, also while a collector runs.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use weir_store::query::{Engine, write};

use super::store::{OutputFormat, StoreArguments};

#[derive(Args)]
pub(crate) struct SqlArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// The query; the table is `spans`, and `DESCRIBE spans` lists its columns
    query: String,
}

pub(super) fn sql(arguments: &SqlArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::over(&arguments.store.root()?, &arguments.store.project).await?;
        let batches = engine.collect(&arguments.query).await?;
        match write(&batches, arguments.format.into(), &mut std::io::stdout().lock()) {
            // Whoever reads has seen enough: `weir sql … | head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS).context("cannot write the answer"),
        }
    })
}
