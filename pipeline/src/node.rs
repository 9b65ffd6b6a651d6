//! What the nodes of a graph promise each other.
//!
//! Receivers are async and push into an [`Outlet`]. Processors are synchronous and do no I/O, so they can be tested
//! without a runtime. Exporters are async and settle receipts. A component never knows its neighbours.
//!
//! # Lanes
//!
//! Decision: the graph is run once per *lane*. A lane is an operating-system thread with a single-threaded runtime and
//! its own instance of every node, so that a batch is received, processed and sent on one core without crossing
//! threads. State that must be one for the whole process (a table's writer, a memory budget, a queue's capacity) lives
//! in the factory, which all lanes share. Measured beforehand: a shared multi-threaded runtime costs 10 % more CPU per
//! span over gRPC and 60 % more over HTTP (`benches/load`).
//!
//! Decision: the processors of a pipeline run as one task per lane, not one task each. They are synchronous, so a
//! channel between them would only add wake-ups.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::budget::{Budget, Lease, Short};
use crate::channel::Inlet;
use crate::clock::Environment;
use crate::extension::Extensions;
use crate::host::Host;
use crate::metadata::Reads;
use crate::signal::Signal;
use crate::sockets::Sockets;
use crate::telemetry::Telemetry;

/// What every component is built with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The component's id in the configuration: `otlp`, `otlp_http/honeycomb`.
    pub id: String,
    /// Weir's own counters.
    pub telemetry: Telemetry,
    /// Wall clock and random numbers.
    pub environment: Environment,
    /// The extensions that run.
    pub extensions: Extensions,
    /// The process that the component runs in.
    pub host: Host,
    /// Where its listening sockets come from.
    pub sockets: Sockets,
}

impl Context {
    /// A context without extensions, in a process of its own.
    pub fn new(id: impl Into<String>, telemetry: Telemetry, environment: Environment) -> Self {
        let host = Host::new(telemetry.clone(), &environment);
        let sockets = host.sockets();
        Self { id: id.into(), telemetry, environment, extensions: Extensions::default(), host, sockets }
    }
}

/// A component could not start.
#[derive(Debug, thiserror::Error)]
#[error("{component}: {message}")]
pub struct StartError {
    /// The component's id.
    pub component: String,
    /// What went wrong and what to do.
    pub message: String,
}

/// Data was not taken; the client should come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When to come again.
    pub retry_after: Duration,
    /// Why, for the client's log.
    pub reason: &'static str,
    /// The most bytes that a request can take, if this one can never be taken.
    pub most: Option<usize>,
}

// === Receivers ===

/// A receiver, shared by all lanes.
#[async_trait]
pub trait Receiver: Send + Sync + 'static {
    /// Takes what must exist before data can flow, such as sockets. Called once, before any lane runs.
    ///
    /// # Errors
    /// For instance when an address is in use.
    fn bind(&self, lanes: usize) -> Result<(), StartError>;

    /// Whether data of it may come with metadata.
    fn keeps_metadata(&self) -> bool {
        false
    }

    /// Whether clients can still find what it listens on. One that they cannot find is built anew when the configuration
    /// is loaded anew, although it is configured the same.
    fn is_reachable(&self) -> bool {
        true
    }

    /// What the receiver listens on: (protocol, address), for the start-up log. Known after [`bind`](Self::bind).
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)>;

    /// Serves one lane until `shutdown` is requested, then stops accepting, finishes what is under way and returns.
    async fn run(self: Arc<Self>, lane: usize, outlets: Outlets, shutdown: Shutdown);
}

/// The outlets of a receiver in one lane, by signal. `None`: no pipeline of that signal names the receiver.
#[derive(Debug, Clone, Default)]
pub struct Outlets {
    /// For spans.
    pub traces: Option<Outlet>,
    /// For metric data points.
    pub metrics: Option<Outlet>,
    /// For log records.
    pub logs: Option<Outlet>,
}

impl Outlets {
    /// The same outlets, which also take memory from these budgets.
    #[must_use]
    pub fn with_budgets(&self, more: &[Arc<Budget>]) -> Self {
        let outlet = |outlet: &Option<Outlet>| outlet.as_ref().map(|outlet| outlet.with_budgets(more));
        Self { traces: outlet(&self.traces), metrics: outlet(&self.metrics), logs: outlet(&self.logs) }
    }

    /// The outlet of a signal.
    pub fn get(&self, signal: Signal) -> Option<&Outlet> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }
}

/// Where a receiver or connector pushes batches: all pipelines that name it. Clones lead to the same place, also after
/// that has changed.
#[derive(Debug, Clone)]
pub struct Outlet {
    routes: Arc<RwLock<Arc<Routes>>>,
    /// What memory is taken from wherever the outlet leads.
    own_budgets: Arc<[Arc<Budget>]>,
    /// Who is told that data comes.
    host: Option<Host>,
}

#[derive(Debug)]
struct Routes {
    inlets: Vec<Inlet>,
    budgets: Vec<Arc<Budget>>,
}

impl Outlet {
    /// An outlet into these pipelines, whose memory limiters are `budgets`.
    pub fn new(inlets: Vec<Inlet>, budgets: Vec<Arc<Budget>>) -> Self {
        let routes = Arc::new(RwLock::new(Arc::new(Routes { inlets, budgets })));
        Self { routes, own_budgets: Arc::default(), host: None }
    }

