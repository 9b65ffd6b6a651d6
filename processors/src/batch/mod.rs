//! The `batch` processor: joins small batches, without copying them.
//!
//! ```yaml
//! processors:
//!   batch:
//!     send_batch_size: 8192        # spans, data points or log records that trigger a batch; 0 = send at once
//!     send_batch_bytes: 2MiB       # bytes that trigger one; 0 = no such trigger (not in the Collector)
//!     send_batch_max_size: 0       # larger batches are split, also within a metric; 0 = never
//!     timeout: 200ms               # longest wait; 0 = send at once
//!     metadata_keys: [x-tenant]    # join only what was sent with the same values of these headers; default: none
//!     metadata_cardinality_limit: 1000   # combinations of values that may wait at once; 0 = no limit
//! ```
//!
//! What is sent at once is not joined, whatever `send_batch_bytes` says; only `send_batch_max_size` applies.
//!
//! Unlike the Collector's, this one suppresses no errors and answers nobody early: a joined batch carries the receipts
//! of all its parts, and every client hears what became of its own data.
//!
//! What belongs to different projects or environments ([`Tenant`]) is never joined: who waits for a batch hears of all of
//! it, and must not hear what became of somebody else's data, let alone send its own again for it. Where one request
//! holds data of several, its client hears of all of them.
//!
//! With `metadata_keys` a joined batch keeps the metadata of these keys alone, and who the sender is: what
//! authenticators found to be different senders is not joined. It needs `include_metadata` at the receiver. Without
//! `metadata_keys` a joined batch keeps what all its parts happen to have in common, which nobody should rely on:
//! `weir validate` warns of components behind it that read metadata.
//!
//! Decision: the Collector keeps the sender in neither case, so that what reads it behind the processor takes the data
//! for nobody's, or sends it as that of a default.
//!
//! Decision: `send_batch_bytes` is on by default, because 8,192 LLM spans can be half a gigabyte.
//!
//! Decision: where one combination of values, senders, projects and environments too many comes, the one that has waited
//! longest is sent. The Collector refuses the data, for as long as it runs.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::metadata::{Identity, Metadata};
use weir_pipeline::node::{Keeps, Processor, ProcessorFactory};
use weir_pipeline::tenant::Tenant;

pub use self::config::{Settings, schema};

/// Builds the processor from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    Ok(Arc::new(Batching { settings: Settings::parse(section.node, section.path)? }))
}

struct Batching {
    settings: Settings,
}

impl ProcessorFactory for Batching {
    fn reads_metadata(&self) -> bool {
        !self.settings.metadata_keys.is_empty()
    }

    fn keeps_metadata(&self) -> Keeps<'_> {
        match &self.settings {
            settings if !settings.joins() || settings.send_batch_size == 1 => Keeps::Everything,
            settings if settings.metadata_keys.is_empty() => Keeps::Nothing,
            settings => Keeps::Headers(&settings.metadata_keys),
        }
    }

    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(Batcher { settings: self.settings.clone(), pending: Vec::new() })
    }
}

struct Batcher {
    settings: Settings,
    /// The longest waiting first; one at most for each project and environment, sender and values of `metadata_keys`.
    pending: Vec<Pending>,
}

/// What a joined batch has in common.
#[derive(PartialEq, Eq)]
struct Partition {
    /// Whose it is, if that is known.
    tenant: Option<Arc<Tenant>>,
    /// Who sent it, if metadata are kept.
    identity: Option<Arc<Identity>>,
    /// The values of `metadata_keys`, key by key. That a client did not send a header is different from an empty one.
    values: Vec<Vec<Box<str>>>,
}

/// What has been joined so far.
struct Pending {
    partition: Partition,
    batch: Batch,
    /// Kept beside the batch: counting walks its chunks.
    records: usize,
    bytes: usize,
    since: Instant,
}

impl Batcher {
    fn send(&self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        batch.split_into(self.settings.send_batch_max_size, out);
    }

    fn send_pending(&mut self, at: usize, out: &mut dyn FnMut(Batch)) {
        let pending = self.pending.remove(at);
        self.send(pending.batch, out);
    }

    /// The partition of a batch, and the batch with the metadata that all of the partition have in common.
    fn partition(&self, batch: Batch) -> (Partition, Batch) {
        let keys = &self.settings.metadata_keys;
        let tenant = batch.tenant().cloned();
        let Some(metadata) = batch.metadata().filter(|_| !keys.is_empty()) else {
            return (Partition { tenant, identity: None, values: vec![Vec::new(); keys.len()] }, batch);
        };
        let values = |key: &String| metadata.values(key).map(Box::from).collect();
        let values: Vec<Vec<Box<str>>> = keys.iter().map(values).collect();
        let headers = keys.iter().zip(&values);
        let kept = headers.flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), &**value)));
        let identity = metadata.identity().cloned();
        let kept = Metadata::new(kept);
        let kept = Arc::new(match &identity {
            Some(identity) => kept.with_identity(Arc::clone(identity)),
            None => kept,
        });
        (Partition { tenant, identity, values }, batch.with_metadata(kept))
    }

    fn join(&mut self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        let (records, bytes) = (batch.len(), batch.size_hint());
        let (partition, batch) = self.partition(batch);
        let at = match self.pending.iter().position(|pending| pending.partition == partition) {
            Some(at) => {
                let pending = &mut self.pending[at];
                pending.batch.append(batch);
                pending.records += records;
                pending.bytes += bytes;
                at
            }
            None => {
                if self.pending.len() >= self.settings.metadata_cardinality_limit {
                    self.send_pending(0, out);
                }
                self.pending.push(Pending { partition, batch, records, bytes, since: Instant::now() });
                self.pending.len() - 1
            }
        };
        if self.is_full(self.pending[at].records, self.pending[at].bytes) {
            self.send_pending(at, out);
        }
    }

    fn is_full(&self, records: usize, bytes: usize) -> bool {
        let Settings { send_batch_size, send_batch_bytes, .. } = self.settings;
        records >= send_batch_size || send_batch_bytes > 0 && bytes >= send_batch_bytes
    }
}

impl Processor for Batcher {
    fn process(&mut self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        if !self.settings.joins() {
            return self.send(batch, out);
        }
        for part in batch.split_by_tenant() {
            self.join(part, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.pending.first().map(|p| p.since + self.settings.timeout)
    }

    fn tick(&mut self, now: Instant, out: &mut dyn FnMut(Batch)) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.send_pending(0, out);
        }
    }

    fn drain(&mut self, out: &mut dyn FnMut(Batch)) {
        while !self.pending.is_empty() {
            self.send_pending(0, out);
        }
    }
}
