use std::path::Path;

use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::{Receipt, Waiter};
use weir_pipeline::telemetry::Telemetry;
use weir_pipeline::tenant::Tenant;
use weir_store::objects::DEFAULT_PROJECT;
use weir_store::query::{Engine, Format, write};

use super::*;

fn context() -> Context {
    Context::new("parquet", Telemetry::default(), Environment::system())
}

fn settings(directory: &Path) -> ParquetSettings {
    let url = directory.to_str().unwrap().to_owned();
    ParquetSettings { url, max_age: Duration::from_secs(3600), ..ParquetSettings::default() }
}

/// One span with this name, and who waits for it.
fn span(name: &str) -> (Batch, Waiter) {
    let wrap = |number, inner: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, inner);
        out
    };
    let request = wrap(1, &wrap(2, &wrap(2, &wrap(5, name.as_bytes()))));
    let (receipt, waiter) = Receipt::pair();
    (Batch::decode(Signal::Traces, request.into()).unwrap().with_receipt(receipt), waiter)
}

async fn names(directory: &Path) -> String {
    let engine = Engine::open(directory.to_str().unwrap(), &BTreeMap::new(), DEFAULT_PROJECT).await.unwrap();
    let batches = engine.collect("select name from spans order by name").await.unwrap();
    let mut out = Vec::new();
    write(&batches, Format::Csv, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn lanes_share_a_table_and_a_drain_does_not_wait_for_the_age() {
    let directory = tempfile::tempdir().unwrap();
    let context = context();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context).unwrap();
    let (_trigger, shutdown) = Shutdown::channel();
    let lanes = [0, 1].map(|lane| factory.create(lane, Signal::Traces, shutdown.clone()));
    let mut waiters = Vec::new();
    for (lane, name) in lanes.iter().zip(["a", "b"]) {
        let (batch, waiter) = span(name);
        lane.consume(batch).await;
        waiters.push(waiter);
    }
    for lane in &lanes {
        lane.drain().await;
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    factory.finish().await;
    assert_eq!(names(directory.path()).await, "name\na\nb\n");
    assert_eq!(context.telemetry.sum("otelcol_exporter_sent_spans"), 2);
}

#[tokio::test]
async fn a_stopping_process_flushes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context()).unwrap();
    let (trigger, shutdown) = Shutdown::channel();
    let lane = factory.create(0, Signal::Traces, shutdown);
    let (batch, waiter) = span("a");
    lane.consume(batch).await;
    trigger.request();
    assert_eq!(waiter.await, Outcome::Done);
    let (batch, waiter) = span("b");
    lane.consume(batch).await;
    assert_eq!(waiter.await, Outcome::Done);
    factory.finish().await;
}

#[tokio::test]
async fn other_signals_are_refused_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context()).unwrap();
    let (_trigger, shutdown) = Shutdown::channel();
    let lane = factory.create(0, Signal::Logs, shutdown);
    let (receipt, waiter) = Receipt::pair();
    lane.consume(Batch::empty(Signal::Logs).with_receipt(receipt)).await;
    assert!(matches!(waiter.await, Outcome::Rejected(reason) if reason.contains("log records")));
    assert!(Signal::ALL.map(ParquetExporterFactory::supports) == [true, false, false]);
    factory.finish().await;
}

#[test]
fn a_wrong_url_is_told_at_the_start() {
    let settings = ParquetSettings { url: "ftp://host/x".to_owned(), ..ParquetSettings::default() };
    let error = ParquetExporterFactory::new(&settings, &context()).unwrap_err().to_string();
    assert!(error.starts_with("store ftp://host/x: not a store"), "{error}");
}

#[tokio::test]
async fn the_promise_names_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context()).unwrap();
    assert!(factory.promise().contains(directory.path().to_str().unwrap()), "{}", factory.promise());
    factory.finish().await;
}

fn tenant(project: &str, environment: &str) -> Arc<Tenant> {
    Arc::new(Tenant::new(project.parse().unwrap(), environment.parse().unwrap()))
}

async fn rows(directory: &Path, project: &str) -> String {
    let engine = Engine::open(directory.to_str().unwrap(), &BTreeMap::new(), project).await.unwrap();
    let batches = engine.collect("select environment, name from spans order by name").await.unwrap();
    let mut out = Vec::new();
    write(&batches, Format::Csv, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn each_project_has_a_table_and_what_was_joined_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context()).unwrap();
    let (_trigger, shutdown) = Shutdown::channel();
    let lane = factory.create(0, Signal::Traces, shutdown);
    let (mut joined, first) = span("nobody's");
    let mut waiters = vec![first];
    for (project, environment, name) in
        [("web-app", "prd", "w1"), ("search", "prd", "s1"), ("web-app", "dev", "w2"), ("web-app", "prd", "w3")]
    {
        let (batch, waiter) = span(name);
        joined.append(batch.with_tenant(&tenant(project, environment)));
        waiters.push(waiter);
    }
    lane.consume(joined).await;
    lane.drain().await;
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    factory.finish().await;
    assert_eq!(rows(directory.path(), "web-app").await, "environment,name\nprd,w1\ndev,w2\nprd,w3\n");
    assert_eq!(rows(directory.path(), "search").await, "environment,name\nprd,s1\n");
    assert_eq!(rows(directory.path(), DEFAULT_PROJECT).await, "environment,name\ndefault,nobody's\n");
}

/// A process that has not heard that a project was deleted, and made again, goes on writing to the old one.
#[tokio::test]
async fn a_project_made_again_has_nothing_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let factory = ParquetExporterFactory::new(&settings(directory.path()), &context()).unwrap();
    let (_trigger, shutdown) = Shutdown::channel();
    let lane = factory.create(0, Signal::Traces, shutdown);
    let former = tenant("search", "prd");
    let again = Arc::new(Tenant { generation: 3, ..(*former).clone() });
    for (tenant, name) in [(&former, "old"), (&again, "new"), (&former, "late")] {
        let (batch, _) = span(name);
        lane.consume(batch.with_tenant(tenant)).await;
    }
    lane.drain().await;
    factory.finish().await;
    for (folder, expected) in [("search", "name\nlate\nold\n"), ("search.3", "name\nnew\n")] {
        assert!(directory.path().join("projects").join(folder).is_dir());
        assert_eq!(names_in(directory.path(), folder).await, expected, "{folder}");
    }
}

/// By the folder, whatever project it is of.
async fn names_in(directory: &Path, folder: &str) -> String {
    let moved = tempfile::tempdir().unwrap();
    let projects = moved.path().join("projects");
    std::fs::create_dir_all(&projects).unwrap();
    std::os::unix::fs::symlink(directory.join("projects").join(folder), projects.join(DEFAULT_PROJECT)).unwrap();
    names(moved.path()).await
}
