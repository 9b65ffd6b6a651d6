//! From batches to Parquet files that await their commit.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use buoyant_kernel::expressions::Scalar;
use buoyant_kernel::table_properties::DataSkippingNumIndexedCols;
use deltalake::DeltaTableError;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::datafile::writer::{PartitionWriter, PartitionWriterConfig};
use deltalake::parquet::basic::{Compression, Encoding, ZstdLevel};
use deltalake::parquet::file::properties::{
    BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder,
};
use deltalake::parquet::schema::types::ColumnPath;
use indexmap::IndexMap;
use object_store::ObjectStore;
use tokio::task::JoinSet;
use weir_pipeline::batch::Batch;

use crate::StoreError;
use crate::convert::{Converter, MAX_ROWS, Partition, Rows, Stamp};
use crate::schema::{self, Type};
use crate::table::DataFile;

/// A file that has reached so many bytes is completed and another begun.
const TARGET_BYTES: u64 = 256 << 20;

/// Files that are completed and uploaded while the next is encoded. An open file has some megabytes of dictionaries
/// however few its rows are, and a flush may have as many files as spans.
const MAX_CLOSING: usize = 4;

/// Writes the spans of batches of traces to new files, one per partition and one after the other.
/// The files belong to no table until they are committed.
///
/// # Errors
/// [`StoreError::Arrow`] if a batch is too large; anything else may work later.
pub async fn write_files(
    files: Arc<dyn ObjectStore>,
    batches: &[&Batch],
    stamp: &Stamp,
) -> Result<Vec<DataFile>, StoreError> {
    let mut rows = Rows::default();
    batches.iter().for_each(|batch| rows.add(batch));
    rows.sort();
    let mut converter = Converter::default();
    let mut closing = Closing::default();
    for (partition, range) in rows.partitions() {
        let mut writer = open(&files, &partition, range.len())?;
        if let Err(error) = Box::pin(write_rows(&mut writer, &mut converter, &rows, range, stamp)).await {
            // Parts of an upload that nobody completes are nothing a clean-up of the table would find.
            let aborted = writer.abort().await;
            tracing::debug!(ok = aborted.is_ok(), "upload aborted");
            closing.fail(error);
        } else {
            closing.add(writer).await;
        }
        if closing.error.is_some() {
            break;
        }
    }
    closing.finish().await
}

