//! The ends of pipelines.
//!
//! | component | what it does |
//! |---|---|
//! | [`otlp::OtlpGrpc`] (`otlp_grpc`, `otlp`) | sends over OTLP/gRPC |
//! | [`otlp::OtlpHttp`] (`otlp_http`, `otlphttp`) | sends over OTLP/HTTP |
//! | [`debug::Debug`] (`debug`) | prints to the standard output, prompts included |
//! | [`file::FileExporter`] (`file`) | writes OTLP to a local file |
//! | [`nop::Nop`] (`nop`) | throws away |
//!
//! What stands between a pipeline and a destination that may be slow or away, `sending_queue` and `retry_on_failure`, is
//! in `queue`.

#![warn(missing_docs)]

mod calendar;
pub mod debug;
pub mod file;
pub mod nop;
pub mod otlp;
#[cfg(feature = "parquet")]
pub mod parquet;
pub(crate) mod queue;
#[cfg(test)]
mod testing;
