//! Tenants by the attributes of resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use weir_pipeline::batch::view::{Resource, Value};
use weir_pipeline::node::Refused;
use weir_pipeline::telemetry::{Counter, Telemetry};
use weir_pipeline::tenant::{Claim, Project, Slug, Tenant, TenantSource};

use super::config::{AttributeSettings, Settings};
use super::state::State;

/// Reads tenants off resources.
pub(super) struct Attributes {
    settings: Settings,
    state: Arc<State>,
    seen: Mutex<Seen>,
    /// Resources that belong to the default because a limit was reached, or their names cannot be used.
    overflow: Counter,
    unusable: Counter,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// Of which directory `tenants` are.
    version: u64,
    tenants: BTreeMap<(Slug, Slug), Arc<Tenant>>,
    /// Without a registry: the projects and their environments.
    projects: BTreeMap<Slug, BTreeSet<Slug>>,
}

impl Attributes {
    pub(super) fn new(settings: Settings, state: Arc<State>, id: &str, telemetry: &Telemetry) -> Self {
        let counter =
            |reason| telemetry.counter("weir_tenant_default_resources", &[("extension", id), ("reason", reason)]);
        Self {
            settings,
            state,
            seen: Mutex::default(),
            overflow: counter("limit_reached"),
            unusable: counter("unusable_name"),
        }
    }

    /// The names that a resource gives. `None` for a project or environment that it does not name.
    fn names(&self, resource: Resource<'_>) -> (Option<Slug>, Option<Slug>) {
        let AttributeSettings { project, environment, .. } = &self.settings.attributes;
        let named = |keys: &[String]| {
            let text = keys.iter().find_map(|key| match resource.attributes().get(key) {
                Some(Value::Str(text)) if !text.as_str().trim().is_empty() => Some(text.as_str()),
                _ => None,
            })?;
            let slug = Slug::of_name(text).ok();
            self.unusable.add(usize::from(slug.is_none()));
            slug
        };
        (named(project), named(environment))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overflown(&self) -> Claim {
        self.overflow.add(1);
        self.default()
    }

    fn default(&self) -> Claim {
        self.default_tenant().map_or(Claim::Closed, Claim::Tenant)
    }

    /// Whether there may be one more.
    fn may_create(&self, projects: usize, environments: Option<usize>) -> bool {
        let AttributeSettings { create, max_projects, max_environments, .. } = self.settings.attributes;
        create && environments.map_or(projects < max_projects, |n| n < max_environments)
    }

    fn claim_in(&self, seen: &mut Seen, project: Slug, environment: Slug) -> Claim {
        let known = self.state.known();
        if seen.version != known.version {
            seen.version = known.version;
            seen.tenants.clear();
        }
        let key = (project, environment);
        if let Some(tenant) = seen.tenants.get(&key) {
            return Claim::Tenant(Arc::clone(tenant));
        }
        let (project, environment) = &key;
        let tenant = if self.state.has_registry() {
            match known.directory.project(project) {
                Some(found) if found.deleting || found.is_deleting(known.directory.organization(), environment) => {
                    return Claim::Closed;
                }
                Some(found) if found.has(known.directory.organization(), environment) => found.tenant(environment),
                // It may be one of those that cannot be read; [`Self::create`] sees.
                None if !known.is_complete => return Claim::New { project: key.0, environment: key.1 },
                found => {
                    let environments = found.map(|found| found.environments.len());
                    return match self.may_create(known.directory.projects().len(), environments) {
                        true => Claim::New { project: key.0, environment: key.1 },
                        false => self.overflown(),
                    };
                }
            }
        } else {
            let environments = seen.projects.get(project).map(BTreeSet::len);
            let is_known = seen.projects.get(project).is_some_and(|known| known.contains(environment));
            if !is_known && !self.may_create(seen.projects.len(), environments) {
                return self.overflown();
            }
            seen.projects.entry(project.clone()).or_default().insert(environment.clone());
            Tenant::new(project.clone(), environment.clone())
        };
        let tenant = Arc::new(tenant);
        seen.tenants.insert(key, Arc::clone(&tenant));
        Claim::Tenant(tenant)
    }
}

#[async_trait]
impl TenantSource for Attributes {
    fn claim(&self, resource: Resource<'_>) -> Claim {
        let default = &self.settings.default;
        let (project, environment) = self.names(resource);
        match (project, environment) {
            (None, None) => self.default(),
            (project, environment) => {
                let project = project.unwrap_or_else(|| default.project.clone());
                let environment = environment.unwrap_or_else(|| default.environment.clone());
                self.claim_in(&mut self.seen(), project, environment)
            }
        }
    }

    async fn create(&self, missing: Vec<(Slug, Slug)>) -> Result<(), Refused> {
        let AttributeSettings { create, max_projects, max_environments, .. } = self.settings.attributes;
        let directory = Arc::clone(&self.state.known().directory);
        // One request may name more than there is room for.
        let mut projects: BTreeMap<&Slug, usize> =
            directory.projects().map(|p: &Arc<Project>| (&p.slug, p.environments.len())).collect();
        let mut wanted = Vec::new();
        for pair in &missing {
            let count = projects.len();
            match projects.get_mut(&pair.0) {
                Some(environments) if create && *environments < max_environments => *environments += 1,
                None if create && count < max_projects => {
                    projects.insert(&pair.0, 1);
                }
                _ => continue,
            }
            wanted.push(pair.clone());
        }
        let come_again = |reason| Refused { retry_after: Duration::from_secs(1), reason, most: None };
        self.state.ensure(&wanted).await.map_err(|error| {
            tracing::warn!("projects that came up for the first time cannot be made: {error}");
            come_again("projects cannot be made now")
        })?;
        let known = self.state.known();
        // One that is there and cannot be read now is nobody else's.
        match missing.iter().all(|(project, _)| known.is_complete || known.directory.project(project).is_some()) {
            true => Ok(()),
            false => Err(come_again("projects cannot be read now")),
        }
    }

    fn default_tenant(&self) -> Option<Arc<Tenant>> {
        self.state.known().default.as_ref()?.tenant.clone()
    }
}
