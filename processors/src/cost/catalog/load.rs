//! From the file to the flat arrays.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use super::format::{Alias, File, Match, Mode, Operator, RATE_NAMES, RateText, ServiceTier, Tiered};
use super::rule::{Children, Pattern, Rule, Rules, Str};
use super::time::{instant, second};
use super::{
    Catalog, CatalogError, Entry, FROM, MARGINAL, Model, ModelId, Price, Provider, ProviderId, ServicePrice, Unit,
    format,
};
use crate::cost::money::{Factor, Rate};

pub(super) fn load(file: &File<'_>, version: String) -> Result<Catalog, CatalogError> {
    let mut loader = Loader::default();
    let date = instant(&file.source.date).ok_or_else(|| CatalogError::Date(file.source.date.to_string()))?;
    let ids: Vec<&str> = file.providers.iter().map(|p| &*p.id).collect();
    let mut providers = Vec::with_capacity(file.providers.len());
    let mut price_ids = HashSet::new();
    for (at, provider) in file.providers.iter().enumerate() {
        let provider_id = ProviderId(narrow(at, "providers")?);
        let first_model = loader.models.len() as u32;
        for model in &provider.models {
            for price in &model.prices {
                if !price_ids.insert(&*price.id) {
                    return Err(CatalogError::DuplicatePrice(price.id.to_string()));
                }
            }
            loader.model(provider_id, &provider.id, model)?;
        }
        providers.push(Provider {
            id: loader.str(&provider.id),
            address: (&*provider.address).into(),
            provider_match: provider.provider_match.as_ref().map(|m| loader.rule(m)).transpose()?,
            model_match: provider.model_match.as_ref().map(|m| loader.rule(m)).transpose()?,
            fallback: fallback(&ids, provider)?,
            first_model,
            models: loader.models.len() as u32 - first_model,
        });
        for name in &provider.names {
            let name = loader.str(&name.to_lowercase());
            loader.declared_names.push((name, provider_id));
        }
        for host in &provider.hosts {
            let host = loader.str(&host.to_lowercase());
            loader.declared_hosts.push((host, provider_id));
        }
    }
    let aliases = loader.aliases(file)?;
    Ok(Catalog {
        version: version.into(),
        source: (&*file.source.name).into(),
        date,
        rules: Rules {
            text: loader.text.into_boxed_str(),
            rules: loader.rules.into(),
            patterns: loader.patterns.into(),
        },
        providers: providers.into(),
        models: loader.models.into(),
        prices: loader.prices.into(),
        service_prices: loader.service_prices.into(),
        entries: loader.entries.into(),
        rates: loader.rates.into(),
        services: loader.services.into(),
        projects: loader.projects.into(),
        declared_names: loader.declared_names.into(),
        declared_hosts: loader.declared_hosts.into(),
        aliases: aliases.into(),
        addresses: OnceLock::new(),
    })
}

fn fallback(ids: &[&str], provider: &format::Provider<'_>) -> Result<Box<[ProviderId]>, CatalogError> {
    let find = |name: &Cow<'_, str>| {
        ids.iter()
            .position(|id| id == name)
            .map(|at| ProviderId(at as u16))
            .ok_or_else(|| CatalogError::Fallback { provider: provider.id.to_string(), fallback: name.to_string() })
    };
    provider.fallback.iter().map(find).collect()
}

#[derive(Default)]
struct Loader {
    text: String,
    rules: Vec<Rule>,
    patterns: Vec<Pattern>,
    models: Vec<Model>,
    prices: Vec<Price>,
    service_prices: Vec<ServicePrice>,
    entries: Vec<Entry>,
    rates: Vec<Rate>,
    rate_numbers: HashMap<Rate, u16>,
    sources: HashMap<String, Str>,
    services: Vec<Box<str>>,
    projects: Vec<Box<str>>,
    declared_names: Vec<(Str, ProviderId)>,
    declared_hosts: Vec<(Str, ProviderId)>,
}

