use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::batch::{NewValue, wire};
use crate::channel::{Intake, channel};
use crate::clock::Environment;
use crate::config::Node;
use crate::graph::tests::{NEXT_FEED, build};
use crate::metadata::Metadata;
use crate::node::Context;
use crate::receipt::{Receipt, Waiter};

fn wrap(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, number, body);
    out
}

/// An attribute as field `number` of its message.
fn attribute(number: u32, key: &str, value: &str) -> Vec<u8> {
    wrap(number, &[wrap(1, key.as_bytes()), wrap(2, &wrap(1, value.as_bytes()))].concat())
}

/// Spans named `a`, `b`, …: of each resource (env, one region a span).
fn traces(resources: &[(&str, &[&str])]) -> (Batch, Waiter) {
    let mut names = 'a'..;
    let mut request = Vec::new();
    for (env, regions) in resources {
        let spans: Vec<u8> = regions
            .iter()
            .flat_map(|region| {
                let name = names.next().unwrap().to_string();
                wrap(2, &[wrap(5, name.as_bytes()), attribute(9, "region", region)].concat())
            })
            .collect();
        request.extend(wrap(1, &[wrap(1, &attribute(1, "env", env)), wrap(2, &spans)].concat()));
    }
    let (receipt, waiter) = Receipt::pair();
    (Batch::decode(Signal::Traces, request.into()).unwrap().with_receipt(receipt), waiter)
}

fn section(
    node: &Node,
    signals: &'static [Signal],
    telemetry: &Telemetry,
) -> Result<Arc<dyn ConnectorFactory>, String> {
    let context = Context::new("routing", telemetry.clone(), Environment::with(|| 0, 1));
    let section = Section { node, path: "connectors::routing", signals, context };
    Routing::build(&section).map_err(|e| e.to_string())
}

struct Bench {
    router: Arc<dyn Exporter>,
    outputs: Vec<(String, Intake)>,
    telemetry: Telemetry,
}

impl Bench {
    fn new(yaml: &str, signal: Signal, pipelines: &[&str]) -> Self {
        let telemetry = Telemetry::default();
        let factory = section(&Node::parse("test.yaml", yaml).unwrap(), &[], &telemetry).unwrap();
        let (mut targets, mut outputs) = (Vec::new(), Vec::new());
        for name in pipelines {
            let (inlet, intake) = channel(16, 1 << 20);
            targets.push((name.parse::<PipelineId>().unwrap(), inlet));
            outputs.push(((*name).to_owned(), intake));
        }
        factory.check(&targets.iter().map(|(id, _)| id).collect::<Vec<_>>()).unwrap();
        let (_, shutdown) = Shutdown::channel();
        Self { router: factory.create(0, signal, targets, shutdown), outputs, telemetry }
    }

    /// Routes a batch and tells which pipeline got which spans; every part is settled as the name of its pipeline says.
    async fn route(&mut self, batch: Batch) -> Vec<String> {
        self.router.consume(batch).await;
        let mut seen = Vec::new();
        for (name, intake) in &mut self.outputs {
            while let Some(part) = intake.try_recv() {
                let spans: String = part.spans().map(|s| s.name().to_string()).collect();
                let reread = Batch::decode(part.signal(), part.encode()).unwrap();
                assert_eq!(reread.len(), part.len());
                seen.push(format!(
                    "{name}={}",
                    if part.signal() == Signal::Traces { spans } else { part.len().to_string() }
                ));
                let bad = name.ends_with("bad");
                part.settle(&if bad { Outcome::Rejected("bad".into()) } else { Outcome::Done });
            }
        }
        seen
    }

    fn dropped(&self) -> u64 {
        self.telemetry.sum("weir_connector_dropped")
    }
}

const TABLE: &str = r#"
default_pipelines: [traces/other]
table:
  - {condition: 'attributes["env"] == "prod"', pipelines: [traces/prod]}
  - {context: span, condition: 'attributes["region"] == "east"', pipelines: [traces/east]}
"#;

#[tokio::test]
async fn the_first_matching_row_moves_a_span_and_the_rest_goes_to_the_default() {
    let mut bench = Bench::new(TABLE, Signal::Traces, &["traces/prod", "traces/east", "traces/other"]);
    let (batch, waiter) = traces(&[("prod", &["east", "west"]), ("dev", &["east", "west"]), ("prod", &["west"])]);
    assert_eq!(bench.route(batch).await, ["traces/prod=abe", "traces/east=c", "traces/other=d"]);
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(bench.dropped(), 0);
    assert_eq!(bench.telemetry.sum("otelcol_connector_consumed_items"), 5);
    assert_eq!(bench.telemetry.sum("otelcol_connector_produced_items"), 5);
}

