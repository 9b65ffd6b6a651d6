//! One pipeline in one lane: a task that sends batches through its processors to its ends, and can be laid anew.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::build::ProcessorNode;
use super::stage::{self, Stage};
use crate::batch::Batch;
use crate::channel::Intake;
use crate::node::{Exporter, Shutdown};
use crate::signal::Signal;
use crate::telemetry::{OfferCounters, Telemetry};

/// An exporter or connector at the end of a pipeline.
pub(super) struct Outgoing {
    pub(super) exporter: Arc<dyn Exporter>,
    /// What is offered to an exporter is counted; a connector's is counted where it ends.
    pub(super) offer: Option<OfferCounters>,
}

/// What a pipeline is to consist of from now on.
pub(super) struct Plan {
    pub(super) chain: Vec<ProcessorNode>,
    pub(super) ends: Vec<Outgoing>,
    /// Told when the pipeline has let go of everything that is not in the plan.
    pub(super) laid: oneshot::Sender<()>,
}

/// The processors of one pipeline in one lane, and where it ends.
pub(super) struct Pipe {
    lane: usize,
    signal: Signal,
    telemetry: Telemetry,
    chain: Vec<Stage>,
    ends: Vec<Outgoing>,
    /// What came out of the chain and is not yet handed on.
    ready: Vec<Batch>,
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

impl Pipe {
    /// A pipeline without processors and ends; it has to be laid before the first batch comes.
    pub(super) fn new(lane: usize, signal: Signal, telemetry: Telemetry) -> Self {
        Self { lane, signal, telemetry, chain: Vec::new(), ends: Vec::new(), ready: Vec::new() }
    }

    /// Runs until every inlet is gone. The last thing it lets go of is `_ended`.
    pub(super) async fn run(
        mut self,
        mut intake: Intake,
        mut plans: mpsc::UnboundedReceiver<Plan>,
        mut shutdown: Shutdown,
        _ended: oneshot::Sender<()>,
    ) {
        loop {
            let deadline = self.chain.iter().filter_map(|s| s.processor.deadline()).min();
            let stopping = shutdown.is_requested();
            tokio::select! {
                // A plan comes first: there may be none yet, and it waits for nobody.
                biased;
                Some(plan) = plans.recv() => self.lay(plan).await,
                () = shutdown.requested(), if !stopping => stage::drain(&mut self.chain, &mut self.ready),
                () = sleep_until(deadline), if deadline.is_some() => {
                    stage::tick(&mut self.chain, Instant::now(), &mut self.ready);
                }
                batch = intake.recv() => match batch {
                    Some(batch) => {
                        stage::process(&mut self.chain, batch, &mut self.ready);
                        if stopping {
                            stage::drain(&mut self.chain, &mut self.ready);
                        }
                    }
                    None => break,
                },
            }
            self.hand_on().await;
        }
        stage::drain(&mut self.chain, &mut self.ready);
        self.hand_on().await;
    }

    /// Puts a plan into effect. Processors that stay keep what they hold; those that go let go of it, through what
    /// came after them so far.
    async fn lay(&mut self, plan: Plan) {
        for first in 0..self.chain.len() {
            if !plan.chain.iter().any(|node| self.chain[first].is_of(node)) {
                stage::drain_first(&mut self.chain[first..], &mut self.ready);
            }
        }
        self.hand_on().await;
        let mut before = std::mem::take(&mut self.chain);
        for node in &plan.chain {
            self.chain.push(match before.iter().position(|stage| stage.is_of(node)) {
                Some(at) => before.swap_remove(at),
                None => Stage::new(node, self.lane, &self.telemetry, self.signal),
            });
        }
        self.ends = plan.ends;
        // Whoever laid the plan may be gone, in a stop.
        let _ = plan.laid.send(());
    }

    /// Hands every batch to all ends at once: one that makes the pipeline wait does not keep a batch from the others.
    async fn hand_on(&mut self) {
        for batch in std::mem::take(&mut self.ready) {
            let Some((last, others)) = self.ends.split_last() else { continue };
            if others.is_empty() {
                last.consume(batch).await;
                continue;
            }
            let mut handing: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(self.ends.len());
            for (end, copy) in self.ends.iter().zip(batch.fan_out(self.ends.len())) {
                handing.push(Box::pin(end.consume(copy)));
            }
            std::future::poll_fn(|cx| {
                handing.retain_mut(|consume| consume.as_mut().poll(cx).is_pending());
                if handing.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
