mod metadata;
mod reload;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Barrier, mpsc};

use super::*;
use crate::batch::{Batch, wire};
use crate::clock::Environment;
use crate::config::{ConfigError, Document};
use crate::node::*;
use crate::receipt::{Outcome, Receipt};
use crate::signal::Signal;
use crate::telemetry::Telemetry;

/// A receiver that takes its batches from a channel of the test, and its id: that of one that nobody finds ends with
/// `lost`.
struct Feed(Mutex<Option<mpsc::UnboundedReceiver<Batch>>>, String);

impl Feed {
    fn has_something_to_read(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

#[async_trait]
impl Receiver for Feed {
    fn bind(&self, _: usize) -> Result<(), StartError> {
        if self.has_something_to_read() {
            return Ok(());
        }
        Err(StartError { component: "feed".to_owned(), message: "there is nothing to read from".to_owned() })
    }

    fn is_reachable(&self) -> bool {
        !self.1.ends_with("lost")
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    async fn run(self: Arc<Self>, _: usize, outlets: Outlets, mut shutdown: Shutdown) {
        let Some(mut batches) = self.0.lock().unwrap().take() else { return shutdown.requested().await };
        loop {
            tokio::select! {
                biased;
                batch = batches.recv() => match batch {
                    Some(batch) => outlets.get(batch.signal()).unwrap().send(batch).await,
                    None => return,
                },
                () = shutdown.requested() => return,
            }
        }
    }
}

/// A processor that holds everything back until it is drained.
struct Hold(Vec<Batch>);

impl Processor for Hold {
    fn process(&mut self, batch: Batch, _: &mut dyn FnMut(Batch)) {
        self.0.push(batch);
    }

    fn drain(&mut self, out: &mut dyn FnMut(Batch)) {
        self.0.drain(..).for_each(out);
    }
}

struct HoldFactory;

impl ProcessorFactory for HoldFactory {
    fn create(&self, _: usize) -> Box<dyn Processor> {
        Box::new(Hold(Vec::new()))
    }
}

/// An exporter that counts records and settles as its name says: `sink/refuse` rejects, and those that begin with
/// `sink/meet` let the pipeline wait until two of them have the batch.
struct Sink {
    seen: crate::telemetry::Counter,
    outcome: Outcome,
    meeting: Option<Arc<Barrier>>,
}

#[async_trait]
impl Exporter for Sink {
    async fn consume(&self, batch: Batch) {
        if let Some(meeting) = &self.meeting {
            meeting.wait().await;
        }
        self.seen.add(batch.len());
        batch.settle(&self.outcome);
    }

    async fn drain(&self) {}
}

struct SinkFactory(Context, Option<Arc<Barrier>>);

#[async_trait]
impl ExporterFactory for SinkFactory {
    fn create(&self, _: usize, _: Signal, _: Shutdown) -> Arc<dyn Exporter> {
        let rejects = self.0.id.ends_with("refuse");
        let outcome = if rejects { Outcome::Rejected("no".into()) } else { Outcome::Done };
        Arc::new(Sink {
            seen: self.0.telemetry.counter("seen", &[("exporter", &self.0.id)]),
            outcome,
            meeting: self.1.clone(),
        })
    }

    fn promise(&self) -> String {
        format!("{} has seen it", self.0.id)
    }
}

thread_local! {
    /// Where the `sink/meet` exporters built on this thread meet.
    static MEETING: std::cell::RefCell<Option<Arc<Barrier>>> = const { std::cell::RefCell::new(None) };
    /// What the next `feed` receiver built on this thread reads from.
    pub(super) static NEXT_FEED: std::cell::RefCell<Option<mpsc::UnboundedReceiver<Batch>>> = const { std::cell::RefCell::new(None) };
}

fn components() -> Components {
    fn feed(section: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
        Ok(Arc::new(Feed(Mutex::new(NEXT_FEED.take()), section.context.id.clone())))
    }
    fn hold(_: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
        Ok(Arc::new(HoldFactory))
    }
    fn sink(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
        let meeting = section.context.id.starts_with("sink/meet").then(|| {
            MEETING.with_borrow_mut(|meeting| Arc::clone(meeting.get_or_insert_with(|| Arc::new(Barrier::new(2)))))
        });
        Ok(Arc::new(SinkFactory(section.context.clone(), meeting)))
    }
    fn component<T>(
        name: &'static str,
        aliases: &'static [&'static str],
        build: fn(&Section<'_>) -> Result<T, ConfigError>,
    ) -> Component<T> {
        let stability = Stability::Stable;
        Component { name, aliases, signals: &[Signal::Traces], stability, schema: Forward::schema, build }
    }
    Components {
        receivers: vec![component("feed", &["old_feed"], feed)],
        processors: vec![component("hold", &[], hold)],
        exporters: vec![component("sink", &[], sink)],
        extensions: Vec::new(),
        connectors: vec![
            Component { signals: &Signal::ALL, ..component("forward", &[], Forward::build) },
            Component { signals: &Signal::ALL, ..component("routing", &[], Routing::build) },
        ],
        missing: &[],
    }
}

pub(super) fn build(yaml: &str, telemetry: &Telemetry) -> Result<Graph, String> {
    let document = Document::parse([("weir.yaml", yaml)], &|_| None).map_err(|e| e.to_string())?;
    let environment = Environment::with(|| 0, 1);
    Graph::build(&document, &components(), telemetry, &environment).map_err(|e| e.to_string())
}

fn one_span() -> Batch {
    let mut layers = vec![0x30, 0];
    for number in [2, 2, 1] {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, number, &layers);
        layers = outer;
    }
    Batch::decode(Signal::Traces, layers.into()).unwrap()
}

#[tokio::test]
async fn batches_reach_every_exporter_through_connectors_and_the_worst_outcome_comes_back() {
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    let telemetry = Telemetry::default();
    let graph = build(
        "
receivers: {old_feed: }
processors: {hold: }
exporters: {sink/a: , sink/refuse: }
connectors: {forward: }
service:
  pipelines:
    traces/in: {receivers: [old_feed], exporters: [sink/a, forward]}
    traces/out: {receivers: [forward], exporters: [sink/refuse, sink/a]}
",
        &telemetry,
    )
    .unwrap();
    let host = graph.host.clone();
    let running = start(graph, 2).await.unwrap();
    let has_data = async || tokio::time::timeout(Duration::ZERO, host.first_data()).await.is_ok();
    assert!(!has_data().await);
    let (receipt, waiter) = Receipt::pair();
    feed.send(one_span().with_receipt(receipt)).unwrap();
    assert_eq!(waiter.await, Outcome::Rejected("no".into()));
    assert!(has_data().await, "whoever waits for data is told");
    assert!(running.stop(Duration::from_secs(10)).await);
    let seen = |id: &str| telemetry.counter("seen", &[("exporter", id)]).get();
    assert_eq!((seen("sink/a"), seen("sink/refuse")), (2, 1));
}

#[tokio::test]
async fn an_exporter_that_makes_the_pipeline_wait_does_not_keep_the_batch_from_the_next() {
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    let telemetry = Telemetry::default();
    let graph = build(
        "
receivers: {feed: }
exporters: {sink/meet_a: , sink/meet_b: , sink/c: }
service: {pipelines: {traces: {receivers: [feed], exporters: [sink/meet_a, sink/meet_b, sink/c]}}}
",
        &telemetry,
    )
    .unwrap();
    let running = start(graph, 1).await.unwrap();
    for _ in 0..2 {
        let (receipt, waiter) = Receipt::pair();
        feed.send(one_span().with_receipt(receipt)).unwrap();
        // One after the other, the first would wait for ever.
        let outcome = tokio::time::timeout(Duration::from_secs(30), waiter).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
    }
    assert!(running.stop(Duration::from_secs(10)).await);
    assert_eq!(telemetry.sum("seen"), 6);
}

#[tokio::test]
async fn a_stop_lets_go_of_what_processors_hold_back() {
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    let telemetry = Telemetry::default();
    let graph = build(
        "
receivers: {feed: }
processors: {hold: , hold/again: }
exporters: {sink: }
service: {pipelines: {traces: {receivers: [feed], processors: [hold, hold/again], exporters: [sink]}}}
",
        &telemetry,
    )
    .unwrap();
    let running = start(graph, 1).await.unwrap();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let (receipt, waiter) = Receipt::pair();
            feed.send(one_span().with_receipt(receipt)).unwrap();
            waiter
        })
        .collect();
    assert!(running.stop(Duration::from_secs(10)).await);
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(telemetry.sum("seen"), 3);
}

