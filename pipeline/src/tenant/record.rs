//! What is stored: one document for the organization, one for each project.
//!
//! Times are nanoseconds since the epoch, UTC. Unknown fields are kept out: a document of a later format says so in
//! `format`, and is refused with a clear message instead of being written back without what it held.

use serde::{Deserialize, Serialize};

use super::retention::Keep;
use super::slug::check_name;
use super::{ApiKey, InvalidSlug, KeyHash, Retention, Slug, Tenant};
use crate::config::closest;

/// The version of both documents.
///
/// Decision: retention and deletions of environments came later and are still format 1, because no release had read the
/// documents before.
pub const FORMAT: u32 = 1;

/// Environments that every project has and nobody can delete, with what they are called.
pub const BUILT_IN: [(&str, &str); 3] = [("dev", "Development"), ("stg", "Staging"), ("prd", "Production")];

/// Most environments of an organization or a project, and most keys of a project, revoked ones included.
const MAX_ENTRIES: usize = 1_000;

/// The environments that all projects have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// [`FORMAT`].
    pub format: u32,
    /// Those beside the built-in ones, and those that are being deleted.
    pub environments: Vec<Environment>,
    /// How long spans are kept where their project says nothing.
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
}

/// A deployment stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// What data and keys hang on.
    pub slug: Slug,
    /// What people read.
    pub name: String,
    /// When it was made.
    pub created_unix_nano: u64,
    /// Set while it is being deleted: nothing leads to it any more, and its data is on its way out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
}

/// A project: an isolation boundary for spans and all that is made of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// [`FORMAT`].
    pub format: u32,
    /// What data and keys hang on; never changes.
    pub slug: Slug,
    /// What people read.
    pub name: String,
    /// When it was made.
    pub created_unix_nano: u64,
    /// Which project of this slug: see [`Tenant::generation`].
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub generation: u64,
    /// Environments of this project alone, and those that are being deleted.
    #[serde(default)]
    pub environments: Vec<Environment>,
    /// Its keys, revoked ones included.
    #[serde(default)]
    pub keys: Vec<KeyRecord>,
    /// Set while the project is being deleted: its keys are refused, and its data is on its way out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// How long its spans are kept.
    #[serde(default, skip_serializing_if = "Retention::is_empty")]
    pub retention: Retention,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What people name it by: `weir keys revoke ID`.
    pub id: String,
    /// The environment that its data belongs to.
    pub environment: Slug,
    /// What it is for, if somebody said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The beginning of the key.
    pub prefix: String,
    /// The hash of the key.
    pub hash: KeyHash,
    /// When it was made.
    pub created_unix_nano: u64,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_nano: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_unix_nano: Option<u64>,
}

