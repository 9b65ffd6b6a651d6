//! The `catalog` section of the `cost` processor.
//!
//! ```yaml
//! processors:
//!   cost:
//!     catalog:
//!       path: /etc/weir/prices.json      # a catalog file, or its URL, instead of the one in the binary
//!       litellm: https://…/prices.json   # a price file of LiteLLM, or its URL, laid over it
//!       overlay: /etc/weir/prices.yaml   # or the overlay itself: own prices, discounts, servers
//!       refresh_interval: 5m             # how often these files and URLs are looked at
//!       cache_dir: /var/lib/weir         # keeps the last good copies of what is fetched, across restarts
//!       max_age: 720h                    # older prices are warned of; by default none are
//!       history: /var/lib/weir/prices.json   # keeps prices that a refresh replaced, across restarts
//! ```
//!
//! A file that cannot be used stops the start; at a refresh it is logged and counted, and the prices stay what they were.
//! A URL never stops the start: it is fetched beside the work, at most 64 MiB within 30 s, and again only if the server's
//! `ETag` has changed. Until the first answer the prices are those of the kept copy, else those in the binary.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node, Value};
use weir_pipeline::fetch::is_url;

use super::Overlay;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cost) struct RawCatalog {
    path: Option<String>,
    litellm: Option<String>,
    /// A file or the overlay itself, which is read from its node.
    #[serde(rename = "overlay")]
    #[schemars(with = "Option<serde_json::Value>")]
    _overlay: Option<IgnoredAny>,
    history: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
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
            cache_dir: None,
            refresh_interval: GoDuration(Duration::from_secs(300)),
            max_age: None,
        }
    }
}

/// Where the prices come from.
#[derive(Debug, Clone)]
pub struct CatalogSettings {
    /// A catalog file; `None` for the one in the binary.
    pub path: Option<Place>,
    /// A price file of LiteLLM.
    pub litellm: Option<Place>,
    /// What is laid over both.
    pub overlay: Option<OverlaySource>,
    /// Where replaced prices are kept.
    pub history: Option<PathBuf>,
    /// Where copies of what is fetched are kept.
    pub cache_dir: Option<PathBuf>,
    /// How often the files are looked at.
    pub refresh_interval: Duration,
    /// The age of prices that is warned of.
    pub max_age: Option<Duration>,
}

/// Where a price list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, read at each refresh.
    File(PathBuf),
    /// At an `http` or `https` URL, fetched at each refresh.
    Url(String),
}

impl From<PathBuf> for Place {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        if is_url(&text) { Self::Url(text) } else { Self::File(text.into()) }
    }
}

/// As it is named to people: what may be secret in a URL is left out.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Url(url) => f.write_str(url.split(['?', '#']).next().unwrap_or_default()),
        }
    }
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
        let refresh_interval = RawCatalog::default().refresh_interval.0;
        Self {
            path: None,
            litellm: None,
            overlay: None,
            history: None,
            cache_dir: None,
            refresh_interval,
            max_age: None,
        }
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
        for (key, place) in [("path", &raw.path), ("litellm", &raw.litellm)] {
            if place.as_deref() == Some("") {
                return Err(error(key, "expected the name of a file, or a URL"));
            }
        }
        for (key, file) in [("history", &raw.history), ("cache_dir", &raw.cache_dir)] {
            if file.as_deref() == Some(Path::new("")) {
                return Err(error(key, "expected the name of a file"));
            }
        }
        let overlay = match node.get("overlay") {
            None => None,
            Some(node) if node.is_null() => None,
            Some(overlay) => Some(match (overlay.value(), overlay.text()) {
                (Value::Scalar(_), Some(url)) if is_url(url) => {
                    let message = "an overlay is not fetched: name a file, or write the overlay here";
                    return Err(error("overlay", message));
                }
                (Value::Scalar(_), Some(file)) if !file.is_empty() => OverlaySource::File(file.into()),
                (Value::Map(_), _) => {
                    OverlaySource::Inline(Box::new(Overlay::from_node(overlay, &format!("{path}::overlay"))?))
                }
                _ => return Err(error("overlay", "expected the name of a file, or an overlay as a mapping")),
            }),
        };
        Ok(Self {
            path: raw.path.map(Place::from),
            litellm: raw.litellm.map(Place::from),
            overlay,
            history: raw.history,
            cache_dir: raw.cache_dir,
            refresh_interval: raw.refresh_interval.0,
            max_age: raw.max_age.map(|age| age.0),
        })
    }
}
