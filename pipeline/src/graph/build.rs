//! Building: every configured component is checked, every used one is wired.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::components::{Component, Components, ConnectorFactory, Section, find};
use crate::budget::Budget;
use crate::clock::Environment;
use crate::config::{ComponentId, ConfigError, ConfigErrors, Document, Location, Node, Pipeline, PipelineId};
use crate::extension::Extensions;
use crate::host::{Host, Layout};
use crate::node::{Context, ExporterFactory, ProcessorFactory, Receiver};
use crate::signal::Signal;
use crate::telemetry::Telemetry;

/// What runs: the used components and how they are connected.
pub struct Graph {
    /// What the components know of the process they run in.
    pub host: Host,
    /// Extensions that `service::extensions` names.
    pub extensions: Extensions,
    /// Receivers that some pipeline names.
    pub receivers: Vec<ReceiverNode>,
    /// Pipelines; one that feeds another through a connector stands after it.
    pub pipelines: Vec<PipelineNode>,
    /// Exporters that some pipeline names.
    pub exporters: Vec<ExporterNode>,
}

/// A receiver and the pipelines it feeds.
pub struct ReceiverNode {
    /// The id in the configuration.
    pub id: ComponentId,
    /// The receiver.
    pub receiver: Arc<dyn Receiver>,
    /// Indices into [`Graph::pipelines`].
    pub feeds: Vec<usize>,
}

/// A pipeline.
pub struct PipelineNode {
    /// The id in the configuration.
    pub id: PipelineId,
    /// Its processors in order.
    pub processors: Vec<ProcessorNode>,
    pub(super) ends: Vec<End>,
}

/// A processor in a pipeline.
pub struct ProcessorNode {
    /// The id in the configuration.
    pub id: ComponentId,
    /// Makes its instances; one for all pipelines that name the processor.
    pub factory: Arc<dyn ProcessorFactory>,
}

/// An exporter.
pub struct ExporterNode {
    /// The id in the configuration.
    pub id: ComponentId,
    /// Makes its instances.
    pub factory: Arc<dyn ExporterFactory>,
}

/// Where a pipeline ends.
pub(super) enum End {
    /// Index into [`Graph::exporters`].
    Exporter(usize),
    /// A connector and the pipelines it can feed: indices into [`Graph::pipelines`], all before this pipeline.
    Connector(Arc<dyn ConnectorFactory>, Vec<usize>),
}

impl PipelineNode {
    /// The memory limiters that receivers ask before they decode for this pipeline.
    pub(super) fn budgets(&self) -> impl Iterator<Item = Arc<Budget>> + '_ {
        self.processors.iter().filter_map(|p| p.factory.budget())
    }
}

impl Graph {
    /// Builds the graph that a document describes. Nothing is started, opened or bound.
    ///
    /// # Errors
    /// Everything that is wrong with the components' own settings and with the signals they are asked to handle.
    pub fn build(
        document: &Document,
        components: &Components,
        telemetry: &Telemetry,
        environment: &Environment,
    ) -> Result<Self, ConfigErrors> {
        let extensions = Extensions::default();
        let host = Host::new(telemetry.clone(), environment);
        let mut builder = Builder { document, host, environment, extensions, errors: Vec::new() };
        // First, since the others may name them. One that `service` does not list is checked and not started.
        let mut configured = builder.section("extensions", &document.extensions, &components.extensions);
        let listed = document.service.extensions.iter();
        let started = listed.filter_map(|(id, _)| configured.remove(id).map(|(_, extension)| (id.clone(), extension)));
        builder.extensions = Extensions::new(started.collect());
        let receivers = builder.section("receivers", &document.receivers, &components.receivers);
        let processors = builder.section("processors", &document.processors, &components.processors);
        let exporters = builder.section("exporters", &document.exporters, &components.exporters);
        let connectors = builder.section("connectors", &document.connectors, &components.connectors);
        if !builder.errors.is_empty() {
            return Err(ConfigErrors(builder.errors));
        }

        let order = downstream_first(document);
        let position = |id: &PipelineId| order.iter().position(|&i| document.service.pipelines[i].id == *id);
        let mut graph = Self {
            host: builder.host.clone(),
            extensions: builder.extensions.clone(),
            receivers: Vec::new(),
            pipelines: Vec::new(),
            exporters: Vec::new(),
        };
        for &i in &order {
            let pipeline = &document.service.pipelines[i];
            let mut ends = Vec::new();
            for (id, location) in &pipeline.exporters {
                if let Some((kind, connector)) = connectors.get(id) {
                    builder.check_signal(kind, "connector", id, &pipeline.id, location);
                    let fed = document.service.pipelines.iter().filter(|p| p.receivers.iter().any(|(r, _)| r == id));
                    ends.push(End::Connector(Arc::clone(connector), fed.filter_map(|p| position(&p.id)).collect()));
                } else if let Some((kind, factory)) = exporters.get(id) {
                    builder.check_signal(kind, "exporter", id, &pipeline.id, location);
                    let known = graph.exporters.iter().position(|e| e.id == *id);
                    ends.push(End::Exporter(known.unwrap_or_else(|| {
                        graph.exporters.push(ExporterNode { id: id.clone(), factory: Arc::clone(factory) });
                        graph.exporters.len() - 1
                    })));
                }
            }
            let mut chain = Vec::new();
            for (id, location) in &pipeline.processors {
                if let Some((kind, factory)) = processors.get(id) {
                    builder.check_signal(kind, "processor", id, &pipeline.id, location);
                    chain.push(ProcessorNode { id: id.clone(), factory: Arc::clone(factory) });
                }
            }
            let at = graph.pipelines.len();
            for (id, location) in &pipeline.receivers {
                let Some((kind, receiver)) = receivers.get(id) else { continue };
                builder.check_signal(kind, "receiver", id, &pipeline.id, location);
                match graph.receivers.iter_mut().find(|r| r.id == *id) {
                    Some(node) => node.feeds.push(at),
                    None => graph.receivers.push(ReceiverNode {
                        id: id.clone(),
                        receiver: Arc::clone(receiver),
                        feeds: vec![at],
                    }),
                }
            }
            graph.pipelines.push(PipelineNode { id: pipeline.id.clone(), processors: chain, ends });
        }
        if !builder.errors.is_empty() {
            return Err(ConfigErrors(builder.errors));
        }
        graph.host.set_layout(Layout::of(document));
        Ok(graph)
    }

