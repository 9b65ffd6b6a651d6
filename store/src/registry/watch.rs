//! Following the registry: a directory of all keys that is made anew when something changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use weir_pipeline::tenant::{Directory, Organization, Project, StaticKey};

use super::states::Folder;
use super::{READS, Registry, RegistryError};

/// What was last seen of a registry.
///
/// A look lists the registry, which tells by the numbers what changed, and reads only that: with a thousand projects one
/// or two requests when nothing did.
#[derive(Debug)]
pub struct Watch {
    registry: Registry,
    static_keys: Vec<StaticKey>,
    seen: BTreeMap<Folder, Seen>,
    directory: Arc<Directory>,
}

#[derive(Debug)]
struct Seen {
    number: u64,
    document: Known,
}

#[derive(Debug)]
enum Known {
    Organization(Arc<Organization>),
    Project(Arc<Project>),
    /// Deleted, or unreadable.
    Nothing,
}

impl Watch {
    /// Nothing was seen yet; the directory knows the keys of the configuration.
    pub fn new(registry: Registry, static_keys: Vec<StaticKey>) -> Self {
        let directory = Arc::new(Directory::new(Arc::default(), [], &static_keys));
        Self { registry, static_keys, seen: BTreeMap::new(), directory }
    }

    /// The directory as of the last look.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Looks for changes. Returns the objects that have become unreadable since the last look; whatever hangs on them is
    /// out of the directory.
    ///
    /// # Errors
    /// If the store cannot be read. The directory stays as it was.
    pub async fn look(&mut self) -> Result<Vec<RegistryError>, RegistryError> {
        let newest = self.registry.states.newest().await?;
        let is_news =
            |(folder, number): &(&Folder, &u64)| self.seen.get(*folder).map(|seen| seen.number) != Some(**number);
        let news: Vec<(Folder, u64)> =
            newest.iter().filter(is_news).map(|(folder, number)| (folder.clone(), *number)).collect();
        let is_gone = self.seen.keys().any(|folder| !newest.contains_key(folder));
        if news.is_empty() && !is_gone {
            return Ok(Vec::new());
        }
        let registry = &self.registry;
        let reads = news.into_iter().map(|(folder, number)| async move {
            let read = read(registry, &folder).await;
            (folder, number, read)
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        let (mut unreadable, mut changed) = (Vec::new(), Vec::new());
        while let Some((folder, number, read)) = reads.next().await {
            let document = match read {
                Ok(document) => document,
                Err(error @ RegistryError::Corrupt { .. }) => {
                    unreadable.push(error);
                    Known::Nothing
                }
                Err(error) => return Err(error),
            };
            changed.push((folder, Seen { number, document }));
        }
        drop(reads);
        self.seen.retain(|folder, _| newest.contains_key(folder));
        self.seen.extend(changed);
        self.directory = Arc::new(self.compile());
        Ok(unreadable)
    }

    fn compile(&self) -> Directory {
        let organization = self.seen.values().find_map(|seen| match &seen.document {
            Known::Organization(organization) => Some(Arc::clone(organization)),
            _ => None,
        });
        let projects = self.seen.values().filter_map(|seen| match &seen.document {
            Known::Project(project) => Some(Arc::clone(project)),
            _ => None,
        });
        Directory::new(organization.unwrap_or_default(), projects, &self.static_keys)
    }
}

/// The newest state, which may be newer than what was listed: then the next look reads it once more.
async fn read(registry: &Registry, folder: &Folder) -> Result<Known, RegistryError> {
    Ok(match folder {
        Folder::Organization => {
            registry.states.latest(folder).await?.document.map_or(Known::Nothing, |o| Known::Organization(Arc::new(o)))
        }
        Folder::Project(_) => {
            registry.states.latest(folder).await?.document.map_or(Known::Nothing, |p| Known::Project(Arc::new(p)))
        }
    })
}
