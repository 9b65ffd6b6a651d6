//! The `batch` processor: joins small batches, without copying them.
//!
//! ```yaml
//! processors:
//!   batch:
//!     send_batch_size: 8192        # spans, data points or log records that trigger a batch
//!     send_batch_bytes: 2MiB       # bytes that trigger one; 0 = no such trigger (not in the Collector)
//!     send_batch_max_size: 0       # larger batches are split; 0 = never
//!     timeout: 200ms               # longest wait; 0 = send at once, only send_batch_max_size applies
//! ```
//!
//! Unlike the Collector's, this one suppresses no errors and answers nobody early: a joined batch carries the receipts
//! of all its parts, and every client hears what became of its own data.
//!
//! Decision: `send_batch_bytes` is on by default, because 8,192 LLM spans can be half a gigabyte.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::Section;
use weir_pipeline::node::{Processor, ProcessorFactory};

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
    fn create(&self, _lane: usize) -> Box<dyn Processor> {
        Box::new(Batcher { settings: self.settings.clone(), pending: None })
    }
}

struct Batcher {
    settings: Settings,
    pending: Option<Pending>,
}

/// What has been joined so far.
struct Pending {
    batch: Batch,
    /// Kept beside the batch: counting walks its chunks.
    records: usize,
    bytes: usize,
    since: Instant,
}

impl Batcher {
    fn send(&self, mut batch: Batch, out: &mut dyn FnMut(Batch)) {
        let max = self.settings.send_batch_max_size;
        while max > 0 && batch.len() > max {
            let rest = batch.split_off(max);
            if rest.is_empty() {
                rest.settle(&weir_pipeline::receipt::Outcome::Done);
                break;
            }
            out(std::mem::replace(&mut batch, rest));
        }
        out(batch);
    }

    fn is_full(&self, records: usize, bytes: usize) -> bool {
        let Settings { send_batch_size, send_batch_bytes, .. } = self.settings;
        send_batch_size > 0 && records >= send_batch_size || send_batch_bytes > 0 && bytes >= send_batch_bytes
    }
}

impl Processor for Batcher {
    fn process(&mut self, batch: Batch, out: &mut dyn FnMut(Batch)) {
        if self.settings.timeout == Duration::ZERO {
            return self.send(batch, out);
        }
        let (records, bytes) = (batch.len(), batch.size_hint());
        match &mut self.pending {
            Some(pending) => {
                pending.batch.append(batch);
                pending.records += records;
                pending.bytes += bytes;
            }
            None => self.pending = Some(Pending { batch, records, bytes, since: Instant::now() }),
        }
        if self.pending.as_ref().is_some_and(|p| self.is_full(p.records, p.bytes)) {
            self.drain(out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.pending.as_ref().map(|p| p.since + self.settings.timeout)
    }

    fn tick(&mut self, _now: Instant, out: &mut dyn FnMut(Batch)) {
        self.drain(out);
    }

    fn drain(&mut self, out: &mut dyn FnMut(Batch)) {
        if let Some(pending) = self.pending.take() {
            self.send(pending.batch, out);
        }
    }
}
