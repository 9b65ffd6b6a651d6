//! What `sending_queue` and `retry_on_failure` are set to.

use std::time::Duration;

use weir_pipeline::extension::StorageDirectory;
use weir_pipeline::metadata::Reads;

/// Requests under way at once where there is no queue.
const DIRECT_REQUESTS: usize = 100;

/// `sending_queue`, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueSettings {
    /// Requests sent at once, over all lanes.
    pub(crate) num_consumers: usize,
    /// Capacity in units of `sizer`, over all lanes. What is being sent counts until it is settled, as in the
    /// Collector.
    pub(crate) queue_size: usize,
    /// The unit of `queue_size`.
    pub(crate) sizer: Sizer,
    /// Whether a full queue lets the pipeline wait rather than refuse.
    pub(crate) block_on_overflow: bool,
    /// Whether receipts settle when the destination has answered rather than when the batch is queued.
    pub(crate) wait_for_result: bool,
    /// What becomes of a batch for which there is no room, if it cannot wait.
    pub(crate) overflow: Overflow,
    /// Whether and how batches are joined before they are sent.
    pub(crate) batch: Option<BatchSettings>,
    /// Where what is accepted is kept until it is delivered; `None`: in memory alone.
    pub(crate) storage: Option<StorageDirectory>,
    /// What of the metadata of a batch is kept there too.
    pub(crate) kept_metadata: Reads,
}

/// `sending_queue::batch`, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchSettings {
    /// How long a batch may wait for more.
    pub(crate) flush_timeout: Duration,
    /// From this size on, a batch does not wait.
    pub(crate) min_size: usize,
    /// Above this size a batch is cut; `None`: never.
    pub(crate) max_size: Option<usize>,
    /// What these sizes are counted in.
    pub(crate) sizer: BatchSizer,
    /// Lower-case names of headers; only batches with the same values are joined.
    pub(crate) metadata_keys: Vec<String>,
    /// Whether only what one authenticated sender sent is joined.
    pub(crate) is_by_sender: bool,
}

/// What a queue does that has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Drops the batch if another destination has taken it; otherwise the client is to come again.
    Yield,
    /// Drops it, and the client is told OK.
    Drop,
    /// The client is to come again.
    Refuse,
}

/// What the sizes of batches are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchSizer {
    /// Spans, data points or log records.
    Items,
    /// Bytes of the encoded form, uncompressed.
    Bytes,
}

impl BatchSettings {
    /// A header that decides how data is sent and that a joined batch has no more.
    pub(crate) fn lost_header<'r>(&self, reads: &'r Reads) -> Option<&'r str> {
        let mut read = reads.headers.iter().filter(|_| self.min_size > 0);
        read.find(|name| !self.metadata_keys.contains(name)).map(String::as_str)
    }
}

impl QueueSettings {
    /// `sending_queue::enabled: false`.
    ///
    /// Decision: that is a queue which settles by result and makes the pipeline wait. In the Collector the number of
    /// requests under way is then that of the callers, which the receiver bounds; here it is bounded by a constant.
    pub(crate) fn direct() -> Self {
        Self {
            num_consumers: DIRECT_REQUESTS,
            queue_size: DIRECT_REQUESTS,
            sizer: Sizer::Requests,
            block_on_overflow: true,
            wait_for_result: true,
            overflow: Overflow::Yield,
            batch: None,
            storage: None,
            kept_metadata: Reads::default(),
        }
    }

    /// The most records of a request that is sent; 0 if there is no limit.
    pub(crate) fn max_items(&self) -> usize {
        match &self.batch {
            Some(BatchSettings { sizer: BatchSizer::Items, max_size: Some(most), .. }) => *most,
            _ => 0,
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            num_consumers: 10,
            queue_size: 1_000,
            sizer: Sizer::Requests,
            block_on_overflow: false,
            wait_for_result: false,
            overflow: Overflow::Yield,
            batch: None,
            storage: None,
            kept_metadata: Reads::default(),
        }
    }
}

/// What a queue's size is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sizer {
    /// Batches.
    #[default]
    Requests,
    /// Spans, data points or log records.
    Items,
    /// Bytes of the batches, uncompressed.
    Bytes,
}

/// `retry_on_failure`, validated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RetrySettings {
    /// Whether to try again at all.
    pub(crate) enabled: bool,
    /// Wait after the first failure, before randomisation.
    pub(crate) initial_interval: Duration,
    /// The wait is drawn from `interval ± interval * randomization_factor`.
    pub(crate) randomization_factor: f64,
    /// Growth of the interval per failure.
    pub(crate) multiplier: f64,
    /// Where the interval stops growing.
    pub(crate) max_interval: Duration,
    /// When to give up, counted from the first attempt; `None`: never.
    pub(crate) max_elapsed_time: Option<Duration>,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Some(Duration::from_secs(300)),
        }
    }
}
