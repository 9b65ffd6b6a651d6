//! The core of Weir: what moves ([`batch`]), who is waiting for it ([`receipt`]), what nodes promise each other
//! ([`node`]), and how a configuration becomes a running graph.
//!
//! This crate does no I/O of its own: it knows bytes, serde and tokio's channels and clock.

#![warn(missing_docs)]

pub mod batch;
pub mod budget;
pub mod channel;
pub mod clock;
pub mod node;
pub mod otlp;
pub mod receipt;
pub mod signal;
pub mod telemetry;
