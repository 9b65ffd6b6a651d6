//! Laying an overlay over a catalog's file.

use std::borrow::Cow;
use std::collections::HashSet;

use weir_pipeline::config::ConfigError;

use super::Overlay;
use super::raw::{self, Checked, Instant, Name, Rates, Tier};
use crate::cost::catalog::format::{self, Alias, File, Match, Mode, Model, Operator, RateText, ServiceTier, Tiered};
use crate::cost::catalog::time;
use crate::cost::matcher::provider_alias;
use crate::cost::money::{Factor, Rate};

pub(super) fn apply(overlay: &Overlay, file: &mut File<'_>) -> Result<(), ConfigError> {
    let ids = file.providers.iter().flat_map(|p| &p.models).flat_map(|m| &m.prices).map(|p| p.id.to_string());
    let mut layer = Layer { overlay, ids: ids.collect(), new_models: 0 };
    // What is declared first can be named by what follows.
    for at in 0..overlay.raw.providers.len() {
        layer.provider(file, at)?;
    }
    for (at, price) in overlay.raw.prices.iter().enumerate() {
        layer.price(file, at, price)?;
    }
    for (at, tiers) in overlay.raw.service_tiers.iter().enumerate() {
        layer.service_tiers(file, at, tiers)?;
    }
    for (at, alias) in overlay.raw.aliases.iter().enumerate() {
        layer.alias(file, at, alias)?;
    }
    layer.discounts(file)?;
    // Those of projects come before the others, and what comes before is what stands later.
    for model in file.providers.iter_mut().flat_map(|p| &mut p.models) {
        if model.prices.iter().any(|p| p.project.is_some()) {
            model.prices.sort_by_key(|p| p.project.is_some());
        }
    }
    Ok(())
}

struct Layer<'o> {
    overlay: &'o Overlay,
    /// Ids of prices that are taken.
    ids: HashSet<String>,
    /// How many models were put before the others of their provider.
    new_models: usize,
}

