//! The `cost` processor: prices every span that stands for a model call and writes what it found beside the usage.
//!
//! A batch is read once, claims for its calls are made in the order of [`calls::Rank`], and what came of them is
//! written.

mod config;
mod meter;
mod output;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_pipeline::batch::view::Text;
use weir_pipeline::batch::{Batch, KeyReader, Span, SpanMut};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::ConfigError;
use weir_pipeline::fetch::Fetch;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};
use weir_pipeline::telemetry::{Counter, Telemetry};

pub use self::config::schema;
use self::config::{Attributes, GivenCostPolicy};
pub(super) use self::config::{Estimation, Settings};
pub(super) use self::meter::Origin;
use self::meter::{LaneMeter, Meter, SeriesId, Tokens};
pub(super) use self::output::{Amounts, Part, Words};
use self::output::{Extra, Given, Output, TemplateId};
use super::calls::{Call, CallKeys, Calls, Claim, Rank, SpanId};
use super::catalog::{CatalogSettings, CatalogWatch, LiveCatalog};
use super::usage::money;
use super::{CostStatus, GivenCost, Meaning, Pricer, Pricing, Reading, Usage, UsageReader};

/// Builds the processor from its configuration.
///
/// # Errors
/// If a setting is wrong, or a file of the catalog cannot be used.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    Ok(Arc::new(factory(section, None)?))
}

/// The same with someone who fetches price lists from URLs, which are refused else.
///
/// # Errors
/// As [`build`].
pub fn build_with(section: &Section<'_>, fetcher: Arc<dyn Fetch>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    Ok(Arc::new(factory(section, Some(fetcher))?))
}

fn factory(section: &Section<'_>, fetcher: Option<Arc<dyn Fetch>>) -> Result<CostFactory, ConfigError> {
    let settings = Settings::parse(section.node, section.path)?;
    let (telemetry, id) = (&section.context.telemetry, &section.context.id);
    let (node, path) = (section.node.get("catalog"), format!("{}::catalog", section.path));
    let catalog = CatalogSettings::from_node(node, &path)?;
    let catalog = LiveCatalog::open(catalog, id, telemetry, &section.context.environment, fetcher)
        .map_err(|problem| node.unwrap_or(section.node).error(&path, problem))?;
    // Calls that are under way when the configuration changes are not billed anew.
    let host = &section.context.host;
    let calls = |limits| host.inherit(id, |calls: &Calls| calls.limits() == limits, || Calls::new(limits));
    Ok(CostFactory {
        catalog,
        counters: Counters::new(telemetry, id),
        meter: Meter::new(telemetry, id, settings.max_metric_series),
        calls: settings.billed_once.map(calls),
        environment: section.context.environment.clone(),
        settings,
    })
}

struct CostFactory {
    settings: Settings,
    catalog: LiveCatalog,
    counters: Counters,
    meter: Meter,
    calls: Option<Arc<Calls>>,
    environment: Environment,
}

impl CostFactory {
    fn processor(&self) -> CostProcessor {
        let Settings { attributes, given_cost, estimate, .. } = self.settings;
        let (watch, catalog) = self.catalog.watch();
        CostProcessor {
            output: Output::new(attributes, given_cost, catalog.version().to_string()),
            pricer: Pricer::new(catalog),
            watch,
            attributes,
            policy: given_cost,
            estimation: estimate,
            counters: self.counters.clone(),
            meter: self.meter.lane(),
            calls: self.calls.clone(),
            environment: self.environment.clone(),
            pending: Vec::new(),
            extras: Vec::new(),
            turns: Vec::new(),
            call_keys: Vec::new(),
            keys: KeyReader::new(Meaning::of),
            scope: Scope { place: None, name: String::new(), rank: Rank::of("", false) },
        }
    }
}

impl ProcessorFactory for CostFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        self.catalog.start();
        Box::new(self.processor())
    }
}

/// Spans by what pricing said of them: `weir_cost_spans{processor, status}`.
#[derive(Clone)]
struct Counters {
    by_status: [Counter; CostStatus::ALL.len()],
    /// Aggregates without a call: `weir_cost_aggregates_alone{processor}`.
    alone: Counter,
}

impl Counters {
    fn new(telemetry: &Telemetry, processor: &str) -> Self {
        let counter = |status: CostStatus| {
            telemetry.counter("weir_cost_spans", &[("processor", processor), ("status", status.as_str())])
        };
        let alone = telemetry.counter("weir_cost_aggregates_alone", &[("processor", processor)]);
        Self { by_status: CostStatus::ALL.map(counter), alone }
    }

