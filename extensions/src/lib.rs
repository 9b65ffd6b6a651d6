//! Extensions: what runs beside the pipelines. One folder a component, and [`metrics`], which serves Weir's own metrics.

pub mod apikeyauth;
pub mod basicauth;
pub mod bearertokenauth;
pub mod file_storage;
pub mod headers_setter;
pub mod health_check;
pub mod http;
pub mod metrics;
pub mod places;
#[cfg(feature = "pprof")]
pub mod pprof;
mod scheme;
mod watched;
pub mod zpages;