impl Layer<'_> {
    fn provider(&self, file: &mut File<'_>, at: usize) -> Result<(), ConfigError> {
        let error = |message: String| self.overlay.error("providers", at, message);
        let Some(raw) = self.overlay.raw.providers.get(at) else { return Ok(()) };
        let id = &raw.id.0;
        let known = find_provider(file, id);
        if known.is_some() && raw.free {
            return Err(error(format!(
                "`{id}` is in the catalog: make its models free with a discount of multiplier 0"
            )));
        }
        for fallback in &raw.fallback {
            let declared = self.overlay.raw.providers.iter().any(|p| p.id == *fallback);
            if !declared && find_provider(file, &fallback.0).is_none() {
                return Err(error(unknown_provider(file, &fallback.0)));
            }
        }
        let texts = |names: &[Name]| names.iter().map(|name| Cow::Owned(name.0.clone())).collect::<Vec<_>>();
        let position = known.unwrap_or_else(|| {
            file.providers.push(format::Provider::named(id));
            file.providers.len() - 1
        });
        let Some(provider) = file.providers.get_mut(position) else { return Ok(()) };
        provider.names.extend(texts(&raw.names));
        provider.hosts.extend(texts(&raw.hosts));
        provider.fallback.extend(raw.fallback.iter().map(|name| Cow::Owned(canonical(&name.0).to_owned())));
        if raw.free {
            let zero = |name| (name, RateText::Plain(Cow::Borrowed("0")));
            provider.models.push(Model {
                id: Cow::Borrowed("*"),
                r#match: Match::StartsWith(Cow::Borrowed("")),
                prices: vec![format::Price {
                    source: Some(Cow::Borrowed("free of charge, says the overlay")),
                    ..price_of(format!("{id}/*"), format::Rates(vec![zero("input"), zero("output")]))
                }],
            });
        }
        Ok(())
    }

    fn alias(&self, file: &mut File<'_>, at: usize, raw: &raw::Alias) -> Result<(), ConfigError> {
        let error = |message: String| self.overlay.error("aliases", at, message);
        let model = raw.model.0.split_once('/').and_then(|(provider, id)| {
            let provider = file.providers.get(find_provider(file, provider)?)?;
            let model = provider.models.iter().find(|m| m.id.eq_ignore_ascii_case(id))?;
            Some(format!("{}/{}", provider.id, model.id))
        });
        let Some(model) = model else {
            let model = &raw.model.0;
            return Err(error(format!(
                "`{model}` is not a model of the catalog: write provider/model, as `weir price list` does"
            )));
        };
        let position =
            find_provider(file, &raw.provider.0).ok_or_else(|| error(unknown_provider(file, &raw.provider.0)))?;
        if let Some(provider) = file.providers.get_mut(position) {
            provider.aliases.push(Alias { name: raw.name.0.clone().into(), model: model.into() });
        }
        Ok(())
    }

    fn price(&mut self, file: &mut File<'_>, at: usize, raw: &raw::Price) -> Result<(), ConfigError> {
        let error = |message: String| self.overlay.error("prices", at, message);
        let position =
            find_provider(file, &raw.provider.0).ok_or_else(|| error(unknown_provider(file, &raw.provider.0)))?;
        if raw.rates.0.is_empty() {
            return Err(error("a price needs rates: give at least one, 0 if it is free".to_owned()));
        }
        interval(raw.valid_from.as_ref(), raw.valid_until.as_ref()).map_err(error)?;
        let Some(provider) = file.providers.get_mut(position) else { return Ok(()) };
        let known = provider.models.iter().position(|m| m.id.eq_ignore_ascii_case(&raw.model.0));
        if known.is_some() && !raw.r#match.is_empty() {
            return Err(error(format!("`{}` is in the catalog and has its `match` there: use `aliases`", raw.model.0)));
        }
        let model_id = known.and_then(|at| provider.models.get(at)).map_or(raw.model.0.clone(), |m| m.id.to_string());
        let mut id = format!("{}/{model_id}", provider.id);
        if let Some(from) = &raw.valid_from {
            id = format!("{id}@{}", from.text);
        }
        let id = self.new_id(&format!("{id}{}", self.overlay.label), raw.project.as_ref());
        let mut price = price_of(id, self.rates(&raw.rates, &raw.tiers).map_err(error)?);
        price.project = raw.project.as_ref().map(|name| name.0.clone().into());
        price.valid_from = text_of(raw.valid_from.as_ref());
        price.valid_until = text_of(raw.valid_until.as_ref());
        price.daily = raw.daily.as_ref().map(|(from, to)| [from.text.clone().into(), to.text.clone().into()]);
        price.source = self.source(raw.source.as_ref());
        for (name, tier) in &raw.service_tiers.0 {
            price.service_tiers.0.push((name.0.clone().into(), self.service_tier(tier, None).map_err(error)?));
        }
        match known.and_then(|at| provider.models.get_mut(at)) {
            Some(model) => model.prices.push(price),
            None => {
                let own = [raw.model.clone()];
                let patterns = if raw.r#match.is_empty() { &own[..] } else { &raw.r#match };
                let r#match = Match::Or(patterns.iter().map(|pattern| rule(&pattern.0)).collect());
                // In the order of the overlay, before those of the catalog.
                let first = provider.models.len().min(self.new_models);
                provider.models.insert(first, Model { id: model_id.into(), r#match, prices: vec![price] });
                self.new_models += 1;
            }
        }
        Ok(())
    }

    fn service_tiers(&self, file: &mut File<'_>, at: usize, raw: &raw::ServiceTiers) -> Result<(), ConfigError> {
        let error = |message: String| self.overlay.error("service_tiers", at, message);
        for model in self.models(file, &raw.provider, &raw.models).map_err(error)? {
            for price in &mut model.prices {
                for (name, tier) in &raw.tiers.0 {
                    let tier = self.service_tier(tier, raw.source.as_ref()).map_err(error)?;
                    price.service_tiers.0.retain(|(known, _)| *known != name.0);
                    price.service_tiers.0.push((name.0.clone().into(), tier));
                }
            }
        }
        Ok(())
    }

    /// Discounts are of the prices that were there without them.
    fn discounts<'a>(&mut self, file: &mut File<'a>) -> Result<(), ConfigError> {
        let overlay = self.overlay;
        let listed: File<'a> = file.clone();
        for (at, raw) in overlay.raw.discounts.iter().enumerate() {
            let error = |message: String| overlay.error("discounts", at, message);
            interval(raw.valid_from.as_ref(), raw.valid_until.as_ref()).map_err(error)?;
            let provider = find_provider(file, &raw.provider.0).and_then(|at| listed.providers.get(at));
            for model in self.models(file, &raw.provider, &raw.models).map_err(error)? {
                let of = provider.and_then(|p| p.models.iter().find(|m| m.id == model.id));
                for price in of.into_iter().flat_map(|m| &m.prices) {
                    if let Some(price) = self.discounted(price, raw).map_err(error)? {
                        model.prices.push(price);
                    }
                }
            }
        }
        Ok(())
    }

    fn discounted<'p>(
        &mut self,
        price: &format::Price<'p>,
        raw: &raw::Discount,
    ) -> Result<Option<format::Price<'p>>, String> {
        let project = match (&price.project, &raw.project) {
            (Some(of), Some(for_project)) if **of != for_project.0 => return Ok(None),
            (of, for_project) => of.as_deref().or(for_project.as_ref().map(|name| name.0.as_str())),
        };
        let instant = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(time::instant);
        let from = instant(&price.valid_from).max(raw.valid_from.as_ref().map(|at| at.value.0));
        let ends = [instant(&price.valid_until), raw.valid_until.as_ref().map(|at| at.value.0)];
        let until = ends.into_iter().flatten().min();
        if let (Some(from), Some(until)) = (from, until)
            && until <= from
        {
            return Ok(None);
        }
        let since = raw.valid_from.as_ref().map(|at| format!("@{}", at.text)).unwrap_or_default();
        let id = format!("{}*{}{since}{}", price.id, raw.multiplier.text, self.overlay.label);
        let project = project.map(|name| Name(name.to_owned()));
        let mut discounted = price.clone();
        discounted.id = self.new_id(&id, project.as_ref()).into();
        discounted.project = project.map(|name| name.0.into());
        discounted.valid_from = from.map(|at| time::text(at).into());
        discounted.valid_until = until.map(|at| time::text(at).into());
        if let Some(source) = &raw.source {
            discounted.source = Some(source.0.clone().into());
        }
        multiply(&mut discounted.rates, raw.multiplier.value)?;
        for (_, tier) in &mut discounted.service_tiers.0 {
            multiply(&mut tier.rates, raw.multiplier.value)?;
        }
        Ok(Some(discounted))
    }

    /// The models of a provider that fit one of the patterns.
    fn models<'f, 'a>(
        &self,
        file: &'f mut File<'a>,
        provider: &Name,
        patterns: &[Name],
    ) -> Result<Vec<&'f mut Model<'a>>, String> {
        let position = find_provider(file, &provider.0).ok_or_else(|| unknown_provider(file, &provider.0))?;
        let models = file.providers.get_mut(position).map(|p| &mut p.models[..]).unwrap_or_default();
        for pattern in patterns {
            if !models.iter().any(|m| fits(&pattern.0, &m.id)) {
                return Err(format!("`{}` fits no model of `{}` in the catalog", pattern.0, provider.0));
            }
        }
        let wanted = |m: &&mut Model<'_>| patterns.is_empty() || patterns.iter().any(|p| fits(&p.0, &m.id));
        Ok(models.iter_mut().filter(wanted).collect())
    }

    fn service_tier<'a>(&self, raw: &raw::ServiceTier, source: Option<&Name>) -> Result<ServiceTier<'a>, String> {
        if raw.multiplier.is_none() && raw.rates.0.is_empty() {
            return Err("a service tier needs a `multiplier` or `rates`".to_owned());
        }
        Ok(ServiceTier {
            multiplier: raw.multiplier.as_ref().map(|factor| factor.text.clone().into()),
            except: raw.except.iter().map(|name| Cow::Borrowed(name.0)).collect(),
            rates: self.rates(&raw.rates, &raw.tiers)?,
            source: source.map(|name| name.0.clone().into()),
        })
    }

    /// Rates in USD.
    fn rates<'a>(&self, rates: &Rates, tiers: &[Tier]) -> Result<format::Rates<'a>, String> {
        let usd = self.overlay.raw.currency.as_ref().map_or(Factor::ONE, |currency| currency.usd.value.0);
        let in_usd = |rate: Rate| rate.times(usd).map(|rate| Cow::Owned(rate.to_string())).map_err(|e| e.to_string());
        for (name, _) in tiers.iter().flat_map(|tier| &tier.rates.0) {
            if !rates.0.iter().any(|(known, _)| known == name) {
                return Err(format!("a tier has a rate for `{name}`, `rates` has none: give the one below the tier"));
            }
        }
        let mut out = Vec::with_capacity(rates.0.len());
        for (name, rate) in &rates.0 {
            let mut tiered: Option<Tiered<'a>> = None;
            for tier in tiers {
                let Some((_, price)) = tier.rates.0.iter().find(|(known, _)| known == name) else { continue };
                let (start, operator, mode) = beginning(tier)?;
                let base = in_usd(*rate)?;
                let tiered = tiered.get_or_insert_with(|| Tiered { base, tiers: Vec::new(), operator, mode });
                if (tiered.operator, tiered.mode) != (operator, mode) {
                    return Err(format!(
                        "the tiers of `{name}` must all be `above` or all `from`, all marginal or none"
                    ));
                }
                if tiered.tiers.last().is_some_and(|last| last.start >= start) {
                    return Err(format!("the tiers of `{name}` must ascend"));
                }
                tiered.tiers.push(format::Tier { start, price: in_usd(*price)? });
            }
            out.push((*name, tiered.map_or_else(|| in_usd(*rate).map(RateText::Plain), |t| Ok(RateText::Tiered(t)))?));
        }
        Ok(format::Rates(out))
    }

    fn source<'a>(&self, source: Option<&Name>) -> Option<Cow<'a, str>> {
        let source = source.map_or("an overlay", |name| &name.0);
        Some(match &self.overlay.raw.currency {
            None => source.to_owned().into(),
            Some(currency) => format!("{source}, in {} at {} USD", currency.code.0, currency.usd.text).into(),
        })
    }

    /// An id that no other price has.
    fn new_id(&mut self, id: &str, project: Option<&Name>) -> String {
        let id = project.map_or_else(|| id.to_owned(), |name| format!("{id}({})", name.0));
        let numbered = std::iter::once(id.clone()).chain((1..).map(|n: u32| format!("{id}#{n}")));
        for id in numbered {
            if self.ids.insert(id.clone()) {
                return id;
            }
        }
        id
    }
}

