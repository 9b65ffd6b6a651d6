//! `weir price`: what the catalog says and how a cost comes about.

mod list;
mod show;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use weir_exporters::otlp::HttpFetch;
use weir_processors::cost::Catalog;
use weir_processors::cost::catalog::{
    CatalogSettings, Loaded, ModelId, OverlaySource, Place, PriceView, RateView, instant,
};

use self::list::ListArguments;
use self::show::ShowArguments;
use super::price_explain::{self, ExplainArguments};

#[derive(Subcommand)]
pub(crate) enum PriceCommand {
    /// List the models and what they cost
    List(ListArguments),
    /// Show all that is known about the price of one model, and how its name is recognised
    Show(ShowArguments),
    /// Show how the cost of a span comes about: attributes, counts, model, price, multiplication
    Explain(Box<ExplainArguments>),
}

pub(super) fn price(command: &PriceCommand) -> anyhow::Result<ExitCode> {
    let out = match command {
        PriceCommand::List(arguments) => arguments.run()?,
        PriceCommand::Show(arguments) => arguments.run()?,
        PriceCommand::Explain(arguments) => return price_explain::explain(arguments),
    };
    match std::io::stdout().lock().write_all(out.as_bytes()) {
        // Whoever reads has seen enough: `weir price list | head`.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS).context("cannot write the answer"),
    }
}

#[derive(Args)]
pub(crate) struct SourceArguments {
    /// A catalog file, or its URL, instead of the one in the binary
    #[arg(long, value_name = "FILE")]
    catalog: Option<String>,
    /// A price file of LiteLLM, or its URL, laid over the catalog
    #[arg(long, value_name = "FILE")]
    litellm: Option<String>,
    /// An overlay in YAML, laid over both
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
}

impl SourceArguments {
    /// The catalog that was asked for.
    ///
    /// # Errors
    /// What is wrong with which file.
    fn load(&self) -> anyhow::Result<Catalog> {
        let settings = CatalogSettings {
            path: self.catalog.clone().map(Place::from),
            litellm: self.litellm.clone().map(Place::from),
            overlay: self.overlay.clone().map(OverlaySource::File),
            ..CatalogSettings::default()
        };
        let Loaded { catalog, litellm, .. } =
            settings.load(now(), Some(&HttpFetch::new())).map_err(anyhow::Error::msg)?;
        if let Some(first) = litellm.problems.first() {
            let count = litellm.problems.len();
            crate::logging::complain(&format!("{count} entries of the LiteLLM file are not used: {first} …"));
        }
        Ok(catalog)
    }
}

/// A UTC date or instant of the command line.
pub(super) fn time(text: &str) -> Result<i64, String> {
    instant(text)
        .ok_or_else(|| "expected a UTC date such as 2025-06-10 or an instant such as 2025-06-10T12:00:00Z".into())
}

pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn nanos(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)
}

/// Provider and id of a model.
fn names(catalog: &Catalog, model: ModelId) -> (&str, &str) {
    (catalog.provider_of(model).map_or("", |p| catalog.provider_name(p)), catalog.model_name(model))
}

fn json_price(price: &PriceView<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".into(), price.id.into());
    let texts = [
        ("valid_from", price.valid_from.as_deref()),
        ("valid_until", price.valid_until.as_deref()),
        ("project", price.project),
        ("source", Some(price.source)),
    ];
    object.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::from(text?)))));
    if let Some([from, to]) = &price.daily {
        object.insert("daily".into(), json!([from, to]));
    }
    object.insert("rates".into(), json_rates(&price.rates));
    let services: Map<String, Value> =
        price.service_tiers.iter().map(|(name, _, rates)| ((*name).to_owned(), json_rates(rates))).collect();
    if !services.is_empty() {
        object.insert("service_tiers".into(), services.into());
    }
    object
}

/// Decimals as strings, as in the catalog's file: a JSON number is a float to most readers.
fn json_rates(rates: &[RateView]) -> Value {
    let rate = |rate: &RateView| {
        let price = rate.price.to_string();
        let Some(first) = rate.tiers.first() else { return Value::from(price) };
        let tiers: Vec<_> =
            rate.tiers.iter().map(|tier| json!({"start": tier.start, "price": tier.price.to_string()})).collect();
        let mode = if first.marginal { "marginal" } else { "cliff" };
        json!({"base": price, "tiers": tiers, "operator": first.operator, "mode": mode})
    };
    Value::Object(rates.iter().map(|r| (r.name.to_owned(), rate(r))).collect())
}

#[cfg(test)]
mod tests;
