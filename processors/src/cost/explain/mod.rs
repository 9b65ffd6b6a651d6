//! How a cost came about, step by step, for a person to check.
//!
//! The steps are those of the pricing itself: the reader that the processor has, its matcher, its catalog, and the one
//! multiplication, which tells what it multiplies ([`price_observed`]). Nothing is computed a second time another way.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::{Batch, Span};

use super::calls::SpanId;
use super::catalog::format::RATE_NAMES;
use super::catalog::{PriceRef, PriceView, Unit};
use super::money::Amount;
use super::node::{Origin, estimated, outcomes};
use super::price::price_observed;
use super::{CostStatus, MatchStep, Priced, Pricer, Pricing, Reading, Rule, UsageReader};

/// The steps from one span's attributes to its cost. Displays as text of several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The place of the span in the batch.
    pub at: usize,
    /// Name and ids.
    pub span: String,
    /// The outcome, among all spans of the batch.
    pub status: CostStatus,
    /// The span that carries the cost instead: `<trace id>/<span id>`.
    pub deferred_to: Option<String>,
    /// The steps in order: a title and lines.
    pub steps: Vec<(&'static str, Vec<String>)>,
}

/// Longer values of attributes are cut: what is read is short, what is not is content.
const MAX_VALUE: usize = 80;

/// Explains each span of a batch that has to do with models, as a processor with these prices and settings would price
/// it, the prices of projects and estimates among them. A span that a processor has seen keeps the outcome it had there.
pub fn explain(pricing: &Pricing, batch: &Batch) -> Vec<Explanation> {
    let mut pricer = Pricer::new(pricing.catalog().clone());
    let outcomes = outcomes(pricing, batch);
    let spans = batch.spans().zip(outcomes).enumerate();
    let of_models = spans.filter(|(_, (_, (status, _)))| *status != CostStatus::NotLlm);
    of_models.map(|(at, (span, outcome))| explain_span(pricing, &mut pricer, (at, span), outcome)).collect()
}

fn explain_span(
    pricing: &Pricing,
    pricer: &mut Pricer,
    (at, span): (usize, Span<'_>),
    outcome: (CostStatus, Option<SpanId>),
) -> Explanation {
    let mut reader = UsageReader::default();
    reader.visit_all(span);
    let (fields, scope) = (span.fields(), span.scope_name());
    let mut reading = reader.finish(scope.as_str());
    let end = fields.end_time_unix_nano;
    let mut steps = vec![("attributes", attributes(span, &reader))];
    let origin = span.tenant().map_or_else(|| Origin::of(span.resource()), Origin::of_tenant);
    let project = pricer.catalog().project(&origin.project);
    if pricer.catalog().has_projects() && !origin.project.is_empty() {
        let own = if project == Default::default() { "has no prices of its own" } else { "has prices of its own" };
        steps.push(("project", vec![format!("{} {own}", quoted(&origin.project))]));
    }
    let reported = usage(&reading);
    let method = estimated(pricing.settings.estimation(outcome.0 == CostStatus::Estimated), span, &mut reading);
    match method {
        // What there was not, and what is taken in its place.
        Some(method) => {
            let estimate = usage(&reading).into_iter().map(|line| format!("{line}, estimated with {method}"));
            steps.push(("usage", reported.into_iter().chain(estimate).collect()));
        }
        None => steps.push(("usage", reported)),
    }
    let priced = pricer.price_for(&reading, end, project);

    let found = priced.matched;
    steps.push(("model", model(&reading, &priced)));
    if let Some(found) = found
        && let Ok(usage) = reading.usage
        && let Some(price) = pricer.price_of(found, &reading, end, project)
    {
        steps.push(("price", row(&price.view(), price)));
        let billed = RefCell::new(Vec::new());
        let cost = price_observed(&usage, price, |unit, count| billed.borrow_mut().push((unit, count)));
        let mut lines: Vec<_> = billed
            .into_inner()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(unit, count)| line(price, usage.input.unwrap_or(0), unit, count))
            .collect();
        match cost {
            Ok(cost) => lines.push(format!("total {} USD", cost.total)),
            Err(status) => lines.push(format!("no cost: {status}")),
        }
        steps.push(("multiplication", lines));
        if let (Ok(cost), Some(given)) = (cost, reading.given_cost) {
            let currency = if given.is_usd() { "USD" } else { given.currency.as_str() };
            let computed = cost.total;
            steps.push((
                "given cost",
                vec![format!("{} = {} {currency}; computed {computed} USD", given.key, given.total)],
            ));
        }
    }
    let id = SpanId::new(fields.trace_id, fields.span_id).map_or_else(|| "invalid ids".to_owned(), |id| id.to_string());
    let scope = if scope.is_empty() { "no scope".to_owned() } else { format!("scope {scope}") };
    Explanation {
        at,
        span: format!("{} ({id}, {scope})", fields.name),
        status: outcome.0,
        deferred_to: deferred_to(span, &reading).or_else(|| outcome.1.map(|id| id.to_string())),
        steps,
    }
}

