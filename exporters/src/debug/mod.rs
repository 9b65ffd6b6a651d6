//! `debug`: prints what passes to the standard output, in the Collector's format.
//!
//! **It prints attributes, and so prompts and completions, at `normal` and `detailed` verbosity.** Do not use these where
//! the standard output is collected by somebody who must not read them.
//!
//! ```yaml
//! exporters:
//!   debug:
//!     verbosity: detailed     # basic (default) | normal | detailed
//!     sampling_initial: 2     # batches printed in every second before sampling begins
//!     sampling_thereafter: 1  # of those after that, every so manieth; 0: none
//!     output_paths: [stdout]  # stdout, stderr, or files to append to; the text goes to each of them
//!     use_internal_logger: false
//! ```
//!
//! | verbosity | what is printed |
//! |---|---|
//! | `basic` | one line of counts per batch |
//! | `normal` | and a line per resource, scope, and span, log record or data point |
//! | `detailed` | and everything, as text |
//!
//! Behind a batch comes an empty line, except at `basic`. Control characters are shown as escapes.
//!
//! `use_internal_logger: true`, the Collector's default, is refused: Weir's own log never holds what spans say. Entity
//! references of resources are not printed.
//!
//! Records count as sent when they are printed or sampled away. Where the output cannot be written to they count
//! as failed, but the client is told OK: a broken terminal is no reason to refuse data that other exporters take.

mod logs;
mod metrics;
mod output;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::{ConfigError, Node, any_case};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;

use self::output::Outputs;
use crate::queue::config::error_at;

/// How much to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// Counts.
    #[default]
    Basic,
    /// A line per span.
    Normal,
    /// Everything.
    Detailed,
}

/// `debug`, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// How much to print.
    #[serde(deserialize_with = "any_case")]
    pub verbosity: Verbosity,
    /// Batches printed in every second before sampling begins.
    pub sampling_initial: u64,
    /// Of the batches after that, every so manieth is printed; 0: none.
    pub sampling_thereafter: u64,
    /// Whether to print into Weir's own log, which is refused.
    pub use_internal_logger: bool,
    /// Where to print: `stdout`, `stderr` or files.
    pub output_paths: Vec<String>,
}

impl Default for DebugConfig {
    fn default() -> Self {
        Self {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            use_internal_logger: false,
            output_paths: vec!["stdout".to_owned()],
        }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<DebugConfig>()
}

/// Makes the lanes of one `debug` exporter.
pub struct Debug {
    config: DebugConfig,
    context: Context,
    out: Arc<Mutex<Output>>,
}

impl Debug {
    /// The exporter that is configured at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        let config: DebugConfig = node.parse_as(path)?;
        if config.use_internal_logger {
            let message = "cannot be true: Weir's own log never holds what spans say";
            return Err(error_at(node, path, &["use_internal_logger"], message)
                .with_hint("leave it out, and set `output_paths: [stderr]` to print beside the log"));
        }
        if config.output_paths.is_empty() || config.output_paths.iter().any(String::is_empty) {
            return Err(error_at(node, path, &["output_paths"], "must not be empty: name stdout, stderr or files"));
        }
        Ok(Self::new(config, context.clone()))
    }

    /// An exporter that prints to the outputs of its configuration.
    pub fn new(config: DebugConfig, context: Context) -> Self {
        let outputs = Outputs::new(&config.output_paths);
        Self::with_writer(config, context, outputs)
    }

    /// An exporter that prints to `writer`, a batch with one call.
    pub fn with_writer(config: DebugConfig, context: Context, writer: impl Write + Send + 'static) -> Self {
        let out = Output { writer: Box::new(writer), second: Instant::now(), batches: 0, is_broken: false };
        Self { config, context, out: Arc::new(Mutex::new(out)) }
    }
}

#[async_trait]
impl ExporterFactory for Debug {
    fn create(&self, _lane: usize, signal: Signal, _shutdown: Shutdown) -> Arc<dyn Exporter> {
        Arc::new(Lane {
            config: self.config.clone(),
            counters: ExporterCounters::new(&self.context.telemetry, &self.context.id, signal),
            out: Arc::clone(&self.out),
        })
    }

    fn promise(&self) -> String {
        "OK means that the data was printed or sampled away; it is stored nowhere".to_owned()
    }
}

/// Where all lanes print to.
struct Output {
    writer: Box<dyn Write + Send>,
    /// When the second began in which `batches` are counted.
    second: Instant,
    batches: u64,
    is_broken: bool,
}

impl Output {
    /// Whether the next batch is to be printed.
    fn is_due(&mut self, config: &DebugConfig, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.batches) = (now, 0);
        }
        self.batches += 1;
        match self.batches.checked_sub(config.sampling_initial) {
            None | Some(0) => true,
            Some(after) => after.checked_rem(config.sampling_thereafter) == Some(0),
        }
    }

    fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.writer.write_all(text)?;
        self.writer.flush()
    }
}

struct Lane {
    config: DebugConfig,
    counters: ExporterCounters,
    out: Arc<Mutex<Output>>,
}

#[async_trait]
impl Exporter for Lane {
    async fn consume(&self, batch: Batch) {
        let records = batch.len();
        self.counters.take(records);
        let is_due = self.out.lock().unwrap_or_else(PoisonError::into_inner).is_due(&self.config, Instant::now());
        let printed = if is_due {
            let text = render(&batch, self.config.verbosity);
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            let printed = out.print(&text);
            if let Err(error) = &printed
                && !std::mem::replace(&mut out.is_broken, true)
            {
                tracing::warn!(%error, "the debug exporter cannot write to its output");
            }
            printed
        } else {
            Ok(())
        };
        match printed {
            Ok(()) => self.counters.succeed(records),
            Err(_) => self.counters.fail(records, "write_error"),
        }
        // What is shown is not kept.
        batch.ignore();
    }

    async fn drain(&self) {}
}

fn render(batch: &Batch, verbosity: Verbosity) -> Vec<u8> {
    let signal = batch.signal();
    let bytes = batch.encode();
    let mut out = String::new();
    text::counts(signal, &bytes, batch.len(), &mut out);
    match verbosity {
        Verbosity::Basic => {}
        Verbosity::Normal => text::lines(signal, &bytes, &mut out),
        Verbosity::Detailed => text::everything(signal, &bytes, &mut out),
    }
    // In the Collector all of it is a message of its log, which ends as every message does.
    if verbosity != Verbosity::Basic {
        out.push('\n');
    }
    out.into_bytes()
}
