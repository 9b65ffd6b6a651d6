//! Looking after the store: spans past their retention, deletion for good, and files that nobody needs any more.
//!
//! ```text
//! retention   live files of whole days past their time ─► one commit of Remove actions ─► after `safe_age`: vacuum
//!
//! deletion    mark in the registry ─► settle ─► remove from the log ─► delete objects ─┐
//!             (keys refused,           ▲        (no query sees it)     (for good)      │
//!              collectors refuse)      └────────── until nothing new lands ────────────┘
//!                                                                      └─► take it from the registry
//! ```
//!
//! * **Retention touches no row**: a file belongs to one environment and one UTC day, so whole files go, by the log alone.
//!   Spans that arrive meanwhile conflict only if they belong to the very days that go; then it is planned anew.
//! * **Every step can be done twice.** Whoever crashes, or runs at the same time on another replica, leaves something that
//!   the next run finishes: the mark in the registry stays until all data is gone. So there is no leader and no lock. Two
//!   removals cannot both be committed on one version of a table, because both carry the transaction `maintenance`.
//! * **A deletion waits for collectors** ([`Settings::settle`]) after the mark, and looks again after it has deleted:
//!   spans that were under way then go too. If they keep coming it gives up with an error and the mark stays.
//! * **What lands after a deletion** is swept by the next pass: folders of a project that was deleted, of whose name there
//!   is none now or another one ([`weir_pipeline::tenant`]).
//! * **Vacuum** deletes files that the log has removed longer than [`Settings::safe_age`] ago, so that queries which began
//!   before find their files, and files that no commit ever named, once they are older than [`Settings::orphan_age`].
//!   Deleted environments and projects do not wait for it.
//!
//! Decision: the `parquet` exporter runs [`Maintenance::run`] from time to time in the background ([`Background`]), as
//! whoever writes a store must not need another component for its retention to be true; `weir maintain` does it once, for
//! a schedule of one's own.
//!
//! Decision: a collector that cannot reach the log between the upload of a file and its commit for longer than a deletion
//! takes may commit afterwards. If that was a deleted environment, the table then names files that are gone until the
//! environment is deleted again; it is the price for deleting without a lock.

mod amounts;
mod background;
mod delete;
mod folders;
mod retain;
mod run;
mod spans;
mod vacuum;

use std::time::Duration;

use uuid::Uuid;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::{Organization, Project, Slug};

pub use self::amounts::{Amount, Freed, Removed, Stored};
pub use self::background::Background;
use self::folders::Folders;
pub use self::run::{Finished, Report};
use self::spans::Spans;
use crate::StoreError;
use crate::commit::Backoff;
use crate::objects::Root;
use crate::registry::{Registry, RegistryError};

/// How patient [`Maintenance`] is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// After so long every collector has seen what changed in the registry, and what it had taken before is committed.
    pub settle: Duration,
    /// A file that the log has removed is kept so long for queries that began before.
    pub safe_age: Duration,
    /// A file that no commit names is kept so long for whoever may still commit it.
    pub orphan_age: Duration,
    /// How often a deletion looks whether something new has landed before it gives up.
    pub looks: u32,
    /// How often a commit is tried.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Self {
            settle: Duration::from_secs(6),
            safe_age: hours(24),
            orphan_age: hours(24 * 7),
            looks: 20,
            backoff: Backoff::default(),
        }
    }
}

/// Something could not be looked after. What was done stays done, and running it again goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintainError {
    /// What is to be deleted is not there, or cannot be deleted.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Spans kept landing in what is being deleted.
    #[error(
        "{what} is not deleted yet: spans still arrive after {looks} looks; stop whoever writes them and try again"
    )]
    StillWritten {
        /// The project or environment.
        what: String,
        /// How often was looked.
        looks: u32,
    },
}

impl From<object_store::Error> for MaintainError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A project's data.
#[derive(Debug)]
struct Place {
    /// The project's slug, or the folder of one that the registry does not know.
    name: String,
    folder: String,
}

impl Place {
    fn of(project: &Project) -> Self {
        Self { name: project.slug.to_string(), folder: project.folder() }
    }
}

/// Looks after one store. Any number of processes may do so at once.
#[derive(Debug, Clone)]
pub struct Maintenance {
    root: Root,
    registry: Registry,
    clock: Clock,
    settings: Settings,
    /// Marks this process's commits, so that it recognises them after a lost answer.
    application: String,
}

impl Maintenance {
    /// Looks after the store at `root`. Nothing is read or written yet.
    pub fn new(root: &Root, clock: Clock, settings: Settings) -> Self {
        Self {
            root: root.clone(),
            registry: Registry::new(root, clock.clone()),
            clock,
            settings,
            application: format!("maintenance/{}", Uuid::new_v4().simple()),
        }
    }

    /// The registry of the store.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The store.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The time by the clock that is used here, in nanoseconds since the epoch.
    pub fn now_unix_nanos(&self) -> u64 {
        self.clock.now_unix_nanos()
    }

    /// What is stored of a project, by environment; nothing if it has no table yet.
    ///
    /// # Errors
    /// If the registry or the table cannot be read.
    pub async fn stored(&self, project: &str) -> Result<Stored, MaintainError> {
        let folder = match project.parse::<Slug>() {
            Ok(slug) => self.registry.folder_of(&slug).await?,
            Err(_) => project.to_owned(),
        };
        Ok(self.stored_in(&folder).await?)
    }

    async fn stored_in(&self, folder: &str) -> Result<Stored, StoreError> {
        match Spans::open(&self.root, folder).await? {
            Some(spans) => Ok(spans.files()?.iter().map(|file| (file.environment.as_str(), file.amount())).collect()),
            None => Ok(Stored::default()),
        }
    }

    /// What deleting an environment of the organization would take from each project.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn stored_everywhere(&self, environment: &Slug) -> Result<Vec<(String, Amount)>, MaintainError> {
        let mut all = Vec::new();
        for Place { name, folder } in self.places().await? {
            let amount = self.stored_in(&folder).await?.of(environment.as_str());
            if amount != Amount::default() {
                all.push((name, amount));
            }
        }
        Ok(all)
    }

    /// All that have data, whether the registry knows them or not, and all that the registry knows.
    async fn places(&self) -> Result<Vec<Place>, MaintainError> {
        let (known, _) = self.registry.projects().await?;
        let mut places: Vec<Place> = known.iter().map(Place::of).collect();
        for folder in Folders::new(&self.root).projects().await? {
            if !places.iter().any(|place| place.folder == folder) {
                places.push(Place { name: folder.clone(), folder });
            }
        }
        places.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(places)
    }

    async fn organization(&self) -> Result<Organization, MaintainError> {
        Ok(self.registry.organization().await?)
    }

    async fn settle(&self) {
        tokio::time::sleep(self.settings.settle).await;
    }
}
