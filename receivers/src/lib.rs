//! Receivers: where data enters Weir.

#![warn(missing_docs)]

pub mod otlp;
