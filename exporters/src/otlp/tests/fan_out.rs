//! A whole graph with one destination that answers and one that does not.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::mpsc;
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::{ConfigError, Document};
use weir_pipeline::graph::{Component, Components, Forward, Graph, Section, Stability, start};
use weir_pipeline::node::{Outlets, Receiver, StartError};
use weir_pipeline::receipt::Receipt;

use super::stub::{Answer, Stub};
use super::*;
use crate::testing::request;

thread_local! {
    /// What the next `feed` receiver built on this thread reads from.
    static NEXT_FEED: std::cell::RefCell<Option<mpsc::UnboundedReceiver<Batch>>> = const { std::cell::RefCell::new(None) };
}

/// A receiver that takes its batches from a channel of the test.
struct Feed(Mutex<Option<mpsc::UnboundedReceiver<Batch>>>);

#[async_trait]
impl Receiver for Feed {
    fn bind(&self, _: usize) -> Result<(), StartError> {
        Ok(())
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

fn components() -> Components {
    fn feed(_: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
        Ok(Arc::new(Feed(Mutex::new(NEXT_FEED.take()))))
    }
    fn otlp_http(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
        Ok(Arc::new(OtlpHttp::from_config(section.node, section.path, section.signals, &section.context)?))
    }
    fn component<T>(name: &'static str, build: fn(&Section<'_>) -> Result<T, ConfigError>) -> Component<T> {
        let (stability, schema) = (Stability::Stable, Forward::schema);
        Component { name, aliases: &[], signals: &[Signal::Traces], stability, schema, build }
    }
    Components {
        receivers: vec![component("feed", feed)],
        exporters: vec![component("otlp_http", otlp_http)],
        ..Components::default()
    }
}

const BATCHES: usize = 40;

/// Sends batches of one span through a pipeline whose first exporter's destination never answers. Returns how they were
/// settled, the number of records the dead exporter dropped, and asserts that the other destination has each span once.
async fn through(dead_queue: &str) -> (Vec<Outcome>, u64) {
    let healthy = Stub::http([]).await;
    let dead = Stub::http((0..2 * BATCHES).map(|_| Answer::never())).await;
    let yaml = format!(
        "
receivers: {{feed: }}
exporters:
  otlp_http/dead: {{endpoint: 'http://{}', compression: none, timeout: 60s, sending_queue: {dead_queue}}}
  otlp_http/healthy: {{endpoint: 'http://{}', compression: none, sending_queue: {{wait_for_result: true}}}}
service: {{pipelines: {{traces: {{receivers: [feed], exporters: [otlp_http/dead, otlp_http/healthy]}}}}}}
",
        dead.address, healthy.address
    );
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    let document = Document::parse([("weir.yaml", yaml.as_str())], &|_| None).unwrap();
    let telemetry = Telemetry::default();
    let graph = Graph::build(&document, &components(), &telemetry, &Environment::with(|| 0, 1)).unwrap();
    let running = start(graph, 1).await.unwrap();
    let mut outcomes = Vec::new();
    for i in 0..BATCHES {
        let (receipt, waiter) = Receipt::pair();
        let data = Batch::decode(Signal::Traces, request(1, i)).unwrap();
        feed.send(data.with_receipt(receipt)).unwrap();
        outcomes.push(tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap());
    }
    let mut arrived: Vec<_> = healthy.arrived().into_iter().map(|a| a.body).collect();
    arrived.sort_by_key(bytes::Bytes::len);
    let expected: Vec<_> = (0..BATCHES).map(|i| request(1, i)).collect();
    assert!(arrived == expected, "each span once, and none of them waited for the other destination");
    let dropped = telemetry.sum("weir_exporter_dropped");
    let sent = telemetry.sum("otelcol_exporter_sent_spans");
    assert_eq!((sent, telemetry.sum("weir_exporter_in_flight_spans")), (BATCHES as u64, BATCHES as u64 - dropped));
    drop(dead);
    assert!(running.stop(Duration::from_secs(20)).await);
    (outcomes, dropped)
}

#[tokio::test]
async fn a_destination_that_is_away_disturbs_nobody_while_its_queue_has_room() {
    let (outcomes, dropped) = through("{}").await;
    assert!(outcomes.iter().all(|o| *o == Outcome::Done), "{outcomes:?}");
    assert_eq!(dropped, 0);
}

#[tokio::test]
async fn nor_when_it_is_full_if_it_may_drop() {
    let (outcomes, dropped) = through("{queue_size: 10, drop_on_overflow: true}").await;
    assert!(outcomes.iter().all(|o| *o == Outcome::Done), "{outcomes:?}");
    assert_eq!(dropped, BATCHES as u64 - 10);
}

#[tokio::test]
async fn by_default_a_full_queue_disturbs_nobody_who_has_taken_the_data() {
    let (outcomes, dropped) = through("{queue_size: 10}").await;
    assert!(outcomes.iter().all(|o| *o == Outcome::Done), "{outcomes:?}");
    assert_eq!(dropped, BATCHES as u64 - 10);
}

#[tokio::test]
async fn one_that_may_not_drop_tells_the_client_to_come_again() {
    let (outcomes, dropped) = through("{queue_size: 10, drop_on_overflow: false}").await;
    let full = Outcome::Retry { after: None, reason: "sending queue is full".into() };
    assert_eq!(outcomes.iter().filter(|o| **o == full).count(), BATCHES - 10);
    assert_eq!(dropped, BATCHES as u64 - 10);
}
