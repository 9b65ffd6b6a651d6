//! What becomes of a span: a pure function of the span and the settings.

use foldhash::HashMap;
use weir_pipeline::batch::Span;
use weir_pipeline::batch::view::{KeyValue, Value};
use weir_pipeline::sampling::{Randomness, Threshold, TraceState};
use weir_pipeline::tenant::{Slug, Tenant};

use super::config::HASH_BITS;
use super::logs::LogSource;
use crate::number;

/// How spans are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    HashSeed { seed: u32, threshold: Threshold },
    Proportional { ratio: f64, precision: u8 },
    Equalizing(Threshold),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    pub(super) mode: Mode,
    pub(super) fail_closed: bool,
    pub(super) always: Always,
}

/// What is kept whatever the share is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Always {
    pub(super) errors: bool,
    /// USD.
    pub(super) cost_above: Option<f64>,
}

/// The samplers of all tenants.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samplers {
    pub(super) logs: LogSource,
    pub(super) general: Sampler,
    /// By project, in the order of the configuration: of one environment, or of those that come to it.
    pub(super) tenants: HashMap<Slug, Vec<(Option<Slug>, Sampler)>>,
}

impl Samplers {
    /// The sampler for a tenant's spans.
    pub(super) fn of(&self, tenant: Option<&Tenant>) -> &Sampler {
        let own = || {
            let tenant = tenant.filter(|_| !self.tenants.is_empty())?;
            let fits = |environment: &Option<Slug>| environment.as_ref().is_none_or(|e| *e == tenant.environment);
            self.tenants.get(&tenant.project)?.iter().find(|(environment, _)| fits(environment))
        };
        own().map_or(&self.general, |(_, sampler)| sampler)
    }
}

impl Always {
    /// Whether a record is kept that is an error or not and has these attributes.
    pub(super) fn keeps_any<'a>(&self, is_error: bool, attr: impl Fn(&str) -> Option<Value<'a>>) -> bool {
        self.errors && is_error || self.cost_above.is_some_and(|limit| cost(attr).is_some_and(|cost| cost > limit))
    }
}

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: i32 = 2;

/// What the `cost` processor says that something costs, in USD.
fn cost<'a>(attr: impl Fn(&str) -> Option<Value<'a>>) -> Option<f64> {
    ["weir.cost.total", "gen_ai.usage.cost.amount"].iter().find_map(|key| match attr(key)? {
        Value::Double(amount) => Some(amount),
        Value::Int(amount) => Some(amount as f64),
        _ => None,
    })
}

/// What a decision was made by, in the Collector's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    TraceIdHash,
    TraceIdW3c,
    SamplingRandomness,
    SamplingPriority,
    MissingRandomness,
    /// Not in the Collector.
    AlwaysKeep,
    /// Log records only; counted under the attribute's name.
    FromAttribute,
}

impl Policy {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 7] = [
        Self::TraceIdHash,
        Self::TraceIdW3c,
        Self::SamplingRandomness,
        Self::SamplingPriority,
        Self::MissingRandomness,
        Self::AlwaysKeep,
        Self::FromAttribute,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TraceIdHash => "trace_id_hash",
            Self::TraceIdW3c => "trace_id_w3c",
            Self::SamplingRandomness => "sampling_randomness",
            Self::SamplingPriority => "sampling_priority",
            Self::MissingRandomness => "missing_randomness",
            Self::AlwaysKeep => "always_keep",
            Self::FromAttribute => "from_attribute",
        }
    }
}

/// Why a record was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    SampledOut,
    SamplingPriority,
    /// No trace id to take randomness from.
    MissingRandomness,
    InvalidTraceState,
    /// The same of a log record, where it stands in attributes.
    InvalidSamplingAttribute,
    /// By its threshold, the record should not have come this far.
    InconsistentThreshold,
    /// Mode `hash_seed`, and the record says that another mode is in use.
    SamplingInUse,
}

impl Reason {
    /// Why a record is dropped that has a priority of its own, or with which something is wrong.
    pub(super) fn of_dropped(has_priority: bool, fault: Option<Self>) -> Self {
        if has_priority { Self::SamplingPriority } else { fault.unwrap_or(Self::SampledOut) }
    }

    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 7] = [
        Self::SampledOut,
        Self::SamplingPriority,
        Self::MissingRandomness,
        Self::InvalidTraceState,
        Self::InvalidSamplingAttribute,
        Self::InconsistentThreshold,
        Self::SamplingInUse,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::SampledOut => "sampled_out",
            Self::SamplingPriority => "sampling_priority",
            Self::MissingRandomness => "missing_randomness",
            Self::InvalidTraceState => "invalid_tracestate",
            Self::InvalidSamplingAttribute => "invalid_sampling_attribute",
            Self::InconsistentThreshold => "inconsistent_threshold",
            Self::SamplingInUse => "sampling_in_use",
        }
    }
}

/// What becomes of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) policy: Policy,
    /// `None`: it is kept.
    pub(super) dropped: Option<Reason>,
    /// Whether a span that is kept gets another tracestate.
    pub(super) changed: bool,
}

/// What `sampling.priority` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    Drop,
    Keep,
}

