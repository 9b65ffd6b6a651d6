//! What comes before another graph takes over: its new components are started and bound, beside those that run.
//!
//! Names are resolved there, files read and sockets opened, which may take its time, or hang. So it can be done on another
//! thread than the one that looks after the process, and given up at any moment: nothing that runs has changed until
//! [`Running::adopt`](super::Running::adopt).

use std::sync::Arc;

use super::build::{Graph, ReceiverNode};
use super::parts::is_one;
use crate::extension::Extension;
use crate::node::StartError;
use crate::sockets::Sockets;

/// The graph that runs, for whoever prepares the next one.
#[derive(Clone)]
pub struct Predecessor {
    pub(super) graph: Arc<Graph>,
    pub(super) lanes: usize,
}

/// A graph whose components have been started and bound, beside those that run.
pub struct Successor {
    pub(super) graph: Graph,
    /// The sockets of components that it does not have.
    pub(super) leaving: Leaving,
    /// Those of its new components.
    pub(super) entering: Entering,
}

/// Sockets that others may have, until this is dropped or they are released.
pub(super) struct Leaving(Vec<Sockets>);

impl Leaving {
    fn begin(sockets: Vec<Sockets>) -> Self {
        sockets.iter().for_each(Sockets::leave);
        Self(sockets)
    }

    /// Lets go of them: the components have gone.
    pub(super) fn release(self) {
        self.0.iter().for_each(Sockets::release);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // After a release there is nothing to take back.
        self.0.iter().for_each(Sockets::stay);
    }
}

/// Sockets of components that are new, which are let go of when this is dropped, unless they are kept.
pub(super) struct Entering(Vec<Sockets>);

impl Entering {
    /// The components run now.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.iter().for_each(Sockets::release);
    }
}

impl Predecessor {
    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Starts what is new in the next graph, which was built with [`Graph::rebuild`] from this one.
    ///
    /// # Errors
    /// If an extension cannot start or a receiver cannot bind: then nothing has changed.
    pub async fn begin(&self, next: Graph) -> Result<Successor, StartError> {
        let leaving = Leaving::begin(self.leaving_sockets(&next));
        let is_new = |e: &Arc<dyn Extension>| !self.graph.extensions.iter().any(|(_, other)| is_one(e, other));
        let mut started: Vec<Arc<dyn Extension>> = Vec::new();
        let mut entering = Entering(Vec::new());
        let mut result = Ok(());
        for (id, extension) in next.extensions.iter().filter(|(_, extension)| is_new(extension)) {
            entering.0.extend(next.parts.extensions.get(id).map(|part| part.sockets.clone()));
            started.push(Arc::clone(extension));
            result = extension.start().await;
            if result.is_err() {
                break;
            }
        }
        let is_new = |node: &&ReceiverNode| !self.graph.receivers.iter().any(|r| is_one(&r.receiver, &node.receiver));
        for node in next.receivers.iter().filter(is_new) {
            if result.is_err() {
                break;
            }
            entering.0.push(node.sockets.clone());
            result = node.receiver.bind(self.lanes);
        }
        if let Err(error) = result {
            for extension in started.iter().rev() {
                extension.stop().await;
            }
            return Err(error);
        }
        Ok(Successor { graph: next, leaving, entering })
    }

    /// The sockets of components that the next graph does not have.
    fn leaving_sockets(&self, next: &Graph) -> Vec<Sockets> {
        let is_kept = |node: &ReceiverNode| next.receivers.iter().any(|other| is_one(&node.receiver, &other.receiver));
        let receivers = self.graph.receivers.iter().filter(|node| !is_kept(node)).map(|node| node.sockets.clone());
        let is_kept = |e: &Arc<dyn Extension>| next.extensions.iter().any(|(_, other)| is_one(e, other));
        let extensions = self.graph.extensions.iter().filter(|(_, extension)| !is_kept(extension));
        let extensions = extensions.filter_map(|(id, _)| Some(self.graph.parts.extensions.get(id)?.sockets.clone()));
        receivers.chain(extensions).collect()
    }
}