/// Why a change is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] InvalidSlug),
    /// It is there already.
    #[error("{what} `{slug}` exists already")]
    Exists {
        /// `environment`, `project`.
        what: &'static str,
        /// Its slug.
        slug: Slug,
    },
    /// It is not there.
    #[error("there is no {what} `{name}`{}", there_are(.name, .known))]
    Unknown {
        /// `environment`, `project`, `key`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A built-in environment is to be deleted.
    #[error("the environment `{0}` is built in and cannot be deleted")]
    BuiltIn(Slug),
    /// An environment of the organization is to be deleted from one project.
    #[error("the environment `{0}` belongs to the organization: delete it there, and it goes from all projects")]
    OrganizationLevel(Slug),
    /// The project is on its way out.
    #[error("the project `{0}` is being deleted")]
    Deleting(Slug),
    /// The environment is on its way out.
    #[error("the environment `{0}` is being deleted")]
    DeletingEnvironment(Slug),
    /// A limit.
    #[error("there are {MAX_ENTRIES} {0} already, which is the limit")]
    TooMany(&'static str),
    /// The stored document cannot be used.
    #[error("it is of format {0}; this version reads format {FORMAT}: upgrade Weir")]
    Format(u32),
}

/// Most names that a message tells.
const MAX_TOLD: usize = 20;

fn there_are(name: &str, known: &[String]) -> String {
    let told = known.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match known.len().saturating_sub(MAX_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match closest(name, known.iter().map(String::as_str)) {
        _ if known.is_empty() => String::new(),
        Some(near) if known.len() > 1 => format!("; did you mean `{near}`? There are: {told}{more}"),
        _ => format!("; there are: {told}{more}"),
    }
}

impl Default for Organization {
    fn default() -> Self {
        Self { format: FORMAT, environments: Vec::new(), retention: Retention::default() }
    }
}

impl Organization {
    /// All environments but those that are being deleted, the built-in ones first.
    pub fn environments(&self) -> impl Iterator<Item = (&str, &str)> {
        BUILT_IN.into_iter().chain(alive(&self.environments))
    }

    /// Whether all projects have this environment.
    pub fn has(&self, slug: &Slug) -> bool {
        self.environments().any(|(known, _)| known == slug.as_str())
    }

    /// Whether the environment is being deleted from all projects.
    pub fn is_deleting(&self, slug: &Slug) -> bool {
        self.environments.iter().any(|e| e.deleting && e.slug == *slug)
    }

    /// Adds an environment to all projects, present and future.
    ///
    /// # Errors
    /// If the name is none or its slug is taken.
    pub fn add_environment(&mut self, name: &str, now: u64) -> Result<Slug, RecordError> {
        let slug = Slug::of_name(name)?;
        if self.is_deleting(&slug) {
            return Err(RecordError::DeletingEnvironment(slug));
        }
        if self.has(&slug) {
            return Err(RecordError::Exists { what: "environment", slug });
        }
        push(&mut self.environments, Environment::new(&slug, name, now), "environments")?;
        Ok(slug)
    }

    /// Begins to delete an environment: from now on nothing leads to it, in no project. Its data and keys go before
    /// [`Self::remove_environment`].
    ///
    /// # Errors
    /// If it is built in or not there.
    pub fn begin_delete_environment(&mut self, slug: &Slug) -> Result<(), RecordError> {
        let at = self.find(slug)?;
        self.environments[at].deleting = true;
        Ok(())
    }

    /// Takes an environment from all projects. Keys that lead to it are refused from then on.
    ///
    /// # Errors
    /// If it is built in or not there.
    pub fn remove_environment(&mut self, slug: &Slug) -> Result<(), RecordError> {
        let at = self.find(slug)?;
        self.environments.remove(at);
        self.retention.set(Some(slug), None);
        Ok(())
    }

    /// Says how long spans are kept where their project says nothing; `None` takes that back.
    ///
    /// # Errors
    /// If there is no such environment.
    pub fn set_retention(&mut self, environment: Option<&Slug>, keep: Option<Keep>) -> Result<(), RecordError> {
        match environment {
            Some(slug) if !self.has(slug) => {
                Err(unknown_environment(slug, self.environments().map(|(known, _)| known)))
            }
            environment => {
                self.retention.set(environment, keep);
                Ok(())
            }
        }
    }

    /// Where an environment stands that can be deleted.
    fn find(&self, slug: &Slug) -> Result<usize, RecordError> {
        if BUILT_IN.iter().any(|(built_in, _)| *built_in == slug.as_str()) {
            return Err(RecordError::BuiltIn(slug.clone()));
        }
        let found = self.environments.iter().position(|e| e.slug == *slug);
        found.ok_or_else(|| unknown_environment(slug, self.environments().map(|(known, _)| known)))
    }
}

/// Slugs and names of the environments that are not being deleted.
fn alive(environments: &[Environment]) -> impl Iterator<Item = (&str, &str)> {
    environments.iter().filter(|e| !e.deleting).map(|e| (e.slug.as_str(), e.name.as_str()))
}

impl Environment {
    fn new(slug: &Slug, name: &str, now: u64) -> Self {
        Self { slug: slug.clone(), name: name.trim().to_owned(), created_unix_nano: now, deleting: false }
    }
}

impl Project {
    /// A project without environments of its own and without keys.
    ///
    /// # Errors
    /// If the name is none.
    pub fn new(name: &str, now: u64) -> Result<Self, RecordError> {
        let slug = Slug::of_name(name)?;
        Ok(Self {
            format: FORMAT,
            slug,
            name: name.trim().to_owned(),
            created_unix_nano: now,
            generation: first(),
            environments: Vec::new(),
            keys: Vec::new(),
            deleting: false,
            retention: Retention::default(),
        })
    }

    /// The tenant that an environment of the project is.
    pub fn tenant(&self, environment: &Slug) -> Tenant {
        Tenant { generation: self.generation, ..Tenant::new(self.slug.clone(), environment.clone()) }
    }

    /// The name of the folder that the project's data lie in.
    pub fn folder(&self) -> String {
        super::folder(&self.slug, self.generation)
    }

    /// All environments but those that are being deleted: built in, the organization's, its own. One that is both counts
    /// once.
    pub fn environments<'p>(&'p self, organization: &'p Organization) -> impl Iterator<Item = (&'p str, &'p str)> {
        let own =
            self.environments.iter().filter(|e| self.has_own(organization, &e.slug) && !organization.has(&e.slug));
        organization.environments().chain(own.map(|e| (e.slug.as_str(), e.name.as_str())))
    }

    /// Whether the project has this environment.
    pub fn has(&self, organization: &Organization, slug: &Slug) -> bool {
        organization.has(slug) || self.has_own(organization, slug)
    }

    /// Whether it is an environment of its own. One that the organization deletes goes from all projects, also from those
    /// that had it before.
    fn has_own(&self, organization: &Organization, slug: &Slug) -> bool {
        !organization.is_deleting(slug) && alive(&self.environments).any(|(own, _)| own == slug.as_str())
    }

    /// Whether an environment is on its way out.
    pub fn is_deleting(&self, organization: &Organization, slug: &Slug) -> bool {
        organization.is_deleting(slug) || self.environments.iter().any(|e| e.deleting && e.slug == *slug)
    }

    /// Changes what people read. The slug stays.
    ///
    /// # Errors
    /// If the name is empty or too long.
    pub fn rename(&mut self, name: &str) -> Result<(), RecordError> {
        self.check_alive()?;
        check_name(name.trim())?;
        self.name = name.trim().to_owned();
        Ok(())
    }

    /// Adds an environment to this project alone.
    ///
    /// # Errors
    /// If the name is none or its slug is taken.
    pub fn add_environment(&mut self, organization: &Organization, name: &str, now: u64) -> Result<Slug, RecordError> {
        self.check_alive()?;
        let slug = Slug::of_name(name)?;
        if self.is_deleting(organization, &slug) {
            return Err(RecordError::DeletingEnvironment(slug));
        }
        if self.has(organization, &slug) {
            return Err(RecordError::Exists { what: "environment", slug });
        }
        push(&mut self.environments, Environment::new(&slug, name, now), "environments")?;
        Ok(slug)
    }

    /// Begins to delete an environment of its own: from now on nothing leads to it. Its data goes before
    /// [`Self::remove_environment`].
    ///
    /// # Errors
    /// If it is not the project's own, or not there.
    pub fn begin_delete_environment(&mut self, organization: &Organization, slug: &Slug) -> Result<(), RecordError> {
        let at = self.find(organization, slug)?;
        self.environments[at].deleting = true;
        Ok(())
    }

    /// Takes an environment of its own and the keys that lead there.
    ///
    /// # Errors
    /// If it is not the project's own, or not there.
    pub fn remove_environment(&mut self, organization: &Organization, slug: &Slug) -> Result<(), RecordError> {
        self.find(organization, slug)?;
        self.forget_environment(slug);
        Ok(())
    }

    /// Takes what hangs on an environment: keys, retention, and the environment itself if it is the project's own. A new
    /// one of the name must not be opened by old keys.
    pub fn forget_environment(&mut self, slug: &Slug) {
        self.environments.retain(|e| e.slug != *slug);
        self.keys.retain(|key| key.environment != *slug);
        self.retention.set(Some(slug), None);
    }

    /// Whether anything hangs on an environment: see [`Self::forget_environment`].
    pub fn knows_environment(&self, slug: &Slug) -> bool {
        self.environments.iter().any(|e| e.slug == *slug)
            || self.keys.iter().any(|key| key.environment == *slug)
            || self.retention.environments.contains_key(slug)
    }

    /// Where an environment of its own stands.
    fn find(&self, organization: &Organization, slug: &Slug) -> Result<usize, RecordError> {
        self.check_alive()?;
        if let Some(at) = self.environments.iter().position(|e| e.slug == *slug) {
            return Ok(at);
        }
        if organization.has(slug) {
            return Err(RecordError::OrganizationLevel(slug.clone()));
        }
        Err(unknown_environment(slug, self.environments(organization).map(|(known, _)| known)))
    }

    /// Says how long spans are kept; `None` takes that back.
    ///
    /// # Errors
    /// If there is no such environment.
    pub fn set_retention(
        &mut self,
        organization: &Organization,
        environment: Option<&Slug>,
        keep: Option<Keep>,
    ) -> Result<(), RecordError> {
        self.check_alive()?;
        environment.map_or(Ok(()), |slug| self.check_environment(organization, slug))?;
        self.retention.set(environment, keep);
        Ok(())
    }

    /// Whether the project has this environment, and if not, what there is.
    ///
    /// # Errors
    /// If it has not, or it is being deleted.
    pub fn check_environment(&self, organization: &Organization, slug: &Slug) -> Result<(), RecordError> {
        if self.is_deleting(organization, slug) {
            return Err(RecordError::DeletingEnvironment(slug.clone()));
        }
        if !self.has(organization, slug) {
            return Err(unknown_environment(slug, self.environments(organization).map(|(known, _)| known)));
        }
        Ok(())
    }

    /// Adds a key that leads to an environment. `key` is to be shown once and forgotten.
    ///
    /// # Errors
    /// If the project has no such environment, or its name is none.
    pub fn add_key(
        &mut self,
        organization: &Organization,
        environment: &Slug,
        key: &ApiKey,
        description: NewKey<'_>,
    ) -> Result<&KeyRecord, RecordError> {
        self.check_alive()?;
        self.check_environment(organization, environment)?;
        if !description.name.trim().is_empty() {
            check_name(description.name.trim())?;
        }
        let record = KeyRecord {
            // Enough to tell the keys of a project apart, and nothing that a key is made of.
            id: format!("{:08x}", key.hash().bucket() as u32),
            environment: environment.clone(),
            name: description.name.trim().to_owned(),
            prefix: key.prefix().to_owned(),
            hash: key.hash(),
            created_unix_nano: description.now,
            expires_unix_nano: description.expires_unix_nano,
            revoked_unix_nano: None,
        };
        push(&mut self.keys, record, "keys")
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// If there is no key of this id.
    pub fn revoke_key(&mut self, id: &str, now: u64) -> Result<&KeyRecord, RecordError> {
        let known: Vec<String> =
            self.keys.iter().filter(|k| k.revoked_unix_nano.is_none()).map(|k| k.id.clone()).collect();
        match self.keys.iter_mut().find(|key| key.id == id) {
            Some(key) => {
                key.revoked_unix_nano.get_or_insert(now);
                Ok(key)
            }
            None => Err(RecordError::Unknown { what: "key", name: id.to_owned(), known }),
        }
    }

    fn check_alive(&self) -> Result<(), RecordError> {
        if self.deleting { Err(RecordError::Deleting(self.slug.clone())) } else { Ok(()) }
    }
}

/// What a new key is described by.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// What it is for; may be empty.
    pub name: &'a str,
    /// Nanoseconds since the epoch.
    pub now: u64,
    /// From when on it is refused, if ever.
    pub expires_unix_nano: Option<u64>,
}

impl KeyRecord {
    /// Whether the key opens anything at this time.
    pub fn is_valid_at(&self, now: u64) -> bool {
        self.revoked_unix_nano.is_none() && self.expires_unix_nano.is_none_or(|expires| now < expires)
    }
}

fn first() -> u64 {
    1
}

fn is_first(generation: &u64) -> bool {
    *generation == first()
}

fn unknown_environment<'a>(slug: &Slug, known: impl Iterator<Item = &'a str>) -> RecordError {
    let known = known.map(str::to_owned).collect();
    RecordError::Unknown { what: "environment", name: slug.to_string(), known }
}

fn push<'v, T>(entries: &'v mut Vec<T>, entry: T, what: &'static str) -> Result<&'v T, RecordError> {
    if entries.len() >= MAX_ENTRIES {
        return Err(RecordError::TooMany(what));
    }
    entries.push(entry);
    // It was pushed just now.
    entries.last().ok_or(RecordError::TooMany(what))
}