impl Loader {
    fn model(
        &mut self,
        provider: ProviderId,
        provider_name: &str,
        model: &format::Model<'_>,
    ) -> Result<(), CatalogError> {
        if model.prices.is_empty() {
            return Err(CatalogError::NoPrices(format!("{provider_name}/{}", model.id)));
        }
        let first = self.prices.len() as u32;
        let mut model_id = None;
        for price in &model.prices {
            let id = self.str(&price.id);
            // The first price's id is `provider/model`: the model's id is a part of it, most rules' texts are the id.
            if price.id.len() == provider_name.len() + 1 + model.id.len() && price.id.ends_with(&*model.id) {
                model_id = Some(Str { start: id.start + id.len - model.id.len() as u32, len: model.id.len() as u32 });
            }
            let price = self.price(id, price)?;
            self.prices.push(price);
        }
        let id = model_id.unwrap_or_else(|| self.str(&model.id));
        let rule = self.rule_near(&model.r#match, id)?;
        let count = narrow(model.prices.len(), "prices of a model")?;
        self.models.push(Model { id, rule, provider, prices: Children { first, count } });
        Ok(())
    }

    fn price(&mut self, id: Str, price: &format::Price<'_>) -> Result<Price, CatalogError> {
        let time = |text: &Cow<'_, str>, expected| CatalogError::Time {
            price: price.id.to_string(),
            text: text.to_string(),
            expected,
        };
        let limit = |text: &Option<Cow<'_, str>>, none| match text {
            None => Ok(none),
            Some(text) => instant(text).ok_or_else(|| time(text, "date such as 2026-09-01 or 2026-09-01T12:00:00Z")),
        };
        let (valid_from, valid_until) = (limit(&price.valid_from, i64::MIN)?, limit(&price.valid_until, i64::MAX)?);
        if let (Some(until), true) = (&price.valid_until, valid_until <= valid_from) {
            return Err(time(until, "later time than `valid_from`"));
        }
        let daily = match &price.daily {
            None => None,
            Some([from, to]) => {
                let second =
                    |text: &Cow<'_, str>| second(text).ok_or_else(|| time(text, "time of day such as 16:30:00"));
                let window = (second(from)?, second(to)?);
                if window.0 == window.1 {
                    return Err(time(to, "time other than the window's start"));
                }
                Some(window)
            }
        };
        let project = match &price.project {
            None => 0,
            Some(name) => intern(&mut self.projects, name, "projects")? + 1,
        };
        let source = self.source(price.source.as_deref());
        let entries = self.entries_of(&price.id, |loader| {
            price.rates.0.iter().try_for_each(|(name, rate)| loader.rate(&price.id, name, rate, Factor::ONE))
        })?;
        let first = self.service_prices.len() as u32;
        for (name, tier) in &price.service_tiers.0 {
            let service = self.service(price, name, tier)?;
            self.service_prices.push(service);
        }
        let services = Children { first, count: narrow(price.service_tiers.0.len(), "service tiers of a price")? };
        Ok(Price { id, source, valid_from, valid_until, daily, project, entries, services })
    }

    fn service(
        &mut self,
        price: &format::Price<'_>,
        name: &str,
        tier: &ServiceTier<'_>,
    ) -> Result<ServicePrice, CatalogError> {
        let error =
            |problem: String| CatalogError::ServiceTier { price: price.id.to_string(), tier: name.to_owned(), problem };
        if tier.multiplier.is_none() && tier.rates.0.is_empty() {
            return Err(error("it needs a `multiplier` or `rates`".to_owned()));
        }
        if let Some(unknown) = tier.except.iter().find(|name| !RATE_NAMES.contains(&&***name)) {
            return Err(error(format!("`{unknown}` under `except` is not the name of a rate")));
        }
        let factor = match &tier.multiplier {
            None => Factor::ONE,
            Some(text) => Factor::parse(text).map_err(|e| error(e.to_string()))?,
        };
        let service = intern(&mut self.services, name, "service tiers")?;
        let service = u8::try_from(service).map_err(|_| CatalogError::TooMany("service tiers", 255))?;
        let id = self.str(&format!("{}:{name}", price.id));
        let source = self.source(tier.source.as_deref());
        let own = |name: &str| tier.rates.0.iter().any(|(own, _)| *own == name);
        let stays = |name: &str| name.starts_with("per_thousand") || tier.except.iter().any(|kept| kept == name);
        let entries = self.entries_of(&price.id, |loader| {
            for (name, rate) in price.rates.0.iter().filter(|(name, _)| !own(name)) {
                loader.rate(&price.id, name, rate, if stays(name) { Factor::ONE } else { factor })?;
            }
            tier.rates.0.iter().try_for_each(|(name, rate)| loader.rate(&price.id, name, rate, Factor::ONE))
        })?;
        Ok(ServicePrice { id, source, name: service, entries })
    }

    /// The entries that `add` adds.
    fn entries_of(
        &mut self,
        price: &str,
        add: impl FnOnce(&mut Self) -> Result<(), CatalogError>,
    ) -> Result<Children, CatalogError> {
        let first = self.entries.len();
        add(self)?;
        let count = u16::try_from(self.entries.len() - first)
            .map_err(|_| CatalogError::Tiers { price: price.to_owned(), problem: "it has more than 65535 rates" })?;
        Ok(Children { first: first as u32, count })
    }

    fn rate(&mut self, price: &str, name: &str, rate: &RateText<'_>, factor: Factor) -> Result<(), CatalogError> {
        let Some(unit) = unit(name) else {
            // Spans carry no such counts, but a rate of them is still to be one.
            return self.parse(price, None, rate_text(rate), factor).map(drop);
        };
        let tiered = match rate {
            RateText::Plain(text) => return self.entry(price, unit, text, factor, 0, 0),
            RateText::Tiered(tiered) => tiered,
        };
        let Tiered { base, tiers, operator, mode } = tiered;
        let error = |problem| CatalogError::Tiers { price: price.into(), problem };
        let flags = match (operator, mode) {
            (Operator::Above, Mode::Cliff) => 0,
            (Operator::From, Mode::Cliff) => FROM,
            (Operator::Above, Mode::Marginal) => MARGINAL,
            (Operator::From, Mode::Marginal) => {
                return Err(error("`operator` has no meaning for marginal tiers: leave it out"));
            }
        };
        self.entry(price, unit, base, factor, flags, 0)?;
        let mut above = 0;
        for tier in tiers {
            // `>= n` of a whole number is `> n - 1`.
            let start = tier.start.saturating_sub(u32::from(flags & FROM != 0));
            if start <= above {
                return Err(error("tiers must start above 0 and ascend"));
            }
            above = start;
            self.entry(price, unit, &tier.price, factor, flags, start)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        price: &str,
        unit: Unit,
        text: &str,
        factor: Factor,
        flags: u8,
        start: u32,
    ) -> Result<(), CatalogError> {
        let rate = self.parse(price, Some(unit), text, factor)?;
        let number = match self.rate_numbers.get(&rate) {
            Some(number) => *number,
            None => {
                let number = narrow(self.rates.len(), "different rates")?;
                self.rates.push(rate);
                self.rate_numbers.insert(rate, number);
                number
            }
        };
        // The last number stands for no rate.
        if number == u16::MAX {
            return Err(CatalogError::TooMany("different rates", usize::from(u16::MAX)));
        }
        self.entries.push(Entry { unit, flags, rate: number, start });
        Ok(())
    }

    fn parse(&self, price: &str, unit: Option<Unit>, text: &str, factor: Factor) -> Result<Rate, CatalogError> {
        let rate = Rate::parse(text).and_then(|rate| rate.times(factor));
        let rate = match unit {
            Some(Unit::Request | Unit::WebSearch) => rate.and_then(Rate::from_per_thousand),
            _ => rate,
        };
        rate.map_err(|source| CatalogError::Rate { price: price.into(), source })
    }

    fn aliases(&mut self, file: &File<'_>) -> Result<Vec<(ProviderId, Str, ModelId)>, CatalogError> {
        let mut aliases = Vec::new();
        for (at, provider) in file.providers.iter().enumerate() {
            for Alias { name, model } in &provider.aliases {
                let target = model_number(file, model).ok_or_else(|| CatalogError::Alias {
                    provider: provider.id.to_string(),
                    name: name.to_string(),
                    model: model.to_string(),
                })?;
                aliases.push((ProviderId(narrow(at, "providers")?), self.str(&name.to_lowercase()), target));
            }
        }
        Ok(aliases)
    }

    fn source(&mut self, text: Option<&str>) -> Str {
        let Some(text) = text else { return Str { start: 0, len: 0 } };
        if let Some(known) = self.sources.get(text) {
            return *known;
        }
        let source = self.str(text);
        self.sources.insert(text.to_owned(), source);
        source
    }

    fn rule(&mut self, rule: &Match<'_>) -> Result<Rule, CatalogError> {
        self.rule_near(rule, Str { start: 0, len: 0 })
    }

    /// A rule whose text may be found in `known`.
    fn rule_near(&mut self, rule: &Match<'_>, known: Str) -> Result<Rule, CatalogError> {
        Ok(match rule {
            Match::Equals(text) => Rule::Equals(self.lower(text, known)),
            Match::StartsWith(text) => Rule::StartsWith(self.lower(text, known)),
            Match::EndsWith(text) => Rule::EndsWith(self.lower(text, known)),
            Match::Contains(text) => Rule::Contains(self.lower(text, known)),
            Match::Regex(source) => {
                self.patterns.push(Pattern::new(source));
                Rule::Regex(self.patterns.len() as u32 - 1)
            }
            Match::Or(rules) => Rule::Or(self.children(rules, known)?),
            Match::And(rules) => Rule::And(self.children(rules, known)?),
        })
    }

    fn children(&mut self, rules: &[Match<'_>], known: Str) -> Result<Children, CatalogError> {
        // Grandchildren come first, so that the children lie side by side.
        let children = rules.iter().map(|r| self.rule_near(r, known)).collect::<Result<Vec<_>, _>>()?;
        let first = self.rules.len() as u32;
        let count = narrow(children.len(), "parts of a rule")?;
        self.rules.extend(children);
        Ok(Children { first, count })
    }

    fn lower(&mut self, text: &str, known: Str) -> Str {
        let text = text.to_lowercase();
        let haystack = self.text.get(known.start as usize..(known.start + known.len) as usize).unwrap_or_default();
        match haystack.find(&text) {
            Some(at) => Str { start: known.start + at as u32, len: text.len() as u32 },
            None => self.str(&text),
        }
    }

    fn str(&mut self, text: &str) -> Str {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Str { start, len: text.len() as u32 }
    }
}

/// What a rate of this name is for; `None` for those that are not used.
fn unit(name: &str) -> Option<Unit> {
    Some(match name {
        "input" => Unit::Input,
        "output" => Unit::Output,
        "cache_read" => Unit::CacheRead,
        "cache_write" => Unit::CacheWrite,
        "cache_write_1h" => Unit::CacheWrite1h,
        "input_audio" => Unit::InputAudio,
        "output_audio" => Unit::OutputAudio,
        "output_reasoning" => Unit::OutputReasoning,
        "input_image" => Unit::InputImage,
        "output_image" => Unit::OutputImage,
        "cache_audio_read" => Unit::CacheAudioRead,
        "cache_image_read" => Unit::CacheImageRead,
        "per_thousand_requests" => Unit::Request,
        "per_thousand_web_searches" => Unit::WebSearch,
        _ => return None,
    })
}

fn rate_text<'t>(rate: &'t RateText<'_>) -> &'t str {
    match rate {
        RateText::Plain(text) => text,
        RateText::Tiered(tiered) => &tiered.base,
    }
}

/// The model that `provider/model` names.
fn model_number(file: &File<'_>, name: &str) -> Option<ModelId> {
    let mut first = 0;
    for provider in &file.providers {
        let model = name.strip_prefix(&*provider.id).and_then(|rest| rest.strip_prefix('/'));
        if let Some(at) = model.and_then(|model| provider.models.iter().position(|m| m.id == model)) {
            return Some(ModelId((first + at) as u32));
        }
        first += provider.models.len();
    }
    None
}

/// The number of a name in a list, to which it is added if it is new.
fn intern(names: &mut Vec<Box<str>>, name: &str, what: &'static str) -> Result<u16, CatalogError> {
    let at = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
        names.push(name.into());
        names.len() - 1
    });
    // One less, since the numbers of projects begin at 1.
    narrow(at + 1, what).map(|n| n - 1)
}

fn narrow(n: usize, what: &'static str) -> Result<u16, CatalogError> {
    u16::try_from(n).map_err(|_| CatalogError::TooMany(what, usize::from(u16::MAX)))
}
