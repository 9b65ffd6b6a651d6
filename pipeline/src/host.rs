//! What a component may know of the process it runs in: whether data flows, what is connected to what, how it counts.
//!
//! It outlives a graph: when a configuration is loaded anew, the components of the new graph get the same host.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Environment;
use crate::config::{ComponentId, ConfigError, Document, Reference};
use crate::sockets::Sockets;
use crate::telemetry::Telemetry;

/// The process, shared by all components.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    telemetry: Telemetry,
    environment: Environment,
    started_unix_nanos: u64,
    status: watch::Sender<Status>,
    has_data: watch::Sender<bool>,
    layout: Mutex<Arc<Layout>>,
    sockets: Sockets,
    /// What components leave to those that take their place, with their ids.
    left: Mutex<Vec<Left>>,
    reloads: Mutex<Option<mpsc::Sender<ReloadRequest>>>,
    /// What was forgiven, where nothing is going to run.
    forgiven: Option<Mutex<Vec<ConfigError>>>,
}

/// The kind of a state, the id of the component whose it is, and the state as long as a component holds it.
type Left = (TypeId, String, Weak<dyn Any + Send + Sync>);

/// Someone asks for the configuration to be loaded anew, and waits to hear how it went: nothing, or what is wrong.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// Whether data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not yet: components are starting.
    Starting,
    /// Receivers take data.
    Ready,
    /// Receivers take no more data; what is under way is delivered.
    Stopping,
}

/// What is connected to what: ids, as the configuration writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The pipelines in the order of the configuration.
    pub pipelines: Vec<PipelineLayout>,
    /// The extensions in the order in which they are started.
    pub extensions: Vec<String>,
}

/// What one pipeline consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineLayout {
    /// `traces`, `logs/audit`
    pub id: String,
    /// Receivers, and connectors that feed it.
    pub receivers: Vec<String>,
    /// Processors in order.
    pub processors: Vec<String>,
    /// Exporters, and connectors that it feeds.
    pub exporters: Vec<String>,
}

impl Host {
    /// A process that has just started.
    pub fn new(telemetry: Telemetry, environment: &Environment) -> Self {
        Self::with(telemetry, environment, None)
    }

    /// A process that only looks whether a configuration is right, perhaps on another machine than it is meant for.
    pub fn of_trial(telemetry: Telemetry, environment: &Environment) -> Self {
        Self::with(telemetry, environment, Some(Mutex::default()))
    }

    fn with(telemetry: Telemetry, environment: &Environment, forgiven: Option<Mutex<Vec<ConfigError>>>) -> Self {
        Self(Arc::new(Shared {
            telemetry,
            environment: environment.clone(),
            started_unix_nanos: environment.now_unix_nanos(),
            status: watch::Sender::new(Status::Starting),
            has_data: watch::Sender::new(false),
            layout: Mutex::default(),
            sockets: Sockets::default(),
            left: Mutex::default(),
            reloads: Mutex::default(),
            forgiven,
        }))
    }

    /// What to do with something that a configuration names and that is not there, such as a file of certificates:
    /// whoever only [tries](Self::of_trial) it is told of it, for anyone else it is an error.
    ///
    /// # Errors
    /// The same one, unless this is a trial.
    pub fn forgive(&self, missing: ConfigError) -> Result<(), ConfigError> {
        let Some(forgiven) = &self.0.forgiven else { return Err(missing) };
        let mut forgiven = forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        // An exporter of three signals asks for its files three times.
        if !forgiven.contains(&missing) {
            forgiven.push(missing);
        }
        Ok(())
    }

    /// Whether nothing is going to run.
    pub fn is_trial(&self) -> bool {
        self.0.forgiven.is_some()
    }

    /// What was forgiven so far.
    pub fn forgiven(&self) -> Vec<ConfigError> {
        let forgiven = self.0.forgiven.as_ref().map(|all| all.lock().unwrap_or_else(PoisonError::into_inner).clone());
        forgiven.unwrap_or_default()
    }

    /// Listening sockets, for a component of its own.
    pub fn sockets(&self) -> Sockets {
        self.0.sockets.for_another()
    }

