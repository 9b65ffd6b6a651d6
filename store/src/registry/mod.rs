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

mod issue;
mod states;
#[cfg(test)]
mod tests;
mod watch;

use futures::StreamExt as _;
use object_store::Error;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::{Organization, Project, RecordError, Slug};

use self::states::{Folder, Next, States};
pub use self::watch::Watch;
use crate::StoreError;
use crate::objects::Root;

/// Objects that are read at the same time.
const READS: usize = 16;

/// The registry of a store.
#[derive(Debug, Clone)]
pub struct Registry {
    states: States,
    clock: Clock,
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
        Self { states: States::new(store, path.join("registry"), clock.clone()), clock }
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
        let (mut projects, mut errors) = (Vec::new(), Vec::new());
        let folders = self.states.newest().await?.into_keys().filter(|folder| *folder != Folder::Organization);
        let reads = folders.map(|folder| async move { self.states.latest::<Project>(&folder).await });
        let mut reads = futures::stream::iter(reads).buffered(READS);
        while let Some(read) = reads.next().await {
            match read {
                Ok(state) => projects.extend(state.document),
                Err(error @ RegistryError::Corrupt { .. }) => errors.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((projects, errors))
    }

    /// Makes a project.
    ///
    /// # Errors
    /// If its slug is taken, by whichever name; of two replicas at the same time one is told so.
    pub async fn create_project(&self, name: &str) -> Result<Project, RegistryError> {
        let project = Project::new(name, self.clock.now_unix_nanos())?;
        let slug = project.slug.clone();
        self.states
            .change(&Folder::Project(slug.clone()), |current: Option<Project>| match current {
                Some(_) => Err(RecordError::Exists { what: "project", slug: slug.clone() }),
                None => Ok((Next::Alive(project.clone()), project.clone())),
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
        let changed = self.states.change(&folder, |current: Option<Project>| {
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
            .change(&Folder::Organization, |current: Option<Organization>| {
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
        let removed = self.states.change(&folder, |current: Option<Project>| {
            Ok(if current.is_some() { (Next::Deleted(now), true) } else { (Next::Nothing, false) })
        });
        if removed.await? { Ok(()) } else { Err(self.unknown(slug).await) }
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
