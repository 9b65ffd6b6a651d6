//! The command line.

mod run;
#[cfg(feature = "lake")]
mod sql;
mod validate;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigErrors, Document, Source};
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
    /// A configuration in the OpenTelemetry Collector's YAML: a file, env:NAME, or yaml:key::key: value; given several
    /// times, later ones are laid over earlier ones
    #[arg(short, long, value_name = "URI")]
    config: Vec<String>,
    /// One value, laid over all configurations: processors.batch.timeout=2s; mappings are joined, lists replaced
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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

/// A configuration whose structure is right.
pub(crate) struct Configuration {
    /// What it is called in messages.
    name: String,
    document: Document,
}

impl ConfigArguments {
    /// Reads the configuration and checks its structure.
    fn load(&self) -> anyhow::Result<Configuration> {
        let env = |name: &str| std::env::var(name).ok();
        let mut sources = self.config.iter().map(|uri| Source::retrieve(uri, &env)).collect::<Result<Vec<_>, _>>()?;
        let mut name = sources.iter().map(Source::name).collect::<Vec<_>>().join(", ");
        if sources.is_empty() {
            sources.push(Source::text("default.yaml", DEFAULT_CONFIG));
            name.push_str("the built-in default configuration");
        }
        for assignment in &self.set {
            sources.push(Source::set(assignment)?);
        }
        let document = Document::read(sources, &env).map_err(|errors| refuse(&name, &errors))?;
        Ok(Configuration { name, document })
    }
}

impl Configuration {
    /// Builds the graph; nothing of it runs yet.
    fn graph(&self, telemetry: &Telemetry, environment: &Environment) -> anyhow::Result<Graph> {
        Graph::build(&self.document, &components::all(), telemetry, environment).map_err(|e| refuse(&self.name, &e))
    }
}

/// All that is wrong with a configuration, a line each.
fn refuse(name: &str, errors: &ConfigErrors) -> anyhow::Error {
    let lines: Vec<String> = errors.0.iter().map(|e| format!("\n  {e}")).collect();
    anyhow::anyhow!("{name} cannot be used:{}", lines.concat())
}