    /// State of the component of this id that is to outlive a change of its settings: what the one before has, if it is
    /// still there and `fits`, else a new one. It lives as long as a component holds it.
    pub fn inherit<T: Any + Send + Sync>(
        &self,
        id: &str,
        fits: impl Fn(&T) -> bool,
        new: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|(_, _, state)| state.strong_count() > 0);
        let of_this = left.iter().filter(|(kind, owner, _)| *kind == TypeId::of::<T>() && owner == id);
        // More than one where a configuration was refused after its components were built.
        let mut states = of_this.filter_map(|(_, _, state)| state.upgrade()?.downcast::<T>().ok());
        if let Some(state) = states.find(|state| fits(state)) {
            return state;
        }
        let state = Arc::new(new());
        let weak: Weak<T> = Arc::downgrade(&state);
        left.push((TypeId::of::<T>(), id.to_owned(), weak));
        state
    }

    /// What is sent here from now on when someone asks for the configuration to be loaded anew.
    pub fn serve_reloads(&self) -> mpsc::Receiver<ReloadRequest> {
        let (sender, receiver) = mpsc::channel(1);
        *self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Asks for the configuration to be loaded anew, and waits until it runs.
    ///
    /// # Errors
    /// What is wrong with it, or that nobody can load it now; what ran before runs on.
    pub async fn reload(&self) -> Result<(), String> {
        let sender = self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let nobody = || "the process is starting or stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        sender.ok_or_else(nobody)?.send(answer).await.map_err(|_| nobody())?;
        answered.await.map_err(|_| nobody())?
    }

    /// Whether data flows.
    pub fn status(&self) -> Status {
        *self.0.status.borrow()
    }

    /// Says whether data flows.
    pub fn set_status(&self, status: Status) {
        self.0.status.send_replace(status);
    }

    /// Resolves when the first data has come.
    pub async fn first_data(&self) {
        // The sender lives as long as this does.
        let _ = self.0.has_data.subscribe().wait_for(|has_data| *has_data).await;
    }

    /// Says that data has come; the first time it does, whoever waits for that is told. After that it is a look.
    pub(crate) fn note_data(&self) {
        if !*self.0.has_data.borrow() {
            self.0.has_data.send_replace(true);
        }
    }

    /// What is connected to what.
    pub fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.0.layout.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says what is connected to what.
    pub fn set_layout(&self, layout: Layout) {
        *self.0.layout.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(layout);
    }

    /// Weir's own counters.
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// When the process started, in nanoseconds since the epoch.
    pub fn started_unix_nanos(&self) -> u64 {
        self.0.started_unix_nanos
    }

    /// How long it has been running, in nanoseconds.
    pub fn uptime_nanos(&self) -> u64 {
        self.0.environment.now_unix_nanos().saturating_sub(self.0.started_unix_nanos)
    }
}

impl Layout {
    /// The layout that a document describes.
    pub fn of(document: &Document) -> Self {
        let names = |list: &[Reference]| list.iter().map(|(id, _): &(ComponentId, _)| id.to_string()).collect();
        let pipelines = document.service.pipelines.iter().map(|pipeline| PipelineLayout {
            id: pipeline.id.to_string(),
            receivers: names(&pipeline.receivers),
            processors: names(&pipeline.processors),
            exporters: names(&pipeline.exporters),
        });
        Self { pipelines: pipelines.collect(), extensions: names(&document.service.extensions) }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_inherited_by_the_same_component_while_it_is_held() {
        let host = Host::new(Telemetry::default(), &Environment::with(|| 0, 1));
        let first = host.inherit("cost", |_| true, || 1_u32);
        assert!(Arc::ptr_eq(&first, &host.inherit("cost", |n| *n == 1, || 2)));
        assert_eq!(*host.inherit("cost/other", |_| true, || 3_u32), 3, "another component");
        assert_eq!(*host.inherit("cost", |_| true, || 4_u64), 4, "another kind of state");
        let second = host.inherit("cost", |n| *n != 1, || 5_u32);
        assert_eq!(*second, 5, "it does not fit");
        assert!(Arc::ptr_eq(&first, &host.inherit("cost", |n| *n == 1, || 6)), "it is still there");
        drop(first);
        assert!(Arc::ptr_eq(&second, &host.inherit("cost", |_| true, || 6)));
        drop(second);
        assert_eq!(*host.inherit("cost", |_| true, || 7_u32), 7, "nobody held it");
    }
}
