//! Following the registry: a directory of all keys that is made anew when something changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use weir_pipeline::tenant::{self, Directory, KeyUse, Look, Organization, Project, Slug, StaticKey, Unreachable};

use super::states::Folder;
use super::{READS, Registry, RegistryError};
use crate::objects::one_line;

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
    /// Or never made.
    Absent,
    Unreadable,
}

impl Watch {
    /// Nothing was seen yet; the directory knows the keys of the configuration.
    pub fn new(registry: Registry, static_keys: Vec<StaticKey>) -> Self {
        let directory = Arc::new(Directory::new(Arc::default(), [], [], &static_keys));
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
                    Known::Unreadable
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

    /// Whether every object could be read.
    pub fn is_complete(&self) -> bool {
        !self.seen.values().any(|seen| matches!(seen.document, Known::Unreadable))
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
        let deleted = self.seen.iter().filter_map(|(folder, seen)| match (folder, &seen.document) {
            (Folder::Project(slug), Known::Absent) => Some((slug.clone(), seen.number)),
            _ => None,
        });
        Directory::new(organization.unwrap_or_default(), projects, deleted, &self.static_keys)
    }
}

/// The newest state, which may be newer than what was listed: then the next look reads it once more.
async fn read(registry: &Registry, folder: &Folder) -> Result<Known, RegistryError> {
    Ok(match folder {
        Folder::Organization => {
            registry.states.latest(folder).await?.document.map_or(Known::Absent, |o| Known::Organization(Arc::new(o)))
        }
        Folder::Project(_) => {
            registry.states.latest(folder).await?.document.map_or(Known::Absent, |p| Known::Project(Arc::new(p)))
        }
    })
}

/// A watch that several tasks may look through.
#[derive(Debug)]
pub struct Watched {
    registry: Registry,
    watch: tokio::sync::Mutex<Watch>,
}

impl Watched {
    /// Nothing was seen yet.
    pub fn new(registry: Registry, static_keys: Vec<StaticKey>) -> Self {
        Self { watch: tokio::sync::Mutex::new(Watch::new(registry.clone(), static_keys)), registry }
    }
}

#[async_trait]
impl tenant::Registry for Watched {
    async fn look(&self) -> Result<Look, Unreachable> {
        let mut watch = self.watch.lock().await;
        let unreadable = watch.look().await.map_err(|error| unreachable(&error))?;
        Ok(Look {
            directory: Arc::clone(watch.directory()),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            is_complete: watch.is_complete(),
        })
    }

    async fn ensure(&self, wanted: &[(Slug, Slug)]) -> Result<(), Unreachable> {
        for (project, environment) in wanted {
            match self.registry.ensure(project, environment).await {
                // It cannot be had, now or later; whoever asks sees that it is not there.
                Ok(()) | Err(RegistryError::Record(_) | RegistryError::Corrupt { .. }) => {}
                Err(error) => return Err(unreachable(&error)),
            }
        }
        Ok(())
    }

    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), Unreachable> {
        self.registry.note_uses(uses).await.map_err(|error| unreachable(&error))
    }
}

fn unreachable(error: &RegistryError) -> Unreachable {
    Unreachable(one_line(error))
}
