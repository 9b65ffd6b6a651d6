//! Makes `processors/catalog/catalog.json` from the slim v2 data of genai-prices
//! (`prices/new_data/v2/data_slim.json` of <https://github.com/pydantic/genai-prices>, MIT) and `overlay.yaml` beside it:
//!
//! ```text
//! cargo run -p weir-processors --example convert_genai_prices -- IN OVERLAY OUT [YYYY-MM-DD]
//! ```
//!
//! The date is that of the commit the file comes from. Without one, that of the catalog at OUT is kept if it was made
//! from the same file. Numbers are taken from their JSON text, never through a float.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, error::Error, fs};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use weir_pipeline::config::Node;
use weir_pipeline::hex::Hex;
use weir_processors::cost::catalog::format::RATE_NAMES;
use weir_processors::cost::catalog::{CatalogBuilder, Overlay, decimal};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
struct Provider<'a> {
    id: String,
    name: String,
    api_pattern: String,
    #[serde(borrow)]
    provider_match: Option<&'a RawValue>,
    #[serde(borrow)]
    model_match: Option<&'a RawValue>,
    #[serde(default)]
    fallback_model_providers: Vec<String>,
    #[serde(borrow)]
    models: Vec<Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    id: String,
    #[serde(borrow)]
    r#match: &'a RawValue,
    #[serde(borrow)]
    prices: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conditional<'a> {
    #[serde(default)]
    constraint: Constraint,
    #[serde(borrow)]
    prices: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Constraint {
    start_date: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tiered<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
    #[serde(borrow)]
    tiers: Vec<Tier<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier<'a> {
    start: u32,
    #[serde(borrow)]
    price: &'a RawValue,
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, overlay, output, date @ ..] = args.as_slice() else {
        return Err("usage: convert_genai_prices IN OVERLAY OUT [YYYY-MM-DD]".into());
    };
    let source = fs::read_to_string(input)?;
    let sha256 = Hex(&Sha256::digest(source.as_bytes())).to_string();
    let date = match date.first() {
        Some(date) => date.clone(),
        None => kept_date(output, &sha256)?,
    };
    let converted = convert(&source, &date, &sha256)?;
    let mut catalog = CatalogBuilder::parse(&converted)?;
    let node = Node::parse(overlay, &fs::read_to_string(overlay)?)?;
    catalog.overlay(&Overlay::from_node(&node, "")?.without_label())?;
    let loaded = catalog.build()?;
    fs::write(output, catalog.to_json()?)?;
    eprintln!("{}: {} models, {} bytes of heap", loaded.version(), loaded.model_count(), loaded.heap_bytes());
    Ok(())
}

/// The date in the catalog at `path`, if it was made from a source of this digest.
fn kept_date(path: &str, sha256: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Kept {
        source: KeptSource,
    }
    #[derive(Deserialize)]
    struct KeptSource {
        date: String,
        sha256: String,
    }
    let kept = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    match kept {
        Some(kept) if kept.source.sha256 == sha256 => Ok(kept.source.date),
        _ => Err("the source is new: give the date of its commit as third argument".into()),
    }
}

