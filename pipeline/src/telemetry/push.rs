//! Sending one's own metrics, for what has no network of its own.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

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
}

/// Metrics were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PushError(pub String);
