//! Which store and project a command is about.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use weir_pipeline::clock::Environment;
use weir_pipeline::tenant::Slug;
use weir_store::maintain::{Maintenance, Settings};
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::Format;
use weir_store::registry::Registry;

/// The spans of one project.
#[derive(Args)]
pub(crate) struct SpansArguments {
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// The project whose spans are meant; no others can be seen
    #[arg(long, value_name = "SLUG", default_value = DEFAULT_PROJECT, value_parser = slug)]
    pub(super) project: Slug,
}

impl SpansArguments {
    /// The project that owns the spans; `None` for the default one, where those are of whoever their attributes name.
    pub(super) fn owner(&self) -> Option<&Slug> {
        Some(&self.project).filter(|project| project.as_str() != DEFAULT_PROJECT)
    }

    /// The store, and the folder of the project's data.
    ///
    /// # Errors
    /// If the URL or an option is wrong, or the registry cannot be read.
    pub(super) async fn place(&self) -> anyhow::Result<(Root, String)> {
        let root = self.store.root()?;
        let folder = Registry::new(&root, Environment::system()).folder_of(&self.project).await?;
        Ok((root, folder))
    }
}

/// A slug of the command line; a name that is none is told what might be meant.
pub(in crate::cli) fn slug(text: &str) -> Result<Slug, String> {
    text.parse::<Slug>().map_err(|error| error.to_string())
}

#[derive(Args)]
pub(crate) struct StoreArguments {
    /// Where the spans are: a folder or a URL such as s3://bucket/prefix
    #[arg(long, value_name = "URL", default_value = "./weir-data", env = "WEIR_STORE")]
    store: String,
    /// An option of the object store, such as region=eu-central-1; by default its usual environment variables
    #[arg(long = "storage", value_name = "KEY=VALUE", value_parser = pair)]
    storage: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl StoreArguments {
    /// The options of the object store.
    pub(super) fn options(&self) -> BTreeMap<String, String> {
        self.storage.iter().cloned().collect()
    }

    /// The store. Nothing is read yet.
    ///
    /// # Errors
    /// If the URL or an option is wrong.
    pub(super) fn root(&self) -> anyhow::Result<Root> {
        Ok(Root::open(&self.store, &self.options())?)
    }

    /// The store with its registry, to be changed.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub(super) fn maintenance(&self) -> anyhow::Result<Maintenance> {
        Ok(Maintenance::new(&self.root()?, Environment::system(), Settings::default()))
    }
}

/// Runs a command to its end.
///
/// # Errors
/// The command's own, or that no runtime can be made.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
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