    fn add(&self, seen: [usize; CostStatus::ALL.len()], alone: usize) {
        let counters = self.by_status.iter().zip(seen).chain([(&self.alone, alone)]);
        counters.filter(|(_, n)| *n > 0).for_each(|(counter, n)| counter.add(n));
    }
}

struct CostProcessor {
    pricer: Pricer,
    watch: CatalogWatch,
    attributes: Attributes,
    output: Output,
    policy: GivenCostPolicy,
    estimation: Estimation,
    counters: Counters,
    meter: LaneMeter,
    calls: Option<Arc<Calls>>,
    environment: Environment,
    /// The spans of the batch at hand that have to do with models.
    pending: Vec<Pending>,
    /// What some of them are written besides.
    extras: Vec<Extra>,
    /// Those that may be one of several of a call, in the order of their claims.
    turns: Vec<Turn>,
    /// Their keys.
    call_keys: Vec<CallKeys>,
    keys: KeyReader<Meaning>,
    /// The scope of the last span.
    scope: Scope,
}

/// What is asked of a scope for each of its spans, which come together.
struct Scope {
    /// Where its name is in the batch at hand.
    place: Option<(usize, usize)>,
    name: String,
    rank: Rank,
}

impl Scope {
    fn see(&mut self, name: Text<'_>) {
        let place = Some((name.as_bytes().as_ptr() as usize, name.len()));
        if self.place != place {
            let name = name.as_str();
            *self = Self { place, name: name.to_owned(), rank: Rank::of(name, false) };
        }
    }
}

/// What is known about a span when it was read. It does not borrow the batch, which is to be changed.
struct Pending {
    /// Its place among the spans of the batch.
    at: usize,
    status: CostStatus,
    /// What is to be written if the span carries its cost.
    template: TemplateId,
    amounts: Amounts,
    /// Its number among the extras of the batch; most spans have none.
    extra: Option<usize>,
    /// Whether the span has none of the attributes that are written.
    is_plain: bool,
    /// Whether another Weir wrote its findings, which then stand.
    is_settled: bool,
    /// The span that carries the cost instead.
    deferred_to: Option<SpanId>,
    /// Whether it was counted when it came before.
    is_repeated: bool,
    tokens: Tokens,
    series: SeriesId,
    call: Option<Call>,
}

/// When a span's turn is: spans with a price first, then the most exact, then the innermost, which began last, then as
/// they came. It is one number because a batch is sorted by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u128);

impl Turn {
    /// The turn of the pending span `at` this place.
    fn new(is_priced: bool, is_estimate: bool, rank: Rank, start: u64, at: usize) -> Self {
        let class = u32::from(!is_priced) << 16 | u32::from(is_estimate) << 8 | rank as u32;
        Self(u128::from(class) << 96 | u128::from(!start) << 32 | at as u128)
    }

    fn at(self) -> usize {
        self.0 as u32 as usize
    }
}

impl Processor for CostProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        if let Some(catalog) = self.watch.changed() {
            self.output = Output::new(self.attributes, self.policy, catalog.version().to_owned());
            self.pricer = Pricer::new(catalog);
        }
        let (mut seen, mut alone) = ([0; CostStatus::ALL.len()], 0);
        self.output.begin();
        self.meter.begin();
        // Places are those of one batch.
        self.scope.place = None;
        self.pending.clear();
        self.extras.clear();
        let mut spans = 0;
        for span in batch.spans() {
            self.read(span, spans);
            spans += 1;
        }
        self.claim();

        let mut at = 0;
        let mut pending = self.pending.iter().peekable();
        let (output, meter, extras) = (&mut self.output, &mut self.meter, &self.extras);
        if !self.pending.is_empty() {
            batch.for_each_mut(|span| {
                if let Some(found) = pending.next_if(|pending| pending.at == at) {
                    let extra = found.extra.and_then(|at| extras.get(at)).unwrap_or(&Extra::NONE);
                    found.write(span, output, extra);
                    found.count(meter, extra);
                    if let Some(n) = seen.get_mut(found.status as usize) {
                        *n += 1;
                    }
                    alone += usize::from(found.is_alone());
                }
                at += 1;
            });
        }
        self.meter.end();
        seen[CostStatus::NotLlm as usize] = spans - self.pending.len();
        self.counters.add(seen, alone);
        out(batch);
    }
}

