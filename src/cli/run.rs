//! `weir run`: the collector's life from start to drained.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use weir_extensions::metrics::Metrics;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::graph::{self, Graph, Running};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Balance, Telemetry, suffix};

use super::{ConfigArguments, refuse};
use crate::logging::Log;
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
    /// debug, info, warn or error; wins over the level in the configuration [default: info]
    #[arg(long, value_name = "LEVEL", env = "WEIR_LOG")]
    log_level: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<GoDuration>().map(|d| d.0).map_err(|e| e.to_string())
}

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::default();
    let document = arguments.config.document()?;
    let settings = TelemetrySettings::parse(&document.service.telemetry);
    let settings = settings.map_err(|error| refuse(&arguments.config.name(), &error.into()))?;
    let _log = Log::start(&settings.logs, arguments.log_level.as_deref())?;
    for warning in &document.warnings {
        warn!("{warning}");
    }
    let graph = arguments.config.graph(&document, &telemetry, &Environment::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(graph, arguments, &settings, &telemetry))
}

async fn live(
    graph: Graph,
    arguments: &RunArguments,
    settings: &TelemetrySettings,
    telemetry: &Telemetry,
) -> anyhow::Result<ExitCode> {
    // Before anything runs: a signal that comes early must not kill the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lanes = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    let promises: Vec<String> = graph.promises().iter().map(|(p, e, s)| format!("{p} → {e}: {s}")).collect();
    let receivers: Vec<_> = graph.receivers.iter().map(|r| (r.id.clone(), r.receiver.clone())).collect();
    let extensions = graph.extensions.clone();
    let metrics = Metrics::start(&settings.metrics, &graph.host)?;
    let mut running = graph::start(graph, lanes).await?;
    info!("weir {} with {}", env!("CARGO_PKG_VERSION"), arguments.config.name());
    promises.iter().for_each(|promise| info!("{promise}"));
    for (id, extension) in extensions.iter() {
        for (protocol, address) in extension.addresses() {
            info!("{id} listens on {address} ({protocol})");
        }
    }
    for (id, receiver) in receivers {
        for (protocol, address) in receiver.addresses() {
            info!("{id} listens on {address} ({protocol})");
        }
    }
    for address in metrics.addresses() {
        info!("Weir's own metrics are at http://{address}/metrics");
    }
    info!("ready");
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("interrupted: stopping; once more to stop at once"),
        died = running.died() => return Err(died.into()),
    }
    let code = tokio::select! {
        drained = stop(running, arguments.shutdown_timeout) => report(telemetry, drained),
        _ = interrupt.recv() => report(telemetry, false),
    };
    metrics.stop().await;
    Ok(code)
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
    for balance in telemetry.balances().iter().filter(|b| b.offered > 0) {
        let Balance { exporter, signal, consumed, sent, send_failed, enqueue_failed, in_flight, .. } = balance;
        info!(
            "{exporter}: of {consumed} {} delivered {sent}, dropped {send_failed}, refused by a full queue {enqueue_failed}, left behind {in_flight}",
            signal.records()
        );
        lost += in_flight;
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
