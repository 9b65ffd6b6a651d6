//! Files of the table: which, what is in them, and in which columns.

use std::ops::Range;
use std::sync::Arc;

use buoyant_kernel::expressions::Scalar;
use buoyant_kernel::schema::PrimitiveType;
use bytes::Bytes;
use deltalake::DeltaTableError;
use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch, StringArray, new_null_array,
};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, Schema, SchemaRef, TimestampMicrosecondType};
use deltalake::datafusion::common::DFSchema;
use deltalake::datafusion::physical_expr::PhysicalExpr;
use deltalake::datafusion::prelude::SessionContext;
use deltalake::kernel::LogicalFileView;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake::parquet::errors::{ParquetError, Result as ParquetResult};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::TryStreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::{CHUNK_BYTES, MAX_CHUNK_ROWS, Selection};
use crate::StoreError;
use crate::convert::Partition;
use crate::query::explain;
use crate::schema::PARTITION_COLUMNS;
use crate::table::{Delta, Table};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The columns of the table, which may be more than those of this version.
#[derive(Debug)]
pub(super) struct Layout {
    all: SchemaRef,
    /// Those in files.
    stored: SchemaRef,
}

impl Layout {
    pub(super) fn of(table: &Delta) -> Result<Self, StoreError> {
        let all: Schema = table.delta().snapshot()?.schema().as_ref().try_into_arrow()?;
        let is_stored = |name: &str| !PARTITION_COLUMNS.contains(&name);
        let stored: Vec<_> = all.fields().iter().filter(|field| is_stored(field.name())).cloned().collect();
        Ok(Self { stored: Arc::new(Schema::new(stored)), all: Arc::new(all) })
    }

    /// The columns in files.
    pub(super) fn stored(&self) -> SchemaRef {
        Arc::clone(&self.stored)
    }
}

/// Whether a file may have selected rows.
pub(super) fn is_selected(file: &LogicalFileView, selection: &Selection) -> bool {
    if selection.from_micros >= selection.to_micros {
        return false;
    }
    let days = selection.from_micros.div_euclid(MICROS_PER_DAY)..=(selection.to_micros - 1).div_euclid(MICROS_PER_DAY);
    partition(file).is_ok_and(|partition| {
        let is_environment = selection.environment.as_ref().is_none_or(|wanted| *wanted == partition.environment);
        is_environment && days.contains(&i64::from(partition.date))
    })
}

/// Environment and day of a file.
pub(super) fn partition(file: &LogicalFileView) -> Result<Partition, StoreError> {
    let values = file.partition_values_map();
    let value = |name: &str| values.get(name).cloned().flatten().unwrap_or_default();
    let date = value("date");
    match PrimitiveType::Date.parse_scalar(&date) {
        Ok(Scalar::Date(date)) => Ok(Partition { environment: value("environment"), date }),
        _ => Err(wrong(file, format!("`{date}` is no day"))),
    }
}

/// The time its first span started, as text that sorts by time; empty where statistics do not tell.
pub(super) fn start(file: &LogicalFileView) -> String {
    let stats: Option<serde_json::Value> = file.stats().and_then(|stats| serde_json::from_str(&stats).ok());
    let start = stats.as_ref().and_then(|stats| stats.pointer("/minValues/start_time")?.as_str());
    start.unwrap_or_default().to_owned()
}

fn wrong(file: &LogicalFileView, message: impl Into<String>) -> StoreError {
    StoreError::File { path: file.path().into_owned(), message: message.into() }
}

/// The rows of a file in pieces, with the columns of the table.
pub(super) struct Rows {
    stream: ParquetRecordBatchStream<Object>,
    columns: SchemaRef,
    total: usize,
    path: String,
}

/// Opens a file.
pub(super) async fn open(table: &Delta, file: &LogicalFileView, layout: &Layout) -> Result<Rows, StoreError> {
    if file.deletion_vector_descriptor().is_some() {
        return Err(wrong(file, "another tool has marked rows of it as deleted"));
    }
    let size = u64::try_from(file.size()).unwrap_or(0);
    let reader = Object { store: table.files(), path: file.object_store_path(), size };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(parquet)?;
    let groups = builder.metadata().row_groups();
    let count = |n: i64| usize::try_from(n).unwrap_or(0);
    let total: usize = groups.iter().map(|group| count(group.num_rows())).sum();
    let bytes: usize = groups.iter().map(|group| count(group.total_byte_size())).sum();
    let each = (bytes / total.max(1)).max(1);
    let stream = builder.with_batch_size((CHUNK_BYTES / each).clamp(1, MAX_CHUNK_ROWS)).build().map_err(parquet)?;
    Ok(Rows { stream, columns: layout.stored(), total, path: file.path().into_owned() })
}

