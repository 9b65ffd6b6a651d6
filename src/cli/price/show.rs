//! `weir price show`: all about the price of one model.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weir_processors::cost::catalog::{Call, PriceView, RateView};
use weir_processors::cost::{Matcher, Reading, UsageReader};

use super::{SourceArguments, json_price, names, nanos, now, time};

#[derive(Args)]
pub(crate) struct ShowArguments {
    /// The model as a span names it: gpt-4o-2024-08-06, eu.anthropic.claude-sonnet-4-5-20250929-v1:0, groq/llama-3
    model: String,
    /// The provider as a span names it; without one it is inferred from the model
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Host or base URL of the call, which tells OpenAI-compatible servers apart
    #[arg(long, value_name = "URL", default_value = "")]
    address: String,
    /// The price at this time; by default now
    #[arg(long, value_name = "DATE", value_parser = time)]
    at: Option<i64>,
    /// The project whose price it is, where an overlay has prices by project
    #[arg(long, value_name = "NAME", default_value = "")]
    project: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = ShowFormat::Text)]
    format: ShowFormat,
    #[command(flatten)]
    source: SourceArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShowFormat {
    Text,
    Json,
}

impl ShowArguments {
    /// The answer as a text.
    ///
    /// # Errors
    /// If a file cannot be used, or there is no such model or price.
    pub(super) fn run(&self) -> anyhow::Result<String> {
        let catalog = Arc::new(self.source.load()?);
        let provider = self.provider.clone().unwrap_or_default();
        let reading = Reading {
            provider: provider.as_str().into(),
            request_model: self.model.as_str().into(),
            address: self.address.as_str().into(),
            ..UsageReader::default().finish("")
        };
        let found = match Matcher::new(Arc::clone(&catalog)).find(&reading) {
            Ok(found) => found,
            Err(status) => bail!("{} ({status}); `weir price list` has all models", self.not_found(status.as_str())),
        };
        let at = self.at.unwrap_or_else(now);
        let call = Call { time_unix_nano: nanos(at), project: catalog.project(&self.project), ..Call::default() };
        let (of, model) = names(&catalog, found.model);
        let Some(valid) = catalog.price_for(found.model, &call).map(|price| price.id()) else {
            bail!("no price of {of}/{model} is valid at that time")
        };
        let prices = catalog.prices(found.model);
        if let ShowFormat::Json = self.format {
            let prices: Vec<_> = prices.iter().map(|price| Value::Object(json_price(price))).collect();
            let answer = json!({
                "catalog": catalog.version(), "provider": of, "model": model, "match": found.confidence(),
                "price_id": valid, "prices": prices,
            });
            return Ok(serde_json::to_string_pretty(&answer)? + "\n");
        }
        let mut out = format!("{of}/{model}\n  matched   {}\n", sentence(found.confidence()));
        let _ = writeln!(out, "  catalog   {}", catalog.version());
        for price in &prices {
            text_price(&mut out, price, price.id == valid);
        }
        Ok(out)
    }

    fn not_found(&self, status: &str) -> String {
        let provider = self.provider.as_deref().unwrap_or("any provider");
        match status {
            "unknown_provider" if self.provider.is_none() => {
                format!("whose model `{}` is cannot be told: give --provider", self.model)
            }
            "unknown_provider" => format!("`{provider}` is not a provider of the catalog, or not at this address"),
            _ => format!("the catalog has no model `{}` of {provider}", self.model),
        }
    }
}

/// How the name was recognised, in words.
fn sentence(confidence: &str) -> String {
    let (inferred, step) = match confidence.strip_prefix("inferred_") {
        Some(step) => (", the provider inferred", step),
        None => ("", confidence),
    };
    let words = match step {
        "exact" => "by the name as given",
        "rewritten" => "by the name without prefix, path, region or version",
        "undated" => "by the name without its date, or with dashes for dots",
        _ => "at a provider whose prices hold where the named one has none",
    };
    format!("{words}{inferred} ({confidence})")
}

fn text_price(out: &mut String, price: &PriceView<'_>, is_valid: bool) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{} {}", if is_valid { "▸" } else { " " }, price.id);
    let mut times = Vec::new();
    times.extend(price.valid_from.as_ref().map(|from| format!("from {from}")));
    times.extend(price.valid_until.as_ref().map(|until| format!("until {until}")));
    times.extend(price.daily.as_ref().map(|[from, to]| format!("daily from {from} to {to}")));
    let times = if times.is_empty() { "at all times no other price is".to_owned() } else { times.join(", ") + " UTC" };
    let _ = writeln!(out, "    valid     {times}");
    if let Some(project) = price.project {
        let _ = writeln!(out, "    project   {project}");
    }
    let _ = writeln!(out, "    source    {}", price.source);
    text_rates(out, "standard", &price.rates);
    let mut services = price.service_tiers.iter().peekable();
    while let Some((name, source, rates)) = services.next() {
        text_rates(out, name, rates);
        // Once for all that have it in common.
        if *source != price.source && services.peek().is_none_or(|(_, next, _)| next != source) {
            let _ = writeln!(out, "    {:9} source: {source}", "");
        }
    }
}

fn text_rates(out: &mut String, tier: &str, rates: &[RateView]) {
    for (at, rate) in rates.iter().enumerate() {
        let (name, unit) = match rate.name.strip_prefix("per_thousand_") {
            Some(name) => (name, "USD per thousand"),
            None => (rate.name, "USD per million tokens"),
        };
        let tier = if at == 0 { tier } else { "" };
        let _ = write!(out, "    {tier:9} {name:16} {:>10} {unit}", rate.price.to_string());
        for step in &rate.tiers {
            let which = if step.marginal { "tokens" } else { "input tokens in all" };
            let _ = write!(out, "; {} {} {which}: {}", step.operator, step.start, step.price);
        }
        out.push('\n');
    }
}
