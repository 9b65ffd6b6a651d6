#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use time::macros::datetime;
use tracing::Level;
use weir_pipeline::config::Node;

use super::config::Sampling;
use super::lines::{Fields, Value, console, json};
use super::sampling::Sampler;
use super::*;

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(Some(&node), "service::telemetry::logs").map_err(|e| e.to_string())
}

#[test]
fn settings_are_those_of_the_collector() {
    let default = Settings::parse(None, "").unwrap();
    assert_eq!(parse("").unwrap(), default);
    let written = "{level: INFO, encoding: console, sampling: {enabled: true, tick: 10s, initial: 10, thereafter: 100}, \
                   output_paths: [stderr], initial_fields: {}}";
    assert_eq!(parse(written).unwrap(), default);
    assert_eq!(parse("{sampling: {enabled: false}}").unwrap().sampling, None);
    for (yaml, error) in [
        ("{level: loud}", "weir.yaml:1:9: service::telemetry::logs::level: "),
        ("{encoding: xml}", "weir.yaml:1:12: service::telemetry::logs::encoding: "),
        (
            "{output_paths: [stderr, 'udp://x']}",
            "weir.yaml:1:25: service::telemetry::logs::output_paths[1]: \"udp://x\"",
        ),
        ("{sampling: {every: 2}}", "weir.yaml:1:13: service::telemetry::logs::sampling: unknown key `every`"),
        ("{developement: true}", "weir.yaml:1:2: service::telemetry::logs: unknown key `developement`"),
    ] {
        let refused = parse(yaml).unwrap_err();
        assert!(refused.starts_with(error), "{refused}");
    }
}

#[test]
fn of_equal_messages_the_first_and_some_later_ones_are_written() {
    let sampler = Sampler::new(Sampling { tick: Duration::from_secs(10), initial: 3, thereafter: 5 });
    let start = Instant::now();
    let written = |message: &str, at: Instant| (0..20).filter(|_| sampler.admits(Level::WARN, message, at)).count();
    assert_eq!(written("a", start), 3 + 3, "1, 2, 3, 8, 13, 18");
    assert_eq!(written("b", start), 6, "messages are counted apart");
    assert_eq!((0..20).filter(|_| sampler.admits(Level::INFO, "a", start)).count(), 6, "and levels");
    assert_eq!(written("a", start + Duration::from_secs(15)), 6, "and ticks");
    let none = Sampler::new(Sampling { tick: Duration::from_secs(10), initial: 3, thereafter: 0 });
    assert_eq!((0..20).filter(|_| none.admits(Level::INFO, "a", start)).count(), 3);
}

fn fields() -> Fields {
    Fields {
        message: "say \"hi\"\n12:00:00.000 ERROR forged \u{1b}[31m".to_owned(),
        others: vec![
            ("exporter", Value::Text("otlp/a".to_owned())),
            ("count", Value::Plain("3".to_owned())),
            ("ok", Value::Plain("true".to_owned())),
        ],
    }
}

#[test]
fn an_event_is_one_line_whatever_it_says() {
    let initial = [("region".to_owned(), "eu".to_owned())];
    let now = datetime!(2026-11-21 10:02:03.004 UTC);
    assert_eq!(
        console(Level::WARN, &fields(), &initial, now, false),
        "10:02:03.004  WARN say \"hi\"\\n12:00:00.000 ERROR forged \\u{1b}[31m region=eu exporter=otlp/a count=3 ok=true\n"
    );
    assert!(console(Level::WARN, &fields(), &initial, now, true).starts_with("\u{1b}[2m10:02:03.004\u{1b}[0m"));
    let line = json(Level::WARN, &fields(), &initial, now);
    assert_eq!(line.lines().count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "level": "warn", "ts": "2026-11-21T10:02:03.004Z", "msg": fields().message, "region": "eu",
        "otelcol.component.id": "otlp/a", "otelcol.component.kind": "exporter", "count": 3, "ok": true,
    });
    assert_eq!(parsed, expected);
}

#[test]
fn a_file_is_appended_to_and_settings_can_change() {
    use tracing_subscriber::layer::SubscriberExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("a"), "before\n").unwrap();
    let settings = |name: &str, encoding: &str| {
        parse(&format!("{{encoding: {encoding}, output_paths: ['{}']}}", path(name))).unwrap()
    };
    let lines = Lines::new(Setup::open(&settings("a", "console")).unwrap());
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(receiver = "otlp", count = 2, "hello");
        lines.adopt(Setup::open(&settings("b", "json")).unwrap());
        tracing::warn!(receiver = "otlp", count = 2, "hello");
    });
    let first = std::fs::read_to_string(path("a")).unwrap();
    assert!(first.starts_with("before\n") && first.ends_with("  INFO hello receiver=otlp count=2\n"), "{first}");
    let second: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path("b")).unwrap()).unwrap();
    assert_eq!((&second["msg"], &second["otelcol.component.id"]), (&"hello".into(), &"otlp".into()));
    let missing = parse("{output_paths: [/nowhere/at/all.log]}").unwrap();
    let error = format!("{:#}", Setup::open(&missing).err().unwrap());
    assert!(error.starts_with("service::telemetry::logs::output_paths: cannot open /nowhere/at/all.log: "), "{error}");
}
