//! `weir run`: the collector's life from start to drained.
//!
//! SIGHUP, `--watch` and `POST /-/reload` (see `weir_extensions::metrics`) load the configuration anew. A wrong one is
//! refused with its errors, and what ran before runs on; `weir_config_reloads` counts both.
//!
//! Loading may hang (see [`reload`](super::reload)), and must not keep signals from being heard: a stop does not wait for
//! it. Whoever asks for another reload meanwhile waits for the first; when that takes long, they are refused.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use weir_extensions::metrics::Metrics;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::file::Reading;
use weir_pipeline::graph::{self, Graph, Running};
use weir_pipeline::host::ReloadRequest;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Balance, Telemetry, suffix};

use super::ConfigArguments;
use super::reload::{Before, Loaded};
use super::watch::Watch;
use crate::logging::Log;
use crate::pages;
use crate::telemetry::TelemetrySettings;

#[derive(Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Threads that move data; 0 = one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// How long a stop may take to deliver what is under way
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    shutdown_timeout: Duration,
    /// Load the configuration anew when its files change, as on SIGHUP
    #[arg(long)]
    watch: bool,
    /// debug, info, warn or error; wins over the level in the configuration [default: info]
    #[arg(long, value_name = "LEVEL", env = "WEIR_LOG")]
    log_level: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<GoDuration>().map(|d| d.0).map_err(|e| e.to_string())
}

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::default();
    let environment = Environment::system();
    let configuration = arguments.config.load(Reading::First)?;
    let settings = configuration.telemetry(None)?;
    let log = Log::start(&settings.logs, arguments.log_level.as_deref())?;
    for warning in &configuration.document.warnings {
        warn!("{warning}");
    }
    let graph = configuration.graph(&telemetry, &environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = configuration.name;
    let setup = Setup { arguments, environment, settings: Arc::new(settings), log: Arc::new(log) };
    let code = runtime.block_on(live(graph, &name, setup));
    // A thread that hangs in loading a configuration is not waited for.
    runtime.shutdown_background();
    code
}

/// What the process was started with.
struct Setup<'a> {
    arguments: &'a RunArguments,
    environment: Environment,
    settings: Arc<TelemetrySettings>,
    log: Arc<Log>,
}

async fn live(graph: Graph, name: &str, setup: Setup<'_>) -> anyhow::Result<ExitCode> {
    let arguments = setup.arguments;
    // Before anything runs: a signal that comes early must not kill the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch = Watch::new(if arguments.watch { arguments.config.files() } else { Vec::new() });
    let lanes = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    let host = graph.host.clone();
    let first_data = host.clone();
    tokio::spawn(async move {
        first_data.first_data().await;
        pages::allow_huge();
    });
    let metrics = Arc::new(Metrics::start(&setup.settings.metrics, &host)?);
    let mut requests = host.serve_reloads();
    let mut process = Process { setup, metrics, running: graph::start(graph, lanes).await?, loading: None };
    info!("weir {} with {}", env!("CARGO_PKG_VERSION"), name);
    process.announce();
    info!("ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                info!("SIGTERM: stopping");
                break;
            }
            _ = interrupt.recv() => {
                info!("interrupted: stopping; once more to stop at once");
                break;
            }
            died = process.running.died() => return Err(died.into()),
            loaded = Loading::next(&mut process.loading) => {
                if let Some(loaded) = loaded {
                    process.adopt(loaded).await;
                }
            }
            _ = hangup.recv(), if process.may_be_asked() => process.reload("SIGHUP", None),
            () = watch.changed(), if process.may_be_asked() => process.reload("the configuration has changed", None),
            Some(answer) = requests.recv(), if process.may_be_asked() => {
                process.reload("asked over HTTP", Some(answer));
            }
        }
    }
    let Process { metrics, running, loading, .. } = process;
    if let Some(loading) = loading {
        warn!("the configuration that is being loaded is not waited for");
        loading.answer(Err("the process is stopping".to_owned()));
    }
    let code = tokio::select! {
        drained = stop(running, arguments.shutdown_timeout) => report(host.telemetry(), drained),
        _ = interrupt.recv() => report(host.telemetry(), false),
    };
    metrics.stop().await;
    Ok(code)
}

