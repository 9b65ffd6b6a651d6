//! What several of the commands take.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum as _};
use weir_pipeline::tenant::Slug;

use super::super::store::{OutputFormat, StoreArguments, slug};

/// The store that a command is about, and how its answer is written.
#[derive(Args)]
pub(crate) struct AnswerArguments {
    /// How the answer is written
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = table_or_json())]
    format: OutputFormat,
    #[command(flatten)]
    pub(super) store: StoreArguments,
}

impl AnswerArguments {
    /// Whether the answer is for a program: in the words of the admin API.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.format, OutputFormat::Json)
    }
}

/// Rows alone can be written as CSV.
fn table_or_json() -> impl clap::builder::TypedValueParser<Value = OutputFormat> {
    PossibleValuesParser::new(["table", "json"]).try_map(|format| OutputFormat::from_str(&format, false))
}

/// One project.
#[derive(Args)]
pub(crate) struct ProjectArguments {
    /// The project
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    pub(super) project: Slug,
}

/// One project, or what all have in common.
#[derive(Args)]
pub(crate) struct ScopeArguments {
    /// The project
    #[arg(long, value_name = "SLUG", value_parser = slug)]
    pub(super) project: Option<Slug>,
}

/// Whether a deletion is asked about.
#[derive(Args)]
pub(crate) struct ConsentArguments {
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
}
