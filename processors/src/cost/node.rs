//! The `cost` processor: prices every span that stands for a model call and writes what it found beside the usage.

use std::sync::Arc;

use serde::Deserialize;
use weir_pipeline::batch::{AttributeBlock, Batch, DoubleSlot, KeyReader, NewValue, SpanMut};
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};
use weir_pipeline::telemetry::{Counter, Telemetry};

use super::{Catalog, CostStatus, Meaning, Priced, Pricer, UsageReader, Usd};

/// OTel proposal for costs (semantic-conventions-genai, pull request 443): a double in `CURRENCY`.
const AMOUNT: &str = "gen_ai.usage.cost.amount";
const CURRENCY: &str = "gen_ai.usage.cost.currency";
/// `provider` if the response brought the cost along, `local` if it was computed.
const SOURCE: &str = "gen_ai.usage.cost.source";
const STATUS: &str = "weir.cost.status";

/// Settings of the `cost` processor. It has none yet.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<Settings>()
}

/// Builds the processor from its configuration.
///
/// # Errors
/// If there is a key, or the embedded catalog cannot be read.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    section.node.parse_as::<Settings>(section.path)?;
    let catalog =
        Catalog::embedded().map_err(|e| section.node.error(section.path, format!("the price catalog: {e}")))?;
    Ok(Arc::new(CostFactory { catalog, counters: Counters::new(&section.context.telemetry, &section.context.id) }))
}

struct CostFactory {
    catalog: Arc<Catalog>,
    counters: Counters,
}

impl ProcessorFactory for CostFactory {
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(CostProcessor {
            version: self.catalog.version().to_string(),
            pricer: Pricer::new(Arc::clone(&self.catalog)),
            counters: self.counters.clone(),
            templates: Templates::default(),
            keys: KeyReader::new(Meaning::of),
        })
    }
}

/// Spans by what pricing said of them: `weir_cost_spans{processor, status}`.
#[derive(Clone)]
struct Counters([Counter; CostStatus::ALL.len()]);

impl Counters {
    fn new(telemetry: &Telemetry, processor: &str) -> Self {
        let counter = |status: CostStatus| {
            telemetry.counter("weir_cost_spans", &[("processor", processor), ("status", status.as_str())])
        };
        Self(CostStatus::ALL.map(counter))
    }

    fn add(&self, seen: [usize; CostStatus::ALL.len()]) {
        for (counter, n) in self.0.iter().zip(seen).filter(|(_, n)| *n > 0) {
            counter.add(n);
        }
    }
}

struct CostProcessor {
    pricer: Pricer,
    version: String,
    counters: Counters,
    templates: Templates,
    keys: KeyReader<Meaning>,
}

impl Processor for CostProcessor {
    fn process(&mut self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let mut seen = [0; CostStatus::ALL.len()];
        batch.for_each_mut(|span| {
            let status = self.price(span);
            if let Some(n) = seen.get_mut(status as usize) {
                *n += 1;
            }
        });
        self.counters.add(seen);
        out(batch);
    }
}

impl CostProcessor {
    fn price(&mut self, span: &mut SpanMut<'_>) -> CostStatus {
        let Self { pricer, version, templates, keys, .. } = self;
        let mut reader = UsageReader::default();
        let view = span.view();
        view.read(keys, |meaning, kv| reader.visit_known(meaning, kv.value()));
        let reading = reader.finish(view.scope_name().as_str());
        let priced = pricer.price_reading(&reading, view.end_time_unix_nano());
        let found = Found::of(&priced, reading.reported);
        if priced.status == CostStatus::NotLlm {
            // Nothing to say.
        } else if !priced.has_output_keys && found.corrected == [None; 2] {
            span.append_absent(templates.fill(&found, version));
        } else if !priced.has_output_keys {
            found.write(version, true, &mut |key, value| span.insert_absent(key, value));
        } else if view.attr(STATUS).is_none() {
            // A cost that the application gave stands; what Weir computes is written beside it.
            let own_amount = view.attr(AMOUNT).is_none();
            found.write(version, own_amount, &mut |key, value| span.set(key, value));
        }
        // Else another Weir was here before: its cost, with the catalog it names, stands.
        found.status
    }
}

/// What is written to the spans of one price is the same but for the amounts: it is encoded once and copied from then on.
#[derive(Default)]
struct Templates(Vec<Template>);

