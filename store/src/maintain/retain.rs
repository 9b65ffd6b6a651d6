//! Retention: whole days that are past their time leave the table.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use weir_pipeline::tenant::{Keep, Retention};

use super::spans::{LiveFile, Spans};
use super::{Maintenance, Stored};
use crate::StoreError;

/// What is past its time at one moment: by environment the first day that is kept.
struct Limits(BTreeMap<String, String>);

impl Limits {
    /// Of the environments that these files are of.
    fn of(files: &[LiveFile], now_unix_nano: u64, keep: impl Fn(&str) -> Keep) -> Self {
        let mut limits = BTreeMap::new();
        for file in files {
            if !limits.contains_key(&file.environment)
                && let Keep::Days(days) = keep(&file.environment)
                && let Some(day) = first_kept(now_unix_nano, days)
            {
                limits.insert(file.environment.clone(), day);
            }
        }
        Self(limits)
    }

    fn is_past(&self, file: &LiveFile) -> bool {
        // Days as texts are ordered like days. A file without one is not ours to judge.
        let limit = self.0.get(&file.environment);
        limit.is_some_and(|limit| !file.date.is_empty() && file.date < *limit)
    }

    /// The same for the log.
    fn predicate(&self) -> String {
        let parts = self.0.iter().map(|(environment, day)| {
            format!("(environment = '{}' AND date < '{day}')", environment.replace('\'', "''"))
        });
        parts.collect::<Vec<_>>().join(" OR ")
    }
}

/// The first day that is kept. A span of the last moment of the day before is `days` days old when today begins.
fn first_kept(now_unix_nano: u64, days: u32) -> Option<String> {
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_unix_nano)).ok()?;
    let day = now.date().checked_sub(Duration::days(i64::from(days)))?;
    Some(format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day()))
}

/// Takes what is past its time out of a project's table, and says what that was; with `dry_run` it only says.
pub(super) async fn retain(
    spans: &mut Spans,
    project: Option<&Retention>,
    organization: &Retention,
    by: &Maintenance,
    dry_run: bool,
) -> Result<Stored, StoreError> {
    let files = spans.files()?;
    let limits = Limits::of(&files, by.clock.now_unix_nanos(), |environment| {
        Retention::resolve(project, organization, environment)
    });
    let past = files.iter().filter(|file| limits.is_past(file)).map(|file| (file.environment.as_str(), file.amount()));
    let past: Stored = past.collect();
    if dry_run || past.is_empty() {
        return Ok(past);
    }
    spans.remove(&|file| limits.is_past(file), &limits.predicate(), by).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_goes_when_its_last_moment_is_old_enough() {
        let at = |hour: u64| 1_795_248_000_000_000_000 + hour * 3_600_000_000_000;
        // 2026-11-21T08:00Z and 16 hours later.
        for (hour, days, day) in
            [(0, 1, "2026-11-20"), (15, 1, "2026-11-20"), (16, 1, "2026-11-21"), (0, 30, "2026-10-22")]
        {
            assert_eq!(first_kept(at(hour), days).as_deref(), Some(day));
        }
        assert_eq!(first_kept(0, 36_500).as_deref(), Some("1870-01-25"));
    }
}
