//! The components that a graph was built from, so that the next graph can have those that are configured the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::components::ConnectorFactory;
use crate::config::{ComponentId, Node};
use crate::extension::Extension;
use crate::node::{ExporterFactory, ProcessorFactory, Receiver};
use crate::signal::Signal;
use crate::sockets::Sockets;

/// All components of a graph, used or not.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) extensions: Section<dyn Extension>,
    pub(super) receivers: Section<dyn Receiver>,
    pub(super) processors: Section<dyn ProcessorFactory>,
    pub(super) exporters: Section<dyn ExporterFactory>,
    pub(super) connectors: Section<dyn ConnectorFactory>,
}

/// The components of one section by id.
pub(super) type Section<T> = BTreeMap<ComponentId, Part<T>>;

/// A component and what it was built from.
pub(super) struct Part<T: ?Sized> {
    pub(super) component: Arc<T>,
    /// The name of its type, whatever alias the configuration uses.
    pub(super) kind: &'static str,
    /// The signals that its type handles.
    pub(super) handles: &'static [Signal],
    pub(super) sockets: Sockets,
    pub(super) node: Node,
    /// The signals of the pipelines that name it.
    pub(super) signals: Vec<Signal>,
    /// The extensions that it uses.
    pub(super) uses: BTreeSet<ComponentId>,
}

impl<T: ?Sized> Part<T> {
    /// Whether a component built now would be the same, `kept` being the extensions that are the same.
    pub(super) fn is_same(&self, node: &Node, signals: &[Signal], kept: &BTreeSet<ComponentId>) -> bool {
        self.node.is_same(node) && self.signals == signals && self.uses.is_subset(kept)
    }
}

impl<T: ?Sized> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self {
            component: Arc::clone(&self.component),
            kind: self.kind,
            handles: self.handles,
            sockets: self.sockets.clone(),
            node: self.node.clone(),
            signals: self.signals.clone(),
            uses: self.uses.clone(),
        }
    }
}

/// Whether two components are one.
pub(super) fn is_one<T: ?Sized>(a: &Arc<T>, b: &Arc<T>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}
