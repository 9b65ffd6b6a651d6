//! Whole documents, right and wrong.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Document, ConfigErrors> {
    parse_with(text, &[])
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Document, ConfigErrors> {
    let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Document::parse([("weir.yaml", text)], &env)
}

fn ids<T>(section: &[(ComponentId, T)]) -> Vec<String> {
    section.iter().map(|(id, _)| id.to_string()).collect()
}

/// A configuration as people write it for the Collector.
const COLLECTOR: &str = include_str!("collector.yaml");

#[test]
fn a_collector_configuration_is_read() {
    let document = parse_with(COLLECTOR, &[("API_KEY", "secret"), ("MEMORY_MIB", "512")]).unwrap();
    assert_eq!(ids(&document.receivers), ["otlp"]);
    assert_eq!(ids(&document.processors), ["memory_limiter", "batch", "attributes/strip"]);
    assert_eq!(ids(&document.exporters), ["otlphttp/langfuse", "otlphttp/backup", "debug"]);
    assert_eq!(ids(&document.connectors), ["forward/all"]);
    assert_eq!(ids(&document.extensions), ["health_check"]);
    assert_eq!(ids(&document.service.extensions), ["health_check"]);

    let pipelines = &document.service.pipelines;
    let names: Vec<String> = pipelines.iter().map(|pipeline| pipeline.id.to_string()).collect();
    assert_eq!(names, ["traces/in", "traces/out", "metrics", "logs"]);
    assert_eq!(pipelines[0].location.to_string(), "weir.yaml:63:5");
    assert_eq!(ids(&pipelines[0].exporters), ["forward/all"]);
    assert_eq!(ids(&pipelines[1].processors), ["attributes/strip", "batch"]);
    assert_eq!(pipelines[1].receivers[0].1.to_string(), "weir.yaml:68:20");
    assert_eq!(document.service.telemetry.get("logs").unwrap().get("level").unwrap().text(), Some("info"));

    let memory: std::collections::BTreeMap<String, Node> = document.processors[0].1.parse_as("").unwrap();
    assert_eq!(memory["limit_mib"].parse_as::<u32>(""), Ok(512));
    let headers = document.exporters[0].1.get("headers").unwrap();
    assert_eq!(headers.get("Authorization").unwrap().text(), Some("Basic secret"));
    let backup = &document.exporters[1].1;
    assert_eq!(backup.get("retry_on_failure").unwrap().get("max_elapsed_time").unwrap().text(), Some("10m"));
    assert_eq!(backup.get("endpoint").unwrap().text(), Some("https://backup.example.com"));

    let warnings: Vec<String> = document.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["weir.yaml:43:17: exporters::otlphttp/backup::headers::x-tenant: \
          configuration references unset environment variable `TENANT`"]
    );
}

/// Parts of the configurations below.
const RECEIVERS: &str = "receivers: {otlp: }\n";
const EXPORTERS: &str = "exporters: {debug: }\n";
const PIPELINES: &str = "service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";

/// Broken configurations and the exact errors of each.
const BROKEN: &str = include_str!("broken.txt");

#[test]
fn what_is_wrong_is_said_and_where() {
    let cases: Vec<(&str, &str)> = BROKEN.split("=====\n").filter_map(|case| case.split_once("\n-----\n")).collect();
    assert!(cases.len() > 50, "{}", cases.len());
    for (text, expected) in cases {
        let errors = parse_with(text, &[("LOOP", "${LOOP}"), ("NAME", "debugg")]).unwrap_err();
        assert_eq!(errors.to_string(), expected.trim_end(), "of this configuration:\n{text}");
    }
}

#[test]
fn depth_is_bounded() {
    let error = parse(&format!("receivers: {}1", "{a: ".repeat(70))).unwrap_err().to_string();
    assert_eq!(error, "weir.yaml:1:264: nested more than 64 levels deep");
    let error = parse(&"- ".repeat(10_000)).unwrap_err().to_string();
    assert_eq!(error, "weir.yaml:1:129: nested more than 64 levels deep");
    let error = parse(&"[".repeat(100_000)).unwrap_err().to_string();
    assert!(error.contains("recursion limit exceeded"), "{error}");
}

