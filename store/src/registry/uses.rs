//! When keys were last used.
//!
//! ```text
//! {url}/_weir/key_uses/6f1c….json     what one process has seen
//! ```
//!
//! Each process writes an object of its own, over and over; nobody else does, so nothing is lost and nobody waits. Who
//! asks reads them all, and the latest use of a key counts. Processes come and go: the objects of those that have not
//! written for a day are taken over by one that does, and removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::{KeyUse, Slug};

use super::RegistryError;
use crate::objects::Root;

/// Objects of processes that have not written for so long are taken over.
const FORGOTTEN_AFTER_NANOS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Largest object that is read, in bytes: some hundred thousand keys.
const MAX_BYTES: u64 = 32 << 20;

/// Objects that are read at the same time.
const READS: usize = 16;

/// A key by its project and id, and nanoseconds since the epoch.
type Latest = BTreeMap<(Slug, Box<str>), u64>;

/// The objects.
#[derive(Debug)]
pub(super) struct Uses {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    clock: Clock,
    /// That of this process.
    own: Path,
    /// What is in it, once it was written.
    known: Mutex<Option<Latest>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    uses: Vec<Use>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Use {
    project: Slug,
    key: Box<str>,
    used_unix_nano: u64,
}

impl Uses {
    pub(super) fn new(root: &Root, clock: Clock) -> Self {
        let (store, path) = root.place("_weir");
        let folder = path.join("key_uses");
        let own = folder.clone().join(format!("{}.json", uuid::Uuid::new_v4().simple()));
        Self { store, folder, clock, own, known: Mutex::new(None) }
    }

    /// Adds to what this process has seen.
    pub(super) async fn note(&self, uses: Vec<KeyUse>) -> Result<(), RegistryError> {
        let mut known = self.known.lock().await;
        let mut forgotten = Vec::new();
        let mut latest = match &*known {
            Some(latest) => latest.clone(),
            None => {
                let now = self.clock.now_unix_nanos();
                let is_old = |object: &ObjectMeta| {
                    let written = object.last_modified.timestamp_nanos_opt().unwrap_or(0);
                    now.saturating_sub(written.max(0) as u64) > FORGOTTEN_AFTER_NANOS
                };
                forgotten = self.objects().await?.into_iter().filter(is_old).collect();
                self.read(forgotten.clone()).await?
            }
        };
        for KeyUse { project, id, used_unix_nano } in uses {
            let last = latest.entry((project, id)).or_default();
            *last = used_unix_nano.max(*last);
        }
        let uses = latest.iter().map(|((project, key), used_unix_nano)| Use {
            project: project.clone(),
            key: key.clone(),
            used_unix_nano: *used_unix_nano,
        });
        let json = serde_json::to_vec(&Document { uses: uses.collect() });
        let json = json.map_err(|error| corrupt(&self.own, &error.to_string()))?;
        self.store.put(&self.own, PutPayload::from(json)).await?;
        *known = Some(latest);
        drop(known);
        for object in forgotten {
            match self.store.delete(&object.location).await {
                // Another process had the same idea.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The last use of every key, as far as processes have written it down. An object that cannot be read is passed over:
    /// nothing but this depends on it.
    pub(super) async fn all(&self) -> Result<Latest, RegistryError> {
        let objects = self.objects().await?;
        self.read(objects).await
    }

    async fn objects(&self) -> Result<Vec<ObjectMeta>, RegistryError> {
        Ok(self.store.list(Some(&self.folder)).try_collect().await?)
    }

    async fn read(&self, objects: Vec<ObjectMeta>) -> Result<Latest, RegistryError> {
        let mut latest = Latest::new();
        let small = objects.into_iter().filter(|object| object.size <= MAX_BYTES);
        let reads = small.map(|object| async move { self.store.get(&object.location).await?.bytes().await });
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        while let Some(read) = reads.next().await {
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let Ok(document) = serde_json::from_slice::<Document>(&bytes) else { continue };
            for Use { project, key, used_unix_nano } in document.uses {
                let last = latest.entry((project, key)).or_default();
                *last = used_unix_nano.max(*last);
            }
        }
        Ok(latest)
    }
}

fn corrupt(path: &Path, message: &str) -> RegistryError {
    RegistryError::Corrupt { path: path.to_string(), message: message.to_owned() }
}
