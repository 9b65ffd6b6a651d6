//! A lane: instances of every node of the graph, on one thread. It can be given another graph while it runs.
//!
//! Changing the graph loses nothing and stops nobody:
//!
//! 1. Instances that the new graph needs and the old one does not have are created.
//! 2. Each pipeline that stays is told its new processors and ends. It goes over to them between two batches; what
//!    leaving processors hold goes to the old ends.
//! 3. Receivers that stay are led to the new pipelines; new ones begin.
//! 4. Pipelines that nobody feeds any more end, as at a stop.
//! 5. When no pipeline can hand anything to an exporter that is not in the new graph, it is drained: as long as it
//!    takes, by its own rules for retrying.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::build::{End, Graph, PipelineNode, ProcessorNode, ReceiverNode};
use super::components::ConnectorFactory;
use super::parts::is_one;
use super::pipe::{Outgoing, Pipe, Plan};
use crate::budget::Budget;
use crate::channel::{Inlet, channel};
use crate::config::PipelineId;
use crate::node::{Exporter, ExporterFactory, Outlet, Outlets, Receiver, Shutdown};
use crate::signal::Signal;
use crate::telemetry::OfferCounters;

/// Batches that may wait before a pipeline, per lane.
const PIPELINE_BATCHES: usize = 256;
/// Bytes that may wait before a pipeline, per lane.
const PIPELINE_BYTES: usize = 64 << 20;

/// A graph that a lane is to run from now on.
pub(super) struct Order {
    pub(super) graph: Arc<Graph>,
    /// Tells each receiver of the graph to stop, in the same order.
    pub(super) stops: Vec<Shutdown>,
    /// Told when the lane runs it, with what resolves when the lane has drained what it no longer needs.
    pub(super) taken: oneshot::Sender<oneshot::Receiver<()>>,
}

/// What runs in one lane.
pub(super) struct Lane {
    number: usize,
    shutdown: Shutdown,
    pipes: Vec<PipeHandle>,
    exporters: Vec<ExporterHandle>,
    connectors: Vec<ConnectorHandle>,
    receivers: Vec<ReceiverHandle>,
    /// Tasks of receivers, of pipelines, and those that drain what is no longer needed.
    receiving: JoinSet<()>,
    piping: JoinSet<()>,
    retiring: JoinSet<()>,
}

struct PipeHandle {
    id: PipelineId,
    inlet: Inlet,
    plans: mpsc::UnboundedSender<Plan>,
    ended: oneshot::Receiver<()>,
}

#[derive(Clone)]
struct ExporterHandle {
    factory: Arc<dyn ExporterFactory>,
    signal: Signal,
    exporter: Arc<dyn Exporter>,
}

#[derive(Clone)]
struct ConnectorHandle {
    factory: Arc<dyn ConnectorFactory>,
    from: PipelineId,
    to: Vec<PipelineId>,
    exporter: Arc<dyn Exporter>,
}

struct ReceiverHandle {
    receiver: Arc<dyn Receiver>,
    outlets: Outlets,
}

impl Lane {
    pub(super) fn new(number: usize, shutdown: Shutdown) -> Self {
        Self {
            number,
            shutdown,
            pipes: Vec::new(),
            exporters: Vec::new(),
            connectors: Vec::new(),
            receivers: Vec::new(),
            receiving: JoinSet::new(),
            piping: JoinSet::new(),
            retiring: JoinSet::new(),
        }
    }

