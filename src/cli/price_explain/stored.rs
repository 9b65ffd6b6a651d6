//! Spans of the store, explained from their rows.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;
use weir_pipeline::tenant::{Slug, Tenant};
use weir_processors::cost::{self, Explanation, Pricing};
use weir_store::arrow::array::{Array as _, RecordBatch};
use weir_store::arrow::util::display::array_value_to_string;
use weir_store::query::Engine;
use weir_store::rebuild;

use crate::cli::store::{SpansArguments, block_on};

#[derive(Args)]
pub(crate) struct StoredArguments {
    /// The trace whose stored spans are explained, as 32 hexadecimal digits
    #[arg(long, value_name = "ID", value_parser = hex)]
    trace: Option<String>,
    /// Only this span of the trace, as 16 hexadecimal digits
    #[arg(long, value_name = "ID", value_parser = hex, requires = "trace")]
    span: Option<String>,
    #[command(flatten)]
    spans: SpansArguments,
}

/// An id as the columns have it.
fn hex(text: &str) -> Result<String, String> {
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase()).ok_or_else(|| "expected hexadecimal digits".to_owned())
}

impl StoredArguments {
    /// Explains the stored spans of the trace. All of them are read, since they decide among each other which is billed.
    pub(super) fn explain(&self, pricing: &Pricing) -> anyhow::Result<Vec<Explanation>> {
        let trace = self.trace.as_deref().context("give a file, or --trace")?;
        let rows = block_on(async {
            let engine = Engine::over(&self.spans.store.root()?, self.spans.project.as_str()).await?;
            // Hexadecimal digits, as `hex` has seen to.
            let query = format!("select * from spans where trace_id = '{trace}' order by start_time, span_id");
            anyhow::Ok(engine.collect(&query).await?)
        })?;
        let explained = explain(&rows, pricing, self.spans.owner())?;
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let project = &self.spans.project;
        ensure!(count > 0, "the project {project} has no spans of the trace {trace}");
        let mut explained: Vec<_> = explained.into_iter().collect();
        if let Some(span) = &self.span {
            explained.retain(|(id, _)| id == span);
            ensure!(
                !explained.is_empty(),
                "the trace {trace} has no span {span} that is about a model; it has {count} spans"
            );
        }
        if explained.is_empty() {
            bail!(
                "none of the {count} spans of the trace {trace} is about a model: there is no usage and no model on any"
            );
        }
        Ok(explained.into_iter().map(|(_, explanation)| explanation).collect())
    }
}

/// Span ids with explanations, to which is added what the columns say.
fn explain(
    rows: &[RecordBatch],
    pricing: &Pricing,
    owner: Option<&Slug>,
) -> anyhow::Result<Vec<(String, Explanation)>> {
    let requests = rows.iter().map(rebuild::request_in_order).collect::<Result<Vec<_>, _>>()?;
    // Requests that follow each other are one request.
    let mut batch = Batch::decode(Signal::Traces, requests.concat().into())?;
    if let Some(project) = owner {
        // The price does not depend on the environment.
        batch = batch.with_tenant(&Arc::new(Tenant::new(project.clone(), project.clone())));
    }
    let places: Vec<_> = rows.iter().flat_map(|rows| (0..rows.num_rows()).map(move |row| (rows, row))).collect();
    let explained = cost::explain(pricing, &batch).into_iter().filter_map(|mut explanation| {
        let (rows, row) = *places.get(explanation.at)?;
        explanation.steps.push(("stored", stored(rows, row)));
        Some((text(rows, row, "span_id").unwrap_or_default(), explanation))
    });
    Ok(explained.collect())
}

/// What the columns of the money say.
fn stored(rows: &RecordBatch, row: usize) -> Vec<String> {
    let text = |name: &str| text(rows, row, name);
    let money = |name: &str| text(name).map(|amount| format!("{} USD", plain(&amount)));
    let mut lines = Vec::new();
    let cost = money("total_cost").unwrap_or_else(|| "no cost".to_owned());
    let with = |price: Option<String>, catalog: Option<String>| {
        let price = price.map(|price| format!(", price {price}")).unwrap_or_default();
        price + &catalog.map(|catalog| format!(", catalog {catalog}")).unwrap_or_default()
    };
    let status = text("cost_status").map(|status| format!(", {status}")).unwrap_or_default();
    lines.push(format!("{cost}{status}{}", with(text("price_key"), text("price_version"))));
    if let Some(to) = text("cost_deferred_to") {
        lines.push(format!("the cost is that of {to}"));
    }
    if let Some(time) = text("recost_time") {
        let before = money("previous_total_cost").unwrap_or_else(|| "no cost".to_owned());
        lines.push(format!("before {time}: {before}{}", with(None, text("previous_price_version"))));
    }
    lines.extend(money("given_cost").map(|given| format!("given by the application: {given}")));
    lines
}

/// The value of a column, if the table has it and it is not null.
fn text(rows: &RecordBatch, row: usize, name: &str) -> Option<String> {
    let column = rows.column_by_name(name).filter(|column| column.is_valid(row))?;
    array_value_to_string(column, row).ok()
}

/// A decimal without the zeros that say nothing.
fn plain(amount: &str) -> &str {
    if amount.contains('.') { amount.trim_end_matches('0').trim_end_matches('.') } else { amount }
}
