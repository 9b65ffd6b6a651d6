//! What is written to a span, in the families of attributes that are wanted.
//!
//! What is written to the spans of one price is the same but for the amounts: it is encoded once, as a template, and
//! copied from then on.

use weir_pipeline::batch::{AttributeBlock, DoubleSlot, NewValue, SpanMut};

use super::config::{Attributes, GivenCostPolicy};
use super::meter::difference;
use crate::cost::calls::SpanId;
use crate::cost::{CostStatus, Priced, Usd};

/// OTel proposal for costs (semantic-conventions-genai, pull request 443): a double in `CURRENCY`.
pub(super) const AMOUNT: &str = "gen_ai.usage.cost.amount";
const CURRENCY: &str = "gen_ai.usage.cost.currency";
/// `local` if the cost was computed, `application` if the span brought it along.
const SOURCE: &str = "gen_ai.usage.cost.source";
const STATUS: &str = "weir.cost.status";
/// The total where the proposal's key is not written, or is the application's.
pub(super) const TOTAL: &str = "weir.cost.total";
/// What the application said, in USD.
const GIVEN: &str = "weir.cost.given";
const LEGACY: &str = "gen_ai.usage.cost";
const OPEN_INFERENCE: &str = "llm.cost.total";
const LANGFUSE: &str = "langfuse.observation.cost_details";

/// A part of what a span cost, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::cost) enum Part {
    Total,
    Input,
    Output,
    CacheRead,
    CacheWrite,
}

/// The amounts of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cost) struct Amounts {
    /// By part; nothing where there is none.
    usd: [Usd; 5],
    /// A bit for each part that there is.
    present: u8,
}

impl Amounts {
    #[inline]
    pub(in crate::cost) fn of(priced: &Priced<'_, '_>) -> Self {
        let mut amounts = Self::default();
        let (Some(cost), usage) = (&priced.cost, &priced.usage) else { return amounts };
        amounts.set(Part::Total, Some(cost.total));
        amounts.set(Part::Input, usage.input.map(|_| cost.input));
        amounts.set(Part::Output, usage.output.map(|_| cost.output));
        amounts.set(Part::CacheRead, usage.cache_read.map(|_| cost.cache_read));
        amounts.set(Part::CacheWrite, usage.cache_write.map(|_| cost.cache_write));
        amounts
    }

    #[inline]
    pub(super) fn set(&mut self, part: Part, usd: Option<Usd>) {
        if let (Some(usd), Some(slot)) = (usd, self.usd.get_mut(part as usize)) {
            *slot = usd;
            self.present |= 1 << part as u8;
        }
    }

    #[inline]
    pub(in crate::cost) fn get(&self, part: Part) -> Option<Usd> {
        if self.present >> part as u8 & 1 == 0 { None } else { self.usd.get(part as usize).copied() }
    }

    /// All of it, if there is a cost.
    #[inline]
    pub(in crate::cost) fn total(&self) -> Option<Usd> {
        self.get(Part::Total)
    }

    /// What OpenInference calls the prompt's cost: all that is paid for input.
    fn prompt(&self) -> Option<Usd> {
        let cached = [Part::CacheRead, Part::CacheWrite].map(|part| self.get(part).unwrap_or_default());
        self.get(Part::Input).map(|input| input + cached[0] + cached[1])
    }
}

/// A cost that the application gave, beside the computed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) total: Usd,
    pub(super) computed: Option<Usd>,
}

impl Given {
    /// Given less computed, in pico-USD; 0 where nothing was computed.
    fn difference(self) -> i128 {
        self.computed.map_or(0, |computed| difference(self.total, computed))
    }
}

/// What is written to one span besides the template's part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extra {
    /// Input and output tokens where they differ from what the span reports.
    pub(super) corrected: [Option<u64>; 2],
    pub(super) given: Option<Given>,
}

impl Extra {
    pub(super) const NONE: Self = Self { corrected: [None; 2], given: None };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.corrected == [None; 2] && self.given.is_none()
    }
}

/// Writes what was found.
#[derive(Debug)]
pub(super) struct Output {
    attributes: Attributes,
    policy: GivenCostPolicy,
    catalog: String,
    templates: Vec<Template>,
}

/// A place among the templates, valid until [`Output::begin`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TemplateId(usize);

/// Words about how a cost came about, besides its status and price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cost) struct Words {
    /// How counts were estimated.
    pub(super) method: Option<&'static str>,
    /// How the model was recognised, if not by its name as given.
    pub(super) confidence: Option<&'static str>,
    /// What the cost leaves out or takes to be as usual.
    pub(in crate::cost) caveat: Option<&'static str>,
}

