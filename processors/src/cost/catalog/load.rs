//! From the file to the flat arrays.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::format::{File, Match, RateText, Tiered};
use super::rule::{Children, Pattern, Rule, Rules, Str};
use super::{Catalog, CatalogError, Entry, Model, Price, Provider, ProviderId, Unit, format};
use crate::cost::money::Rate;

pub(super) fn load(json: &str) -> Result<Catalog, CatalogError> {
    let file: File<'_> = serde_json::from_str(json)?;
    if file.format != 1 {
        return Err(CatalogError::Format(file.format));
    }
    let mut loader = Loader::default();
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
    }
    Ok(Catalog {
        version: version(&file.source.date, json),
        rules: Rules {
            text: loader.text.into_boxed_str(),
            rules: loader.rules.into(),
            patterns: loader.patterns.into(),
        },
        providers: providers.into(),
        models: loader.models.into(),
        prices: loader.prices.into(),
        entries: loader.entries.into(),
        rates: loader.rates.into(),
        addresses: OnceLock::new(),
    })
}

fn version(date: &str, json: &str) -> Box<str> {
    let digest = Sha256::digest(json.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{date}-{hex}").into()
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
struct Loader<'a> {
    text: String,
    rules: Vec<Rule>,
    patterns: Vec<Pattern>,
    models: Vec<Model>,
    prices: Vec<Price>,
    entries: Vec<Entry>,
    rates: Vec<Rate>,
    rate_numbers: HashMap<&'a str, u16>,
}

impl<'a> Loader<'a> {
    fn model(
        &mut self,
        provider: ProviderId,
        provider_name: &str,
        model: &'a format::Model<'a>,
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

    fn price(&mut self, id: Str, price: &'a format::Price<'a>) -> Result<Price, CatalogError> {
        let first = self.entries.len() as u32;
        for (name, rate) in &price.rates.0 {
            if let Some(unit) = unit(name) {
                self.rate(&price.id, unit, rate)?;
            }
        }
        let time = |text: &Cow<'_, str>, expected| CatalogError::Time {
            price: price.id.to_string(),
            text: text.to_string(),
            expected,
        };
        let valid_from = price
            .valid_from
            .as_ref()
            .map(|text| day(text).ok_or_else(|| time(text, "date such as 2026-09-01")))
            .transpose()?;
        let daily = match &price.daily {
            None => None,
            Some([from, to]) => {
                let second =
                    |text: &Cow<'_, str>| second(text).ok_or_else(|| time(text, "time of day such as 16:30:00"));
                let (from_second, to_second) = (second(from)?, second(to)?);
                if from_second >= to_second {
                    return Err(time(to, "later time than the window's start; split a window at midnight"));
                }
                Some((from_second, to_second))
            }
        };
        let count = narrow(self.entries.len() - first as usize, "rates of a price")?;
        Ok(Price { id, valid_from, daily, entries: Children { first, count } })
    }

    fn rate(&mut self, price: &str, unit: Unit, rate: &'a RateText<'a>) -> Result<(), CatalogError> {
        match rate {
            RateText::Plain(text) => self.entry(price, unit, text, 0),
            RateText::Tiered(Tiered { base, tiers }) => {
                self.entry(price, unit, base, 0)?;
                let mut above = 0;
                for tier in tiers {
                    if tier.start <= above {
                        return Err(CatalogError::Tiers { price: price.into() });
                    }
                    above = tier.start;
                    self.entry(price, unit, tier.price, tier.start)?;
                }
                Ok(())
            }
        }
    }

    fn entry(&mut self, price: &str, unit: Unit, text: &'a str, start: u32) -> Result<(), CatalogError> {
        let error = |source| CatalogError::Rate { price: price.into(), source };
        let rate = if unit == Unit::Request {
            // Its text means another rate, so it does not share the numbers of the others.
            let rate = Rate::parse(text).and_then(Rate::from_per_thousand).map_err(error)?;
            self.rates.push(rate);
            narrow(self.rates.len() - 1, "different rates")?
        } else if let Some(number) = self.rate_numbers.get(text) {
            *number
        } else {
            self.rates.push(Rate::parse(text).map_err(error)?);
            let number = narrow(self.rates.len() - 1, "different rates")?;
            self.rate_numbers.insert(text, number);
            number
        };
        self.entries.push(Entry { unit, rate, start });
        Ok(())
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
        "per_thousand_requests" => Unit::Request,
        _ => return None,
    })
}

fn narrow(n: usize, what: &'static str) -> Result<u16, CatalogError> {
    u16::try_from(n).map_err(|_| CatalogError::TooMany(what))
}

/// Days since the epoch of `YYYY-MM-DD`.
fn day(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i32>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(leap),
        _ => 31,
    };
    if text.len() != 10 || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// Seconds of the day of `HH:MM:SS`, with or without a `Z`.
fn second(text: &str) -> Option<u32> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let mut parts = text.splitn(3, ':').map(|part| part.parse::<u32>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_the_epoch() {
        assert_eq!(day("1970-01-01"), Some(0));
        assert_eq!(day("2000-02-29"), Some(11_016));
        assert_eq!(day("2025-06-10"), Some(20_249));
        for bad in ["", "2025-6-1", "2025-02-29", "2025-13-01", "2025-00-10", "2025-06-31", "20250610", "1969-12-31"] {
            assert_eq!(day(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_are_seconds_of_the_day() {
        assert_eq!(second("00:30:00Z"), Some(1_800));
        assert_eq!(second("16:30:00"), Some(59_400));
        for bad in ["", "24:00:00", "12:60:00", "12:00", "noon"] {
            assert_eq!(second(bad), None, "{bad:?}");
        }
    }
}
