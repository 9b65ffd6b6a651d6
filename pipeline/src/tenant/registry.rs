//! Where projects, environments and keys are kept, as whoever asks about keys sees it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Directory, KeyUse, Slug};

/// A registry that changes are looked for in.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Looks for changes.
    ///
    /// # Errors
    /// If it cannot be read now; what was seen before stays valid.
    async fn look(&self) -> Result<Look, Unreachable>;

    /// Makes these environments, each of a project, with their projects, where they are not there yet. Looking
    /// afterwards shows them.
    ///
    /// # Errors
    /// If it cannot be changed now.
    async fn ensure(&self, wanted: &[(Slug, Slug)]) -> Result<(), Unreachable>;

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// If it cannot be written now.
    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), Unreachable>;
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Look {
    /// The directory of it.
    pub directory: Arc<Directory>,
    /// Documents that have become unreadable since the last look: which, and what to do, for the log.
    pub unreadable: Vec<String>,
    /// Whether every document could be read. If not, a key that the directory does not know may be one of those in it.
    pub is_complete: bool,
}

/// The registry cannot be reached now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);
