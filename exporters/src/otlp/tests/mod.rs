//! Exporters against servers on loopback sockets.

mod balancing;
mod config;
mod fan_out;
mod fetch;
mod grpc;
mod http;
mod own_metrics;
mod proxies;
mod recipes;
mod redirects;
mod settings;
mod size;
mod stub;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use weir_pipeline::node::{Exporter, ExporterFactory, Shutdown, ShutdownTrigger};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;

use super::client::{Protocol, Target};
use super::compress::Compression;
use super::dial::Names;
use super::exchange::Exchange;
use super::grpc::{GrpcSettings, OtlpGrpc};
use super::http::{Encoding, HttpSettings, HttpTarget, OtlpHttp};
use super::proxies::Proxies;
use super::tls::TlsSettings;
use crate::queue::settings::{QueueSettings, RetrySettings};
use crate::testing::{batch, context};

/// Settles by result and retries at once.
fn exchange() -> Exchange {
    let interval = Duration::from_millis(1);
    Exchange {
        timeout: Some(Duration::from_secs(20)),
        compression: Compression::None,
        compression_level: None,
        queue: Some(QueueSettings { wait_for_result: true, ..QueueSettings::default() }),
        retry: RetrySettings { initial_interval: interval, max_interval: interval, ..RetrySettings::default() },
        max_request_bytes: 64 << 20,
        auth: None,
        waits_for_ready: false,
    }
}

fn target(address: SocketAddr, protocol: Protocol) -> Target {
    Target {
        host: address.ip().to_string(),
        port: address.port(),
        socket: None,
        tls: None,
        proxy: None,
        names: Names::System,
        is_balanced: false,
        protocol,
        keepalive: None,
        connect_timeout: Some(Duration::from_secs(20)),
        idle_timeout: None,
        max_idle: None,
        is_kept_alive: true,
    }
}

fn grpc_settings(address: SocketAddr) -> GrpcSettings {
    GrpcSettings {
        target: target(address, Protocol::Http2),
        authority: address.to_string().parse().unwrap(),
        headers: HeaderMap::new(),
        exchange: exchange(),
    }
}

fn http_settings(address: SocketAddr) -> HttpSettings {
    let at = |path: &str| {
        let uri = format!("http://{address}{path}").parse().unwrap();
        Some(HttpTarget { target: target(address, Protocol::Negotiated), uri })
    };
    HttpSettings {
        traces: at("/v1/traces"),
        metrics: None,
        logs: at("/custom/logs?x=1"),
        headers: HeaderMap::new(),
        encoding: Encoding::Proto,
        tls: TlsSettings::default(),
        proxies: Proxies::None,
        exchange: exchange(),
    }
}

/// An exporter for traces in one lane.
struct Rig {
    exporter: Arc<dyn Exporter>,
    telemetry: Telemetry,
    trigger: ShutdownTrigger,
}

impl Rig {
    fn grpc(settings: GrpcSettings) -> Self {
        let context = context();
        let telemetry = context.telemetry.clone();
        Self::of(&OtlpGrpc::new(settings, context), telemetry)
    }

    fn http(settings: HttpSettings) -> Self {
        let context = context();
        let telemetry = context.telemetry.clone();
        Self::of(&OtlpHttp::new(settings, context), telemetry)
    }

    fn of(factory: &dyn ExporterFactory, telemetry: Telemetry) -> Self {
        let (trigger, shutdown) = Shutdown::channel();
        Self { exporter: factory.create(0, Signal::Traces, shutdown), telemetry, trigger }
    }

    /// Exports so many spans.
    async fn export(&self, spans: usize) -> Outcome {
        let (batch, waiter) = batch(spans);
        self.exporter.consume(batch).await;
        waiter.await
    }
}
