//! Going over to another graph while data flows.

use super::*;

/// A document, a running graph of it, and where its receiver reads from.
struct Bench {
    telemetry: Telemetry,
    running: Running,
    feed: mpsc::UnboundedSender<Batch>,
}

fn document(yaml: &str) -> Document {
    Document::parse([("weir.yaml", yaml)], &|_| None).unwrap()
}

/// A configuration with one receiver, which is configured by `feed`.
fn yaml(feed: &str, processors: &str, exporters: &str) -> String {
    format!(
        "receivers: {{feed: {feed}}}
processors: {{hold: , hold/again: }}
exporters: {{sink: , sink/b: , sink/refuse: }}
service: {{pipelines: {{traces: {{receivers: [feed], processors: [{processors}], exporters: [{exporters}]}}}}}}
"
    )
}

impl Bench {
    async fn start(yaml: &str) -> Self {
        let (feed, batches) = mpsc::unbounded_channel();
        NEXT_FEED.set(Some(batches));
        let telemetry = Telemetry::default();
        let running = start(build(yaml, &telemetry).unwrap(), 2).await.unwrap();
        Self { telemetry, running, feed }
    }

    async fn reload(&mut self, yaml: &str) -> Result<(), RunError> {
        let environment = Environment::with(|| 0, 1);
        let graph = self.running.graph().rebuild(&document(yaml), &components(), &environment).unwrap();
        self.running.reload(graph).await
    }

    fn send(&self) -> crate::receipt::Waiter {
        let (receipt, waiter) = Receipt::pair();
        self.feed.send(one_span().with_receipt(receipt)).unwrap();
        waiter
    }

    /// How many records the processors have been handed so far.
    async fn handed(&self, count: u64) {
        tokio::time::timeout(Duration::from_secs(60), async {
            while self.telemetry.sum("otelcol_processor_incoming_items") < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    }

    fn seen(&self, exporter: &str) -> u64 {
        self.telemetry.counter("seen", &[("exporter", exporter)]).get()
    }

    async fn stop(self) {
        assert!(self.running.stop(Duration::from_secs(10)).await);
    }
}

#[tokio::test]
async fn a_processor_that_stays_keeps_what_it_holds() {
    let mut bench = Bench::start(&yaml("", "hold", "sink")).await;
    let waiter = bench.send();
    bench.handed(1).await;
    bench.reload(&yaml("", "hold", "sink/b, sink")).await.unwrap();
    assert_eq!((bench.seen("sink"), bench.seen("sink/b")), (0, 0), "it is still held");
    let another = bench.send();
    bench.handed(2).await;
    let telemetry = bench.telemetry.clone();
    bench.stop().await;
    assert_eq!((waiter.await, another.await), (Outcome::Done, Outcome::Done));
    let seen = |id: &str| telemetry.counter("seen", &[("exporter", id)]).get();
    assert_eq!((seen("sink"), seen("sink/b")), (2, 2));
}

#[tokio::test]
async fn a_processor_that_goes_lets_go_of_what_it_holds_to_the_old_ends() {
    let mut bench = Bench::start(&yaml("", "hold", "sink")).await;
    let waiter = bench.send();
    bench.handed(1).await;
    bench.reload(&yaml("", "", "sink/b")).await.unwrap();
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!((bench.seen("sink"), bench.seen("sink/b")), (1, 0));
    assert_eq!(bench.send().await, Outcome::Done);
    assert_eq!((bench.seen("sink"), bench.seen("sink/b")), (1, 1));
    bench.stop().await;
}

#[tokio::test]
async fn connectors_and_pipelines_come_and_go() {
    let direct = yaml("", "", "sink");
    let connected = "receivers: {feed: }
processors: {hold: , hold/again: }
exporters: {sink: , sink/b: , sink/refuse: }
connectors: {forward: }
service:
  pipelines:
    traces: {receivers: [feed], exporters: [forward]}
    traces/out: {receivers: [forward], exporters: [sink, sink/b]}
";
    let mut bench = Bench::start(&direct).await;
    for round in 1..=3 {
        assert_eq!(bench.send().await, Outcome::Done);
        bench.reload(connected).await.unwrap();
        assert_eq!(bench.running.graph().host.layout().pipelines.len(), 2);
        assert_eq!(bench.send().await, Outcome::Done);
        assert_eq!((bench.seen("sink"), bench.seen("sink/b")), (2 * round, round));
        bench.reload(&direct).await.unwrap();
    }
    assert!(bench.telemetry.balances().iter().all(|balance| balance.in_transfer == 0));
    bench.stop().await;
}

#[tokio::test]
async fn a_receiver_that_cannot_bind_changes_nothing() {
    let mut bench = Bench::start(&yaml("", "", "sink")).await;
    // A mapping is another configuration than none; this `feed` refuses to bind a second time.
    let error = bench.reload(&yaml("{}", "hold", "sink/b")).await.unwrap_err();
    assert_eq!(error.to_string(), "feed: there is nothing to read from");
    assert_eq!(bench.send().await, Outcome::Done);
    assert_eq!((bench.seen("sink"), bench.seen("sink/b")), (1, 0));
    bench.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_replaced_hands_on_what_it_has() {
    let mut bench = Bench::start(&yaml("", "", "sink")).await;
    let before: Vec<_> = (0..10).map(|_| bench.send()).collect();
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    bench.reload(&yaml("{}", "", "sink/refuse")).await.unwrap();
    for waiter in before {
        // Which of the two graphs had it is a matter of luck; that one of them did is not.
        assert_ne!(waiter.await, Outcome::Lost);
    }
    bench.feed = feed;
    assert_eq!(bench.send().await, Outcome::Rejected("no".into()));
    bench.stop().await;
}

#[tokio::test]
async fn only_what_is_configured_otherwise_is_built_anew() {
    let telemetry = Telemetry::default();
    let graph = build(&yaml("", "hold, hold/again", "sink"), &telemetry).unwrap();
    let environment = Environment::with(|| 0, 1);
    let rebuild = |yaml: &str| graph.rebuild(&document(yaml), &components(), &environment).unwrap();
    // Other lines, the same settings.
    let same = rebuild(&format!("\n# moved\n{}", yaml("", "hold/again", "sink")));
    let is_one = |a: &Graph, b: &Graph| Arc::ptr_eq(&a.receivers[0].receiver, &b.receivers[0].receiver);
    assert!(is_one(&graph, &same));
    assert!(Arc::ptr_eq(&graph.exporters[0].factory, &same.exporters[0].factory));
    assert!(Arc::ptr_eq(&graph.pipelines[0].processors[1].factory, &same.pipelines[0].processors[0].factory));
    // One that clients cannot find is worth nothing as it is.
    let lost = yaml("", "hold", "sink").replace("feed", "feed/lost");
    let before = build(&lost, &telemetry).unwrap();
    let after = before.rebuild(&document(&lost), &components(), &environment).unwrap();
    assert!(!is_one(&before, &after));
    let other = rebuild(&yaml("{}", "hold/again", "sink"));
    assert!(!is_one(&graph, &other));
    assert!(Arc::ptr_eq(&graph.exporters[0].factory, &other.exporters[0].factory));
}
