//! Costs of stored spans, computed again after prices have changed.
//!
//! ```text
//! files of the days ─► rows ─► spans ─► Recompute ─► rows whose cost is another
//!  (by their start)    │                                   │ per file, if there are any
//!                      └────────── all columns ────────────┴─► a new file ─┐
//!                                                                          ├─► one commit: files out, files in
//!                                                        the next file ────┘
//! ```
//!
//! * A row keeps its place and every column but those of the money ([`Costs`]); what they held is kept in
//!   `previous_total_cost` and `previous_price_version`. Attributes stay what they were on arrival (invariant I6).
//! * Files without a changed row are not touched, and if there are none there is no commit.
//! * One file is read at a time, in pieces of about [`CHUNK_BYTES`]; what is kept of it is its changed rows.
//! * The commit is made directly on top of a version that has all the files it replaces. Appends that come in between
//!   only mean another attempt. If a file has left the table meanwhile (a deletion, a compaction, another recost), nothing
//!   is committed and [`StoreError::Overtaken`] says so.
//! * Until the commit nothing can be seen of it; a process that dies leaves files that belong to no table. So does one
//!   that is overtaken, if it cannot delete them.

mod columns;
mod file;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deltalake::DeltaTableError;
use deltalake::arrow::array::RecordBatch;
use deltalake::kernel::LogicalFileView;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use weir_pipeline::batch::{Batch, Malformed};
use weir_pipeline::clock::Environment;
use weir_pipeline::signal::Signal;

pub use self::columns::Costs;
use self::columns::{Reader, replace};
use self::file::{Condition, Layout};
use crate::StoreError;
use crate::commit::Backoff;
use crate::objects::one_line;
use crate::rebuild;
use crate::table::{Delta, Replacement, Table};

/// Bytes of columns that are rows at one time.
const CHUNK_BYTES: usize = 16 << 20;
const MAX_CHUNK_ROWS: usize = 1024;

/// Which rows are computed again.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Spans that started at this time or later, in microseconds since the epoch.
    pub from_micros: i64,
    /// Spans that started before this time.
    pub to_micros: i64,
    /// Those of one environment, or of all.
    pub environment: Option<String>,
    /// A condition in SQL over the columns of `spans`.
    pub condition: Option<String>,
}

/// A stored row, as far as its cost is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number in the file.
    pub number: usize,
    /// Whether it is to be computed again; else it is there for the sake of others of the same call.
    pub selected: bool,
    /// When it was stored, in microseconds since the epoch.
    pub ingest_micros: i64,
    /// The provider as its column says.
    pub provider: Option<Arc<str>>,
    /// The model that answered, else the one that was asked for.
    pub model: Option<Arc<str>>,
    /// What its columns say.
    pub costs: Costs,
}

/// A row and what it costs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recomputed {
    /// The row as it was given.
    pub row: Row,
    /// What its columns are to say; [`Costs::price_version`] counts only if something else differs.
    pub costs: Costs,
    /// The status the row had before any column told, where its span tells.
    pub earlier_status: Option<Arc<str>>,
}

/// Computes costs of stored spans.
pub trait Recompute: Send {
    /// Reads rows of a file; `spans` has one span a row, in the same order.
    fn read(&mut self, spans: &Batch, rows: Vec<Row>);

    /// The costs of the rows of this file that were selected and have any, or might. The next rows are those of another
    /// file.
    fn decide(&mut self) -> Vec<Recomputed>;
}

/// How it is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time that is written into changed rows, in microseconds since the epoch.
    pub now_micros: i64,
    /// What the table's history says of it, besides the numbers of rows and files.
    pub parameters: Vec<(&'static str, String)>,
    /// How often a commit is tried while others commit.
    pub backoff: Backoff,
    /// Random numbers for pauses.
    pub environment: Environment,
}

/// What changes for one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows that were computed again.
    pub spans: u64,
    /// Those of them whose columns change.
    pub changed: u64,
    /// Those that had no cost and get one.
    pub priced: u64,
    /// Those that had a cost and get none.
    pub unpriced: u64,
    /// What they cost together, in 10⁻¹² USD.
    pub before: i128,
    /// What they cost now.
    pub after: i128,
}

