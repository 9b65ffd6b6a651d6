//! Documents as numbered objects, of which the highest number counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::record::FORMAT;
use weir_pipeline::tenant::{Organization, Project, RecordError, Slug};

use super::RegistryError;
use crate::commit::Backoff;

/// Largest document that is read, in bytes: a project with a thousand keys has a tenth of it.
const MAX_BYTES: u64 = 4 << 20;

/// How often a document that vanishes while it is read is looked for again.
const LOOKS: u32 = 5;

/// Where the states of one document are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Folder {
    Organization,
    Project(Slug),
}

/// What a document becomes.
pub(super) enum Next<T> {
    /// This.
    Alive(T),
    /// It was deleted at this time (nanoseconds since the epoch).
    Deleted(u64),
    /// It stays as it is.
    Nothing,
}

/// A document and the number of its state; 0 before the first.
pub(super) struct State<T> {
    pub(super) number: u64,
    /// `None` if there is none, or it was deleted.
    pub(super) document: Option<T>,
}

/// What is left of a deleted document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleted {
    deleted_unix_nano: u64,
}

/// The version of a document.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// What an object of the registry can hold.
pub(super) trait Document: Serialize + DeserializeOwned {}

impl Document for Organization {}

impl Document for Project {}

/// The objects.
#[derive(Debug, Clone)]
pub(super) struct States {
    store: Arc<dyn ObjectStore>,
    root: Path,
    clock: Clock,
}

impl States {
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: Path, clock: Clock) -> Self {
        Self { store, root, clock }
    }

    /// The number of the newest state of every document, deleted ones included.
    pub(super) async fn newest(&self) -> Result<BTreeMap<Folder, u64>, RegistryError> {
        let mut newest = BTreeMap::new();
        let mut objects = self.store.list(Some(&self.root));
        while let Some(object) = objects.try_next().await? {
            if let Some((folder, number)) = self.parse(&object.location) {
                let known = newest.entry(folder).or_insert(number);
                *known = number.max(*known);
            }
        }
        Ok(newest)
    }

    /// The newest state of a document.
    pub(super) async fn latest<T: Document>(&self, folder: &Folder) -> Result<State<T>, RegistryError> {
        let mut looks = 0;
        loop {
            let objects: Vec<_> = self.store.list(Some(&self.folder(folder))).try_collect().await?;
            let numbers = objects.iter().filter_map(|object| self.parse(&object.location));
            let Some(number) = numbers.filter(|(found, _)| found == folder).map(|(_, number)| number).max() else {
                return Ok(State { number: 0, document: None });
            };
            match self.read(folder, number).await {
                // It has a successor since it was listed.
                Err(RegistryError::Store(crate::StoreError::Object(Error::NotFound { .. }))) if looks < LOOKS => {
                    looks += 1;
                }
                read => return Ok(State { number, document: read? }),
            }
        }
    }

    /// A state of a document.
    pub(super) async fn read<T: Document>(&self, folder: &Folder, number: u64) -> Result<Option<T>, RegistryError> {
        let path = self.object(folder, number);
        let corrupt = |message: String| RegistryError::Corrupt { path: path.to_string(), message };
        let object = self.store.get(&path).await?;
        if object.meta.size > MAX_BYTES {
            return Err(corrupt(format!("it has {} bytes, at most {MAX_BYTES} are read", object.meta.size)));
        }
        let bytes = object.bytes().await?;
        if serde_json::from_slice::<Deleted>(&bytes).is_ok() {
            return Ok(None);
        }
        // Looked at alone first: a later format has fields that are unknown here, which is not what is to be said.
        match serde_json::from_slice(&bytes) {
            Ok(Version { format }) if format != FORMAT => Err(corrupt(RecordError::Format(format).to_string())),
            _ => serde_json::from_slice(&bytes).map(Some).map_err(|error| corrupt(error.to_string())),
        }
    }

    /// Makes the next state of a document out of the number and content of its newest one, again and again until nobody
    /// was faster.
    pub(super) async fn change<T: Document, R>(
        &self,
        folder: &Folder,
        mut step: impl FnMut(u64, Option<T>) -> Result<(Next<T>, R), RecordError>,
    ) -> Result<R, RegistryError> {
        let backoff = Backoff::default();
        for failures in 1..=backoff.attempts {
            let State { number, document } = self.latest(folder).await?;
            let (next, result) = step(number, document)?;
            let json = match next {
                Next::Alive(document) => serde_json::to_vec_pretty(&document),
                Next::Deleted(deleted_unix_nano) => serde_json::to_vec_pretty(&Deleted { deleted_unix_nano }),
                Next::Nothing => return Ok(result),
            };
            let path = self.object(folder, number + 1);
            let json = json.map_err(|e| RegistryError::Corrupt { path: path.to_string(), message: e.to_string() })?;
            match self.store.put_opts(&path, PutPayload::from(json.clone()), PutMode::Create.into()).await {
                Ok(_) => return Ok(result),
                // A store may answer so to its client's own second try, after the answer to the first got lost.
                Err(Error::AlreadyExists { .. }) if self.holds(&path, &json).await => return Ok(result),
                Err(Error::AlreadyExists { .. }) => tokio::time::sleep(backoff.pause(failures, &self.clock)).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Contended(backoff.attempts))
    }

    async fn holds(&self, path: &Path, json: &[u8]) -> bool {
        match self.store.get(path).await {
            Ok(object) => object.bytes().await.is_ok_and(|bytes| bytes == json),
            Err(_) => false,
        }
    }

    fn folder(&self, folder: &Folder) -> Path {
        match folder {
            Folder::Organization => self.root.clone().join("organization"),
            Folder::Project(slug) => self.root.clone().join("projects").join(slug.as_str()),
        }
    }

    fn object(&self, folder: &Folder, number: u64) -> Path {
        self.folder(folder).join(format!("{number:020}.json"))
    }

    /// Which document's state an object is; `None` for what does not belong here.
    fn parse(&self, object: &Path) -> Option<(Folder, u64)> {
        let mut parts = object.prefix_match(&self.root)?;
        let folder = match parts.next()?.as_ref() {
            "organization" => Folder::Organization,
            "projects" => Folder::Project(parts.next()?.as_ref().parse().ok()?),
            _ => return None,
        };
        let number = parts.next()?.as_ref().strip_suffix(".json")?.parse().ok()?;
        parts.next().is_none().then_some((folder, number))
    }
}
