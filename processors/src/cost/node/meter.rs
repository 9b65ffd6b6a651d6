//! What the spans cost, as counters by project, environment, provider and model.
//!
//! | counter | labels besides those four | meaning |
//! |---|---|---|
//! | `weir_cost_picousd` | `processor` | cost of the billed spans in 10⁻¹² USD |
//! | `weir_cost_tokens` | `processor`, `type` | tokens of all calls, each call once; `cache_read` and `cache_write` are parts of `input`, `reasoning` is one of `output` |
//! | `weir_cost_unpriced_spans` | `processor`, `reason` | calls without a cost, by status |
//! | `weir_cost_aggregates_alone` | `processor` alone | agents and the like with usage, below which no billed call was seen: where their calls come neither later, nor elsewhere, nor below spans without usage, nobody is billed for it |
//! | `weir_cost_given_picousd`, `weir_cost_given_computed_picousd` | `processor` | the costs that applications gave, and what was computed for the same spans |
//! | `weir_cost_given_spans` | `processor`, `result` | those spans by comparison: the given cost is `equal`, `higher`, `lower` |
//!
//! Pico-USD are whole, so a sum is exact to the last digit whatever the order; a counter of 64 bits holds 18 million
//! USD, after which it starts again, which its readers take for a restart. Divide by 10¹² for USD.
//!
//! The number of different label sets is limited; those beyond the limit are counted under `overflow`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use weir_pipeline::batch::view::{Resource, Value};
use weir_pipeline::telemetry::{Counter, Telemetry};
use weir_pipeline::tenant::Tenant;

use crate::cost::{CostStatus, Usage, Usd};

/// What all lanes of a processor share.
#[derive(Debug, Clone)]
pub(super) struct Meter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    telemetry: Telemetry,
    processor: String,
    /// The label sets there are.
    known: Mutex<HashSet<Box<[u8]>>>,
    max: usize,
}

/// The counters of one lane.
#[derive(Debug)]
pub(super) struct LaneMeter {
    meter: Meter,
    /// By the labels, with a zero byte behind each.
    ids: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    series: Vec<Series>,
    /// Those that the batch at hand adds to.
    touched: Vec<SeriesId>,
    key: Vec<u8>,
    /// Where the resource of the last span is, and its tenant; and its labels.
    resource: Option<(usize, usize)>,
    origin: Origin,
    /// Where the names of provider and model of the last label sets are: places of one batch and one origin.
    recent: Vec<([(usize, usize); 2], SeriesId)>,
}

/// A label set, valid for the life of the lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesId(usize);

/// The labels that a resource gives.
#[derive(Debug, Clone, Default)]
pub(in crate::cost) struct Origin {
    pub(in crate::cost) project: String,
    pub(in crate::cost) environment: String,
}

#[derive(Debug)]
struct Series {
    labels: [String; 4],
    cost: Counter,
    tokens: [Counter; TOKEN_TYPES.len()],
    unpriced: [Option<Counter>; CostStatus::ALL.len()],
    given: Option<GivenSeries>,
    sums: Sums,
}

/// What a batch adds to the counters of a series: one addition that other threads see instead of one a span.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    is_any: bool,
    tokens: [usize; TOKEN_TYPES.len()],
    cost: usize,
}

#[derive(Debug)]
struct GivenSeries {
    given: Counter,
    computed: Counter,
    /// Equal, higher, lower.
    results: [Counter; 3],
}

/// Tokens of a call, in the order of [`TOKEN_TYPES`]; 0 also where it does not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens([u64; TOKEN_TYPES.len()]);

impl Tokens {
    pub(super) fn of(usage: &Usage) -> Self {
        let counts = [usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning];
        Self(counts.map(|count| count.unwrap_or(0)))
    }
}

const TOKEN_TYPES: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];
const OVERFLOW: &str = "overflow";
/// Label sets that are found without reading their names.
const MAX_RECENT: usize = 8;
/// Longer names are cut: labels are for people and databases, not for payloads.
const MAX_LABEL: usize = 128;

