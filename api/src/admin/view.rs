//! What is told of projects, environments and keys: by the API, and by `weir … --format json` in the same words.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weir_pipeline::tenant::record::BUILT_IN;
use weir_pipeline::tenant::{Environment, KeyRecord, Organization, Project, Retention, Slug};
use weir_store::maintain::{Amount, Removed, Stored};
use weir_store::registry::RegistryError;

/// A time to the second, as `2026-11-21T08:00:00Z`.
pub fn time(unix_nano: u64) -> String {
    let seconds = i64::try_from(unix_nano / 1_000_000_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectView {
    /// What data and keys hang on; never changes.
    #[schemars(example = &"web-app")]
    pub slug: String,
    /// What people read.
    #[schemars(example = &"Web App")]
    pub name: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub created: String,
    /// Its environments, those of the organization included.
    pub environments: Vec<EnvironmentView>,
    /// Keys that are not revoked.
    pub keys: usize,
    /// Whether it is being deleted: its keys are refused, and its data is on its way out.
    pub deleting: bool,
}

/// All projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectList {
    /// By slug.
    pub projects: Vec<ProjectView>,
    /// What is wrong with the registry's objects that cannot be read. Their projects are shut until they are mended.
    pub unreadable: Vec<String>,
}

/// A deployment stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EnvironmentView {
    /// What data and keys hang on; never changes.
    #[schemars(example = &"prd")]
    pub slug: String,
    /// What people read.
    #[schemars(example = &"Production")]
    pub name: String,
    /// Who has it.
    pub level: Level,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// How long its spans are kept: days such as `30d`, or `forever`.
    #[schemars(example = &"30d")]
    pub keep: String,
}

/// Who has an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every project, for ever.
    BuiltIn,
    /// Every project.
    Organization,
    /// One project.
    Project,
}

impl Level {
    /// The same word as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Organization => "organization",
            Self::Project => "project",
        }
    }
}

/// Environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EnvironmentList {
    /// The built-in ones first.
    pub environments: Vec<EnvironmentView>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyView {
    /// What it is revoked by.
    #[schemars(example = &"1f3a9c02")]
    pub id: String,
    /// The beginning of the key, by which people recognise it.
    #[schemars(example = &"weir_q3Vt8Jx")]
    pub prefix: String,
    /// The environment that its spans belong to.
    #[schemars(example = &"prd")]
    pub environment: String,
    /// What it is for, if somebody said so.
    pub name: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub created: String,
    /// From when on it is refused; `null` for never.
    #[schemars(extend("format" = "date-time"))]
    pub expires: Option<String>,
    /// When it was revoked.
    #[schemars(extend("format" = "date-time"))]
    pub revoked: Option<String>,
    /// When it was last used, as far as collectors have written down, which they do about every minute.
    #[schemars(extend("format" = "date-time"))]
    pub last_used: Option<String>,
    /// Whether it opens anything now.
    pub state: KeyState,
}

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

impl KeyState {
    /// The same word as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// When keys were last used, by project and id.
pub type KeyUses = BTreeMap<(Slug, Box<str>), u64>;

/// The keys of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyList {
    /// Revoked ones included.
    pub keys: Vec<KeyView>,
}

/// A key that was made just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NewKeyView {
    /// The key itself. It is told this once.
    #[schemars(example = &"weir_q3Vt8JxZ…")]
    pub key: String,
    /// What is known of it.
    #[serde(flatten)]
    pub record: KeyView,
}

/// How long spans are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RetentionView {
    /// By environment.
    pub retention: Vec<RetainedView>,
}

/// How long the spans of an environment are kept, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RetainedView {
    /// The environment.
    pub environment: String,
    /// Days such as `30d`, or `forever`.
    #[schemars(example = &"30d")]
    pub keep: String,
    /// Whose word it is.
    pub said_of: SaidOf,
}

/// What a word about retention was said of; the first of these that was counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaidOf {
    /// This environment of this project.
    ProjectEnvironment,
    /// This project.
    Project,
    /// This environment of all projects.
    Environment,
    /// All projects.
    All,
    /// Nothing was said.
    Nothing,
}

impl SaidOf {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::ProjectEnvironment => "this environment of this project",
            Self::Project => "this project",
            Self::Environment => "this environment of all projects",
            Self::All => "all projects",
            Self::Nothing => "nothing",
        }
    }
}

/// How much is stored of an environment of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AmountView {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// Spans.
    pub spans: u64,
    /// Parquet files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StoredView {
    /// By environment.
    pub stored: Vec<AmountView>,
}

/// What a deletion has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeletedView {
    /// The slug of what was deleted.
    pub deleted: String,
    /// Spans that were taken out of the tables, by project and environment.
    pub removed: Vec<AmountView>,
    /// Objects that were deleted from the store.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl ProjectView {
    /// Of a project.
    pub fn of(project: &Project, organization: &Organization) -> Self {
        Self {
            slug: project.slug.to_string(),
            name: project.name.clone(),
            created: time(project.created_unix_nano),
            environments: EnvironmentList::of(organization, Some(project)).environments,
            keys: project.keys.iter().filter(|key| key.revoked_unix_nano.is_none()).count(),
            deleting: project.deleting,
        }
    }
}

