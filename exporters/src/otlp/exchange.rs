//! What sending has in common over gRPC and HTTP.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weir_pipeline::metadata::Metadata;

use super::body::Payload;
use super::client::{Client, ClientError, Reply, Response};
use super::compress::Compression;
use super::headers::{Auth, Edit};
use crate::queue::Failure;
use crate::queue::settings::{QueueSettings, RetrySettings};

/// How to send, whatever the protocol.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// Of one attempt, connecting included; `None`: no limit.
    pub(super) timeout: Option<Duration>,
    pub(super) compression: Compression,
    /// `None`: the default of [`super::compress`].
    pub(super) compression_level: Option<i32>,
    /// `None`: no queue.
    pub(super) queue: Option<QueueSettings>,
    pub(super) retry: RetrySettings,
    /// The largest request, before compression.
    pub(super) max_request_bytes: usize,
    /// Where further headers come from.
    pub(super) auth: Option<Auth>,
    /// Whether an attempt waits for a connection rather than fail at once; needs a `timeout`.
    pub(super) waits_for_ready: bool,
}

/// A request that is ready to be sent, any number of times.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) body: Payload,
    /// What the client said beside the data, if anybody asks for it.
    pub(super) metadata: Option<Arc<Metadata>>,
}

impl Exchange {
    /// The changes to the headers of a request, asked for anew for each attempt: a token may have been replaced
    /// meanwhile.
    pub(super) fn edits(&self, request: &Outgoing) -> Result<Vec<Edit>, Failure> {
        self.auth.as_ref().map_or(Ok(Vec::new()), |auth| auth.edits(request.metadata.as_deref()))
    }

    /// When an attempt that begins now must have ended.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }
}

/// Sends once and reads up to `limit` bytes of the answer. Without one in time the connection is not used again.
pub(super) async fn exchange(
    client: &Client,
    body: &Payload,
    edits: &[Edit],
    exchange: &Exchange,
    deadline: Option<Instant>,
    limit: usize,
) -> Result<Reply, Failure> {
    let (mut used, mut last_error) = (None, None);
    let sent = send(client, body, edits, exchange.waits_for_ready, &mut used, &mut last_error);
    let result = match deadline {
        None => sent.await,
        Some(deadline) => match timeout_at(deadline, sent).await {
            Ok(result) => result,
            Err(_) => {
                client.discard(used);
                let why = last_error.map(|e: ClientError| format!(": {e}")).unwrap_or_default();
                let limit = exchange.timeout.unwrap_or_default();
                return Err(Failure::transient(format!("no answer within {limit:?}{why}")));
            }
        },
    };
    let response = result.map_err(|e| Failure::transient(e.to_string()))?;
    Ok(client.read(response, limit, deadline).await)
}

/// Sends, if asked for as soon as there is a connection. The client pauses between attempts to connect.
async fn send(
    client: &Client,
    body: &Payload,
    edits: &[Edit],
    waits_for_ready: bool,
    used: &mut Option<u64>,
    last_error: &mut Option<ClientError>,
) -> Result<Response, ClientError> {
    loop {
        match client.send(body, edits, used).await {
            Err(error) if waits_for_ready && error.is_about_connecting() => *last_error = Some(error),
            result => return result,
        }
    }
}
