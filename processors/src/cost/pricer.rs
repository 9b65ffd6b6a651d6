//! One call from a span's attributes to its cost.

use std::sync::Arc;

use weir_pipeline::batch::view::{Text, Value};

use super::catalog::{Call, PriceRef, ProjectId};
use super::money::Usd;
use super::price::{Cost, price};
use super::recall::{Known, Recall};
use super::usage::Facts;
use super::{Catalog, CostStatus, Match, Matcher, Reading, Usage, UsageReader};

/// Prices spans. A pure function of the span and the catalog; what it keeps between spans is only a cache. Each lane
/// has its own.
#[derive(Debug)]
pub struct Pricer {
    matcher: Matcher,
    recall: Recall,
}

/// The model of a [`Reading`], or why there is none.
#[derive(Debug, Clone, Copy)]
pub struct Found(pub(super) Result<Match, CostStatus>);

/// What is known about a span's cost.
#[derive(Debug, Clone, Copy)]
pub struct Priced<'p, 'a> {
    /// Whether there is a cost, or why not.
    pub status: CostStatus,
    /// The counts; those that are known even where there is no cost.
    pub usage: Usage,
    /// The cost; `Some` exactly if the status is [`CostStatus::Priced`].
    pub cost: Option<Cost>,
    /// Id of the price in the catalog: `openai/o3@2025-06-10`.
    pub price_id: Option<&'p str>,
    /// Id of the provider in the catalog: `openai`.
    pub provider: Option<&'p str>,
    /// Id of the model in the catalog: `o3`.
    pub model: Option<&'p str>,
    /// How the model was found.
    pub matched: Option<Match>,
    /// Whether the span had attributes of the kind Weir writes.
    pub has_output_keys: bool,
    /// The provider as the span names it; empty if it does not.
    pub span_provider: Text<'a>,
    /// The model as the span names it: the response's, else the request's; empty if it does not.
    pub span_model: Text<'a>,
}

impl Pricer {
    /// A pricer with this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { matcher: Matcher::new(catalog), recall: Recall::default() }
    }

    /// The catalog it prices with.
    pub fn catalog(&self) -> &Arc<Catalog> {
        self.matcher.catalog()
    }

    /// Prices the span that has these attributes. Its price is the one valid when it ended.
    pub fn price<'a, 'k>(
        &mut self,
        attributes: impl IntoIterator<Item = (&'k [u8], Value<'a>)>,
        scope_name: &str,
        end_time_unix_nano: u64,
    ) -> Priced<'_, 'a> {
        let mut reader = UsageReader::default();
        for (key, value) in attributes {
            reader.visit(key, value);
        }
        let (reading, found) = self.read(&mut reader, scope_name);
        self.price_found(&reading, found, end_time_unix_nano, ProjectId::default())
    }

    /// What a span's attributes say, and the model they mean: [`UsageReader::finish`] and [`Matcher::find`], which are
    /// remembered as far as they depend on names.
    #[inline]
    pub fn read<'a>(&mut self, reader: &mut UsageReader<'a>, scope_name: &str) -> (Reading<'a>, Found) {
        let known = self.recall(reader, scope_name);
        (reader.reading(&known.facts), known.found())
    }

    /// What the names lead to that a reader has read, which it first [completes](UsageReader::complete).
    #[inline(always)]
    pub(super) fn recall(&mut self, reader: &mut UsageReader<'_>, scope_name: &str) -> Known {
        reader.complete();
        if reader.is_unrelated() {
            // Nothing to remember: spans of other kinds have addresses too, and many of them.
            return Known::UNRELATED;
        }
        let naming = reader.naming(scope_name);
        let hash = naming.hash();
        let known = self.recall.get(hash, &naming).copied();
        known.unwrap_or_else(|| self.learn(reader, scope_name, hash))
    }

    /// Finds out what names lead to that were not seen lately.
    #[cold]
    #[inline(never)]
    fn learn(&mut self, reader: &UsageReader<'_>, scope_name: &str, hash: u64) -> Known {
        let facts = Facts::of(reader, scope_name);
        let is_call = facts.may_be_call();
        let found = if is_call { self.matcher.find(&reader.reading(&facts)) } else { Err(CostStatus::NotLlm) };
        let known = Known { facts, found };
        self.recall.insert(hash, &reader.naming(scope_name), known);
        known
    }

    /// Prices what was read before, for nobody in particular.
    pub fn price_reading<'a>(&self, reading: &Reading<'a>, end_time_unix_nano: u64) -> Priced<'_, 'a> {
        self.price_for(reading, end_time_unix_nano, ProjectId::default())
    }

    /// Prices what was read before at the prices of a project.
    pub fn price_for<'a>(&self, reading: &Reading<'a>, end_time_unix_nano: u64, project: ProjectId) -> Priced<'_, 'a> {
        let found = reading.usage.and_then(|_| self.matcher.find(reading));
        self.price_found(reading, Found(found), end_time_unix_nano, project)
    }

    /// The same where the model is known.
    #[inline(always)]
    pub fn price_found<'a>(
        &self,
        reading: &Reading<'a>,
        Found(found): Found,
        end_time_unix_nano: u64,
        project: ProjectId,
    ) -> Priced<'_, 'a> {
        let found = reading.usage.as_ref().map_err(|status| *status).and(found);
        let catalog = self.matcher.catalog();
        let model = found.ok().map(|found| found.model);
        // Matched, not chained: each closure of this size is a function of its own, and copies its result.
        let at = match found {
            Ok(found) => self.price_of(found, reading, end_time_unix_nano, project).ok_or(CostStatus::NoRate),
            Err(status) => Err(status),
        };
        let cost = match (&reading.usage, at) {
            (Ok(usage), Ok(at)) => match price(usage, at) {
                Ok(cost) if cost.total > Usd::MAX_OF_SPAN => Err(CostStatus::Invalid),
                cost => cost,
            },
            (Err(status), _) => Err(*status),
            (_, Err(status)) => Err(status),
        };
        // Put together once, at the end: this is some 500 bytes.
        Priced {
            status: cost.err().unwrap_or(CostStatus::Priced),
            usage: reading.usage.unwrap_or_default(),
            cost: cost.ok(),
            price_id: at.ok().map(PriceRef::id),
            provider: model.and_then(|model| catalog.provider_of(model)).map(|p| catalog.provider_name(p)),
            model: model.map(|model| catalog.model_name(model)),
            matched: found.ok(),
            has_output_keys: reading.has_output_keys,
            span_provider: reading.provider,
            span_model: if reading.response_model.is_empty() { reading.request_model } else { reading.response_model },
        }
    }

    /// The price of a model that was found for this reading.
    #[inline(always)]
    pub(super) fn price_of(
        &self,
        found: Match,
        reading: &Reading<'_>,
        end_time_unix_nano: u64,
        project: ProjectId,
    ) -> Option<PriceRef<'_>> {
        let catalog = self.matcher.catalog();
        let (served, requested) = (reading.service_tier.as_str(), reading.requested_service_tier.as_str());
        let service = catalog.service(served, requested, reading.batch);
        catalog.price_for(found.model, &Call { time_unix_nano: end_time_unix_nano, service, project })
    }
}

#[cfg(test)]
mod tests;
