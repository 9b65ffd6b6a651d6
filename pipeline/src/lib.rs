//! The core of Weir: what moves ([`batch`]), who is waiting for it ([`receipt`]), what nodes promise each other
//! ([`node`]), and how a configuration becomes a running graph ([`config`], [`graph`]).
//!
//! This crate does no network or storage I/O: it knows bytes, serde and tokio's channels and clock. (`${file:…}` in a
//! configuration is read with the standard library, and listening sockets are kept by it while a graph is replaced.)

#![warn(missing_docs)]

pub mod batch;
pub mod budget;
pub mod channel;
pub mod clock;
pub mod compare;
pub mod condition;
pub mod config;
pub mod copy;
pub mod extension;
pub mod fetch;
pub mod file;
pub mod graph;
pub mod hex;
pub mod host;
pub mod metadata;
pub mod node;
pub mod otlp;
pub mod pattern;
pub mod receipt;
pub mod sampling;
pub mod signal;
pub mod sockets;
pub mod telemetry;
pub mod tenant;
