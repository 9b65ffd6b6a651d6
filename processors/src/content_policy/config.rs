//! Settings of the `content_policy` processor.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Secret};
use weir_pipeline::tenant::{Slug, Tenant};

use super::hash::Hasher;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    content: Option<Action>,
    #[serde(default)]
    #[schemars(with = "Vec<RawRule>")]
    tenants: Vec<Node>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    attributes: Vec<Node>,
    hash_key: Option<Secret>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[schemars(with = "Option<String>")]
    project: Option<Slug>,
    #[schemars(with = "Option<String>")]
    environment: Option<Slug>,
    content: Action,
}

/// What becomes of content.
#[derive(Deserialize, JsonSchema, Default, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It stays.
    #[default]
    Keep,
    /// Its attributes are removed.
    Drop,
    /// Its values are replaced by their hashes.
    Hash,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

/// What becomes of the content of some tenants.
struct Rule {
    /// `None`: any.
    project: Option<Slug>,
    /// `None`: any.
    environment: Option<Slug>,
    action: Action,
}

impl Rule {
    fn fits(&self, tenant: &Tenant) -> bool {
        self.project.as_ref().is_none_or(|project| *project == tenant.project)
            && self.environment.as_ref().is_none_or(|environment| *environment == tenant.environment)
    }

    /// Whether it fits all that another one fits.
    fn covers(&self, other: &Self) -> bool {
        (self.project.is_none() || self.project == other.project)
            && (self.environment.is_none() || self.environment == other.environment)
    }
}

/// Keys that the configuration names.
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    fn fits(&self, key: &[u8]) -> bool {
        match self {
            Self::Exact(name) => name.as_bytes() == key,
            Self::Prefix(start) => key.starts_with(start.as_bytes()),
        }
    }
}

pub(super) struct Settings {
    /// Of spans that no rule fits.
    content: Action,
    /// In the order they are asked.
    rules: Vec<Rule>,
    patterns: Vec<Pattern>,
    pub(super) hasher: Hasher,
}

/// A key of fewer bytes is found by trying.
const MIN_KEY: usize = 16;

impl Settings {
    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        if raw.content.is_none() && raw.tenants.is_empty() {
            let error = node.error(path, "nothing to do: neither `content` nor `tenants` says what becomes of content");
            return Err(error.with_hint("for instance `content: drop`"));
        }
        let content = raw.content.unwrap_or_default();
        let mut rules: Vec<Rule> = Vec::with_capacity(raw.tenants.len());
        for (n, node) in raw.tenants.iter().enumerate() {
            let path = format!("{path}::tenants[{n}]");
            let RawRule { project, environment, content: action } = node.parse_as(&path)?;
            if project.is_none() && environment.is_none() {
                let error = node.error(&path, "neither a `project` nor an `environment`");
                return Err(error.with_hint("what is not named here is said by `content`, beside `tenants`"));
            }
            let rule = Rule { project, environment, action };
            if let Some(earlier) = rules.iter().position(|earlier| earlier.covers(&rule)) {
                let message = format!("never used: tenants[{earlier}] fits all that this fits, and the first one wins");
                return Err(node.error(&path, message).with_hint("put the narrower one first"));
            }
            rules.push(rule);
        }
        let is_hashing = content == Action::Hash || rules.iter().any(|rule| rule.action == Action::Hash);
        let at_key = || node.get("hash_key").unwrap_or(node);
        let key_path = format!("{path}::hash_key");
        if let Some(key) = &raw.hash_key {
            if !is_hashing {
                let error = at_key().error(&key_path, "a key, and nothing is hashed");
                return Err(error.with_hint("say `content: hash`, here or of a tenant, or remove the key"));
            }
            if key.expose().len() < MIN_KEY {
                let error = at_key().error(&key_path, format!("too short: fewer than {MIN_KEY} bytes can be guessed"));
                return Err(error.with_hint("for instance the output of `openssl rand -hex 32`"));
            }
        }
        let pattern = |(n, node): (usize, &Node)| parse_pattern(node, &format!("{path}::attributes[{n}]"));
        Ok(Self {
            content,
            rules,
            patterns: raw.attributes.iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
            hasher: Hasher::new(raw.hash_key.as_ref().map(|key| key.expose().as_bytes())),
        })
    }

    /// What becomes of the content of a tenant's span; `None`: of nobody's known.
    pub(super) fn action_for(&self, tenant: Option<&Tenant>) -> Action {
        let rule = tenant.and_then(|tenant| self.rules.iter().find(|rule| rule.fits(tenant)));
        rule.map_or(self.content, |rule| rule.action)
    }

    /// Whether the configuration names any keys.
    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether the configuration names this key.
    pub(super) fn is_named(&self, key: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.fits(key))
    }
}

fn parse_pattern(node: &Node, path: &str) -> Result<Pattern, ConfigError> {
    let text: String = node.parse_as(path)?;
    let (name, is_prefix) = text.strip_suffix('*').map_or((text.as_str(), false), |start| (start, true));
    if name.is_empty() {
        let message = if is_prefix { "`*` alone is every attribute" } else { "an empty key" };
        return Err(node.error(path, message).with_hint("name a key, or how keys begin: `my.prompt.*`"));
    }
    if name.contains('*') {
        let error = node.error(path, format!("`*` can only be the last character of {text:?}"));
        return Err(error.with_hint("name how keys begin: `my.prompt.*`"));
    }
    Ok(if is_prefix { Pattern::Prefix(name.to_owned()) } else { Pattern::Exact(name.to_owned()) })
}