/// What runs.
struct Process<'a> {
    setup: Setup<'a>,
    metrics: Arc<Metrics>,
    running: Running,
    /// The configuration that is to take over.
    loading: Option<Loading>,
}

/// How long loading may take before it is said that it does.
const LONG: Duration = Duration::from_secs(10);

/// A configuration that is being loaded.
struct Loading {
    loaded: JoinHandle<anyhow::Result<Loaded>>,
    since: tokio::time::Instant,
    /// Whether it has taken long.
    drags_on: bool,
    /// Who waits to hear how it went.
    asked: Option<ReloadRequest>,
}

impl Loading {
    /// What came of it; or nothing, once, when it takes long. Never resolves if nothing is being loaded.
    async fn next(loading: &mut Option<Self>) -> Option<anyhow::Result<Loaded>> {
        let Some(Self { loaded, since, drags_on, .. }) = loading else { return std::future::pending().await };
        tokio::select! {
            // That a component panics while it is built ends no process that runs.
            loaded = loaded => Some(loaded.unwrap_or_else(|error| Err(error.into()))),
            () = tokio::time::sleep_until(*since + LONG), if !*drags_on => {
                *drags_on = true;
                warn!(
                    "the configuration is still being loaded after {LONG:?}, and what ran before runs on: \
                     does a file, a file system or a name server hang?"
                );
                None
            }
        }
    }

    fn answer(self, result: Result<(), String>) {
        if let Some(asked) = self.asked {
            // Whoever asked may have gone.
            let _ = asked.send(result);
        }
    }
}

impl Process<'_> {
    /// Says what is promised, and where who listens.
    fn announce(&self) {
        let graph = self.running.graph();
        for (pipeline, exporter, promise) in graph.promises() {
            info!("{pipeline} → {exporter}: {promise}");
        }
        let extensions = graph.extensions.iter().map(|(id, extension)| (id, extension.addresses()));
        let receivers = graph.receivers.iter().map(|node| (&node.id, node.receiver.addresses()));
        for (id, addresses) in extensions.chain(receivers) {
            for (protocol, address) in addresses {
                info!("{id} listens on {address} ({protocol})");
            }
        }
        for address in self.metrics.addresses() {
            info!("Weir's own metrics are at http://{address}/metrics");
        }
        for address in self.metrics.destinations() {
            info!("Weir's own metrics are sent to {address}");
        }
    }

    /// Whether somebody who asks for a reload is heard now: those who ask while one is under way wait for the next, but
    /// not for one that may never end.
    fn may_be_asked(&self) -> bool {
        self.loading.as_ref().is_none_or(|loading| loading.drags_on)
    }

    /// Begins to load what the configuration says now. If it is wrong, nothing changes.
    fn reload(&mut self, why: &str, asked: Option<ReloadRequest>) {
        if self.loading.is_some() {
            let refusal = "the configuration is being loaded already, and that has not come to an end";
            warn!("{why}: {refusal}");
            if let Some(asked) = asked {
                let _ = asked.send(Err(format!("{refusal}; what ran before runs on")));
            }
            return;
        }
        info!("{why}: loading the configuration anew");
        let before = Before {
            config: self.setup.arguments.config.clone(),
            environment: self.setup.environment.clone(),
            settings: Arc::clone(&self.setup.settings),
            log: Arc::clone(&self.setup.log),
            metrics: Arc::clone(&self.metrics),
            graph: self.running.predecessor(),
        };
        let since = tokio::time::Instant::now();
        self.loading = Some(Loading { loaded: before.load(), since, drags_on: false, asked });
    }

    /// Goes over to what was loaded, or says why not.
    async fn adopt(&mut self, loaded: anyhow::Result<Loaded>) {
        let telemetry = self.running.graph().host.telemetry().clone();
        let count = |result| telemetry.counter("weir_config_reloads", &[("result", result)]).add(1);
        let loading = self.loading.take();
        let result = match loaded {
            Ok(loaded) => self.try_adopt(loaded).await,
            Err(error) => Err(error),
        };
        let result = match result {
            Ok(()) => {
                count("success");
                self.announce();
                info!("the new configuration is in use");
                Ok(())
            }
            Err(error) => {
                count("refused");
                error!("the configuration before stays in use: {error:#}");
                Err(format!("{error:#}"))
            }
        };
        if let Some(loading) = loading {
            loading.answer(result);
        }
    }

    async fn try_adopt(&mut self, loaded: Loaded) -> anyhow::Result<()> {
        let Loaded { settings, log, metrics, graph, warnings } = loaded;
        if let Err(error) = self.running.adopt(graph).await {
            if let Some(metrics) = metrics {
                metrics.stop().await;
            }
            return Err(error.into());
        }
        if let Some(metrics) = metrics {
            let before = std::mem::replace(&mut self.metrics, Arc::new(metrics));
            // Not waited for: whoever asked for this over HTTP is still to be answered, and it waits for that.
            tokio::spawn(async move { before.stop().await });
        }
        self.setup.log.adopt(log);
        self.setup.settings = Arc::new(settings);
        for warning in &warnings {
            warn!("{warning}");
        }
        Ok(())
    }
}

