//! The W3C tracestate, as far as sampling reads and writes it: the `th` and `rv` of its `ot` member.

use std::fmt::Write as _;

use super::{Randomness, Threshold};

/// Limits of the W3C recommendation, and of OpenTelemetry for its own member.
const MAX_BYTES: usize = 1024;
const MAX_MEMBERS: usize = 32;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 256;

/// The member that belongs to OpenTelemetry.
const OWN: &str = "ot";

/// A tracestate that breaks the grammar or a limit of the W3C recommendation, or whose `ot` member cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTraceState {
    /// More bytes or members than allowed.
    #[error("the tracestate is longer than {MAX_BYTES} bytes or has more than {MAX_MEMBERS} members")]
    TooLong,
    /// A member is not `key=value`, or uses characters that are not allowed there.
    #[error("the tracestate is no list of key=value members")]
    Member,
    /// The `ot` member is not a list of `key:value`, or its `th` or `rv` is no such value.
    #[error("the `ot` member of the tracestate is malformed")]
    OpenTelemetry,
}

/// A tracestate that was read, and what is to be changed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceState<'a> {
    /// The text as it came.
    text: &'a str,
    /// The value of the `ot` member, empty if there is none.
    own: &'a str,
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
}

impl<'a> TraceState<'a> {
    /// Reads a tracestate, which may be empty.
    ///
    /// # Errors
    /// If it is not what W3C and OpenTelemetry define.
    pub fn parse(text: &'a str) -> Result<Self, InvalidTraceState> {
        let mut state = Self { text, own: "", threshold: None, randomness: None };
        if text.is_empty() {
            return Ok(state);
        }
        if text.len() > MAX_BYTES {
            return Err(InvalidTraceState::TooLong);
        }
        let mut count = 0;
        for member in members(text) {
            count += 1;
            let (key, value) = member.split_once('=').ok_or(InvalidTraceState::Member)?;
            if count > MAX_MEMBERS {
                return Err(InvalidTraceState::TooLong);
            }
            if !is_key(key) || !is_value(value) {
                return Err(InvalidTraceState::Member);
            }
            if key == OWN {
                state.own = value;
            }
        }
        for part in state.own.split(';').filter(|_| !state.own.is_empty()) {
            let (key, value) = part.split_once(':').ok_or(InvalidTraceState::OpenTelemetry)?;
            let key_is_valid = key.starts_with(|c: char| c.is_ascii_lowercase())
                && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let value_is_valid = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if !key_is_valid || !value_is_valid {
                return Err(InvalidTraceState::OpenTelemetry);
            }
            match key {
                "th" => state.threshold = Some(Threshold::parse(value).ok_or(InvalidTraceState::OpenTelemetry)?),
                "rv" => state.randomness = Some(Randomness::parse(value).ok_or(InvalidTraceState::OpenTelemetry)?),
                _ => {}
            }
        }
        Ok(state)
    }

    /// The threshold that the span has passed so far.
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// Randomness that takes the place of the trace id's.
    pub fn randomness(&self) -> Option<Randomness> {
        self.randomness
    }

    /// Changes the threshold; `None` takes it away.
    pub fn set_threshold(&mut self, threshold: Option<Threshold>) {
        self.threshold = threshold;
    }

    /// Changes the explicit randomness; `None` takes it away.
    pub fn set_randomness(&mut self, randomness: Option<Randomness>) {
        self.randomness = randomness;
    }

    /// Writes the tracestate with the `ot` member first, where W3C wants a changed member, and everything else as it
    /// came.
    pub fn write(&self, out: &mut String) {
        let mut separator = "ot=";
        let mut own = |out: &mut String, key: &str, value: std::fmt::Arguments<'_>| {
            out.push_str(separator);
            separator = ";";
            // Writing to a String cannot fail.
            let _ = write!(out, "{key}:{value}");
        };
        if let Some(randomness) = self.randomness {
            own(out, "rv", format_args!("{randomness}"));
        }
        if let Some(threshold) = self.threshold {
            own(out, "th", format_args!("{threshold}"));
        }
        for (key, value) in self.own.split(';').filter_map(|part| part.split_once(':')) {
            if !matches!(key, "th" | "rv") {
                own(out, key, format_args!("{value}"));
            }
        }
        for member in members(self.text).filter(|m| m.split_once('=').is_none_or(|(key, _)| key != OWN)) {
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(member);
        }
    }
}

/// The members of a tracestate; empty ones are allowed and say nothing.
fn members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|m| m.trim_matches([' ', '\t'])).filter(|m| !m.is_empty())
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str, may_start_with_digit: bool| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || may_start_with_digit && c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(&b))
    };
    key.len() <= MAX_KEY
        && match key.split_once('@') {
            None => is_part(key, false),
            Some((tenant, system)) => {
                tenant.len() <= 241 && system.len() <= 14 && is_part(tenant, true) && is_part(system, false)
            }
        }
}

fn is_value(value: &str) -> bool {
    let printable = value.bytes().all(|b| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=');
    (1..=MAX_VALUE).contains(&value.len()) && printable && !value.ends_with(' ')
}