impl Words {
    pub(in crate::cost) fn of(priced: &Priced<'_, '_>, method: Option<&'static str>) -> Self {
        let caveat = match priced.cost.map(|cost| (cost.tier_unknown, cost.fee_unknown)) {
            None | Some((false, false)) => None,
            Some((true, false)) => Some("tier_unknown"),
            Some((false, true)) => Some("fee_unknown"),
            Some((true, true)) => Some("tier_and_fee_unknown"),
        };
        let confidence = priced.matched.map(|found| found.confidence()).filter(|word| *word != "exact");
        Self { method, confidence: confidence.filter(|_| priced.cost.is_some()), caveat }
    }
}

#[derive(Debug)]
struct Template {
    status: CostStatus,
    price_id: Option<String>,
    /// Where the catalog has that id.
    place: (usize, usize),
    words: Words,
    /// Which amounts there are.
    present: u8,
    block: AttributeBlock,
    /// Where those amounts stand.
    slots: Vec<DoubleSlot>,
}

/// More prices than this at a time is not what one application uses; the templates are then made anew.
const MAX_TEMPLATES: usize = 64;

impl Output {
    pub(super) fn new(attributes: Attributes, policy: GivenCostPolicy, catalog: String) -> Self {
        Self { attributes, policy, catalog, templates: Vec::new() }
    }

    /// To be called before each batch.
    pub(super) fn begin(&mut self) {
        if self.templates.len() > MAX_TEMPLATES {
            self.templates.clear();
        }
    }

    /// The template for spans of this status and price.
    pub(super) fn template(
        &mut self,
        status: CostStatus,
        price_id: Option<&str>,
        words: Words,
        amounts: &Amounts,
    ) -> TemplateId {
        let present = amounts.present;
        // The catalog has each id in one place, and templates are of one catalog.
        let place = price_id.map_or((0, 0), |id| (id.as_ptr() as usize, id.len()));
        let is_like = |t: &Template| t.place == place && t.status == status && t.present == present && t.words == words;
        let known = self.templates.iter().position(is_like);
        TemplateId(known.unwrap_or_else(|| {
            let (mut block, mut slots) = (AttributeBlock::default(), Vec::new());
            let price_id = price_id.map(str::to_owned);
            let found = Found { status, price_id: price_id.as_deref(), words, amounts, source: "local" };
            // The only doubles are amounts, in an order that depends on which there are.
            self.put(&found, &Groups::ALL, &mut |key, value| match value {
                NewValue::Double(_) => slots.push(block.push_double(key)),
                value => block.push(key, value),
            });
            self.templates.push(Template { status, price_id, place, words, present, block, slots });
            self.templates.len() - 1
        }))
    }

    /// Writes what the template says with these amounts. `is_plain` says that the span has none of the keys that are
    /// written.
    pub(super) fn write(
        &mut self,
        span: &mut SpanMut<'_>,
        id: TemplateId,
        amounts: &Amounts,
        extra: &Extra,
        is_plain: bool,
    ) {
        if self.attributes == Attributes::default() {
            return;
        }
        if is_plain && extra.is_empty() {
            self.append(span, id, amounts);
        } else {
            self.set(span, id, amounts, extra);
        }
        if self.attributes.langfuse
            && let Some(json) = langfuse(amounts)
            && !(self.policy == GivenCostPolicy::Keep && has(span, LANGFUSE))
        {
            span.set(LANGFUSE, NewValue::Str(&json));
        }
    }

    /// Writes that another span carries the cost, and which.
    pub(super) fn write_deferred(
        &self,
        span: &mut SpanMut<'_>,
        status: CostStatus,
        to: Option<SpanId>,
        given: Option<Given>,
    ) {
        if !self.attributes.weir {
            return;
        }
        span.set(STATUS, NewValue::Str(status.as_str()));
        if let Some(given) = given {
            span.set(GIVEN, NewValue::Double(given.total.to_f64()));
        }
        if let Some(to) = to {
            span.set("weir.cost.deferred_to", NewValue::Str(&to.to_string()));
        }
    }

    fn append(&mut self, span: &mut SpanMut<'_>, id: TemplateId, amounts: &Amounts) {
        let attributes = self.attributes;
        let Some(template) = self.templates.get_mut(id.0) else { return };
        let mut slots = template.slots.iter();
        let block = &mut template.block;
        for_each_amount(attributes, &Groups::ALL, amounts, |_, usd| {
            if let Some(slot) = slots.next() {
                block.set_double(*slot, usd.to_f64());
            }
        });
        span.append_absent(block);
    }

