//! The command line.

mod run;
#[cfg(feature = "lake")]
mod sql;
mod validate;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigErrors, Document};
use weir_pipeline::graph::Graph;
use weir_pipeline::telemetry::Telemetry;

use crate::components;

/// The configuration that is used when none is given.
const DEFAULT_CONFIG: &str = include_str!("../../configs/default.yaml");

/// An OpenTelemetry collector made for LLM applications.
///
/// Without a command and a configuration, Weir receives OTLP on 127.0.0.1:4317 (gRPC) and :4318 (HTTP), prices every
/// span and writes it as Parquet under ./weir-data.
#[derive(Parser)]
#[command(name = "weir", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run the collector (the default)
    Run(run::RunArguments),
    /// Check a configuration and say what an OK to a client means in each of its pipelines
    Validate(ConfigArguments),
    /// Ask the stored spans in SQL
    #[cfg(feature = "lake")]
    Sql(sql::SqlArguments),
}

/// Where the configuration comes from.
#[derive(Args)]
pub(crate) struct ConfigArguments {
    /// A configuration in the OpenTelemetry Collector's YAML; given several times, later files are laid over earlier ones
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
}

impl Arguments {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, for the person at the terminal.
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            None => run::run(&self.run),
            Some(Command::Run(arguments)) => run::run(&arguments),
            Some(Command::Validate(arguments)) => validate::validate(&arguments),
            #[cfg(feature = "lake")]
            Some(Command::Sql(arguments)) => sql::sql(&arguments),
        }
    }
}

impl ConfigArguments {
    /// What the configuration is called in messages.
    fn name(&self) -> String {
        match &self.config[..] {
            [] => "the built-in default configuration".to_owned(),
            files => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }

    /// The files that it is read from.
    fn files(&self) -> &[PathBuf] {
        &self.config
    }

    /// Reads and checks the configuration's structure.
    fn document(&self) -> anyhow::Result<Document> {
        let mut sources = Vec::new();
        for path in &self.config {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            sources.push((path.display().to_string(), text));
        }
        if sources.is_empty() {
            sources.push(("default.yaml".to_owned(), DEFAULT_CONFIG.to_owned()));
        }
        Document::parse(sources, &|name| std::env::var(name).ok()).map_err(|errors| refuse(&self.name(), &errors))
    }

    /// Builds the graph of the configuration; nothing of it runs yet.
    fn graph(&self, document: &Document, telemetry: &Telemetry, environment: &Environment) -> anyhow::Result<Graph> {
        Graph::build(document, &components::all(), telemetry, environment).map_err(|e| refuse(&self.name(), &e))
    }
}

/// All that is wrong with a configuration, a line each.
fn refuse(name: &str, errors: &ConfigErrors) -> anyhow::Error {
    let lines: Vec<String> = errors.0.iter().map(|e| format!("\n  {e}")).collect();
    anyhow::anyhow!("{name} cannot be used:{}", lines.concat())
}
