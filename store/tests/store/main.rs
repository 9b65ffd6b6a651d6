//! The store from outside: spans in, SQL and spans out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod evolution;
mod lossless;
mod querying;
mod recost;
mod s3;
mod support;
mod writing;
