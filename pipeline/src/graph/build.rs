//! Building: every configured component is checked, every used one is wired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::components::{self, Component, Components, ConnectorFactory, find};
use super::parts::{Part, Parts, Section, is_one};
use crate::budget::Budget;
use crate::clock::Environment;
use crate::config::{
    ComponentId, ConfigError, ConfigErrors, Document, Location, Node, Pipeline, PipelineId, Reference,
};
use crate::extension::Extensions;
use crate::host::{Host, Layout};
use crate::node::{Context, ExporterFactory, ProcessorFactory, Receiver};
use crate::signal::Signal;
use crate::sockets::Sockets;
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
    pub(super) layout: Layout,
    pub(super) parts: Parts,
}

/// A receiver and the pipelines it feeds.
pub struct ReceiverNode {
    /// The id in the configuration.
    pub id: ComponentId,
    /// The receiver.
    pub receiver: Arc<dyn Receiver>,
    pub(super) sockets: Sockets,
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
#[derive(Clone)]
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
    /// A connector, its id, and the pipelines it can feed: indices into [`Graph::pipelines`], all before this pipeline.
    Connector(ComponentId, Arc<dyn ConnectorFactory>, Vec<usize>),
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
        let host = Host::new(telemetry.clone(), environment);
        Self::assemble(document, components, environment, host, &Parts::default())
    }

    /// Builds the graph in a host [of a trial](Host::of_trial), to see whether it could be. It cannot be started.
    ///
    /// # Errors
    /// As [`build`](Self::build), less what the host forgives.
    pub fn try_out(
        document: &Document,
        components: &Components,
        environment: &Environment,
        host: &Host,
    ) -> Result<Self, ConfigErrors> {
        Self::assemble(document, components, environment, host.clone(), &Parts::default())
    }

    /// Builds the graph that is to take this one's place in the same process. Components that are configured the same
    /// are the same: they keep their sockets, queues and state. Only a receiver that clients cannot find any more does not.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn rebuild(
        &self,
        document: &Document,
        components: &Components,
        environment: &Environment,
    ) -> Result<Self, ConfigErrors> {
        Self::assemble(document, components, environment, self.host.clone(), &self.parts)
    }

    fn assemble(
        document: &Document,
        components: &Components,
        environment: &Environment,
        host: Host,
        before: &Parts,
    ) -> Result<Self, ConfigErrors> {
        let extensions = Extensions::default();
        let mut builder =
            Builder { document, host, environment, extensions, kept: BTreeSet::new(), errors: Vec::new() };
        // First, since the others may name them. One that `service` does not list is checked and not started.
        let all = components;
        let extensions = builder.section("extensions", &document.extensions, all, &all.extensions, &before.extensions);
        let listed_ids = || document.service.extensions.iter().map(|(id, _)| id);
        let started = listed_ids().filter_map(|id| Some((id.clone(), Arc::clone(&extensions.get(id)?.component))));
        let broken = listed_ids().filter(|id| !extensions.contains_key(id)).cloned();
        builder.extensions = Extensions::new(started.collect()).with_broken(broken.collect());
        let is_kept = |id: &ComponentId| {
            let both = extensions.get(id).zip(before.extensions.get(id));
            both.is_some_and(|(now, before)| is_one(&now.component, &before.component))
        };
        builder.kept = extensions.keys().filter(|id| is_kept(id)).cloned().collect();
        let reachable = before.receivers.iter().filter(|(_, part)| part.component.is_reachable());
        let receivers: Section<dyn Receiver> = reachable.map(|(id, part)| (id.clone(), part.clone())).collect();
        let parts = Parts {
            receivers: builder.section("receivers", &document.receivers, all, &all.receivers, &receivers),
            processors: builder.section("processors", &document.processors, all, &all.processors, &before.processors),
            exporters: builder.section("exporters", &document.exporters, all, &all.exporters, &before.exporters),
            connectors: builder.section("connectors", &document.connectors, all, &all.connectors, &before.connectors),
            extensions,
        };
        builder.check_connectors(&parts.connectors);
        if !builder.errors.is_empty() {
            return Err(ConfigErrors(builder.errors));
        }

        let order = downstream_first(document, &parts.connectors);
        let position = |id: &PipelineId| order.iter().position(|&i| document.service.pipelines[i].id == *id);
        let mut graph = Self {
            host: builder.host.clone(),
            extensions: builder.extensions.clone(),
            receivers: Vec::new(),
            pipelines: Vec::new(),
            exporters: Vec::new(),
            layout: Layout::of(document),
            parts,
        };
        for &i in &order {
            let pipeline = &document.service.pipelines[i];
            let mut ends = Vec::new();
            for (id, location) in &pipeline.exporters {
                if let Some(part) = graph.parts.connectors.get(id) {
                    builder.check_signal(part.handles, "connector", id, &pipeline.id, location);
                    let fed: Vec<&Pipeline> = fed(document, id, part.component.as_ref(), pipeline).collect();
                    let targets: Vec<&PipelineId> = fed.iter().map(|p| &p.id).collect();
                    builder.errors.extend(part.component.check(&targets).err());
                    ends.push(End::Connector(
                        id.clone(),
                        Arc::clone(&part.component),
                        fed.iter().filter_map(|p| position(&p.id)).collect(),
                    ));
                } else if let Some(part) = graph.parts.exporters.get(id) {
                    builder.check_signal(part.handles, "exporter", id, &pipeline.id, location);
                    let known = graph.exporters.iter().position(|e| e.id == *id);
                    ends.push(End::Exporter(known.unwrap_or_else(|| {
                        graph.exporters.push(ExporterNode { id: id.clone(), factory: Arc::clone(&part.component) });
                        graph.exporters.len() - 1
                    })));
                }
            }
            let mut chain = Vec::new();
            for (id, location) in &pipeline.processors {
                if let Some(part) = graph.parts.processors.get(id) {
                    builder.check_signal(part.handles, "processor", id, &pipeline.id, location);
                    chain.push(ProcessorNode { id: id.clone(), factory: Arc::clone(&part.component) });
                }
            }
            let at = graph.pipelines.len();
            for (id, location) in &pipeline.receivers {
                let Some(part) = graph.parts.receivers.get(id) else { continue };
                builder.check_signal(part.handles, "receiver", id, &pipeline.id, location);
                match graph.receivers.iter_mut().find(|r| r.id == *id) {
                    Some(node) => node.feeds.push(at),
                    None => graph.receivers.push(ReceiverNode {
                        id: id.clone(),
                        receiver: Arc::clone(&part.component),
                        sockets: part.sockets.clone(),
                        feeds: vec![at],
                    }),
                }
            }
            graph.pipelines.push(PipelineNode { id: pipeline.id.clone(), processors: chain, ends });
        }
        if !builder.errors.is_empty() {
            return Err(ConfigErrors(builder.errors));
        }
        graph.warn_of_missing_metadata(document);
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

type Connectors = Section<dyn ConnectorFactory>;

struct Builder<'a> {
    document: &'a Document,
    host: Host,
    environment: &'a Environment,
    extensions: Extensions,
    /// The extensions that are those of the graph before.
    kept: BTreeSet<ComponentId>,
    errors: Vec<ConfigError>,
}

