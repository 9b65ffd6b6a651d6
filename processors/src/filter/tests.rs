#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::tenant::Tenant;

use super::*;
use crate::testing::{Bench, TestMetric, TestRecord, TestSpan, V, batch, bodies, logs, metrics, points, refused};

fn spans() -> Vec<TestSpan> {
    let span = |name, env, kind, status, service| TestSpan {
        kind,
        status,
        resource: vec![("service.name", V::S(service))],
        ..TestSpan::named(name, &[("env", V::S(env))])
    };
    vec![
        span("GET /health", "prod", 2, 1, "shop"),
        span("chat", "prod", 3, 2, "shop"),
        span("chat", "dev", 3, 0, "bank"),
        span("embed", "dev", 3, 0, "bank"),
    ]
}

#[test]
fn spans_are_dropped_by_every_property_and_counted_with_a_reason() {
    for (settings, kept, not_included, excluded) in [
        ("exclude: {match_type: strict, span_names: [GET /health]}", vec!["chat", "chat", "embed"], 0, 1),
        ("include: {match_type: strict, span_kinds: [SPAN_KIND_SERVER]}", vec!["GET /health"], 3, 0),
        ("include: {match_type: regexp, span_kinds: [CLIENT$]}", vec!["chat", "chat", "embed"], 1, 0),
        ("exclude: {match_type: strict, status_codes: [Error, Ok]}", vec!["chat", "embed"], 0, 2),
        ("include: {match_type: strict, attributes: [{key: env, value: prod}]}", vec!["GET /health", "chat"], 2, 0),
        (
            "exclude: {match_type: strict, resources: [{key: service.name, value: bank}]}",
            vec!["GET /health", "chat"],
            0,
            2,
        ),
        (
            "include: {match_type: strict, services: [shop]}, exclude: {match_type: regexp, span_names: [^GET]}",
            vec!["chat"],
            2,
            1,
        ),
        ("exclude: {match_type: regexp, span_names: ['.*']}", vec![], 0, 4),
        ("include: {match_type: strict, libraries: [{name: x}]}", vec![], 4, 0),
        ("exclude: {match_type: strict, services: [none]}", vec!["GET /health", "chat", "chat", "embed"], 0, 0),
    ] {
        let bench = Bench::new(build, &format!("spans: {{{settings}}}\n"));
        assert_eq!(bench.names(&spans()), kept, "{settings}");
        let dropped = |reason| bench.count("weir_processor_dropped", reason);
        assert_eq!((dropped("not_included"), dropped("excluded")), (not_included, excluded), "{settings}");
        assert_eq!(bench.telemetry.sum("otelcol_processor_filter_spans_filtered"), not_included + excluded);
    }
}