fn beginning(tier: &Tier) -> Result<(u32, Operator, Mode), String> {
    let mode = if tier.marginal { Mode::Marginal } else { Mode::Cliff };
    let (start, operator) = match (tier.above, tier.from, mode) {
        (Some(above), None, _) => (above, Operator::Above),
        (None, Some(from), Mode::Cliff) => (from, Operator::From),
        (None, Some(_), Mode::Marginal) => return Err("a marginal tier begins `above` a number of tokens".to_owned()),
        _ => return Err("a tier begins either `above` or `from` a number of tokens".to_owned()),
    };
    if start < 1 + u32::from(operator == Operator::From) {
        return Err("a tier must leave some tokens below it".to_owned());
    }
    Ok((start, operator, mode))
}

fn interval(from: Option<&Checked<Instant>>, until: Option<&Checked<Instant>>) -> Result<(), String> {
    match (from, until) {
        (Some(from), Some(until)) if until.value.0 <= from.value.0 => {
            Err(format!("it holds until {} but only from {} on", until.text, from.text))
        }
        _ => Ok(()),
    }
}

fn multiply(rates: &mut format::Rates<'_>, factor: Factor) -> Result<(), String> {
    let times = |text: &mut Cow<'_, str>| -> Result<(), String> {
        let rate = Rate::parse(text).and_then(|rate| rate.times(factor)).map_err(|e| e.to_string())?;
        *text = Cow::Owned(rate.to_string());
        Ok(())
    };
    for (_, rate) in &mut rates.0 {
        match rate {
            RateText::Plain(text) => times(text)?,
            RateText::Tiered(tiered) => {
                times(&mut tiered.base)?;
                tiered.tiers.iter_mut().try_for_each(|tier| times(&mut tier.price))?;
            }
        }
    }
    Ok(())
}