#[tokio::test]
async fn a_batch_that_all_goes_one_way_is_not_touched() {
    let mut bench = Bench::new(TABLE, Signal::Traces, &["traces/prod", "traces/east", "traces/other"]);
    let (batch, _) = traces(&[("prod", &["east", "west"])]);
    let bytes = batch.encode();
    bench.router.consume(batch).await;
    assert_eq!(bench.outputs[0].1.try_recv().unwrap().encode().as_ptr(), bytes.as_ptr(), "no byte was copied");
}

#[tokio::test]
async fn what_goes_nowhere_is_dropped_and_counted() {
    let table = "table: [{context: span, condition: 'attributes[\"region\"] == \"east\"', pipelines: [traces/east]}]";
    let mut bench = Bench::new(table, Signal::Traces, &["traces/east"]);
    let (batch, waiter) = traces(&[("prod", &["east", "west", "north"])]);
    assert_eq!(bench.route(batch).await, ["traces/east=a"]);
    assert_eq!((waiter.await, bench.dropped()), (Outcome::Done, 2));
    let (batch, waiter) = traces(&[("prod", &["west"])]);
    assert!(bench.route(batch).await.is_empty());
    assert_eq!((waiter.await, bench.dropped()), (Outcome::Done, 3));
}

#[tokio::test]
async fn copies_go_on_to_the_rows_below_and_nobody_gets_a_span_twice() {
    let table = r#"
default_pipelines: [traces/a]
table:
  - {context: span, condition: 'attributes["region"] == "east"', action: copy, pipelines: [traces/a, traces/b]}
  - {condition: 'attributes["env"] == "prod"', action: copy, pipelines: [traces/b]}
  - {context: span, condition: 'name == "a"', action: move, pipelines: [traces/b]}
"#;
    let mut bench = Bench::new(table, Signal::Traces, &["traces/a", "traces/b"]);
    let (batch, waiter) = traces(&[("prod", &["east", "west"]), ("dev", &["west"])]);
    assert_eq!(bench.route(batch).await, ["traces/a=abc", "traces/b=ab"]);
    assert_eq!(waiter.await, Outcome::Done);
}

#[tokio::test]
async fn the_worst_answer_of_any_part_reaches_the_client() {
    let table = TABLE.replace("traces/east", "traces/bad");
    let mut bench = Bench::new(&table, Signal::Traces, &["traces/prod", "traces/bad", "traces/other"]);
    let (batch, waiter) = traces(&[("prod", &["east"]), ("dev", &["east"])]);
    assert_eq!(bench.route(batch).await, ["traces/prod=a", "traces/bad=b"]);
    assert_eq!(waiter.await, Outcome::Rejected("bad".into()));
}

#[tokio::test]
async fn requests_are_routed_as_in_the_collectors_documentation() {
    let table = r#"
default_pipelines: [logs/other]
table:
  - {context: request, condition: 'request["X-Tenant"] == "acme"', pipelines: [logs/acme]}
  - {context: request, condition: 'request["X-Tenant"] == "ecorp"', pipelines: [logs/ecorp]}
"#;
    let mut bench = Bench::new(table, Signal::Logs, &["logs/acme", "logs/ecorp", "logs/other"]);
    let log = wrap(1, &wrap(2, &wrap(2, &[])));
    for (tenant, pipeline) in [(Some("acme"), "acme"), (Some("ecorp"), "ecorp"), (Some("x"), "other"), (None, "other")]
    {
        let mut batch = Batch::decode(Signal::Logs, log.clone().into()).unwrap();
        if let Some(tenant) = tenant {
            batch = batch.with_metadata(Arc::new(Metadata::new([("x-tenant", tenant)])));
        }
        assert_eq!(bench.route(batch).await, [format!("logs/{pipeline}=1")]);
    }
}

#[tokio::test]
async fn metrics_and_logs_are_routed_by_resource() {
    let table = r#"
table:
  - {statement: 'route() where attributes["env"] == "prod"', pipelines: [logs/prod]}
  - {statement: 'route() where attributes["env"] == "dev"', action: copy, pipelines: [logs/dev, logs/prod]}
"#;
    let resource = |env: &str, records: usize| {
        wrap(1, &[wrap(1, &attribute(1, "env", env)), wrap(2, &wrap(2, &[]).repeat(records))].concat())
    };
    let mut bench = Bench::new(table, Signal::Logs, &["logs/prod", "logs/dev"]);
    let request = [resource("prod", 3), resource("dev", 2), resource("test", 4), resource("prod", 1)].concat();
    let batch = Batch::decode(Signal::Logs, request.into()).unwrap();
    assert_eq!(bench.route(batch).await, ["logs/prod=6", "logs/dev=2"]);
    assert_eq!(bench.dropped(), 4);
}

