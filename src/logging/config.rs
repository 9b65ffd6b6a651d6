//! `service::telemetry::logs`, as it is written and as it is meant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, any_case, units};

/// How Weir logs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(super) level: LogLevel,
    pub(super) encoding: Encoding,
    /// `None`: everything is written.
    pub(super) sampling: Option<Sampling>,
    pub(super) outputs: Vec<OutputPath>,
    pub(super) initial_fields: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Debug,
    #[default]
    Info,
    #[serde(alias = "warning")]
    Warn,
    // The Collector's logger knows levels above it, of which none is ever reached here.
    #[serde(alias = "dpanic", alias = "panic", alias = "fatal")]
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    #[default]
    Console,
    Json,
}

/// Of the same message within `tick`, the first `initial` and then each `thereafter`-th are written; 0: none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampling {
    pub(super) tick: Duration,
    pub(super) initial: u64,
    pub(super) thereafter: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OutputPath {
    Stderr,
    Stdout,
    File(PathBuf),
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogsConfig {
    #[serde(deserialize_with = "any_case")]
    level: LogLevel,
    encoding: Encoding,
    sampling: SamplingConfig,
    output_paths: Option<Vec<String>>,
    initial_fields: BTreeMap<String, String>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SamplingConfig {
    enabled: bool,
    #[serde(deserialize_with = "units::duration")]
    tick: Duration,
    initial: u64,
    thereafter: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { enabled: true, tick: Duration::from_secs(10), initial: 10, thereafter: 100 }
    }
}

impl LogLevel {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Settings {
    /// The settings that are written at `path`; without any, the Collector's defaults.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub(crate) fn parse(node: Option<&Node>, path: &str) -> Result<Self, ConfigError> {
        let config: LogsConfig = node.map(|node| node.parse_as(path)).transpose()?.unwrap_or_default();
        let SamplingConfig { enabled, tick, initial, thereafter } = config.sampling;
        let paths = config.output_paths.unwrap_or_else(|| vec!["stderr".to_owned()]);
        let mut outputs = Vec::new();
        for (i, text) in paths.iter().enumerate() {
            outputs.push(match text.as_str() {
                "stderr" => OutputPath::Stderr,
                "stdout" => OutputPath::Stdout,
                file if !file.is_empty() && !file.contains("://") => OutputPath::File(file.into()),
                other => {
                    let path = format!("{path}::output_paths[{i}]");
                    let place = node.and_then(|node| node.get("output_paths")?.items().get(i).or(Some(node)));
                    let location = place.map(|node| node.location().clone());
                    let message = format!("{other:?} is not `stderr`, `stdout` or the path of a file");
                    return Err(ConfigError { location, path, message, hint: None });
                }
            });
        }
        Ok(Self {
            level: config.level,
            encoding: config.encoding,
            sampling: (enabled && !tick.is_zero()).then_some(Sampling { tick, initial, thereafter }),
            outputs,
            initial_fields: config.initial_fields,
        })
    }
}
