//! Deletion for good, of a project or an environment. See the [module](super) for the order of things.

use std::collections::BTreeMap;

use object_store::path::Path;
use weir_pipeline::tenant::{Organization, RecordError, Slug};

use super::folders::Folders;
use super::spans::Spans;
use super::{Freed, MaintainError, Maintenance, Place, Removed, Stored};
use crate::StoreError;
use crate::objects::one_line;
use crate::registry::RegistryError;

impl Maintenance {
    /// Deletes a project with its keys and all its spans, and says what that was. Takes a few times
    /// [`settle`](super::Settings::settle). Also finishes a deletion that was begun before; then it says what was left.
    ///
    /// # Errors
    /// If there is no such project; if spans keep arriving; if the store or the registry cannot be read or written.
    pub async fn delete_project(&self, slug: &Slug) -> Result<Removed, MaintainError> {
        let project = self.registry.project(slug).await?;
        if !project.deleting {
            self.registry
                .change_project(slug, |project| {
                    project.deleting = true;
                    Ok(())
                })
                .await?;
        }
        self.settle().await;
        let mut all = Removed::default();
        for _ in 0..self.settings.looks {
            let removed = self.erase_project(&project.folder()).await?;
            if removed.is_empty() {
                return match self.registry.remove_project(slug).await {
                    // Another replica finished it.
                    Ok(()) | Err(RegistryError::Record(RecordError::Unknown { .. })) => Ok(all),
                    Err(error) => Err(error.into()),
                };
            }
            all.add(removed);
            self.settle().await;
        }
        Err(self.still_written(format!("the project `{slug}`")))
    }