/// What a processor that has seen the span wrote.
fn deferred_to(span: Span<'_>, reading: &Reading<'_>) -> Option<String> {
    match span.attr("weir.cost.deferred_to").filter(|_| !reading.earlier_status.is_empty())? {
        Value::Str(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// What was read: each key with its value and who writes it.
fn attributes(span: Span<'_>, reader: &UsageReader<'_>) -> Vec<String> {
    reader
        .sources()
        .map(|(key, convention)| {
            let value = match span.attr(key) {
                Some(Value::Str(text)) => quoted(text.as_str()),
                Some(Value::Int(n)) => n.to_string(),
                Some(Value::Double(n)) => format!("{n:?}"),
                Some(Value::Bool(b)) => b.to_string(),
                Some(other) => format!("{other:?}"),
                None => "absent".to_owned(),
            };
            format!("{key} = {value}  [{convention}]")
        })
        .collect()
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_VALUE).collect();
    if cut.len() < text.len() { format!("{cut:?} …") } else { format!("{text:?}") }
}

/// The counts and what decided about them.
fn usage(reading: &Reading<'_>) -> Vec<String> {
    let usage = match reading.usage {
        Ok(usage) => usage,
        Err(status) => return vec![format!("none: {}", status.reason())],
    };
    let mut lines = Vec::new();
    let resolution = [reading.resolution.input, reading.resolution.output];
    let totals = [("input", usage.input), ("output", usage.output)];
    for (((name, count), reported), rule) in totals.into_iter().zip(reading.reported).zip(resolution) {
        let Some(count) = count else { continue };
        let mut line = format!("{name} {count}");
        if let Some(reported) = reported.filter(|reported| *reported != count) {
            let _ = write!(line, ", reported as {reported}");
        }
        if rule != Rule::AsReported {
            let _ = write!(line, ": {}", rule.as_str());
        }
        lines.push(line);
    }
    let parts = [
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("cache_write_5m", usage.cache_write_5m().filter(|_| usage.cache_write_1h.is_some())),
        ("cache_write_1h", usage.cache_write_1h),
        ("reasoning", usage.reasoning),
        ("audio_in", usage.audio_in),
        ("audio_out", usage.audio_out),
        ("image_in", usage.image_in),
        ("image_out", usage.image_out),
        ("cached_audio", usage.cached_audio),
        ("cached_image", usage.cached_image),
        ("web_searches", usage.web_searches),
        ("requests", usage.requests),
    ];
    lines.extend(parts.into_iter().filter_map(|(name, n)| Some(format!("{name} {}", n?))));
    lines
}

fn model(reading: &Reading<'_>, priced: &Priced<'_, '_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, name) in [
        ("provider", reading.provider),
        ("LangChain's provider", reading.langchain_provider),
        ("request model", reading.request_model),
        ("response model", reading.response_model),
        ("address", reading.address),
        ("service tier served", reading.service_tier),
        ("service tier requested", reading.requested_service_tier),
    ] {
        if !name.is_empty() {
            lines.push(format!("{what} {}", quoted(name.as_str())));
        }
    }
    if reading.batch {
        lines.push("batch processing".to_owned());
    }
    match (priced.matched, priced.provider, priced.model) {
        (Some(found), Some(provider), Some(model)) => {
            let step = match found.step {
                MatchStep::Exact => "the name as it stands",
                MatchStep::Rewritten => "the name without prefix, path, region or version",
                MatchStep::Undated => "the name without its date, or with dashes for dots",
                MatchStep::Fallback => "the name at a provider that this one falls back to",
            };
            let inferred = if found.inferred_provider { ", provider inferred" } else { "" };
            lines.push(format!("found {provider}/{model} by {step}{inferred}"));
        }
        _ => lines.push(format!("not found: {}", priced.status.reason())),
    }
    lines
}

/// The row of the catalog.
fn row(view: &PriceView<'_>, price: PriceRef<'_>) -> Vec<String> {
    let mut line = price.id().to_owned();
    if let Some(from) = &view.valid_from {
        let _ = write!(line, ", from {from}");
    }
    if let Some(until) = &view.valid_until {
        let _ = write!(line, ", until {until}");
    }
    if let Some([from, to]) = &view.daily {
        let _ = write!(line, ", daily from {from} to {to} UTC");
    }
    let mut lines = vec![line, format!("source {}", view.source)];
    if let Some(project) = view.project {
        lines.push(format!("for the project {} alone", quoted(project)));
    }
    if let Some(tier) = price.service_tier() {
        lines.push(format!("service tier {tier}"));
    }
    if price.tier_unknown() {
        lines.push("the call's service tier has no price: these are the standard rates".to_owned());
    }
    lines
}

/// One multiplication.
fn line(price: PriceRef<'_>, total_input: u64, unit: Unit, count: u64) -> String {
    let rates = price.rates(total_input);
    let mut amount = Amount::default();
    rates.add(&mut amount, unit, count);
    let name = RATE_NAMES.get(unit as usize).copied().unwrap_or_default();
    let rate = rates.rate(unit).map_or_else(|| "rates by size".to_owned(), |rate| format!("{rate} USD per million"));
    format!("{name}: {count} × {rate} = {} USD", amount.finish())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.span)?;
        for (title, lines) in &self.steps {
            let mut title = *title;
            for line in lines {
                writeln!(f, "  {title:<15} {line}")?;
                title = "";
            }
        }
        write!(f, "  {:<15} {}: {}", "status", self.status, self.status.reason())?;
        match &self.deferred_to {
            Some(to) => writeln!(f, " ({to})"),
            None if self.status == CostStatus::Aggregate => {
                writeln!(f, "; no call with a cost was seen below it, and what only this span reports is not billed")
            }
            None => writeln!(f),
        }
    }
}