fn convert(source: &str, date: &str, sha256: &str) -> Result<String> {
    let providers: Vec<Provider<'_>> = serde_json::from_str(source)?;
    let mut out = String::new();
    writeln!(out, "{{\"format\":1,")?;
    writeln!(
        out,
        "\"source\":{{\"name\":\"genai-prices v2 data_slim.json, https://github.com/pydantic/genai-prices\",\"date\":{},\"license\":\"MIT\",\"sha256\":\"{sha256}\"}},",
        quote(date)?
    )?;
    writeln!(out, "\"providers\":[")?;
    for (at, provider) in providers.iter().enumerate() {
        write!(out, "{{\"id\":{},\"name\":{}", quote(&provider.id)?, quote(&provider.name)?)?;
        write!(out, ",\"address\":{}", quote(&provider.api_pattern)?)?;
        if let Some(rule) = provider.provider_match {
            write!(out, ",\"provider_match\":{}", rule.get())?;
        }
        if let Some(rule) = provider.model_match {
            write!(out, ",\"model_match\":{}", rule.get())?;
        }
        if !provider.fallback_model_providers.is_empty() {
            write!(out, ",\"fallback\":{}", serde_json::to_string(&provider.fallback_model_providers)?)?;
        }
        writeln!(out, ",\"models\":[")?;
        for (at, model) in provider.models.iter().enumerate() {
            let prices = prices(&provider.id, model).map_err(|e| format!("{}/{}: {e}", provider.id, model.id))?;
            let comma = if at + 1 < provider.models.len() { "," } else { "" };
            let (id, rule) = (quote(&model.id)?, model.r#match.get());
            writeln!(out, "{{\"id\":{id},\"match\":{rule},\"prices\":[{prices}]}}{comma}")?;
        }
        writeln!(out, "]}}{}", if at + 1 < providers.len() { "," } else { "" })?;
    }
    writeln!(out, "]}}")?;
    Ok(out)
}

fn prices(provider: &str, model: &Model<'_>) -> Result<String> {
    let list: Vec<Conditional<'_>> = if model.prices.get().trim_start().starts_with('[') {
        serde_json::from_str(model.prices.get())?
    } else {
        vec![Conditional { constraint: Constraint::default(), prices: serde_json::from_str(model.prices.get())? }]
    };
    let mut out = Vec::with_capacity(list.len());
    for (at, Conditional { constraint, prices }) in list.iter().enumerate() {
        let mut id = format!("{provider}/{}", model.id);
        match (&constraint.start_date, at) {
            (Some(date), _) => write!(id, "@{date}")?,
            (None, 0) => {}
            (None, _) => write!(id, "#{at}")?,
        }
        let mut price = format!("{{\"id\":{}", quote(&id)?);
        if let Some(date) = &constraint.start_date {
            write!(price, ",\"valid_from\":{}", quote(date)?)?;
        }
        match (&constraint.start_time, &constraint.end_time) {
            (None, None) => {}
            (Some(from), Some(to)) => {
                let time = |text: &str| quote(text.trim_end_matches('Z'));
                write!(price, ",\"daily\":[{},{}]", time(from)?, time(to)?)?;
            }
            _ => return Err("a daily window needs both ends".into()),
        }
        let rates = prices.iter().map(|(key, value)| rate(key, value)).collect::<Result<Vec<_>>>()?;
        write!(price, ",\"rates\":{{{}}}}}", rates.join(","))?;
        out.push(price);
    }
    Ok(out.join(","))
}

fn rate(key: &str, value: &RawValue) -> Result<String> {
    let name = match key.strip_suffix("_mtok") {
        Some(name) => name.to_owned(),
        None => match key.strip_suffix("_kcount") {
            Some(name) => format!("per_thousand_{name}"),
            None => return Err(format!("`{key}` is in a unit this converter does not know").into()),
        },
    };
    if !RATE_NAMES.contains(&name.as_str()) {
        return Err(format!("`{key}` is not a rate of the catalog's format: add it there").into());
    }
    let text = value.get();
    if !text.starts_with('{') {
        return Ok(format!("\"{name}\":\"{}\"", decimal(text, 0)?));
    }
    let tiered: Tiered<'_> = serde_json::from_str(text)?;
    let mut tiers = Vec::with_capacity(tiered.tiers.len());
    for Tier { start, price } in &tiered.tiers {
        tiers.push(format!("{{\"start\":{start},\"price\":\"{}\"}}", decimal(price.get(), 0)?));
    }
    Ok(format!("\"{name}\":{{\"base\":\"{}\",\"tiers\":[{}]}}", decimal(tiered.base.get(), 0)?, tiers.join(",")))
}

fn quote(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}
