//! The tables of all projects that spans came for, each with its writer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::ExporterCounters;
use weir_pipeline::tenant::{Closed, Tenant};
use weir_store::objects::Root;
use weir_store::registry::{Guard, Registry};
use weir_store::table::{Delta, Table};
use weir_store::writer::{Open, Pool, Settings, Writer};

/// Tables that are kept open. Each remembers its files, some megabytes with many of them; one that was not written for
/// the longest time makes room for another, and is opened again when it is wanted.
const MAX_OPEN: usize = 256;

/// Writers by the folder of the project.
#[derive(Debug)]
pub(super) struct Tables {
    root: Root,
    guard: Arc<Guard>,
    pool: Arc<Pool>,
    counters: ExporterCounters,
    writers: Mutex<HashMap<String, Slot>>,
    /// Counts uses, to know which is the oldest.
    uses: AtomicU64,
    hurried: AtomicBool,
    /// Whether the store refuses to overwrite; asked once.
    checked: Arc<OnceCell<()>>,
}

#[derive(Debug)]
struct Slot {
    writer: Arc<Writer>,
    used: u64,
}

impl Tables {
    pub(super) fn start(
        root: Root,
        settings: Settings,
        environment: Environment,
        counters: ExporterCounters,
    ) -> std::io::Result<Self> {
        let guard = Arc::new(Guard::new(Registry::new(&root, environment.clone())));
        Ok(Self {
            root,
            pool: Pool::start(settings, environment, Some(Arc::clone(&guard)))?,
            guard,
            counters,
            writers: Mutex::default(),
            uses: AtomicU64::new(0),
            hurried: AtomicBool::new(false),
            checked: Arc::default(),
        })
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer of a tenant's table, which is opened, and created if need be, in the background.
    ///
    /// # Errors
    /// If the tenant's project or environment was deleted. The project's table is let go of then.
    pub(super) async fn writer(&self, tenant: Option<&Tenant>) -> Result<Arc<Writer>, Closed> {
        let folder = self.guard.folder(tenant).await;
        if let (Err(Closed::Project), Some(tenant)) = (&folder, tenant) {
            self.writers().remove(&tenant.folder());
        }
        Ok(self.writer_of(folder?))
    }

    fn writer_of(&self, folder: String) -> Arc<Writer> {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut writers = self.writers();
        if let Some(slot) = writers.get_mut(&folder) {
            slot.used = used;
            return Arc::clone(&slot.writer);
        }
        if writers.len() >= MAX_OPEN
            && let Some(oldest) = writers.iter().min_by_key(|(_, slot)| slot.used).map(|(folder, _)| folder.clone())
        {
            // It finishes what it has taken. Another of the same table may write meanwhile: neither gets in the other's way.
            writers.remove(&oldest);
        }
        let writer = Arc::new(self.pool.writer(self.counters.clone(), self.opener(&folder)));
        if self.hurried.load(Ordering::Relaxed) {
            writer.hurry();
        }
        writers.insert(folder, Slot { writer: Arc::clone(&writer), used });
        writer
    }

    fn opener(&self, folder: &str) -> Open {
        let (root, folder, checked) = (self.root.clone(), folder.to_owned(), Arc::clone(&self.checked));
        Box::new(move || {
            let (root, folder, checked) = (root.clone(), folder.clone(), Arc::clone(&checked));
            Box::pin(async move {
                checked.get_or_try_init(|| root.check_conditional_put()).await?;
                let table = Delta::create(&root, &folder).await?;
                Ok(Box::new(table) as Box<dyn Table>)
            })
        })
    }

    /// Counts spans that are not written because their project or environment was deleted.
    pub(super) fn refuse(&self, records: usize, closed: Closed) {
        self.counters.take(records);
        self.counters.fail(records, closed.reason());
    }

    fn all(&self) -> Vec<Arc<Writer>> {
        self.writers().values().map(|slot| Arc::clone(&slot.writer)).collect()
    }

    /// From now on nothing waits for company: the process is stopping.
    pub(super) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.all().iter().for_each(|writer| writer.hurry());
    }

    /// Returns when everything taken so far is settled.
    pub(super) async fn drain(&self) {
        // All at once: each hurries from its command on.
        let mut drains = JoinSet::new();
        for writer in self.all() {
            drains.spawn(async move { writer.drain().await });
        }
        while drains.join_next().await.is_some() {}
        // Those that made room for others have no name any more.
        self.pool.settled().await;
    }

    /// Drains, then stops the threads.
    pub(super) async fn close(&self) {
        self.drain().await;
        self.pool.stop();
    }
}
