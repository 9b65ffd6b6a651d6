//! The settings and prices of a `cost` processor, outside of any graph.

use std::sync::Arc;

use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::fetch::Fetch;

use super::Catalog;
use super::catalog::{CatalogSettings, Litellm, Loaded};
use super::node::Settings;

/// How a `cost` processor prices: what [`explain`](super::explain()) and [`Recost`](super::Recost) do alike.
#[derive(Debug, Clone)]
pub struct Pricing {
    pub(super) settings: Settings,
    catalog: Arc<Catalog>,
    litellm: Litellm,
}

impl Pricing {
    /// As the processor that is configured at `path` prices now. Files are read and URLs fetched once, with the history
    /// that was kept.
    ///
    /// # Errors
    /// A setting that is wrong, or a file of the catalog that cannot be used, with the place.
    pub fn from_node(
        node: &Node,
        path: &str,
        now_unix_seconds: i64,
        fetcher: Option<&dyn Fetch>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings::parse(node, path)?;
        let (catalog, at) = (node.get("catalog"), format!("{path}::catalog"));
        let Loaded { catalog, litellm, .. } = CatalogSettings::from_node(catalog, &at)?
            .load(now_unix_seconds, fetcher)
            .map_err(|problem| catalog.unwrap_or(node).error(&at, problem))?;
        Ok(Self { settings, catalog: Arc::new(catalog), litellm })
    }

    /// With this catalog and the default settings.
    pub fn with_catalog(catalog: Arc<Catalog>) -> Self {
        Self { settings: Settings::default(), catalog, litellm: Litellm::default() }
    }

    /// The prices.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// What became of the LiteLLM file; empty if there is none.
    pub fn litellm(&self) -> &Litellm {
        &self.litellm
    }
}
