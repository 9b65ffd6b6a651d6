//! From a configuration to a running graph.
//!
//! ```text
//!  Document ──build──► Graph (shared: factories)  ──run──► lane 0: receivers ─► pipelines ─► exporters
//!  (validated ids       every component's own               lane 1: receivers ─► pipelines ─► exporters
//!   and references)     configuration is checked             …      (own instances, own thread)
//! ```
//!
//! A new graph can take the place of a running one ([`Graph::rebuild`], [`Predecessor::begin`], [`Running::adopt`]): in each lane what is new is
//! created beside what runs, receivers are led to the new pipelines, and what is no longer used is drained. Components that
//! are configured the same are the same, and keep their sockets, connections, queues and state.
//!
//! Building has no side effects: `weir validate` builds the same graph and drops it.

mod build;
mod components;
mod forward;
mod lane;
mod metadata;
mod outline;
mod parts;
mod pipe;
mod routing;
mod run;
mod stage;
mod succession;
#[cfg(test)]
mod tests;

pub use self::build::{ExporterNode, Graph, PipelineNode, ProcessorNode, ReceiverNode};
pub use self::components::{Component, Components, ConnectorFactory, Missing, Section, Stability};
pub use self::forward::Forward;
pub use self::routing::Routing;
pub use self::run::{RunError, Running, start};
pub use self::succession::{Predecessor, Successor};