impl Meter {
    pub(super) fn new(telemetry: &Telemetry, processor: &str, max_series: usize) -> Self {
        Self(Arc::new(Shared {
            telemetry: telemetry.clone(),
            processor: processor.to_owned(),
            known: Mutex::default(),
            max: max_series,
        }))
    }

    pub(super) fn lane(&self) -> LaneMeter {
        LaneMeter {
            meter: self.clone(),
            ids: HashMap::default(),
            series: Vec::new(),
            touched: Vec::new(),
            key: Vec::new(),
            resource: None,
            origin: Origin::default(),
            recent: Vec::new(),
        }
    }

    /// Whether there is room for this label set.
    fn admit(&self, key: &[u8]) -> bool {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(key) || (known.len() < self.0.max && known.insert(key.into()))
    }

    fn counter(&self, name: &str, labels: &[String; 4], more: Option<(&'static str, &str)>) -> Counter {
        let [project, environment, provider, model] = labels;
        let labels = [
            ("processor", self.0.processor.as_str()),
            ("project", project),
            ("environment", environment),
            ("provider", provider),
            ("model", model),
        ];
        let labels: Vec<_> = labels.into_iter().chain(more).collect();
        self.0.telemetry.counter(name, &labels)
    }
}

impl LaneMeter {
    /// To be called before each batch: resources are told apart by their place in memory.
    pub(super) fn begin(&mut self) {
        self.resource = None;
        self.recent.clear();
    }

    /// Project and environment of the resource: its tenant's, and where nobody knows it what its attributes say.
    pub(super) fn origin(&mut self, resource: Resource<'_>, tenant: Option<&Tenant>) -> &Origin {
        let tenant_place = tenant.map_or(0, |tenant| std::ptr::from_ref(tenant) as usize);
        let place = Some((resource.as_bytes().as_ptr() as usize, tenant_place));
        if self.resource != place {
            self.resource = place;
            self.recent.clear();
            self.origin = tenant.map_or_else(|| Origin::of(resource), Origin::of_tenant);
        }
        &self.origin
    }

    /// The label set of a span of the last resource asked for.
    pub(super) fn series(&mut self, provider: &str, model: &str) -> SeriesId {
        // The catalog's names are the same ones in memory each time.
        let places = [provider, model].map(|name| (name.as_ptr() as usize, name.len()));
        if let Some((_, id)) = self.recent.iter().find(|(known, _)| *known == places) {
            return *id;
        }
        let id = self.series_by_name(provider, model);
        if self.recent.len() < MAX_RECENT {
            self.recent.push((places, id));
        }
        id
    }

    fn series_by_name(&mut self, provider: &str, model: &str) -> SeriesId {
        self.key.clear();
        for label in [&self.origin.project, &self.origin.environment, cut(provider), cut(model)] {
            self.key.extend_from_slice(label.as_bytes());
            self.key.push(0);
        }
        if let Some(id) = self.ids.get(&*self.key) {
            return SeriesId(*id);
        }
        let labels = if self.meter.admit(&self.key) {
            [&self.origin.project, &self.origin.environment, cut(provider), cut(model)].map(str::to_owned)
        } else {
            [OVERFLOW; 4].map(str::to_owned)
        };
        let id = self.series_of(labels);
        // The overflow is not remembered by name, or memory would grow with the names.
        if self.series.get(id).is_some_and(|series| series.labels[0] != OVERFLOW) {
            self.ids.insert(self.key.as_slice().into(), id);
        }
        SeriesId(id)
    }

    fn series_of(&mut self, labels: [String; 4]) -> usize {
        if let Some(at) = self.series.iter().position(|series| series.labels == labels) {
            return at;
        }
        let meter = &self.meter;
        self.series.push(Series {
            cost: meter.counter("weir_cost_picousd", &labels, None),
            tokens: TOKEN_TYPES.map(|kind| meter.counter("weir_cost_tokens", &labels, Some(("type", kind)))),
            unpriced: Default::default(),
            given: None,
            sums: Sums::default(),
            labels,
        });
        self.series.len() - 1
    }

