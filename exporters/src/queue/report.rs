//! Tells the log about failures without flooding it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often one kind of failure may be logged.
const PAUSE: Duration = Duration::from_secs(60);

/// The kinds of failure that are counted and logged, by the name they have in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The destination will never take the data.
    Permanent,
    /// The destination did not take the data in time, or retrying is off.
    Exhausted,
    /// The process stopped before the destination took the data.
    Shutdown,
    /// Whoever sent the data has stopped waiting for an answer, and will send it again.
    Abandoned,
    /// The destination took the request but not all of its records.
    Partial,
    /// A single record is larger than what may be sent, or than the destination takes.
    TooLarge,
    /// The queue had no room.
    Full,
    /// What was stored cannot be read.
    Corrupt,
    /// The log does not take the data, and the client is to come again.
    Storage,
    /// The destination took everything and has something to say.
    Warning,
    /// An attempt failed and will be repeated.
    Retrying,
}

impl Kind {
    /// The `reason` label of the counters.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Permanent => "permanent_error",
            Self::Exhausted => "retries_exhausted",
            Self::Shutdown => "shutdown",
            Self::Abandoned => "abandoned",
            Self::Partial => "partial_success",
            Self::TooLarge => "too_large",
            Self::Full => "queue_full",
            Self::Corrupt => "corrupt",
            Self::Storage => "storage",
            Self::Warning => "warning",
            Self::Retrying => "retrying",
        }
    }
}

/// Logs each kind of failure at once, and then at most once a minute with a count.
#[derive(Debug)]
pub(crate) struct Report {
    exporter: String,
    records: &'static str,
    seen: Mutex<HashMap<Kind, Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    logged: Instant,
    since: u64,
}

impl Report {
    /// A report about one exporter; `records` is what it sends (`spans`).
    pub(crate) fn new(exporter: &str, records: &'static str) -> Self {
        Self { exporter: exporter.to_owned(), records, seen: Mutex::default() }
    }

    /// Logs a failure unless its kind was logged within the last minute.
    pub(crate) fn tell(&self, kind: Kind, count: usize, message: &str) {
        let Some(suppressed) = self.is_due(kind, Instant::now()) else { return };
        let (exporter, records, what) = (self.exporter.as_str(), self.records, kind.reason());
        match kind {
            Kind::Retrying => {
                tracing::info!(exporter, what, count, records, suppressed, "export failed, will try again: {message}");
            }
            Kind::Warning => {
                tracing::warn!(exporter, what, count, records, suppressed, "the destination warns: {message}");
            }
            Kind::Storage => {
                tracing::error!(
                    exporter,
                    what,
                    count,
                    records,
                    suppressed,
                    "clients are told to come again: {message}"
                );
            }
            Kind::Permanent
            | Kind::Exhausted
            | Kind::Shutdown
            | Kind::Abandoned
            | Kind::Partial
            | Kind::TooLarge
            | Kind::Full
            | Kind::Corrupt => {
                tracing::error!(exporter, what, count, records, suppressed, "dropping data: {message}");
            }
        }
    }

    /// How many of this kind were not logged since the last one that was; `None` if it is too early for another.
    fn is_due(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(&kind) {
            Some(last) if now.duration_since(last.logged) < PAUSE => {
                last.since += 1;
                None
            }
            Some(last) => Some(std::mem::replace(last, Seen { logged: now, since: 0 }).since),
            None => {
                seen.insert(kind, Seen { logged: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_a_minute_with_a_count() {
        let report = Report::new("otlp", "spans");
        let start = Instant::now();
        assert_eq!(report.is_due(Kind::Permanent, start), Some(0));
        assert_eq!(report.is_due(Kind::Permanent, start + PAUSE / 2), None);
        assert_eq!(report.is_due(Kind::Exhausted, start + PAUSE / 2), Some(0));
        assert_eq!(report.is_due(Kind::Permanent, start + PAUSE * 2 / 3), None);
        assert_eq!(report.is_due(Kind::Permanent, start + PAUSE), Some(2));
        assert_eq!(report.is_due(Kind::Permanent, start + PAUSE * 2), Some(0));
    }
}
