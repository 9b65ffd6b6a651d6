//! `weir maintain`: what a collector does from time to time, once.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use weir_store::maintain::Report;

use super::super::answer;
use super::super::store::block_on;
use super::arguments::AnswerArguments;
use super::{json, say};

#[derive(Args)]
pub(crate) struct MaintainArguments {
    /// Change nothing; say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    answer: AnswerArguments,
}

pub(in crate::cli) fn maintain(arguments: &MaintainArguments) -> anyhow::Result<ExitCode> {
    let maintenance = arguments.answer.store.maintenance()?;
    let report = block_on(async { Ok(Box::pin(maintenance.run(arguments.dry_run)).await?) })?;
    report.problems.iter().for_each(|problem| crate::logging::complain(problem));
    if arguments.answer.is_json() {
        answer(&json(&report)?)?;
    } else if report.is_empty() {
        say("there was nothing to do");
    } else {
        answer(&text(&report, arguments.dry_run))?;
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report, dry_run: bool) -> String {
    let mut out = String::new();
    let (finished, swept, expired, deleted) = match dry_run {
        true => (
            "would finish the deletion of",
            "would delete, late for a deleted project:",
            "would remove, past its retention:",
            "would delete, needed by no query:",
        ),
        false => (
            "finished the deletion of",
            "deleted, late for a deleted project:",
            "removed, past its retention:",
            "deleted, needed by no query:",
        ),
    };
    // Writing to a text cannot fail.
    for deletion in &report.finished {
        let _ = writeln!(out, "{finished} {} {}", deletion.kind, deletion.name);
    }
    for (folder, removed) in &report.swept {
        let _ = writeln!(out, "{swept} {folder}: {}, {}", removed.environments.total(), removed.freed);
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
