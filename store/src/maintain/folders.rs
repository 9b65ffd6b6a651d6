//! Objects as they lie in the store, whatever a log says of them.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore};

use super::Freed;
use crate::StoreError;
use crate::objects::Root;

/// Where a table's log is.
const LOG: &str = "_delta_log";

/// The folders of all projects.
pub(super) struct Folders<'r> {
    root: &'r Root,
    store: Arc<dyn ObjectStore>,
    projects: Path,
}

impl<'r> Folders<'r> {
    pub(super) fn new(root: &'r Root) -> Self {
        let (store, projects) = root.place("projects");
        Self { root, store, projects }
    }

    /// Names of the projects that have objects.
    pub(super) async fn projects(&self) -> Result<Vec<String>, StoreError> {
        let listed = self.store.list_with_delimiter(Some(&self.projects)).await?;
        Ok(listed.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect())
    }

    /// Where the spans of a project are.
    pub(super) fn spans(&self, project: &str) -> Path {
        self.projects.clone().join(project).join("spans")
    }

    /// Everything below a folder.
    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, StoreError> {
        Ok(self.store.list(Some(folder)).try_collect().await?)
    }

    /// Everything in a project's folder.
    pub(super) async fn list_project(&self, project: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.list(&self.projects.clone().join(project)).await
    }

    /// Deletes a project's whole folder: data before the log, so that the log tells as long as possible what there was.
    pub(super) async fn delete_project(&self, project: &str) -> Result<Freed, StoreError> {
        let folder = self.projects.clone().join(project);
        let is_log = |object: &ObjectMeta| object.location.parts().any(|part| part.as_ref() == LOG);
        let (log, data): (Vec<_>, Vec<_>) = self.list_project(project).await?.into_iter().partition(is_log);
        let mut freed = self.delete(data).await?;
        freed += self.delete(log).await?;
        if let Some(folder) = self.root.local_folder(&folder) {
            remove_empty(&folder);
        }
        Ok(freed)
    }

    /// Deletes the objects of an environment that `choose` picks by their paths within the table.
    pub(super) async fn delete_environment(
        &self,
        project: &str,
        environment: &str,
        choose: impl Fn(&Path) -> bool,
    ) -> Result<Freed, StoreError> {
        let spans = self.spans(project);
        let folder = spans.clone().join(format!("environment={environment}"));
        let mut objects = self.list(&folder).await?;
        objects.retain(|object| within(&spans, &object.location).is_some_and(|path| choose(&path)));
        let freed = self.delete(objects).await?;
        if let Some(folder) = self.root.local_folder(&folder) {
            remove_empty(&folder);
        }
        Ok(freed)
    }

    /// Deletes objects. One that is gone already counts for whoever deleted it.
    pub(super) async fn delete(&self, objects: Vec<ObjectMeta>) -> Result<Freed, StoreError> {
        let sizes: foldhash::HashMap<Path, u64> = objects.iter().map(|o| (o.location.clone(), o.size)).collect();
        let paths = stream::iter(objects.into_iter().map(|object| Ok(object.location))).boxed();
        let mut deleted = self.store.delete_stream(paths);
        let mut freed = Freed::default();
        let mut failed = None;
        while let Some(result) = deleted.next().await {
            match result {
                Ok(path) => freed += Freed { objects: 1, bytes: sizes.get(&path).copied().unwrap_or(0) },
                Err(Error::NotFound { .. }) => {}
                // The others go nevertheless.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(freed), |error| Err(error.into()))
    }
}

/// The path of an object within a folder.
pub(super) fn within(folder: &Path, object: &Path) -> Option<Path> {
    Some(object.prefix_match(folder)?.collect())
}

/// Whether an object is data of the table, and not of its log or somebody else's.
pub(super) fn is_data(path: &Path) -> bool {
    path.extension() == Some("parquet")
        && path.parts().next().is_some_and(|part| part.as_ref().starts_with("environment="))
}

/// Removes directories that are empty, from the innermost; a bucket has none. What cannot be removed stays: nobody lists
/// empty directories.
fn remove_empty(folder: &std::path::Path) {
    if let Ok(entries) = std::fs::read_dir(folder) {
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.for_each(|entry| remove_empty(&entry.path()));
    }
    let removed = std::fs::remove_dir(folder);
    tracing::trace!(ok = removed.is_ok(), "empty directory");
}
