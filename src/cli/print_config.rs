//! `weir print-config`: what several files, variables and settings come to.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{Secrets, Tree};
use weir_pipeline::file::Reading;
use weir_pipeline::telemetry::Telemetry;

use super::{ConfigArguments, answer, schema};
use crate::logging;

#[derive(Args)]
pub(crate) struct PrintConfigArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Whether secrets are printed
    #[arg(long, value_enum, default_value_t = Mode::Redacted)]
    mode: Mode,
    /// How the configuration is written
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Secrets as [REDACTED]
    Redacted,
    /// Secrets as they are
    Unredacted,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

pub(super) fn print_config(arguments: &PrintConfigArguments) -> anyhow::Result<ExitCode> {
    let configuration = arguments.config.load(Reading::First)?;
    // What no component would take is not printed either: nobody could say what in it is a secret.
    configuration.graph(&Telemetry::default(), &Environment::system())?;
    for warning in &configuration.document.warnings {
        logging::complain(&format!("warning: {warning}"));
    }
    let secrets = match arguments.mode {
        Mode::Redacted => Secrets::Redacted,
        Mode::Unredacted => Secrets::Exposed,
    };
    let tree = Tree::of_config(&configuration.document.root, &schema::schema(), secrets);
    answer(&match arguments.format {
        Format::Yaml => tree.to_yaml(),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&tree)?),
    })
}
