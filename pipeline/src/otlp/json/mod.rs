//! OTLP/JSON to protobuf and back, driven by the tables of [`super::schema`] (OTLP specification, "JSON Protobuf
//! Encoding").
//!
//! Everything behind the receivers works on protobuf bytes, so JSON is rewritten once on the way in ([`to_protobuf`])
//! and, where somebody wants to read or replay it, once on the way out ([`to_json`]). Neither builds a tree.
//!
//! # What is accepted
//!
//! * Names in lowerCamelCase, or as the `.proto` files have them. Every other name is an unknown field: skipped, whatever
//!   its value, at any depth.
//! * `traceId`, `spanId` and `parentSpanId` in hexadecimal of either case, of their length or empty; other `bytes` in base64, standard or
//!   URL-safe, padded or not.
//! * Integers as numbers or as strings, also in exponent form while they are whole (`1e3`, `"1.50e1"`); exact, and
//!   checked against the field's range. Doubles as numbers, as numeric strings or as `"NaN"`, `"Infinity"` and
//!   `"-Infinity"` (and `"+Inf"`, `"-Inf"`, which the OpenTelemetry Collector writes).
//! * Enumerations as integers, or by name.
//! * `null` for a field that is absent; as an element of a list of messages, an empty message (the Collector reads it
//!   so). In a list of scalars it is an error.
//! * `\ud83d` without its other half becomes U+FFFD: JavaScript SDKs write it when they cut a string to its limit.
//!
//! # What is refused
//!
//! Anything else, with a [`JsonError`]. In particular a field given twice in one object and a second member of a
//! `oneof`: protobuf would let the last one win, but then what was stored would depend on who read it.

mod decode;
mod encode;
mod scalar;
#[cfg(test)]
mod tests;

use std::fmt;

pub use decode::to_protobuf;
pub use encode::{to_json, write_json};

use crate::batch::validate::MAX_DEPTH;

/// What [`to_protobuf`] may spend on one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest protobuf in bytes. Protobuf is mostly the shorter form, but a list of zeros grows fourfold.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 64 MiB, the limit the OTLP specification recommends for a request.
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

/// Why a body is no OTLP/JSON, and where. Never holds what the strings of the body say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem} (line {line}, column {column})")]
pub struct JsonError {
    /// The field, as in `resourceSpans[0].scopeSpans[1].spans[3].name`; for the body itself the message's name.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
    /// Line of the body, from 1: where reading stopped, which is at or just after the end of a value that does not fit.
    pub line: usize,
    /// Byte within that line, from 1.
    pub column: usize,
}

/// What is wrong at the place a [`JsonError`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The body is not UTF-8.
    Utf8,
    /// The body is not JSON.
    Syntax(String),
    /// A value that does not fit its field.
    Expected {
        /// What the field takes.
        expected: &'static str,
        /// What the body has.
        found: Found,
    },
    /// A field that its object has already given.
    Twice,
    /// A member of a `oneof` after another one, whose name this is.
    SecondMember(String),
    /// Messages nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// The protobuf would be longer than this many bytes ([`Limits::max_bytes`]).
    TooLong(usize),
}

/// What kind of JSON value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A number, or a string with one, that the field's type cannot hold.
    OutOfRange,
    /// A number with a fraction, or a string with one.
    Fraction,
    /// A string, and its length in bytes as written.
    String(usize),
    /// An array.
    Array,
    /// An object.
    Object,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8 => write!(f, "the body is not valid UTF-8"),
            Self::Syntax(what) => write!(f, "not valid JSON: {what}"),
            Self::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Twice => write!(f, "the field occurs twice in its object"),
            Self::SecondMember(first) => write!(f, "only one member of a oneof may be set, and {first} already is"),
            Self::TooDeep => write!(f, "messages are nested deeper than {MAX_DEPTH} levels"),
            Self::TooLong(max) => write!(f, "the request takes more than the {max} bytes allowed as protobuf"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "null"),
            Self::Bool => write!(f, "a boolean"),
            Self::Number => write!(f, "a number"),
            Self::OutOfRange => write!(f, "a number out of its range"),
            Self::Fraction => write!(f, "a number with a fraction"),
            Self::String(len) => write!(f, "a string of {len} bytes"),
            Self::Array => write!(f, "an array"),
            Self::Object => write!(f, "an object"),
        }
    }
}
