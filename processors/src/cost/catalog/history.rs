//! Append-only history: what a newer file says becomes prices from now on, and what was known stays what it was.
//!
//! | in the newer file | becomes |
//! |---|---|
//! | a price as it was | nothing new |
//! | a price whose rates, tiers or hours changed | a price beside it, valid from the refresh on, `openai/o3~2026-11-21T10:00:00Z` |
//! | a new price with a date of its own | itself: the date in the file counts, also if it lies in the past |
//! | a new price without a date | itself, valid from the refresh on |
//! | a new model | itself |
//! | no longer there | stays |
//!
//! A changed price stands directly behind its older version, so that it comes before the same prices as ever. Rules,
//! names and addresses are the newer file's: they are no prices.

use super::format::{File, Model, Price};
use super::{CatalogBuilder, CatalogError, time};

impl<'a> CatalogBuilder<'a> {
    /// This catalog with the history of an older one, which the refresh at `now_unix_seconds` replaces.
    ///
    /// # Errors
    /// The older catalog is not readable.
    pub fn with_history(&mut self, older: &'a str, now_unix_seconds: i64) -> Result<(), CatalogError> {
        let older = CatalogBuilder::parse(older)?;
        append(&older.file, self.change(), now_unix_seconds);
        Ok(())
    }
}

fn append<'a>(older: &File<'a>, newer: &mut File<'a>, now: i64) {
    for old_provider in &older.providers {
        let Some(provider) = newer.providers.iter_mut().find(|p| p.id == old_provider.id) else {
            newer.providers.push(old_provider.clone());
            continue;
        };
        for old in &old_provider.models {
            match provider.models.iter_mut().find(|m| m.id == old.id) {
                None => provider.models.push(old.clone()),
                Some(model) => merge(old, model, now),
            }
        }
    }
}

/// Puts the prices of the older model before, beside and between those of the newer one.
fn merge<'a>(older: &Model<'a>, newer: &mut Model<'a>, now: i64) {
    let mut prices = older.prices.clone();
    let mut behind = 0;
    for mut price in std::mem::take(&mut newer.prices) {
        let versions = |p: &Price<'_>| p.id == price.id || is_version(&p.id, &price.id);
        let latest = prices.iter().rposition(versions);
        if let Some(at) = latest {
            behind = at + 1;
            if prices.get(at).is_some_and(|old| is_same(old, &price)) {
                continue;
            }
            price.id = format!("{}~{}", price.id, time::text(now)).into();
            // Two refreshes within a second cannot both be told from what was before.
            prices.retain(|old| old.id != price.id);
            behind = behind.min(prices.len());
        }
        let begins = price.valid_from.as_deref().and_then(time::instant);
        let is_dated = latest.is_none() && begins.is_some();
        if !is_dated {
            price.valid_from = Some(time::text(begins.unwrap_or(now).max(now)).into());
        }
        prices.insert(behind, price);
        behind += 1;
    }
    newer.prices = prices;
}

fn is_version(id: &str, of: &str) -> bool {
    id.strip_prefix(of).is_some_and(|rest| rest.starts_with('~'))
}

