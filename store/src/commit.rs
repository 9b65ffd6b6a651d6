//! Committing exactly once.
//!
//! A commit can fail in three ways that look alike: it was never made, it was made and the answer got lost, or someone
//! else was faster. Every commit therefore carries a number of its writer ([`AppTransaction`]). After *any* error the
//! table is read again: if it knows our number, we are done; if not, the very same files are committed again. The files
//! are never written anew, so even a commit that succeeds twice holds every row once. A file that is no longer there is
//! not committed: with a log that names it the table could not be read any more.
//!
//! Whoever waits is told to come again only after the log was read and does not have the commit: otherwise the rows that
//! come again could be there already. So while the log cannot be read, whoever waits goes on waiting, however long that
//! takes. Only a process that is told to stop ends the wait, and says so.

use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::watch;
use weir_pipeline::clock::Environment;

use crate::StoreError;
use crate::objects::one_line;
use crate::table::{AppTransaction, DataFile, Table};

/// How often, and how long apart, something is tried that may work later.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Attempts in all.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 8, first: Duration::from_millis(50), most: Duration::from_secs(2) }
    }
}

impl Backoff {
    /// The pause after `failures` failures: random between half and the whole, so that writers that collided once do
    /// not collide again.
    pub fn pause(&self, failures: u32, environment: &Environment) -> Duration {
        let whole = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.most);
        whole.mul_f64(0.5 + environment.random_unit() / 2.0)
    }
}

/// What a commit listens to, and whom it tells that it waits.
pub struct Watches<'a> {
    /// Turns true when the process is to stop.
    pub stopping: &'a mut watch::Receiver<bool>,
    /// Told why it waits once that is longer than usual.
    pub trouble: &'a watch::Sender<Option<String>>,
}

/// Appends `files` to the table, once.
///
/// # Errors
/// * [`StoreError::Commit`], or the object store's error, when the attempts are used up and the log does not have the
///   commit. The files stay where they are.
/// * [`StoreError::Unknown`] if the process stops before the log could be read.
pub async fn commit(
    table: &mut dyn Table,
    files: &[DataFile],
    transaction: &AppTransaction,
    backoff: &Backoff,
    environment: &Environment,
    mut watches: Watches<'_>,
) -> Result<(), StoreError> {
    let mut failures = 0;
    loop {
        let Err(error) = table.try_append(files, transaction).await else { return Ok(()) };
        failures += 1;
        tracing::debug!(attempt = failures, error = one_line(&error), "commit failed");
        if is_committed(table, transaction, backoff, environment, &mut watches).await? {
            return Ok(());
        }
        // The volume may have been away and have come back without them.
        if let Some(path) = missing(&*table.files(), files).await {
            return Err(StoreError::Gone { path });
        }
        if failures >= backoff.attempts {
            return Err(exhausted(failures, error));
        }
        tokio::time::sleep(backoff.pause(failures, environment)).await;
    }
}

/// One of the files that is not where it was put.
async fn missing(store: &dyn ObjectStore, files: &[DataFile]) -> Option<String> {
    for file in files {
        let path = object_store::path::Path::from_url_path(&file.path).ok()?;
        if let Err(object_store::Error::NotFound { .. }) = store.head(&path).await {
            return Some(file.path.clone());
        }
    }
    None
}

/// Whether the log has the transaction, as soon as the log can be read.
async fn is_committed(
    table: &mut dyn Table,
    transaction: &AppTransaction,
    backoff: &Backoff,
    environment: &Environment,
    Watches { stopping, trouble }: &mut Watches<'_>,
) -> Result<bool, StoreError> {
    // Failures in all, and those since the process was told to stop.
    let (mut failures, mut last) = (0u32, 0u32);
    loop {
        let error = match look(table, transaction).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        let stops = *stopping.borrow();
        last += u32::from(stops);
        if last >= backoff.attempts {
            return Err(StoreError::Unknown { source: Box::new(error) });
        }
        if failures >= backoff.attempts && failures.is_power_of_two() {
            let error = one_line(&error);
            trouble.send_replace(Some(format!("the store's log cannot be read: {error}")));
            tracing::warn!(
                attempts = failures,
                error,
                "a commit may have been made and the log cannot be read; spans wait"
            );
        }
        let pause = tokio::time::sleep(backoff.pause(failures, environment));
        tokio::select! {
            () = pause => {}
            // An error means that nobody is left to say so.
            _ = stopping.wait_for(|stop| *stop), if !stops => {}
        }
    }
}

async fn look(table: &mut dyn Table, transaction: &AppTransaction) -> Result<bool, StoreError> {
    table.refresh().await?;
    let known = table.committed(&transaction.application).await?;
    Ok(known.is_some_and(|version| version >= transaction.version))
}

fn exhausted(attempts: u32, error: StoreError) -> StoreError {
    match error {
        StoreError::Delta(source) => StoreError::Commit { attempts, source },
        other => other,
    }
}

#[cfg(test)]
mod tests;
