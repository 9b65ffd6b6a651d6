//! `weir sql`: asks the stored spans, also while a collector runs.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use weir_store::query::{Engine, Format, write};

#[derive(Args)]
pub(crate) struct SqlArguments {
    /// Where the spans are: a folder or a URL such as s3://bucket/prefix
    #[arg(long, value_name = "URL", default_value = "./weir-data", env = "WEIR_STORE")]
    store: String,
    /// The project whose spans are asked
    #[arg(long, value_name = "NAME", default_value = weir_store::objects::DEFAULT_PROJECT)]
    project: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// An option of the object store, such as region=eu-central-1; by default its usual environment variables
    #[arg(long = "storage", value_name = "KEY=VALUE", value_parser = pair)]
    storage: Vec<(String, String)>,
    /// The query; the table is `spans`, and `DESCRIBE spans` lists its columns
    query: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
    Csv,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn sql(arguments: &SqlArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options: BTreeMap<String, String> = arguments.storage.iter().cloned().collect();
        let engine = Engine::open(&arguments.store, &options, &arguments.project).await?;
        let batches = engine.collect(&arguments.query).await?;
        let format = match arguments.format {
            OutputFormat::Table => Format::Table,
            OutputFormat::Json => Format::Json,
            OutputFormat::Csv => Format::Csv,
        };
        match write(&batches, format, &mut std::io::stdout().lock()) {
            // Whoever reads has seen enough: `weir sql … | head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS).context("cannot write the answer"),
        }
    })
}
