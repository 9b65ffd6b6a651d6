//! Running: one thread per lane, every node instantiated in each.
//!
//! Stopping follows the data: receivers stop accepting and finish what is under way, which drops their outlets; a
//! pipeline whose inlets are gone lets go of what it holds and ends, which drops those of the next; then the exporters
//! drain. From the moment of the request everything that holds data back lets go of it at once, so that clients who
//! wait for a receipt get it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::build::{Graph, ReceiverNode};
use super::lane::{Lane, Order};
use super::parts::is_one;
use super::succession::{Predecessor, Successor};
use crate::extension::Extension;
use crate::host::Status;
use crate::node::{ExporterFactory, Receiver, Shutdown, ShutdownTrigger, StartError};

/// Why a graph cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A component could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The graph was built in a host of a trial.
    #[error("the graph was built only to be looked at")]
    Trial,
    /// A lane ended although nobody asked it to.
    #[error("lane {0} has stopped unexpectedly; its last log line says why")]
    LaneDied(usize),
}

/// A graph that is running.
pub struct Running {
    graph: Arc<Graph>,
    trigger: ShutdownTrigger,
    lanes: Vec<LaneHandle>,
    receivers: Vec<RunningReceiver>,
    /// What waits for the remains of former graphs to be drained.
    retiring: JoinSet<()>,
}

struct LaneHandle {
    orders: mpsc::UnboundedSender<Order>,
    ended: oneshot::Receiver<()>,
}

struct RunningReceiver {
    receiver: Arc<dyn Receiver>,
    trigger: ShutdownTrigger,
    stop: Shutdown,
}

impl RunningReceiver {
    fn new(node: &ReceiverNode) -> Self {
        let (trigger, stop) = Shutdown::channel();
        Self { receiver: Arc::clone(&node.receiver), trigger, stop }
    }
}

/// Starts the extensions, binds the receivers and starts `lanes` threads.
///
/// # Errors
/// If an extension cannot start or a receiver cannot bind; no data flows then.
pub async fn start(graph: Graph, lanes: usize) -> Result<Running, RunError> {
    if graph.host.is_trial() {
        // What was forgiven is not there.
        return Err(RunError::Trial);
    }
    let lanes = lanes.max(1);
    graph.host.set_layout(graph.layout.clone());
    for (_, extension) in graph.extensions.iter() {
        extension.start().await?;
    }
    for node in &graph.receivers {
        node.receiver.bind(lanes)?;
    }
    let (trigger, shutdown) = Shutdown::channel();
    let receivers = graph.receivers.iter().map(RunningReceiver::new).collect();
    let mut running = Running {
        graph: Arc::new(graph),
        trigger,
        lanes: Vec::with_capacity(lanes),
        receivers,
        retiring: JoinSet::new(),
    };
    for number in 0..lanes {
        let (done, ended) = oneshot::channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        let shutdown = shutdown.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("weir-lane-{number}")).spawn(move || {
            runtime.block_on(Lane::new(number, shutdown).run(ordered));
            // What is left, such as idle connections of clients, ends with the runtime.
            runtime.shutdown_background();
            let _ = done.send(());
        })?;
        running.lanes.push(LaneHandle { orders, ended });
    }
    running.order().await?;
    running.graph.host.set_status(Status::Ready);
    Ok(running)
}

