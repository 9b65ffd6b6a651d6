//! Loading the configuration anew, up to the moment when it takes over.
//!
//! Files are read there, names resolved and sockets opened, and any of that can hang: a network file system that is gone,
//! a pipe that nobody reads. So it is done on a thread of its own, while the process goes on to listen to signals; a stop
//! does not wait for it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weir_extensions::metrics::Metrics;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Warning;
use weir_pipeline::file::Reading;
use weir_pipeline::graph::{Predecessor, Successor};

use super::ConfigArguments;
use crate::logging::{Log, NextLog};
use crate::telemetry::TelemetrySettings;

/// What runs, as far as the next configuration depends on it.
pub(super) struct Before {
    pub(super) config: ConfigArguments,
    pub(super) environment: Environment,
    pub(super) settings: Arc<TelemetrySettings>,
    pub(super) log: Arc<Log>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) graph: Predecessor,
}

/// A configuration that is ready to take over.
pub(super) struct Loaded {
    pub(super) settings: TelemetrySettings,
    pub(super) log: NextLog,
    /// The readers of the own metrics, if they are others.
    pub(super) metrics: Option<Metrics>,
    pub(super) graph: Successor,
    pub(super) warnings: Vec<Warning>,
}

impl Before {
    /// Loads the configuration on another thread. If it is wrong, nothing has changed.
    pub(super) fn load(self) -> JoinHandle<anyhow::Result<Loaded>> {
        // Tasks that components start are of this runtime all the same.
        tokio::task::spawn_blocking(move || Handle::current().block_on(self.prepare()))
    }

    async fn prepare(self) -> anyhow::Result<Loaded> {
        let configuration = self.config.load(Reading::Again)?;
        let settings = configuration.telemetry(None)?;
        let graph = configuration.rebuild(self.graph.graph(), &self.environment)?;
        let log = self.log.prepare(&settings.logs)?;
        let host = graph.host.clone();
        let has_other_pages = settings.metrics != self.settings.metrics;
        let metrics = has_other_pages.then(|| self.metrics.restart(&settings.metrics, &host)).transpose()?;
        match self.graph.begin(graph).await {
            Ok(graph) => Ok(Loaded { settings, log, metrics, graph, warnings: configuration.document.warnings }),
            Err(error) => {
                if let Some(metrics) = metrics {
                    metrics.stop().await;
                }
                Err(error.into())
            }
        }
    }
}
