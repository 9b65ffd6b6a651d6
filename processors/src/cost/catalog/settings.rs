//! The `catalog` section of the `cost` processor.
//!
//! ```yaml
//! processors:
//!   cost:
//!     catalog:
//!       path: /etc/weir/prices.json      # a catalog file instead of the one in the binary
//!       litellm: /etc/weir/litellm.json  # a price file of LiteLLM, laid over it
//!       overlay: /etc/weir/prices.yaml   # or the overlay itself: own prices, discounts, servers
//!       refresh_interval: 5m             # how often these files are looked at
//!       max_age: 720h                    # older prices are warned of; by default none are
//!       history: /var/lib/weir/prices.json   # keeps prices that a refresh replaced, across restarts
//! ```
//!
//! A file that cannot be used stops the start; at a refresh it is logged and counted, and the prices stay what they were.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node, Value};

use super::Overlay;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cost) struct RawCatalog {
    path: Option<PathBuf>,
    litellm: Option<PathBuf>,
    /// A file or the overlay itself, which is read from its node.
    #[serde(rename = "overlay")]
    #[schemars(with = "Option<serde_json::Value>")]
    _overlay: Option<IgnoredAny>,
    history: Option<PathBuf>,
    refresh_interval: GoDuration,
    max_age: Option<GoDuration>,
}

impl Default for RawCatalog {
    fn default() -> Self {
        Self {
            path: None,
            litellm: None,
            _overlay: None,
            history: None,
            refresh_interval: GoDuration(Duration::from_secs(300)),
            max_age: None,
        }
    }
}

/// Where the prices come from.
#[derive(Debug, Clone)]
pub struct CatalogSettings {
    /// A catalog file; `None` for the one in the binary.
    pub path: Option<PathBuf>,
    /// A price file of LiteLLM.
    pub litellm: Option<PathBuf>,
    /// What is laid over both.
    pub overlay: Option<OverlaySource>,
    /// Where replaced prices are kept.
    pub history: Option<PathBuf>,
    /// How often the files are looked at.
    pub refresh_interval: Duration,
    /// The age of prices that is warned of.
    pub max_age: Option<Duration>,
}

/// Where an overlay is.
#[derive(Debug, Clone)]
pub enum OverlaySource {
    /// In a file of its own, read at each refresh.
    File(PathBuf),
    /// In the configuration.
    Inline(Box<Overlay>),
}

impl Default for CatalogSettings {
    fn default() -> Self {
        let RawCatalog { path, litellm, history, refresh_interval, .. } = RawCatalog::default();
        Self { path, litellm, overlay: None, history, refresh_interval: refresh_interval.0, max_age: None }
    }
}

impl CatalogSettings {
    /// Reads the section, which may be absent.
    ///
    /// # Errors
    /// A key or value that cannot be used, with its place. Files are not looked at yet.
    pub fn from_node(node: Option<&Node>, path: &str) -> Result<Self, ConfigError> {
        let Some(node) = node else { return Ok(Self::default()) };
        let raw: RawCatalog = node.parse_as(path)?;
        let error = |key: &str, message: &str| node.get(key).unwrap_or(node).error(&format!("{path}::{key}"), message);
        if raw.refresh_interval.0 < Duration::from_secs(1) {
            return Err(error("refresh_interval", "must be at least 1s"));
        }
        if raw.max_age.is_some_and(|age| age.0.is_zero()) {
            return Err(error("max_age", "must be greater than zero; leave it out to accept any age"));
        }
        for (key, file) in [("path", &raw.path), ("litellm", &raw.litellm), ("history", &raw.history)] {
            if file.as_deref() == Some(Path::new("")) {
                return Err(error(key, "expected the name of a file"));
            }
        }
        let overlay = match node.get("overlay") {
            None => None,
            Some(node) if node.is_null() => None,
            Some(overlay) => Some(match (overlay.value(), overlay.text()) {
                (Value::Scalar(_), Some(file)) if !file.is_empty() => OverlaySource::File(file.into()),
                (Value::Map(_), _) => {
                    OverlaySource::Inline(Box::new(Overlay::from_node(overlay, &format!("{path}::overlay"))?))
                }
                _ => return Err(error("overlay", "expected the name of a file, or an overlay as a mapping")),
            }),
        };
        Ok(Self {
            path: raw.path,
            litellm: raw.litellm,
            overlay,
            history: raw.history,
            refresh_interval: raw.refresh_interval.0,
            max_age: raw.max_age.map(|age| age.0),
        })
    }
}
