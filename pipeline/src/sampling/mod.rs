//! Probability sampling as OpenTelemetry specifies it (OTEP 235): thresholds, randomness, and where both are written.
//!
//! A trace carries 56 random bits: the last seven bytes of its id, or `rv` in its tracestate. A sampler has a threshold
//! of 56 bits: the share of traces it rejects. It keeps a trace if the trace's randomness is not below the threshold, so
//! that of two samplers the stricter one keeps a subset of what the other keeps.
//!
//! ```text
//! tracestate: ot=rv:9b8233f7e3a151;th:8,vendor=…
//!                ▲                 ▲
//!                │                 └ threshold 0x80000000000000: half of all traces were rejected,
//!                └ randomness        this span stands for two (its adjusted count)
//! ```
//!
//! The adjusted count is how totals of sampled data, costs included, are scaled back: [`adjusted_count`].
//!
//! Source: OpenTelemetry specification, "TraceState: Probability Sampling".

#[cfg(test)]
mod tests;
mod trace_state;

use std::fmt;

pub use self::trace_state::{InvalidTraceState, TraceState};

/// The number of traces that the smallest probability keeps one of: 2⁵⁶.
const MAX_ADJUSTED_COUNT: u64 = 1 << 56;

/// Hexadecimal digits of 56 bits.
pub const MAX_PRECISION: u8 = 14;

/// How many spans a span with this tracestate stands for. `None`: nothing is said, or nothing that can be read.
pub fn adjusted_count(trace_state: &str) -> Option<f64> {
    TraceState::parse(trace_state).ok()?.threshold().map(Threshold::adjusted_count)
}

/// The share of traces that a sampler rejects, in 2⁻⁵⁶: from 0 (none) to 2⁵⁶ (all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Threshold {
    /// Keeps everything.
    pub const ALWAYS: Self = Self(0);
    /// Keeps nothing. Not written anywhere: what it rejects is gone.
    pub const NEVER: Self = Self(MAX_ADJUSTED_COUNT);

    /// A threshold from its 56 bits; a larger number keeps nothing.
    pub const fn from_bits(bits: u64) -> Self {
        if bits < MAX_ADJUSTED_COUNT { Self(bits) } else { Self::NEVER }
    }

    /// The 56 bits; 2⁵⁶ for [`Self::NEVER`].
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The threshold that keeps a trace with this probability, rounded to `precision` significant hexadecimal digits
    /// (1 to 14). Leading `0`s and `f`s do not count as significant, so that the relative error of a small probability
    /// is as small as that of a large one. `None`: the probability is not in 2⁻⁵⁶..=1.
    pub fn from_probability(probability: f64, precision: u8) -> Option<Self> {
        if !(1.0 / MAX_ADJUSTED_COUNT as f64..=1.0).contains(&probability) {
            return None;
        }
        // Rounding to the nearest integer is exact enough: a double has 53 bits.
        let kept = (probability * MAX_ADJUSTED_COUNT as f64).round() as u64;
        let rejected = MAX_ADJUSTED_COUNT - kept;
        if rejected == 0 {
            return Some(Self::ALWAYS);
        }
        let leading = leading_hex_zeros(probability).max(leading_hex_zeros(1.0 - probability));
        let digits = u32::from(precision.clamp(1, MAX_PRECISION)).saturating_add(leading).min(u32::from(MAX_PRECISION));
        let shift = 4 * (u32::from(MAX_PRECISION) - digits);
        let rounded = if shift == 0 { rejected } else { (rejected + (1 << (shift - 1))) >> shift << shift };
        // A probability above zero never becomes one of zero.
        Some(Self(rounded.min(MAX_ADJUSTED_COUNT - 1)))
    }

    /// Reads a `th` value: one to fourteen hexadecimal digits, trailing zeros left out.
    pub fn parse(text: &str) -> Option<Self> {
        let missing = usize::from(MAX_PRECISION).checked_sub(text.len())?;
        Some(Self(hexadecimal(text)? << (4 * missing)))
    }

    /// The probability with which a trace is kept.
    pub fn probability(self) -> f64 {
        (MAX_ADJUSTED_COUNT - self.0) as f64 / MAX_ADJUSTED_COUNT as f64
    }

    /// How many spans one that was kept stands for; infinite for [`Self::NEVER`].
    pub fn adjusted_count(self) -> f64 {
        MAX_ADJUSTED_COUNT as f64 / (MAX_ADJUSTED_COUNT - self.0) as f64
    }

    /// Whether a trace with this randomness is kept.
    pub const fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }
}

/// How many digits of a share are zeros when it is written in hexadecimal: from the binary exponent, as the
/// specification does it.
fn leading_hex_zeros(share: f64) -> u32 {
    if share <= 0.0 {
        return 0;
    }
    // `0.5 <= share / 2^exponent < 1`: one more than the exponent of the IEEE form. Shares are far from subnormal.
    let exponent = (share.to_bits() >> 52 & 0x7ff) as i32 - 1022;
    exponent.min(0).unsigned_abs() / 4
}

/// The `th` value.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALWAYS {
            return f.write_str("0");
        }
        let zeros = (self.0.trailing_zeros() / 4).min(u32::from(MAX_PRECISION) - 1);
        write!(f, "{:0width$x}", self.0 >> (4 * zeros), width = (u32::from(MAX_PRECISION) - zeros) as usize)
    }
}

/// The 56 random bits of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Randomness(u64);

impl Randomness {
    /// What every threshold but [`Threshold::NEVER`] keeps.
    pub const MAX: Self = Self(MAX_ADJUSTED_COUNT - 1);

    /// Randomness from its 56 bits; higher ones are cut off.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & (MAX_ADJUSTED_COUNT - 1))
    }

    /// The 56 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The last seven bytes of a trace id. `None` if it is no trace id: not 16 bytes, or all zeros.
    pub fn of_trace_id(trace_id: &[u8]) -> Option<Self> {
        let id = u128::from_be_bytes(trace_id.try_into().ok()?);
        (id != 0).then_some(Self::from_bits(id as u64))
    }

    /// Reads an `rv` value: exactly fourteen hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == usize::from(MAX_PRECISION)).then(|| hexadecimal(text).map(Self))?
    }
}

/// The `rv` value.
impl fmt::Display for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

/// At most 16 digits and nothing else.
fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}
