//! `weir price list`: the models and what they cost.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weir_processors::cost::Catalog;
use weir_processors::cost::catalog::{ModelId, PriceView};

use super::{SourceArguments, json_price, names, nanos, now, time};

#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only this provider's models: an id such as openai, or another of its names
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Prices at this time: a UTC date such as 2025-06-10 or an instant such as 2025-06-10T12:00:00Z; by default now
    #[arg(long, value_name = "DATE", value_parser = time)]
    at: Option<i64>,
    /// How the list is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    source: SourceArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// The columns of a list.
const COLUMNS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "cache_write_1h"];

impl ListArguments {
    /// The list as a text.
    ///
    /// # Errors
    /// If a file cannot be used or there is no such provider.
    pub(super) fn run(&self) -> anyhow::Result<String> {
        let catalog = self.source.load()?;
        let provider = match &self.provider {
            None => None,
            Some(name) => Some(catalog.provider(name).with_context(|| no_provider(&catalog, name))?),
        };
        let time = nanos(self.at.unwrap_or_else(now));
        let models = catalog.models().filter(|m| provider.is_none() || catalog.provider_of(*m) == provider);
        let prices = models.filter_map(|m| Some((m, catalog.price_at(m, time)?.view())));
        Ok(match self.format {
            Format::Json => json_list(&catalog, prices)?,
            Format::Csv => csv(&catalog, prices),
            Format::Table => table(&catalog, prices),
        })
    }
}

fn no_provider(catalog: &Catalog, name: &str) -> String {
    let mut ids: Vec<_> =
        catalog.models().filter_map(|m| catalog.provider_of(m)).map(|p| catalog.provider_name(p)).collect();
    ids.dedup();
    format!("the catalog has no provider `{name}`; it has {}", ids.join(", "))
}

fn json_list<'a>(catalog: &Catalog, prices: impl Iterator<Item = (ModelId, PriceView<'a>)>) -> anyhow::Result<String> {
    let list: Vec<Value> = prices
        .map(|(model, price)| {
            let (provider, model) = names(catalog, model);
            let mut object = json_price(&price);
            object.insert("provider".into(), provider.into());
            object.insert("model".into(), model.into());
            Value::Object(object)
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({"catalog": catalog.version(), "prices": list}))? + "\n")
}

fn csv<'a>(catalog: &Catalog, prices: impl Iterator<Item = (ModelId, PriceView<'a>)>) -> String {
    let mut out = format!("provider,model,price_id,{},tiers,service_tiers\n", COLUMNS.join(","));
    for (model, price) in prices {
        let (provider, model) = names(catalog, model);
        let mut cells = vec![provider.to_owned(), model.to_owned(), price.id.to_owned()];
        cells.extend(COLUMNS.iter().map(|name| base(&price, name)));
        cells.push(starts(&price).join(" "));
        cells.push(price.service_tiers.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" "));
        out.push_str(&cells.iter().map(|cell| csv_cell(cell)).collect::<Vec<_>>().join(","));
        out.push('\n');
    }
    out
}

fn csv_cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn table<'a>(catalog: &Catalog, prices: impl Iterator<Item = (ModelId, PriceView<'a>)>) -> String {
    let mut rows =
        vec![["provider", "model"].iter().chain(&COLUMNS).map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    if let Some(header) = rows.first_mut() {
        header.push("tiers".to_owned());
    }
    for (model, price) in prices {
        let (provider, model) = names(catalog, model);
        let mut row = vec![provider.to_owned(), model.to_owned()];
        row.extend(COLUMNS.iter().map(|name| base(&price, name)));
        let services = price.service_tiers.iter().map(|(name, ..)| (*name).to_owned());
        row.push(starts(&price).into_iter().chain(services).collect::<Vec<_>>().join(" "));
        rows.push(row);
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS.len() + 2).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            // Names to the left, numbers to the right, what follows as it is.
            let _ = match (at, widths.get(at)) {
                (0 | 1, Some(width)) => write!(line, "{cell:width$}  "),
                (_, Some(width)) => write!(line, "{cell:>width$}  "),
                (_, None) => write!(line, "{cell}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let _ = writeln!(out, "\nUSD per million tokens; catalog {} ({})", catalog.version(), catalog.source());
    out
}

fn base(price: &PriceView<'_>, name: &str) -> String {
    price.rates.iter().find(|rate| rate.name == name).map_or(String::new(), |rate| rate.price.to_string())
}

/// Where the price changes with the size of the input.
fn starts(price: &PriceView<'_>) -> Vec<String> {
    let mut starts: Vec<_> = price
        .rates
        .iter()
        .flat_map(|rate| &rate.tiers)
        .map(|tier| format!("{}{}", tier.operator, tier.start))
        .collect();
    starts.sort();
    starts.dedup();
    starts
}