async fn stop(running: Running, limit: Duration) -> bool {
    let drained = running.stop(limit).await;
    if !drained {
        warn!("could not deliver everything within --shutdown-timeout {limit:?}");
    }
    drained
}

/// Says what became of everything, per destination, and whether any of it was lost.
fn report(telemetry: &Telemetry, drained: bool) -> ExitCode {
    let mut lost = 0;
    for signal in Signal::ALL {
        let suffix = suffix(signal);
        let accepted = telemetry.sum(&format!("otelcol_receiver_accepted_{suffix}"));
        let refused = telemetry.sum(&format!("otelcol_receiver_refused_{suffix}"));
        if accepted + refused > 0 {
            info!("received {accepted} {}, refused {refused} to clients", signal.records());
        }
    }
    for balance in telemetry.balances().iter().filter(|b| b.offered + b.recovered > 0) {
        let Balance { exporter, signal, consumed, sent, send_failed, enqueue_failed, in_flight, .. } = balance;
        let Balance { recovered, kept, has_storage, .. } = balance;
        // The next process goes on with what this one was about to deliver.
        let (left, kept) = if *has_storage { (0, kept + in_flight) } else { (*in_flight, *kept) };
        // Those of exporters without storage are always 0.
        let found = if *recovered > 0 { format!(" and {recovered} found on disk") } else { String::new() };
        let on_disk = if kept > 0 { format!(", waiting on disk {kept}") } else { String::new() };
        info!(
            "{exporter}: of {consumed} {}{found} delivered {sent}, dropped {send_failed}, refused by a full queue {enqueue_failed}, left behind {left}{on_disk}",
            signal.records()
        );
        lost += left;
        if drained && balance.difference() != 0 {
            error!("{exporter}: {} {} are unaccounted for", balance.difference(), signal.records());
        }
    }
    let dropped_at_shutdown: u64 = telemetry
        .snapshot()
        .iter()
        .filter(|(k, _)| k.name == "weir_exporter_dropped" && k.labels.iter().any(|(_, v)| v == "shutdown"))
        .map(|(_, n)| n)
        .sum();
    lost += dropped_at_shutdown;
    if lost > 0 {
        error!(
            "{lost} records were lost in this stop: a longer --shutdown-timeout or a reachable destination would have saved them"
        );
        return ExitCode::FAILURE;
    }
    if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