impl Sampler {
    /// Decides about a span. If its tracestate is to change, that is in `out`.
    pub(super) fn decide(&self, span: Span<'_>, out: &mut String) -> Decision {
        let mut priority = None;
        for kv in span.raw_attributes().filter(|kv| kv.key == *"sampling.priority") {
            priority = Priority::of(kv);
        }
        let fields = span.fields();
        let text = fields.trace_state.as_str();
        let Origin { randomness, mut policy, mut state, mut fault } = self.origin(fields.trace_id, text);
        if fault.is_none() {
            fault = match (randomness, &mut state) {
                (None, _) => Some(Reason::MissingRandomness),
                (Some(randomness), Some(state)) if state.threshold().is_some_and(|th| !th.keeps(randomness)) => {
                    // Where the span is kept all the same, it must not go on claiming this.
                    state.set_threshold(None);
                    Some(Reason::InconsistentThreshold)
                }
                _ => None,
            };
        }
        let incoming = state.as_ref().and_then(TraceState::threshold);
        let mut threshold = self.threshold(fault, incoming);
        if let Some(priority) = priority {
            policy = Policy::SamplingPriority;
            threshold = if priority == Priority::Keep { Threshold::ALWAYS } else { Threshold::NEVER };
        } else if self.always.keeps_any(fields.status_code == STATUS_ERROR, |key| span.attr(key)) {
            (policy, threshold) = (Policy::AlwaysKeep, Threshold::ALWAYS);
        }
        if !threshold.keeps(randomness.unwrap_or(Randomness::MAX)) {
            let reason = Reason::of_dropped(priority.is_some(), fault);
            return Decision { policy, dropped: Some(reason), changed: false };
        }
        let mut changed = false;
        if let Some(mut state) = state {
            // What was sampled before stays sampled: a threshold only rises.
            if incoming.is_none_or(|incoming| incoming < threshold) {
                state.set_threshold(Some(threshold));
            }
            out.clear();
            state.write(out);
            changed = out != text;
        }
        Decision { policy, dropped: None, changed }
    }

    /// The threshold of a record that has passed the threshold `incoming`, or with which something is wrong.
    pub(super) fn threshold(&self, fault: Option<Reason>, incoming: Option<Threshold>) -> Threshold {
        match fault {
            Some(_) if self.fail_closed => Threshold::NEVER,
            Some(_) => Threshold::ALWAYS,
            None => self.mode.threshold(incoming),
        }
    }

    fn origin<'a>(&self, trace_id: &[u8], trace_state: &'a str) -> Origin<'a> {
        let (state, mut fault) = match TraceState::parse(trace_state) {
            Ok(state) => (Some(state), None),
            Err(_) => (None, Some(Reason::InvalidTraceState)),
        };
        let mut origin = Origin { randomness: None, policy: Policy::MissingRandomness, state, fault: None };
        match (self.mode, &mut origin.state) {
            (Mode::Never, _) => {
                // Only a priority can keep anything: no randomness is needed.
                (origin.randomness, origin.policy) = (Some(Randomness::MAX), Policy::SamplingPriority);
            }
            (Mode::HashSeed { seed, .. }, state) => {
                if Randomness::of_trace_id(trace_id).is_some() {
                    (origin.randomness, origin.policy) = (Some(hash(trace_id, seed)), Policy::TraceIdHash);
                }
                match state {
                    Some(s) if s.randomness().is_some() || s.threshold().is_some() => {
                        *state = None;
                        fault = Some(Reason::SamplingInUse);
                    }
                    Some(s) => s.set_randomness(origin.randomness),
                    None => {}
                }
            }
            (Mode::Proportional { .. } | Mode::Equalizing(_), Some(state)) => {
                if let Some(randomness) = state.randomness() {
                    (origin.randomness, origin.policy) = (Some(randomness), Policy::SamplingRandomness);
                } else if let Some(randomness) = Randomness::of_trace_id(trace_id) {
                    (origin.randomness, origin.policy) = (Some(randomness), Policy::TraceIdW3c);
                }
            }
            (Mode::Proportional { .. } | Mode::Equalizing(_), None) => {}
        }
        origin.fault = fault;
        origin
    }
}

/// What a decision is made of.
struct Origin<'a> {
    randomness: Option<Randomness>,
    policy: Policy,
    /// `None`: the tracestate stays as it is.
    state: Option<TraceState<'a>>,
    fault: Option<Reason>,
}

impl Mode {
    /// The threshold of a record that has passed the threshold `incoming`.
    fn threshold(self, incoming: Option<Threshold>) -> Threshold {
        match self {
            Self::HashSeed { threshold, .. } => threshold,
            Self::Equalizing(threshold) => threshold.max(incoming.unwrap_or(Threshold::ALWAYS)),
            Self::Proportional { ratio, precision } => {
                let incoming = incoming.map_or(1.0, Threshold::probability);
                // Less than one in 2⁵⁶ is nothing.
                Threshold::from_probability(incoming * ratio, precision).unwrap_or(Threshold::NEVER)
            }
            Self::Never => Threshold::NEVER,
        }
    }
}

impl Priority {
    /// The OpenTracing attribute, whose type differs between libraries. Negative numbers and others say nothing.
    fn of(kv: KeyValue<'_>) -> Option<Self> {
        let number = match kv.value() {
            Value::Int(int) => int as f64,
            Value::Double(double) => double,
            Value::Str(text) => number::float(text.as_str())?,
            _ => return None,
        };
        match number {
            n if n > 0.0 => Some(Self::Keep),
            0.0 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// The Collector's hash of a trace id or attribute: FNV-1a of the seed and the bytes, made into randomness whose 14 highest bits decide
/// as the hash's 14 lowest ones always have.
pub(super) fn hash(trace_id: &[u8], seed: u32) -> Randomness {
    let bytes = seed.to_le_bytes();
    let hash = bytes.iter().chain(trace_id).fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    let bucket = u64::from(hash & ((1 << HASH_BITS) - 1));
    let decisive = (1 << HASH_BITS) - 1 - bucket;
    let unused = u64::from(hash >> (32 - HASH_BITS));
    let mixed = unused ^ (unused << 10);
    Randomness::from_bits(decisive << 42 | mixed << 14 | bucket)
}
