//! `parquet`: spans into the store, a Delta table of Parquet files in a directory or a bucket.
//!
//! ```yaml
//! exporters:
//!   parquet:
//!     url: ./weir-data          # or s3://bucket/prefix, gs://…, az://container/prefix
//!     flush:
//!       max_age: 1s             # a span waits at most this long for others before it is committed; clients wait too
//!       max_bytes: 32MiB        # a commit begins earlier when this much is waiting
//!     storage:                  # options of the object store; by default its usual environment variables
//!       region: eu-central-1
//!     maintenance:
//!       interval: 1h              # how often spans past their retention are removed; 0s: never, see `weir maintain`
//! ```
//!
//! Each project has a table of its own; what belongs to no known project goes to that of the project `default`. All
//! lanes share a table's [`Writer`](weir_store::writer::Writer), so that a commit holds what came in on every core. A
//! client is answered when its spans are committed. See [`weir_store`] for the table.
//!
//! Spans of a project or environment that was deleted are refused for good, wherever they waited or come from, and counted
//! as dropped with the reason `project_deleted` or `environment_deleted`; the registry in the store is asked for that
//! every other second while spans come ([`Guard`](weir_store::registry::Guard)). What belongs to no known project is
//! refused once a project `default` was made and deleted, until it is made again.
//!
//! The first lane also starts a thread that looks after the whole store from time to time: retention, deletions that
//! somebody began, files that no query needs ([`weir_store::maintain`]). Any number of collectors may do so at once.

mod tables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use weir_pipeline::batch::Batch;
use weir_pipeline::config::units::{ByteSize, GoDuration};
use weir_pipeline::config::{ConfigError, Node, Secret};
use weir_pipeline::node::{Context, Exporter, ExporterFactory, Shutdown};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::ExporterCounters;
use weir_store::StoreError;
use weir_store::maintain::{Background, Maintenance, Settings as Patience};
use weir_store::objects::Root;
use weir_store::writer::Settings;

use self::tables::Tables;

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetSettings {
    /// The store: a directory, or a URL with `s3`, `gs`, `az` or `abfs`.
    pub url: String,
    /// A span waits at most this long for others before it is committed; clients wait for that.
    pub max_age: Duration,
    /// A commit begins earlier when this many bytes of requests are waiting.
    pub max_bytes: usize,
    /// Options of the object store: `region`, `endpoint`, `allow_http` and what else its kind has.
    pub storage: BTreeMap<String, String>,
    /// How often the store is looked after; zero for never.
    pub maintenance: Duration,
}

impl Default for ParquetSettings {
    fn default() -> Self {
        let Settings { max_age, max_bytes, .. } = Settings::default();
        let maintenance = Duration::from_secs(3600);
        Self { url: "./weir-data".to_owned(), max_age, max_bytes, storage: BTreeMap::new(), maintenance }
    }
}

/// `parquet`, as it is configured.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ParquetConfig {
    url: String,
    flush: FlushConfig,
    storage: BTreeMap<String, Secret>,
    maintenance: MaintenanceConfig,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct MaintenanceConfig {
    interval: GoDuration,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct FlushConfig {
    max_age: GoDuration,
    max_bytes: ByteSize,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            url: ParquetSettings::default().url,
            flush: FlushConfig::default(),
            storage: BTreeMap::new(),
            maintenance: MaintenanceConfig::default(),
        }
    }
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { interval: GoDuration(ParquetSettings::default().maintenance) }
    }
}

impl Default for FlushConfig {
    fn default() -> Self {
        let ParquetSettings { max_age, max_bytes, .. } = ParquetSettings::default();
        Self { max_age: GoDuration(max_age), max_bytes: ByteSize(max_bytes as u64) }
    }
}

/// Describes the configuration, for editors.
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<ParquetConfig>()
}

/// The `parquet` exporter of all lanes.
#[derive(Debug)]
pub struct ParquetExporterFactory {
    root: Root,
    limits: Settings,
    context: Context,
    /// Started by the first lane, or why it could not be.
    tables: OnceLock<Result<Arc<Tables>, String>>,
    maintenance: Duration,
    /// Started with the writer.
    background: Mutex<Option<Background>>,
}

