//! Weir's log: `service::telemetry::logs`.
//!
//! ```yaml
//! service:
//!   telemetry:
//!     logs:
//!       level: info               # debug | info | warn | error; --log-level wins
//!       encoding: console         # or json
//!       sampling: {enabled: true, tick: 10s, initial: 10, thereafter: 100}
//!       output_paths: [stderr]    # stderr, stdout, or files, which are appended to
//!       initial_fields: {region: eu}
//! ```
//!
//! * One line per event, whatever it says: control characters are escaped, so that nobody can forge a line.
//! * Sampling is by message: of the same one, the first `initial` within a `tick` are written and then each
//!   `thereafter`-th. What is dropped was said before, moments ago.
//! * In JSON, the component that speaks is in `otelcol.component.id` and `otelcol.component.kind`, as in the Collector.
//! * Settings can change while the process runs.

mod config;
mod lines;
mod sampling;
#[cfg(test)]
mod tests;

use std::io::Write;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub(crate) use self::config::{LogsConfig, Settings};
pub(crate) use self::lines::Fields;
use self::lines::{Lines, Setup};

/// What libraries below have to say at `info` is of no use to the person who runs Weir.
const QUIET: &str = "deltalake=warn,deltalake_core=warn,delta_kernel=warn,buoyant_kernel=warn,datafusion=warn,\
                     object_store=warn,hyper=warn,h2=warn,rustls=warn";

/// The log of the process, which can be set up anew.
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: Lines,
    /// What the command line says, which wins over the configuration.
    level: Option<String>,
}

impl Log {
    /// Starts logging. `level` is a level (`debug`, `info`, `warn`, `error`), or a filter such as `info,hyper=debug`; it
    /// wins over the one in the settings.
    ///
    /// # Errors
    /// If the filter cannot be read or a file cannot be opened.
    pub(crate) fn start(settings: &Settings, level: Option<&str>) -> anyhow::Result<Self> {
        let lines = Lines::new(Setup::open(settings)?);
        let (filter, handle) = reload::Layer::new(filter(settings, level)?);
        tracing_subscriber::registry().with(filter).with(lines.clone()).init();
        Ok(Self { filter: handle, lines, level: level.map(str::to_owned) })
    }

    /// Opens what other settings ask for; nothing changes before [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub(crate) fn prepare(&self, settings: &Settings) -> anyhow::Result<NextLog> {
        Ok(NextLog { filter: filter(settings, self.level.as_deref())?, setup: Setup::open(settings)? })
    }

    /// Logs by the new settings from now on.
    pub(crate) fn adopt(&self, next: NextLog) {
        self.lines.adopt(next.setup);
        if let Err(error) = self.filter.reload(next.filter) {
            tracing::warn!("the log level cannot be changed: {error}");
        }
    }
}

/// Settings of the log that are ready to be used.
pub(crate) struct NextLog {
    filter: EnvFilter,
    setup: Setup,
}

fn filter(settings: &Settings, level: Option<&str>) -> anyhow::Result<EnvFilter> {
    let level = level.unwrap_or(settings.level.as_str());
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|e| anyhow::anyhow!("--log-level {level}: {e}; use debug, info, warn or error"))
}

/// Tells an error that ends the process. Not through the log, which may not have started.
pub(crate) fn complain(message: &str) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(std::io::stderr(), "weir: {message}");
}
