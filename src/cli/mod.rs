//! The command line.

#[cfg(feature = "lake")]
mod admin;
mod inventory;
mod price;
mod price_explain;
mod pricing;
mod print_config;
#[cfg(feature = "lake")]
mod recost;
mod reload;
mod run;
mod schema;
#[cfg(feature = "lake")]
mod sql;
#[cfg(feature = "lake")]
mod store;
mod validate;
mod warnings;
mod watch;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigErrors, Document, Source, Warning};
use weir_pipeline::file::Reading;
use weir_pipeline::graph::Graph;
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::Telemetry;

use crate::components;
use crate::pages;
use crate::telemetry::TelemetrySettings;

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
    ///
    /// It may be meant for another machine: certificates that exporters need and that are not on this one are warned of.
    /// What receivers and extensions open when they start is not looked at.
    Validate(validate::ValidateArguments),
    /// List the components of this build, as YAML
    Components,
    /// Print the configuration as the components get it: merged and expanded, without defaults
    PrintConfig(print_config::PrintConfigArguments),
    /// Print a JSON Schema of the configuration, for editors
    Schema,
    /// Show prices and how they come about
    #[command(subcommand)]
    Price(price::PriceCommand),
    /// Compute the costs of stored spans again, after prices have changed
    #[cfg(feature = "lake")]
    Recost(Box<recost::RecostArguments>),
    /// Ask the stored spans in SQL
    #[cfg(feature = "lake")]
    Sql(sql::SqlArguments),
    /// List, make, rename and delete projects
    #[cfg(feature = "lake")]
    #[command(subcommand)]
    Projects(admin::projects::ProjectsCommand),
    /// List, make and delete environments
    #[cfg(feature = "lake")]
    #[command(subcommand)]
    Envs(admin::envs::EnvsCommand),
    /// Make, list and revoke the keys that applications send spans with
    #[cfg(feature = "lake")]
    #[command(subcommand)]
    Keys(admin::keys::KeysCommand),
    /// Show and say how long spans are kept
    #[cfg(feature = "lake")]
    #[command(subcommand)]
    Retention(admin::retention::RetentionCommand),
    /// Remove what is past its retention, finish deletions, and delete files that no query needs
    #[cfg(feature = "lake")]
    Maintain(admin::maintain::MaintainArguments),
}

/// Where the configuration comes from.
#[derive(Args, Clone)]
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
        // Only a collector waits for work.
        if !matches!(self.command, None | Some(Command::Run(_))) {
            pages::allow_huge();
        }
        match self.command {
            None => run::run(&self.run),
            Some(Command::Run(arguments)) => run::run(&arguments),
            Some(Command::Validate(arguments)) => validate::validate(&arguments),
            Some(Command::Components) => inventory::components(),
            Some(Command::PrintConfig(arguments)) => print_config::print_config(&arguments),
            Some(Command::Schema) => schema::print_schema(),
            Some(Command::Price(command)) => price::price(&command),
            #[cfg(feature = "lake")]
            Some(Command::Recost(arguments)) => recost::recost(&arguments),
            #[cfg(feature = "lake")]
            Some(Command::Sql(arguments)) => sql::sql(&arguments),
            #[cfg(feature = "lake")]
            Some(Command::Projects(command)) => admin::projects::projects(&command),
            #[cfg(feature = "lake")]
            Some(Command::Envs(command)) => admin::envs::envs(&command),
            #[cfg(feature = "lake")]
            Some(Command::Keys(command)) => admin::keys::keys(&command),
            #[cfg(feature = "lake")]
            Some(Command::Retention(command)) => admin::retention::retention(&command),
            #[cfg(feature = "lake")]
            Some(Command::Maintain(arguments)) => admin::maintain::maintain(&arguments),
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
    /// Whether no configuration was given.
    fn is_empty(&self) -> bool {
        self.config.is_empty() && self.set.is_empty()
    }

    /// The files that it is read from.
    fn files(&self) -> Vec<PathBuf> {
        self.config.iter().filter_map(|uri| Source::file(uri)).collect()
    }

    /// Reads the configuration and checks its structure.
    fn load(&self, reading: Reading) -> anyhow::Result<Configuration> {
        let env = |name: &str| std::env::var(name).ok();
        let retrieved = self.config.iter().map(|uri| Source::retrieve(uri, &env, reading));
        let mut sources = retrieved.collect::<Result<Vec<_>, _>>()?;
        let mut name = sources.iter().map(Source::name).collect::<Vec<_>>().join(", ");
        if sources.is_empty() {
            anyhow::ensure!(
                cfg!(feature = "lake"),
                "no configuration: give one with --config; the built-in one needs a build with the store"
            );
            sources.push(Source::text("default.yaml", DEFAULT_CONFIG));
            name.push_str("the built-in default configuration");
        }
        for assignment in &self.set {
            sources.push(Source::set(assignment)?);
        }
        let document = Document::read(sources, &env, reading)
            .map_err(|refused| refuse(&name, &refused.errors, &refused.warnings))?;
        Ok(Configuration { name, document })
    }
}

impl Configuration {
    /// Weir's own telemetry: `service::telemetry`. The host may forgive what is missing.
    fn telemetry(&self, host: Option<&Host>) -> anyhow::Result<TelemetrySettings> {
        let settings = TelemetrySettings::parse(&self.document.service.telemetry, host);
        settings.map_err(|error| refuse(&self.name, &error.into(), &self.document.warnings))
    }

    /// Builds the graph that is to take the place of `running`.
    fn rebuild(&self, running: &Graph, environment: &Environment) -> anyhow::Result<Graph> {
        let graph = running.rebuild(&self.document, &components::all(), environment);
        graph.map_err(|errors| refuse(&self.name, &errors, &self.document.warnings))
    }

    /// Builds the graph to see whether it can be.
    fn try_out(&self, host: &Host) -> anyhow::Result<Graph> {
        Graph::try_out(&self.document, &components::all(), &Environment::system(), host)
            .map_err(|errors| refuse(&self.name, &errors, &self.document.warnings))
    }

    /// Builds the graph; nothing of it runs yet.
    fn graph(&self, telemetry: &Telemetry, environment: &Environment) -> anyhow::Result<Graph> {
        Graph::build(&self.document, &components::all(), telemetry, environment)
            .map_err(|errors| refuse(&self.name, &errors, &self.document.warnings))
    }
}

/// All that is wrong with a configuration, a line each, and what may have led to it.
fn refuse(name: &str, errors: &ConfigErrors, warnings: &[Warning]) -> anyhow::Error {
    let errors = errors.0.iter().map(|error| format!("\n  {error}"));
    let lines: Vec<String> = errors.chain(warnings.iter().map(|warning| format!("\n  warning: {warning}"))).collect();
    anyhow::anyhow!("{name} cannot be used:{}", lines.concat())
}

/// Writes an answer to the standard output.
fn answer(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough: `weir schema | head`.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS).context("cannot write the answer"),
    }
}
