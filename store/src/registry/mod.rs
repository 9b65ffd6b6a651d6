//! The registry: projects, environments and keys as small objects in the user's own bucket.
//!
//! ```text
//! {url}/_weir/registry/organization/00000000000000000003.json      the third state of the organization
//! {url}/_weir/registry/projects/web-app/00000000000000000012.json  the twelfth state of a project
//! ```
//!
//! Decision: a change creates the object of the next number instead of overwriting the last one. Every store refuses to
//! create what exists ([`Root::check_conditional_put`](crate::objects::Root::check_conditional_put)), also a local
//! directory, where a conditional overwrite is not to be had. Whoever comes second reads the new state and tries its
//! change on that. So several replicas agree without a database, and a crash leaves either state, never half of one.
//! Old states stay: were one removed, a slow writer could create its number again, and its change would be lost behind
//! the newer ones.
//!
//! A project that was deleted keeps an object that says so: a replica which has not seen the deletion cannot bring it
//! back by a change of its own, and a new project of the name goes on counting.
//!
//! An object that cannot be read shuts out its project only: its keys are refused, and the error says which object.
//!
//! What follows the registry is a [`Watch`]; whoever writes spans asks a [`Guard`]; when keys were last used is kept beside it ([`Registry::key_uses`]).

mod guard;
mod issue;
mod states;
#[cfg(test)]
mod tests;
mod uses;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use object_store::Error;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::{self, KeyUse, Organization, Project, RecordError, Slug};

pub use self::guard::Guard;
use self::states::{Folder, Next, State, States};
use self::uses::Uses;
pub use self::watch::{Watch, Watched};
use crate::StoreError;
use crate::objects::Root;

/// Objects that are read at the same time.
const READS: usize = 16;

/// The registry of a store.
#[derive(Debug, Clone)]
pub struct Registry {
    states: States,
    uses: Arc<Uses>,
    clock: Clock,
}

/// What there is of projects.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// By slug.
    pub(crate) projects: Vec<Project>,
    /// Projects that were deleted and not made again, each with the last generation that it can have had.
    pub(crate) deleted: BTreeMap<Slug, u64>,
    /// Objects that cannot be read.
    pub(crate) unreadable: Vec<RegistryError>,
}

impl Census {
    /// Whether a folder was that of a project which was deleted: of a name that another one has by now, or nobody.
    pub(crate) fn is_former(&self, folder: &str) -> bool {
        let (slug, generation) = match folder.split_once('.') {
            None => (folder, Ok(1)),
            Some((slug, generation)) => (slug, generation.parse::<u64>()),
        };
        let (Ok(slug), Ok(generation)) = (slug.parse::<Slug>(), generation) else { return false };
        match self.projects.iter().find(|project| project.slug == slug) {
            Some(project) => generation < project.generation,
            None => self.deleted.get(&slug).is_some_and(|last| generation <= *last),
        }
    }
}

