//! `weir maintain`: what a collector does from time to time, once.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use weir_store::maintain::Report;

use super::super::answer;
use super::super::store::{StoreArguments, block_on};
use super::{Format, say};

#[derive(Args)]
pub(crate) struct MaintainArguments {
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    store: StoreArguments,
}

pub(in crate::cli) fn maintain(arguments: &MaintainArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.store.maintenance()?;
    let report = block_on(async { Ok(Box::pin(maintenance.run(arguments.dry_run)).await?) })?;
    report.problems.iter().for_each(|problem| crate::logging::complain(problem));
    match arguments.format {
        Format::Json => answer(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Format::Table if report.is_empty() => {
            say("there was nothing to do");
            ExitCode::SUCCESS
        }
        Format::Table => answer(&text(&report, arguments.dry_run))?,
    };
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report, dry_run: bool) -> String {
    let mut out = String::new();
    let (finished, expired, deleted) = match dry_run {
        true => {
            ("would finish the deletion of", "would remove, past its retention:", "would delete, needed by no query:")
        }
        false => ("finished the deletion of", "removed, past its retention:", "deleted, needed by no query:"),
    };
    // Writing to a text cannot fail.
    for deletion in &report.finished {
        let _ = writeln!(out, "{finished} {} {}", deletion.kind, deletion.name);
    }
    for (project, stored) in &report.expired {
        for (environment, amount) in &stored.0 {
            let _ = writeln!(out, "{expired} {project}/{environment}: {amount}");
        }
    }
    for (project, freed) in &report.vacuumed {
        let _ = writeln!(out, "{deleted} {project}: {freed}");
    }
    out
}
