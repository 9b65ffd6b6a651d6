//! What a span is billed with, and what its emitter said that it cost.

use std::collections::BTreeMap;

use super::any::{Any, text};
use super::known::Slot;
use super::usage::{Facts, money};

/// Longer texts are no costs by kind.
const MAX_DETAILS: usize = 64 * 1024;

/// The statuses that come with a cost, and who then said it.
const BILLED: [(&str, &str); 3] = [("priced", LOCAL), ("estimated", LOCAL), ("given", APPLICATION)];
const LOCAL: &str = "local";
const APPLICATION: &str = "application";

/// The columns of money that no single attribute tells. Amounts are in units of the columns' last digit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Costs<'a> {
    /// What the `cost` processor found; `None` if none saw the span.
    pub(super) status: Option<&'a str>,
    pub(super) total: Option<i128>,
    pub(super) source: Option<&'a str>,
    pub(super) given: Option<i128>,
}

impl<'a> Costs<'a> {
    pub(super) fn of(facts: &impl Facts<'a>) -> Self {
        match facts.text(Slot::CostStatus) {
            Some(status) => Self::seen(facts, text(status)),
            None => Self::unseen(facts),
        }
    }

    /// A span that a `cost` processor saw. It repeats what was given under a key of its own, as under the emitters' keys
    /// there may be its own costs. Of the spans of one call it billed one; whatever amounts the others have are theirs.
    fn seen(facts: &impl Facts<'a>, status: &'a str) -> Self {
        let source = BILLED.into_iter().find(|(known, _)| *known == status).map(|(_, source)| source);
        let total = source.and_then(|_| amount(facts, Slot::TotalCost));
        Self {
            status: Some(status),
            total,
            source: source.filter(|_| total.is_some()),
            given: amount(facts, Slot::GivenCost),
        }
    }

    /// A span that none saw, or one that was told not to write what it found.
    fn unseen(facts: &impl Facts<'a>) -> Self {
        let is_usd = facts.text(Slot::CostCurrency).is_none_or(|currency| currency.eq_ignore_ascii_case(b"usd"));
        if !is_usd {
            return Self::default();
        }
        let total = amount(facts, Slot::TotalCost);
        let source = facts.text(Slot::CostSource).map_or(APPLICATION, text);
        // Beside a cost that was computed here there is no telling whose the other keys are.
        let given = if source == LOCAL { None } else { total.or_else(|| given(facts)) };
        Self { status: None, total, source: total.map(|_| source), given }
    }
}

/// What the emitters' own keys say.
fn given<'a>(facts: &impl Facts<'a>) -> Option<i128> {
    let parts = || {
        let (input, output) = (amount(facts, Slot::OtherInputCost), amount(facts, Slot::OtherOutputCost));
        input.zip(output).map(|(input, output)| input + output).or(input).or(output)
    };
    amount(facts, Slot::OtherTotalCost).or_else(parts).or_else(|| details(facts.text(Slot::CostDetails)?))
}

/// `{"input": 0.01, "output": 0.03, "total": 0.04}`; without a total the sum.
fn details(json: &[u8]) -> Option<i128> {
    let costs: BTreeMap<&str, f64> = serde_json::from_slice(json.get(..json.len().min(MAX_DETAILS))?).ok()?;
    let amount = |usd: &f64| money(Any::Double(*usd)).filter(|amount| *amount >= 0);
    match costs.get("total") {
        Some(total) => amount(total),
        None if costs.is_empty() => None,
        None => costs.values().try_fold(0, |sum: i128, usd| sum.checked_add(amount(usd)?)),
    }
}

fn amount<'a>(facts: &impl Facts<'a>, slot: Slot) -> Option<i128> {
    facts.value(slot).and_then(money)
}