#[test]
fn sources_are_merged_and_keep_their_places() {
    let base = format!("receivers:\n  otlp: {{endpoint: a, list: [1, 2]}}\n{EXPORTERS}{PIPELINES}");
    let over = "receivers:\n  otlp: {list: [3], extra: \"${X}\"}\n  jaeger:\nexporters: {}\n";
    let env = |name: &str| (name == "X").then(|| "7".to_owned());
    let document = Document::parse([("a.yaml", base.as_str()), ("b.yaml", over)], &env).unwrap();
    assert_eq!(ids(&document.receivers), ["otlp", "jaeger"]);
    assert_eq!(ids(&document.exporters), ["debug"], "an empty mapping removes nothing");
    let otlp = &document.receivers[0].1;
    assert_eq!(otlp.get("endpoint").unwrap().location().to_string(), "a.yaml:2:20");
    assert_eq!(otlp.get("list").unwrap().parse_as::<Vec<u8>>(""), Ok(vec![3]));
    let error = otlp.get("extra").unwrap().parse_as::<bool>("receivers::otlp::extra").unwrap_err();
    assert_eq!(
        error.to_string(),
        "b.yaml:2:28: receivers::otlp::extra: expected `true` or `false`, found the value of `${X}`"
    );

    let errors = Document::parse([("a.yaml", "a: ["), ("b.yaml", "b: {")], &|_| None).unwrap_err();
    let files: Vec<String> = errors.0.iter().map(|e| e.location.as_ref().unwrap().file.to_string()).collect();
    assert_eq!(files, ["a.yaml", "b.yaml"], "both files are read before anything is said");
}

#[test]
fn a_later_key_without_a_value_removes_and_warns() {
    let base = format!("{RECEIVERS}{EXPORTERS}{PIPELINES}processors: {{batch: {{timeout: 1s}}, cost: }}\n");
    let read = |over: &str| Document::parse([("a.yaml", base.as_str()), ("b.yaml", over)], &|_| None);
    let warnings = |document: &Document| document.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let document = read("processors:\n").unwrap();
    assert_eq!(ids(&document.processors), [""; 0]);
    assert_eq!(
        warnings(&document),
        ["b.yaml:1:1: processors: no value here removes what a.yaml:4:13 says; to change nothing, remove the key"]
    );
    let document = read("processors:\n  batch:\n").unwrap();
    assert_eq!(ids(&document.processors), ["batch", "cost"]);
    assert!(document.processors[0].1.is_null());
    assert_eq!(
        warnings(&document),
        [
            "b.yaml:2:3: processors::batch: no value here removes what a.yaml:4:21 says; to change nothing, remove the key"
        ]
    );
    // A single value is as if it were not there, which is nothing to warn of.
    let document = read("processors: {batch: {timeout: }, cost: }").unwrap();
    assert!(document.processors[0].1.get("timeout").unwrap().is_null());
    assert_eq!(warnings(&document), [""; 0]);
    assert_eq!(ids(&read("").unwrap().processors), ["batch", "cost"], "an empty file says nothing");
    assert_eq!(
        read("exporters:\n").unwrap_err().to_string(),
        "a.yaml:3:63: service::pipelines::traces: references exporter \"debug\" which is not configured: \
         there is nothing in the `exporters` section\nb.yaml:1:1: no exporter configuration specified in config"
    );
}

#[test]
fn files_from_windows_are_read() {
    let text = format!("\u{feff}{}", COLLECTOR.replace('\n', "\r\n"));
    let (document, unix) = (parse(&text).unwrap(), parse(COLLECTOR).unwrap());
    assert_eq!(ids(&document.exporters), ids(&unix.exporters));
    assert_eq!(document.service.pipelines[3].location, unix.service.pipelines[3].location);
}

#[test]
fn nothing_at_all_is_an_empty_configuration() {
    let errors = Document::parse(Vec::<(&str, &str)>::new(), &|_| None).unwrap_err();
    assert!(errors.to_string().starts_with("configuration:1:1: empty configuration file"));
}

#[test]
fn a_connector_between_signals_makes_no_cycle() {
    let text = format!(
        "{RECEIVERS}{EXPORTERS}connectors: {{spanmetrics: , forward: }}
service:
  pipelines:
    traces: {{receivers: [otlp, forward], exporters: [spanmetrics]}}
    traces/raw: {{receivers: [otlp], exporters: [forward]}}
    metrics: {{receivers: [spanmetrics], exporters: [forward]}}
    metrics/out: {{receivers: [forward], exporters: [debug]}}
"
    );
    assert_eq!(parse(&text).unwrap().service.pipelines.len(), 4);
}

