//! The store from outside: spans in, SQL and spans out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::large_futures, reason = "the stack of a test has room for them")]

mod deleting;
mod evolution;
mod failing;
mod isolation;
mod lossless;
mod maintaining;
mod querying;
mod recost;
mod s3;
mod s3_server;
mod support;
mod writing;
