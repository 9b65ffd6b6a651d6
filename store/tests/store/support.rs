//! What the tests share.

#[path = "../../../tests/support/corpus.rs"]
pub(crate) mod files;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use url::Url;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::clock::Environment;
use weir_pipeline::otlp::json;
use weir_pipeline::receipt::{Receipt, Waiter};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{ExporterCounters, Telemetry};
use weir_store::StoreError;
use weir_store::commit::Backoff;
use weir_store::convert::Stamp;
use weir_store::objects::{DEFAULT_PROJECT, Root};
use weir_store::query::{Engine, Format, write};
use weir_store::registry::Registry;
use weir_store::table::{AppTransaction, DataFile, Delta, Table};
use weir_store::writer::{Open, Settings, Writer, write_files};

/// Every trace request of the corpus, by name; those in JSON as protobuf.
pub(crate) fn corpus() -> Vec<(String, Bytes)> {
    let protobuf = |(path, bytes): (String, Vec<u8>)| {
        let bytes = if path.ends_with(".json") {
            json::to_protobuf(message_of(Signal::Traces), &bytes, json::Limits::default()).unwrap()
        } else {
            bytes
        };
        (path, bytes.into())
    };
    files::files("traces/").into_iter().map(protobuf).collect()
}

/// A request as a sorted list of its spans, each with its resource and scope, with its attributes sorted.
pub(crate) fn canonical(request: &[u8]) -> Vec<Vec<u8>> {
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let mut span = span.clone();
                span.attributes.sort_by_key(Message::encode_to_vec);
                let scope = ScopeSpans { spans: vec![span], ..scope.clone() };
                let alone = ResourceSpans { scope_spans: vec![scope], ..resource.clone() };
                spans.push(alone.encode_to_vec());
            }
        }
    }
    spans.sort();
    spans
}

/// Says where two lists of [`canonical`] spans differ.
pub(crate) fn assert_same_spans(what: &str, expected: &[Vec<u8>], found: &[Vec<u8>]) {
    let show = |spans: &[Vec<u8>], other: &[Vec<u8>]| {
        let only = spans.iter().find(|span| !other.contains(span))?;
        Some(format!("{:#?}", ResourceSpans::decode(&only[..]).unwrap()))
    };
    assert!(
        expected == found,
        "{what}: {} spans went in, {} came out; lost: {:?} and got: {:?}",
        expected.len(),
        found.len(),
        show(expected, found),
        show(found, expected),
    );
}

/// A root in memory.
pub(crate) fn memory() -> (Arc<InMemory>, Root) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), root_over(store))
}

pub(crate) fn root_over(store: Arc<dyn ObjectStore>) -> Root {
    Root::with_store(store, Url::parse("memory:///lake/").unwrap())
}

/// A writer of its own process, as it were, and its counters.
pub(crate) fn writer(root: &Root) -> (Writer, Telemetry) {
    writer_with(Settings { max_age: Duration::from_millis(20), threads: 2, ..Settings::default() }, root)
}

/// Opens the table of the spans, and creates it if need be.
pub(crate) fn opening(root: &Root) -> Open {
    let root = root.clone();
    Box::new(move || {
        let root = root.clone();
        Box::pin(async move { Ok(Box::new(Delta::create(&root, DEFAULT_PROJECT).await?) as Box<dyn Table>) })
    })
}

pub(crate) fn writer_with(settings: Settings, root: &Root) -> (Writer, Telemetry) {
    let open = opening(root);
    let telemetry = Telemetry::default();
    let counters = ExporterCounters::new(&telemetry, "parquet", Signal::Traces);
    (Writer::start(settings, Environment::system(), counters, open).unwrap(), telemetry)
}

/// Retries that end soon.
pub(crate) fn impatient() -> Backoff {
    Backoff { attempts: 3, first: Duration::from_millis(1), most: Duration::from_millis(2) }
}

/// The batch that a request is.
pub(crate) fn batch(request: &[u8]) -> Batch {
    Batch::decode(Signal::Traces, Bytes::copy_from_slice(request)).unwrap()
}

/// A batch and who waits for it.
pub(crate) fn awaited(request: Bytes) -> (Batch, Waiter) {
    let (receipt, waiter) = Receipt::pair();
    (Batch::decode(Signal::Traces, request).unwrap().with_receipt(receipt), waiter)
}

