//! The registry: every component of this binary by name. A plain table.

#[cfg(feature = "lake")]
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};
use weir_exporters::debug::Debug;
use weir_exporters::file::FileExporter;
use weir_exporters::nop::Nop;
use weir_exporters::otlp::{HttpFetch, OtlpGrpc, OtlpHttp};
use weir_extensions::{apikeyauth, basicauth, bearertokenauth, file_storage, headers_setter, health_check, zpages};
#[cfg(feature = "lake")]
use weir_pipeline::clock::Environment;
use weir_pipeline::config::ConfigError;
use weir_pipeline::extension::Extension;
use weir_pipeline::graph::{Component, Components, Forward, Routing, Section, Stability};
use weir_pipeline::node::{ExporterFactory, ProcessorFactory, Receiver};
use weir_pipeline::signal::Signal;
#[cfg(feature = "lake")]
use weir_pipeline::tenant::{Registry, StaticKey};
use weir_processors::{
    attributes, batch, content_policy, cost, filter, memory_limiter, probabilistic_sampler, resource, span,
};
use weir_receivers::file::FileReceiver;
use weir_receivers::otlp::OtlpReceiver;

use crate::missing::MISSING;

const TRACES: &[Signal] = &[Signal::Traces];
const SAMPLED: &[Signal] = &[Signal::Traces, Signal::Logs];

/// All components. A type that the Collector has renamed is known by both its names.
pub(crate) fn all() -> Components {
    Components {
        receivers: vec![
            beta("otlp", &[], &Signal::ALL, weir_receivers::otlp::schema, otlp_receiver),
            beta("otlp_json_file", &["otlpjsonfile"], &Signal::ALL, weir_receivers::file::schema, file_receiver),
        ],
        processors: vec![
            beta("attributes", &[], &Signal::ALL, attributes::schema, attributes::build),
            beta("batch", &[], &Signal::ALL, batch::schema, batch::build),
            alpha("content_policy", &[], TRACES, content_policy::schema, content_policy::build),
            beta("cost", &[], TRACES, cost::schema, cost_processor),
            beta("filter", &[], &Signal::ALL, filter::schema, filter::build),
            beta("memory_limiter", &[], &Signal::ALL, memory_limiter::schema, memory_limiter::build),
            beta("probabilistic_sampler", &[], SAMPLED, probabilistic_sampler::schema, probabilistic_sampler::build),
            beta("resource", &[], &Signal::ALL, resource::schema, resource::build),
            beta("span", &[], TRACES, span::schema, span::build),
        ],
        exporters: vec![
            beta("debug", &[], &Signal::ALL, weir_exporters::debug::schema, debug),
            beta("file", &[], &Signal::ALL, weir_exporters::file::schema, file),
            beta("nop", &[], &Signal::ALL, weir_exporters::nop::schema, nop),
            beta("otlp_grpc", &["otlp"], &Signal::ALL, weir_exporters::otlp::grpc_schema, otlp_grpc),
            beta("otlp_http", &["otlphttp"], &Signal::ALL, weir_exporters::otlp::http_schema, otlp_http),
            #[cfg(feature = "lake")]
            alpha("parquet", &[], TRACES, weir_exporters::parquet::schema, parquet),
        ],
        extensions: vec![
            #[cfg(feature = "lake")]
            alpha("admin_api", &[], &Signal::ALL, weir_api::admin::schema, weir_api::admin::build),
            alpha("apikeyauth", &[], &Signal::ALL, apikeyauth::schema, apikeyauth),
            beta("basicauth", &[], &Signal::ALL, basicauth::schema, basicauth::build),
            beta("bearertokenauth", &[], &Signal::ALL, bearertokenauth::schema, bearertokenauth::build),
            beta("file_storage", &[], &Signal::ALL, file_storage::schema, file_storage::build),
            beta("headers_setter", &[], &Signal::ALL, headers_setter::schema, headers_setter::build),
            beta("health_check", &[], &Signal::ALL, health_check::schema, health_check::build),
            beta("memory_limiter", &[], &Signal::ALL, memory_limiter::schema, memory_limiter::build_extension),
            #[cfg(feature = "pprof")]
            beta("pprof", &[], &Signal::ALL, weir_extensions::pprof::schema, weir_extensions::pprof::build),
            beta("zpages", &[], &Signal::ALL, zpages::schema, zpages::build),
        ],
        connectors: vec![
            beta("forward", &[], &Signal::ALL, Forward::schema, Forward::build),
            beta("routing", &[], &Signal::ALL, Routing::schema, Routing::build),
        ],
        missing: MISSING,
    }
}

type Build<T> = fn(&Section<'_>) -> Result<T, ConfigError>;
type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A component whose configuration changes rarely.
fn beta<T>(
    name: &'static str,
    aliases: &'static [&'static str],
    signals: &'static [Signal],
    schema: Describe,
    build: Build<T>,
) -> Component<T> {
    Component { name, aliases, signals, stability: Stability::Beta, schema, build }
}

/// A component whose configuration, or what it writes, may change.
fn alpha<T>(
    name: &'static str,
    aliases: &'static [&'static str],
    signals: &'static [Signal],
    schema: Describe,
    build: Build<T>,
) -> Component<T> {
    Component { stability: Stability::Alpha, ..beta(name, aliases, signals, schema, build) }
}

fn apikeyauth(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    #[cfg(feature = "lake")]
    let open: Option<apikeyauth::OpenRegistry> = Some(open_registry);
    #[cfg(not(feature = "lake"))]
    let open = None;
    apikeyauth::build(section, open)
}

#[cfg(feature = "lake")]
fn open_registry(
    url: &str,
    storage: &BTreeMap<String, String>,
    clock: &Environment,
    keys: Vec<StaticKey>,
) -> Result<Arc<dyn Registry>, String> {
    let root = weir_store::objects::Root::open(url, storage).map_err(|error| error.to_string())?;
    let registry = weir_store::registry::Registry::new(&root, clock.clone());
    Ok(Arc::new(weir_store::registry::Watched::new(registry, keys)))
}

fn otlp_receiver(section: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
    Ok(Arc::new(OtlpReceiver::from_config(section.node, section.path, section.context.clone())?))
}

fn file_receiver(section: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
    Ok(Arc::new(FileReceiver::from_config(section.node, section.path, section.context.clone())?))
}

fn cost_processor(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
    cost::build_with(section, Arc::new(HttpFetch::new()))
}

fn debug(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(Debug::from_config(section.node, section.path, &section.context)?))
}

fn file(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
    Ok(Arc::new(FileExporter::from_config(section.node, section.path, &section.context)?))
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
