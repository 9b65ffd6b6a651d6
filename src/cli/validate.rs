//! `weir validate`: loads a configuration, builds its graph, starts nothing.

use std::io::Write;
use std::process::ExitCode;

use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::Telemetry;

use super::{ConfigArguments, refuse};
use crate::telemetry::TelemetrySettings;

pub(super) fn validate(arguments: &ConfigArguments) -> anyhow::Result<ExitCode> {
    let document = arguments.document()?;
    TelemetrySettings::parse(&document.service.telemetry).map_err(|e| refuse(&arguments.name(), &e.into()))?;
    let graph = arguments.graph(&document, &Telemetry::default(), &Environment::system())?;
    let mut out = std::io::stdout().lock();
    for warning in &document.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{} is valid", arguments.name())?;
    for (pipeline, exporter, promise) in graph.promises() {
        writeln!(out, "  {pipeline} → {exporter}: {promise}")?;
    }
    Ok(ExitCode::SUCCESS)
}
