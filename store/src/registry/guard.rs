//! Whether spans may still be written, and where to: what whoever writes them asks.
//!
//! Spans are let in by their key, and then wait: to be joined with others, for a backend, in another process. Meanwhile
//! their project may be deleted. Others come without a key: from a process that knows no registry, or by attributes. So
//! the last one that has them in hand asks again.
//!
//! Decision: the registry is looked at when spans come and it was not for [`EVERY`], which whoever comes first then waits
//! for. There is no task that looks while nothing comes, and no look for each batch. A registry that cannot be read now
//! stops nobody: what was known before counts, and the spans go to the same store, which is as far away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use weir_pipeline::tenant::{Closed, Directory, Tenant};

use super::{Registry, Watch};
use crate::objects::{DEFAULT_PROJECT, one_line};

/// How old what is known may be: less than what a deletion waits for
/// ([`Settings::settle`](crate::maintain::Settings::settle)).
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told of refusals at most: each names a tenant.
const TOLD: usize = 1_000;

/// Asked before spans are written.
#[derive(Debug)]
pub struct Guard {
    watch: tokio::sync::Mutex<Watch>,
    seen: RwLock<Option<Arc<Seen>>>,
    /// Whose spans were refused and why, as far as the log has it.
    told: Mutex<BTreeSet<(Closed, String)>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    directory: Arc<Directory>,
    is_complete: bool,
}

impl Guard {
    /// Asks this registry. Nothing is read yet.
    pub fn new(registry: Registry) -> Self {
        let watch = tokio::sync::Mutex::new(Watch::new(registry, Vec::new()));
        Self { watch, seen: RwLock::default(), told: Mutex::default() }
    }

    /// The folder of the project that spans go to; those of nobody go to that of the project `default`.
    ///
    /// # Errors
    /// If their project or environment was deleted. That is logged, once for each.
    pub async fn folder(&self, tenant: Option<&Tenant>) -> Result<String, Closed> {
        let folder = self.seen().await.folder(tenant);
        if let Err(closed) = folder {
            self.tell(closed, tenant);
        }
        folder
    }

    fn tell(&self, closed: Closed, tenant: Option<&Tenant>) {
        let whose = tenant.map_or_else(|| DEFAULT_PROJECT.to_owned(), Tenant::to_string);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD && told.insert((closed, whose.clone())) {
            tracing::warn!(
                "spans of {whose} are refused: {closed}. Whoever sends them should stop; a project of that name that \
                 was made since has other keys"
            );
        }
    }

    /// What is known, and not too old.
    async fn seen(&self) -> Arc<Seen> {
        if let Some(seen) = self.fresh() {
            return seen;
        }
        let mut watch = self.watch.lock().await;
        // Somebody else has looked meanwhile.
        if let Some(seen) = self.fresh() {
            return seen;
        }
        match timeout(PATIENCE, watch.look()).await {
            Ok(Ok(unreadable)) => unreadable.iter().for_each(|error| tracing::debug!("{error}")),
            Ok(Err(error)) => tracing::debug!(error = one_line(&error), "the registry of projects cannot be read"),
            Err(_) => tracing::debug!("the registry of projects does not answer"),
        }
        let (directory, is_complete) = (Arc::clone(watch.directory()), watch.is_complete());
        let seen = Arc::new(Seen { at: Instant::now(), directory, is_complete });
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seen));
        seen
    }

    fn fresh(&self) -> Option<Arc<Seen>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|seen| seen.at.elapsed() < EVERY).cloned()
    }
}

impl Seen {
    fn folder(&self, tenant: Option<&Tenant>) -> Result<String, Closed> {
        let Some(tenant) = tenant else { return self.default_folder() };
        match self.directory.closed(tenant) {
            // It may be one of the organization's, whose object cannot be read.
            Some(Closed::Environment) if !self.is_complete => Ok(tenant.folder()),
            Some(closed) => Err(closed),
            None => Ok(tenant.folder()),
        }
    }

    /// Where spans of nobody go.
    fn default_folder(&self) -> Result<String, Closed> {
        // A constant that is a slug.
        let Ok(slug) = DEFAULT_PROJECT.parse() else { return Ok(DEFAULT_PROJECT.to_owned()) };
        match self.directory.project(&slug) {
            Some(project) if project.deleting => Err(Closed::Project),
            Some(project) => Ok(project.folder()),
            None if self.directory.is_deleted(&slug) => Err(Closed::Project),
            None => Ok(DEFAULT_PROJECT.to_owned()),
        }
    }
}
