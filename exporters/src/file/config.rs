//! `file` as it is written.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Optional, Warning, units};

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
    compression_params: CompressionParams,
    append: bool,
    create_directory: bool,
    directory_permissions: String,
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

#[derive(Debug, Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CompressionParams {
    level: i32,
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
            compression_params: CompressionParams::default(),
            append: false,
            create_directory: false,
            directory_permissions: String::new(),
            flush_interval: Duration::from_secs(1),
            rotation: Optional::default(),
            group_by: GroupByConfig::default(),
        }
    }
}

const DEFAULT_MEGABYTES: u64 = 100;

/// Decision: level 1, as that of requests, where the Collector takes 3.
const DEFAULT_LEVEL: i32 = 1;

impl Default for RotationConfig {
    fn default() -> Self {
        Self { max_megabytes: DEFAULT_MEGABYTES, max_days: 0, max_backups: 100, localtime: false }
    }
}

/// `file`, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSettings {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// The level of zstd; `None`: as it is.
    pub(super) compression_level: Option<i32>,
    pub(super) append: bool,
    /// The mode of the folders that are made where there are none; `None`: none are made.
    pub(super) create_directory: Option<u32>,
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
        let compression_level = match (config.compression, config.compression_params.level) {
            (Compression::Zstd, 0) => Some(DEFAULT_LEVEL),
            (Compression::Zstd, level) => {
                // As in the Collector, a level that zstd does not have is the nearest one.
                let range = zstd::compression_level_range();
                Some(level.clamp(*range.start(), *range.end()))
            }
            (Compression::None, level) => {
                if let Some(params) = node.get("compression_params").filter(|_| level != 0) {
                    let why = "`compression` is not set";
                    Warning::of_moot(params, &format!("{path}::compression_params"), why);
                }
                None
            }
        };
        let permissions = match (config.directory_permissions.as_str(), config.create_directory) {
            ("", _) => 0o755,
            (_, false) => return error(&["directory_permissions"], "requires `create_directory` to be true"),
            (text, true) => {
                // `from_str_radix` would take a sign.
                let is_octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
                match u32::from_str_radix(text, 8).ok().filter(|_| is_octal) {
                    Some(bits) if bits <= 0o777 => bits,
                    Some(_) => {
                        let message = "contains invalid bits for file access: there are none above 0777";
                        return error(&["directory_permissions"], message);
                    }
                    None => {
                        let message = "must be a valid octal representation, such as \"0755\"";
                        return error(&["directory_permissions"], message);
                    }
                }
            }
        };
        if config.append && config.rotation.is_some() {
            return error(&["append"], "cannot be set beside `rotation`, which appends anyway");
        }
        let rotation = match config.rotation.into_inner() {
            None => None,
            Some(RotationConfig { localtime: true, .. }) => {
                return error(&["rotation", "localtime"], "cannot be true: the names of rotated files are in UTC");
            }
            Some(RotationConfig { max_megabytes, max_days, max_backups, localtime: false }) => Some(Rotation {
                max_bytes: if max_megabytes == 0 { DEFAULT_MEGABYTES } else { max_megabytes }.saturating_mul(1 << 20),
                max_age: (max_days > 0).then(|| Duration::from_secs(max_days.saturating_mul(86_400))),
                max_backups: (max_backups > 0).then_some(max_backups),
            }),
        };
        Ok(Self {
            path: config.path,
            format: config.format,
            compression_level,
            append: config.append,
            create_directory: config.create_directory.then_some(permissions),
            flush_interval: (!config.flush_interval.is_zero()).then_some(config.flush_interval),
            rotation,
        })
    }
}
