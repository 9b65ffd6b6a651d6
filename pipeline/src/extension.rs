//! What runs beside the pipelines: authenticators, health and debug pages, and what else several components share.
//!
//! An extension is configured under `extensions`, started because `service::extensions` names it, and found by its id:
//! `auth: {authenticator: bearertokenauth}`. Extensions start before the first receiver binds and stop after the last
//! exporter has drained.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::budget::Budget;
use crate::config::{ComponentId, ConfigError, Node};
use crate::metadata::{Identity, Metadata, Reads};
use crate::node::StartError;
use crate::tenant::TenantSource;

/// One extension, shared by everything that names it.
#[async_trait]
pub trait Extension: Send + Sync + 'static {
    /// Takes what must exist before data can flow, such as sockets and files that are watched.
    ///
    /// # Errors
    /// For instance when an address is in use.
    async fn start(&self) -> Result<(), StartError> {
        Ok(())
    }

    /// Lets go of it.
    async fn stop(&self) {}

    /// What it listens on: (protocol, address), for the start-up log. Known after [`start`](Self::start).
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    /// What receivers ask who a client is, if this extension knows.
    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        None
    }

    /// What exporters ask for further headers, if this extension has any.
    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        None
    }

    /// Where queues keep what they have accepted, if this extension gives them a place.
    fn storage(&self) -> Option<StorageDirectory> {
        None
    }

    /// The memory that receivers take from before they read a request, if this extension limits it.
    fn budget(&self) -> Option<Arc<Budget>> {
        None
    }
}

/// A place on disk for what must outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageDirectory {
    /// Each user has a directory of its own in it.
    pub directory: PathBuf,
    /// Whether what is written must survive a loss of power, not only the end of the process.
    pub fsync: bool,
}

/// Decides who a client is.
pub trait Authenticator: Send + Sync + 'static {
    /// Looks at the headers of a request; `header` gives the first value of a header by its lower-case name.
    ///
    /// This runs on a lane, where everybody else waits for it: what takes more than microseconds belongs into
    /// [`Decision::Later`].
    ///
    /// # Errors
    /// If the client is nobody this authenticator knows, or that cannot be told now.
    fn authenticate<'h>(&self, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied>;

    /// Who tells whose data are that come from a client without a tenant, if their attributes are trusted.
    fn tenants(&self) -> Option<Arc<dyn TenantSource>> {
        None
    }
}

/// Who a client is, or when that will be known.
pub enum Decision {
    /// Known at once.
    Made(Arc<Identity>),
    /// Found out elsewhere. Dropping it gives the client up.
    Later(Pin<Box<dyn Future<Output = Result<Arc<Identity>, Denied>> + Send>>),
}

impl Decision {
    /// Who it is, however long that takes.
    ///
    /// # Errors
    /// If the client is not let in after all.
    pub async fn wait(self) -> Result<Arc<Identity>, Denied> {
        match self {
            Self::Made(identity) => Ok(identity),
            Self::Later(decided) => decided.await,
        }
    }

    /// Who it is, if that is known at once.
    pub fn made(self) -> Option<Arc<Identity>> {
        match self {
            Self::Made(identity) => Some(identity),
            Self::Later(_) => None,
        }
    }
}

impl std::fmt::Debug for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Made(identity) => f.debug_tuple("Made").field(identity).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// A client was not let in. Says nothing of what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is nobody the authenticator knows.
    #[error("{0}")]
    Unknown(&'static str),
    /// Who it is cannot be told now, through no fault of its own: it should come again.
    #[error("{0}")]
    Undecided(&'static str),
}

/// Headers that are decided per request.
pub trait OutgoingHeaders: Send + Sync + 'static {
    /// The changes to the headers of a request, given what the client said whose data it carries.
    ///
    /// # Errors
    /// If what it needs is not to be had, such as a file with a token. The request is then tried again later, unless it
    /// is this data's metadata that stands in the way, without which there would be no error: that does not change.
    fn edits(&self, metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String>;

    /// What of what the client said decides that. Nothing else has to be kept for it.
    fn reads(&self) -> Reads {
        Reads::unknown()
    }
}

/// A change to the headers of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Adds the header unless it is there.
    Insert(String, Box<str>),
    /// Changes the header if it is there.
    Update(String, Box<str>),
    /// Adds or changes the header.
    Upsert(String, Box<str>),
    /// Takes the header away.
    Delete(String),
}

