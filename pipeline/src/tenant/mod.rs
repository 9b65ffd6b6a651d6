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
//! A project that was deleted leaves its slug to another one, of the next *generation*: its data lie in another folder, so
//! that a late write of a process that has not heard of the deletion meets nothing of the new project.
//!
//! Data carry their [`Tenant`] with them ([`Batch::tenant`](crate::batch::Batch::tenant)). It is set where a client is let
//! in ([`Authenticator`](crate::extension::Authenticator)), by the client's key alone, or by resource attributes where a
//! trusted edge vouches for them ([`TenantSource`]); nothing later can change it.

mod directory;
pub mod key;
mod meter;
pub mod record;
mod registry;
mod retention;
mod slug;
mod source;
#[cfg(test)]
mod tests;

pub use self::directory::{Closed, Directory, Found, KeyUse, StaticKey};
pub use self::key::{ApiKey, KeyHash};
pub use self::meter::TenantMeter;
pub use self::record::{Environment, KeyRecord, Organization, Project, RecordError};
pub use self::registry::{Look, Registry, Unreachable};
pub use self::retention::{InvalidKeep, Keep, Retention};
pub use self::slug::{InvalidSlug, Slug};
pub use self::source::{Claim, TenantSource};

/// The project and environment that data belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// The project.
    pub project: Slug,
    /// The environment within it.
    pub environment: Slug,
    /// Which project of this slug: 1 for the first, more for one that was made after another's deletion.
    pub generation: u64,
}

/// Resource attributes that name a tenant, where they are trusted. From a client whose key names one they are taken off,
/// so that nobody further on is misled.
pub const PROJECT_ATTRIBUTE: &str = "weir.project";
/// As [`PROJECT_ATTRIBUTE`].
pub const ENVIRONMENT_ATTRIBUTE: &str = "weir.environment";

impl Tenant {
    /// The tenant of a project that was never deleted, or that no registry knows.
    pub fn new(project: Slug, environment: Slug) -> Self {
        Self { project, environment, generation: 1 }
    }

    /// The name of the folder that the project's data lie in.
    pub fn folder(&self) -> String {
        folder(&self.project, self.generation)
    }
}

/// The name of the folder that the data of a project of this generation lie in. A slug has no dot, so no two projects have
/// the same.
pub fn folder(project: &Slug, generation: u64) -> String {
    match generation {
        0 | 1 => project.to_string(),
        _ => format!("{project}.{generation}"),
    }
}

impl std::fmt::Display for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.project, self.environment)
    }
}
