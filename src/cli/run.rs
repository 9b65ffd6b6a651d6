//! `weir run`: the collector's life from start to drained.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use weir_pipeline::clock::Environment;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::graph::{self, Graph, Running};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Telemetry, suffix};

use super::ConfigArguments;
use crate::logging;

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
    /// debug, info, warn or error
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WEIR_LOG")]
    log_level: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<GoDuration>().map(|d| d.0).map_err(|e| e.to_string())
}

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    logging::start(&arguments.log_level)?;
    let telemetry = Telemetry::default();
    let configuration = arguments.config.load()?;
    for warning in &configuration.document.warnings {
        warn!("{warning}");
    }
    let graph = configuration.graph(&telemetry, &Environment::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(graph, &configuration.name, arguments, &telemetry))
}

async fn live(graph: Graph, name: &str, arguments: &RunArguments, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
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
    let mut running = graph::start(graph, lanes).await?;
    info!("weir {} with {name}", env!("CARGO_PKG_VERSION"));
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
    info!("ready");
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("interrupted: stopping; once more to stop at once"),
        died = running.died() => return Err(died.into()),
    }
    tokio::select! {
        drained = stop(running, arguments.shutdown_timeout) => Ok(report(telemetry, drained)),
        _ = interrupt.recv() => Ok(report(telemetry, false)),
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
        let consumed = format!("weir_exporter_consumed_{suffix}");
        for (key, consumed) in telemetry.snapshot().into_iter().filter(|(k, n)| k.name == consumed && *n > 0) {
            let labels: Vec<(&'static str, &str)> = key.labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let count = |name: String| telemetry.counter(name, &labels).get();
            let sent = count(format!("otelcol_exporter_sent_{suffix}"));
            let failed = count(format!("otelcol_exporter_send_failed_{suffix}"));
            let overflow = count(format!("otelcol_exporter_enqueue_failed_{suffix}"));
            let in_flight = count(format!("weir_exporter_in_flight_{suffix}"));
            let exporter = labels.first().map_or("", |(_, v)| v);
            info!(
                "{exporter}: of {consumed} {} delivered {sent}, dropped {failed}, refused by a full queue {overflow}, left behind {in_flight}",
                signal.records()
            );
            lost += in_flight;
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
