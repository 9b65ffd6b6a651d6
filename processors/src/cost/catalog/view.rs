//! A catalog for people: every price with its rates, as `weir price` shows them.

use super::format::RATE_NAMES;
use super::rule::{Children, Str};
use super::{Catalog, Entry, FROM, MARGINAL, ModelId, PriceRef, Unit, time};
use crate::cost::money::{Factor, Rate};

/// All that the catalog says about one price.
#[derive(Debug, Clone)]
pub struct PriceView<'a> {
    /// `openai/o3@2025-06-10`
    pub id: &'a str,
    /// Where it is from.
    pub source: &'a str,
    /// The project it is for, if not for all.
    pub project: Option<&'a str>,
    /// UTC date or instant from which on it holds.
    pub valid_from: Option<String>,
    /// UTC date or instant before which it holds.
    pub valid_until: Option<String>,
    /// Hours of the day (UTC) in which it holds.
    pub daily: Option<[String; 2]>,
    /// The rates as usual.
    pub rates: Vec<RateView>,
    /// The rates in service tiers: name, source, rates.
    pub service_tiers: Vec<(&'a str, &'a str, Vec<RateView>)>,
}

/// One rate of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateView {
    /// Its name in the catalog's file: `input`, `per_thousand_requests`.
    pub name: &'static str,
    /// USD per million tokens, or per thousand for a name that says so.
    pub price: Rate,
    /// Where it changes with the size of the input.
    pub tiers: Vec<TierView>,
}

/// A tier of a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierView {
    /// `>`: above `start` input tokens; `>=`: from `start` on.
    pub operator: &'static str,
    /// Number of input tokens.
    pub start: u32,
    /// Whether only the tokens beyond `start` have this price.
    pub marginal: bool,
    /// As of the rate.
    pub price: Rate,
}

impl Catalog {
    /// Every price of a model, the oldest first.
    pub fn prices(&self, model: ModelId) -> Vec<PriceView<'_>> {
        let prices = self.model(model).map_or(&[][..], |m| m.prices.of(&self.prices));
        prices.iter().map(|price| self.view(price)).collect()
    }

    fn view<'a>(&'a self, price: &super::Price) -> PriceView<'a> {
        let clock = |second: u32| format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
        let source = |source: Str, of: &'a str| if source.len == 0 { of } else { self.rules.str(source) };
        let own = source(price.source, &self.source);
        let services = price.services.of(&self.service_prices);
        let name = |names: &'a [Box<str>], at: usize| names.get(at).map_or("", |name| &**name);
        PriceView {
            id: self.rules.str(price.id),
            source: own,
            project: price.project.checked_sub(1).map(|at| name(&self.projects, usize::from(at))),
            valid_from: (price.valid_from != i64::MIN).then(|| time::text(price.valid_from)),
            valid_until: (price.valid_until != i64::MAX).then(|| time::text(price.valid_until)),
            daily: price.daily.map(|(from, to)| [clock(from), clock(to)]),
            rates: self.rate_views(price.entries),
            service_tiers: services
                .iter()
                .map(|s| (name(&self.services, usize::from(s.name)), source(s.source, own), self.rate_views(s.entries)))
                .collect(),
        }
    }

    fn rate_views(&self, entries: Children) -> Vec<RateView> {
        let mut views: Vec<RateView> = Vec::new();
        for entry in entries.of(&self.entries) {
            let (name, price) = self.named_rate(entry);
            match views.last_mut().filter(|view| view.name == name) {
                Some(view) => {
                    let from = entry.flags & FROM != 0;
                    view.tiers.push(TierView {
                        operator: if from { ">=" } else { ">" },
                        start: entry.start + u32::from(from),
                        marginal: entry.flags & MARGINAL != 0,
                        price,
                    });
                }
                None => views.push(RateView { name, price, tiers: Vec::new() }),
            }
        }
        views.sort_by_key(|view| RATE_NAMES.iter().position(|name| *name == view.name));
        views
    }

    fn named_rate(&self, entry: &Entry) -> (&'static str, Rate) {
        let name = RATE_NAMES.get(entry.unit as usize).copied().unwrap_or_default();
        let rate = self.rates.get(usize::from(entry.rate)).copied().unwrap_or_default();
        let per_thousand = matches!(entry.unit, Unit::Request | Unit::WebSearch);
        // Exact: it was multiplied by 1000 when it was read.
        let rate = if per_thousand { rate.times(Factor::THOUSANDTH).unwrap_or(rate) } else { rate };
        (name, rate)
    }
}

impl<'a> PriceRef<'a> {
    /// All that the catalog says about this price.
    pub fn view(self) -> PriceView<'a> {
        self.catalog.view(self.price)
    }

    /// The service tier whose rates these are; `None` for the standard ones.
    pub fn service_tier(self) -> Option<&'a str> {
        self.service.and_then(|s| self.catalog.services.get(usize::from(s.name))).map(|name| &**name)
    }
}
