//! Whose key is this? Answered from memory, made anew when a document changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::{HashMap, HashMapExt};

use super::key::MAX_LEN;
use super::{KeyHash, Organization, Project, Slug, Tenant};
use crate::metadata::Identity;

/// A key that is written in the configuration instead of the registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticKey {
    /// The hash of the key.
    pub hash: KeyHash,
    /// Where it leads.
    pub tenant: Tenant,
}

/// All keys and projects at one time. Looking a key up takes one SHA-256, whatever their number.
#[derive(Debug, Default)]
pub struct Directory {
    /// By the first bytes of the hash; more than one only by a collision that takes 2³² keys.
    keys: HashMap<u64, Vec<Entry>>,
    projects: BTreeMap<Slug, Arc<Project>>,
    /// The last generation of projects that were deleted and not made again.
    deleted: BTreeMap<Slug, u64>,
    organization: Arc<Organization>,
    /// Whose keys of the configuration open nothing.
    shut: Vec<Tenant>,
}

/// Why nothing is taken for a tenant any more. What is said of it to clients names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Closed {
    /// Its project was deleted or is being deleted; one of the same name that was made since is another.
    #[error("the project of these spans was deleted")]
    Project,
    /// The project has no such environment: it was deleted, is being deleted, or was never made.
    #[error("the environment of these spans was deleted, or was never made")]
    Environment,
}

impl Closed {
    /// The same as a word for counters.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Project => "project_deleted",
            Self::Environment => "environment_deleted",
        }
    }
}

#[derive(Debug)]
struct Entry {
    hash: KeyHash,
    identity: Arc<Identity>,
    tenant: Arc<Tenant>,
    expires_unix_nano: u64,
    /// The key's id; empty for one from the configuration.
    id: Box<str>,
    /// When it was last found, in nanoseconds since the epoch; 0 if never.
    used: AtomicU64,
}

/// A key that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'d> {
    /// Where it leads.
    pub tenant: &'d Arc<Tenant>,
    /// What goes with the data: the tenant, also as `auth.project` and `auth.environment`.
    pub identity: &'d Arc<Identity>,
    /// The key's id in its project; empty for one from the configuration.
    pub id: &'d str,
}

/// The last time a key of the registry was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's project.
    pub project: Slug,
    /// The key's id in its project.
    pub id: Box<str>,
    /// Nanoseconds since the epoch.
    pub used_unix_nano: u64,
}

impl Directory {
    /// The directory of these documents. Keys that are revoked, or lead to an environment which is gone or into a project
    /// on its way out, are not in it. `deleted` are projects that were deleted and not made again, each with the last
    /// generation that it can have had.
    pub fn new(
        organization: Arc<Organization>,
        projects: impl IntoIterator<Item = Arc<Project>>,
        deleted: impl IntoIterator<Item = (Slug, u64)>,
        static_keys: &[StaticKey],
    ) -> Self {
        let deleted = deleted.into_iter().collect();
        let mut directory =
            Self { keys: HashMap::new(), projects: BTreeMap::new(), deleted, organization, shut: Vec::new() };
        for project in projects {
            let mut holders: BTreeMap<&Slug, Holder> = BTreeMap::new();
            for key in project.keys.iter().filter(|key| !project.deleting && key.revoked_unix_nano.is_none()) {
                if !project.has(&directory.organization, &key.environment) {
                    continue;
                }
                // One allocation for all keys of an environment, so that batches of one tenant share it.
                let holder =
                    holders.entry(&key.environment).or_insert_with(|| Holder::new(project.tenant(&key.environment)));
                directory.add(key.hash, holder, key.expires_unix_nano.unwrap_or(u64::MAX), &key.id);
            }
            directory.projects.insert(project.slug.clone(), Arc::clone(&project));
        }
        for key in static_keys {
            match directory.resolve(&key.tenant) {
                Ok(tenant) => directory.add(key.hash, &Holder::new(tenant), u64::MAX, ""),
                Err(_) => directory.shut.push(key.tenant.clone()),
            }
        }
        directory
    }

