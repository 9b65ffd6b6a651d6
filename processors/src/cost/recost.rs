//! Costs of stored spans, computed again.
//!
//! The amounts come from the functions that the processor itself has: reader, estimate, matcher, catalog, arithmetic
//! (invariant I8). What the processor decided about spans among each other stands:
//!
//! | a span whose status is | |
//! |---|---|
//! | `priced`, `estimated` | is priced anew; it loses its cost, with a status that says why, where the catalog has no price now |
//! | `duplicate`, `aggregate` | stays: it has no cost |
//! | `given` | stays: its cost is the application's |
//! | anything else, or none because no processor saw it | is priced anew, and if that gives a cost, claims its call as it would have on arrival |
//!
//! So that a call is still billed once when several of its spans get a price, those that have one claim first, then the
//! others in the processor's order ([`calls`](super::calls)); where a span of the call was billed before in another file
//! that comes later, that one becomes the duplicate. The limits are those of the processor's settings: calls whose spans
//! are further apart than its window are not recognised.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};

use weir_pipeline::batch::Span;

use super::calls::{Call, Calls, Claim, Rank, SpanId};
use super::node::{Amounts, Origin, Part, Words, estimated};
use super::{CostStatus, Pricer, Pricing, UsageReader, Usd};

/// What is stored about a span's cost, as far as it decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored<'a> {
    /// Its status; `None` if it has none, which the span's own attribute may then tell.
    pub status: Option<&'a str>,
    /// Whether its cost may be changed; else it is only looked at for the sake of others.
    pub may_change: bool,
    /// When it was stored, in nanoseconds since the epoch.
    pub arrival_unix_nanos: u64,
}

/// What a span costs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recosted {
    /// The status.
    pub status: CostStatus,
    /// The status that stood before; `None` if no processor saw the span.
    pub earlier: Option<CostStatus>,
    /// The span that carries the cost instead, of a duplicate or aggregate.
    pub deferred_to: Option<SpanId>,
    /// The cost; `None` unless the status has one.
    pub total: Option<Usd>,
    /// The part for input that is not cached.
    pub input: Option<Usd>,
    /// The part for output.
    pub output: Option<Usd>,
    /// The part for input from the cache.
    pub cache_read: Option<Usd>,
    /// The part for input into the cache.
    pub cache_write: Option<Usd>,
    /// Id of the price.
    pub price_id: Option<String>,
    /// What the cost leaves out or takes to be as usual.
    pub caveat: Option<&'static str>,
}

/// Prices spans again, in groups such as a file: [`read`](Self::read) all of a group, then [`decide`](Self::decide).
#[derive(Debug)]
pub struct Recost {
    pricing: Pricing,
    pricer: Pricer,
    calls: Option<Calls>,
    /// Whose spans these are; empty where their resources say.
    project: String,
    /// Spans that were billed in this run, the latest of them.
    billed: Billed,
    pending: Vec<Pending>,
    read: usize,
}

#[derive(Debug)]
struct Pending {
    at: usize,
    call: Option<Call>,
    /// Whether it carried the cost of its call before.
    was_billed: bool,
    may_change: bool,
    now: u64,
    found: Recosted,
}

impl Recost {
    /// With these prices and settings. All spans are the `project`'s; an empty one leaves it to their
    /// resources.
    pub fn new(pricing: &Pricing, project: &str) -> Self {
        let limits = pricing.settings.billed_once;
        Self {
            pricer: Pricer::new(pricing.catalog().clone()),
            calls: limits.map(Calls::new),
            billed: Billed::new(limits.map_or(0, |limits| limits.max_calls)),
            pricing: pricing.clone(),
            project: project.to_owned(),
            pending: Vec::new(),
            read: 0,
        }
    }

