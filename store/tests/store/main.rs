//! The store from outside: spans in, SQL and spans out.

mod lossless;
mod querying;
mod s3;
mod support;
mod writing;
