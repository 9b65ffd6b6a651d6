//! `pprof`: a CPU profile of the running process, for `go tool pprof` and whatever else reads its format.
//!
//! ```yaml
//! extensions:
//!   pprof:
//!     endpoint: localhost:1777
//! ```
//!
//! `go tool pprof http://localhost:1777/debug/pprof/profile?seconds=10` (default 30, at most 300) samples all threads a
//! hundred times a second of CPU time and answers with the profile. One profile is taken at a time; another request
//! meanwhile is answered 409. Without a request nothing is sampled and nothing is spent.
//!
//! A profile holds the names of functions and where they are in the sources, never data. Sampling runs in a signal
//! handler that unwinds the stack: it is meant for finding out why a process is busy, not for permanent use.

mod profile;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use http::{StatusCode, Uri};
use pprof::ProfilerGuardBuilder;
use serde::Deserialize;
use tokio::sync::Mutex;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::Section;
use weir_pipeline::node::Context;

use crate::http::{Ask, Endpoint, Page, PageExtension, Pages, page};
use crate::places::error_at;

/// Samples per second of CPU time. Not a round number would be less likely to beat with timers, but Go takes 100 too.
const FREQUENCY: i32 = 100;

/// Seconds a profile takes if the request says nothing.
const DEFAULT_SECONDS: u64 = 30;

/// Longest profile, in seconds.
const MAX_SECONDS: u64 = 300;

/// Libraries whose code must not be unwound from a signal handler, since it may hold locks that unwinding takes.
const NOT_UNWOUND: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PprofConfig {
    endpoint: String,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<PprofConfig>()
}

impl Default for PprofConfig {
    fn default() -> Self {
        Self { endpoint: "localhost:1777".to_owned() }
    }
}

/// The validated settings of the extension.
#[derive(Debug, Clone)]
pub struct Settings {
    endpoint: Endpoint,
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: PprofConfig = node.parse_as(path)?;
        let endpoint = config.endpoint.parse();
        let wrong = |why| error_at(node, path, &["endpoint"], format!("{:?} {why}", config.endpoint));
        Ok(Self { endpoint: endpoint.map_err(wrong)? })
    }
}

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    Ok(Arc::new(extension(Settings::parse(section.node, section.path)?, &section.context)))
}

fn extension(settings: Settings, context: &Context) -> PageExtension {
    PageExtension::new(context, settings.endpoint, Arc::<Profiles>::default())
}

#[derive(Default)]
struct Profiles {
    /// The profiler belongs to the process: one request has it at a time.
    running: Mutex<()>,
}

#[async_trait]
impl Pages for Profiles {
    async fn answer(&self, ask: &Ask) -> Page {
        match ask.uri.path().trim_end_matches('/') {
            "" | "/debug/pprof" => page(StatusCode::OK, TEXT, "a CPU profile: /debug/pprof/profile?seconds=30\n"),
            "/debug/pprof/profile" => match seconds(&ask.uri) {
                Some(seconds) => self.profile(Duration::from_secs(seconds)).await,
                None => page(StatusCode::BAD_REQUEST, TEXT, format!("`seconds` is a number from 1 to {MAX_SECONDS}\n")),
            },
            _ => page(StatusCode::NOT_FOUND, TEXT, "there is a CPU profile at /debug/pprof/profile\n"),
        }
    }
}

fn seconds(uri: &Uri) -> Option<u64> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(name, _)| *name == "seconds") {
        None => Some(DEFAULT_SECONDS),
        Some((_, value)) => value.parse().ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds)),
    }
}

impl Profiles {
    async fn profile(&self, duration: Duration) -> Page {
        let Ok(_running) = self.running.try_lock() else {
            return page(StatusCode::CONFLICT, TEXT, "a profile is being taken; come back when it is done\n");
        };
        let failed = |error: String| {
            tracing::warn!("cannot take a profile: {error}");
            page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot take a profile: {error}\n"))
        };
        let guard = match ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&NOT_UNWOUND).build() {
            Ok(guard) => guard,
            Err(error) => return failed(error.to_string()),
        };
        tokio::time::sleep(duration).await;
        // Looking up symbols reads the binary's debug information, which takes its time.
        let encoded = tokio::task::spawn_blocking(move || {
            let report = guard.report().build().map_err(|error| error.to_string())?;
            drop(guard);
            profile::encode(&report, FREQUENCY).map_err(|error| error.to_string())
        });
        match encoded.await {
            Ok(Ok(bytes)) => {
                let mut answer = page(StatusCode::OK, "application/octet-stream", bytes);
                let name = HeaderValue::from_static("attachment; filename=\"profile\"");
                answer.headers_mut().insert(CONTENT_DISPOSITION, name);
                answer
            }
            Ok(Err(error)) => failed(error),
            Err(error) => failed(error.to_string()),
        }
    }
}
