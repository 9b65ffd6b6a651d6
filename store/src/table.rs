//! The table behind the store: a trait of what the writer needs, and Delta Lake as its implementation.

mod columns;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, CommitInfo, LogicalFileView, Remove, StructType, Transaction};
use deltalake::logstore::LogStoreRef;
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError, TableProperty, checkpoints};
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use tokio::task::JoinHandle;

use crate::StoreError;
use crate::objects::Root;
use crate::schema;

/// A Parquet file that has been uploaded and is part of no table yet.
pub type DataFile = Add;

/// Marks a commit so that it can be recognised: of one application, versions only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTransaction {
    /// Who commits: `writer/<id of the process>`.
    pub application: String,
    /// The number of the commit.
    pub version: i64,
}

/// An append-only table with atomic commits.
#[async_trait]
pub trait Table: Send {
    /// Where data files go; paths are relative to the table.
    fn files(&self) -> Arc<dyn ObjectStore>;

    /// Adds `files` in one commit on top of the version known last. May fail although the commit was made: see
    /// [`crate::commit`].
    async fn try_append(&mut self, files: &[DataFile], transaction: &AppTransaction) -> Result<(), StoreError>;

    /// Learns of the commits of others.
    async fn refresh(&mut self) -> Result<(), StoreError>;

    /// The last version that `application` has committed, as of the version known last.
    async fn committed(&self, application: &str) -> Result<Option<i64>, StoreError>;

    /// Begins a checkpoint if it is time for one, and takes over what the last one has made. Nothing is lost if that
    /// fails; reading gets slower. Commits do not wait for it.
    async fn maintain(&mut self) -> Result<(), StoreError>;

    /// Waits for a checkpoint that is under way.
    async fn finish_maintenance(&mut self) -> Result<(), StoreError>;
}

/// Commits between checkpoints. Without one, each commit costs 0.4 ms more than the one before (measured).
const CHECKPOINT_EVERY: u64 = 50;
/// Checkpoints between clean-ups of the log, each of which lists it.
const CLEAN_EVERY: u64 = 10;

/// The application of commits that put files in the place of others. Two of them never pass each other unseen: the log
/// takes one version of an application at a time.
pub const MAINTENANCE: &str = "maintenance";

/// Files that take the place of others, with the same rows or changed ones.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// What leaves the table.
    pub removes: Vec<Remove>,
    /// What comes in.
    pub adds: Vec<DataFile>,
    /// What is done, for the table's history: `RECOST`.
    pub operation: &'static str,
    /// More about it, for the same.
    pub parameters: Vec<(&'static str, String)>,
}

/// A Delta table.
#[derive(Debug)]
pub struct Delta {
    table: DeltaTable,
    /// Version of the last checkpoint this process knows of.
    checkpointed: u64,
    checkpoints: u64,
    /// A checkpoint under way; it ends with the table as read from it.
    checkpoint: Option<JoinHandle<Result<DeltaTable, StoreError>>>,
}

impl Delta {
    /// Opens the spans of a project, creating the table if there is none. Several collectors may do so at once. A table
    /// that an older version made gets the columns it lacks.
    ///
    /// # Errors
    /// If the log cannot be read or written.
    pub async fn create(root: &Root, project: &str) -> Result<Self, StoreError> {
        let log_store = root.spans(project);
        if let Some(table) = load(log_store.clone()).await? {
            return Ok(Self::of(columns::complete(table).await?));
        }
        let columns: StructType = schema::spans().as_ref().try_into_kernel()?;
        let created = CreateBuilder::new()
            .with_log_store(log_store.clone())
            .with_columns(columns.fields().cloned())
            .with_partition_columns(schema::PARTITION_COLUMNS)
            .with_configuration_property(TableProperty::CheckpointInterval, Some(CHECKPOINT_EVERY.to_string()))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some("interval 1 days"))
            .with_configuration_property(TableProperty::SetTransactionRetentionDuration, Some("interval 30 days"))
            .with_save_mode(SaveMode::Ignore)
            .await;
        // Whoever lost the race to create it finds it now.
        match (created, load(log_store).await?) {
            (_, Some(table)) => Ok(Self::of(columns::complete(table).await?)),
            (Err(error), None) => Err(error.into()),
            (Ok(table), None) => Ok(Self::of(table)),
        }
    }

    /// Opens the spans of a project.
    ///
    /// # Errors
    /// [`StoreError::NoTable`] if there are none; or if the log cannot be read.
    pub async fn open(root: &Root, project: &str) -> Result<Self, StoreError> {
        let log_store = root.spans(project);
        let url = log_store.root_url().to_string();
        match load(log_store).await? {
            Some(table) => Ok(Self::of(table)),
            None => Err(StoreError::NoTable { url, root: root.url().to_string() }),
        }
    }

    /// Opens the spans of a project to change them: with the columns that a table of an older version lacks.
    ///
    /// # Errors
    /// As [`open`](Self::open); or if the log cannot be written.
    pub async fn open_for_change(root: &Root, project: &str) -> Result<Self, StoreError> {
        Ok(Self::of(columns::complete(Self::open(root, project).await?.table).await?))
    }

    /// The files of the table, as of the version known last.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn list(&self) -> Result<Vec<LogicalFileView>, StoreError> {
        Ok(self.table.get_active_add_actions_by_partitions(&[]).try_collect().await?)
    }

    /// The paths of the files of the table, as of the version known last.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn paths(&self) -> Result<HashSet<String>, StoreError> {
        Ok(self.list().await?.iter().map(|file| file.path().into_owned()).collect())
    }

    /// Puts files in the place of others in one commit, directly on top of the version known last: if anyone has
    /// committed since, nothing happens and the table is to be [refreshed](Table::refresh). May fail although the commit
    /// was made: the new files are then in the table.
    ///
    /// # Errors
    /// If someone was faster, or the log cannot be written.
    pub async fn try_replace(&mut self, replacement: &Replacement) -> Result<(), StoreError> {
        let last = self.committed(MAINTENANCE).await?.unwrap_or(0);
        let properties = CommitProperties::default()
            .with_application_transaction(Transaction::new(MAINTENANCE, last + 1))
            // What is known of the files holds for the version known last alone.
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let parameters =
            replacement.parameters.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())).collect();
        let info = CommitInfo {
            timestamp: Some(now_millis()),
            operation: Some(replacement.operation.to_owned()),
            operation_parameters: Some(parameters),
            engine_info: Some(format!("weir/{}", env!("CARGO_PKG_VERSION"))),
            ..CommitInfo::default()
        };
        let actions = std::iter::once(Action::CommitInfo(info))
            .chain(replacement.removes.iter().cloned().map(Action::Remove))
            .chain(replacement.adds.iter().cloned().map(Action::Add));
        let done = CommitBuilder::from(properties)
            .with_actions(actions.collect())
            .build(Some(self.table.snapshot()?), self.table.log_store(), DeltaOperation::Update { predicate: None })
            .await?;
        self.table.state = Some(done.snapshot());
        Ok(())
    }

    fn of(table: DeltaTable) -> Self {
        let checkpointed = table.version().unwrap_or(0) / CHECKPOINT_EVERY * CHECKPOINT_EVERY;
        Self { table, checkpointed, checkpoints: 0, checkpoint: None }
    }

    /// The table as deltalake has it.
    pub fn delta(&self) -> &DeltaTable {
        &self.table
    }
}

fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The table of this log; `None` if there is none.
pub(crate) async fn load(log_store: LogStoreRef) -> Result<Option<DeltaTable>, StoreError> {
    let mut table = DeltaTable::new(log_store);
    if !table.verify_deltatable_existence().await? {
        return Ok(None);
    }
    table.load().await?;
    Ok(Some(table))
}

#[async_trait]
impl Table for Delta {
    fn files(&self) -> Arc<dyn ObjectStore> {
        self.table.object_store()
    }

    async fn try_append(&mut self, files: &[DataFile], transaction: &AppTransaction) -> Result<(), StoreError> {
        let marker = Transaction::new(&transaction.application, transaction.version);
        let properties = CommitProperties::default()
            .with_application_transaction(marker)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: None,
            // "Reads nothing": without it an append counts as having read every file, and loses to each DELETE.
            predicate: Some("false".to_owned()),
        };
        let done = CommitBuilder::from(properties)
            .with_actions(files.iter().cloned().map(Action::Add).collect())
            .build(Some(self.table.snapshot()?), self.table.log_store(), operation)
            .await?;
        self.table.state = Some(done.snapshot());
        Ok(())
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        Ok(self.table.update_incremental(None).await?)
    }

    async fn committed(&self, application: &str) -> Result<Option<i64>, StoreError> {
        let log_store = self.table.log_store();
        Ok(self.table.snapshot()?.transaction_version(log_store.as_ref(), application).await?)
    }

    async fn maintain(&mut self) -> Result<(), StoreError> {
        if self.checkpoint.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish_maintenance().await?;
        }
        let version = self.table.version().unwrap_or(0);
        if self.checkpoint.is_some() || version < self.checkpointed + CHECKPOINT_EVERY {
            return Ok(());
        }
        // Set first: after a failure the next attempt comes with the next interval, not with the next commit.
        self.checkpointed = version;
        self.checkpoints += 1;
        let cleans = self.checkpoints.is_multiple_of(CLEAN_EVERY);
        self.checkpoint = Some(tokio::spawn(checkpoint(self.table.clone(), cleans)));
        Ok(())
    }

    async fn finish_maintenance(&mut self) -> Result<(), StoreError> {
        let Some(checkpoint) = self.checkpoint.take() else { return Ok(()) };
        let panicked = |error| StoreError::from(DeltaTableError::generic(error));
        let mut fresh = checkpoint.await.map_err(panicked)??;
        // Commits went on meanwhile, and a table must not forget any.
        if fresh.version() < self.table.version() {
            fresh.update_incremental(None).await?;
        }
        if fresh.version() >= self.table.version() {
            self.table = fresh;
        }
        Ok(())
    }
}

/// Writes a checkpoint of the table's version, and cleans the log up if asked to. Returns the table as read from the
/// checkpoint: a snapshot that is carried from commit to commit keeps replaying those since the checkpoint it began with.
async fn checkpoint(table: DeltaTable, cleans: bool) -> Result<DeltaTable, StoreError> {
    checkpoints::create_checkpoint(&table, None).await?;
    if cleans {
        checkpoints::cleanup_metadata(&table, None).await?;
    }
    let mut fresh = DeltaTable::new(table.log_store());
    fresh.load().await?;
    Ok(fresh)
}