    /// Deletes the folder of a project.
    pub(super) async fn erase_project(&self, folder: &str) -> Result<Removed, MaintainError> {
        // A log that is damaged, or half deleted by somebody who crashed, cannot say what there was. It goes all the same.
        let environments = match self.empty_table(folder).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(
                    project = folder,
                    error = one_line(&error),
                    "the table of a project that is deleted cannot be read"
                );
                Stored::default()
            }
        };
        let freed = Folders::new(&self.root).delete_project(folder).await?;
        Ok(Removed { environments, freed })
    }

    /// What [`Self::erase_project`] would delete.
    pub(super) async fn left_of(&self, folder: &str) -> Result<Removed, MaintainError> {
        let objects = Folders::new(&self.root).list_project(folder).await?;
        let freed = Freed { objects: objects.len() as u64, bytes: objects.iter().map(|object| object.size).sum() };
        // Its log may be damaged, or gone.
        let environments = self.stored_in(folder).await.unwrap_or_default();
        Ok(Removed { environments, freed })
    }

    /// Takes everything out of a table, so that no query sees any of it while its objects go.
    async fn empty_table(&self, folder: &str) -> Result<Stored, StoreError> {
        match Spans::open(&self.root, folder).await? {
            // A predicate that is always true: without one a compaction at the same time would keep its rows.
            Some(mut spans) => spans.remove(&|_| true, "true", self).await,
            None => Ok(Stored::default()),
        }
    }

    /// Deletes an environment of a project with its keys and spans, and says what that was.
    ///
    /// # Errors
    /// If the project has no such environment of its own; else as [`Self::delete_project`].
    pub async fn delete_environment(&self, project: &Slug, environment: &Slug) -> Result<Removed, MaintainError> {
        let organization = self.organization().await?;
        let document = self.registry.project(project).await?;
        if !document.environments.iter().any(|e| e.deleting && e.slug == *environment) {
            let begin = |document: &mut weir_pipeline::tenant::Project| {
                document.begin_delete_environment(&organization, environment)
            };
            self.registry.change_project(project, begin).await?;
        }
        self.settle().await;
        let mut removed = self.erase_environment(&[Place::of(&document)], environment).await?;
        self.registry
            .change_project(project, |document| {
                document.forget_environment(environment);
                Ok(())
            })
            .await?;
        Ok(removed.remove(project.as_str()).unwrap_or_default())
    }

    /// Deletes an environment of the organization with its keys and spans from all projects, and says by project what
    /// that was.
    ///
    /// # Errors
    /// If it is built in or there is none; else as [`Self::delete_project`].
    pub async fn delete_organization_environment(
        &self,
        environment: &Slug,
    ) -> Result<BTreeMap<String, Removed>, MaintainError> {
        if !self.organization().await?.is_deleting(environment) {
            let begin = |organization: &mut Organization| organization.begin_delete_environment(environment);
            self.registry.change_organization(begin).await?;
        }
        self.settle().await;
        let removed = self.erase_environment(&self.places().await?, environment).await?;
        // Keys go before the environment: one of the same name that is made later must not be opened by them.
        let (projects, mut unreadable) = self.registry.projects().await?;
        if let Some(error) = unreadable.pop() {
            return Err(error.into());
        }
        for project in projects.iter().filter(|project| project.knows_environment(environment)) {
            let forgotten = self.registry.change_project(&project.slug, |project| {
                project.forget_environment(environment);
                Ok(())
            });
            match forgotten.await {
                Ok(()) | Err(RegistryError::Record(RecordError::Unknown { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.registry.change_organization(|organization| organization.remove_environment(environment)).await {
            Ok(()) | Err(RegistryError::Record(RecordError::Unknown { .. })) => Ok(removed),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the spans of an environment in these projects, until none are left.
    async fn erase_environment(
        &self,
        places: &[Place],
        environment: &Slug,
    ) -> Result<BTreeMap<String, Removed>, MaintainError> {
        let mut all: BTreeMap<String, Removed> = BTreeMap::new();
        for _ in 0..self.settings.looks {
            let mut found = false;
            for Place { name, folder } in places {
                let removed = self.erase_removed(folder, environment).await?;
                if !removed.is_empty() {
                    found = true;
                    all.entry(name.clone()).or_default().add(removed);
                }
            }
            if !found {
                for Place { name, folder } in places {
                    let removed = self.erase_rest(folder, environment).await?;
                    if !removed.is_empty() {
                        all.entry(name.clone()).or_default().add(removed);
                    }
                }
                return Ok(all);
            }
            self.settle().await;
        }
        Err(self.still_written(format!("the environment `{environment}`")))
    }

    /// Takes the spans of an environment out of the table and deletes their files, but not those that somebody may be
    /// about to commit: the table would name files that are gone.
    async fn erase_removed(&self, folder: &str, environment: &Slug) -> Result<Removed, StoreError> {
        let Some(mut spans) = Spans::open(&self.root, folder).await? else { return Ok(Removed::default()) };
        let environments = self.empty_environment(&mut spans, environment).await?;
        let removed: foldhash::HashSet<Path> = spans.removed().await?.into_iter().map(|(path, _)| path).collect();
        let choose = |path: &Path| removed.contains(path);
        let freed = Folders::new(&self.root).delete_environment(folder, environment.as_str(), choose).await?;
        Ok(Removed { environments, freed })
    }

    /// Deletes what no commit has named until now.
    async fn erase_rest(&self, folder: &str, environment: &Slug) -> Result<Removed, StoreError> {
        let freed = Folders::new(&self.root).delete_environment(folder, environment.as_str(), |_| true).await?;
        let mut removed = Removed { freed, ..Removed::default() };
        if freed != Freed::default()
            && let Some(mut spans) = Spans::open(&self.root, folder).await?
        {
            // Should one have been committed at this very moment.
            removed.environments = self.empty_environment(&mut spans, environment).await?;
        }
        Ok(removed)
    }

    async fn empty_environment(&self, spans: &mut Spans, environment: &Slug) -> Result<Stored, StoreError> {
        let predicate = format!("environment = '{environment}'");
        spans.remove(&|file| file.environment == environment.as_str(), &predicate, self).await
    }

    fn still_written(&self, what: String) -> MaintainError {
        MaintainError::StillWritten { what, looks: self.settings.looks }
    }
}