    /// To be called after each batch: what was counted is then seen.
    pub(super) fn end(&mut self) {
        for id in self.touched.drain(..) {
            let Some(series) = self.series.get_mut(id.0) else { continue };
            let Sums { tokens, cost, .. } = std::mem::take(&mut series.sums);
            let counters = series.tokens.iter().chain([&series.cost]);
            counters.zip(tokens.into_iter().chain([cost])).filter(|(_, n)| *n > 0).for_each(|(c, n)| c.add(n));
        }
    }

    /// Counts a call's tokens and, if it has one, its cost; else why it has none.
    pub(super) fn count(&mut self, id: SeriesId, status: CostStatus, tokens: Tokens, cost: Option<Usd>) {
        let Some(series) = self.series.get_mut(id.0) else { return };
        if !std::mem::replace(&mut series.sums.is_any, true) {
            self.touched.push(id);
        }
        for (sum, n) in series.sums.tokens.iter_mut().zip(tokens.0) {
            *sum = sum.wrapping_add(n as usize);
        }
        series.sums.cost = series.sums.cost.wrapping_add(cost.map_or(0, whole));
        if let (true, Some(counter)) = (status.is_unpriced(), series.unpriced.get_mut(status as usize)) {
            let reason = Some(("reason", status.as_str()));
            counter
                .get_or_insert_with(|| self.meter.counter("weir_cost_unpriced_spans", &series.labels, reason))
                .add(1);
        }
    }

    /// Compares the cost an application gave with the computed one.
    pub(super) fn compare(&mut self, id: SeriesId, given: Usd, computed: Usd) {
        let (Some(series), meter) = (self.series.get_mut(id.0), &self.meter) else { return };
        let labels = &series.labels;
        let counters = series.given.get_or_insert_with(|| GivenSeries {
            given: meter.counter("weir_cost_given_picousd", labels, None),
            computed: meter.counter("weir_cost_given_computed_picousd", labels, None),
            results: ["equal", "higher", "lower"]
                .map(|result| meter.counter("weir_cost_given_spans", labels, Some(("result", result)))),
        });
        counters.given.add(whole(given));
        counters.computed.add(whole(computed));
        let [equal, higher, lower] = &counters.results;
        let result = match difference(given, computed) {
            0 => equal,
            n if n > 0 => higher,
            _ => lower,
        };
        result.add(1);
    }
}

impl Origin {
    pub(in crate::cost) fn of_tenant(tenant: &Tenant) -> Self {
        Self { project: tenant.project.to_string(), environment: tenant.environment.to_string() }
    }

    pub(in crate::cost) fn of(resource: Resource<'_>) -> Self {
        let (mut project, mut environment) = ([""; 2], [""; 2]);
        for (key, value) in resource.attributes().iter() {
            let Value::Str(text) = value else { continue };
            match key.as_bytes() {
                b"weir.project" => project[0] = text.as_str(),
                b"service.namespace" => project[1] = text.as_str(),
                b"deployment.environment.name" => environment[0] = text.as_str(),
                b"deployment.environment" => environment[1] = text.as_str(),
                _ => {}
            }
        }
        let first =
            |names: [&str; 2]| cut(names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()).to_owned();
        Self { project: first(project), environment: first(environment) }
    }
}

/// Given less computed, in pico-USD. Amounts that differ only in how a double was rounded do not differ.
pub(super) fn difference(given: Usd, computed: Usd) -> i128 {
    let difference = given.as_pico() as i128 - computed.as_pico() as i128;
    let tolerance = given.as_pico().max(computed.as_pico()) / 1_000_000_000;
    if difference.unsigned_abs() <= tolerance { 0 } else { difference }
}

fn whole(cost: Usd) -> usize {
    usize::try_from(cost.as_pico()).unwrap_or(usize::MAX)
}

fn cut(text: &str) -> &str {
    if text.len() <= MAX_LABEL {
        return text;
    }
    let end = (0..=MAX_LABEL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}