    /// The tenant that a configuration means: where the registry knows the project, its data lie where the registry says,
    /// and a deletion holds for all.
    ///
    /// # Errors
    /// If nothing is taken for it.
    pub fn resolve(&self, tenant: &Tenant) -> Result<Tenant, Closed> {
        let generation = self.projects.get(&tenant.project).map_or(tenant.generation, |project| project.generation);
        let tenant = Tenant { generation, ..tenant.clone() };
        self.closed(&tenant).map_or(Ok(tenant), Err)
    }

    /// Why nothing is taken for a tenant, if so. Of a project that nobody has made nothing is known that could be said.
    pub fn closed(&self, tenant: &Tenant) -> Option<Closed> {
        match self.projects.get(&tenant.project) {
            Some(project) if project.deleting || tenant.generation < project.generation => Some(Closed::Project),
            // One that was made after this directory.
            Some(project) if tenant.generation > project.generation => None,
            Some(project) if project.has(&self.organization, &tenant.environment) => None,
            Some(_) => Some(Closed::Environment),
            None => {
                let last = self.deleted.get(&tenant.project);
                last.is_some_and(|last| tenant.generation <= *last).then_some(Closed::Project)
            }
        }
    }

    /// Whose keys of the configuration open nothing, because their project or environment was deleted or is not there.
    pub fn shut(&self) -> &[Tenant] {
        &self.shut
    }

    fn add(&mut self, hash: KeyHash, Holder { tenant, identity }: &Holder, expires_unix_nano: u64, id: &str) {
        self.keys.entry(hash.bucket()).or_default().push(Entry {
            hash,
            identity: Arc::clone(identity),
            tenant: Arc::clone(tenant),
            expires_unix_nano,
            id: id.into(),
            used: AtomicU64::new(0),
        });
    }

    /// Where a key leads at this time (nanoseconds since the epoch), which is noted as its last use; `None` for a key
    /// that is unknown, revoked, expired or no key at all, without telling which.
    pub fn find(&self, key: &str, now: u64) -> Option<Found<'_>> {
        if key.len() > MAX_LEN {
            return None;
        }
        let entry = self.entry(&KeyHash::of(key))?;
        if now >= entry.expires_unix_nano {
            return None;
        }
        entry.used.store(now, Ordering::Relaxed);
        Some(Found { tenant: &entry.tenant, identity: &entry.identity, id: &entry.id })
    }

    fn entry(&self, hash: &KeyHash) -> Option<&Entry> {
        self.keys.get(&hash.bucket())?.iter().find(|entry| entry.hash.is(hash))
    }

    /// Takes over when keys were last used from the directory that this one replaces.
    pub fn remember(&self, former: &Self) {
        for old in former.keys.values().flatten() {
            if let Some(entry) = self.entry(&old.hash) {
                entry.used.fetch_max(old.used.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// The keys of the registry that were used later than `since` (nanoseconds since the epoch).
    pub fn uses(&self, since: u64) -> impl Iterator<Item = KeyUse> {
        let used = |entry: &Entry| (entry.used.load(Ordering::Relaxed), entry.id.is_empty());
        let entries = self.keys.values().flatten();
        entries.filter_map(move |entry| match used(entry) {
            (used_unix_nano, false) if used_unix_nano > since => {
                Some(KeyUse { project: entry.tenant.project.clone(), id: entry.id.clone(), used_unix_nano })
            }
            _ => None,
        })
    }

    /// The project of this slug.
    pub fn project(&self, slug: &Slug) -> Option<&Arc<Project>> {
        self.projects.get(slug)
    }

    /// Whether the project of this slug was deleted and none was made since.
    pub fn is_deleted(&self, slug: &Slug) -> bool {
        self.deleted.contains_key(slug)
    }

    /// All projects, by slug.
    pub fn projects(&self) -> impl ExactSizeIterator<Item = &Arc<Project>> {
        self.projects.values()
    }

    /// The organization.
    pub fn organization(&self) -> &Arc<Organization> {
        &self.organization
    }

    /// Keys that open something.
    pub fn key_count(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }
}

/// What the keys of one environment have in common.
struct Holder {
    tenant: Arc<Tenant>,
    identity: Arc<Identity>,
}

impl Holder {
    fn new(tenant: Tenant) -> Self {
        let tenant = Arc::new(tenant);
        Self { identity: Arc::new(Identity::of_tenant(&tenant)), tenant }
    }
}
