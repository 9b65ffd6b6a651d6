//! Whose prices a command works with.

use anyhow::{Context as _, bail};
use clap::Args;
use weir_exporters::otlp::HttpFetch;
use weir_pipeline::config::{ComponentId, ConfigErrors};
use weir_pipeline::file::Reading;
use weir_processors::cost::{Catalog, Pricing};

use super::{ConfigArguments, refuse};

#[derive(Args)]
pub(crate) struct PricingArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The processor of the configuration whose prices and settings count, if it has several: cost/internal
    #[arg(long, value_name = "ID")]
    processor: Option<String>,
}

impl PricingArguments {
    /// Prices and settings of the `cost` processor of the configuration; without one those that are in the binary.
    ///
    /// # Errors
    /// If the configuration or a file of prices cannot be used, or it does not say which processor is meant.
    pub(super) fn load(&self, now_unix_seconds: i64) -> anyhow::Result<Pricing> {
        if self.config.is_empty() && self.processor.is_none() {
            return Ok(Pricing::with_catalog(Catalog::embedded()?));
        }
        let configuration = self.config.load(Reading::First)?;
        let document = &configuration.document;
        let processors: Vec<_> = document.processors.iter().filter(|(id, _)| id.kind == "cost").collect();
        let ids = || processors.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ");
        let (id, node) = match (&self.processor, processors.as_slice()) {
            (Some(wanted), _) => {
                let wanted: ComponentId = wanted.parse().context("--processor")?;
                let Some(found) = processors.iter().find(|(id, _)| *id == wanted) else {
                    bail!("{} has no cost processor {wanted}; it has: {}", configuration.name, ids());
                };
                *found
            }
            (None, [only]) => *only,
            (None, []) => bail!("{} has no cost processor", configuration.name),
            (None, _) => {
                bail!("{} has several cost processors, name one with --processor: {}", configuration.name, ids())
            }
        };
        let pricing = Pricing::from_node(node, &format!("processors::{id}"), now_unix_seconds, Some(&HttpFetch::new()))
            .map_err(|error| refuse(&configuration.name, &ConfigErrors::from(error), &document.warnings))?;
        if let Some(first) = pricing.litellm().problems.first() {
            let count = pricing.litellm().problems.len();
            crate::logging::complain(&format!("{count} entries of the LiteLLM file are not used: {first} …"));
        }
        Ok(pricing)
    }
}