impl Difference {
    fn add(&mut self, before: Option<i128>, after: Option<i128>, changes: bool) {
        self.spans += 1;
        self.changed += u64::from(changes);
        self.priced += u64::from(before.is_none() && after.is_some());
        self.unpriced += u64::from(before.is_some() && after.is_none());
        self.before += before.unwrap_or(0);
        self.after += after.unwrap_or(0);
    }
}

/// Differences by provider and model, empty where the rows name none.
pub type Differences = BTreeMap<(String, String), Difference>;

/// New files that are written, and await their commit.
#[derive(Debug)]
pub struct Prepared {
    /// What changes.
    pub differences: Differences,
    /// Files whose rows were looked at.
    pub files_read: usize,
    /// Files that are to be replaced: none in a dry run, or if nothing changes.
    pub files_replaced: usize,
    replacement: Replacement,
}

impl Prepared {
    /// Rows that change.
    pub fn changed(&self) -> u64 {
        self.differences.values().map(|difference| difference.changed).sum()
    }
}

/// Computes the selected rows again and, unless it is a dry run, writes the files that have changed rows anew. The table
/// stays as it is.
///
/// # Errors
/// If the condition is not valid, or a file cannot be read or written; what was written is then deleted, as far as
/// possible.
pub async fn prepare(
    table: &Delta,
    selection: &Selection,
    recompute: &mut dyn Recompute,
    options: &Options,
    is_dry_run: bool,
) -> Result<Prepared, StoreError> {
    let layout = Layout::of(table)?;
    let condition = selection.condition.as_deref().map(|sql| Condition::parse(sql, &layout)).transpose()?;
    let mut run = Run {
        table,
        layout,
        selection,
        condition,
        prepared: Prepared {
            differences: Differences::new(),
            files_read: 0,
            files_replaced: 0,
            replacement: Replacement {
                removes: Vec::new(),
                adds: Vec::new(),
                operation: "RECOST",
                parameters: options.parameters.clone(),
            },
        },
    };
    match run.all(recompute, options, is_dry_run).await {
        Ok(()) => {
            let changed = run.prepared.changed();
            run.prepared.replacement.parameters.push(("changedRows", changed.to_string()));
            Ok(run.prepared)
        }
        Err(error) => {
            discard(table, &run.prepared.replacement).await;
            Err(error)
        }
    }
}

/// Commits what was prepared. Returns the version of the table that has it, or `None` if there was nothing to commit.
///
/// # Errors
/// [`StoreError::Overtaken`] if files that it replaces have left the table; or if the log cannot be written for longer
/// than the attempts last.
pub async fn commit(table: &mut Delta, prepared: &Prepared, options: &Options) -> Result<Option<u64>, StoreError> {
    let replacement = &prepared.replacement;
    if replacement.removes.is_empty() {
        return Ok(None);
    }
    let result = attempt(table, replacement, options).await;
    if let Err(StoreError::Overtaken { .. }) = &result {
        discard(table, replacement).await;
    }
    result.map(Some)
}

async fn attempt(table: &mut Delta, replacement: &Replacement, options: &Options) -> Result<u64, StoreError> {
    let mut failures = 0;
    loop {
        let error = match attempt_once(table, replacement).await {
            Err(error) if !matches!(error, StoreError::Overtaken { .. }) => error,
            ended => return ended,
        };
        failures += 1;
        tracing::debug!(attempt = failures, error = one_line(&error), "commit failed");
        if failures >= options.backoff.attempts {
            return Err(match error {
                StoreError::Delta(source) => StoreError::Commit { attempts: failures, source },
                other => other,
            });
        }
        tokio::time::sleep(options.backoff.pause(failures, &options.environment)).await;
    }
}

/// Commits on top of the latest version. If it fails, it may have been made: the next attempt finds that out, and so
/// does whoever computes everything again.
async fn attempt_once(table: &mut Delta, replacement: &Replacement) -> Result<u64, StoreError> {
    table.refresh().await?;
    let present = table.paths().await?;
    let is_made = replacement.adds.first().is_some_and(|file| present.contains(&file.path));
    if !is_made {
        let lost = replacement.removes.iter().filter(|file| !present.contains(&file.path)).count();
        if lost > 0 {
            return Err(StoreError::Overtaken { files: lost });
        }
        table.try_replace(replacement).await?;
    }
    Ok(table.delta().version().unwrap_or(0))
}