fn price_of<'a>(id: String, rates: format::Rates<'a>) -> format::Price<'a> {
    format::Price {
        id: id.into(),
        project: None,
        valid_from: None,
        valid_until: None,
        daily: None,
        source: None,
        rates,
        service_tiers: format::ServiceTiers::default(),
    }
}

fn text_of<'a>(instant: Option<&Checked<Instant>>) -> Option<Cow<'a, str>> {
    instant.map(|at| at.text.clone().into())
}

/// `gpt-4*`, `*-latest`, `*mini*`, or a whole name.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

/// The rule of such a pattern.
fn rule<'a>(pattern: &str) -> Match<'a> {
    let owned = |text: &str| Cow::Owned(text.to_owned());
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => Match::Contains(owned(pattern.trim_matches('*'))),
        (Some(end), None) => Match::EndsWith(owned(end)),
        (None, Some(start)) => Match::StartsWith(owned(start)),
        (None, None) => Match::Equals(owned(pattern)),
    }
}

/// The catalog's id for another name of a provider.
fn canonical(name: &str) -> &str {
    provider_alias(name).unwrap_or(name)
}

fn find_provider(file: &File<'_>, name: &str) -> Option<usize> {
    let position = |name: &str| file.providers.iter().position(|p| p.id == name);
    position(name).or_else(|| position(canonical(name)))
}

fn unknown_provider(file: &File<'_>, name: &str) -> String {
    let ids: Vec<&str> = file.providers.iter().map(|p| &*p.id).collect();
    format!(
        "`{name}` is not a provider of the catalog: declare it under `providers`, or name one of {}",
        ids.join(", ")
    )
}
