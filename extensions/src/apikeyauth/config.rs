//! `apikeyauth`, as it is written and as it is meant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node, Secret};
use weir_pipeline::tenant::{ENVIRONMENT_ATTRIBUTE, KeyHash, PROJECT_ATTRIBUTE, Registry, Slug, StaticKey, Tenant};

use super::OpenRegistry;
use crate::places::error_at;

/// Who decides whose data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The client's key, which it must have.
    #[default]
    Required,
    /// The client's key, if it has one.
    Optional,
    /// The attributes of resources.
    TrustedAttributes,
}

/// The validated settings of the extension.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) mode: Mode,
    /// In lower case.
    pub(super) header: String,
    pub(super) scheme: String,
    pub(super) default: Arc<Tenant>,
    pub(super) keys: Vec<StaticKey>,
    pub(super) attributes: AttributeSettings,
    pub(super) poll_interval: Duration,
    registry: Option<RegistrySettings>,
}

/// How resources are read.
#[derive(Debug, Clone)]
pub(super) struct AttributeSettings {
    pub(super) project: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) create: bool,
    pub(super) max_projects: usize,
    pub(super) max_environments: usize,
}

#[derive(Debug, Clone)]
struct RegistrySettings {
    url: String,
    storage: BTreeMap<String, String>,
}

#[derive(Deserialize, schemars::JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct ApiKeyAuthConfig {
    mode: Mode,
    header: Option<String>,
    scheme: Option<String>,
    default: TenantConfig,
    #[schemars(with = "Vec<KeyConfig>")]
    keys: Vec<Node>,
    registry: Option<RegistryConfig>,
    trusted_attributes: AttributesConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TenantConfig {
    project: String,
    environment: String,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self { project: "default".to_owned(), environment: "dev".to_owned() }
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    key: Secret,
    project: String,
    environment: String,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RegistryConfig {
    url: String,
    #[serde(default)]
    storage: BTreeMap<String, Secret>,
    #[serde(default = "one_second")]
    poll_interval: GoDuration,
}

fn one_second() -> GoDuration {
    GoDuration(Duration::from_secs(1))
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AttributesConfig {
    project: Vec<String>,
    environment: Vec<String>,
    create: bool,
    max_projects: usize,
    max_environments: usize,
}

impl Default for AttributesConfig {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            project: names(&[PROJECT_ATTRIBUTE, "service.namespace"]),
            environment: names(&[ENVIRONMENT_ATTRIBUTE, "deployment.environment.name", "deployment.environment"]),
            create: true,
            max_projects: 1000,
            max_environments: 50,
        }
    }
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<ApiKeyAuthConfig>()
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: ApiKeyAuthConfig = node.parse_as(path)?;
        let error = |keys: &[&str], message: &str| error_at(node, path, keys, message);
        let header = config.header.as_deref().unwrap_or("Authorization");
        let header = HeaderName::try_from(header).map_err(|_| error(&["header"], "is not the name of a header"))?;
        let header = header.as_str().to_owned();
        let scheme = config.scheme.unwrap_or_else(|| match header.as_str() {
            "authorization" => "Bearer".to_owned(),
            _ => String::new(),
        });
        if !scheme.chars().all(|c| c.is_ascii_graphic()) {
            return Err(error(&["scheme"], "must be one word"));
        }
        let slug =
            |keys: &[&str], text: &str| text.parse::<Slug>().map_err(|e| error_at(node, path, keys, e.to_string()));
        let default = Tenant::new(
            slug(&["default", "project"], &config.default.project)?,
            slug(&["default", "environment"], &config.default.environment)?,
        );
        let mut keys: Vec<StaticKey> = Vec::with_capacity(config.keys.len());
        for (n, node) in config.keys.iter().enumerate() {
            let path = format!("{path}::keys[{n}]");
            let key = static_key(node, &path)?;
            if keys.iter().any(|known| known.hash == key.hash && known.tenant != key.tenant) {
                return Err(node.error(&path, "this key is given twice, for different tenants"));
            }
            keys.push(key);
        }
        let can_have_keys = config.registry.is_some() || !keys.is_empty();
        match config.mode {
            Mode::Required | Mode::Optional if !can_have_keys => {
                let hint = "give a `registry`, `keys`, or both";
                return Err(node.error(path, "there are no keys that a client could show").with_hint(hint));
            }
            Mode::TrustedAttributes if !keys.is_empty() => {
                let hint = "take `keys` out, or choose another mode";
                return Err(error(&["keys"], "keys are not looked at where attributes are trusted").with_hint(hint));
            }
            _ => {}
        }
        let AttributesConfig { project, environment, create, max_projects, max_environments } =
            config.trusted_attributes;
        let poll_interval = config.registry.as_ref().map_or(one_second(), |registry| registry.poll_interval).0;
        if poll_interval < Duration::from_millis(10) {
            return Err(error(&["registry", "poll_interval"], "must be at least 10ms"));
        }
        let registry = config.registry.map(|RegistryConfig { url, storage, .. }| RegistrySettings {
            url,
            storage: storage.into_iter().map(|(key, value)| (key, value.expose().clone())).collect(),
        });
        Ok(Self {
            mode: config.mode,
            header,
            scheme,
            default: Arc::new(default),
            keys,
            attributes: AttributeSettings { project, environment, create, max_projects, max_environments },
            poll_interval,
            registry,
        })
    }

    /// Opens the registry that the settings name, if they do. Nothing is read yet.
    pub(super) fn registry(
        &self,
        node: &Node,
        path: &str,
        open: Option<OpenRegistry>,
        environment: &Environment,
    ) -> Result<Option<Arc<dyn Registry>>, ConfigError> {
        let Some(RegistrySettings { url, storage }) = &self.registry else { return Ok(None) };
        let Some(open) = open else {
            let error = error_at(node, path, &["registry"], "this build of Weir has no store to keep a registry in");
            return Err(error.with_hint("write the keys under `keys`, or use a build with the feature `lake`"));
        };
        let opened = open(url, storage, environment, self.keys.clone());
        opened.map(Some).map_err(|message| error_at(node, path, &["registry", "url"], message))
    }
}

fn static_key(node: &Node, path: &str) -> Result<StaticKey, ConfigError> {
    let KeyConfig { key, project, environment } = node.parse_as(path)?;
    let error = |key: &str, message: &str| error_at(node, path, &[key], message);
    // An empty key would let in everybody who sends the scheme alone.
    if key.expose().trim().is_empty() {
        return Err(error("key", "a key must not be empty: is the variable it comes from set?"));
    }
    let slug = |key: &str, text: &str| text.parse::<Slug>().map_err(|e| error(key, &e.to_string()));
    let tenant = Tenant::new(slug("project", &project)?, slug("environment", &environment)?);
    Ok(StaticKey { hash: KeyHash::of(key.expose().trim()), tenant })
}
