//! Extensions: what runs beside the pipelines. One folder a component, and [`metrics`], which serves Weir's own metrics.

mod http;
pub mod metrics;