    /// For each pipeline and exporter, what an OK to the client means.
    pub fn promises(&self) -> Vec<(&PipelineId, &ComponentId, String)> {
        let mut promises = Vec::new();
        for pipeline in self.pipelines.iter().rev() {
            for end in &pipeline.ends {
                if let End::Exporter(i) = end {
                    let exporter = &self.exporters[*i];
                    promises.push((&pipeline.id, &exporter.id, exporter.factory.promise()));
                }
            }
        }
        promises
    }
}

/// The signals of a component type, beside the component.
type Built<T> = BTreeMap<ComponentId, (&'static [Signal], T)>;

struct Builder<'a> {
    document: &'a Document,
    host: Host,
    environment: &'a Environment,
    extensions: Extensions,
    errors: Vec<ConfigError>,
}

impl Builder<'_> {
    fn section<T>(&mut self, section: &str, configured: &[(ComponentId, Node)], types: &[Component<T>]) -> Built<T> {
        let mut built = BTreeMap::new();
        for (id, node) in configured {
            let name = id.to_string();
            let path = format!("{section}::{name}");
            let context = Context {
                id: name.clone(),
                telemetry: self.host.telemetry().clone(),
                environment: self.environment.clone(),
                extensions: self.extensions.clone(),
                host: self.host.clone(),
            };
            let signals = self.signals_of(id);
            let result = find(types, section, &id.kind, &name, node).and_then(|kind| {
                let component = (kind.build)(&Section { node, path: &path, signals: &signals, context })?;
                Ok((kind.signals, component))
            });
            match result {
                Ok(entry) => drop(built.insert(id.clone(), entry)),
                Err(error) => self.errors.push(error),
            }
        }
        built
    }

    fn signals_of(&self, id: &ComponentId) -> Vec<Signal> {
        let names = |list: &[(ComponentId, Location)]| list.iter().any(|(name, _)| name == id);
        let pipelines = &self.document.service.pipelines;
        let uses = |p: &Pipeline| names(&p.receivers) || names(&p.processors) || names(&p.exporters);
        Signal::ALL.into_iter().filter(|s| pipelines.iter().any(|p| p.id.signal == *s && uses(p))).collect()
    }

    fn check_signal(&mut self, signals: &[Signal], what: &str, id: &ComponentId, pipeline: &PipelineId, at: &Location) {
        if !signals.contains(&pipeline.signal) {
            let supported: Vec<&str> = signals.iter().map(|s| s.as_str()).collect();
            let message = format!("{what} \"{id}\" does not support {}", pipeline.signal);
            self.errors.push(
                ConfigError::new(at, format!("service::pipelines::{pipeline}"), message)
                    .with_hint(format!("it supports {}", supported.join(", "))),
            );
        }
    }
}

/// Pipelines ordered so that one which others feed through connectors comes before them. The document has no cycle.
fn downstream_first(document: &Document) -> Vec<usize> {
    fn visit(document: &Document, i: usize, seen: &mut [bool], order: &mut Vec<usize>) {
        if std::mem::replace(&mut seen[i], true) {
            return;
        }
        for (exporter, _) in &document.service.pipelines[i].exporters {
            for (j, other) in document.service.pipelines.iter().enumerate() {
                let connected = document.connectors.iter().any(|(c, _)| c == exporter)
                    && other.receivers.iter().any(|(r, _)| r == exporter);
                if connected {
                    visit(document, j, seen, order);
                }
            }
        }
        order.push(i);
    }
    let count = document.service.pipelines.len();
    let mut order = Vec::with_capacity(count);
    let mut seen = vec![false; count];
    (0..count).for_each(|i| visit(document, i, &mut seen, &mut order));
    order
}
