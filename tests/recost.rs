//! Prices change: `weir recost` and `weir price explain` on spans that the real binary has priced and stored.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Weir, client, sql, weir};

/// 2025-06-10T00:00:00Z
const TIME: u64 = 1_749_513_600_000_000_000;

/// Twice the price of gpt-4o, and a price for a model that nobody else knows; half of that for one project.
const PRICES: &str = "
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:0}}}}
processors:
  cost:
    catalog:
      overlay:
        prices:
          - {provider: openai, model: gpt-4o, rates: {input: 5, output: 20}}
          - {provider: openai, model: house, match: [house], rates: {input: 2, output: 2}}
          - {provider: openai, model: house, project: shop, rates: {input: 1, output: 1}}
exporters: {nop: }
service: {pipelines: {traces: {receivers: [otlp], processors: [cost], exporters: [nop]}}}
";

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A call of 1,000 tokens in and 100 out.
fn span(trace: u8, id: u8, parent: u8, model: &str, more: &[Value]) -> Value {
    let hex = |byte: u8, n: usize| format!("{byte:02x}").repeat(n);
    let mut attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", model),
        json!({"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1000"}}),
        json!({"key": "gen_ai.usage.output_tokens", "value": {"intValue": "100"}}),
    ];
    attributes.extend_from_slice(more);
    let mut span = json!({
        "traceId": hex(trace, 16), "spanId": hex(id, 8), "name": format!("span {id}"), "kind": 3,
        // Statistics of files tell milliseconds apart.
        "startTimeUnixNano": (TIME + u64::from(id) * 1_000_000).to_string(),
        "endTimeUnixNano": (TIME + 1_000_000_000).to_string(),
        "attributes": attributes,
    });
    if parent > 0 {
        span["parentSpanId"] = hex(parent, 8).into();
    }
    span
}

fn request(project: &str, scopes: &[(&str, Vec<Value>)]) -> String {
    let scopes: Vec<_> =
        scopes.iter().map(|(scope, spans)| json!({"scope": {"name": scope}, "spans": spans})).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.namespace", project), text("deployment.environment", "prod")]},
        "scopeSpans": scopes,
    }]})
    .to_string()
}

/// Lets the real binary price and store spans of four calls with a price, and two of a model without one.
async fn store(folder: &Path) {
    let config = "
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:0}}}}
processors: {cost: }
exporters: {parquet: {url: ./store, flush: {max_age: 10ms}}}
service: {pipelines: {traces: {receivers: [otlp], processors: [cost], exporters: [parquet]}}}
";
    let collector = Weir::start(folder, config);
    let langchain = "opentelemetry.instrumentation.langchain";
    let given = json!({"key": "operation.cost", "value": {"doubleValue": 0.25}});
    let requests = [
        request("", &[("openai", vec![span(1, 1, 0, "gpt-4o", &[])])]),
        // A framework's span and the SDK's of one call.
        request("", &[(langchain, vec![span(2, 2, 0, "gpt-4o", &[])]), ("openai", vec![span(2, 3, 2, "gpt-4o", &[])])]),
        request("", &[("openai", vec![span(3, 4, 0, "gpt-4o", &[given])])]),
        // The same of a model that has no price; the two spans come one after the other.
        request("", &[("openai", vec![span(4, 5, 6, "house", &[])])]),
        request("", &[(langchain, vec![span(4, 6, 0, "house", &[])])]),
        request("shop", &[("openai", vec![span(5, 7, 0, "house", &[])])]),
        request("", &[("openai", vec![span(6, 8, 0, "gpt-4o", &[])])]),
    ];
    let client = client::http1();
    for request in requests {
        let headers = [("content-type", "application/json")];
        let (status, answer) = client::post(&client, collector.http.unwrap(), "/v1/traces", &headers, request).await;
        assert_eq!(status, 200, "{answer:?}");
    }
    let (status, log) = collector.stop();
    assert!(status.success(), "{log}");
}