/// Deletes files that belong to no table.
async fn discard(table: &Delta, replacement: &Replacement) {
    let files = table.files();
    for file in &replacement.adds {
        let path = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
        if let Err(error) = files.delete(&path).await {
            tracing::warn!(path = %path, error = one_line(&error), "a file that belongs to no table could not be deleted");
        }
    }
}

struct Run<'r> {
    table: &'r Delta,
    layout: Layout,
    selection: &'r Selection,
    condition: Option<Condition>,
    prepared: Prepared,
}

impl Run<'_> {
    async fn all(
        &mut self,
        recompute: &mut dyn Recompute,
        options: &Options,
        is_dry_run: bool,
    ) -> Result<(), StoreError> {
        let mut files: Vec<LogicalFileView> = self.table.list().await?;
        files.retain(|file| file::is_selected(file, self.selection));
        // By time, as the spans came: of the spans of one call the first is billed.
        files.sort_by_cached_key(|file| (file::start(file), file.path().into_owned()));
        for file in &files {
            self.prepared.files_read += 1;
            let changes = self.read(file, recompute).await?;
            if !changes.is_empty() && !is_dry_run {
                self.write(file, &changes, options.now_micros).await?;
            }
        }
        Ok(())
    }

    /// The rows of a file that change.
    async fn read(
        &mut self,
        file: &LogicalFileView,
        recompute: &mut dyn Recompute,
    ) -> Result<HashMap<usize, Costs>, StoreError> {
        let mut rows = file::open(self.table, file, &self.layout).await?;
        let (mut number, mut reader) = (0, Reader::default());
        while let Some(batch) = rows.next().await? {
            let selected = self.selected(file, &batch)?;
            let stored = reader.rows(&batch, number, &selected)?;
            number += batch.num_rows();
            let spans = rebuild::request_in_order(&batch)?;
            let invalid = |error: Malformed| StoreError::from(DeltaTableError::generic(error.to_string()));
            let spans = Batch::decode(Signal::Traces, spans.into()).map_err(invalid)?;
            recompute.read(&spans, stored);
            tokio::task::yield_now().await;
        }
        let mut changes = HashMap::new();
        for Recomputed { row, mut costs, earlier_status } in recompute.decide() {
            costs.cut();
            let is_same = row.costs.is_same(&costs, earlier_status.as_deref());
            let name = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
            let difference = self.prepared.differences.entry((name(&row.provider), name(&row.model))).or_default();
            difference.add(row.costs.total, costs.total, !is_same);
            if !is_same {
                changes.insert(row.number, costs);
            }
        }
        Ok(changes)
    }

    /// Which rows of a batch are selected.
    fn selected(&self, file: &LogicalFileView, batch: &RecordBatch) -> Result<Vec<bool>, StoreError> {
        let mut selected = file::in_time(batch, self.selection)?;
        if let Some(condition) = &self.condition {
            condition.and(file, &self.layout, batch, &mut selected)?;
        }
        Ok(selected)
    }

    /// Writes a file anew with these changes.
    async fn write(
        &mut self,
        file: &LogicalFileView,
        changes: &HashMap<usize, Costs>,
        now_micros: i64,
    ) -> Result<(), StoreError> {
        let mut rows = file::open(self.table, file, &self.layout).await?;
        let partition = file::partition(file)?;
        let files = self.table.files();
        let mut writer = crate::writer::open_with(&files, self.layout.stored(), &partition, rows.total())?;
        let mut number = 0;
        let result: Result<(), StoreError> = async {
            while let Some(batch) = rows.next().await? {
                let batch = replace(&batch, number, changes, now_micros)?;
                number += batch.num_rows();
                writer.write(&batch).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        }
        .await;
        if let Err(error) = result {
            let aborted = writer.abort().await;
            tracing::debug!(ok = aborted.is_ok(), "upload aborted");
            return Err(error);
        }
        self.prepared.replacement.adds.extend(writer.close().await?);
        self.prepared.replacement.removes.push(file.remove_action(true));
        self.prepared.files_replaced += 1;
        Ok(())
    }
}
