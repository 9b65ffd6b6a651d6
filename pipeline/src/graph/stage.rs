//! A processor in its place in a pipeline, with what goes in and comes out counted.

use std::sync::Arc;

use tokio::time::Instant;

use super::build::ProcessorNode;
use super::parts::is_one;
use crate::batch::Batch;
use crate::node::{Processor, ProcessorFactory};
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry};

/// A processor in one pipeline of one lane.
pub(super) struct Stage {
    pub(super) processor: Box<dyn Processor>,
    factory: Arc<dyn ProcessorFactory>,
    incoming: Counter,
    outgoing: Counter,
}

impl Stage {
    pub(super) fn new(node: &ProcessorNode, lane: usize, telemetry: &Telemetry, signal: Signal) -> Self {
        let id = node.id.to_string();
        let labels = [("processor", id.as_str()), ("otel_signal", signal.as_str())];
        Self {
            processor: node.factory.create(lane),
            factory: Arc::clone(&node.factory),
            incoming: telemetry.counter("otelcol_processor_incoming_items", &labels),
            outgoing: telemetry.counter("otelcol_processor_outgoing_items", &labels),
        }
    }

    /// Whether it is an instance of this processor.
    pub(super) fn is_of(&self, node: &ProcessorNode) -> bool {
        is_one(&self.factory, &node.factory)
    }
}

/// Sends a batch through a chain; what comes out is added to `ready`.
pub(super) fn process(chain: &mut [Stage], batch: Batch, ready: &mut Vec<Batch>) {
    match chain.split_first_mut() {
        Some((Stage { processor, incoming, outgoing, .. }, rest)) => {
            incoming.add(batch.len());
            processor.process(batch, &mut |batch| {
                outgoing.add(batch.len());
                process(rest, batch, ready);
            });
        }
        None => ready.push(batch),
    }
}

/// Calls the processors whose deadline has come.
pub(super) fn tick(chain: &mut [Stage], now: Instant, ready: &mut Vec<Batch>) {
    if let Some((Stage { processor, outgoing, .. }, rest)) = chain.split_first_mut() {
        if processor.deadline().is_some_and(|deadline| deadline <= now) {
            processor.tick(now, &mut |batch| {
                outgoing.add(batch.len());
                process(rest, batch, ready);
            });
        }
        tick(rest, now, ready);
    }
}

/// Makes every processor let go of what it holds.
pub(super) fn drain(chain: &mut [Stage], ready: &mut Vec<Batch>) {
    for first in 0..chain.len() {
        drain_first(&mut chain[first..], ready);
    }
}

/// Makes the first processor let go of what it holds, through the others.
pub(super) fn drain_first(chain: &mut [Stage], ready: &mut Vec<Batch>) {
    if let Some((Stage { processor, outgoing, .. }, rest)) = chain.split_first_mut() {
        processor.drain(&mut |batch| {
            outgoing.add(batch.len());
            process(rest, batch, ready);
        });
    }
}
