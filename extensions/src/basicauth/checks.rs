//! Costly checks of passwords: off the lanes, few at a time, behind a line that ends.
//!
//! Anybody can ask for them, with any name and password. What they cost must not slow down those who are known, so they
//! take a part of the machine that does not grow, and whoever comes when the line is full is asked to come again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use weir_pipeline::extension::{Decision, Denied};

use super::htpasswd::Check;

/// Clients that wait for a check at most.
const WAITING: usize = 64;

/// How long a client waits for its turn at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client is not told that its password is wrong: it may be right.
const BUSY: Denied = Denied::Undecided("too many passwords are being checked");

/// What a client is told whose name or password is wrong.
pub(super) const WRONG: Denied = Denied::Unknown("the user name or the password is wrong");

/// The checks that run and those that wait.
pub(super) struct Checks {
    /// For each that runs or waits.
    places: Arc<Semaphore>,
    /// For each that runs.
    turns: Arc<Semaphore>,
}

impl Default for Checks {
    /// A quarter of the machine.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new((cores / 4).clamp(1, 4), WAITING)
    }
}

impl Checks {
    /// So many at once, and so many that wait.
    pub(super) fn new(at_once: usize, waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once + waiting)), turns: Arc::new(Semaphore::new(at_once)) }
    }

    /// Puts a check into the line.
    ///
    /// # Errors
    /// If the line is full.
    pub(super) fn queue(&self, check: Check) -> Result<Decision, Denied> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| BUSY)?;
        let turns = Arc::clone(&self.turns);
        Ok(Decision::Later(Box::pin(async move {
            let turn = tokio::time::timeout(PATIENCE, turns.acquire_owned()).await;
            let turn = turn.map_err(|_| BUSY)?.map_err(|_| BUSY)?;
            // Of the many requests that a client begins with, the first checks for all.
            if let Some(identity) = check.remembered() {
                return Ok(identity);
            }
            let work = tokio::task::spawn_blocking(move || {
                let identity = check.run();
                // Not before: a client that does not wait for the answer still takes its part of the machine.
                drop((turn, place));
                identity
            });
            // It only fails when the runtime is going away.
            work.await.map_err(|_| BUSY)?.ok_or(WRONG)
        })))
    }

    /// Takes a turn, so that whoever comes after waits until it is given back.
    #[cfg(test)]
    pub(super) async fn turn(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.turns).acquire_owned().await.unwrap()
    }
}
