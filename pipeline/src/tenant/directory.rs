//! Whose key is this? Answered from memory, made anew when a document changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::key::MAX_LEN;
use super::{KeyHash, Organization, Project, Slug, Tenant};

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
    organization: Arc<Organization>,
}

#[derive(Debug)]
struct Entry {
    hash: KeyHash,
    tenant: Arc<Tenant>,
    expires_unix_nano: u64,
    /// The key's id; empty for one from the configuration.
    id: Box<str>,
}

/// A key that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'d> {
    /// Where it leads.
    pub tenant: &'d Arc<Tenant>,
    /// The key's id in its project; empty for one from the configuration.
    pub id: &'d str,
}

impl Directory {
    /// The directory of these documents. Keys that are revoked, or lead to an environment which is gone or into a project
    /// on its way out, are not in it.
    pub fn new(
        organization: Arc<Organization>,
        projects: impl IntoIterator<Item = Arc<Project>>,
        static_keys: &[StaticKey],
    ) -> Self {
        let mut directory = Self { keys: HashMap::new(), projects: BTreeMap::new(), organization };
        for key in static_keys {
            directory.add(key.hash, &Arc::new(key.tenant.clone()), u64::MAX, "");
        }
        for project in projects {
            let mut tenants: BTreeMap<&Slug, Arc<Tenant>> = BTreeMap::new();
            for key in project.keys.iter().filter(|key| !project.deleting && key.revoked_unix_nano.is_none()) {
                if !project.has(&directory.organization, &key.environment) {
                    continue;
                }
                // One allocation for all keys of an environment, so that batches of one tenant share it.
                let tenant = tenants.entry(&key.environment).or_insert_with(|| {
                    Arc::new(Tenant { project: project.slug.clone(), environment: key.environment.clone() })
                });
                directory.add(key.hash, tenant, key.expires_unix_nano.unwrap_or(u64::MAX), &key.id);
            }
            directory.projects.insert(project.slug.clone(), Arc::clone(&project));
        }
        directory
    }

    fn add(&mut self, hash: KeyHash, tenant: &Arc<Tenant>, expires_unix_nano: u64, id: &str) {
        let entry = Entry { hash, tenant: Arc::clone(tenant), expires_unix_nano, id: id.into() };
        self.keys.entry(hash.bucket()).or_default().push(entry);
    }

    /// Where a key leads at this time (nanoseconds since the epoch); `None` for a key that is unknown, revoked, expired
    /// or no key at all, without telling which.
    pub fn find(&self, key: &str, now: u64) -> Option<Found<'_>> {
        if key.len() > MAX_LEN {
            return None;
        }
        let hash = KeyHash::of(key);
        let entry = self.keys.get(&hash.bucket())?.iter().find(|entry| entry.hash.is(&hash))?;
        (now < entry.expires_unix_nano).then_some(Found { tenant: &entry.tenant, id: &entry.id })
    }

    /// The project of this slug.
    pub fn project(&self, slug: &Slug) -> Option<&Arc<Project>> {
        self.projects.get(slug)
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
