//! `admin_api`, as it is written and as it is meant.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_extensions::http::Endpoint;
use weir_extensions::places::error_at;
use weir_pipeline::config::{ConfigError, Node, Secret};
use weir_pipeline::tenant::KeyHash;
use weir_store::objects::Root;

/// Shortest admin key, in bytes.
const MIN_KEY: usize = 16;

/// The validated settings of the extension.
#[derive(Debug)]
pub struct Settings {
    pub(super) endpoint: Endpoint,
    /// What is kept of the admin key.
    pub(super) admin_key: KeyHash,
    pub(super) root: Root,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AdminApiConfig {
    endpoint: String,
    admin_key: Option<Secret>,
    store: StoreConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct StoreConfig {
    url: String,
    storage: BTreeMap<String, Secret>,
}

impl Default for AdminApiConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:8889".to_owned(), admin_key: None, store: StoreConfig::default() }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: "./weir-data".to_owned(), storage: BTreeMap::new() }
    }
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<AdminApiConfig>()
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: AdminApiConfig = node.parse_as(path)?;
        let endpoint = config.endpoint.parse();
        let endpoint =
            endpoint.map_err(|why| error_at(node, path, &["endpoint"], format!("{:?} {why}", config.endpoint)))?;
        let make_one = "make one with `openssl rand -hex 32` and give it as `${env:WEIR_ADMIN_KEY}`";
        let admin_key = match &config.admin_key {
            None => return Err(node.error(path, "there is no `admin_key`").with_hint(make_one)),
            Some(key) if key.expose().len() < MIN_KEY => {
                let message = format!("must have at least {MIN_KEY} characters: is the variable it comes from set?");
                return Err(error_at(node, path, &["admin_key"], message).with_hint(make_one));
            }
            Some(key) if !key.expose().bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(error_at(node, path, &["admin_key"], "has characters that a header cannot carry"));
            }
            Some(key) => KeyHash::of(key.expose()),
        };
        let storage = config.store.storage.iter().map(|(key, value)| (key.clone(), value.expose().clone())).collect();
        let root = Root::open(&config.store.url, &storage)
            .map_err(|error| error_at(node, path, &["store", "url"], error.to_string()))?;
        Ok(Self { endpoint, admin_key, root })
    }
}
