use weir_pipeline::clock::Environment;
use weir_pipeline::host::{Layout, PipelineLayout, Status};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{ExporterCounters, OfferCounters, ReceiverCounters, Telemetry};

use super::*;
use crate::http::testing::get;

#[tokio::test]
async fn pages_show_what_is_counted_now() {
    let telemetry = Telemetry::default();
    let context = Context::new("zpages", telemetry.clone(), Environment::system());
    let host = context.host.clone();
    let text = |s: &str| vec![s.to_owned()];
    host.set_layout(Layout {
        pipelines: vec![PipelineLayout {
            id: "traces/<b>".to_owned(),
            receivers: text("otlp"),
            processors: text("batch"),
            exporters: text("otlp_http/a"),
        }],
        extensions: text("zpages"),
    });
    let zpages = extension(parse("{endpoint: '127.0.0.1:0'}").unwrap(), &context);
    zpages.start().await.unwrap();
    let to = zpages.addresses()[0].1;

    assert!(get(to, "/").await.1.contains("<a href=/debug/pipelinez>"));
    assert!(get(to, "/debug/servicez").await.1.contains("<td>starting</td>"));
    host.set_status(Status::Ready);
    assert!(get(to, "/debug/servicez").await.1.contains("<td>ready</td>"));
    let before = get(to, "/debug/pipelinez").await.1;
    assert!(before.contains("<h2>traces/&lt;b&gt;</h2>") && before.contains("accepted 0, refused 0"), "{before}");

    ReceiverCounters::new(&telemetry, "otlp", Signal::Traces, "grpc").accepted.add(5);
    ReceiverCounters::new(&telemetry, "otlp", Signal::Traces, "http").accepted.add(6);
    ReceiverCounters::new(&telemetry, "otlp", Signal::Logs, "http").accepted.add(100);
    let labels = |signal| [("processor", "batch"), ("otel_signal", signal)];
    telemetry.counter("otelcol_processor_incoming_items", &labels("traces")).add(11);
    telemetry.counter("otelcol_processor_incoming_items", &labels("logs")).add(100);
    let offer = OfferCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    let counters = ExporterCounters::new(&telemetry, "otlp_http/a", Signal::Traces);
    telemetry.counter("weir_cost_picousd", &[("provider", "openai")]).add(3_500_000_000);
    offer.begin(9);
    counters.take(9);
    offer.end(9);
    counters.succeed(8);
    let after = get(to, "/debug/pipelinez").await.1;
    for shown in ["accepted 11, refused 0", "in 11, out 0", "delivered 8, dropped 0, held 1"] {
        assert!(after.contains(shown), "{after}");
    }
    let service = get(to, "/debug/servicez").await.1;
    assert!(service.contains("<td>otlp_http/a</td><td>traces</td><td class=n>9</td><td class=n>8</td>"), "{service}");
    assert!(get(to, "/debug/extensionz").await.1.contains("<td>zpages</td>"));
    for absent in ["/debug/tracez", "/debug/expvarz"] {
        assert_eq!(get(to, absent).await.0, 404);
    }
    zpages.stop().await;

    let zpages = extension(parse("{endpoint: '127.0.0.1:0', expvar: {enabled: true}}").unwrap(), &context);
    zpages.start().await.unwrap();
    let (status, variables) = get(zpages.addresses()[0].1, "/debug/expvarz").await;
    let variables: serde_json::Value = serde_json::from_str(&variables).unwrap();
    assert_eq!((status, &variables["version"]), (200, &env!("CARGO_PKG_VERSION").into()));
    let incoming = &variables["metrics"]["otelcol_processor_incoming_items"];
    assert_eq!(incoming[1]["labels"], serde_json::json!({"processor": "batch", "otel_signal": "traces"}));
    assert_eq!(incoming[1]["value"], 11);
    let cost = &variables["metrics"]["weir_cost_usd"][0];
    assert_eq!((&cost["labels"]["provider"], &cost["value"]), (&"openai".into(), &0.0035.into()), "{variables}");
    assert!(variables["metrics"]["otelcol_process_cpu_seconds"].as_f64().unwrap() < 1e6, "in seconds");
    zpages.stop().await;
}

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::zpages").map_err(|e| e.to_string())
}

#[test]
fn what_is_wrong_is_said_and_where() {
    assert_eq!(parse("").unwrap().endpoint.to_string(), "localhost:55679");
    let refused = parse("{endpoint: ''}").unwrap_err();
    assert!(refused.starts_with("weir.yaml:1:12: extensions::zpages::endpoint: \"\" is not `host:port`"), "{refused}");
    assert!(parse("{expvar: {on: true}}").unwrap_err().contains("expvar: unknown key `on`"));
}