impl Running {
    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Resolves only if a lane dies, with its number.
    pub async fn died(&mut self) -> RunError {
        std::future::poll_fn(|cx| {
            for (number, lane) in self.lanes.iter_mut().enumerate() {
                if std::pin::Pin::new(&mut lane.ended).poll(cx).is_ready() {
                    return std::task::Poll::Ready(RunError::LaneDied(number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// What prepares a graph that is to take this one's place.
    pub fn predecessor(&self) -> Predecessor {
        Predecessor { graph: Arc::clone(&self.graph), lanes: self.lanes.len() }
    }

    /// [Begins](Predecessor::begin) a graph that was built with [`Graph::rebuild`] from the one that runs, and
    /// [adopts](Self::adopt) it.
    ///
    /// # Errors
    /// As either of them.
    pub async fn reload(&mut self, graph: Graph) -> Result<(), RunError> {
        let successor = self.predecessor().begin(graph).await?;
        self.adopt(successor).await
    }

    /// Goes over to a graph that was begun while this one ran. Returns when all data that is received from then on goes
    /// through the new graph. What the old one still holds is delivered meanwhile and afterwards.
    ///
    /// # Errors
    /// If a lane has died, which [`died`](Self::died) tells too.
    pub async fn adopt(&mut self, successor: Successor) -> Result<(), RunError> {
        let Successor { graph, leaving, entering } = successor;
        entering.keep();
        let is_in = |graph: &Graph, e: &Arc<dyn Extension>| graph.extensions.iter().any(|(_, other)| is_one(e, other));
        let old = Arc::clone(&self.graph);
        let mut before = std::mem::take(&mut self.receivers);
        for node in &graph.receivers {
            let known = before.iter().position(|running| is_one(&running.receiver, &node.receiver));
            self.receivers.push(known.map_or_else(|| RunningReceiver::new(node), |at| before.swap_remove(at)));
        }
        self.graph = Arc::new(graph);
        let retired = self.order().await?;
        // From here on nobody needs them: the new ones take data.
        before.iter().for_each(|running| running.trigger.request());
        leaving.release();
        self.graph.host.set_layout(self.graph.layout.clone());

        let gone = old.extensions.iter().filter(|(_, e)| !is_in(&self.graph, e)).map(|(_, e)| Arc::clone(e));
        // Pages of the old configuration must not answer any more; what exporters use must last as long as they do.
        let (pages, others): (Vec<_>, Vec<_>) = gone.partition(|extension| !extension.addresses().is_empty());
        for extension in pages {
            extension.stop().await;
        }
        let is_used = |f: &Arc<dyn ExporterFactory>| self.graph.exporters.iter().any(|e| is_one(&e.factory, f));
        let factories = old.exporters.iter().map(|e| &e.factory).filter(|f| !is_used(f)).cloned();
        let factories: Vec<_> = factories.collect();
        self.retiring.spawn(async move {
            for lane in retired {
                let _ = lane.await;
            }
            for factory in factories {
                factory.finish().await;
            }
            for extension in others.iter().rev() {
                extension.stop().await;
            }
        });
        // Those that are done.
        while self.retiring.try_join_next().is_some() {}
        Ok(())
    }

    /// Gives every lane the graph; returns when all run it, with what tells when each has drained what it had before.
    async fn order(&self) -> Result<Vec<oneshot::Receiver<()>>, RunError> {
        let mut answers = Vec::with_capacity(self.lanes.len());
        for (number, lane) in self.lanes.iter().enumerate() {
            let stops = self.receivers.iter().map(|running| running.stop.clone()).collect();
            let (taken, answer) = oneshot::channel();
            let order = Order { graph: Arc::clone(&self.graph), stops, taken };
            lane.orders.send(order).map_err(|_| RunError::LaneDied(number))?;
            answers.push(answer);
        }
        let mut retired = Vec::with_capacity(answers.len());
        for (number, answer) in answers.into_iter().enumerate() {
            retired.push(answer.await.map_err(|_| RunError::LaneDied(number))?);
        }
        Ok(retired)
    }

    /// Stops the graph: receivers first, then everything is flushed. Returns whether that was done within `limit`.
    pub async fn stop(mut self, limit: Duration) -> bool {
        // First, so that whoever asks whether to send data here is told before the sockets close.
        self.graph.host.set_status(Status::Stopping);
        self.graph.host.sockets().close_all();
        self.receivers.iter().for_each(|running| running.trigger.request());
        self.trigger.request();
        let all = async {
            for lane in self.lanes {
                let _ = lane.ended.await;
            }
            while self.retiring.join_next().await.is_some() {}
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
