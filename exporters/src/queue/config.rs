//! `sending_queue` and `retry_on_failure` as they are written.

use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, units};

use super::settings::{QueueSettings, RetrySettings, Sizer};

/// `sending_queue`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueueConfig {
    enabled: bool,
    num_consumers: usize,
    queue_size: usize,
    sizer: Sizer,
    block_on_overflow: bool,
    wait_for_result: bool,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let QueueSettings { num_consumers, queue_size, sizer, block_on_overflow, wait_for_result } =
            QueueSettings::default();
        Self { enabled: true, num_consumers, queue_size, sizer, block_on_overflow, wait_for_result }
    }
}

impl QueueConfig {
    /// Checks the values; `None` if there is to be no queue. `node` and `path` are those of the exporter.
    pub(crate) fn validate(self, node: &Node, path: &str) -> Result<Option<QueueSettings>, ConfigError> {
        let Self { enabled, num_consumers, queue_size, sizer, block_on_overflow, wait_for_result } = self;
        if !enabled {
            return Ok(None);
        }
        for (key, value) in [("num_consumers", num_consumers), ("queue_size", queue_size)] {
            if value == 0 {
                return Err(error_at(node, path, &["sending_queue", key], "must be positive"));
            }
        }
        Ok(Some(QueueSettings { num_consumers, queue_size, sizer, block_on_overflow, wait_for_result }))
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