    /// Runs what is ordered until the process stops, and then until everything is drained.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.take(order),
                    None => break,
                },
                () = shutdown.requested() => break,
                Some(ended) = self.receiving.join_next() => pass_on_panic(ended),
                Some(ended) = self.piping.join_next() => pass_on_panic(ended),
                Some(ended) = self.retiring.join_next() => pass_on_panic(ended),
            }
        }
        // Stopping follows the data: each of these lets go of the inlets of what comes after.
        self.receivers.clear();
        join(&mut self.receiving).await;
        self.pipes.clear();
        self.connectors.clear();
        join(&mut self.piping).await;
        join(&mut self.retiring).await;
        for handle in &self.exporters {
            handle.exporter.drain().await;
        }
    }

    /// Goes over to another graph. Nothing here waits.
    fn take(&mut self, Order { graph, stops, taken }: Order) {
        let mut leaving = Leaving::default();
        let mut pipes: Vec<PipeHandle> = Vec::with_capacity(graph.pipelines.len());
        let (mut exporters, mut connectors) = (Vec::new(), Vec::new());
        // Downstream first, so that the pipelines a connector feeds have their inlets already.
        for node in &graph.pipelines {
            let ends = node.ends.iter().map(|end| match end {
                End::Exporter(i) => self.exporter(&graph, *i, node.id.signal, &mut exporters),
                End::Connector(_, factory, fed) => self.connector(node, factory, fed, &pipes, &mut connectors),
            });
            let ends = ends.collect();
            let pipe = match self.pipes.iter().position(|pipe| pipe.id == node.id) {
                Some(at) => self.pipes.swap_remove(at),
                None => self.pipe(node, &graph),
            };
            let chain = node.processors.iter().map(ProcessorNode::clone).collect();
            let (laid, wait) = oneshot::channel();
            // A pipeline ends only when its inlets are gone, and here is one.
            let _ = pipe.plans.send(Plan { chain, ends, laid });
            leaving.after.push(wait);
            pipes.push(pipe);
        }
        leaving.after.extend(std::mem::replace(&mut self.pipes, pipes).into_iter().map(|pipe| pipe.ended));
        // A connector goes with the last pipeline that feeds it, and with it the inlets that keep the next one alive.
        self.connectors = connectors;
        let is_used = |before: &ExporterHandle| exporters.iter().any(|now| is_one(&now.exporter, &before.exporter));
        leaving.exporters.extend(self.exporters.iter().filter(|e| !is_used(e)).map(|e| Arc::clone(&e.exporter)));
        self.exporters = exporters;
        self.lead_receivers(&graph, stops);
        let (done, retired) = oneshot::channel();
        self.retiring.spawn(leaving.retire(done));
        // Nobody waits any more only if the process stops.
        let _ = taken.send(retired);
    }

    fn exporter(&self, graph: &Graph, at: usize, signal: Signal, now: &mut Vec<ExporterHandle>) -> Outgoing {
        let node = &graph.exporters[at];
        let is_it = |handle: &&ExporterHandle| handle.signal == signal && is_one(&handle.factory, &node.factory);
        let handle = match now.iter().find(is_it) {
            Some(handle) => handle.clone(),
            None => {
                let handle = self.exporters.iter().find(is_it).cloned().unwrap_or_else(|| ExporterHandle {
                    factory: Arc::clone(&node.factory),
                    signal,
                    exporter: node.factory.create(self.number, signal, self.shutdown.clone()),
                });
                now.push(handle.clone());
                handle
            }
        };
        let offer = OfferCounters::new(graph.host.telemetry(), &node.id.to_string(), signal);
        Outgoing { exporter: handle.exporter, offer: Some(offer) }
    }

    fn connector(
        &self,
        node: &PipelineNode,
        factory: &Arc<dyn ConnectorFactory>,
        fed: &[usize],
        pipes: &[PipeHandle],
        now: &mut Vec<ConnectorHandle>,
    ) -> Outgoing {
        // The pipelines before this one are those of the graph in the same order.
        let targets: Vec<_> = fed.iter().map(|&i| (pipes[i].id.clone(), pipes[i].inlet.clone())).collect();
        let to: Vec<PipelineId> = targets.iter().map(|(id, _)| id.clone()).collect();
        let is_it = |c: &&ConnectorHandle| is_one(&c.factory, factory) && c.from == node.id && c.to == to;
        // A pipeline that had the same name is the same pipeline, so its inlets are still right.
        let handle = self.connectors.iter().find(is_it).cloned().unwrap_or_else(|| ConnectorHandle {
            factory: Arc::clone(factory),
            from: node.id.clone(),
            to: to.clone(),
            exporter: factory.create(self.number, node.id.signal, targets, self.shutdown.clone()),
        });
        now.push(handle.clone());
        Outgoing { exporter: handle.exporter, offer: None }
    }

    fn pipe(&mut self, node: &PipelineNode, graph: &Graph) -> PipeHandle {
        let (inlet, intake) = channel(PIPELINE_BATCHES, PIPELINE_BYTES);
        let (plans, planned) = mpsc::unbounded_channel();
        let (alive, ended) = oneshot::channel();
        let pipe = Pipe::new(self.number, node.id.signal, graph.host.telemetry().clone());
        self.piping.spawn(pipe.run(intake, planned, self.shutdown.clone(), alive));
        PipeHandle { id: node.id.clone(), inlet, plans, ended }
    }

    fn lead_receivers(&mut self, graph: &Graph, stops: Vec<Shutdown>) {
        let mut before = std::mem::take(&mut self.receivers);
        for (node, stop) in graph.receivers.iter().zip(stops) {
            let known = before.iter().position(|handle| is_one(&handle.receiver, &node.receiver));
            let handle = match known {
                Some(at) => {
                    let handle = before.swap_remove(at);
                    for signal in Signal::ALL {
                        if let Some(outlet) = handle.outlets.get(signal) {
                            let (inlets, budgets) = self.routes(graph, node, signal);
                            outlet.reroute(inlets, budgets);
                        }
                    }
                    handle
                }
                None => {
                    let outlet = |signal| {
                        let (inlets, budgets) = self.routes(graph, node, signal);
                        (!inlets.is_empty()).then(|| Outlet::new(inlets, budgets).telling(&graph.host))
                    };
                    let outlets = Outlets {
                        traces: outlet(Signal::Traces),
                        metrics: outlet(Signal::Metrics),
                        logs: outlet(Signal::Logs),
                    };
                    self.receiving.spawn(Arc::clone(&node.receiver).run(self.number, outlets.clone(), stop));
                    ReceiverHandle { receiver: Arc::clone(&node.receiver), outlets }
                }
            };
            self.receivers.push(handle);
        }
    }

    /// Where a receiver's records of a signal go, and the memory limiters there.
    fn routes(&self, graph: &Graph, node: &ReceiverNode, signal: Signal) -> (Vec<Inlet>, Vec<Arc<Budget>>) {
        let fed: Vec<usize> = node.feeds.iter().copied().filter(|&i| graph.pipelines[i].id.signal == signal).collect();
        let mut budgets: Vec<Arc<Budget>> = Vec::new();
        for budget in fed.iter().flat_map(|&i| graph.pipelines[i].budgets()) {
            if !budgets.iter().any(|known| Arc::ptr_eq(known, &budget)) {
                budgets.push(budget);
            }
        }
        (fed.iter().map(|&i| self.pipes[i].inlet.clone()).collect(), budgets)
    }
}

/// What a graph had and the next one has not.
#[derive(Default)]
struct Leaving {
    exporters: Vec<Arc<dyn Exporter>>,
    /// Resolve (or are dropped) when no pipeline can hand anything to them any more.
    after: Vec<oneshot::Receiver<()>>,
}

impl Leaving {
    async fn retire(self, done: oneshot::Sender<()>) {
        for pipe in self.after {
            // Dropped is as good as told: the pipeline has ended.
            let _ = pipe.await;
        }
        for exporter in &self.exporters {
            exporter.drain().await;
        }
        drop(self.exporters);
        let _ = done.send(());
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        pass_on_panic(ended);
    }
}

/// A node that panics takes its lane with it: whatever it held is unaccounted for, and going on would hide that.
fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
