//! `weir price`: what the catalog says and how a cost comes about.

use std::process::ExitCode;

use clap::Subcommand;
use weir_processors::cost::Catalog;

use super::price_explain::{self, ExplainArguments};

#[derive(Subcommand)]
pub(crate) enum PriceCommand {
    /// Show how the cost of a span comes about: attributes, counts, model, price, multiplication
    Explain(ExplainArguments),
}

pub(super) fn price(command: &PriceCommand) -> anyhow::Result<ExitCode> {
    match command {
        PriceCommand::Explain(arguments) => price_explain::explain(arguments, &Catalog::embedded()?),
    }
}
