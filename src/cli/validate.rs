//! `weir validate`: loads a configuration, builds its graph, starts nothing.
//!
//! A configuration is mostly checked elsewhere than where it runs. Of certificates that are not there, those of exporters
//! and of readers of metrics are warned of; what receivers and extensions open when they start is not looked at.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use weir_pipeline::clock::Environment;
use weir_pipeline::file::Reading;
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::Telemetry;

use super::warnings::collecting;
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
    let configuration = arguments.config.load(Reading::First)?;
    let host = Host::of_trial(Telemetry::default(), &Environment::system());
    let (graph, warnings) = collecting(|| -> anyhow::Result<_> {
        configuration.telemetry(Some(&host))?;
        configuration.try_out(&host)
    });
    let graph = graph?;
    let mut out = String::new();
    for warning in configuration.document.warnings.iter().map(ToString::to_string).chain(warnings) {
        writeln!(out, "warning: {warning}")?;
    }
    // It may be valid for the machine that it is meant for.
    for lack in host.forgiven() {
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
