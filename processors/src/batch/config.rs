//! Settings of the `batch` processor, with the Collector's keys and defaults.

use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::units::{ByteSize, GoDuration};
use weir_pipeline::config::{ConfigError, Node};

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    send_batch_size: u32,
    send_batch_bytes: ByteSize,
    send_batch_max_size: u32,
    timeout: GoDuration,
    metadata_keys: Vec<String>,
    metadata_cardinality_limit: u32,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            send_batch_size: 8192,
            send_batch_bytes: ByteSize(2 << 20),
            send_batch_max_size: 0,
            timeout: GoDuration(Duration::from_millis(200)),
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
        }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<Raw>()
}

/// Settings of the `batch` processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Records that trigger a batch; 0 = send at once.
    pub send_batch_size: usize,
    /// Bytes that trigger a batch; 0 = no such trigger.
    pub send_batch_bytes: usize,
    /// Records above which a batch is split; 0 = never.
    pub send_batch_max_size: usize,
    /// Longest wait; zero = send at once.
    pub timeout: Duration,
    /// Lower-case names of headers; only batches with the same values are joined.
    pub metadata_keys: Vec<String>,
    /// Combinations of values for which a batch may wait at once.
    pub metadata_cardinality_limit: usize,
}

impl Settings {
    /// Whether anything waits for more.
    pub(super) fn joins(&self) -> bool {
        !self.timeout.is_zero() && self.send_batch_size > 0
    }

    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        if raw.send_batch_max_size > 0 && raw.send_batch_max_size < raw.send_batch_size {
            let message = format!(
                "send_batch_max_size ({}) must be greater or equal to send_batch_size ({})",
                raw.send_batch_max_size, raw.send_batch_size
            );
            return Err(node.get("send_batch_max_size").unwrap_or(node).error(path, message));
        }
        let mut metadata_keys: Vec<String> = Vec::with_capacity(raw.metadata_keys.len());
        for (i, key) in raw.metadata_keys.iter().map(|key| key.to_ascii_lowercase()).enumerate() {
            if metadata_keys.contains(&key) {
                let place = node.get("metadata_keys").and_then(|keys| keys.items().get(i)).unwrap_or(node);
                let message = format!("duplicate entry in metadata_keys: {key:?} (case-insensitive)");
                return Err(place.error(&format!("{path}::metadata_keys[{i}]"), message));
            }
            metadata_keys.push(key);
        }
        Ok(Self {
            send_batch_size: raw.send_batch_size as usize,
            send_batch_bytes: usize::try_from(raw.send_batch_bytes.0).unwrap_or(usize::MAX),
            send_batch_max_size: raw.send_batch_max_size as usize,
            timeout: raw.timeout.0,
            metadata_keys,
            metadata_cardinality_limit: match raw.metadata_cardinality_limit {
                // As in the Collector: no limit.
                0 => usize::MAX,
                limit => limit as usize,
            },
        })
    }
}