    /// The same outlet, which tells the host that data comes.
    #[must_use]
    pub(crate) fn telling(self, host: &Host) -> Self {
        Self { host: Some(host.clone()), ..self }
    }

    /// The same outlet, which also takes memory from these budgets. A budget that it takes from already is not taken
    /// from twice.
    #[must_use]
    pub fn with_budgets(&self, more: &[Arc<Budget>]) -> Self {
        let mut own = self.own_budgets.to_vec();
        for budget in more {
            if !own.iter().any(|known| Arc::ptr_eq(known, budget)) {
                own.push(Arc::clone(budget));
            }
        }
        Self { own_budgets: own.into(), ..self.clone() }
    }

    /// Leads this outlet and all its clones into other pipelines. What is being sent still goes where it was sent to.
    pub fn reroute(&self, inlets: Vec<Inlet>, budgets: Vec<Arc<Budget>>) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Routes { inlets, budgets });
    }

    fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes memory of `bytes` from every memory limiter downstream, for a request that has `own` already. Call it
    /// before decoding, with the decompressed size as soon as that is known, and attach the leases with
    /// [`Batch::with_lease`].
    ///
    /// # Errors
    /// When a limiter has no room, now or for any request of this size; nothing more is held then.
    pub fn admit(&self, own: usize, bytes: usize) -> Result<Vec<Lease>, Refused> {
        let routes = self.routes();
        let is_own = |budget: &&Arc<Budget>| self.own_budgets.iter().any(|own| Arc::ptr_eq(own, budget));
        let budgets = self.own_budgets.iter().chain(routes.budgets.iter().filter(|budget| !is_own(budget)));
        budgets.map(|budget| budget.take(own, bytes)).collect::<Result<_, _>>().map_err(|short| Refused {
            retry_after: Duration::from_secs(1),
            reason: "data refused due to high memory usage",
            most: match short {
                Short::Now => None,
                Short::ForEver { most } => Some(most),
            },
        })
    }

    /// Hands a batch to every pipeline, waiting while their channels are full. The receipts tell how it ended.
    pub async fn send(&self, batch: Batch) {
        if let Some(host) = &self.host {
            host.note_data();
        }
        let routes = self.routes();
        match &routes.inlets[..] {
            [] => {}
            [only] => only.send(batch).await,
            inlets => {
                for (inlet, copy) in inlets.iter().zip(batch.fan_out(inlets.len())) {
                    inlet.send(copy).await;
                }
            }
        }
    }
}

// === Processors ===

/// Makes one processor per lane and holds what the lanes share.
pub trait ProcessorFactory: Send + Sync + 'static {
    /// The instance of one lane.
    fn create(&self, lane: usize) -> Box<dyn Processor>;

    /// The budget that receivers must take memory from before they decode (memory_limiter).
    fn budget(&self) -> Option<Arc<Budget>> {
        None
    }

    /// Whether it reads the metadata of data.
    fn reads_metadata(&self) -> bool {
        false
    }

    /// What of the metadata of data is still there behind it.
    fn keeps_metadata(&self) -> Keeps<'_> {
        Keeps::Everything
    }
}

/// What a processor keeps of the metadata of data that it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps<'p> {
    /// All of it: it joins nothing.
    Everything,
    /// Headers of these lower-case names, and who the sender is.
    Headers(&'p [String]),
    /// Only what all that it happens to join have in common.
    Nothing,
}

/// A synchronous, CPU-only stage of a pipeline.
///
/// A batch goes out through `out` with its receipts, or is settled here. Records that end here are counted.
pub trait Processor: Send {
    /// Handles one batch.
    fn process(&mut self, batch: Batch, out: &mut dyn FnMut(Batch));

    /// When [`tick`](Self::tick) wants to be called.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Called at or after the deadline.
    fn tick(&mut self, _now: Instant, _out: &mut dyn FnMut(Batch)) {}

    /// Lets go of everything held back. Called when the graph stops, and for each batch while it is stopping.
    fn drain(&mut self, _out: &mut dyn FnMut(Batch)) {}
}

// === Exporters ===

/// Makes one exporter per lane and holds what the lanes share.
#[async_trait]
pub trait ExporterFactory: Send + Sync + 'static {
    /// The instance of one lane for one signal. Called within the lane's runtime, where it may spawn tasks.
    fn create(&self, lane: usize, signal: Signal, shutdown: Shutdown) -> Arc<dyn Exporter>;

    /// One sentence: what an OK to the client means when this exporter has taken the data (charter §5).
    fn promise(&self) -> String;

    /// What it reads of the metadata of data.
    fn reads_metadata(&self) -> Reads {
        Reads::default()
    }

    /// Called once after every lane has drained.
    async fn finish(&self) {}
}

/// The end of a pipeline in one lane.
#[async_trait]
pub trait Exporter: Send + Sync {
    /// Takes a batch over. May wait for room, which is back-pressure; settles the receipts now or later.
    async fn consume(&self, batch: Batch);

    /// Returns when everything taken so far is settled. `consume` is not called again.
    async fn drain(&self);
}

// === Shutdown ===

/// Tells that the process is stopping.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A trigger and the signal it sends.
    pub fn channel() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// Whether the process is stopping.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the process is stopping, or when nobody is left who could tell.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Starts the shutdown.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl ShutdownTrigger {
    /// Tells everyone to stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}