/// What each span of a batch would be written: its status and the span that carries its cost instead.
pub(super) fn outcomes(pricing: &Pricing, batch: &Batch) -> Vec<(CostStatus, Option<SpanId>)> {
    let (telemetry, settings) = (Telemetry::default(), pricing.settings.clone());
    let factory = CostFactory {
        catalog: LiveCatalog::fixed(Arc::clone(pricing.catalog())),
        counters: Counters::new(&telemetry, ""),
        meter: Meter::new(&telemetry, "", settings.max_metric_series),
        calls: settings.billed_once.map(|limits| Arc::new(Calls::new(limits))),
        environment: Environment::with(|| 0, 0),
        settings,
    };
    let mut processor = factory.processor();
    let mut outcomes = vec![(CostStatus::NotLlm, None); batch.len()];
    batch.spans().enumerate().for_each(|(at, span)| processor.read(span, at));
    processor.claim();
    for pending in &processor.pending {
        if let Some(outcome) = outcomes.get_mut(pending.at) {
            *outcome = (pending.status, pending.deferred_to);
        }
    }
    outcomes
}

/// Gives a call that does not tell its usage an estimated one, if that is wanted and possible; returns how.
#[cfg(feature = "estimate")]
pub(super) fn estimated(estimation: Estimation, span: Span<'_>, reading: &mut Reading<'_>) -> Option<&'static str> {
    let is_wanted = match estimation {
        Estimation::Off => false,
        Estimation::On => true,
        Estimation::Streams => reading.is_stream,
    };
    if !is_wanted || reading.usage != Err(CostStatus::NoUsage) {
        return None;
    }
    let estimate = crate::cost::estimate::estimate(span, reading)?;
    reading.usage = Ok(estimate.usage);
    Some(estimate.method)
}

/// This build cannot; the settings do not ask for it.
#[cfg(not(feature = "estimate"))]
pub(super) fn estimated(estimation: Estimation, _: Span<'_>, _: &mut Reading<'_>) -> Option<&'static str> {
    debug_assert_eq!(estimation, Estimation::Off);
    None
}

impl CostProcessor {
    /// Reads and prices a span, and keeps what is to be done with it.
    #[inline]
    fn read(&mut self, span: Span<'_>, at: usize) {
        let mut reader = UsageReader::default();
        span.read_to(&mut self.keys, &mut reader);
        self.scope.see(span.scope_name());
        let known = self.pricer.recall(&mut reader, &self.scope.name);
        let mut reading = reader.reading(&known.facts);
        if reading.usage == Err(CostStatus::NotLlm) {
            return;
        }
        let method = estimated(self.estimation, span, &mut reading);
        let rank = self.scope.rank;
        let origin = self.meter.origin(span.resource(), span.tenant());
        let project = self.pricer.catalog().project(&origin.project);
        let mut priced = self.pricer.price_found(&reading, known.found(), span.end_time_unix_nano(), project);
        if method.is_some() {
            priced.status = if priced.cost.is_some() { CostStatus::Estimated } else { CostStatus::NoUsage };
        }
        let given = reading.given_cost.filter(GivenCost::is_usd);
        let mut amounts = Amounts::of(&priced);
        let computed = priced.cost.map(|cost| cost.total);
        let mut words = Words::of(&priced, method);
        let mut status = priced.status;
        let earlier = CostStatus::from_name(reading.earlier_status.as_str());
        // A finding that promises a cost and has none is none.
        let is_broken = earlier.is_some_and(CostStatus::has_cost) && !has_amount(span);
        let is_settled = !reading.earlier_status.is_empty() && !is_broken;
        if let Some(earlier) = earlier.filter(|_| is_settled) {
            status = earlier;
        }
        if let (GivenCostPolicy::PreferGiven, Some(given)) = (self.policy, given)
            && (priced.status.has_cost() || priced.status.is_unpriced())
        {
            status = CostStatus::Given;
            words = Words { method, ..Words::default() };
            amounts = Amounts::default();
            amounts.set(Part::Total, Some(given.total));
            amounts.set(Part::Input, given.input);
            amounts.set(Part::Output, given.output);
        }
        let (project, environment) = (origin.project.as_bytes(), origin.environment.as_bytes());
        let call = self.calls.as_ref().and_then(|calls| {
            let id = SpanId { trace: *span.trace_id()?, span: *span.span_id()? };
            let response = Some(reading.response_id.as_bytes()).filter(|id| !id.is_empty());
            Some(Call {
                id,
                parent: span.parent_span_id().copied(),
                response: response.map(|id| calls.response_key(project, environment, id)),
                counts: counts(&priced.usage),
                time: [span.start_time_unix_nano(), span.end_time_unix_nano()],
                is_priced: status.has_cost(),
                is_estimate: matches!(priced.status, CostStatus::Estimated | CostStatus::NoUsage),
                rank: if reading.is_log { Rank::StreamLog } else { rank },
            })
        });
        let series = self.meter.series(
            priced.provider.unwrap_or_else(|| priced.span_provider.as_str()),
            priced.model.unwrap_or_else(|| priced.span_model.as_str()),
        );
        let extra = Extra {
            corrected: corrected(&reading, &priced.usage),
            given: given.map(|given| Given { total: given.total, computed }),
        };
        let extra = (!extra.is_empty()).then(|| {
            self.extras.push(extra);
            self.extras.len() - 1
        });
        self.pending.push(Pending {
            at,
            status,
            template: self.output.template(status, priced.price_id, words, &amounts),
            amounts,
            extra,
            is_plain: !reading.has_output_keys && reading.given_cost.is_none(),
            is_settled,
            deferred_to: None,
            is_repeated: false,
            tokens: Tokens::of(&priced.usage),
            series,
            call,
        });
    }

