//! Receivers: where data enters Weir.

#![warn(missing_docs)]

pub mod file;
pub mod otlp;
