//! The one task that commits: in order, and several flushes at once if they are ready.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::telemetry::ExporterCounters;

use super::{Encoded, End, Job, Open, Pending, StoreState, come_again, settle};
use crate::commit::{Backoff, Watches, commit};
use crate::objects::one_line;
use crate::table::{AppTransaction, DataFile, Table};

pub(super) struct Committer {
    pub(super) source: String,
    pub(super) backoff: Backoff,
    pub(super) environment: Environment,
    pub(super) counters: ExporterCounters,
    pub(super) hurried: watch::Receiver<bool>,
    /// Says why nothing is committed for some time.
    pub(super) trouble: watch::Sender<Option<String>>,
}

impl Committer {
    pub(super) async fn run(
        mut self,
        open: Open,
        store: watch::Sender<StoreState>,
        mut queue: mpsc::UnboundedReceiver<Job>,
    ) {
        let mut table = match self.open(&open).await {
            Ok(table) => {
                store.send_replace(StoreState::Open(table.files()));
                Some(table)
            }
            Err(reason) => {
                store.send_replace(StoreState::GivenUp(reason));
                None
            }
        };
        let mut waiting: VecDeque<Job> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(job) = queue.recv().await else { return };
                waiting.push_back(job);
            }
            while let Ok(job) = queue.try_recv() {
                waiting.push_back(job);
            }
            let mut flushes: Vec<(i64, Arc<Vec<Pending>>, Encoded)> = Vec::new();
            // The first flush is awaited; others join only if they are ready.
            while let Some(job) = waiting.pop_front() {
                match job {
                    Job::Commit { seq, group, encoded } if flushes.is_empty() || encoded.is_finished() => {
                        let lost = |_| Encoded::none(&group, &Outcome::Lost);
                        let encoded = encoded.await.unwrap_or_else(lost);
                        flushes.push((seq, group, encoded));
                    }
                    Job::Drained(done) if flushes.is_empty() => {
                        if let Some(table) = &mut table
                            && let Err(error) = table.finish_maintenance().await
                        {
                            tracing::warn!(error = one_line(&error), "the table's checkpoint could not be written");
                        }
                        // Whoever asked may have gone.
                        let _ = done.send(());
                    }
                    other => {
                        waiting.push_front(other);
                        break;
                    }
                }
            }
            if flushes.is_empty() {
                continue;
            }
            self.commit(table.as_deref_mut(), flushes).await;
            if let Some(table) = &mut table
                && let Err(error) = table.maintain().await
            {
                tracing::warn!(error = one_line(&error), "the table's checkpoint could not be written");
            }
        }
    }

    async fn open(&mut self, open: &Open) -> Result<Box<dyn Table>, String> {
        let mut failures = 0;
        loop {
            let stopping = *self.hurried.borrow();
            let error = match open().await {
                Ok(table) => {
                    self.trouble.send_replace(None);
                    return Ok(table);
                }
                Err(error) => one_line(&error),
            };
            failures += 1;
            if stopping {
                tracing::error!(error, "the store could not be opened before the process stopped");
                return Err(format!("the store cannot be opened: {error}"));
            }
            tracing::warn!(attempt = failures, error, "the store cannot be opened, trying again; spans wait");
            if failures >= self.backoff.attempts {
                self.trouble.send_replace(Some(format!("the store cannot be opened: {error}")));
            }
            let pause = self.backoff.pause(failures, &self.environment);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.hurried.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn commit(
        &mut self,
        table: Option<&mut (dyn Table + 'static)>,
        flushes: Vec<(i64, Arc<Vec<Pending>>, Encoded)>,
    ) {
        let files: Vec<DataFile> = flushes.iter().flat_map(|(_, _, encoded)| encoded.files.iter().cloned()).collect();
        let version = flushes.iter().map(|(seq, _, _)| *seq).max().unwrap_or(0);
        let outcome = match table {
            Some(table) if !files.is_empty() => {
                let transaction = AppTransaction { application: self.source.clone(), version };
                let committed = commit(
                    table,
                    &files,
                    &transaction,
                    &self.backoff,
                    &self.environment,
                    Watches { stopping: &mut self.hurried, trouble: &self.trouble },
                );
                let committed = committed.await;
                self.trouble.send_replace(None);
                match committed {
                    Ok(()) => Outcome::Done,
                    Err(error) => {
                        let reason = one_line(&error);
                        tracing::error!(error = reason, "spans could not be committed to the store");
                        come_again(format!("the store failed: {reason}"))
                    }
                }
            }
            // Every batch has ended already.
            _ => Outcome::Lost,
        };
        let outcome = End::Outcome(outcome);
        for (_, group, encoded) in flushes {
            // The encoder is done with the group, so this is the last reference.
            for (pending, ended) in Arc::try_unwrap(group).unwrap_or_default().into_iter().zip(encoded.ended) {
                settle(&self.counters, pending, ended.as_ref().unwrap_or(&outcome));
            }
        }
    }
}