pub(crate) fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

pub(crate) fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// One request with these spans.
pub(crate) fn request(resource: Vec<KeyValue>, spans: Vec<Span>) -> Bytes {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// A span with an id made of `n`, in the morning of 2026-11-21.
pub(crate) fn span(n: u64, attributes: Vec<KeyValue>) -> Span {
    let start = 1_795_248_000_000_000_000 + n * 1_000_000;
    Span {
        trace_id: (u128::from(n / 4) + 1).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: format!("span {n}"),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 5_000_000,
        attributes,
        ..Span::default()
    }
}

// === Several projects ===

/// Nanoseconds of a day.
pub(crate) const DAY: u64 = 86_400_000_000_000;

/// A clock that runs, and can be put forward by so many nanoseconds.
pub(crate) fn clock() -> (Environment, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let (real, by) = (Environment::system(), Arc::clone(&ahead));
    (Environment::with(move || real.now_unix_nanos() + by.load(Ordering::SeqCst), 7), ahead)
}

/// Commits spans of an environment of a project that began so many days ago.
pub(crate) async fn append(root: &Root, project: &str, environment: &str, days_ago: u64, spans: u64) {
    append_to(root, &folder(root, project).await, environment, days_ago, spans).await;
}

/// The same in a folder, whoever has it.
pub(crate) async fn append_to(root: &Root, folder: &str, environment: &str, days_ago: u64, spans: u64) {
    let files = upload_to(root, folder, environment, days_ago, spans).await;
    commit_to(root, folder, &files).await;
}

/// Files that are written and not committed.
pub(crate) async fn upload(root: &Root, project: &str, environment: &str, days_ago: u64, spans: u64) -> Vec<DataFile> {
    upload_to(root, &folder(root, project).await, environment, days_ago, spans).await
}

async fn upload_to(root: &Root, folder: &str, environment: &str, days_ago: u64, spans: u64) -> Vec<DataFile> {
    let start = Environment::system().now_unix_nanos() - days_ago * DAY;
    let spans =
        (0..spans).map(|n| Span { start_time_unix_nano: start, end_time_unix_nano: start + 5, ..span(n, vec![]) });
    let request = request(vec![string("deployment.environment.name", environment)], spans.collect());
    let files = Delta::create(root, folder).await.unwrap().files();
    let stamp = Stamp { ingest_micros: 1, source: "test".to_owned(), seq: 1 };
    write_files(files, &[&batch(&request)], &stamp).await.unwrap()
}

/// Where a project's data are; of one that is not there, where those of the next of its name would be.
async fn folder(root: &Root, project: &str) -> String {
    Registry::new(root, Environment::system()).folder_of(&project.parse().unwrap()).await.unwrap()
}

pub(crate) async fn commit(root: &Root, project: &str, files: &[DataFile]) {
    commit_to(root, &folder(root, project).await, files).await;
}

async fn commit_to(root: &Root, folder: &str, files: &[DataFile]) {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let mut table = Delta::create(root, folder).await.unwrap();
    let application = format!("test/{}", WRITERS.fetch_add(1, Ordering::SeqCst));
    table.try_append(files, &AppTransaction { application, version: 1 }).await.unwrap();
}

/// The number of spans by environment: `dev 3, prd 4`.
pub(crate) async fn counts(root: &Root, project: &str) -> String {
    let sql = "select environment || ' ' || count(*) as n from spans group by environment order by environment";
    let engine = match Engine::over(root, project).await {
        Ok(engine) => engine,
        Err(StoreError::NoTable { .. }) => return "no table".to_owned(),
        Err(error) => panic!("{error}"),
    };
    let mut csv = Vec::new();
    write(&engine.collect(sql).await.unwrap(), Format::Csv, &mut csv).unwrap();
    String::from_utf8(csv).unwrap().lines().skip(1).collect::<Vec<_>>().join(", ")
}

/// The paths of all objects below a folder.
pub(crate) async fn objects(store: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let objects = store.list(Some(&object_store::path::Path::from(folder)));
    objects.map(|object| object.unwrap().location.to_string()).collect().await
}
