//! Whose data is whose: projects, environments and the keys that lead to them (invariant I4).
//!
//! ```text
//!  registry (the user's bucket)                       every process
//!  organization.json ─ environments of all projects ┐
//!  projects/web-app.json ─ name, environments, keys ├─► Directory ── key ──► Tenant (project, environment)
//!  projects/search.json                             ┘    (replaced when an object changes)
//! ```
//!
//! What is stored are small documents, one for the organization and one for each project ([`record`]); every change is a
//! pure function from a document to its successor, so that whoever stores it can try again when somebody else was
//! faster. A [`Directory`] is made of all of them and answers the one question of the data path: whose key is this?
//!
//! A project is named by its [`Slug`], which never changes: tables and keys hang on it. The name that people read may.

mod directory;
pub mod key;
pub mod record;
mod retention;
mod slug;
#[cfg(test)]
mod tests;

pub use self::directory::{Directory, Found, StaticKey};
pub use self::key::{ApiKey, KeyHash};
pub use self::record::{Environment, KeyRecord, Organization, Project, RecordError};
pub use self::retention::{InvalidKeep, Keep, Retention};
pub use self::slug::{InvalidSlug, Slug};

/// The project and environment that data belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// The project.
    pub project: Slug,
    /// The environment within it.
    pub environment: Slug,
}

impl std::fmt::Display for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.project, self.environment)
    }
}