struct Template {
    price_id: Option<String>,
    status: CostStatus,
    /// Which amounts there are.
    amounts: [bool; 5],
    block: AttributeBlock,
    /// Where those amounts stand.
    slots: Vec<DoubleSlot>,
}

/// More prices than this at a time is not what one application uses; the templates are then made anew.
const MAX_TEMPLATES: usize = 64;

impl Templates {
    /// The block for what was found, valid until the next call.
    fn fill(&mut self, found: &Found<'_>, catalog: &str) -> &AttributeBlock {
        let amounts = found.amounts.map(|a| a.is_some());
        let known = self
            .0
            .iter()
            .position(|t| t.status == found.status && t.amounts == amounts && t.price_id.as_deref() == found.price_id);
        let at = known.unwrap_or_else(|| {
            if self.0.len() >= MAX_TEMPLATES {
                self.0.clear();
            }
            self.0.push(Template::new(found, amounts, catalog));
            self.0.len() - 1
        });
        let template = &mut self.0[at];
        for (slot, amount) in template.slots.iter().zip(found.amounts.iter().flatten()) {
            template.block.set_double(*slot, amount.to_f64());
        }
        &template.block
    }
}

impl Template {
    fn new(found: &Found<'_>, amounts: [bool; 5], catalog: &str) -> Self {
        let (mut block, mut slots) = (AttributeBlock::default(), Vec::new());
        // The only doubles are the amounts, in their order.
        found.write(catalog, true, &mut |key, value| match value {
            NewValue::Double(_) => slots.push(block.push_double(key)),
            value => block.push(key, value),
        });
        Self { price_id: found.price_id.map(str::to_owned), status: found.status, amounts, block, slots }
    }
}

/// What is written, free of the span it was read from.
struct Found<'p> {
    status: CostStatus,
    amounts: [Option<Usd>; 5],
    price_id: Option<&'p str>,
    /// Input and output tokens where they differ from what the span reports.
    corrected: [Option<u64>; 2],
}

impl<'p> Found<'p> {
    fn of(priced: &Priced<'p, '_>, reported: [Option<u64>; 2]) -> Self {
        let (cost, usage) = (priced.cost, &priced.usage);
        Self {
            status: priced.status,
            amounts: [
                cost.map(|c| c.total),
                cost.filter(|_| usage.input.is_some()).map(|c| c.input),
                cost.filter(|_| usage.output.is_some()).map(|c| c.output),
                cost.filter(|_| usage.cache_read.is_some()).map(|c| c.cache_read),
                cost.filter(|_| usage.cache_write.is_some()).map(|c| c.cache_write),
            ],
            price_id: priced.price_id,
            corrected: [
                usage.input.filter(|_| usage.input != reported[0]),
                usage.output.filter(|_| usage.output != reported[1]),
            ],
        }
    }

    fn write(&self, catalog: &str, own_amount: bool, put: &mut dyn FnMut(&str, NewValue<'_>)) {
        let [total, input, output, cache_read, cache_write] = self.amounts;
        if let (Some(total), true) = (total, own_amount) {
            put(AMOUNT, NewValue::Double(total.to_f64()));
            put(CURRENCY, NewValue::Str("USD"));
            put(SOURCE, NewValue::Str("local"));
        }
        let parts = [
            ("weir.cost.input", input),
            ("weir.cost.output", output),
            ("weir.cost.cache_read", cache_read),
            ("weir.cost.cache_write", cache_write),
        ];
        for (key, amount) in parts {
            if let Some(amount) = amount {
                put(key, NewValue::Double(amount.to_f64()));
            }
        }
        put(STATUS, NewValue::Str(self.status.as_str()));
        if let (Some(price_id), Some(_)) = (self.price_id, total) {
            put("weir.cost.price_id", NewValue::Str(price_id));
            put("weir.cost.catalog", NewValue::Str(catalog));
            // Inclusive of cached and reasoning tokens, where the span's own counts are not.
            let [input, output] = self.corrected;
            for (key, count) in [("weir.usage.input_tokens", input), ("weir.usage.output_tokens", output)] {
                if let Some(count) = count.and_then(|n| i64::try_from(n).ok()) {
                    put(key, NewValue::Int(count));
                }
            }
        }
    }
}
