//! The one task that commits: in order, and several flushes at once if they are ready.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::telemetry::ExporterCounters;

use super::recent::Fate;
use super::{Encoded, End, Flush, Job, Open, Pending, StoreState, come_again, settle};
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
            let mut flushes: Vec<(Flush, Arc<Vec<Pending>>, Encoded)> = Vec::new();
            // The first flush is awaited; others join only if they are ready.
            while let Some(job) = waiting.pop_front() {
                match job {
                    Job::Commit { flush, group, encoded } if flushes.is_empty() || encoded.is_finished() => {
                        let lost = |_| Encoded::none(&group, &Outcome::Lost);
                        let encoded = encoded.await.unwrap_or_else(lost);
                        flushes.push((flush, group, encoded));
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
        flushes: Vec<(Flush, Arc<Vec<Pending>>, Encoded)>,
    ) {
        let files: Vec<DataFile> = flushes.iter().flat_map(|(_, _, encoded)| encoded.files.iter().cloned()).collect();
        let version = flushes.iter().map(|(flush, _, _)| flush.seq).max().unwrap_or(0);
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
            // Every batch has ended already, or all of it had come before.
            Some(_) => Outcome::Done,
            None => Outcome::Lost,
        };
        // Before anybody is told: what failed here may be what others were left out for.
        for (flush, _, encoded) in &flushes {
            if outcome != Outcome::Done || encoded.ended.iter().any(Option::is_some) {
                flush.fate.fail();
            }
        }
        let outcome = End::Outcome(outcome);
        let first_failed = End::Outcome(come_again("spans that had come before could not be stored".to_owned()));
        for (_, group, encoded) in flushes {
            // The encoder is done with the group, so this is the last reference.
            for (pending, ended) in Arc::try_unwrap(group).unwrap_or_default().into_iter().zip(encoded.ended) {
                let is_done = matches!(ended.as_ref().unwrap_or(&outcome), End::Outcome(Outcome::Done));
                let end = match is_done && pending.elsewhere.iter().any(Fate::has_failed) {
                    true => &first_failed,
                    false => ended.as_ref().unwrap_or(&outcome),
                };
                settle(&self.counters, pending, end);
            }
        }
    }
}
