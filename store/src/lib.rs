//! The store: spans as a Delta Lake table of Parquet files.
//!
//! ```text
//! Batch ─► writer ──► rows sorted ─► convert ─► Parquet file ─┐            {url}/projects/{project}/spans/
//!          (groups      by minute      columns    (upload)    ├─► commit ─►   environment=…/date=…/part-….parquet
//!           batches)    and trace                             ┘               _delta_log/….json
//!                                                                              ▲
//! weir sql, Spark, DuckDB, Trino … ◄─────────────────── query ─────────────────┘
//! ```
//!
//! * [`schema`] says what a row is. A span can be rebuilt from its row ([`rebuild`]); nothing is lost but the order of
//!   attributes.
//! * [`writer`] groups the batches of all lanes, writes them as one file per partition and commits them together. Who
//!   waits is answered after the commit.
//! * [`table`] and [`commit`] are all that knows Delta; [`objects`] is all that knows clouds.
//! * [`query`] answers SQL.
//! * [`recost`] computes the costs of stored spans again.
//! * [`registry`] keeps projects, environments and keys in the same bucket.
//! * [`maintain`] removes what is past its retention or deleted.

#![warn(missing_docs)]

mod answer;
pub mod commit;
pub mod convert;
pub mod maintain;
pub mod objects;
pub mod query;
pub mod rebuild;
pub mod recost;
pub mod registry;
pub mod schema;
pub mod table;
pub mod writer;

pub use deltalake::arrow;
pub use deltalake::parquet;

/// A store could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no store that Weir knows, or its options are wrong.
    #[error("store {url}: {message}")]
    Config {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it and what is possible.
        message: String,
    },
    /// There is no table; it is created by the first collector that has the `parquet` exporter.
    #[error("{url} holds no spans yet: start a collector with a `parquet` exporter whose url is {root}")]
    NoTable {
        /// Where the table was looked for.
        url: String,
        /// The store's URL.
        root: String,
    },
    /// The store does not refuse to create an object that exists, which commits depend on.
    #[error(
        "store {url} does not support conditional writes (a second PUT with If-None-Match: * was accepted): \
         use a store that does, or keep to a local directory"
    )]
    NoConditionalPut {
        /// The store's URL.
        url: String,
    },
    /// Several collectors raced for a commit until the attempts were used up, or the log cannot be written.
    #[error("the commit was not accepted after {attempts} attempts: {source}")]
    Commit {
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        source: Box<deltalake::DeltaTableError>,
    },
    /// A file that was written is no longer there, so it was not committed.
    #[error(
        "the file {path} is no longer there, so nothing was committed: was the store's volume away, or was it emptied?"
    )]
    Gone {
        /// Its path within the table.
        path: String,
    },
    /// A commit failed in a way that may have been a success, and the log could not be read before the process stopped.
    #[error(
        "whether the last commit was made is unknown, because the log could not be read: {source}. \
         Spans that are sent again may be stored twice"
    )]
    Unknown {
        /// Why the log could not be read.
        source: Box<StoreError>,
    },
    /// Files that were to be replaced have left the table meanwhile. Nothing was changed.
    #[error("{files} files were rewritten or deleted by another process meanwhile, so nothing was changed: try again")]
    Overtaken {
        /// How many.
        files: usize,
    },
    /// A condition on rows that cannot be understood.
    #[error("the condition is not valid: {0}")]
    Condition(String),
    /// A file that another tool wrote in a way that Weir cannot rewrite.
    #[error("{path} cannot be rewritten: {message}")]
    File {
        /// Its path within the table.
        path: String,
        /// Why.
        message: String,
    },
    /// The table's log or files could not be read or written.
    #[error("{}", objects::one_line(.0))]
    Delta(Box<deltalake::DeltaTableError>),
    /// The object store answered with an error.
    #[error(transparent)]
    Object(#[from] object_store::Error),
    /// Columns could not be built.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// Columns are not those of the table.
    #[error("column {column}: {message}")]
    Column {
        /// The column's name.
        column: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl From<deltalake::DeltaTableError> for StoreError {
    fn from(error: deltalake::DeltaTableError) -> Self {
        Self::Delta(Box::new(error))
    }
}
