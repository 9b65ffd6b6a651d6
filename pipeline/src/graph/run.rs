//! Running: one thread per lane, every node instantiated in each.
//!
//! Stopping follows the data: receivers stop accepting and finish what is under way, which drops their outlets; a
//! pipeline whose inlets are gone lets go of what it holds and ends, which drops those of the next; then the exporters
//! drain. From the moment of the request everything that holds data back lets go of it at once, so that clients who
//! wait for a receipt get it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::build::{End, Graph, ProcessorNode};
use super::stage::{self, Stage};
use crate::batch::Batch;
use crate::budget::Budget;
use crate::channel::{Inlet, Intake, channel};
use crate::host::Status;
use crate::node::{Exporter, Outlet, Outlets, Shutdown, ShutdownTrigger, StartError};
use crate::signal::Signal;
use crate::telemetry::OfferCounters;

/// Batches that may wait before a pipeline, per lane.
const PIPELINE_BATCHES: usize = 256;
/// Bytes that may wait before a pipeline, per lane.
const PIPELINE_BYTES: usize = 64 << 20;

/// Why a graph cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A component could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A lane ended although nobody asked it to.
    #[error("lane {0} has stopped unexpectedly; its last log line says why")]
    LaneDied(usize),
}

/// A graph that is running.
pub struct Running {
    graph: Arc<Graph>,
    trigger: ShutdownTrigger,
    lanes: Vec<oneshot::Receiver<()>>,
}

/// Starts the extensions, binds the receivers and starts `lanes` threads.
///
/// # Errors
/// If an extension cannot start or a receiver cannot bind; no data flows then.
pub async fn start(graph: Graph, lanes: usize) -> Result<Running, RunError> {
    let graph = Arc::new(graph);
    let lanes = lanes.max(1);
    for (_, extension) in graph.extensions.iter() {
        extension.start().await?;
    }
    for node in &graph.receivers {
        node.receiver.bind(lanes)?;
    }
    let (trigger, shutdown) = Shutdown::channel();
    let mut running = Vec::with_capacity(lanes);
    for lane in 0..lanes {
        let (done, ended) = oneshot::channel();
        let (graph, shutdown) = (Arc::clone(&graph), shutdown.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("weir-lane-{lane}")).spawn(move || {
            runtime.block_on(run_lane(&graph, lane, shutdown));
            // What is left, such as idle connections of clients, ends with the runtime.
            runtime.shutdown_background();
            let _ = done.send(());
        })?;
        running.push(ended);
    }
    graph.host.set_status(Status::Ready);
    Ok(Running { graph, trigger, lanes: running })
}