impl ParquetExporterFactory {
    /// The exporter that is configured at `path`. Nothing is opened or started yet.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn from_config(node: &Node, path: &str, context: &Context) -> Result<Self, ConfigError> {
        let config: ParquetConfig = node.parse_as(path)?;
        let settings = ParquetSettings {
            url: config.url,
            max_age: config.flush.max_age.0,
            max_bytes: usize::try_from(config.flush.max_bytes.0).unwrap_or(usize::MAX),
            storage: config.storage.iter().map(|(key, value)| (key.clone(), value.expose().clone())).collect(),
            maintenance: config.maintenance.interval.0,
        };
        Self::new(&settings, context)
            .map_err(|error| node.get("url").unwrap_or(node).error(&format!("{path}::url"), error.to_string()))
    }

    /// An exporter. Its threads are started by the first lane; the table is then opened, and created if need be, in the
    /// background: spans wait for it, starting does not.
    ///
    /// # Errors
    /// If the URL or a storage option is wrong.
    pub fn new(settings: &ParquetSettings, context: &Context) -> Result<Self, StoreError> {
        let limits = Settings {
            max_age: settings.max_age,
            max_bytes: settings.max_bytes.max(1),
            // Of which one table may have three quarters: one flush that fills, one that is encoded, one that is
            // committed, and some to spare.
            max_buffered_bytes: settings.max_bytes.saturating_mul(5).max(16 << 20),
            ..Settings::default()
        };
        let root = Root::open(&settings.url, &settings.storage)?;
        Ok(Self {
            root,
            limits,
            context: context.clone(),
            tables: OnceLock::new(),
            maintenance: settings.maintenance,
            background: Mutex::new(None),
        })
    }

    /// Starts to look after the store. Spans are taken all the same should that not be possible.
    fn look_after_the_store(&self) {
        if self.maintenance.is_zero() {
            return;
        }
        let Context { id, environment, .. } = &self.context;
        let maintenance = Maintenance::new(&self.root, environment.clone(), Patience::default());
        match Background::start(maintenance, self.maintenance) {
            Ok(background) => *self.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(background),
            Err(error) => tracing::error!(exporter = id, "the store cannot be looked after: {error}"),
        }
    }

    fn tables(&self) -> &Result<Arc<Tables>, String> {
        self.tables.get_or_init(|| {
            self.look_after_the_store();
            let Context { id, telemetry, environment, .. } = &self.context;
            let counters = ExporterCounters::new(telemetry, id, Signal::Traces);
            let tables = Tables::start(self.root.clone(), self.limits.clone(), environment.clone(), counters);
            tables.map(Arc::new).map_err(|error| {
                tracing::error!(exporter = id, "the store's threads could not be started: {error}");
                format!("the store's threads could not be started: {error}")
            })
        })
    }

    /// Whether the exporter takes a signal: spans alone have a table.
    pub fn supports(signal: Signal) -> bool {
        signal == Signal::Traces
    }
}

#[async_trait]
impl ExporterFactory for ParquetExporterFactory {
    fn create(&self, _lane: usize, _signal: Signal, mut shutdown: Shutdown) -> Arc<dyn Exporter> {
        let tables = self.tables().clone();
        if let Ok(tables) = &tables {
            let tables = Arc::clone(tables);
            tokio::spawn(async move {
                shutdown.requested().await;
                tables.hurry();
            });
        }
        Arc::new(ParquetExporter { tables })
    }

    fn promise(&self) -> String {
        format!("OK means that the spans are committed to the Delta table of their project at {}", self.root.url())
    }

    async fn finish(&self) {
        if let Some(Ok(tables)) = self.tables.get() {
            tables.close().await;
        }
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It waits for its thread, which ends at its next step.
        if let Some(mut background) = background
            && let Err(error) = tokio::task::spawn_blocking(move || background.stop()).await
        {
            tracing::error!("looking after the store ended badly: {error}");
        }
    }
}

/// The `parquet` exporter of one lane.
#[derive(Debug)]
struct ParquetExporter {
    tables: Result<Arc<Tables>, String>,
}

#[async_trait]
impl Exporter for ParquetExporter {
    async fn consume(&self, batch: Batch) {
        if !ParquetExporterFactory::supports(batch.signal()) {
            let reason = format!("the parquet exporter stores spans, not {}", batch.signal().records());
            return batch.settle(&Outcome::Rejected(reason.into()));
        }
        match &self.tables {
            Ok(tables) => {
                let mut refused = Vec::new();
                let mut is_any_taken = false;
                for part in batch.split_by_tenant() {
                    match tables.writer(part.tenant().map(|tenant| &**tenant)).await {
                        Ok(writer) => {
                            is_any_taken = true;
                            writer.write(part).await;
                        }
                        Err(closed) => refused.push((part, closed)),
                    }
                }
                for (part, closed) in refused {
                    tables.refuse(part.len(), closed);
                    // Whoever sent it with others' data hears what becomes of those, as a receiver has it that reads
                    // attributes.
                    match is_any_taken {
                        true => part.ignore(),
                        false => part.settle(&Outcome::Rejected(closed.to_string().into())),
                    }
                }
            }
            Err(reason) => batch.settle(&Outcome::Retry { after: None, reason: reason.clone().into() }),
        }
    }

    async fn drain(&self) {
        if let Ok(tables) = &self.tables {
            tables.drain().await;
        }
    }
}

#[cfg(test)]
mod tests;
