//! What the writers of all projects share: threads and memory.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};
use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::ExporterCounters;

use super::committer::Committer;
use super::recent::Recent;
use super::{Encoder, Open, Settings, StoreState, Writer, collect};
use crate::registry::Guard;

/// Threads that encode and commit, and the memory for what waits. A writer for each table takes its share of both, so
/// that a thousand projects need no more than one.
#[derive(Debug)]
pub struct Pool {
    settings: Settings,
    environment: Environment,
    pub(super) room: Arc<Semaphore>,
    /// Bytes of `room`.
    pub(super) limit: u32,
    /// How many flushes are encoded at one time.
    slots: Arc<Semaphore>,
    guard: Option<Arc<Guard>>,
    recent: Arc<Recent>,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl Pool {
    /// Starts the threads. What waited while its project or environment was deleted is not written, if a guard knows.
    ///
    /// # Errors
    /// If the system refuses them.
    pub fn start(
        settings: Settings,
        environment: Environment,
        guard: Option<Arc<Guard>>,
    ) -> std::io::Result<Arc<Self>> {
        let threads = settings.threads.max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("weir-store")
            .enable_all()
            .build()?;
        let limit = u32::try_from(settings.max_buffered_bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Ok(Arc::new(Self {
            settings,
            environment,
            room: Arc::new(Semaphore::new(limit as usize)),
            limit,
            slots: Arc::new(Semaphore::new(threads)),
            guard,
            recent: Recent::new(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        }))
    }

    /// A writer for one table, which is opened in the background; batches wait for it. A writer that nobody has any more
    /// finishes what it has taken.
    pub fn writer(self: &Arc<Self>, counters: ExporterCounters, open: Open) -> Writer {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (jobs, queue) = mpsc::unbounded_channel();
        let (hurry, hurried) = watch::channel(false);
        let (store, stores) = watch::channel(StoreState::Opening);
        let (trouble, troubled) = watch::channel(None);
        let source = format!("writer/{}", uuid::Uuid::new_v4().simple());
        let encoder = Encoder {
            stores,
            slots: Arc::clone(&self.slots),
            guard: self.guard.clone(),
            backoff: self.settings.backoff,
            environment: self.environment.clone(),
            source: source.clone(),
        };
        let memory = self.recent.memory();
        let committer = Committer {
            source,
            backoff: self.settings.backoff,
            environment: self.environment.clone(),
            counters: counters.clone(),
            hurried,
            trouble,
        };
        self.handle.spawn(collect(inbox, jobs, hurry, encoder, memory, self.settings.clone()));
        self.handle.spawn(committer.run(open, store, queue));
        let share = self.limit - self.limit / 4;
        let room = Arc::new(Semaphore::new(share as usize));
        Writer { commands, pool: Arc::clone(self), room, share, troubled, counters }
    }

    /// Returns when everything that writers have taken so far is settled, which those that are not [hurried](Writer::hurry)
    /// may take their time for.
    pub async fn settled(&self) {
        // The semaphore is never closed.
        let _ = self.room.acquire_many(self.limit).await;
    }

    /// Stops the threads. What writers still hold is lost: [drain](Writer::drain) them before.
    pub fn stop(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}
