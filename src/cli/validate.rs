//! `weir validate`: loads a configuration, builds its graph, starts nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::Telemetry;

use super::{ConfigArguments, answer};

#[derive(Args)]
pub(super) struct ValidateArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Also print what would run and what is connected with what
    #[arg(long)]
    graph: bool,
}

pub(super) fn validate(arguments: &ValidateArguments) -> anyhow::Result<ExitCode> {
    let configuration = arguments.config.load()?;
    configuration.telemetry()?;
    let graph = configuration.graph(&Telemetry::default(), &Environment::system())?;
    let mut out = String::new();
    for warning in &configuration.document.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{} is valid", configuration.name)?;
    for (pipeline, exporter, promise) in graph.promises() {
        writeln!(out, "  {pipeline} → {exporter}: {promise}")?;
    }
    if arguments.graph {
        write!(out, "\n{}", graph.outline())?;
    }
    answer(&out)
}
