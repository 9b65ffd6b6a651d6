//! Which store and project a command is about.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use weir_store::StoreError;
use weir_store::objects::Root;
use weir_store::query::Format;

#[derive(Args)]
pub(crate) struct StoreArguments {
    /// Where the spans are: a folder or a URL such as s3://bucket/prefix
    #[arg(long, value_name = "URL", default_value = "./weir-data", env = "WEIR_STORE")]
    store: String,
    /// The project whose spans are meant
    #[arg(long, value_name = "NAME", default_value = weir_store::objects::DEFAULT_PROJECT)]
    pub(super) project: String,
    /// An option of the object store, such as region=eu-central-1; by default its usual environment variables
    #[arg(long = "storage", value_name = "KEY=VALUE", value_parser = pair)]
    storage: Vec<(String, String)>,
}

impl StoreArguments {
    /// The store; nothing is read yet.
    pub(super) fn root(&self) -> Result<Root, StoreError> {
        let options: BTreeMap<String, String> = self.storage.iter().cloned().collect();
        Root::open(&self.store, &options)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// How rows are written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
    Csv,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Table => Self::Table,
            OutputFormat::Json => Self::Json,
            OutputFormat::Csv => Self::Csv,
        }
    }
}
