//! The queues of one exporter: one per signal, as in the Collector.

use std::sync::{Arc, OnceLock};

use weir_pipeline::extension::StorageDirectory;
use weir_pipeline::node::Context;
use weir_pipeline::signal::Signal;

use super::exchange::Exchange;
use crate::queue::Queue;
use crate::queue::capacity::{Bytes, DEFAULT_BYTES, STORED_BYTES};
use crate::queue::settings::{Overflow, QueueSettings, RetrySettings, Sizer};

pub(super) struct Queues {
    context: Context,
    settings: QueueSettings,
    is_queued: bool,
    retry: RetrySettings,
    max_request_bytes: usize,
    bytes: Bytes,
    /// Made when a pipeline of the signal needs it: counters that stay at zero are noise.
    traces: OnceLock<Arc<Queue>>,
    metrics: OnceLock<Arc<Queue>>,
    logs: OnceLock<Arc<Queue>>,
}

impl Queues {
    pub(super) fn new(context: Context, exchange: &Exchange) -> Self {
        let settings = exchange.queue.clone().unwrap_or_else(QueueSettings::direct);
        let bytes = match (&settings.storage, settings.sizer) {
            // What is on disk too is read again as fast as it is sent: memory only spares that for a while.
            (Some(_), _) => STORED_BYTES,
            // A choice of the user's, per signal.
            (None, Sizer::Bytes) => usize::MAX,
            (None, _) => DEFAULT_BYTES,
        };
        Self {
            context,
            is_queued: exchange.queue.is_some(),
            settings,
            retry: exchange.retry.clone(),
            max_request_bytes: exchange.max_request_bytes,
            bytes: Bytes::new(bytes),
            traces: OnceLock::new(),
            metrics: OnceLock::new(),
            logs: OnceLock::new(),
        }
    }

    pub(super) fn get(&self, signal: Signal) -> Arc<Queue> {
        let slot = match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        };
        let queue = || {
            let Self { context, settings, retry, max_request_bytes, bytes, .. } = self;
            Queue::new(context, signal, settings, retry, *max_request_bytes, bytes.clone())
        };
        Arc::clone(slot.get_or_init(queue))
    }

    /// To be called when nothing is sent any more.
    pub(super) async fn finish(&self) {
        for queue in [&self.traces, &self.metrics, &self.logs].into_iter().filter_map(OnceLock::get) {
            queue.finish().await;
        }
    }

    /// What an OK to the client means.
    pub(super) fn promise(&self, address: &str) -> String {
        if let Some(StorageDirectory { directory, fsync }) = &self.settings.storage {
            let survives = if *fsync { "even a loss of power" } else { "if the process dies, not a loss of power" };
            return format!(
                "OK means that the data is on disk in {}, where it survives {survives}, to be sent to {address}: it is \
                 lost if {address} stays away for longer than retrying lasts",
                directory.display()
            );
        }
        match (self.is_queued, self.settings.wait_for_result) {
            (true, false) if self.settings.overflow == Overflow::Drop => format!(
                "OK means little: the data waits in memory to be sent to {address}, and is dropped if there is no room"
            ),
            (true, false) => {
                let or_full = match self.settings.overflow {
                    Overflow::Yield if !self.settings.block_on_overflow => {
                        ", and dropped if there is no room for it and another destination has it"
                    }
                    _ => "",
                };
                format!(
                    "OK means that the data waits in memory to be sent to {address}: it is lost if the process dies, \
                     or if {address} stays away for longer than retrying lasts{or_full}"
                )
            }
            _ => format!("OK means that {address} has taken the data"),
        }
    }
}