async fn write_rows(
    writer: &mut PartitionWriter,
    converter: &mut Converter,
    rows: &Rows<'_>,
    range: Range<usize>,
    stamp: &Stamp,
) -> Result<(), StoreError> {
    let fields = schema::spans().fields().clone();
    for part in rows.parts(range) {
        let (_, columns, _) = converter.convert(rows, part, stamp)?.into_parts();
        let stored = columns.into_iter().zip(&fields).filter(|(_, field)| is_stored(field.name()));
        let batch = RecordBatch::try_new(schema::file(), stored.map(|(column, _)| column).collect())?;
        writer.write(&batch).await?;
        // Converting is long and this runtime has others to serve.
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn is_stored(column: &str) -> bool {
    !schema::PARTITION_COLUMNS.contains(&column)
}

fn open(files: &Arc<dyn ObjectStore>, partition: &Partition, rows: usize) -> Result<PartitionWriter, StoreError> {
    open_with(files, schema::file(), partition, rows)
}

/// Begins files of a partition with about so many rows of these columns.
pub(crate) fn open_with(
    files: &Arc<dyn ObjectStore>,
    columns: SchemaRef,
    partition: &Partition,
    rows: usize,
) -> Result<PartitionWriter, StoreError> {
    let values = IndexMap::from([
        ("environment".to_owned(), Scalar::String(partition.environment.clone())),
        ("date".to_owned(), Scalar::Date(partition.date)),
    ]);
    let (target, batch) = (NonZeroU64::new(TARGET_BYTES), Some(MAX_ROWS));
    let config = PartitionWriterConfig::try_new(columns, values, Some(properties(rows)), target, batch, None, None)?;
    let statistics = Some(schema::STATS_COLUMNS.map(str::to_owned).to_vec());
    Ok(PartitionWriter::try_with_config(
        Arc::clone(files),
        config,
        DataSkippingNumIndexedCols::NumColumns(0),
        statistics,
    )?)
}

/// Files that are encoded and on their way.
#[derive(Default)]
struct Closing {
    uploads: JoinSet<deltalake::DeltaResult<Vec<DataFile>>>,
    files: Vec<DataFile>,
    /// The first error: no more files are begun then.
    error: Option<StoreError>,
}

impl Closing {
    async fn add(&mut self, writer: PartitionWriter) {
        while self.uploads.len() >= MAX_CLOSING {
            self.next().await;
        }
        self.uploads.spawn(writer.close());
    }

    fn fail(&mut self, error: StoreError) {
        self.error.get_or_insert(error);
    }

    /// Waits for an upload. False if there is none.
    async fn next(&mut self) -> bool {
        match self.uploads.join_next().await {
            None => return false,
            Some(Ok(Ok(files))) => self.files.extend(files),
            Some(Ok(Err(error))) => self.fail(error.into()),
            Some(Err(error)) => self.fail(DeltaTableError::generic(error).into()),
        }
        true
    }

    /// The files in the order of their paths, after all uploads have ended: one that is cancelled leaves its parts.
    async fn finish(mut self) -> Result<Vec<DataFile>, StoreError> {
        while self.next().await {}
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.error.map_or(Ok(self.files), Err)
    }
}

/// How a new file of about `rows` rows is encoded. Measured on real spans: see the notes beside each choice.
pub fn properties(rows: usize) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        // Level 3 is 4-10 % smaller at 25-40 % more CPU: for files that stay, not for those that are compacted soon.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
        .set_max_row_group_row_count(Some(64 << 10))
        .set_max_row_group_bytes(Some(64 << 20))
        // The size of a page is looked at once per so many rows.
        .set_write_batch_size(256)
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_created_by("weir".to_owned());
    for (name, kind, _) in schema::COLUMNS {
        builder = match kind {
            Type::Map(_) => without_statistics(builder, &map_leaves(name)),
            Type::Events => without_statistics(builder, &struct_leaves(name, &schema::event_fields())),
            Type::Links => without_statistics(builder, &struct_leaves(name, &schema::link_fields())),
            _ => builder,
        };
    }
    for name in schema::CONTENT_COLUMNS {
        // Pages stay at the default of 1 MiB: smaller ones lose what is repeated within a trace (19-25 %). The
        // dictionary stays on: it finds system prompts sent again, and gives up by itself.
        builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::None);
    }
    for name in ["trace_id", "span_id", "parent_span_id"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in ["start_time", "duration_ns", "ingest_time", "seq"] {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    // A trace has some eight spans, a session or a user more.
    let distinct = (rows as u64 / 8).max(64);
    for name in ["trace_id", "session_id", "user_id"] {
        builder = builder
            .set_column_bloom_filter_enabled(ColumnPath::from(name), true)
            .set_column_bloom_filter_fpp(ColumnPath::from(name), 0.01)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(name), distinct);
    }
    builder.build()
}

fn without_statistics(builder: WriterPropertiesBuilder, leaves: &[ColumnPath]) -> WriterPropertiesBuilder {
    leaves
        .iter()
        .fold(builder, |builder, leaf| builder.set_column_statistics_enabled(leaf.clone(), EnabledStatistics::None))
}

fn map_leaves(name: &str) -> Vec<ColumnPath> {
    let path = |leaf: &str| ColumnPath::new(vec![name.to_owned(), schema::ENTRIES.to_owned(), leaf.to_owned()]);
    vec![path("key"), path("value")]
}

fn struct_leaves(name: &str, fields: &deltalake::arrow::datatypes::Fields) -> Vec<ColumnPath> {
    let path = |leaf: &str| vec![name.to_owned(), "list".to_owned(), schema::ITEM.to_owned(), leaf.to_owned()];
    fields.iter().map(|field| ColumnPath::new(path(field.name()))).collect()
}
