//! `weir recost`: costs of stored spans, computed again after prices have changed.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment;
use weir_pipeline::tenant::Slug;
use weir_processors::cost::{CostStatus, Pricing, Recost, Recosted, Stored, Usd};
use weir_store::StoreError;
use weir_store::arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use weir_store::commit::Backoff;
use weir_store::query::write;
use weir_store::recost::{
    Costs, Differences, Options, Prepared, Recompute, Recomputed, Row, Selection, commit, prepare,
};
use weir_store::table::Delta;

use super::price::{now, time};
use super::pricing::PricingArguments;
use super::store::{OutputFormat, SpansArguments, block_on};

/// Computes the costs of stored spans again, with the prices and settings of a configuration's `cost` processor, and
/// writes those that differ into the table in one commit. What a row cost before stays in `previous_total_cost`.
#[derive(Args)]
pub(crate) struct RecostArguments {
    /// Spans that started at this time or later: 2026-11-01 or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: i64,
    /// Spans that started before this time; by default now
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<i64>,
    /// Spans of one environment only
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Spans that fulfil this condition only, in SQL over the columns of `spans`: "response_model like 'gpt-4o%'"
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    /// How the differences are written
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    #[command(flatten)]
    spans: SpansArguments,
    #[command(flatten)]
    pricing: PricingArguments,
}

/// How often it is begun anew when others rewrite the same files.
const RUNS: u32 = 3;
/// A commit that an append came before is tried again: a busy collector commits every second.
const COMMITS: u32 = 30;

pub(super) fn recost(arguments: &RecostArguments) -> anyhow::Result<ExitCode> {
    let to = arguments.to.unwrap_or_else(now);
    anyhow::ensure!(arguments.from < to, "--from must be before --to, which is now if it is not given");
    let pricing = arguments.pricing.load(now())?;
    block_on(async {
        let (root, folder) = arguments.spans.place().await?;
        // A dry run does not even add the columns that a table of an older version lacks.
        let mut table = match arguments.dry_run {
            true => Delta::open(&root, &folder).await?,
            false => Delta::open_for_change(&root, &folder).await?,
        };
        let (prepared, version) = run(arguments, to, &pricing, &mut table).await?;
        let differences = differences(&prepared.differences)?;
        match write(&[differences], arguments.format.into(), &mut std::io::stdout().lock()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            result => result.context("cannot write the differences")?,
        }
        // Not part of the answer, which other programs may read.
        let _ = writeln!(std::io::stderr(), "{}", summary(&prepared, version, &pricing, arguments.dry_run));
        Ok(ExitCode::SUCCESS)
    })
}