impl Running {
    /// Resolves only if a lane dies, with its number.
    pub async fn died(&mut self) -> RunError {
        std::future::poll_fn(|cx| {
            for (lane, ended) in self.lanes.iter_mut().enumerate() {
                if std::pin::Pin::new(ended).poll(cx).is_ready() {
                    return std::task::Poll::Ready(RunError::LaneDied(lane));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Stops the graph: receivers first, then everything is flushed. Returns whether that was done within `limit`.
    pub async fn stop(self, limit: Duration) -> bool {
        // First, so that whoever asks whether to send data here is told before the sockets close.
        self.graph.host.set_status(Status::Stopping);
        self.trigger.request();
        let all = async {
            for ended in self.lanes {
                let _ = ended.await;
            }
            for exporter in &self.graph.exporters {
                exporter.factory.finish().await;
            }
            for (_, extension) in self.graph.extensions.iter().rev() {
                extension.stop().await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

async fn run_lane(graph: &Arc<Graph>, lane: usize, shutdown: Shutdown) {
    let mut exporters: BTreeMap<(usize, Signal), Arc<dyn Exporter>> = BTreeMap::new();
    let mut inlets: Vec<Inlet> = Vec::new();
    let mut pipelines = JoinSet::new();
    // Downstream first, so that the pipelines a connector feeds have their inlets already.
    for pipeline in &graph.pipelines {
        let mut ends: Vec<Outgoing> = Vec::new();
        for end in &pipeline.ends {
            ends.push(match end {
                End::Exporter(i) => {
                    let id = graph.exporters[*i].id.to_string();
                    let offer = OfferCounters::new(graph.host.telemetry(), &id, pipeline.id.signal);
                    let instance = exporters.entry((*i, pipeline.id.signal)).or_insert_with(|| {
                        graph.exporters[*i].factory.create(lane, pipeline.id.signal, shutdown.clone())
                    });
                    Outgoing { exporter: Arc::clone(instance), offer: Some(offer) }
                }
                End::Connector(factory, fed) => {
                    let targets = fed.iter().map(|&i| (graph.pipelines[i].id.clone(), inlets[i].clone())).collect();
                    let exporter = factory.create(lane, pipeline.id.signal, targets, shutdown.clone());
                    Outgoing { exporter, offer: None }
                }
            });
        }
        let (inlet, intake) = channel(PIPELINE_BATCHES, PIPELINE_BYTES);
        inlets.push(inlet);
        let stage = |p: &ProcessorNode| Stage::new(p, lane, graph.host.telemetry(), pipeline.id.signal);
        let chain = pipeline.processors.iter().map(stage).collect();
        pipelines.spawn(Pipeline { chain, ends, ready: Vec::new() }.run(intake, shutdown.clone()));
    }
    let mut receivers = JoinSet::new();
    for node in &graph.receivers {
        let outlet = |signal| {
            let fed: Vec<usize> =
                node.feeds.iter().copied().filter(|&i| graph.pipelines[i].id.signal == signal).collect();
            let mut budgets: Vec<Arc<Budget>> = Vec::new();
            for budget in fed.iter().flat_map(|&i| graph.pipelines[i].budgets()) {
                if !budgets.iter().any(|known| Arc::ptr_eq(known, &budget)) {
                    budgets.push(budget);
                }
            }
            let inlets: Vec<Inlet> = fed.iter().map(|&i| inlets[i].clone()).collect();
            (!inlets.is_empty()).then(|| Outlet::new(inlets, budgets))
        };
        let outlets =
            Outlets { traces: outlet(Signal::Traces), metrics: outlet(Signal::Metrics), logs: outlet(Signal::Logs) };
        receivers.spawn(Arc::clone(&node.receiver).run(lane, outlets, shutdown.clone()));
    }
    drop(inlets);
    receivers.join_all().await;
    pipelines.join_all().await;
    for exporter in exporters.values() {
        exporter.drain().await;
    }
}

/// The processors of one pipeline in one lane, and where it ends.
struct Pipeline {
    chain: Vec<Stage>,
    ends: Vec<Outgoing>,
    /// What came out of the chain and is not yet handed on.
    ready: Vec<Batch>,
}

/// An exporter or connector at the end of a pipeline.
struct Outgoing {
    exporter: Arc<dyn Exporter>,
    /// What is offered to an exporter is counted; a connector's is counted where it ends.
    offer: Option<OfferCounters>,
}

impl Outgoing {
    async fn consume(&self, batch: Batch) {
        let records = batch.len();
        if let Some(offer) = &self.offer {
            offer.begin(records);
        }
        self.exporter.consume(batch).await;
        if let Some(offer) = &self.offer {
            offer.end(records);
        }
    }
}

impl Pipeline {
    async fn run(mut self, mut intake: Intake, mut shutdown: Shutdown) {
        loop {
            let deadline = self.chain.iter().filter_map(|s| s.processor.deadline()).min();
            let stopping = shutdown.is_requested();
            tokio::select! {
                batch = intake.recv() => match batch {
                    Some(batch) => {
                        stage::process(&mut self.chain, batch, &mut self.ready);
                        if stopping {
                            stage::drain(&mut self.chain, &mut self.ready);
                        }
                    }
                    None => break,
                },
                () = sleep_until(deadline), if deadline.is_some() => {
                    stage::tick(&mut self.chain, Instant::now(), &mut self.ready);
                }
                () = shutdown.requested(), if !stopping => stage::drain(&mut self.chain, &mut self.ready),
            }
            self.hand_on().await;
        }
        stage::drain(&mut self.chain, &mut self.ready);
        self.hand_on().await;
    }

    async fn hand_on(&mut self) {
        for batch in std::mem::take(&mut self.ready) {
            if let Some((last, others)) = self.ends.split_last() {
                for end in others {
                    end.consume(batch.fork()).await;
                }
                last.consume(batch).await;
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
