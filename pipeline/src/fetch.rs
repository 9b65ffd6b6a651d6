//! Getting a document from a URL, for components that have no network of their own.
//!
//! Processors do no I/O (see [`crate::node`]). One that keeps a document up to date beside its work asks a [`Fetch`] that
//! the binary gives it, on a thread of its own.

use std::fmt::Debug;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct FetchRequest<'a> {
    /// `http://` or `https://`
    pub url: &'a str,
    /// The tag that the server gave the version which is known: if it still holds, nothing is sent.
    pub etag: Option<&'a str>,
    /// More than this is refused.
    pub max_bytes: usize,
    /// For all of it, connecting included.
    pub timeout: Duration,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The version that is known is the latest.
    Unchanged,
    /// A document.
    New {
        /// All of it.
        body: Vec<u8>,
        /// The tag of this version.
        etag: Option<String>,
    },
}

/// A document could not be had. One line, without what was in the URL's query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Gets documents; blocks the thread until one is there.
pub trait Fetch: Debug + Send + Sync + 'static {
    /// Gets one.
    ///
    /// # Errors
    /// If the server cannot be reached, does not answer in time, or answers with something else than a document of at
    /// most the size that is allowed.
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<Fetched, FetchError>;
}

/// Whether a text is a URL that can be fetched.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
