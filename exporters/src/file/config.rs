//! `file` as it is written.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Optional, units};

use crate::queue::config::error_at;

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// OTLP/JSON.
    #[default]
    Json,
    /// Protobuf.
    Proto,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Compression {
    #[default]
    #[serde(alias = "")]
    None,
    Zstd,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    path: PathBuf,
    format: Format,
    compression: Compression,
    append: bool,
    create_directory: bool,
    #[serde(deserialize_with = "units::duration")]
    flush_interval: Duration,
    rotation: Optional<RotationConfig>,
    group_by: GroupByConfig,
}

/// `group_by`. All data goes to one file, so it must be off.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GroupByConfig {
    enabled: bool,
    #[serde(rename = "resource_attribute")]
    _resource_attribute: String,
    #[serde(rename = "max_open_files")]
    _max_open_files: i64,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RotationConfig {
    max_megabytes: u64,
    max_days: u64,
    max_backups: usize,
    localtime: bool,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<FileConfig>()
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            format: Format::default(),
            compression: Compression::default(),
            append: false,
            create_directory: false,
            flush_interval: Duration::from_secs(1),
            rotation: Optional::default(),
            group_by: GroupByConfig::default(),
        }
    }
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { max_megabytes: 100, max_days: 0, max_backups: 100, localtime: false }
    }
}

/// `file`, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSettings {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) is_compressed: bool,
    pub(super) append: bool,
    pub(super) create_directory: bool,
    /// `None`: nothing waits in memory.
    pub(super) flush_interval: Option<Duration>,
    pub(super) rotation: Option<Rotation>,
}

/// `rotation`, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Size above which a file is put aside.
    pub(super) max_bytes: u64,
    /// Age at which a file that was put aside is removed.
    pub(super) max_age: Option<Duration>,
    /// Number of files put aside that are kept.
    pub(super) max_backups: Option<usize>,
}

impl FileSettings {
    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: FileConfig = node.parse_as(path)?;
        let error = |keys: &[&str], message: &str| Err(error_at(node, path, keys, message));
        if config.path.file_name().is_none() {
            return error(&["path"], "must be the path of a file");
        }
        if config.group_by.enabled {
            return error(&["group_by", "enabled"], "cannot be true: all data goes to one file");
        }
        let is_compressed = config.compression == Compression::Zstd;
        if config.append && is_compressed {
            return error(&["append"], "cannot be set beside `compression`");
        }
        if config.append && config.rotation.is_some() {
            return error(&["append"], "cannot be set beside `rotation`, which appends anyway");
        }
        let rotation = match config.rotation.into_inner() {
            None => None,
            Some(RotationConfig { localtime: true, .. }) => {
                return error(&["rotation", "localtime"], "cannot be true: the names of rotated files are in UTC");
            }
            Some(RotationConfig { max_megabytes: 0, .. }) => {
                return error(&["rotation", "max_megabytes"], "must be positive");
            }
            Some(RotationConfig { max_megabytes, max_days, max_backups, localtime: false }) => Some(Rotation {
                max_bytes: max_megabytes.saturating_mul(1 << 20),
                max_age: (max_days > 0).then(|| Duration::from_secs(max_days.saturating_mul(86_400))),
                max_backups: (max_backups > 0).then_some(max_backups),
            }),
        };
        Ok(Self {
            path: config.path,
            format: config.format,
            is_compressed,
            append: config.append,
            create_directory: config.create_directory,
            flush_interval: (!config.flush_interval.is_zero()).then_some(config.flush_interval),
            rotation,
        })
    }
}