impl ProjectList {
    /// Of what the registry has.
    pub fn of(projects: &[Project], unreadable: &[RegistryError], organization: &Organization) -> Self {
        Self {
            projects: projects.iter().map(|project| ProjectView::of(project, organization)).collect(),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
        }
    }
}

impl EnvironmentList {
    /// Those of a project, or without one those of the organization, with those that are being deleted.
    pub fn of(organization: &Organization, project: Option<&Project>) -> Self {
        let built_in = BUILT_IN.iter().map(|(slug, name)| (*slug, *name, Level::BuiltIn, false));
        fn of(e: &Environment, level: Level) -> (&str, &str, Level, bool) {
            (e.slug.as_str(), e.name.as_str(), level, e.deleting)
        }
        let shared = organization.environments.iter();
        let own = project.into_iter().flat_map(|project| &project.environments);
        let own = own.filter(|e| !organization.environments.iter().any(|shared| shared.slug == e.slug));
        let all = built_in.chain(shared.map(|e| of(e, Level::Organization))).chain(own.map(|e| of(e, Level::Project)));
        let retention = project.map(|project| &project.retention);
        let environments = all.map(|(slug, name, level, deleting)| EnvironmentView {
            slug: slug.to_owned(),
            name: name.to_owned(),
            level,
            deleting,
            keep: Retention::resolve(retention, &organization.retention, slug).to_string(),
        });
        Self { environments: environments.collect() }
    }
}

impl KeyView {
    /// Of a key, last used then, at this time.
    pub fn of(key: &KeyRecord, used_unix_nano: Option<u64>, now_unix_nano: u64) -> Self {
        Self {
            id: key.id.clone(),
            prefix: key.prefix.clone(),
            environment: key.environment.to_string(),
            name: key.name.clone(),
            created: time(key.created_unix_nano),
            expires: key.expires_unix_nano.map(time),
            revoked: key.revoked_unix_nano.map(time),
            last_used: used_unix_nano.map(time),
            state: match key {
                key if key.revoked_unix_nano.is_some() => KeyState::Revoked,
                key if !key.is_valid_at(now_unix_nano) => KeyState::Expired,
                _ => KeyState::Valid,
            },
        }
    }
}

impl KeyList {
    /// Of a project, or of one environment of it; `uses` says when keys were last used.
    pub fn of(project: &Project, environment: Option<&Slug>, uses: &KeyUses, now_unix_nano: u64) -> Self {
        let chosen =
            project.keys.iter().filter(|key| environment.is_none_or(|environment| key.environment == *environment));
        let view = |key: &KeyRecord| {
            let used = uses.get(&(project.slug.clone(), key.id.as_str().into())).copied();
            KeyView::of(key, used, now_unix_nano)
        };
        Self { keys: chosen.map(view).collect() }
    }
}

impl RetentionView {
    /// Of a project, or without one what is said for all.
    pub fn of(organization: &Organization, project: Option<&Project>) -> Self {
        let said = project.map(|project| &project.retention);
        let environments: Vec<&str> = match project {
            Some(project) => project.environments(organization).map(|(slug, _)| slug).collect(),
            None => organization.environments().map(|(slug, _)| slug).collect(),
        };
        // Whether anything is said for an environment, and if so, of it alone.
        let alone = |retention: &Retention, environment: &str| {
            let named = retention.environments.keys().any(|slug| slug.as_str() == environment);
            retention.of(environment).map(|_| named)
        };
        let retention = environments.into_iter().map(|environment| RetainedView {
            environment: environment.to_owned(),
            keep: Retention::resolve(said, &organization.retention, environment).to_string(),
            said_of: match (said.and_then(|said| alone(said, environment)), alone(&organization.retention, environment))
            {
                (Some(true), _) => SaidOf::ProjectEnvironment,
                (Some(false), _) => SaidOf::Project,
                (None, Some(true)) => SaidOf::Environment,
                (None, Some(false)) => SaidOf::All,
                (None, None) => SaidOf::Nothing,
            },
        });
        Self { retention: retention.collect() }
    }
}

impl AmountView {
    /// Of an environment.
    pub fn of(project: &str, environment: &str, amount: Amount) -> Self {
        Self {
            project: project.to_owned(),
            environment: environment.to_owned(),
            spans: amount.rows,
            files: amount.files,
            bytes: amount.bytes,
        }
    }

    /// Of all environments of a project.
    pub fn all(project: &str, stored: &Stored) -> Vec<Self> {
        stored.0.iter().map(|(environment, amount)| Self::of(project, environment, *amount)).collect()
    }
}

impl DeletedView {
    /// Of a deletion in these projects.
    pub fn of(deleted: &Slug, removed: &BTreeMap<String, Removed>) -> Self {
        let amounts = removed.iter().flat_map(|(project, removed)| AmountView::all(project, &removed.environments));
        Self {
            deleted: deleted.to_string(),
            removed: amounts.collect(),
            objects: removed.values().map(|removed| removed.freed.objects).sum(),
            bytes: removed.values().map(|removed| removed.freed.bytes).sum(),
        }
    }
}