    /// Reads the next span of the group; returns its number if [`decide`](Self::decide) is going to say something of it.
    pub fn read(&mut self, span: Span<'_>, stored: Stored<'_>) -> Option<usize> {
        let at = self.read;
        self.read += 1;
        let mut reader = UsageReader::default();
        reader.visit_all(span);
        let scope = span.scope_name();
        let (mut reading, found) = self.pricer.read(&mut reader, scope.as_str());
        if reading.usage == Err(CostStatus::NotLlm) {
            return None;
        }
        let earlier = stored.status.or(Some(reading.earlier_status.as_str())).and_then(CostStatus::from_name);
        let stays = [CostStatus::Duplicate, CostStatus::Aggregate, CostStatus::Given];
        let is_settled = earlier.is_some_and(|status| stays.contains(&status));
        let was_billed = earlier.is_some_and(CostStatus::has_cost);
        if is_settled && !was_billed {
            return None;
        }
        let was_estimated = earlier == Some(CostStatus::Estimated);
        let method = estimated(self.pricing.settings.estimation(was_estimated), span, &mut reading);
        let origin = Origin::of(span.resource());
        let name = if self.project.is_empty() { &origin.project } else { &self.project };
        let project = self.pricer.catalog().project(name);
        let mut priced = self.pricer.price_found(&reading, found, span.end_time_unix_nano(), project);
        if method.is_some() {
            priced.status = if priced.cost.is_some() { CostStatus::Estimated } else { CostStatus::NoUsage };
        }
        let amounts = Amounts::of(&priced);
        let found = Recosted {
            status: priced.status,
            earlier,
            deferred_to: None,
            total: amounts.total(),
            input: amounts.get(Part::Input),
            output: amounts.get(Part::Output),
            cache_read: amounts.get(Part::CacheRead),
            cache_write: amounts.get(Part::CacheWrite),
            price_id: priced.price_id.filter(|_| amounts.total().is_some()).map(str::to_owned),
            caveat: Words::of(&priced, method).caveat,
        };
        let call = self.calls.as_ref().and_then(|calls| {
            let fields = span.fields();
            let response = Some(reading.response_id.as_bytes()).filter(|id| !id.is_empty());
            Some(Call {
                id: SpanId::new(fields.trace_id, fields.span_id)?,
                parent: fields.parent_span_id.try_into().ok(),
                response: response.map(|id| calls.response_key(name.as_bytes(), origin.environment.as_bytes(), id)),
                counts: [priced.usage.input.unwrap_or(0), priced.usage.output.unwrap_or(0)],
                time: [fields.start_time_unix_nano, fields.end_time_unix_nano],
                is_priced: was_billed || priced.status.has_cost(),
                is_estimate: matches!(priced.status, CostStatus::Estimated | CostStatus::NoUsage),
                rank: Rank::of(scope.as_str(), reading.is_log),
            })
        });
        // An aggregate by its kind is never billed, and one that stays is not changed.
        let may_change = stored.may_change && !is_settled && priced.status != CostStatus::Aggregate;
        let call = call.filter(|_| priced.status != CostStatus::Aggregate);
        self.pending.push(Pending { at, call, was_billed, may_change, now: stored.arrival_unix_nanos, found });
        may_change.then_some(at)
    }

    /// What the spans of the group cost, by their number in the group. Spans that are not to be changed, or have nothing
    /// to do with models, are left out.
    pub fn decide(&mut self) -> Vec<(usize, Recosted)> {
        self.read = 0;
        let mut pending = std::mem::take(&mut self.pending);
        let mut order: Vec<_> = pending
            .iter()
            .enumerate()
            .filter_map(|(at, pending)| {
                let call = pending.call?;
                let is_candidate = pending.may_change && pending.found.status.has_cost();
                (pending.was_billed || is_candidate)
                    .then_some(((!pending.was_billed, call.is_estimate, call.rank, Reverse(call.time[0])), at))
            })
            .collect();
        order.sort_unstable();
        for (_, at) in order {
            if let (Some(pending), Some(calls)) = (pending.get_mut(at), &self.calls) {
                pending.claim(calls, &mut self.billed);
            }
        }
        pending.into_iter().filter(|pending| pending.may_change).map(|pending| (pending.at, pending.found)).collect()
    }
}

impl Pending {
    fn claim(&mut self, calls: &Calls, billed: &mut Billed) {
        let Some(call) = &self.call else { return };
        let (status, deferred_to) = match calls.claim(call, self.now) {
            Claim::Unpriced | Claim::BilledBefore => return,
            Claim::Billed => {
                if !self.was_billed {
                    billed.insert(call.id);
                }
                return;
            }
            Claim::Duplicate(of) => (CostStatus::Duplicate, of),
            Claim::Aggregate(of) => (CostStatus::Aggregate, of),
        };
        // Of two that were billed on arrival neither is taken back: that is how they were told apart then.
        if self.was_billed && !billed.contains(&deferred_to) {
            return;
        }
        let earlier = self.found.earlier;
        self.found = Recosted {
            status,
            earlier,
            deferred_to: Some(deferred_to),
            total: None,
            input: None,
            output: None,
            cache_read: None,
            cache_write: None,
            price_id: None,
            caveat: None,
        };
    }
}

/// The spans that were billed last.
#[derive(Debug)]
struct Billed {
    known: HashSet<SpanId>,
    line: VecDeque<SpanId>,
    max: usize,
}

impl Billed {
    fn new(max: usize) -> Self {
        Self { known: HashSet::new(), line: VecDeque::new(), max }
    }

    fn contains(&self, id: &SpanId) -> bool {
        self.known.contains(id)
    }

    fn insert(&mut self, id: SpanId) {
        if self.known.insert(id) {
            self.line.push_back(id);
        }
        if self.line.len() > self.max
            && let Some(oldest) = self.line.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
