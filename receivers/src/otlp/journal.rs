//! The receiver's log: one warning a minute per kind of refusal, whatever clients send.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_pipeline::clock::Environment;
use weir_pipeline::signal::Signal;

use super::refusal::{Kind, Refusal};

const INTERVAL: Duration = Duration::from_secs(60);

/// Logs refusals of one receiver. Their texts name offsets, fields and limits, never contents.
#[derive(Debug)]
pub(super) struct Journal {
    receiver: String,
    environment: Environment,
    kinds: [Seen; Kind::COUNT],
}

#[derive(Debug, Default)]
struct Seen {
    /// Nanoseconds since the epoch of the last warning; 0 before the first.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Journal {
    pub(super) fn new(receiver: &str, environment: Environment) -> Self {
        Self { receiver: receiver.to_owned(), environment, kinds: Default::default() }
    }

    /// Tells of a refusal: a warning if none of its kind was given in the last minute.
    pub(super) fn note(&self, transport: &'static str, signal: Option<Signal>, refusal: &Refusal) {
        let (receiver, signal) = (self.receiver.as_str(), signal.map_or("unknown", Signal::as_str));
        tracing::debug!(receiver, transport, signal, "request refused: {refusal}");
        if let Some(suppressed) = self.due(refusal.kind()) {
            tracing::warn!(
                receiver,
                transport,
                signal,
                suppressed,
                "request refused: {refusal}; more of this kind within the next minute are logged at debug level"
            );
        }
    }

    /// The number of suppressed warnings of this kind, if one is due.
    fn due(&self, kind: Kind) -> Option<u64> {
        let seen = self.kinds.get(kind as usize)?;
        let now = self.environment.now_unix_nanos().max(1);
        let last = seen.last.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= INTERVAL.as_nanos() as u64;
        if due && seen.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            Some(seen.suppressed.swap(0, Ordering::Relaxed))
        } else {
            seen.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_warning_a_minute_per_kind() {
        let now = Arc::new(AtomicU64::new(5));
        let clock = Arc::clone(&now);
        let journal = Journal::new("otlp", Environment::with(move || clock.load(Ordering::Relaxed), 1));
        assert_eq!(journal.due(Kind::Malformed), Some(0));
        assert_eq!(journal.due(Kind::Malformed), None);
        assert_eq!(journal.due(Kind::Malformed), None);
        assert_eq!(journal.due(Kind::TooLarge), Some(0));
        now.store(5 + 59_999_999_999, Ordering::Relaxed);
        assert_eq!(journal.due(Kind::Malformed), None);
        now.store(5 + 60_000_000_000, Ordering::Relaxed);
        assert_eq!(journal.due(Kind::Malformed), Some(3));
        assert_eq!(journal.due(Kind::NotTaken), Some(0), "the last kind has a place too");
    }
}
