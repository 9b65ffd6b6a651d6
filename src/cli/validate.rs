//! `weir validate`: loads a configuration, builds its graph, starts nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;

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
    let (graph, missing) = configuration.try_out()?;
    let mut out = String::new();
    for warning in &configuration.document.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    // It may be valid for the machine that it is meant for.
    for lack in missing {
        writeln!(out, "warning: {lack}: without it the collector does not start")?;
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
