//! Channels between nodes: bounded in batches and in bytes.
//!
//! A channel bounded in messages alone holds as much memory as its messages are large. Here a batch also needs as many
//! byte permits as its size, or all of them if it is larger than the channel: it then travels alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::batch::Batch;
use crate::receipt::Outcome;

/// A channel for at most `batches` batches and `bytes` bytes.
pub fn channel(batches: usize, bytes: usize) -> (Inlet, Intake) {
    let (sender, receiver) = mpsc::channel(batches.max(1));
    let limit = u32::try_from(bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(limit as usize));
    (Inlet { sender, room, limit }, Intake { receiver })
}

/// The sending side.
#[derive(Debug, Clone)]
pub struct Inlet {
    sender: mpsc::Sender<(Batch, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    limit: u32,
}

impl Inlet {
    /// Sends a batch, waiting for room. If the other side is gone the batch is settled as not taken.
    pub async fn send(&self, batch: Batch) {
        let want = u32::try_from(batch.size_hint()).unwrap_or(u32::MAX).min(self.limit);
        // The semaphore is never closed, so `None` cannot occur.
        let permit = Arc::clone(&self.room).acquire_many_owned(want).await.ok();
        if let Err(mpsc::error::SendError((batch, _))) = self.sender.send((batch, permit)).await {
            batch.settle(&Outcome::Retry { after: None, reason: "the pipeline has stopped".into() });
        }
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct Intake {
    receiver: mpsc::Receiver<(Batch, Option<OwnedSemaphorePermit>)>,
}

impl Intake {
    /// The next batch, or `None` when every [`Inlet`] is gone and the channel is empty.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.receiver.recv().await.map(|(batch, _permit)| batch)
    }

    /// The next batch if one is waiting.
    pub fn try_recv(&mut self) -> Option<Batch> {
        self.receiver.try_recv().ok().map(|(batch, _permit)| batch)
    }
}