async fn run(
    arguments: &RecostArguments,
    to: i64,
    pricing: &Pricing,
    table: &mut Delta,
) -> anyhow::Result<(Prepared, Option<u64>)> {
    let selection = Selection {
        from_micros: micros(arguments.from),
        to_micros: micros(to),
        environment: arguments.env.clone(),
        condition: arguments.condition.clone(),
    };
    let mut parameters = vec![
        ("from", arguments.from.to_string()),
        ("to", to.to_string()),
        ("catalog", pricing.catalog().version().to_owned()),
    ];
    parameters.extend(arguments.env.iter().map(|env| ("environment", env.clone())));
    parameters.extend(arguments.condition.iter().map(|condition| ("predicate", condition.clone())));
    let environment = Environment::system();
    let options = Options {
        now_micros: i64::try_from(environment.now_unix_nanos() / 1000).unwrap_or(i64::MAX),
        parameters,
        backoff: Backoff { attempts: COMMITS, ..Backoff::default() },
        environment,
    };
    let mut runs = 1;
    loop {
        let mut repricer = Repricer::new(pricing, arguments.spans.owner().map_or("", Slug::as_str));
        let prepared = Box::pin(prepare(table, &selection, &mut repricer, &options, arguments.dry_run)).await?;
        match Box::pin(commit(table, &prepared, &options)).await {
            Ok(version) => return Ok((prepared, version)),
            Err(StoreError::Overtaken { .. }) if runs < RUNS => runs += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn micros(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000)
}

fn summary(prepared: &Prepared, version: Option<u64>, pricing: &Pricing, is_dry_run: bool) -> String {
    let (changed, read) = (prepared.changed(), prepared.files_read);
    let catalog = pricing.catalog().version();
    let done = match (changed, is_dry_run, version) {
        (0, ..) => "nothing changes".to_owned(),
        (_, true, _) => format!("{changed} rows would change"),
        (_, false, Some(version)) => {
            format!(
                "{changed} rows changed in version {version} of the table, {} files written anew",
                prepared.files_replaced
            )
        }
        (_, false, None) => "nothing was committed".to_owned(),
    };
    format!("catalog {catalog}: {done}; {read} files read")
}

/// One row per provider and model; what changes most comes first.
fn differences(differences: &Differences) -> anyhow::Result<RecordBatch> {
    let mut rows: Vec<_> = differences.iter().collect();
    rows.sort_by_key(|(_, difference)| std::cmp::Reverse(difference.before.abs_diff(difference.after)));
    let text = |of: fn(&(String, String)) -> &String| -> ArrayRef {
        let texts = rows.iter().map(|(names, _)| Some(of(names).as_str()).filter(|name| !name.is_empty()));
        Arc::new(texts.collect::<StringArray>())
    };
    let count = |of: fn(&weir_store::recost::Difference) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, d)| i64::try_from(of(d)).ok()).collect::<Int64Array>())
    };
    let money = |of: fn(&weir_store::recost::Difference) -> i128| -> anyhow::Result<ArrayRef> {
        let amounts = rows.iter().map(|(_, d)| Some(of(d))).collect::<Decimal128Array>();
        Ok(Arc::new(amounts.with_precision_and_scale(38, 12)?))
    };
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("provider", text(|(provider, _)| provider), true),
        ("model", text(|(_, model)| model), true),
        ("spans", count(|d| d.spans), true),
        ("changed", count(|d| d.changed), true),
        ("newly_priced", count(|d| d.priced), true),
        ("no_longer_priced", count(|d| d.unpriced), true),
        ("cost_before", money(|d| d.before)?, true),
        ("cost_after", money(|d| d.after)?, true),
        ("difference", money(|d| d.after - d.before)?, true),
    ])?)
}

/// Prices rows as the processor would.
struct Repricer {
    recost: Recost,
    version: Arc<str>,
    /// The rows of the file that may change.
    rows: HashMap<usize, Row>,
    /// Names of prices that were seen.
    prices: HashMap<String, Arc<str>>,
}

impl Repricer {
    fn new(pricing: &Pricing, project: &str) -> Self {
        Self {
            recost: Recost::new(pricing, project),
            version: pricing.catalog().version().into(),
            rows: HashMap::new(),
            prices: HashMap::new(),
        }
    }

    fn costs(&mut self, found: &Recosted) -> Costs {
        let pico = |usd: Option<Usd>| usd.and_then(|usd| i128::try_from(usd.as_pico()).ok());
        let price_key = found.price_id.as_ref().map(|id| match self.prices.get(id) {
            Some(known) => Arc::clone(known),
            None => {
                let name: Arc<str> = id.as_str().into();
                self.prices.insert(id.clone(), Arc::clone(&name));
                name
            }
        });
        Costs {
            status: Some(found.status.as_str().into()),
            source: found.total.map(|_| "local".into()),
            deferred_to: found.deferred_to.map(|id| id.to_string().into()),
            caveat: found.caveat.map(Into::into),
            total: pico(found.total),
            input: pico(found.input),
            output: pico(found.output),
            cache_read: pico(found.cache_read),
            cache_write: pico(found.cache_write),
            price_version: price_key.is_some().then(|| Arc::clone(&self.version)),
            price_key,
        }
    }
}

impl Recompute for Repricer {
    fn read(&mut self, spans: &Batch, rows: Vec<Row>) {
        for (span, row) in spans.spans().zip(rows) {
            let stored = Stored {
                status: row.costs.status.as_deref(),
                may_change: row.selected,
                arrival_unix_nanos: u64::try_from(row.ingest_micros).unwrap_or(0).saturating_mul(1000),
            };
            if let Some(number) = self.recost.read(span, stored) {
                debug_assert_eq!(number, row.number);
                self.rows.insert(number, row);
            }
        }
    }

    fn decide(&mut self) -> Vec<Recomputed> {
        let found = self.recost.decide();
        let mut rows = std::mem::take(&mut self.rows);
        let recomputed = found.into_iter().filter_map(|(number, found)| {
            let row = rows.remove(&number)?;
            let costs = self.costs(&found);
            let earlier_status = found.earlier.map(CostStatus::as_str).map(Into::into);
            Some(Recomputed { row, costs, earlier_status })
        });
        recomputed.collect()
    }
}
