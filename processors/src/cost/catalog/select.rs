//! Which of a model's prices a call has: by its time, its service tier, its project.

use super::time;
use super::{Catalog, Entry, MARGINAL, ModelId, Price, ServicePrice, UNITS, Unit};
use crate::cost::money::{Amount, Rate};

/// What selects a price besides the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// When the call ended, in nanoseconds since the epoch, UTC.
    pub time_unix_nano: u64,
    /// How the provider processed it.
    pub service: Service,
    /// Whose call it is.
    pub project: ProjectId,
}

/// How the provider processed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// As usual; also what nothing is said about.
    #[default]
    Standard,
    /// In a service tier that some price of the catalog has.
    Tier(ServiceId),
    /// In one that no price has.
    Unknown,
}

/// Number of a service tier in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceId(pub(super) u8);

/// Number of a project that has prices of its own in its catalog; the default is that of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProjectId(pub(super) u16);

/// What providers call their usual processing. With `auto` it is the provider who decides, and says so in the answer.
const STANDARD: [&str; 6] = ["default", "standard", "auto", "standard_only", "on_demand", "on-demand"];

/// Vertex AI's names for the tiers of Gemini.
const SYNONYMS: [(&str, &str); 2] = [("on_demand_priority", "priority"), ("on_demand_flex", "flex")];

/// The service tier of batch processing.
const BATCH: &str = "batch";

impl Catalog {
    /// The service tier of a call: that of batch processing, else the one that answered, else the one asked for.
    pub fn service(&self, served: &str, requested: &str, batch: bool) -> Service {
        let name = match (batch, served, requested) {
            (true, ..) => BATCH,
            (false, "", "") => return Service::Standard,
            (false, "", requested) => requested,
            (false, served, _) => served,
        };
        let is = |known: &str| known.eq_ignore_ascii_case(name.trim());
        if STANDARD.into_iter().any(is) || name.trim().is_empty() {
            return Service::Standard;
        }
        let name = SYNONYMS.iter().find(|(synonym, _)| is(synonym)).map_or(name.trim(), |(_, name)| name);
        let known = self.services.iter().position(|known| known.eq_ignore_ascii_case(name));
        known.and_then(|at| u8::try_from(at).ok()).map_or(Service::Unknown, |at| Service::Tier(ServiceId(at)))
    }

    /// The project of this name, if it has prices of its own.
    pub fn project(&self, name: &str) -> ProjectId {
        let known = self.projects.iter().position(|known| **known == *name);
        ProjectId(known.and_then(|at| u16::try_from(at + 1).ok()).unwrap_or(0))
    }

    /// Whether any project has prices of its own.
    pub fn has_projects(&self) -> bool {
        !self.projects.is_empty()
    }

    /// The standard price of a model that was valid at a time (nanoseconds since the epoch, UTC).
    pub fn price_at(&self, model: ModelId, time_unix_nano: u64) -> Option<PriceRef<'_>> {
        self.price_for(model, &Call { time_unix_nano, ..Call::default() })
    }

    /// The price of a call. `None` if all prices of the model have expired or are other projects'.
    ///
    /// Decision: a service tier that the price does not have costs the standard price, and
    /// [`tier_unknown`](PriceRef::tier_unknown) says so: an amount that is off by a factor everybody can look up is of
    /// more use than none.
    pub fn price_for(&self, model: ModelId, call: &Call) -> Option<PriceRef<'_>> {
        let prices = self.model(model)?.prices.of(&self.prices);
        // At most 2⁵⁴: a `u64` of nanoseconds ends in the year 2554.
        let seconds = (call.time_unix_nano / 1_000_000_000) as i64;
        let holds = |p: &&Price| (p.project == 0 || p.project == call.project.0) && p.is_valid_at(seconds);
        let first = || prices.first().filter(|p| p.project == 0 && seconds < p.valid_until);
        let price = prices.iter().rev().find(holds).or_else(first)?;
        let service = match call.service {
            Service::Tier(id) => price.services.of(&self.service_prices).iter().find(|s| s.name == id.0),
            Service::Standard | Service::Unknown => None,
        };
        let tier_unknown = service.is_none() && call.service != Service::Standard;
        Some(PriceRef { catalog: self, price, service, tier_unknown })
    }
}

