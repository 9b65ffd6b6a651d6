//! HTTP APIs over the store.
//!
//! * [`admin`]: projects, environments, keys and retention, for whoever looks after Weir.

#![warn(missing_docs)]

pub mod admin;