    fn set(&self, span: &mut SpanMut<'_>, id: TemplateId, amounts: &Amounts, extra: &Extra) {
        let Some(template) = self.templates.get(id.0) else { return };
        let keep = self.policy == GivenCostPolicy::Keep;
        let groups = Groups {
            otel: !(keep && has(span, AMOUNT)),
            legacy: !(keep && has(span, LEGACY)),
            open_inference: !(keep && has(span, OPEN_INFERENCE)),
        };
        let source = if template.status == CostStatus::Given { "application" } else { "local" };
        let (status, price_id) = (template.status, template.price_id.as_deref());
        let found = Found { status, price_id, words: template.words, amounts, source };
        self.put(&found, &groups, &mut |key, value| span.set(key, value));
        // Readers look here first: no other amount may stand here, such as one of a finding that did not count.
        if let Some(total) = amounts.total()
            && has(span, TOTAL)
        {
            span.set(TOTAL, NewValue::Double(total.to_f64()));
        }
        if !self.attributes.weir {
            return;
        }
        // Inclusive of cached and reasoning tokens, where the span's own counts are not.
        for (key, count) in ["weir.usage.input_tokens", "weir.usage.output_tokens"].into_iter().zip(extra.corrected) {
            if let (true, Some(count)) = (status.has_cost(), count.and_then(|n| i64::try_from(n).ok())) {
                span.set(key, NewValue::Int(count));
            }
        }
        if let Some(given) = extra.given {
            span.set(GIVEN, NewValue::Double(given.total.to_f64()));
        }
        if let Some(pico) = extra.given.map(Given::difference).filter(|pico| *pico != 0) {
            span.set("weir.cost.given_difference", NewValue::Double(pico as f64 / 1e12));
        }
    }

    fn put(&self, found: &Found<'_>, groups: &Groups, put: &mut dyn FnMut(&str, NewValue<'_>)) {
        let attributes = self.attributes;
        if found.amounts.total().is_some() {
            for_each_amount(attributes, groups, found.amounts, |key, usd| put(key, NewValue::Double(usd.to_f64())));
            if attributes.otel && groups.otel {
                put(CURRENCY, NewValue::Str("USD"));
                put(SOURCE, NewValue::Str(found.source));
            }
        }
        if attributes.weir {
            put(STATUS, NewValue::Str(found.status.as_str()));
            let Words { method, confidence, caveat } = found.words;
            let words =
                [("weir.usage.method", method), ("weir.cost.confidence", confidence), ("weir.cost.caveat", caveat)];
            for (key, word) in words {
                if let Some(word) = word {
                    put(key, NewValue::Str(word));
                }
            }
            if let (Some(price_id), true) = (found.price_id, found.amounts.total().is_some()) {
                put("weir.cost.price_id", NewValue::Str(price_id));
                put("weir.cost.catalog", NewValue::Str(&self.catalog));
            }
        }
    }
}

struct Found<'f> {
    status: CostStatus,
    price_id: Option<&'f str>,
    words: Words,
    amounts: &'f Amounts,
    source: &'static str,
}

/// Families that may be written to this span; others keep what the application wrote.
struct Groups {
    otel: bool,
    legacy: bool,
    open_inference: bool,
}

impl Groups {
    const ALL: Self = Self { otel: true, legacy: true, open_inference: true };
}

/// All doubles, always in the same order.
#[inline]
fn for_each_amount(wanted: Attributes, groups: &Groups, amounts: &Amounts, mut put: impl FnMut(&'static str, Usd)) {
    let mut each = |key, usd: Option<Usd>| {
        if let Some(usd) = usd {
            put(key, usd);
        }
    };
    let otel = wanted.otel && groups.otel;
    if otel || wanted.weir {
        each(if otel { AMOUNT } else { TOTAL }, amounts.total());
    }
    if wanted.weir {
        each("weir.cost.input", amounts.get(Part::Input));
        each("weir.cost.output", amounts.get(Part::Output));
        each("weir.cost.cache_read", amounts.get(Part::CacheRead));
        each("weir.cost.cache_write", amounts.get(Part::CacheWrite));
    }
    if wanted.legacy && groups.legacy {
        each(LEGACY, amounts.total());
    }
    if wanted.open_inference && groups.open_inference {
        each(OPEN_INFERENCE, amounts.total());
        each("llm.cost.prompt", amounts.prompt());
        each("llm.cost.completion", amounts.get(Part::Output));
        each("llm.cost.prompt_details.cache_read", amounts.get(Part::CacheRead));
        each("llm.cost.prompt_details.cache_write", amounts.get(Part::CacheWrite));
    }
}

/// Langfuse's costs by kind: a JSON object of exact decimals.
fn langfuse(amounts: &Amounts) -> Option<String> {
    let total = amounts.total()?;
    let parts = [
        ("input", amounts.get(Part::Input)),
        ("output", amounts.get(Part::Output)),
        ("cache_read_input_tokens", amounts.get(Part::CacheRead)),
        ("cache_creation_input_tokens", amounts.get(Part::CacheWrite)),
        ("total", Some(total)),
    ];
    let parts: Vec<_> = parts.iter().filter_map(|(key, usd)| Some(format!("\"{key}\":{}", (*usd)?))).collect();
    Some(format!("{{{}}}", parts.join(",")))
}

fn has(span: &SpanMut<'_>, key: &str) -> bool {
    span.view().attr(key).is_some()
}