impl Builder<'_> {
    fn section<T: ?Sized>(
        &mut self,
        section: &str,
        configured: &[(ComponentId, Node)],
        all: &Components,
        types: &[Component<Arc<T>>],
        before: &Section<T>,
    ) -> Section<T> {
        let mut parts = BTreeMap::new();
        for (id, node) in configured {
            let signals = self.signals_of(id);
            if let Some(part) = before.get(id).filter(|part| part.is_same(node, &signals, &self.kept)) {
                parts.insert(id.clone(), part.clone());
                continue;
            }
            match self.part(section, id, node, signals, (all, types)) {
                Ok(part) => drop(parts.insert(id.clone(), part)),
                Err(error) => self.errors.push(error),
            }
        }
        parts
    }

    fn part<T: ?Sized>(
        &self,
        section: &str,
        id: &ComponentId,
        node: &Node,
        signals: Vec<Signal>,
        (all, types): (&Components, &[Component<Arc<T>>]),
    ) -> Result<Part<T>, ConfigError> {
        let name = id.to_string();
        let path = format!("{section}::{name}");
        let keys = self.document.root.get(section).map_or(&[][..], Node::entries);
        let key =
            keys.iter().find(|(key, _)| key.text == name).map_or_else(|| node.location(), |(key, _)| &key.location);
        let kind = find(all, types, section, &id.kind, &name, key)?;
        let (extensions, sockets) = (self.extensions.watched(), self.host.sockets());
        let context = Context {
            id: name,
            telemetry: self.host.telemetry().clone(),
            environment: self.environment.clone(),
            extensions: extensions.clone(),
            host: self.host.clone(),
            sockets: sockets.clone(),
        };
        let component = (kind.build)(&components::Section { node, path: &path, signals: &signals, context })?;
        let (node, uses) = (node.clone(), extensions.used());
        Ok(Part { component, kind: kind.name, handles: kind.signals, sockets, node, signals, uses })
    }

    /// A connector has two sides, and which signals it joins it alone knows.
    fn check_connectors(&mut self, connectors: &Connectors) {
        for (id, Part { component: connector, .. }) in connectors {
            let users = |side: fn(&Pipeline) -> &[Reference]| -> Vec<(&Pipeline, &Location)> {
                let place = |p| side(p).iter().find(|(other, _)| other == id).map(|(_, at)| (p, at));
                self.document.service.pipelines.iter().filter_map(place).collect()
            };
            let (mut exporters, mut receivers) = (users(|p| &p.exporters), users(|p| &p.receivers));
            let joins = |from: &Pipeline, to: &Pipeline| connector.joins(from.id.signal, to.id.signal);
            let all = exporters.clone();
            exporters.retain(|(from, _)| !receivers.iter().any(|(to, _)| joins(from, to)));
            receivers.retain(|(to, _)| !all.iter().any(|(from, _)| joins(from, to)));
            for (side, other, loose) in [("exporter", "receiver", exporters), ("receiver", "exporter", receivers)] {
                let Some((_, location)) = loose.first() else { continue };
                let names: Vec<String> = loose.iter().map(|(pipeline, _)| pipeline.id.to_string()).collect();
                let message = format!(
                    "connector \"{id}\" used as {side} in [{}] pipeline but not used in any supported {other} pipeline",
                    names.join(" ")
                );
                self.errors.push(ConfigError::new(location, format!("connectors::{id}"), message));
            }
        }
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

/// The pipelines that one pipeline feeds through a connector.
fn fed<'d>(
    document: &'d Document,
    id: &'d ComponentId,
    connector: &'d dyn ConnectorFactory,
    from: &'d Pipeline,
) -> impl Iterator<Item = &'d Pipeline> {
    let receives = move |p: &&Pipeline| p.receivers.iter().any(|(receiver, _)| receiver == id);
    let pipelines = document.service.pipelines.iter().filter(receives);
    pipelines.filter(|to| connector.joins(from.id.signal, to.id.signal))
}

/// Pipelines ordered so that one which others feed through connectors comes before them, and otherwise the last of the
/// document first: read backwards, the order is that of the data and of the text. The document has no cycle.
fn downstream_first(document: &Document, connectors: &Connectors) -> Vec<usize> {
    fn visit(document: &Document, connectors: &Connectors, i: usize, seen: &mut [bool], order: &mut Vec<usize>) {
        if std::mem::replace(&mut seen[i], true) {
            return;
        }
        let pipelines = &document.service.pipelines;
        for (id, _) in pipelines[i].exporters.iter().rev() {
            let Some(connector) = connectors.get(id).map(|part| &part.component) else { continue };
            let fed: Vec<&Pipeline> = fed(document, id, connector.as_ref(), &pipelines[i]).collect();
            for to in fed.into_iter().rev() {
                if let Some(j) = pipelines.iter().position(|p| p.id == to.id) {
                    visit(document, connectors, j, seen, order);
                }
            }
        }
        order.push(i);
    }
    let count = document.service.pipelines.len();
    let mut order = Vec::with_capacity(count);
    let mut seen = vec![false; count];
    (0..count).rev().for_each(|i| visit(document, connectors, i, &mut seen, &mut order));
    order
}
