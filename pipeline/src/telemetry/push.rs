//! Sending one's own metrics, for what has no network of its own.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

/// A place that one's own metrics are sent to.
#[async_trait]
pub trait Push: Debug + Send + Sync + 'static {
    /// Sends the protobuf bytes of an `ExportMetricsServiceRequest`, once.
    ///
    /// # Errors
    /// Says in one line why it was not taken, or not all of it.
    async fn push(&self, request: Bytes) -> Result<(), PushError>;

    /// Where it is, for messages: `host:port`.
    fn address(&self) -> String;

    /// From when sums are to count.
    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// From when a sum counts (OTLP, `AggregationTemporality`), by what counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Temporality {
    /// All from the start of the process.
    #[default]
    Cumulative,
    /// All from the last time that they were sent.
    Delta,
    /// What is counted as it happens from the last time; what is read when it is sent, such as the CPU time of the
    /// process, from the start. Nothing has to be remembered for that.
    LowMemory,
}

/// Metrics were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// None of them, as far as is known.
    #[error("{0}")]
    Refused(String),
    /// Some of them; those that were not are lost.
    #[error("{0}")]
    Partly(String),
}