#[test]
fn what_cannot_be_built_is_named_where_it_stands() {
    let refused = |yaml: &str| build(yaml, &Telemetry::default()).err().unwrap();
    assert_eq!(
        refused(
            "receivers: {feeds: }\nexporters: {sink: }\nservice: {pipelines: {traces: {receivers: [feeds], exporters: [sink]}}}\n"
        ),
        "weir.yaml:1:13: receivers: unknown type: \"feeds\" for id: \"feeds\": did you mean `feed`? valid values: [feed]"
    );
    assert_eq!(
        refused(
            "receivers: {feed: }\nexporters: {sink: }\nservice:\n  pipelines:\n    logs: {receivers: [feed], exporters: [sink]}\n"
        ),
        "weir.yaml:5:43: service::pipelines::logs: exporter \"sink\" does not support logs: it supports traces\n\
         weir.yaml:5:24: service::pipelines::logs: receiver \"feed\" does not support logs: it supports traces"
    );
}

#[test]
fn a_connector_joins_pipelines_of_its_own_signal() {
    let refused = |pipelines: &str| {
        let yaml = format!(
            "receivers: {{feed: }}\nexporters: {{sink: }}\nconnectors: {{forward: }}\nservice:\n  pipelines:\n{pipelines}"
        );
        build(&yaml, &Telemetry::default()).err()
    };
    assert_eq!(
        refused(
            "    traces/in: {receivers: [feed], exporters: [forward]}\n    logs: {receivers: [forward], exporters: [sink]}\n"
        )
        .unwrap(),
        "weir.yaml:6:48: connectors::forward: connector \"forward\" used as exporter in [traces/in] pipeline but not used \
         in any supported receiver pipeline\n\
         weir.yaml:7:24: connectors::forward: connector \"forward\" used as receiver in [logs] pipeline but not used \
         in any supported exporter pipeline"
    );
    assert_eq!(
        refused(
            "    traces/in: {receivers: [feed], exporters: [forward]}\n    traces: {receivers: [forward], exporters: [sink]}\n"
        ),
        None
    );
}

#[test]
fn promises_follow_the_pipelines() {
    let graph = build(
        "receivers: {feed: }\nexporters: {sink: }\nservice: {pipelines: {traces: {receivers: [feed], exporters: [sink]}}}\n",
        &Telemetry::default(),
    )
    .unwrap();
    let promises: Vec<String> = graph.promises().iter().map(|(p, e, s)| format!("{p} {e} {s}")).collect();
    assert_eq!(promises, ["traces sink sink has seen it"]);
}