/// The registry could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The change is not possible.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store cannot be read or written.
    #[error("the registry of projects and keys: {0}")]
    Store(#[from] StoreError),
    /// An object holds something else than it should.
    #[error("{path} cannot be read: {message}; mend it, or restore it from a copy")]
    Corrupt {
        /// The object.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Others were faster each time.
    #[error("others changed it at the same time, {0} times in a row: try again")]
    Contended(u32),
    /// The machine has no random numbers to make a key of.
    #[error("no key can be made: {0}")]
    Random(String),
}

impl RegistryError {
    /// The project whose object cannot be read.
    pub(crate) fn project(&self) -> Option<String> {
        let Self::Corrupt { path, .. } = self else { return None };
        let mut parts = path.rsplit('/').skip(1);
        let name = parts.next()?;
        (parts.next() == Some("projects")).then(|| name.to_owned())
    }
}

impl From<Error> for RegistryError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl Registry {
    /// The registry of a store. Nothing is read or written yet.
    pub fn new(root: &Root, clock: Clock) -> Self {
        let (store, path) = root.place("_weir");
        let uses = Arc::new(Uses::new(root, clock.clone()));
        Self { states: States::new(store, path.join("registry"), clock.clone()), uses, clock }
    }

    /// The organization; one without environments of its own if nothing was stored yet.
    ///
    /// # Errors
    /// If the store cannot be read, or the object holds something else.
    pub async fn organization(&self) -> Result<Organization, RegistryError> {
        Ok(self.states.latest(&Folder::Organization).await?.document.unwrap_or_default())
    }

    /// A project.
    ///
    /// # Errors
    /// [`RecordError::Unknown`] if there is none; else as [`Self::organization`].
    pub async fn project(&self, slug: &Slug) -> Result<Project, RegistryError> {
        match self.states.latest(&Folder::Project(slug.clone())).await?.document {
            Some(project) => Ok(project),
            None => Err(self.unknown(slug).await),
        }
    }

    /// All projects by slug, and what is wrong with the objects that cannot be read.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn projects(&self) -> Result<(Vec<Project>, Vec<RegistryError>), RegistryError> {
        let Census { projects, unreadable, .. } = self.census().await?;
        Ok((projects, unreadable))
    }

    /// All projects, those that were deleted, and those that cannot be read.
    pub(crate) async fn census(&self) -> Result<Census, RegistryError> {
        let mut census = Census::default();
        let slugs = self.states.newest().await?.into_keys().filter_map(|folder| match folder {
            Folder::Organization => None,
            Folder::Project(slug) => Some(slug),
        });
        let reads = slugs.map(|slug| async move {
            let read = self.states.latest::<Project>(&Folder::Project(slug.clone())).await;
            (slug, read)
        });
        let mut reads = futures::stream::iter(reads).buffered(READS);
        while let Some((slug, read)) = reads.next().await {
            match read {
                Ok(State { document: Some(project), .. }) => census.projects.push(project),
                Ok(State { number, document: None }) => drop(census.deleted.insert(slug, number)),
                Err(error @ RegistryError::Corrupt { .. }) => census.unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(census)
    }

    /// Makes a project.
    ///
    /// # Errors
    /// If its slug is taken, by whichever name; of two replicas at the same time one is told so.
    pub async fn create_project(&self, name: &str) -> Result<Project, RegistryError> {
        let project = Project::new(name, self.clock.now_unix_nanos())?;
        let slug = project.slug.clone();
        self.states
            .change(&Folder::Project(slug.clone()), |number, current: Option<Project>| match current {
                Some(_) => Err(RecordError::Exists { what: "project", slug: slug.clone() }),
                None => {
                    // States are counted through deletions, so this is one that no former project had.
                    let project = Project { generation: number + 1, ..project.clone() };
                    Ok((Next::Alive(project.clone()), project))
                }
            })
            .await
    }

    /// Changes a project, trying again when somebody else changes it at the same time.
    ///
    /// # Errors
    /// What `change` says, or that there is no such project.
    pub async fn change_project<R>(
        &self,
        slug: &Slug,
        mut change: impl FnMut(&mut Project) -> Result<R, RecordError>,
    ) -> Result<R, RegistryError> {
        let folder = Folder::Project(slug.clone());
        let changed = self.states.change(&folder, |_, current: Option<Project>| {
            let Some(mut project) = current else { return Ok((Next::Nothing, None)) };
            let result = change(&mut project)?;
            Ok((Next::Alive(project), Some(result)))
        });
        match changed.await? {
            Some(result) => Ok(result),
            None => Err(self.unknown(slug).await),
        }
    }

    /// Changes the organization, trying again when somebody else changes it at the same time.
    ///
    /// # Errors
    /// What `change` says.
    pub async fn change_organization<R>(
        &self,
        mut change: impl FnMut(&mut Organization) -> Result<R, RecordError>,
    ) -> Result<R, RegistryError> {
        self.states
            .change(&Folder::Organization, |_, current: Option<Organization>| {
                let mut organization = current.unwrap_or_default();
                let result = change(&mut organization)?;
                Ok((Next::Alive(organization), result))
            })
            .await
    }

    /// Marks a project as deleted for good. Its data is the caller's to remove before.
    ///
    /// # Errors
    /// If there is no such project.
    pub async fn remove_project(&self, slug: &Slug) -> Result<(), RegistryError> {
        let now = self.clock.now_unix_nanos();
        let folder = Folder::Project(slug.clone());
        let removed = self.states.change(&folder, |_, current: Option<Project>| {
            Ok(if current.is_some() { (Next::Deleted(now), true) } else { (Next::Nothing, false) })
        });
        if removed.await? { Ok(()) } else { Err(self.unknown(slug).await) }
    }

    /// The folder of a project's data: what the registry says, and the name itself for a project that it does not know.
    /// For one that was deleted it is that of the next one of the name: whatever landed since is not to be seen.
    ///
    /// # Errors
    /// As [`Self::organization`].
    pub async fn folder_of(&self, slug: &Slug) -> Result<String, RegistryError> {
        let State { number, document } = self.states.latest::<Project>(&Folder::Project(slug.clone())).await?;
        Ok(document.map_or_else(|| tenant::folder(slug, number + 1), |project| project.folder()))
    }

    /// Makes an environment of a project, and the project, unless they are there already.
    ///
    /// # Errors
    /// If the project is on its way out, or a limit is reached; else as [`Self::organization`].
    pub async fn ensure(&self, slug: &Slug, environment: &Slug) -> Result<(), RegistryError> {
        let organization = self.organization().await?;
        match self.create_project(slug.as_str()).await {
            Ok(_) | Err(RegistryError::Record(RecordError::Exists { .. })) => {}
            Err(error) => return Err(error),
        }
        let now = self.clock.now_unix_nanos();
        let added = self.change_project(slug, |project| {
            project.add_environment(&organization, environment.as_str(), now).map(drop)
        });
        match added.await {
            Ok(()) | Err(RegistryError::Record(RecordError::Exists { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), RegistryError> {
        self.uses.note(uses).await
    }

    /// When keys were last used, by project and id, in nanoseconds since the epoch. Processes write it down about every
    /// minute.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn key_uses(&self) -> Result<BTreeMap<(Slug, Box<str>), u64>, RegistryError> {
        self.uses.all().await
    }

    async fn unknown(&self, slug: &Slug) -> RegistryError {
        match self.projects().await {
            Ok((projects, _)) => {
                let known = projects.iter().map(|p| p.slug.to_string()).collect();
                RecordError::Unknown { what: "project", name: slug.to_string(), known }.into()
            }
            Err(error) => error,
        }
    }
}
