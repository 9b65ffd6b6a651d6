//! Tables that an older version made.

use std::path::Path;

use deltalake::DeltaTable;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::Schema;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use url::Url;
use weir_pipeline::receipt::Outcome;
use weir_store::convert::{Converter, Rows, Stamp};
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::{Engine, Format, write};
use weir_store::table::Delta;
use weir_store::{rebuild, schema};

use crate::support::{self, assert_same_spans, attribute, canonical, string};

/// Columns that came after the first version.
const ADDED: [&str; 8] = [
    "cost_status",
    "cost_source",
    "cost_deferred_to",
    "cost_caveat",
    "given_cost",
    "previous_total_cost",
    "previous_price_version",
    "recost_time",
];

pub(crate) fn call(n: u64) -> bytes::Bytes {
    let attributes = vec![
        string("weir.cost.status", "priced"),
        string("weir.cost.price_id", "openai/x"),
        attribute("gen_ai.usage.cost.amount", Value::DoubleValue(n as f64)),
        attribute("operation.cost", Value::DoubleValue(9.0)),
    ];
    support::request(vec![string("service.name", "shop")], vec![support::span(n, attributes)])
}

/// The schema of the first version.
fn first() -> Schema {
    let fields =
        schema::spans().fields().iter().filter(|f| !ADDED.contains(&f.name().as_str())).cloned().collect::<Vec<_>>();
    Schema::new(fields)
}

/// What the first version did when it was started on an empty store.
pub(crate) async fn old_table(folder: &Path) -> DeltaTable {
    let folder = folder.join("projects/default/spans");
    std::fs::create_dir_all(&folder).unwrap();
    let columns: StructType = (&first()).try_into_kernel().unwrap();
    CreateBuilder::new()
        .with_location(Url::from_directory_path(folder).unwrap().as_str())
        .with_columns(columns.fields().cloned())
        .with_partition_columns(schema::PARTITION_COLUMNS)
        .await
        .unwrap()
}

/// What it did with a request.
pub(crate) async fn append_as_of_old(table: &DeltaTable, request: &[u8]) {
    let mut rows = Rows::default();
    let batch = support::batch(request);
    rows.add(&batch);
    rows.sort();
    let stamp = Stamp { ingest_micros: 1, source: "old".to_owned(), seq: 1 };
    let batch = Converter::default().convert(&rows, 0..rows.len(), &stamp).unwrap();
    let old = first();
    let columns = old.fields().iter().map(|field| batch.column_by_name(field.name()).unwrap().clone()).collect();
    let batch = RecordBatch::try_new(old.into(), columns).unwrap();
    let partitions = schema::PARTITION_COLUMNS.map(str::to_owned).to_vec();
    let none = buoyant_kernel::table_properties::DataSkippingNumIndexedCols::NumColumns(0);
    let mut writer = DeltaWriter::new(
        table.object_store(),
        WriterConfig::new(batch.schema(), partitions, None, None, None, none, None),
    );
    writer.write(&batch).await.unwrap();
    let files = writer.close().await.unwrap();
    let mut table = table.clone();
    table.update_incremental(None).await.unwrap();
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    CommitBuilder::default()
        .with_actions(files.into_iter().map(Action::Add).collect())
        .build(Some(table.snapshot().unwrap()), table.log_store(), operation)
        .await
        .unwrap();
}

async fn append(root: &Root, request: bytes::Bytes) {
    let (writer, _) = support::writer(root);
    let (batch, waiter) = support::awaited(request);
    writer.write(batch).await;
    writer.close().await;
    assert_eq!(waiter.await, Outcome::Done);
}

async fn csv(root: &Root, sql: &str) -> String {
    let engine = Engine::over(root, DEFAULT_PROJECT).await.unwrap();
    let mut out = Vec::new();
    write(&engine.collect(sql).await.unwrap(), Format::Csv, &mut out).unwrap();
    String::from_utf8(out).unwrap().split_once('\n').unwrap().1.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_an_older_version_is_read_and_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let old = old_table(folder.path()).await;
    append_as_of_old(&old, &call(1)).await;
    // As long as no writer of this version has opened it, it is as it was, and can be asked.
    assert_eq!(csv(&root, "select name, total_cost from spans").await, "span 1,1.000000000000");
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    let rows = engine.collect("select * from spans").await.unwrap();
    assert_eq!(rows[0].num_columns(), schema::spans().fields().len() - ADDED.len());

    append(&root, call(2)).await;
    // An older collector still runs, and does not know of the columns.
    append_as_of_old(&old, &call(3)).await;
    append(&root, call(4)).await;
    let all = "select name, total_cost, cost_status, cost_source from spans order by name";
    assert_eq!(
        csv(&root, all).await,
        "span 1,1.000000000000,,\nspan 2,2.000000000000,priced,local\nspan 3,3.000000000000,,\nspan 4,4.000000000000,priced,local"
    );
    assert_eq!(csv(&root, "select sum(total_cost), count(cost_status) from spans").await, "10.000000000000,2");
    assert_eq!(csv(&root, "select count(*) from spans where cost_status is null").await, "2");
    let rows = Engine::over(&root, DEFAULT_PROJECT).await.unwrap().collect("select * from spans").await.unwrap();
    let rebuilt: Vec<u8> = rows.iter().flat_map(|rows| rebuild::request(rows).unwrap()).collect();
    let expected: Vec<u8> = (1..=4).flat_map(call).collect();
    assert_same_spans("old and new", &canonical(&expected), &canonical(&rebuilt));
    let columns: Vec<_> = rows[0].schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(columns.len(), schema::spans().fields().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_collectors_may_open_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    append_as_of_old(&old_table(folder.path()).await, &call(1)).await;
    let opened = futures::future::join_all((0..6).map(|_| Delta::create(&root, DEFAULT_PROJECT))).await;
    for table in opened {
        let table = table.unwrap();
        let schema = table.delta().snapshot().unwrap().schema();
        assert!(ADDED.iter().all(|name| schema.field(name).is_some()));
    }
    // The table, the old file, and the columns once.
    let version = Delta::open(&root, DEFAULT_PROJECT).await.unwrap().delta().version();
    assert_eq!(version, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let columns: StructType = (&Schema::new(first().fields()[..8].to_vec())).try_into_kernel().unwrap();
    let spans = folder.path().join("projects/default/spans");
    std::fs::create_dir_all(&spans).unwrap();
    CreateBuilder::new()
        .with_location(Url::from_directory_path(spans).unwrap().as_str())
        .with_columns(columns.fields().cloned())
        .await
        .unwrap();
    let error = Delta::create(&root, DEFAULT_PROJECT).await.unwrap_err().to_string();
    assert!(error.contains("the table lacks it"), "{error}");
}
