//! From requests to Parquet files that await their commit.

use std::num::NonZeroU64;
use std::sync::Arc;

use buoyant_kernel::expressions::Scalar;
use buoyant_kernel::table_properties::DataSkippingNumIndexedCols;
use bytes::Bytes;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::parquet::basic::{Compression, Encoding, ZstdLevel};
use deltalake::parquet::file::properties::{
    BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder,
};
use deltalake::parquet::schema::types::ColumnPath;
use indexmap::IndexMap;
use object_store::ObjectStore;

use crate::StoreError;
use crate::convert::{Converter, Partition, Rows, Stamp};
use crate::schema::{self, Type};
use crate::table::DataFile;

/// Rows and bytes of spans that are columns at one time; the Parquet encoder has its own buffers behind them.
const CHUNK_ROWS: usize = 8192;
const CHUNK_BYTES: usize = 16 << 20;

/// Writes the spans of validated `ExportTraceServiceRequest`s to new files, one per partition. The files belong to no
/// table until they are committed.
///
/// # Errors
/// [`StoreError::Arrow`] if a request is too large; anything else may work later.
pub async fn write_files(
    files: Arc<dyn ObjectStore>,
    requests: &[Bytes],
    stamp: &Stamp,
) -> Result<Vec<DataFile>, StoreError> {
    let mut rows = Rows::default();
    requests.iter().for_each(|request| rows.add(request));
    rows.sort();
    let mut writer = DeltaWriter::new(files, config(rows.len()));
    if let Err(error) = Box::pin(write_rows(&mut writer, &rows, stamp)).await {
        // Parts of an upload that nobody completes are nothing a clean-up of the table would find.
        let aborted = writer.abort().await;
        tracing::debug!(ok = aborted.is_ok(), "upload aborted");
        return Err(error);
    }
    Ok(writer.close().await?)
}

async fn write_rows(writer: &mut DeltaWriter, rows: &Rows<'_>, stamp: &Stamp) -> Result<(), StoreError> {
    let mut converter = Converter::default();
    for (partition, range) in rows.partitions() {
        let values = partition_values(&partition);
        for chunk in rows.chunks(range, CHUNK_ROWS, CHUNK_BYTES) {
            let batch = converter.convert(rows, chunk, stamp)?;
            writer.write_partition(batch, &values).await?;
            // Converting is long and this runtime has others to serve.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn partition_values(partition: &Partition) -> IndexMap<String, Scalar> {
    IndexMap::from([
        ("environment".to_owned(), Scalar::String(partition.environment.clone())),
        ("date".to_owned(), Scalar::Date(partition.date)),
    ])
}

fn config(rows: usize) -> WriterConfig {
    WriterConfig::new(
        schema::spans(),
        schema::PARTITION_COLUMNS.map(str::to_owned).to_vec(),
        Some(properties(rows)),
        NonZeroU64::new(256 << 20),
        Some(CHUNK_ROWS),
        DataSkippingNumIndexedCols::NumColumns(0),
        Some(schema::STATS_COLUMNS.map(str::to_owned).to_vec()),
    )
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
