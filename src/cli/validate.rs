//! `weir validate`: loads a configuration, builds its graph, starts nothing.

use std::fmt::Write;
use std::process::ExitCode;

use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::Telemetry;

use super::{ConfigArguments, answer};

pub(super) fn validate(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    let configuration = arguments.load()?;
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
    answer(&out)
}