/// A file as the Parquet reader asks for it.
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

/// Bytes from the end of a file that are read at once in the hope that they hold all that is said about it.
const FOOTER: usize = 64 << 10;

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Ok(self.store.get_range(&self.path, range).await?) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { Ok(self.store.get_ranges(&self.path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let size = self.size;
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER));
        async move { Ok(Arc::new(reader.load_and_finish(self, size).await?)) }.boxed()
    }
}

fn parquet(error: ParquetError) -> StoreError {
    StoreError::from(DeltaTableError::from(error))
}

impl Rows {
    /// How many there are.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The next of them.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        let Some(batch) = self.stream.try_next().await.map_err(parquet)? else { return Ok(None) };
        let columns = self.columns.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => Ok(cast(column, field.data_type())?),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
            None => {
                let message = format!("it lacks the column {}", field.name());
                Err(StoreError::File { path: self.path.clone(), message })
            }
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, StoreError>>()?;
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.columns), columns)?))
    }
}

/// Which rows started in the selected time.
pub(super) fn in_time(batch: &RecordBatch, selection: &Selection) -> Result<Vec<bool>, StoreError> {
    let missing = || StoreError::Column { column: "start_time", message: "it is not among the columns".to_owned() };
    let start = batch.column_by_name("start_time").ok_or_else(missing)?.as_primitive::<TimestampMicrosecondType>();
    let range = selection.from_micros..selection.to_micros;
    Ok((0..start.len()).map(|at| start.is_valid(at) && range.contains(&start.value(at))).collect())
}

/// A condition on rows, in SQL.
#[derive(Debug)]
pub(super) struct Condition(Arc<dyn PhysicalExpr>);

impl Condition {
    /// Reads a condition over the columns of the table.
    pub(super) fn parse(sql: &str, layout: &Layout) -> Result<Self, StoreError> {
        let context = SessionContext::new();
        let wrong = |error| StoreError::Condition(explain(&error).to_string());
        let columns = DFSchema::try_from(Arc::clone(&layout.all)).map_err(wrong)?;
        let expression = context.parse_sql_expr(sql, &columns).map_err(wrong)?;
        let expression = context.create_physical_expr(expression, &columns).map_err(wrong)?;
        match expression.data_type(&layout.all).map_err(wrong)? {
            DataType::Boolean => Ok(Self(expression)),
            other => Err(StoreError::Condition(format!("`{sql}` is not true or false but of type {other}"))),
        }
    }

    /// Leaves only the rows selected that fulfil it.
    pub(super) fn and(
        &self,
        file: &LogicalFileView,
        layout: &Layout,
        batch: &RecordBatch,
        selected: &mut [bool],
    ) -> Result<(), StoreError> {
        let (rows, partition) = (batch.num_rows(), partition(file)?);
        let columns = layout.all.fields().iter().map(|field| match field.name().as_str() {
            "environment" => Ok(Arc::new(StringArray::from(vec![partition.environment.as_str(); rows])) as ArrayRef),
            "date" => Ok(Arc::new(Date32Array::from(vec![partition.date; rows])) as ArrayRef),
            name => {
                batch.column_by_name(name).cloned().ok_or_else(|| wrong(file, format!("it lacks the column {name}")))
            }
        });
        let columns = columns.collect::<Result<Vec<_>, StoreError>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&layout.all), columns)?;
        let failed = |error| StoreError::Condition(explain(&error).to_string());
        let found = self.0.evaluate(&batch).and_then(|value| value.into_array(rows)).map_err(failed)?;
        let found: &BooleanArray = found.as_boolean();
        for (at, selected) in selected.iter_mut().enumerate() {
            *selected &= found.is_valid(at) && found.value(at);
        }
        Ok(())
    }
}
