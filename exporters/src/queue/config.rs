//! `sending_queue` and `retry_on_failure` as they are written.

use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Optional, Warning, units};
use weir_pipeline::extension::Extensions;
use weir_pipeline::metadata::Reads;

use super::settings::{BatchSettings, BatchSizer, Overflow, QueueSettings, RetrySettings, Sizer};

/// `sending_queue`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueConfig {
    enabled: bool,
    num_consumers: usize,
    queue_size: usize,
    sizer: Option<Sizer>,
    block_on_overflow: bool,
    drop_on_overflow: Option<bool>,
    wait_for_result: bool,
    batch: Optional<BatchConfig>,
    #[schemars(with = "Option<String>")]
    storage: Option<Node>,
}

/// `sending_queue::batch`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct BatchConfig {
    #[serde(deserialize_with = "units::duration")]
    flush_timeout: Duration,
    min_size: usize,
    max_size: usize,
    sizer: Option<Sizer>,
    partition: PartitionConfig,
}

/// `sending_queue::batch::partition`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PartitionConfig {
    metadata_keys: Vec<String>,
    cache_size: i64,
    #[serde(deserialize_with = "units::duration")]
    idle_timeout: Duration,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self { metadata_keys: Vec::new(), cache_size: 10_000, idle_timeout: Duration::from_secs(90) }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        let QueueSettings { num_consumers, queue_size, block_on_overflow, wait_for_result, .. } =
            QueueSettings::default();
        Self {
            enabled: true,
            num_consumers,
            queue_size,
            sizer: None,
            block_on_overflow,
            drop_on_overflow: None,
            wait_for_result,
            batch: Optional::default(),
            storage: None,
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            flush_timeout: Duration::from_millis(200),
            min_size: 8_192,
            max_size: 0,
            sizer: None,
            partition: PartitionConfig::default(),
        }
    }
}

impl QueueConfig {
    /// Checks the values; `None` if there is to be no queue. `node` and `path` are those of the exporter.
    /// `reads` says which metadata decide how a batch is sent.
    pub(crate) fn validate(
        self,
        extensions: &Extensions,
        reads: Reads,
        node: &Node,
        path: &str,
    ) -> Result<Option<QueueSettings>, ConfigError> {
        let Self {
            enabled,
            num_consumers,
            queue_size,
            sizer,
            block_on_overflow,
            drop_on_overflow,
            wait_for_result,
            batch,
            storage,
        } = self;
        if !enabled {
            return Ok(None);
        }
        let error = |key, message: &str| Err(error_at(node, path, &["sending_queue", key], message));
        for (key, value) in [("num_consumers", num_consumers), ("queue_size", queue_size)] {
            if value == 0 {
                return error(key, "must be positive");
            }
        }
        if block_on_overflow && drop_on_overflow == Some(true) {
            return error(
                "drop_on_overflow",
                "cannot be set beside `block_on_overflow`: a full queue does one of both",
            );
        }
        let storage = match storage.filter(|storage| !storage.is_null()) {
            Some(_) if wait_for_result => {
                let message = "is not supported with a persistent queue configured with `storage`";
                return error("wait_for_result", message);
            }
            Some(storage) => Some(extensions.storage(&storage, &format!("{path}::sending_queue::storage"))?),
            None => None,
        };
        let batch = match batch.into_inner() {
            Some(batch) => Some(batch.validate(sizer, queue_size, &reads, node, path)?),
            None => None,
        };
        let mut kept_metadata = reads;
        kept_metadata.headers.extend(batch.iter().flat_map(|batch| batch.metadata_keys.iter().cloned()));
        let sizer = sizer.unwrap_or_default();
        Ok(Some(QueueSettings {
            num_consumers,
            queue_size,
            sizer,
            block_on_overflow,
            wait_for_result,
            overflow: match drop_on_overflow {
                Some(true) => Overflow::Drop,
                Some(false) => Overflow::Refuse,
                // An OK must then mean that this destination, or the log, has it.
                None if wait_for_result || storage.is_some() => Overflow::Refuse,
                None => Overflow::Yield,
            },
            kept_metadata,
            batch,
            storage,
        }))
    }
}