/// `weir recost` of the day: its answer, and what it said beside it.
fn recost(folder: &Path, arguments: &[&str]) -> (String, String) {
    let days = ["--from", "2025-06-10", "--to", "2025-06-11"];
    run(folder, &[&["recost"], &days[..], arguments].concat())
}

fn run(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = weir().current_dir(folder).args(arguments).args(["--store", "store"]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = text(output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    (text(output.stdout), said)
}

const SUM: &str = "SELECT sum(total_cost), count(total_cost), count(*) FROM spans";
const STATUSES: &str = "SELECT name, cost_status, total_cost, previous_total_cost FROM spans ORDER BY name";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_change_reaches_stored_spans_once_per_call() {
    let (_guard, folder) = support::folder();
    store(&folder).await;
    std::fs::write(folder.join("prices.yaml"), PRICES).unwrap();
    let store = folder.join("store");

    // 1,000 × 2.5 + 100 × 10 USD per million = 0.0035 for each of four calls; nobody knows what `house` costs.
    assert_eq!(sql(&store, SUM), ["0.014000000000,4,8"]);
    let before = [
        "span 1,priced,0.003500000000,",
        "span 2,duplicate,,",
        "span 3,priced,0.003500000000,",
        "span 4,priced,0.003500000000,",
        "span 5,unknown_model,,",
        "span 6,unknown_model,,",
        "span 7,unknown_model,,",
        "span 8,priced,0.003500000000,",
    ];
    assert_eq!(sql(&store, STATUSES), before);
    let given =
        "SELECT given_cost, cost_source, cost_deferred_to FROM spans WHERE name IN ('span 2', 'span 4') ORDER BY name";
    let third = format!("{}/{}", "02".repeat(16), "03".repeat(8));
    assert_eq!(sql(&store, given), [format!(",,{third}"), "0.250000000000,local,".to_owned()]);

    // The prices they were priced with change nothing.
    let (_, said) = recost(&folder, &[]);
    assert!(said.contains(": nothing changes; "), "{said}");
    assert_eq!(sql(&store, STATUSES), before);

    // Twice the price is 0.007 for each of four; 1,100 tokens at 2 and at 1 USD per million are 0.0022 and 0.0011.
    let config = ["--config", "prices.yaml"];
    let (dry, said) = recost(&folder, &[&config[..], &["--dry-run", "--format", "json"]].concat());
    assert!(said.contains(": 7 rows would change; "), "{said}");
    let expected = json!([
        {"provider": "openai", "model": "gpt-4o", "spans": 4, "changed": 4, "newly_priced": 0, "no_longer_priced": 0,
         "cost_before": 0.014, "cost_after": 0.028, "difference": 0.014},
        {"provider": "openai", "model": "house", "spans": 3, "changed": 3, "newly_priced": 2, "no_longer_priced": 0,
         "cost_before": 0.0, "cost_after": 0.0033, "difference": 0.0033},
    ]);
    assert_eq!(serde_json::from_str::<Value>(&dry).unwrap(), expected);
    assert_eq!(sql(&store, STATUSES), before, "a dry run changes nothing");

    let (done, said) = recost(&folder, &[&config[..], &["--format", "json"]].concat());
    assert_eq!(done, dry);
    assert!(said.contains("7 rows changed in version "), "{said}");
    assert_eq!(sql(&store, SUM), ["0.031300000000,6,8"]);
    let after = [
        "span 1,priced,0.007000000000,0.003500000000",
        "span 2,duplicate,,",
        "span 3,priced,0.007000000000,0.003500000000",
        "span 4,priced,0.007000000000,0.003500000000",
        // The first of the call that came, as the SDK's it is the more exact one as well.
        "span 5,priced,0.002200000000,",
        "span 6,duplicate,,",
        "span 7,priced,0.001100000000,",
        "span 8,priced,0.007000000000,0.003500000000",
    ];
    assert_eq!(sql(&store, STATUSES), after);
    let price = "SELECT price_key, price_version <> previous_price_version FROM spans WHERE name = 'span 1'";
    assert_eq!(sql(&store, price), ["openai/gpt-4o+overlay,true"]);

    let (_, said) = recost(&folder, &config);
    assert!(said.contains(": nothing changes; "), "{said}");
    explained(&folder);

    // Only some, and back again: what has no price loses its cost and says why.
    let some = ["--where", "trace_id like '01%'", "--env", "prod"];
    let (_, said) = recost(&folder, &some);
    assert!(said.contains("1 rows changed"), "{said}");
    assert_eq!(sql(&store, SUM), ["0.027800000000,6,8"]);
    let (table, _) = recost(&folder, &[]);
    assert!(table.contains("| openai   | house "), "{table}");
    assert_eq!(sql(&store, SUM), ["0.014000000000,4,8"]);
    let reasons = "SELECT name, cost_status FROM spans WHERE request_model = 'house' ORDER BY name";
    assert_eq!(sql(&store, reasons), ["span 5,unknown_model", "span 6,duplicate", "span 7,unknown_model"]);
}

/// The trace of a framework's span and the SDK's, and a span of a project with a price of its own.
fn explained(folder: &Path) {
    let config = ["--config", "prices.yaml"];
    let of = |arguments: &[&str]| run(folder, &[&["price", "explain"], &config[..], arguments].concat()).0;
    let trace = "02".repeat(16);
    let both = of(&["--trace", &trace]);
    assert_eq!((both.matches("span 2 (").count(), both.matches("span 3 (").count()), (1, 1), "{both}");
    for line in [
        "input: 1000 × 5 USD per million = 0.005 USD",
        "total 0.007 USD",
        "stored          0.007 USD, priced, price openai/gpt-4o+overlay, catalog ",
        ": 0.0035 USD, catalog ",
        "no cost, duplicate",
        &format!("the cost is that of {trace}/{}", "03".repeat(8)),
    ] {
        assert!(both.contains(line), "{line}\n{both}");
    }
    let one = of(&["--trace", &trace.to_uppercase(), "--span", &"03".repeat(8)]);
    assert!(one.contains("span 3 (") && !one.contains("span 2 ("), "{one}");
    let shop = of(&["--trace", &"05".repeat(16)]);
    for line in
        ["project         \"shop\" has prices of its own", "openai/house+overlay(shop)", "for the project \"shop\""]
    {
        assert!(shop.contains(line), "{line}\n{shop}");
    }
    let given = of(&["--trace", &"03".repeat(16)]);
    assert!(given.contains("given by the application: 0.25 USD"), "{given}");
}

#[test]
fn mistakes_are_one_clear_line() {
    let (_guard, folder) = support::folder();
    std::fs::write(folder.join("two.yaml"), PRICES.replace("  cost:\n", "  cost/b: \n  cost:\n")).unwrap();
    std::fs::write(folder.join("bad.yaml"), PRICES.replace("input: 5", "input: -5")).unwrap();
    let from = ["recost", "--from", "2025-06-10"];
    let cases: [(&[&str], &str); 9] = [
        (&[], "holds no spans yet"),
        (&["--to", "2025-06-09"], "--from must be before --to"),
        (&["--to", "yesterday"], "expected a UTC date"),
        (&["--config", "two.yaml"], "name one with --processor: cost/b, cost"),
        (&["--config", "two.yaml", "--processor", "cost/c"], "has no cost processor cost/c"),
        (&["--config", "bad.yaml"], "a rate is a plain decimal"),
        (&["--config", "missing.yaml"], "missing.yaml"),
        (&["--set", "processors.cost.catalog.path=http://127.0.0.1:9/x"], "127.0.0.1:9"),
        (&["--store", "ftp://x"], "not a store"),
    ];
    for (arguments, hint) in cases {
        let mut command = weir();
        command.current_dir(&folder).args(from).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(hint), "{arguments:?}: {said}");
    }
    for (arguments, hint) in [
        (&["price", "explain"][..], "required"),
        (&["price", "explain", "--trace", "xyz"], "hexadecimal"),
        (&["price", "explain", "x.json", "--trace", "00"], "cannot be used with"),
        (&["price", "explain", "--span", "00"], "required"),
    ] {
        let output = weir().current_dir(&folder).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(hint), "{arguments:?}: {said}");
    }
}
