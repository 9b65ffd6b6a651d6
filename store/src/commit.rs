//! Committing exactly once.
//!
//! A commit can fail in three ways that look alike: it was never made, it was made and the answer got lost, or someone
//! else was faster. Every commit therefore carries a number of its writer ([`AppTransaction`]). After *any* error the
//! table is read again: if it knows our number, we are done; if not, the very same files are committed again. The files
//! are never written anew, so even a commit that succeeds twice holds every row once.

use std::time::Duration;

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

/// Appends `files` to the table, once.
///
/// # Errors
/// [`StoreError::Commit`] when the attempts are used up. Whether the last one was made is then unknown; the files stay
/// where they are.
pub async fn commit(
    table: &mut dyn Table,
    files: &[DataFile],
    transaction: &AppTransaction,
    backoff: &Backoff,
    environment: &Environment,
) -> Result<(), StoreError> {
    let mut failures = 0;
    loop {
        let Err(mut error) = table.try_append(files, transaction).await else { return Ok(()) };
        failures += 1;
        tracing::debug!(attempt = failures, error = one_line(&error), "commit failed");
        match is_committed(table, transaction).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // Committing again without knowing could double the commit; what follows is a look first.
            Err(unknown) => {
                error = unknown;
                while failures < backoff.attempts {
                    tokio::time::sleep(backoff.pause(failures, environment)).await;
                    failures += 1;
                    match is_committed(table, transaction).await {
                        Ok(true) => return Ok(()),
                        Ok(false) => break,
                        Err(still) => error = still,
                    }
                }
            }
        }
        if failures >= backoff.attempts {
            return Err(exhausted(failures, error));
        }
        tokio::time::sleep(backoff.pause(failures, environment)).await;
    }
}

async fn is_committed(table: &mut dyn Table, transaction: &AppTransaction) -> Result<bool, StoreError> {
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
