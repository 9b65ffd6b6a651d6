//! The spans of one project as its log has them, and taking files out of it.

use deltalake::DeltaTable;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt as _;
use object_store::path::Path;

use super::{Amount, Maintenance, Stored};
use crate::StoreError;
use crate::objects::{Root, one_line};
use crate::table::load;

/// Whoever maintains a table counts its commits under this name, so that of two on one version only one is made.
const MAINTENANCE: &str = "maintenance";

/// The table of a project.
#[derive(Debug)]
pub(super) struct Spans {
    table: DeltaTable,
}

/// A file that the table consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveFile {
    /// Relative to the table.
    pub(super) path: Path,
    pub(super) environment: String,
    /// The UTC day as `2026-11-21`; empty if it has none, which Weir never writes.
    pub(super) date: String,
    bytes: u64,
    rows: u64,
}

impl LiveFile {
    pub(super) fn amount(&self) -> Amount {
        Amount { rows: self.rows, files: 1, bytes: self.bytes }
    }
}

impl Spans {
    /// Opens the spans of a project; `None` if it has no table.
    pub(super) async fn open(root: &Root, project: &str) -> Result<Option<Self>, StoreError> {
        Ok(load(root.spans(project)).await?.map(|table| Self { table }))
    }

    /// Learns of the commits of others.
    pub(super) async fn refresh(&mut self) -> Result<(), StoreError> {
        Ok(self.table.update_incremental(None).await?)
    }

    /// The files that a query would read.
    pub(super) fn files(&self) -> Result<Vec<LiveFile>, StoreError> {
        let snapshot = self.table.snapshot()?;
        let log = snapshot.log_data();
        let files = log.iter().map(|file| {
            let mut values = file.partition_values_map();
            let mut value = |column: &str| values.remove(column).flatten().unwrap_or_default();
            LiveFile {
                path: file.object_store_path(),
                environment: value("environment"),
                date: value("date"),
                bytes: u64::try_from(file.size()).unwrap_or(0),
                rows: file.num_records().unwrap_or(0) as u64,
            }
        });
        Ok(files.collect())
    }

    /// Files that were removed from the log, relative to the table, and when (milliseconds since the epoch; 0 if that is
    /// not known).
    pub(super) async fn removed(&self) -> Result<Vec<(Path, i64)>, StoreError> {
        let log_store = self.table.log_store();
        let removed = self.table.snapshot()?.all_tombstones(log_store.as_ref());
        let removed = removed.map_ok(|file| {
            let path = file.path();
            let path = Path::parse(path.as_ref()).unwrap_or_else(|_| Path::from(path.as_ref()));
            (path, file.deletion_timestamp().unwrap_or(0))
        });
        Ok(removed.try_collect().await?)
    }

    /// Takes the files out of the table that `choose` picks, in one commit, and says what they were. `predicate` says the
    /// same in SQL over the partition columns: spans that land in there at the same time have this planned anew, all
    /// others pass.
    pub(super) async fn remove(
        &mut self,
        choose: &(dyn Fn(&LiveFile) -> bool + Sync),
        predicate: &str,
        by: &Maintenance,
    ) -> Result<Stored, StoreError> {
        let mut removed = Stored::default();
        let mut failures = 0;
        loop {
            let chosen: Vec<LiveFile> = self.files()?.into_iter().filter(choose).collect();
            if chosen.is_empty() {
                return Ok(removed);
            }
            let Err(error) = self.try_remove(&chosen, predicate, by).await else {
                removed.add(chosen.iter().map(|file| (file.environment.as_str(), file.amount())).collect());
                return Ok(removed);
            };
            failures += 1;
            tracing::debug!(attempt = failures, error = one_line(&error), "removing files from the table failed");
            if failures >= by.settings.backoff.attempts {
                return Err(error);
            }
            if !is_conflict(&error) {
                tokio::time::sleep(by.settings.backoff.pause(failures, &by.clock)).await;
            }
            let next = self.last_of(&by.application).await?.map_or(0, |last| last + 1);
            self.refresh().await?;
            // The answer to a commit may have got lost after it was made.
            if self.last_of(&by.application).await?.is_some_and(|last| last >= next) {
                removed.add(chosen.iter().map(|file| (file.environment.as_str(), file.amount())).collect());
            }
        }
    }

    async fn try_remove(&mut self, files: &[LiveFile], predicate: &str, by: &Maintenance) -> Result<(), StoreError> {
        let mut properties =
            CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false));
        for application in [MAINTENANCE, &by.application] {
            let next = self.last_of(application).await?.map_or(0, |last| last + 1);
            properties = properties.with_application_transaction(Transaction::new(application, next));
        }
        let paths: foldhash::HashSet<&Path> = files.iter().map(|file| &file.path).collect();
        let snapshot = self.table.snapshot()?;
        let live = snapshot.log_data();
        let chosen = live.iter().filter(|file| paths.contains(&file.object_store_path()));
        let actions = chosen.map(|file| Action::Remove(file.remove_action(true))).collect();
        let done = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(
                Some(snapshot),
                self.table.log_store(),
                DeltaOperation::Delete { predicate: Some(predicate.to_owned()) },
            )
            .await?;
        self.table.state = Some(done.snapshot());
        Ok(())
    }

    async fn last_of(&self, application: &str) -> Result<Option<i64>, StoreError> {
        let log_store = self.table.log_store();
        Ok(self.table.snapshot()?.transaction_version(log_store.as_ref(), application).await?)
    }
}

/// Whether somebody else's commit stood in the way, which looking again resolves at once.
fn is_conflict(error: &StoreError) -> bool {
    let StoreError::Delta(error) = error else { return false };
    matches!(**error, DeltaTableError::Transaction { source: TransactionError::CommitConflict(_) })
}
