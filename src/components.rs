//! The registry: every component of this binary by name. A plain table.

use std::sync::Arc;

use weir_exporters::debug::Debug;
use weir_exporters::nop::Nop;
use weir_exporters::otlp::{OtlpGrpc, OtlpHttp};
use weir_extensions::{basicauth, bearertokenauth, headers_setter, health_check, zpages};
use weir_pipeline::config::ConfigError;
use weir_pipeline::graph::{Component, Components, Forward, Section};
use weir_pipeline::node::{ExporterFactory, Receiver};
use weir_pipeline::signal::Signal;
use weir_processors::{batch, cost, memory_limiter};
use weir_receivers::otlp::OtlpReceiver;

const TRACES: &[Signal] = &[Signal::Traces];

/// All components. A type that the Collector has renamed is known by both its names.
pub(crate) fn all() -> Components {
    Components {
        receivers: vec![Component { name: "otlp", aliases: &[], signals: &Signal::ALL, build: otlp_receiver }],
        processors: vec![
            Component { name: "batch", aliases: &[], signals: &Signal::ALL, build: batch::build },
            Component { name: "cost", aliases: &[], signals: TRACES, build: cost::build },
            Component { name: "memory_limiter", aliases: &[], signals: &Signal::ALL, build: memory_limiter::build },
        ],
        exporters: vec![
            Component { name: "debug", aliases: &[], signals: &Signal::ALL, build: debug },
            Component { name: "nop", aliases: &[], signals: &Signal::ALL, build: nop },
            Component { name: "otlp_grpc", aliases: &["otlp"], signals: &Signal::ALL, build: otlp_grpc },
            Component { name: "otlp_http", aliases: &["otlphttp"], signals: &Signal::ALL, build: otlp_http },
            #[cfg(feature = "lake")]
            Component { name: "parquet", aliases: &[], signals: TRACES, build: parquet },
        ],
        extensions: vec![
            Component { name: "basicauth", aliases: &[], signals: &Signal::ALL, build: basicauth::build },
            Component { name: "bearertokenauth", aliases: &[], signals: &Signal::ALL, build: bearertokenauth::build },
            Component { name: "headers_setter", aliases: &[], signals: &Signal::ALL, build: headers_setter::build },
            Component { name: "health_check", aliases: &[], signals: &Signal::ALL, build: health_check::build },
            #[cfg(feature = "pprof")]
            Component { name: "pprof", aliases: &[], signals: &Signal::ALL, build: weir_extensions::pprof::build },
            Component { name: "zpages", aliases: &[], signals: &Signal::ALL, build: zpages::build },
        ],
        connectors: vec![Component { name: "forward", aliases: &[], signals: &Signal::ALL, build: Forward::build }],
    }
}

fn otlp_receiver(section: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
    Ok(Arc::new(OtlpReceiver::from_config(section.node, section.path, section.context.clone())?))
}

fn debug(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(Debug::from_config(section.node, section.path, &section.context)?))
}

fn nop(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(Nop::from_config(section.node, section.path, &section.context)?))
}

fn otlp_grpc(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(OtlpGrpc::from_config(section.node, section.path, &section.context)?))
}

fn otlp_http(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(OtlpHttp::from_config(section.node, section.path, section.signals, &section.context)?))
}

#[cfg(feature = "lake")]
fn parquet(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(weir_exporters::parquet::ParquetExporterFactory::from_config(
        section.node,
        section.path,
        &section.context,
    )?))
}