#[test]
fn conditions_in_ottl_are_refused_with_what_to_write_instead() {
    for (yaml, message) in [
        (
            "error_mode: ignore\ntraces:\n  span:\n    - 'attributes[\"env\"] == \"dev\"'\n",
            "weir.yaml:2:1: processors::it::traces: conditions in OTTL are not supported yet: write what is to be dropped",
        ),
        ("trace_conditions: ['true']", "weir.yaml:1:19: processors::it::trace_conditions: conditions in OTTL"),
        ("metric_conditions: [x]", "weir.yaml:1:20: processors::it::metric_conditions: conditions in OTTL"),
        ("log_conditions: [x]", "weir.yaml:1:17: processors::it::log_conditions: conditions in OTTL"),
        (
            "logs: {log_record: ['severity_number < SEVERITY_NUMBER_WARN']}",
            "weir.yaml:1:20: processors::it::logs::log_record: conditions in OTTL are not supported yet: write what is to be kept",
        ),
        ("logs: {resource: [x]}", "weir.yaml:1:18: processors::it::logs::resource: conditions in OTTL"),
        ("metrics: {metric: [x]}", "weir.yaml:1:19: processors::it::metrics::metric: conditions in OTTL"),
        ("metrics: {datapoint: [x]}", "weir.yaml:1:22: processors::it::metrics::datapoint: conditions in OTTL"),
        ("metrics: {resource: [x]}", "weir.yaml:1:21: processors::it::metrics::resource: conditions in OTTL"),
        ("traces: {span: [], resource: [x]}", "weir.yaml:1:9: processors::it::traces: conditions in OTTL"),
        ("traces: {spam: []}", "weir.yaml:1:10: processors::it::traces: unknown key `spam`: did you mean `span`?"),
        ("profiles: {profiles: []}", "weir.yaml:1:12: processors::it::profiles: unknown key `profiles`"),
        // In the Collector too.
        ("spans: {include: {}}", "weir.yaml:1:18: processors::it::spans::include: nothing is specified to match"),
        (
            "metrics: {exclude: {match_type: expr, expressions: [], metric_names: [a]}}",
            "weir.yaml:1:33: processors::it::metrics::exclude: match_type expr: expressions are not supported",
        ),
        ("profiles: {profile: [x]}", "weir.yaml:1:11: processors::it::profiles: profiles are not supported"),
        (
            "logs: {include: {severity_number: {min: LOUD}}}",
            "weir.yaml:1:41: processors::it::logs::include::severity_number: \"LOUD\" is not a valid severity",
        ),
        ("logs: {include: {bodies: [x]}}", "weir.yaml:1:17: processors::it::logs::include: match_type is required"),
        (
            "logs: {include: {match_type: expr, bodies: [x]}}",
            "weir.yaml:1:30: processors::it::logs::include: unrecognized match_type: \"expr\"",
        ),
        (
            "metrics: {exclude: {match_type: expr, expressions: ['MetricName == \"a\"']}}",
            "weir.yaml:1:33: processors::it::metrics::exclude: match_type expr: expressions are not supported: name the metrics",
        ),
        (
            "metrics: {exclude: {match_type: strict, expressions: [x]}}",
            "weir.yaml:1:54: processors::it::metrics::exclude: expressions are not supported",
        ),
        (
            "metrics: {include: {match_type: strict, names: [a]}}",
            "weir.yaml:1:41: processors::it::metrics::include: unknown key `names`",
        ),
        (
            "{error_mode: ignor, spans: {exclude: {match_type: strict, services: [a]}}}",
            "weir.yaml:1:14: processors::it::error_mode: unknown value `ignor`: did you mean `ignore`?",
        ),
        (
            "spans: {includes: {}}",
            "weir.yaml:1:9: processors::it::spans: unknown key `includes`: did you mean `include`?",
        ),
    ] {
        let error = refused(build, yaml);
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}

#[test]
fn spans_are_chosen_by_who_owns_them_and_not_by_what_they_claim() {
    let forged = TestSpan {
        resource: vec![("weir.project", V::S("web-app")), ("deployment.environment.name", V::S("prd"))],
        ..TestSpan::named("s", &[("project", V::S("web-app"))])
    };
    let spans = [forged];
    let of = |project: &str, environment: &str| {
        let tenant = Tenant::new(project.parse().unwrap(), environment.parse().unwrap());
        batch(&spans).with_tenant(&std::sync::Arc::new(tenant))
    };
    let kept = |yaml: &str| {
        let bench = Bench::new(build, yaml);
        [of("web-app", "prd"), of("web-app", "dev"), of("search", "prd"), batch(&spans)]
            .map(|batch| bench.run(batch).len())
    };
    assert_eq!(kept("spans: {include: {match_type: strict, projects: [web-app]}}"), [1, 1, 0, 0]);
    assert_eq!(kept("spans: {include: {match_type: strict, projects: [web-app], environments: [prd]}}"), [1, 0, 0, 0]);
    assert_eq!(kept("spans: {exclude: {match_type: regexp, environments: ['^p']}}"), [0, 1, 0, 1]);
}

fn records() -> Vec<TestRecord> {
    let record = |body, severity, attributes: &[(&'static str, V)], host| TestRecord {
        severity,
        resource: vec![("host.name", V::S(host))],
        ..TestRecord::saying(body, attributes)
    };
    vec![
        record("boot", (0, ""), &[], "h1"),
        record("IMPORTANT RECORD", (9, "INFO"), &[("env", V::S("prod"))], "h1"),
        record("odd", (10, "INFO2"), &[("env", V::S("prod"))], "h2"),
        record("broken", (17, "ERROR"), &[("env", V::S("dev"))], "h2"),
    ]
}

#[test]
fn log_records_are_dropped_by_every_property_and_counted_with_a_reason() {
    const ALL: [&str; 4] = ["boot", "IMPORTANT RECORD", "odd", "broken"];
    for (settings, kept, not_included) in [
        ("include: {match_type: regexp, bodies: [^IMPORTANT RECORD]}", vec![1], 3),
        ("exclude: {match_type: strict, bodies: [boot, odd]}", vec![1, 3], 0),
        ("include: {match_type: regexp, severity_texts: ['INFO[2-4]?', 'WARN[2-4]?']}", vec![1, 2], 2),
        ("include: {match_type: strict}, exclude: {match_type: strict, bodies: [boot, odd]}", vec![1, 3], 0),
        ("include: {severity_number: {min: 17}}, exclude: {match_type: strict, bodies: []}", vec![3], 3),
        ("include: {severity_number: {min: INFO}}", vec![1, 2, 3], 1),
        ("include: {severity_number: {min: info2, match_undefined: true}}", vec![0, 2, 3], 1),
        ("include: {severity_number: {min: 17}}", vec![3], 3),
        ("include: {severity_number: {match_undefined: true}}", vec![0, 1, 2, 3], 0),
        ("exclude: {severity_number: {min: WARN}}", vec![0, 1, 2], 0),
        ("include: {match_type: strict, resource_attributes: [{key: host.name, value: h2}]}", vec![2, 3], 2),
        ("include: {match_type: regexp, record_attributes: [{key: env, value: '^pr'}]}", vec![1, 2], 2),
        (
            "include: {match_type: strict, record_attributes: [{key: env, value: prod}], resource_attributes: [{key: host.name, value: h2}]}",
            vec![2],
            3,
        ),
        (
            "include: {match_type: strict, resource_attributes: [{key: host.name, value: h2}]}, exclude: {match_type: strict, record_attributes: [{key: env, value: dev}]}",
            vec![2],
            2,
        ),
        ("include: {match_type: strict, bodies: [none]}", vec![], 4),
    ] {
        let bench = Bench::of(Signal::Logs, build, &format!("logs: {{{settings}}}\n"));
        let kept: Vec<&str> = kept.into_iter().map(|n: usize| ALL[n]).collect();
        assert_eq!(bodies(bench.run(logs(&records()))), kept, "{settings}");
        let dropped = |reason| bench.count("weir_processor_dropped", reason);
        let excluded = (ALL.len() - kept.len()) as u64 - not_included;
        assert_eq!((dropped("not_included"), dropped("excluded")), (not_included, excluded), "{settings}");
        assert_eq!(bench.telemetry.sum("otelcol_processor_filter_logs_filtered"), not_included + excluded);
    }
}

#[test]
fn metrics_are_dropped_with_all_their_data_points() {
    let metric = |name, kind, points: usize, env| TestMetric {
        name,
        kind,
        points: vec![vec![("k", V::I(1))]; points],
        resource: vec![("env", V::S(env))],
    };
    let all = [metric("go_gc", 5, 2, "prod"), metric("hello_world", 7, 3, "prod"), metric("hello/world", 9, 4, "dev")];
    for (settings, kept, not_included, excluded) in [
        ("exclude: {match_type: regexp, metric_names: [^go_]}", vec!["hello_world", "hello/world"], 0, 2),
        ("include: {match_type: strict, metric_names: [hello_world, hello]}", vec!["hello_world"], 6, 0),
        (
            "include: {match_type: strict, resource_attributes: [{key: env, value: prod}]}",
            vec!["go_gc", "hello_world"],
            4,
            0,
        ),
        // All of what is included, any of what is excluded.
        (
            "include: {match_type: regexp, metric_names: [^hello], resource_attributes: [{key: env, value: prod}]}",
            vec!["hello_world"],
            6,
            0,
        ),
        (
            "exclude: {match_type: strict, metric_names: [go_gc], resource_attributes: [{key: env, value: dev}]}",
            vec!["hello_world"],
            0,
            6,
        ),
        (
            "regexp: {cacheenabled: true}, include: {match_type: regexp, regexp: {cacheenabled: true}, metric_names: [^hello]}, exclude: {match_type: strict, metric_names: [hello/world]}",
            vec!["hello_world"],
            2,
            4,
        ),
        ("include: {match_type: strict, metric_names: [none]}", vec![], 9, 0),
    ] {
        let bench = Bench::of(Signal::Metrics, build, &format!("metrics: {{{settings}}}\n"));
        let mut names: Vec<String> = points(bench.run(metrics(&all))).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        assert_eq!(names, kept, "{settings}");
        let dropped = |reason| bench.count("weir_processor_dropped", reason);
        assert_eq!((dropped("not_included"), dropped("excluded")), (not_included, excluded), "{settings}");
        assert_eq!(bench.telemetry.sum("otelcol_processor_filter_datapoints_filtered"), not_included + excluded);
    }
}

#[test]
fn a_signal_that_nothing_is_said_of_passes_as_it_is() {
    let bench = Bench::of(Signal::Logs, build, "metrics: {exclude: {match_type: strict, metric_names: [a]}}");
    let before = logs(&records());
    let bytes = before.encode();
    assert_eq!(bench.run(before).encode(), bytes);
}

#[test]
fn what_asks_for_nothing_drops_nothing() {
    for yaml in [
        "{}",
        "traces: {}",
        "traces: {span: [], resource: , spanevent: []}",
        "spans: {}",
        "spans:",
        "spans: {include: , exclude: }",
        "{trace_conditions: [], log_conditions: [], metric_conditions: []}",
        "{profiles: {profile: []}, profile_conditions: []}",
        "logs: {}",
        "logs: {include: {}}",
        "logs: {include: {match_type: strict}, exclude: {}}",
        "logs: {log_record: [], resource: []}",
        "metrics: {}",
        "metrics: {include: {match_type: strict}}",
        "metrics: {include: {match_type: expr, expressions: []}}",
        "metrics: {exclude: {match_type: regexp, metric_names: [], resource_attributes: []}}",
        "metrics: {metric: [], datapoint: [], resource: []}",
    ] {
        for before in [
            batch(&spans()),
            logs(&records()),
            metrics(&[TestMetric { name: "m", kind: 5, points: vec![vec![]], ..TestMetric::default() }]),
        ] {
            let bytes = before.encode();
            assert_eq!(Bench::of(before.signal(), build, yaml).run(before).encode(), bytes, "{yaml}");
        }
    }
    // Beside what asks for something it makes no difference.
    let exclude =
        "metrics: {metric: [], include: {}, exclude: {match_type: strict, expressions: [], metric_names: [m]}}";
    let metric = TestMetric { name: "m", kind: 5, points: vec![vec![]], ..TestMetric::default() };
    assert_eq!(Bench::of(Signal::Metrics, build, exclude).run(metrics(&[metric])).len(), 0);
}
