//! `sending_queue::batch`: joining small batches before they are sent, and cutting large ones.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use weir_pipeline::batch::Batch;
use weir_pipeline::metadata::{Identity, Metadata};

use super::holding::{Held, Holding};
use super::settings::{BatchSettings, BatchSizer};
use super::{Destination, Inner, Item, State};

/// What a joined batch has in common.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Partition {
    /// Who sent it, where that is read.
    identity: Option<Arc<Identity>>,
    /// The values of `metadata_keys`, key by key. That a client did not send a header is different from an empty one.
    values: Vec<Vec<Box<str>>>,
}

/// What waits to be joined with more, by partition. Each of them holds room in the queue, so there are not many.
#[derive(Default)]
pub(super) struct Forming {
    partitions: HashMap<Partition, Formed>,
    /// Tells the batch that a timer was set for from a later one of the same partition.
    last_id: u64,
}

struct Formed {
    id: u64,
    batch: Batch,
    size: usize,
    held: Vec<Held>,
}

impl<D: Destination> Inner<D> {
    /// Joins a batch with those that wait, and sends them as soon as they are enough.
    pub(super) fn gather(self: &Arc<Self>, settings: &BatchSettings, batch: Batch, held: Held) {
        let size = match settings.sizer {
            BatchSizer::Items => batch.len(),
            BatchSizer::Bytes => batch.size_hint(),
        };
        let (partition, batch) = settings.partition(batch);
        let mut state = self.state();
        let forming = &mut state.forming;
        let mut formed = match forming.partitions.remove(&partition) {
            Some(formed) => formed,
            None => {
                forming.last_id += 1;
                Formed { id: forming.last_id, batch: Batch::empty(batch.signal()), size: 0, held: Vec::new() }
            }
        };
        let is_new = formed.held.is_empty();
        formed.batch.append(batch);
        formed.size = formed.size.saturating_add(size);
        formed.held.push(held);
        if formed.size >= settings.min_size {
            self.dispatch(&mut state, formed);
            return;
        }
        let id = formed.id;
        state.forming.partitions.insert(partition.clone(), formed);
        drop(state);
        if is_new {
            let deadline = Instant::now() + settings.flush_timeout;
            tokio::spawn(Arc::clone(self).flush_at(deadline, partition, id));
        }
    }

    /// Sends everything that waits to be joined.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut state = self.state();
        for formed in std::mem::take(&mut state.forming.partitions).into_values() {
            self.dispatch(&mut state, formed);
        }
    }

    async fn flush_at(self: Arc<Self>, deadline: Instant, partition: Partition, id: u64) {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = shutdown.requested() => {}
        }
        let mut state = self.state();
        let partitions = &mut state.forming.partitions;
        if partitions.get(&partition).is_some_and(|formed| formed.id == id)
            && let Some(formed) = partitions.remove(&partition)
        {
            self.dispatch(&mut state, formed);
        }
    }

    /// Lets a joined batch wait to be sent, in as many requests as `max_size` asks for if that counts records. If it
    /// counts bytes, the batch is cut once it is encoded.
    fn dispatch(self: &Arc<Self>, state: &mut State, formed: Formed) {
        let holding = Arc::new(Holding::new(formed.held, &self.queue.counters));
        formed.batch.split_into(self.queue.settings.max_items(), &mut |part| {
            self.enqueue(state, [Item::new(part, &holding)]);
        });
    }
}

impl BatchSettings {
    /// The partition of a batch, and the batch with the metadata that all of the partition have in common.
    fn partition(&self, batch: Batch) -> (Partition, Batch) {
        let Some(metadata) = batch.metadata() else {
            return (Partition { identity: None, values: vec![Vec::new(); self.metadata_keys.len()] }, batch);
        };
        let identity = metadata.identity().filter(|_| self.is_by_sender).cloned();
        if self.metadata_keys.is_empty() {
            return (Partition { identity, values: Vec::new() }, batch);
        }
        let values = |key: &String| metadata.values(key).map(Box::from).collect();
        let values: Vec<Vec<Box<str>>> = self.metadata_keys.iter().map(values).collect();
        let headers = self.metadata_keys.iter().zip(&values);
        let kept = headers.flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), &**value)));
        let kept = Metadata::new(kept);
        let kept = Arc::new(match &identity {
            Some(identity) => kept.with_identity(Arc::clone(identity)),
            None => kept,
        });
        (Partition { identity, values }, batch.with_metadata(kept))
    }
}
