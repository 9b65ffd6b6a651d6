//! What becomes of a log record: as of a span, but what is known of its sampling stands in its attributes.

use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::{LogRecord, LogRecordMut, NewValue};
use weir_pipeline::sampling::{Randomness, Threshold};

use super::decide::{Mode, Policy, Reason, Sampler, hash};

/// Where a log record says how it was sampled.
const THRESHOLD: &str = "sampling.threshold";
/// Where a log record carries its randomness, if that is not its trace's.
const RANDOMNESS: &str = "sampling.randomness";

/// The lowest `SeverityNumber` of an error.
const SEVERITY_ERROR: i32 = 17;

/// What is looked at in a log record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogSource {
    /// Whether mode `hash_seed` hashes the trace id of a record that has one.
    pub(super) uses_trace_id: bool,
    /// The attribute that mode `hash_seed` hashes otherwise.
    pub(super) from_attribute: Option<String>,
    /// The attribute with a percentage of the record's own.
    pub(super) priority: Option<String>,
    /// Hexadecimal digits of the threshold that such a percentage becomes.
    pub(super) precision: u8,
}

/// What becomes of a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogDecision {
    pub(super) policy: Policy,
    /// `None`: it is kept.
    pub(super) dropped: Option<Reason>,
    /// What a record that is kept is to say from now on.
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
}

impl LogDecision {
    /// Writes into a record that is kept how it was sampled.
    pub(super) fn write(&self, record: &mut LogRecordMut<'_>) {
        if let Some(randomness) = self.randomness {
            record.attributes().set(RANDOMNESS, NewValue::Str(&randomness.to_string()));
        }
        if let Some(threshold) = self.threshold {
            record.attributes().set(THRESHOLD, NewValue::Str(&threshold.to_string()));
        }
    }
}

impl Sampler {
    /// Decides about a log record.
    pub(super) fn decide_log(&self, record: LogRecord<'_>, source: &LogSource) -> LogDecision {
        let mut known = Known::of(record);
        let mut fault = known.is_none().then_some(Reason::InvalidSamplingAttribute);
        let (mut randomness, mut policy) = (None, Policy::MissingRandomness);
        let mut new_randomness = None;
        match self.mode {
            // Only a priority can keep anything: no randomness is needed.
            Mode::Never => (randomness, policy) = (Some(Randomness::MAX), Policy::SamplingPriority),
            Mode::HashSeed { seed, .. } => {
                if let Some(hashed) = source.hash(record, seed) {
                    (randomness, policy) = (Some(hashed.0), hashed.1);
                }
                match known {
                    Some(Known { threshold: None, randomness: None }) => new_randomness = randomness,
                    Some(_) => {
                        known = None;
                        fault = Some(Reason::SamplingInUse);
                    }
                    None => {}
                }
            }
            Mode::Proportional { .. } | Mode::Equalizing(_) => match known {
                Some(Known { randomness: Some(own), .. }) => {
                    (randomness, policy) = (Some(own), Policy::SamplingRandomness);
                }
                Some(_) => {
                    if let Some(of_trace) = Randomness::of_trace_id(record.trace_id()) {
                        (randomness, policy) = (Some(of_trace), Policy::TraceIdW3c);
                    }
                }
                None => {}
            },
        }
        if fault.is_none() {
            fault = match (randomness, &mut known) {
                (None, _) => Some(Reason::MissingRandomness),
                (Some(randomness), Some(known)) if known.threshold.is_some_and(|th| !th.keeps(randomness)) => {
                    // Where the record is kept all the same, it must not go on claiming this.
                    known.threshold = None;
                    Some(Reason::InconsistentThreshold)
                }
                _ => None,
            };
        }
        let incoming = known.and_then(|known| known.threshold);
        let mut threshold = self.threshold(fault, incoming);
        let priority = source.priority(record);
        if let Some(priority) = priority {
            (policy, threshold) = (Policy::SamplingPriority, priority);
        } else if self.always.keeps_any(record.severity_number() >= SEVERITY_ERROR, |key| record.attr(key)) {
            (policy, threshold) = (Policy::AlwaysKeep, Threshold::ALWAYS);
        }
        if !threshold.keeps(randomness.unwrap_or(Randomness::MAX)) {
            let reason = Reason::of_dropped(priority.is_some(), fault);
            return LogDecision { policy, dropped: Some(reason), threshold: None, randomness: None };
        }
        // What cannot be read, or is another mode's, stays as it is. What was sampled before stays sampled: a threshold
        // only rises.
        let rises = known.is_some() && incoming.is_none_or(|incoming| incoming < threshold);
        LogDecision { policy, dropped: None, threshold: rises.then_some(threshold), randomness: new_randomness }
    }
}

/// What a record says of how it was sampled.
#[derive(Debug, Clone, Copy)]
struct Known {
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
}

impl Known {
    /// `None`: it says something that cannot be read.
    fn of(record: LogRecord<'_>) -> Option<Self> {
        let text = |key| record.attr(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self {
            threshold: match text(THRESHOLD) {
                Some(text) => Some(Threshold::parse(text)?),
                None => None,
            },
            randomness: match text(RANDOMNESS) {
                Some(text) => Some(Randomness::parse(text)?),
                None => None,
            },
        })
    }
}

impl LogSource {
    fn hash(&self, record: LogRecord<'_>, seed: u32) -> Option<(Randomness, Policy)> {
        let trace_id = record.trace_id();
        if self.uses_trace_id && Randomness::of_trace_id(trace_id).is_some() {
            return Some((hash(trace_id, seed), Policy::TraceIdHash));
        }
        let randomness = match record.attr(self.from_attribute.as_deref()?)? {
            Value::Bytes(bytes) if !bytes.is_empty() => hash(bytes, seed),
            Value::Bytes(_) => return None,
            value => match value.to_text() {
                text if text.is_empty() => return None,
                text => hash(text.as_bytes(), seed),
            },
        };
        Some((randomness, Policy::FromAttribute))
    }

    /// The threshold that a record asks for itself: with 0 it is never kept, with 100 or more always. Other things than
    /// numbers, and negative ones, say nothing.
    fn priority(&self, record: LogRecord<'_>) -> Option<Threshold> {
        let percentage = match record.attr(self.priority.as_deref()?)? {
            Value::Int(int) => int as f64,
            Value::Double(double) => double,
            _ => return None,
        };
        match percentage {
            0.0 => Some(Threshold::NEVER),
            p if p >= 100.0 => Some(Threshold::ALWAYS),
            p if p > 0.0 => Threshold::from_probability(p / 100.0, self.precision),
            _ => None,
        }
    }
}
