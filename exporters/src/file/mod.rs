//! `file`: writes OTLP to a local file, which the Collector's `otlpjsonfile` receiver or Weir's `otlp_json_file` reads.
//!
//! ```yaml
//! exporters:
//!   file:
//!     path: ./spans.jsonl
//!     format: json             # json (default) | proto
//!     compression: zstd        # none unless it is there
//!     compression_params: {level: 1}   # of zstd, any; 0: the default, which is 1
//!     append: false            # whether to keep what an earlier run wrote; not with rotation
//!     create_directory: false
//!     directory_permissions: "0755"    # octal, of the folders that are made; less what the umask takes
//!     flush_interval: 1s       # how long data may wait in memory; 0: not at all
//!     rotation:                # off unless it is there
//!       max_megabytes: 100     # 0: 100
//!       max_days: 0            # 0: rotated files are not removed for their age
//!       max_backups: 100       # 0: nor for their number
//! ```
//!
//! | | on disk |
//! |---|---|
//! | `json` | one request per line, as OTLP/JSON |
//! | `proto`, and everything compressed | the length in four bytes, big-endian, then the request |
//!
//! All signals go into one file, as in the Collector; `group_by` must be off. A rotated file is named
//! `spans-2026-08-01T10-20-30.000.jsonl`, in UTC (`localtime: true` is refused).
//!
//! # What it guarantees
//!
//! * A request is never torn: not between two files, and a write that fails is taken back.
//! * Records count as sent when the operating system has them. An OK to the client means less: the data may wait in
//!   memory for `flush_interval`, and the file is not synced.
//! * While the file cannot be written to, what waits in memory is tried again, at most [`BUFFER`] bytes of it; beyond
//!   that the client is told to come again.

mod config;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::otlp::json::write_json;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;

pub use self::config::schema;
use self::config::{FileSettings, Format};
use self::writer::Writer;

/// Bytes that may wait in memory before they are written.
pub const BUFFER: usize = 1 << 20;

/// Makes the lanes of one `file` exporter.
pub struct FileExporter {
    settings: FileSettings,
    context: Context,
    writer: Arc<Mutex<Writer>>,
    /// Whether a task flushes the writer already.
    is_flushed: AtomicBool,
}

impl FileExporter {
    /// The exporter that is configured at `path`. The file is opened when there is something to write.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        Ok(Self::new(FileSettings::parse(node, path)?, context.clone()))
    }

    fn new(settings: FileSettings, context: Context) -> Self {
        let writer = Arc::new(Mutex::new(Writer::new(settings.clone(), context.environment.clone())));
        Self { settings, context, writer, is_flushed: AtomicBool::new(false) }
    }
}

#[async_trait]
impl ExporterFactory for FileExporter {
    fn create(&self, _lane: usize, signal: Signal, shutdown: Shutdown) -> Arc<dyn Exporter> {
        if let Some(interval) = self.settings.flush_interval
            && !self.is_flushed.swap(true, Ordering::Relaxed)
        {
            tokio::spawn(flush_regularly(Arc::clone(&self.writer), interval, shutdown));
        }
        Arc::new(Lane {
            settings: self.settings.clone(),
            counters: ExporterCounters::new(&self.context.telemetry, &self.context.id, signal),
            writer: Arc::clone(&self.writer),
        })
    }

    fn promise(&self) -> String {
        let path = self.settings.path.display();
        match self.settings.flush_interval {
            Some(interval) => format!(
                "OK means that the data is written to {path} within {interval:?}: it is lost if the process dies before"
            ),
            None => format!("OK means that the operating system has the data, to be written to {path}"),
        }
    }

    async fn finish(&self) {
        on_disk(&self.writer, Writer::close).await;
    }
}

async fn flush_regularly(writer: Arc<Mutex<Writer>>, interval: Duration, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.requested() => return,
        }
        on_disk(&writer, |writer| writer.flush().is_ok()).await;
    }
}

/// Calls `work` where it may wait for the disk. `None` if it panicked, or the runtime is going down.
async fn on_disk<T: Send + 'static>(
    writer: &Arc<Mutex<Writer>>,
    work: impl FnOnce(&mut Writer) -> T + Send + 'static,
) -> Option<T> {
    let writer = Arc::clone(writer);
    let task = tokio::task::spawn_blocking(move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner)));
    task.await.ok()
}

struct Lane {
    settings: FileSettings,
    counters: ExporterCounters,
    writer: Arc<Mutex<Writer>>,
}

#[async_trait]
impl Exporter for Lane {
    async fn consume(&self, mut batch: Batch) {
        let records = batch.len();
        let receipts = batch.take_receipts();
        self.counters.take(records);
        let (settings, counters) = (self.settings.clone(), self.counters.clone());
        let written = on_disk(&self.writer, move |writer| {
            writer.write(&record(&settings, &batch)?, (counters, records)).map_err(|e| e.to_string())
        });
        let outcome = match written.await {
            Some(Ok(())) => Outcome::Done,
            Some(Err(message)) => {
                self.counters.fail(records, "write_error");
                let reason = format!("cannot write to {}: {message}", self.settings.path.display());
                Outcome::Retry { after: None, reason: reason.into() }
            }
            None => {
                self.counters.fail(records, "shutdown");
                Outcome::Lost
            }
        };
        receipts.into_iter().for_each(|receipt| receipt.settle(outcome.clone()));
    }

    async fn drain(&self) {
        on_disk(&self.writer, |writer| writer.flush().is_ok()).await;
    }
}

/// One request as it stands in the file.
fn record(settings: &FileSettings, batch: &Batch) -> Result<Vec<u8>, String> {
    let protobuf = batch.encode();
    let mut body = Vec::new();
    match settings.format {
        Format::Json => write_json(message_of(batch.signal()), &protobuf, &mut body),
        Format::Proto => body.extend_from_slice(&protobuf),
    }
    if let Some(level) = settings.compression_level {
        body = zstd::bulk::compress(&body, level).map_err(|e| e.to_string())?;
    } else if settings.format == Format::Json {
        body.push(b'\n');
        return Ok(body);
    }
    let length = u32::try_from(body.len()).map_err(|_| "the request is larger than 4 GiB".to_owned())?;
    let mut record = length.to_be_bytes().to_vec();
    record.append(&mut body);
    Ok(record)
}