/// The extensions that run, by id.
#[derive(Clone, Default)]
pub struct Extensions {
    all: Arc<[(ComponentId, Arc<dyn Extension>)]>,
    /// Those that would run, had they no errors.
    broken: Arc<[ComponentId]>,
    /// Those that were asked for.
    used: Arc<Mutex<BTreeSet<ComponentId>>>,
}

impl Extensions {
    /// These extensions, in the order in which they are started.
    pub fn new(extensions: Vec<(ComponentId, Arc<dyn Extension>)>) -> Self {
        Self { all: extensions.into(), ..Self::default() }
    }

    /// The same, and these, which have errors: whoever asks for one is told so.
    pub(crate) fn with_broken(self, broken: Vec<ComponentId>) -> Self {
        Self { broken: broken.into(), ..self }
    }

    /// The same extensions for a component of which it is to be known later which of them it uses.
    pub(crate) fn watched(&self) -> Self {
        Self { used: Arc::default(), ..self.clone() }
    }

    /// The extensions that whoever has this value, or a clone of it, has found so far.
    pub(crate) fn used(&self) -> BTreeSet<ComponentId> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them, in the order in which they are started.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&ComponentId, &Arc<dyn Extension>)> {
        self.all.iter().map(|(id, extension)| (id, extension))
    }

    /// The extension that `node`, a reference at `path`, names.
    ///
    /// # Errors
    /// If it is no id, or no extension of this id is started.
    pub fn find(&self, node: &Node, path: &str) -> Result<&Arc<dyn Extension>, ConfigError> {
        let name = node.text().unwrap_or_default();
        let found = self.iter().find(|(id, _)| id.to_string() == name);
        if let Some((id, _)) = found {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        }
        found.map(|(_, extension)| extension).ok_or_else(|| {
            if self.broken.iter().any(|id| id.to_string() == name) {
                return node.error(path, format!("the extension {name:?} has an error of its own, see there"));
            }
            let running: Vec<String> = self.iter().map(|(id, _)| id.to_string()).collect();
            let hint = match running.is_empty() {
                true => "configure it under `extensions` and name it in `service::extensions`".to_owned(),
                false => format!("`service::extensions` names: {}", running.join(", ")),
            };
            node.error(path, format!("no extension {name:?} is started")).with_hint(hint)
        })
    }

    /// The authenticator that `node`, a reference at `path`, names.
    ///
    /// # Errors
    /// If there is none, or it authenticates nobody.
    pub fn authenticator(&self, node: &Node, path: &str) -> Result<Arc<dyn Authenticator>, ConfigError> {
        let found = Arc::clone(self.find(node, path)?).authenticator();
        found.ok_or_else(|| node.error(path, "this extension does not authenticate clients"))
    }

    /// The source of outgoing headers that `node`, a reference at `path`, names.
    ///
    /// # Errors
    /// If there is none, or it has no headers.
    pub fn outgoing_headers(&self, node: &Node, path: &str) -> Result<Arc<dyn OutgoingHeaders>, ConfigError> {
        let found = Arc::clone(self.find(node, path)?).outgoing_headers();
        found.ok_or_else(|| node.error(path, "this extension sets no headers of outgoing requests"))
    }

    /// The place on disk that `node`, a reference at `path`, names.
    ///
    /// # Errors
    /// If there is none, or it is no storage.
    pub fn storage(&self, node: &Node, path: &str) -> Result<StorageDirectory, ConfigError> {
        let found = self.find(node, path)?.storage();
        found.ok_or_else(|| node.error(path, "this extension stores nothing: name a `file_storage`"))
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(|(id, _)| id.to_string())).finish()
    }
}