/// Whether the two say the same; when a version began to is not said in the newer file.
fn is_same(old: &Price<'_>, new: &Price<'_>) -> bool {
    let is_version = old.id != new.id;
    old.rates == new.rates
        && old.service_tiers == new.service_tiers
        && old.daily == new.daily
        && old.project == new.project
        && old.valid_until == new.valid_until
        && (is_version || old.valid_from == new.valid_from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Catalog;

    fn file(models: &str) -> String {
        format!(
            r#"{{"format":2,"source":{{"name":"n","date":"2026-01-01","license":"","sha256":""}},"providers":[
            {{"id":"p","name":"P","models":[{models}]}}]}}"#
        )
    }

    fn model(id: &str, prices: &str) -> String {
        format!(r#"{{"id":"{id}","match":{{"equals":"{id}"}},"prices":[{prices}]}}"#)
    }

    /// `older`, then `newer` at second `now`, as a file.
    fn refresh(older: &str, newer: &str, now: i64) -> String {
        let mut builder = CatalogBuilder::parse(newer).unwrap();
        builder.with_history(older, now).unwrap();
        builder.to_json().unwrap()
    }

    fn id_at(json: &str, model: &str, seconds: u64) -> String {
        let catalog = Catalog::parse(json).unwrap();
        let model = catalog.models().find(|m| catalog.model_name(*m) == model).unwrap();
        catalog.price_at(model, seconds * 1_000_000_000).unwrap().id().to_owned()
    }

    #[test]
    fn a_changed_rate_holds_from_the_refresh_on() {
        let before = file(&model("m", r#"{"id":"p/m","rates":{"input":"1"}}"#));
        let after = file(&model("m", r#"{"id":"p/m","rates":{"input":"2"}}"#));
        let merged = refresh(&before, &after, 1_000);
        assert_eq!(id_at(&merged, "m", 999), "p/m");
        assert_eq!(id_at(&merged, "m", 1_000), "p/m~1970-01-01T00:16:40Z");
        // The same file again says nothing new; a third one does.
        assert_eq!(refresh(&merged, &after, 2_000), merged);
        let third = refresh(&merged, &before, 3_000);
        assert_eq!(id_at(&third, "m", 2_999), "p/m~1970-01-01T00:16:40Z");
        assert_eq!(id_at(&third, "m", 3_000), "p/m~1970-01-01T00:50:00Z");
        assert_eq!(id_at(&third, "m", 999), "p/m");
    }

    #[test]
    fn dates_in_the_file_count() {
        let before = file(&model("m", r#"{"id":"p/m","rates":{"input":"1"}}"#));
        let dated = r#"{"id":"p/m","rates":{"input":"1"}},{"id":"p/m@1970-01-02","valid_from":"1970-01-02","rates":{"input":"2"}}"#;
        let merged = refresh(&before, &file(&model("m", dated)), 10 * 86_400);
        assert_eq!(id_at(&merged, "m", 86_399), "p/m");
        assert_eq!(id_at(&merged, "m", 86_400), "p/m@1970-01-02");
    }

    #[test]
    fn a_correction_of_the_past_does_not_override_what_came_later() {
        let prices = |first: &str| {
            format!(
                r#"{{"id":"p/m","rates":{{"input":"{first}"}}}},{{"id":"p/m@1970-01-02","valid_from":"1970-01-02","rates":{{"input":"2"}}}}"#
            )
        };
        let merged = refresh(&file(&model("m", &prices("1"))), &file(&model("m", &prices("9"))), 10 * 86_400);
        assert_eq!(id_at(&merged, "m", 20 * 86_400), "p/m@1970-01-02");
        assert_eq!(id_at(&merged, "m", 0), "p/m");
    }

    #[test]
    fn new_hours_hold_from_the_refresh_on_and_lost_models_stay() {
        let before = file(
            &[
                model("gone", r#"{"id":"p/gone","rates":{"input":"1"}}"#),
                model("m", r#"{"id":"p/m","rates":{"input":"1"}}"#),
            ]
            .join(","),
        );
        let after = file(&model(
            "m",
            r#"{"id":"p/m","rates":{"input":"1"}},{"id":"p/m#1","daily":["00:00","12:00"],"rates":{"input":"2"}}"#,
        ));
        let merged = refresh(&before, &after, 86_400);
        assert_eq!(id_at(&merged, "m", 3_600), "p/m");
        assert_eq!(id_at(&merged, "m", 86_400 + 3_600), "p/m#1");
        assert_eq!(id_at(&merged, "m", 86_400 + 50_000), "p/m");
        assert_eq!(id_at(&merged, "gone", 99), "p/gone");
    }
}