    /// Finds out which spans are billed.
    #[inline]
    fn claim(&mut self) {
        let Some(calls) = self.calls.as_ref().filter(|_| !self.pending.is_empty()) else { return };
        let now = self.environment.now_unix_nanos();
        self.turns.clear();
        for (at, pending) in self.pending.iter().enumerate() {
            if let Some(call) = &pending.call
                && pending.status != CostStatus::Aggregate
            {
                self.turns.push(Turn::new(call.is_priced, call.is_estimate, call.rank, call.time[0], at));
            }
        }
        self.turns.sort_unstable();
        let call_of = |turn: &Turn| self.pending.get(turn.at()).and_then(|pending| pending.call.as_ref());
        self.call_keys.clear();
        self.call_keys.extend(self.turns.iter().filter_map(call_of).map(|call| calls.keys(call)));
        let mut claims = calls.claims(&self.call_keys);
        for (turn, keys) in self.turns.iter().zip(&self.call_keys) {
            let Some(pending) = self.pending.get_mut(turn.at()) else { continue };
            let Some(call) = &pending.call else { continue };
            let (status, deferred_to) = match claims.claim_at(keys, call, now) {
                Claim::Billed | Claim::Unpriced => continue,
                Claim::BilledBefore => {
                    pending.is_repeated = true;
                    continue;
                }
                Claim::Duplicate(of) => (CostStatus::Duplicate, of),
                Claim::Aggregate(of) => (CostStatus::Aggregate, of),
            };
            (pending.status, pending.deferred_to) = (status, Some(deferred_to));
        }
        // Inner ones first, so that an agent of agents finds what its agents found.
        self.turns.clear();
        let aggregates = self.pending.iter().enumerate().filter(|(_, p)| p.status == CostStatus::Aggregate);
        self.turns.extend(aggregates.filter_map(|(at, pending)| {
            let call = pending.call.filter(|_| pending.deferred_to.is_none())?;
            Some(Turn::new(true, false, Rank::Native, call.time[0], at))
        }));
        self.turns.sort_unstable();
        for turn in &self.turns {
            if let Some(pending) = self.pending.get_mut(turn.at())
                && let Some(call) = &pending.call
            {
                pending.deferred_to = claims.below(call.id, call.parent, now);
            }
        }
    }
}

impl Pending {
    /// Whether it sums up calls of which none was seen, though calls are remembered.
    fn is_alone(&self) -> bool {
        let is_remembered = self.call.is_some() && !self.is_settled;
        self.status == CostStatus::Aggregate && self.deferred_to.is_none() && is_remembered
    }

    fn write(&self, span: &mut SpanMut<'_>, output: &mut Output, extra: &Extra) {
        if self.is_settled {
            // Another Weir was here before: its cost, with the catalog it names, stands.
        } else if matches!(self.status, CostStatus::Duplicate | CostStatus::Aggregate) {
            output.write_deferred(span, self.status, self.deferred_to, extra.given);
        } else {
            output.write(span, self.template, &self.amounts, extra, self.is_plain);
        }
    }

    fn count(&self, meter: &mut LaneMeter, extra: &Extra) {
        if self.is_repeated || !(self.status.has_cost() || self.status.is_unpriced()) {
            return;
        }
        meter.count(self.series, self.status, self.tokens, self.amounts.total());
        if let Some(Given { total, computed: Some(computed) }) = extra.given {
            meter.compare(self.series, total, computed);
        }
    }
}

/// Whether the span has an amount where a Weir writes it.
fn has_amount(span: Span<'_>) -> bool {
    span.attr(output::TOTAL).or_else(|| span.attr(output::AMOUNT)).and_then(money).is_some()
}

/// Input and output tokens where they differ from what the span reports.
fn corrected(reading: &Reading<'_>, usage: &Usage) -> [Option<u64>; 2] {
    let [input, output] = reading.reported;
    [usage.input.filter(|_| usage.input != input), usage.output.filter(|_| usage.output != output)]
}

fn counts(usage: &Usage) -> [u64; 2] {
    [usage.input.unwrap_or(0), usage.output.unwrap_or(0)]
}
