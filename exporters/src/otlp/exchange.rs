//! What sending has in common over gRPC and HTTP.

use std::time::Duration;

use super::body::Payload;
use super::client::{Client, Reply};
use super::compress::Compression;
use crate::queue::Failure;
use crate::queue::settings::{QueueSettings, RetrySettings};

/// How to send, whatever the protocol.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// Of one attempt, connecting included; `None`: no limit.
    pub(super) timeout: Option<Duration>,
    pub(super) compression: Compression,
    /// `None`: no queue.
    pub(super) queue: Option<QueueSettings>,
    pub(super) retry: RetrySettings,
    /// The largest request, before compression.
    pub(super) max_request_bytes: usize,
}

/// Sends once. Without an answer in time the connection is not used again.
pub(super) async fn exchange(client: &Client, payload: &Payload, timeout: Option<Duration>) -> Result<Reply, Failure> {
    let mut used = None;
    let sent = client.send(payload, &mut used);
    let result = match timeout {
        None => sent.await,
        Some(limit) => match tokio::time::timeout(limit, sent).await {
            Ok(result) => result,
            Err(_) => {
                client.discard(used);
                return Err(Failure::transient(format!("no answer within {limit:?}")));
            }
        },
    };
    result.map_err(|e| Failure::transient(e.to_string()))
}