#[test]
fn a_receiver_listed_twice_counts_once() {
    let text = format!(
        "{RECEIVERS}{EXPORTERS}service: {{pipelines: {{traces: {{receivers: [otlp, otlp], exporters: [debug]}}}}}}"
    );
    let document = parse(&text).unwrap();
    assert_eq!(ids(&document.service.pipelines[0].receivers), ["otlp"]);
    assert_eq!(
        document.warnings[0].to_string(),
        "weir.yaml:3:50: service::pipelines::traces::receivers[1]: `otlp` is listed twice and counts once"
    );
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let text = "
receivers:
  otlp/a: &base
    endpoint: localhost:1
    limits: &limits {size: 1, time: 2}
  otlp/b:
    <<: *base
    endpoint: localhost:2
    limits: {<<: [*limits, {size: 9, more: 3}], time: 4}
  otlp/c: *base
exporters: {debug: }
service: {pipelines: {traces: {receivers: [otlp/a], exporters: [debug]}}}
";
    let document = parse(text).unwrap();
    let b = &document.receivers[1].1;
    assert_eq!(b.get("endpoint").unwrap().text(), Some("localhost:2"));
    let limits: Vec<(String, u8)> = b.get("limits").unwrap().parse_as("").unwrap();
    assert_eq!(limits, [("time".into(), 4), ("size".into(), 1), ("more".into(), 3)]);
    assert_eq!(document.receivers[2].1.get("endpoint").unwrap().location().to_string(), "weir.yaml:4:15");
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for i in 1..10 {
        text += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    let errors = parse(&text).unwrap_err().to_string();
    assert!(errors.ends_with("more than 100000 values once aliases are replaced"), "{errors}");

    let mut text = "a0: &a0 [1]\n".to_owned();
    for i in 1..100 {
        text += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let errors = parse(&text).unwrap_err().to_string();
    assert!(errors.ends_with("nested more than 64 levels deep by aliases"), "{errors}");
}

/// Few values, and each of them large.
#[test]
fn copies_of_long_texts_are_refused_before_they_take_much_memory() {
    let refused = |text: &str, end: &str| {
        let errors = parse(text).unwrap_err().to_string();
        assert!(errors.starts_with("weir.yaml:") && errors.ends_with(end), "{errors}");
    };
    let (long, aliases) = ("x".repeat(1 << 20), "*a, ".repeat(90_000));
    refused(&format!("a: &a {long}\nb: [{aliases}]\n"), "more than 64 MiB once aliases are replaced");
    // A key is a text too.
    refused(&format!("a: &a {{? {long}\n: 1}}\nb: [{aliases}]\n"), "more than 64 MiB once aliases are replaced");
    // What is kept for aliases that never come.
    let anchors: String = (0..60).map(|n| format!("&a{n} [")).collect();
    let nested = format!("a: {anchors}{}{}\n", "x".repeat(2 << 20), "]".repeat(60));
    refused(&nested, "more than 64 MiB once aliases are replaced");
    // As much as anybody writes.
    let few = format!("a: &a {}\nreceivers: {{b: {{c: [{}]}}}}\n", "x".repeat(1000), "*a, ".repeat(1000));
    assert!(!parse(&few).unwrap_err().to_string().contains("MiB"));

    let long = Some(long);
    for value in ["${LONG}", "<${LONG}>"] {
        let text = format!("receivers: {{b: {{c: [{}]}}}}\n", format!("'{value}', ").repeat(1000));
        let errors = Document::parse([("weir.yaml", text)], &|_| long.clone()).unwrap_err();
        let ours: Vec<_> = errors.0.iter().map(ToString::to_string).filter(|e| e.contains("MiB")).collect();
        assert_eq!(ours.len(), 1, "it is said once");
        assert!(
            ours[0].starts_with("weir.yaml:1:") && ours[0].ends_with("more than 64 MiB once references are replaced")
        );
    }
}

fn yaml_like() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "receivers",
        "exporters",
        "connectors",
        "service",
        "pipelines",
        "traces",
        "otlp",
        "forward",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "${env:A}",
        "${",
        "$$",
        "'",
        "\"",
        "\t",
        "#",
        "|\n",
        ">\n",
        "?",
        "!",
        "!!str ",
        "%",
        "---\n",
        "...\n",
        "\u{feff}",
        "\r\n",
        "\\",
        "0123",
        "é",
        "@",
        "`",
        "\u{0}",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let _ = parse_with(&text, &[("A", "x")]);
    }

    #[test]
    fn anything_like_yaml_is_answered(text in yaml_like(), value in yaml_like()) {
        if let Err(errors) = parse_with(&text, &[("A", &value)]) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|error| error.location.is_some()));
        }
    }

    #[test]
    fn a_damaged_configuration_is_answered(at in 0..COLLECTOR.len(), with in "\\PC{0,3}") {
        let mut text = COLLECTOR.to_owned();
        if text.is_char_boundary(at) {
            text.insert_str(at, &with);
        }
        let _ = parse(&text);
    }
}