impl BatchConfig {
    /// Checks the values, beside those of the queue.
    fn validate(
        self,
        queue_sizer: Option<Sizer>,
        queue_size: usize,
        reads: &Reads,
        node: &Node,
        path: &str,
    ) -> Result<BatchSettings, ConfigError> {
        let Self { flush_timeout, min_size, max_size, sizer, partition } = self;
        let PartitionConfig { metadata_keys, cache_size, idle_timeout } = partition;
        let error = |keys: &[&str], message: String| {
            let keys: Vec<&str> = ["sending_queue", "batch"].iter().chain(keys).copied().collect();
            Err(error_at(node, path, &keys, message))
        };
        // The queue's sizer is taken over unless the section is empty, as in the Collector.
        let written = node.get("sending_queue").and_then(|queue| queue.get("batch"));
        let inherited = queue_sizer.filter(|_| written.is_some_and(|batch| !batch.is_null()));
        let sizer = match sizer.or(inherited) {
            None | Some(Sizer::Items) => BatchSizer::Items,
            Some(Sizer::Bytes) => BatchSizer::Bytes,
            Some(Sizer::Requests) => {
                let message = "supports only `items` or `bytes`, found `requests`, which is that of the queue if the \
                               batch has none of its own";
                return error(&["sizer"], message.to_owned());
            }
        };
        if flush_timeout.is_zero() {
            return error(&["flush_timeout"], "must be positive".to_owned());
        }
        if max_size > 0 && max_size < min_size {
            let message = format!("({max_size}) must be greater or equal to `min_size` ({min_size})");
            return error(&["max_size"], message);
        }
        let is_same_sizer = match queue_sizer.unwrap_or_default() {
            Sizer::Requests => false,
            Sizer::Items => sizer == BatchSizer::Items,
            Sizer::Bytes => sizer == BatchSizer::Bytes,
        };
        if is_same_sizer && min_size > queue_size {
            let message = format!("({min_size}) must be less than or equal to `queue_size` ({queue_size})");
            return error(&["min_size"], message);
        }
        for (key, is_positive) in [("cache_size", cache_size > 0), ("idle_timeout", !idle_timeout.is_zero())] {
            if !is_positive {
                return error(&["partition", key], "must be positive".to_owned());
            }
            let place = written.and_then(|batch| batch.get("partition")?.get(key));
            if let Some(place) = place {
                let path = format!("{path}::sending_queue::batch::partition::{key}");
                Warning::of_moot(place, &path, "a partition takes memory only while it has something to send");
            }
        }
        let metadata_keys: Vec<String> = metadata_keys.iter().map(|key| key.to_ascii_lowercase()).collect();
        for (i, key) in metadata_keys.iter().enumerate() {
            if metadata_keys.iter().take(i).any(|earlier| earlier == key) {
                let message = format!("has {key:?} twice (upper and lower case are the same)");
                return error(&["partition", "metadata_keys"], message);
            }
        }
        let max_size = (max_size > 0).then_some(max_size);
        let is_by_sender = !metadata_keys.is_empty() || reads.has_identity();
        let settings = BatchSettings { flush_timeout, min_size, max_size, sizer, metadata_keys, is_by_sender };
        if let Some(lost) = settings.lost_header(reads) {
            let message = format!(
                "what clients sent with different {lost:?} is joined and then sent without it: name it in \
                 `partition: {{metadata_keys: [...]}}`"
            );
            let place = written.filter(|batch| !batch.is_null()).unwrap_or(node);
            let path = format!("{path}::sending_queue::batch");
            tracing::warn!("{}", Warning { location: place.location().clone(), path, message });
        }
        Ok(settings)
    }
}

/// `retry_on_failure`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetryConfig {
    enabled: bool,
    #[serde(deserialize_with = "units::duration")]
    initial_interval: Duration,
    randomization_factor: f64,
    multiplier: f64,
    #[serde(deserialize_with = "units::duration")]
    max_interval: Duration,
    #[serde(deserialize_with = "units::duration")]
    max_elapsed_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let RetrySettings {
            enabled,
            initial_interval,
            randomization_factor,
            multiplier,
            max_interval,
            max_elapsed_time,
        } = RetrySettings::default();
        let max_elapsed_time = max_elapsed_time.unwrap_or_default();
        Self { enabled, initial_interval, randomization_factor, multiplier, max_interval, max_elapsed_time }
    }
}

impl RetryConfig {
    /// Checks the values. `node` and `path` are those of the exporter.
    pub(crate) fn validate(self, node: &Node, path: &str) -> Result<RetrySettings, ConfigError> {
        let Self { enabled, initial_interval, randomization_factor, multiplier, max_interval, max_elapsed_time } = self;
        let error = |key, message| Err(error_at(node, path, &["retry_on_failure", key], message));
        // Of what is switched off only the form counts, as in the Collector.
        if enabled {
            if !(0.0..=1.0).contains(&randomization_factor) {
                return error("randomization_factor", "must be from 0 to 1");
            }
            if !(multiplier >= 0.0 && multiplier.is_finite()) {
                return error("multiplier", "must not be negative");
            }
            if !max_elapsed_time.is_zero() && max_elapsed_time < initial_interval {
                return error("max_elapsed_time", "must not be less than `initial_interval`, unless it is 0 for ever");
            }
            if !max_elapsed_time.is_zero() && max_elapsed_time < max_interval {
                return error("max_elapsed_time", "must not be less than `max_interval`, unless it is 0 for ever");
            }
        }
        let max_elapsed_time = (!max_elapsed_time.is_zero()).then_some(max_elapsed_time);
        Ok(RetrySettings {
            enabled,
            initial_interval,
            randomization_factor,
            multiplier,
            max_interval,
            max_elapsed_time,
        })
    }
}

/// An error about the value that `keys` lead to from the exporter's node, or about the last of them that is there.
pub(crate) fn error_at(node: &Node, path: &str, keys: &[&str], message: impl Into<String>) -> ConfigError {
    let mut place = node;
    let mut full = path.to_owned();
    for key in keys {
        full = format!("{full}::{key}");
        place = place.get(key).unwrap_or(place);
    }
    place.error(&full, message)
}
