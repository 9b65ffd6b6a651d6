//! `file_storage`: a directory in which queues keep what they have accepted until it is delivered.
//!
//! ```yaml
//! extensions:
//!   file_storage:
//!     directory: /var/lib/otelcol/file_storage   # default; %ProgramData%\Otelcol\FileStorage on Windows
//!     create_directory: false      # whether to make it, and what is above it
//!     directory_permissions: "0750"
//!     fsync: true                  # false: what was accepted survives the end of the process, not a loss of power
//! exporters:
//!   otlp_grpc:
//!     endpoint: collector:4317
//!     sending_queue: {storage: file_storage}
//! service:
//!   extensions: [file_storage]
//! ```
//!
//! Each exporter and signal has a directory of its own below it: `exporter_otlp_traces`. What is in there is Weir's own
//! format, described in `exporters/src/queue/log`; a Collector's files are neither read nor touched. An exporter that is
//! renamed begins a new one, and what waits in the old one waits until the name is back.
//!
//! Decision: `fsync` is on by default, in the Collector it is off: an OK to the client is a promise, and many batches
//! share one `fsync`. `timeout`, `compaction` and `recreate` are accepted with a warning and change nothing: a log that
//! another process still holds is waited for, files are deleted and made smaller as batches leave them, and what is
//! damaged is set aside while the rest is used.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Warning};
use weir_pipeline::extension::{Extension, StorageDirectory};
use weir_pipeline::graph::Section;
use weir_pipeline::node::StartError;

use crate::places::error_at;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FileStorageConfig {
    directory: PathBuf,
    create_directory: bool,
    directory_permissions: String,
    fsync: bool,
    /// Changes nothing.
    #[serde(rename = "timeout")]
    _timeout: Option<String>,
    /// Changes nothing.
    #[serde(rename = "recreate")]
    _recreate: Option<bool>,
    /// Changes nothing.
    #[serde(rename = "compaction")]
    _compaction: Option<CompactionConfig>,
}

/// Known, so that a misspelt key is found.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CompactionConfig {
    #[serde(rename = "on_start")]
    _on_start: Option<bool>,
    #[serde(rename = "on_rebound")]
    _on_rebound: Option<bool>,
    #[serde(rename = "directory")]
    _directory: Option<PathBuf>,
    #[serde(rename = "max_transaction_size")]
    _max_transaction_size: Option<u64>,
    #[serde(rename = "cleanup_on_start")]
    _cleanup_on_start: Option<bool>,
    #[serde(rename = "rebound_needed_threshold_mib")]
    _rebound_needed_threshold_mib: Option<u64>,
    #[serde(rename = "rebound_trigger_threshold_mib")]
    _rebound_trigger_threshold_mib: Option<u64>,
    #[serde(rename = "check_interval")]
    _check_interval: Option<String>,
}

impl Default for FileStorageConfig {
    fn default() -> Self {
        Self {
            directory: default_directory(),
            create_directory: false,
            directory_permissions: "0750".to_owned(),
            fsync: true,
            _timeout: None,
            _recreate: None,
            _compaction: None,
        }
    }
}

fn default_directory() -> PathBuf {
    match std::env::var_os("ProgramData").filter(|_| cfg!(windows)) {
        Some(data) => Path::new(&data).join("Otelcol").join("FileStorage"),
        None => PathBuf::from("/var/lib/otelcol/file_storage"),
    }
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<FileStorageConfig>()
}

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    let (node, path) = (section.node, section.path);
    let config: FileStorageConfig = node.parse_as(path)?;
    if config.directory.as_os_str().is_empty() {
        return Err(error_at(node, path, &["directory"], "must not be empty"));
    }
    let permissions = u32::from_str_radix(&config.directory_permissions, 8).ok().filter(|mode| *mode <= 0o777);
    let Some(permissions) = permissions else {
        let error = error_at(node, path, &["directory_permissions"], "must be an octal number of file permissions");
        return Err(error.with_hint("quote it: \"0750\""));
    };
    for key in ["timeout", "compaction", "recreate"] {
        if let Some(setting) = node.get(key) {
            let location = setting.location().clone();
            let message = "has no effect: a log is kept small, repaired and waited for without it".to_owned();
            tracing::warn!("{}", Warning { location, path: format!("{path}::{key}"), message });
        }
    }
    Ok(Arc::new(FileStorage {
        id: section.context.id.clone(),
        directory: config.directory,
        create: config.create_directory.then_some(permissions),
        fsync: config.fsync,
    }))
}

#[derive(Debug)]
struct FileStorage {
    id: String,
    directory: PathBuf,
    /// The permissions that the directory is made with; `None`: it must be there.
    create: Option<u32>,
    fsync: bool,
}

impl FileStorage {
    fn prepare(&self) -> Result<(), String> {
        let directory = self.directory.display();
        match std::fs::metadata(&self.directory) {
            Ok(found) if !found.is_dir() => return Err(format!("{directory} is not a directory")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match self.create {
                Some(mode) => create(&self.directory, mode).map_err(|e| format!("{directory}: cannot be made: {e}"))?,
                None => return Err(format!("{directory} is not there: make it, or set `create_directory: true`")),
            },
            Err(error) => return Err(format!("{directory}: {error}")),
        }
        // Better now than when the first batch comes.
        let probe = self.directory.join(format!(".weir-{}", std::process::id()));
        std::fs::write(&probe, b"").map_err(|error| format!("{directory}: cannot be written to: {error}"))?;
        match std::fs::remove_file(&probe) {
            // Another process of the same number in another container was faster.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: cannot be removed: {error}", probe.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
fn create(directory: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(directory)
}

#[cfg(not(unix))]
fn create(directory: &Path, _mode: u32) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)
}

#[async_trait]
impl Extension for FileStorage {
    async fn start(&self) -> Result<(), StartError> {
        self.prepare().map_err(|message| StartError { component: self.id.clone(), message })
    }

    fn storage(&self) -> Option<StorageDirectory> {
        Some(StorageDirectory { directory: self.directory.clone(), fsync: self.fsync })
    }
}