#[tokio::test]
async fn edits_made_before_count() {
    let mut bench = Bench::new(TABLE, Signal::Traces, &["traces/prod", "traces/east", "traces/other"]);
    let (mut batch, _) = traces(&[("dev", &["west", "west"])]);
    batch.for_each_resource_mut(|resource| resource.set("env", NewValue::Str("staging")));
    let mut first = true;
    batch.for_each_mut(|span| {
        if std::mem::take(&mut first) {
            span.set("region", NewValue::Str("east"));
        }
    });
    assert_eq!(bench.route(batch).await, ["traces/east=a", "traces/other=b"]);
}

#[tokio::test]
async fn a_graph_routes_to_the_pipelines_that_name_the_connector() {
    let (feed, batches) = mpsc::unbounded_channel();
    NEXT_FEED.set(Some(batches));
    let telemetry = Telemetry::default();
    let yaml = format!(
        "
receivers: {{feed: }}
exporters: {{sink/prod: , sink/east: , sink/other: }}
connectors:
  routing: {}
service:
  pipelines:
    traces/in: {{receivers: [feed], exporters: [routing]}}
    traces/prod: {{receivers: [routing], exporters: [sink/prod]}}
    traces/east: {{receivers: [routing], exporters: [sink/east]}}
    traces/other: {{receivers: [routing], exporters: [sink/other]}}
",
        TABLE.replace('\n', "\n    ")
    );
    let running = crate::graph::start(build(&yaml, &telemetry).unwrap(), 2).await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..10 {
        let (batch, waiter) = traces(&[("prod", &["east", "west"]), ("dev", &["east", "west", "west"])]);
        feed.send(batch).unwrap();
        waiters.push(waiter);
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert!(running.stop(Duration::from_secs(10)).await);
    let seen = |id: &str| telemetry.counter("seen", &[("exporter", id)]).get();
    assert_eq!((seen("sink/prod"), seen("sink/east"), seen("sink/other")), (20, 10, 20));
}

#[test]
fn settings_are_refused_where_they_stand() {
    let telemetry = Telemetry::default();
    let refused =
        |yaml: &str, signals| section(&Node::parse("weir.yaml", yaml).unwrap(), signals, &telemetry).err().unwrap();
    for (yaml, message) in [
        ("table: []\n", "weir.yaml:1:8: connectors::routing: invalid routing table: the routing table is empty"),
        (
            "table: [{pipelines: [traces]}]\n",
            "weir.yaml:1:9: connectors::routing::table[0]: invalid route: no condition or statement provided",
        ),
        (
            "table: [{condition: 'true'}]\n",
            "weir.yaml:1:9: connectors::routing::table[0]: invalid route: no pipelines defined",
        ),
        (
            "table: [{condition: 'true', statement: 'route()', pipelines: [traces]}]\n",
            "weir.yaml:1:40: connectors::routing::table[0]: invalid route: both condition and statement",
        ),
        (
            "table: [{context: request, statement: 'route()', pipelines: [traces]}]\n",
            "weir.yaml:1:39: connectors::routing::table[0]: the context `request` requires a `condition`",
        ),
        (
            "table: [{statement: 'delete_key(attributes, \"a\")', pipelines: [traces]}]\n",
            "weir.yaml:1:21: connectors::routing::table[0]: at character 1 of the condition: the only statement is `route()`",
        ),
        (
            "table: [{condition: 'true', pipelines: [trace]}]\n",
            "weir.yaml:1:41: connectors::routing::table[0]::pipelines[0]: in \"trace\" id: unknown signal",
        ),
        (
            "table: [{condition: 'true', action: moves, pipelines: [traces]}]\n",
            "weir.yaml:1:37: connectors::routing::table[0]::action: ",
        ),
        ("match_once: true\n", "weir.yaml:1:1: connectors::routing: unknown key `match_once`"),
        ("error_mode: loud\ntable: []\n", "weir.yaml:1:13: connectors::routing::error_mode: "),
    ] {
        let error = refused(yaml, &[]);
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
    let error = refused("table: [{context: span, condition: 'true', pipelines: [logs]}]\n", &[Signal::Logs]);
    assert!(error.contains("1:19: connectors::routing::table[0]: the context `span` is for traces"), "{error}");
}

#[test]
fn a_pipeline_that_does_not_receive_is_named() {
    let yaml = "
receivers: {feed: }
exporters: {sink: }
connectors:
  routing: {default_pipelines: [traces/nowhere], table: [{condition: 'true', pipelines: [traces/out]}]}
service:
  pipelines:
    traces/in: {receivers: [feed], exporters: [routing]}
    traces/out: {receivers: [routing], exporters: [sink]}
";
    let error = build(yaml, &Telemetry::default()).err().unwrap();
    assert_eq!(
        error,
        "weir.yaml:5:33: connectors::routing::default_pipelines[0]: pipeline \"traces/nowhere\" does not name this \
         connector as a receiver: pipelines that do: traces/out"
    );
}
