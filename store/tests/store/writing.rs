//! What the writer promises: receipts after the commit, bounded memory, nothing lost and nothing twice.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use weir_pipeline::clock::Environment;
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{ExporterCounters, Telemetry};
use weir_store::arrow::array::AsArray;
use weir_store::arrow::datatypes::Int64Type;
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::Engine;
use weir_store::writer::{Pool, Settings};

use crate::support::{self, impatient};

fn one_span(n: u64) -> Bytes {
    support::request(vec![], vec![support::span(n, vec![])])
}

async fn count(root: &Root, what: &str) -> i64 {
    let engine = Engine::over(root, DEFAULT_PROJECT).await.unwrap();
    let answer = engine.collect(&format!("select count({what}) from spans")).await.unwrap();
    answer[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_batch_can_be_queried() {
    let (_, root) = support::memory();
    let (writer, telemetry) = support::writer(&root);
    for n in 0..3 {
        let (batch, waiter) = support::awaited(one_span(n));
        writer.write(batch).await;
        assert_eq!(waiter.await, Outcome::Done);
        assert_eq!(count(&root, "*").await, n as i64 + 1);
    }
    assert_eq!(telemetry.sum("otelcol_exporter_sent_spans"), 3);
    assert_eq!(telemetry.sum("weir_exporter_in_flight_spans"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_wait_together_are_committed_together() {
    let (store, root) = support::memory();
    let (writer, _) =
        support::writer_with(Settings { max_age: Duration::from_secs(3600), ..Settings::default() }, &root);
    let mut waiters = Vec::new();
    for n in 0..20 {
        let (batch, waiter) = support::awaited(one_span(n));
        writer.write(batch).await;
        waiters.push(waiter);
    }
    writer.drain().await;
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    let log = Path::from("lake/projects/default/spans/_delta_log");
    let commits = store.list(Some(&log)).collect::<Vec<_>>().await.len();
    assert_eq!(commits, 2, "one commit to create the table and one for the spans");
    assert_eq!(count(&root, "*").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_is_written_before_its_time() {
    let (_, root) = support::memory();
    let settings =
        Settings { max_age: Duration::from_secs(3600), max_bytes: 1, max_buffered_bytes: 64, ..Settings::default() };
    let (writer, _) = support::writer_with(settings, &root);
    // More than there is room for at once, so each write waits for the ones before.
    for n in 0..10 {
        let (batch, waiter) = support::awaited(one_span(n));
        writer.write(batch).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(count(&root, "*").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_commit_stores_nothing_twice() {
    let faulty = Faulty::new(Fault::CommitAnswer, 3);
    let root = support::root_over(faulty.clone());
    let (writer, telemetry) = support::writer(&root);
    for n in 0..6 {
        let (batch, waiter) = support::awaited(one_span(n));
        writer.write(batch).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert!(faulty.left() == 0, "the faults must have happened");
    assert_eq!(count(&root, "*").await, 6);
    assert_eq!(count(&root, "distinct span_id").await, 6);
    assert_eq!(telemetry.sum("otelcol_exporter_sent_spans"), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_is_stored_once() {
    let (_, root) = support::memory();
    let settings = Settings { max_age: Duration::from_secs(3600), ..Settings::default() };
    let (writer, telemetry) = support::writer_with(settings, &root);
    let request = |spans: &[u64]| support::request(vec![], spans.iter().map(|n| support::span(*n, vec![])).collect());
    // In one flush, and in a later one, whole and in part.
    for spans in [&[1, 2][..], &[1, 2], &[1, 2], &[2, 3], &[3]] {
        let (batch, waiter) = support::awaited(request(spans));
        writer.write(batch).await;
        if spans != [1, 2] {
            writer.drain().await;
            assert_eq!(waiter.await, Outcome::Done);
        }
    }
    assert_eq!((count(&root, "*").await, count(&root, "distinct span_id").await), (3, 3));
    assert_eq!(telemetry.sum("otelcol_exporter_sent_spans"), 9, "everybody has been told that theirs is stored");
    // What differs in a byte, or in its resource, is another; and so is what has no id.
    let mut changed = support::span(1, vec![]);
    changed.name.push('!');
    let nameless = || opentelemetry_proto::tonic::trace::v1::Span { span_id: vec![], ..support::span(1, vec![]) };
    for request in [
        support::request(vec![], vec![changed]),
        support::request(vec![support::string("host.name", "other")], vec![support::span(1, vec![])]),
        support::request(vec![], vec![nameless(), nameless()]),
    ] {
        let (batch, waiter) = support::awaited(request);
        writer.write(batch).await;
        writer.drain().await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(count(&root, "*").await, 7);
}

/// Nobody is told that a span is stored because it came before, unless it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_waits_for_what_became_of_the_first() {
    for fault in [Fault::Commit, Fault::Data] {
        // All attempts of the first flush fail, and no other.
        let faulty = Faulty::new(fault, 3);
        let root = support::root_over(faulty.clone());
        let settings = Settings { max_age: Duration::from_secs(3600), backoff: impatient(), ..Settings::default() };
        let (writer, _) = support::writer_with(settings, &root);
        let mut waiters = Vec::new();
        for _ in 0..2 {
            let (batch, waiter) = support::awaited(one_span(1));
            writer.write(batch).await;
            waiters.push(waiter);
        }
        writer.drain().await;
        for waiter in waiters {
            assert!(matches!(waiter.await, Outcome::Retry { .. }), "{fault:?}");
        }
        assert_eq!(faulty.left(), 0, "{fault:?}: the faults must have happened");
        for _ in 0..2 {
            let (batch, waiter) = support::awaited(one_span(1));
            writer.write(batch).await;
            writer.drain().await;
            assert_eq!(waiter.await, Outcome::Done, "{fault:?}");
        }
        assert_eq!(count(&root, "*").await, 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_uploads_that_fail_are_tried_again() {
    for fault in [Fault::Commit, Fault::Data, Fault::Open] {
        let faulty = Faulty::new(fault, 2);
        let root = support::root_over(faulty.clone());
        let settings = Settings { max_age: Duration::from_millis(5), backoff: impatient(), ..Settings::default() };
        let (writer, _) = support::writer_with(settings, &root);
        let (batch, waiter) = support::awaited(one_span(1));
        writer.write(batch).await;
        assert_eq!(waiter.await, Outcome::Done, "{fault:?}");
        assert!(faulty.left() == 0, "{fault:?}: the faults must have happened");
        assert_eq!(count(&root, "*").await, 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stays_broken_sends_the_client_back() {
    for fault in [Fault::Commit, Fault::Data, Fault::Open] {
        let root = support::root_over(Faulty::new(fault, usize::MAX));
        let settings = Settings { max_age: Duration::from_millis(5), backoff: impatient(), ..Settings::default() };
        let (writer, telemetry) = support::writer_with(settings, &root);
        let (batch, waiter) = support::awaited(one_span(1));
        writer.write(batch).await;
        writer.drain().await;
        let outcome = waiter.await;
        assert!(
            matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("store")),
            "{fault:?}: {outcome:?}"
        );
        assert_eq!(telemetry.sum("otelcol_exporter_send_failed_spans"), 1, "{fault:?}");
        assert_eq!(telemetry.sum("weir_exporter_in_flight_spans"), 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_in_trouble_leaves_room_for_the_others() {
    let settings = Settings {
        max_age: Duration::from_millis(5),
        max_buffered_bytes: 4 * one_span(0).len(),
        backoff: impatient(),
        ..Settings::default()
    };
    let pool = Pool::start(settings, Environment::system(), None).unwrap();
    let writer = |root: &Root| {
        let counters = ExporterCounters::new(&Telemetry::default(), "parquet", Signal::Traces);
        pool.writer(counters, support::opening(root))
    };
    let (_, root) = support::memory();
    let (broken, well) = (writer(&support::root_over(Faulty::new(Fault::Open, usize::MAX))), writer(&root));
    let mut waiters = Vec::new();
    for n in 0..4 {
        let (batch, waiter) = support::awaited(one_span(n));
        broken.write(batch).await;
        waiters.push(waiter);
    }
    let outcome = waiters.pop().unwrap().await;
    assert!(
        matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("cannot be opened")),
        "the last one is told at once: {outcome:?}"
    );
    for n in 0..3 {
        let (batch, waiter) = support::awaited(one_span(n));
        well.write(batch).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(count(&root, "*").await, 3);
    broken.drain().await;
    for waiter in waiters {
        assert!(matches!(waiter.await, Outcome::Retry { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_writer_takes_nothing() {
    let (_, root) = support::memory();
    let (writer, telemetry) = support::writer(&root);
    writer.close().await;
    let (batch, waiter) = support::awaited(one_span(1));
    writer.write(batch).await;
    drop(writer);
    assert_ne!(waiter.await, Outcome::Done);
    assert_eq!(telemetry.sum("otelcol_exporter_sent_spans"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_are_checkpointed_and_stay_readable() {
    let (store, root) = support::memory();
    let (writer, _) = support::writer(&root);
    for n in 0..55 {
        let (batch, waiter) = support::awaited(one_span(n));
        writer.write(batch).await;
        writer.drain().await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    writer.close().await;
    let log = Path::from("lake/projects/default/spans/_delta_log");
    let files = store.list(Some(&log)).map(|meta| meta.unwrap().location.to_string()).collect::<Vec<_>>().await;
    assert!(files.iter().any(|file| file.ends_with(".checkpoint.parquet")), "{files:?}");
    assert_eq!(count(&root, "*").await, 55);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_environment_is_a_partition() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path().to_str().unwrap(), &Default::default()).unwrap();
    let (writer, _) = support::writer(&root);
    let long = "ü".repeat(300);
    let emoji = "🦀".repeat(100);
    let names =
        ["a/b", "..", ".", "🦀", &long, &emoji, "", "a=b&c%2F d", "__HIVE_DEFAULT_PARTITION__", "nul\0l", "pro'd\""];
    for (name, n) in names.iter().zip(0..) {
        let resource = vec![support::string("deployment.environment.name", name)];
        let (batch, waiter) = support::awaited(support::request(resource, vec![support::span(n, vec![])]));
        writer.write(batch).await;
        writer.drain().await;
        assert_eq!(waiter.await, Outcome::Done, "{name:?}");
    }
    let engine = Engine::over(&root, DEFAULT_PROJECT).await.unwrap();
    for (name, n) in names.iter().zip(0u64..) {
        let sql = format!("select environment from spans where span_id = '{:016x}'", n + 1);
        let answer = engine.collect(&sql).await.unwrap();
        let column =
            weir_store::arrow::compute::cast(answer[0].column(0), &weir_store::arrow::datatypes::DataType::Utf8);
        let found = column.unwrap().as_string::<i32>().value(0).to_owned();
        let cut: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        match *name {
            "" => assert_eq!(found, "default"),
            _ => assert!(!found.is_empty() && cut.starts_with(&found), "{name:?} became {found:?}"),
        }
        let filtered = format!("select count(*) from spans where environment = '{}'", found.replace('\'', "''"));
        let answer = engine.collect(&filtered).await.unwrap();
        assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), 1, "{name:?}");
    }
}

// === A store that fails ===

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The commit is made, but the answer is an error.
    CommitAnswer,
    /// The commit is not made.
    Commit,
    /// Data files cannot be written.
    Data,
    /// The log cannot be listed.
    Open,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    store: Arc<InMemory>,
    fault: Fault,
    left: AtomicUsize,
}

impl Faulty {
    fn new(fault: Fault, times: usize) -> Arc<Self> {
        Self::over(Arc::new(InMemory::new()), fault, times)
    }

    pub(crate) fn over(store: Arc<InMemory>, fault: Fault, times: usize) -> Arc<Self> {
        Arc::new(Self { store, fault, left: AtomicUsize::new(times) })
    }

    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// Whether the fault happens now.
    fn strikes(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "Faulty", source: "broken for the test".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_commit = location.as_ref().ends_with(".json") && !location.as_ref().ends_with("00000.json");
        let is_data = location.as_ref().contains("environment=");
        match self.fault {
            Fault::CommitAnswer if is_commit => {
                let result = self.store.put_opts(location, payload, options).await;
                if result.is_ok() && self.strikes() { Err(broken()) } else { result }
            }
            Fault::Commit if is_commit && self.strikes() => Err(broken()),
            Fault::Data if is_data && self.strikes() => Err(broken()),
            _ => self.store.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fault == Fault::Open && self.strikes() {
            return futures::stream::once(async { Err(broken()) }).boxed();
        }
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}