impl Price {
    #[inline]
    fn is_valid_at(&self, seconds: i64) -> bool {
        (self.valid_from..self.valid_until).contains(&seconds)
            && self.daily.is_none_or(|(from, to)| {
                let second = seconds.rem_euclid(time::DAY) as u32;
                if from < to { (from..to).contains(&second) } else { !(to..from).contains(&second) }
            })
    }
}

/// A price that was valid at some time.
#[derive(Debug, Clone, Copy)]
pub struct PriceRef<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) price: &'a Price,
    pub(super) service: Option<&'a ServicePrice>,
    tier_unknown: bool,
}

impl<'a> PriceRef<'a> {
    /// The stable id of this price: `openai/o3@2025-06-10`, in a service tier `openai/o3@2025-06-10:flex`.
    pub fn id(self) -> &'a str {
        self.catalog.rules.str(self.service.map_or(self.price.id, |s| s.id))
    }

    /// Whether the call had a service tier that this price does not have, so that it is the standard one.
    pub fn tier_unknown(self) -> bool {
        self.tier_unknown
    }

    /// The rates of a call with this many input tokens.
    #[inline]
    pub(in crate::cost) fn rates(self, input_tokens: u64) -> RateSet<'a> {
        let entries = self.service.map_or(self.price.entries, |s| s.entries).of(&self.catalog.entries);
        let mut set = RateSet { numbers: [NO_RATE; UNITS], marginal: 0, entries, rates: &self.catalog.rates };
        for entry in entries {
            let unit = entry.unit as usize;
            if entry.flags & MARGINAL != 0 {
                set.marginal |= 1 << unit;
            }
            if (entry.start == 0 || input_tokens > u64::from(entry.start))
                && let Some(slot) = set.numbers.get_mut(unit)
            {
                *slot = entry.rate;
            }
        }
        set
    }
}

const NO_RATE: u16 = u16::MAX;

/// The rates of one call.
pub(in crate::cost) struct RateSet<'a> {
    numbers: [u16; UNITS],
    /// A bit for each unit whose tiers are marginal.
    marginal: u16,
    entries: &'a [Entry],
    rates: &'a [Rate],
}

impl RateSet<'_> {
    /// Whether there is a rate for the unit.
    #[inline]
    pub(in crate::cost) fn has(&self, unit: Unit) -> bool {
        self.numbers.get(unit as usize).is_some_and(|number| *number != NO_RATE)
    }

    /// The one rate of the unit; `None` also where the rate depends on how many there are.
    pub(in crate::cost) fn rate(&self, unit: Unit) -> Option<Rate> {
        let number = self.numbers.get(unit as usize).filter(|_| self.marginal & (1 << unit as usize) == 0)?;
        self.rates.get(usize::from(*number)).copied()
    }

    /// Adds `count` of the unit; nothing where it has no rate.
    #[inline]
    pub(in crate::cost) fn add(&self, to: &mut Amount, unit: Unit, count: u64) {
        if self.marginal & (1 << unit as usize) != 0 {
            return self.add_marginal(to, unit, count);
        }
        if let Some(rate) = self.numbers.get(unit as usize).and_then(|number| self.rates.get(usize::from(*number))) {
            to.add(count, *rate);
        }
    }

    fn add_marginal(&self, to: &mut Amount, unit: Unit, count: u64) {
        let mut left = count;
        // The tiers of a unit lie side by side, in ascending order: from the last to the first.
        for entry in self.entries.iter().rev().filter(|e| e.unit == unit) {
            let beyond = left.saturating_sub(u64::from(entry.start));
            if let Some(rate) = self.rates.get(usize::from(entry.rate)) {
                to.add(beyond, *rate);
            }
            left -= beyond;
        }
    }
}
