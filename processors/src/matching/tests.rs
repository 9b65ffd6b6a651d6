#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::config::Node;
use weir_pipeline::signal::Signal;

use super::*;
use crate::testing::{TestMetric, TestRecord, TestSpan, V, batch, logs, metrics};

fn properties(signal: Signal, yaml: &str) -> Result<Properties, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Properties::parse(&node, "processors::it::include", signal).map_err(|e| e.to_string())
}

fn matches(yaml: &str, span: &TestSpan) -> bool {
    let properties = properties(Signal::Traces, yaml).unwrap_or_else(|e| panic!("{e}"));
    let batch = batch(std::slice::from_ref(span));
    batch.spans().all(|span| properties.matches(span))
}

fn span() -> TestSpan {
    TestSpan {
        kind: 3,
        status: 2,
        scope: ("mongo-java-driver", "3.8.0"),
        resource: vec![("service.name", V::S("checkout")), ("host.type", V::S("n1-standard-1")), ("n", V::I(5))],
        ..TestSpan::named("GET /cart", &[("env", V::S("prod")), ("ok", V::B(true)), ("n", V::I(5)), ("x", V::D(0.5))])
    }
}

#[test]
fn every_property_matches_strictly_and_by_pattern() {
    for (settings, expected) in [
        ("match_type: strict, services: [a, checkout]", true),
        ("match_type: strict, services: [check]", false),
        ("match_type: regexp, services: [^check]", true),
        ("match_type: strict, span_names: [GET /cart]", true),
        ("match_type: regexp, span_names: ['^GET .*', POST]", true),
        ("match_type: regexp, span_names: ['(?i)^get /CART$']", true),
        ("match_type: strict, span_kinds: [SPAN_KIND_SERVER, SPAN_KIND_CLIENT]", true),
        ("match_type: strict, span_kinds: [SPAN_KIND_SERVER]", false),
        ("match_type: regexp, span_kinds: [CLIENT]", true),
        ("match_type: strict, status_codes: [Error]", true),
        ("match_type: strict, status_codes: [Unset, Ok]", false),
        ("match_type: strict, attributes: [{key: env}]", true),
        ("match_type: strict, attributes: [{key: absent}]", false),
        ("match_type: strict, attributes: [{key: env, value: prod}, {key: n, value: 5}]", true),
        ("match_type: strict, attributes: [{key: env, value: prod}, {key: n, value: 6}]", false),
        ("match_type: strict, attributes: [{key: n, value: '5'}]", false),
        ("match_type: strict, attributes: [{key: ok, value: true}, {key: x, value: 0.5}]", true),
        ("match_type: regexp, attributes: [{key: env, value: 'pro.*'}]", true),
        (
            "match_type: regexp, attributes: [{key: n, value: '^5$'}, {key: ok, value: 'true'}, {key: x, value: '0[.]5'}]",
            true,
        ),
        ("match_type: regexp, attributes: [{key: absent, value: '.*'}]", false),
        ("match_type: strict, resources: [{key: host.type, value: n1-standard-1}, {key: n}]", true),
        ("match_type: strict, resources: [{key: host.type, value: n1-standard-1}, {key: absent}]", false),
        ("match_type: strict, libraries: [{name: mongo-java-driver, version: 3.8.0}]", true),
        ("match_type: strict, libraries: [{name: mongo-java-driver}]", true),
        ("match_type: strict, libraries: [{name: mongo-java-driver, version: ''}]", false),
        ("match_type: strict, libraries: [{name: x}, {name: mongo-java-driver}]", true),
        ("match_type: regexp, libraries: [{name: ^mongo, version: '^3[.]'}]", true),
        // Everything that is given must hold.
        ("match_type: strict, services: [checkout], span_names: [GET /cart], attributes: [{key: env}]", true),
        ("match_type: strict, services: [checkout], span_names: [GET /other], attributes: [{key: env}]", false),
        ("match_type: regexp, regexp: {cacheenabled: true, cachemaxnumentries: 10}, services: [.]", true),
    ] {
        assert_eq!(matches(&format!("{{{settings}}}"), &span()), expected, "{settings}");
    }
    // The Collector compares with this where there is no service.name.
    assert!(matches("{match_type: strict, services: ['<nil-service-name>']}", &TestSpan::named("s", &[])));
    assert!(matches("{match_type: strict, libraries: [{name: '', version: ''}]}", &TestSpan::named("s", &[])));
}

#[test]
fn settings_are_refused_where_they_stand() {
    for (settings, message) in [
        (
            "services: [a]",
            "weir.yaml:1:1: processors::it::include: match_type is required: valid types are strict and regexp",
        ),
        (
            "match_type: glob, services: [a]",
            "weir.yaml:1:14: processors::it::include: unrecognized match_type: \"glob\"",
        ),
        (
            "match_type: strict",
            "weir.yaml:1:1: processors::it::include: nothing is specified to match: specify at least one of",
        ),
        (
            "match_type: strict, log_bodies: [a]",
            "weir.yaml:1:34: processors::it::include: log_bodies should not be specified for trace",
        ),
        (
            "match_type: strict, metric_names: [a]",
            "weir.yaml:1:36: processors::it::include: metric_names should not be specified",
        ),
        (
            "match_type: strict, span_kinds: [client]",
            "weir.yaml:1:35: processors::it::include: \"client\" is none of the span_kinds",
        ),
        (
            "match_type: strict, status_codes: [error]",
            "weir.yaml:1:37: processors::it::include: \"error\" is none of the status_codes",
        ),
        (
            "match_type: regexp, services: ['[']",
            "weir.yaml:1:33: processors::it::include: \"[\" is not a valid pattern",
        ),
        (
            "match_type: regexp, attributes: [{key: a, value: 5}]",
            "weir.yaml:1:51: processors::it::include: match_type regexp needs a text as the value of \"a\", found an integer: put it in quotes",
        ),
        (
            "match_type: regexp, attributes: [{key: a, value: '['}]",
            "weir.yaml:1:51: processors::it::include: \"[\" is not a valid pattern",
        ),
        (
            "match_type: strict, attributes: [{value: 5}]",
            "weir.yaml:1:35: processors::it::include: can't have empty key",
        ),
        (
            "match_type: regexp, libraries: [{name: '['}]",
            "weir.yaml:1:41: processors::it::include: \"[\" is not a valid pattern",
        ),
        (
            "match_type: strict, span_name: [a]",
            "weir.yaml:1:22: processors::it::include: unknown key `span_name`: did you mean `span_names`?",
        ),
    ] {
        let error = properties(Signal::Traces, &format!("{{{settings}}}")).unwrap_err();
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}

#[test]
fn log_records_match_by_body_and_severity_too() {
    let record = TestRecord {
        severity: (13, "Warning"),
        scope: ("kernel", "6.1"),
        resource: vec![("service.name", V::S("checkout"))],
        ..TestRecord::saying("disk is full", &[("env", V::S("prod")), ("n", V::I(5))])
    };
    let number = |n| TestRecord { body: Some(V::I(n)), ..TestRecord::default() };
    let matches = |settings: &str, record: &TestRecord| {
        let properties = properties(Signal::Logs, &format!("{{{settings}}}")).unwrap_or_else(|e| panic!("{e}"));
        let mut found = false;
        logs(std::slice::from_ref(record)).for_each_log_record_mut(|r| found = properties.matches_log_record(r.view()));
        found
    };
    for (settings, expected) in [
        ("match_type: strict, log_bodies: [x, disk is full]", true),
        ("match_type: strict, log_bodies: [disk]", false),
        ("match_type: regexp, log_bodies: [^disk]", true),
        ("match_type: strict, log_severity_texts: [Warning]", true),
        ("match_type: strict, log_severity_texts: [WARNING]", false),
        ("match_type: regexp, log_severity_texts: ['(?i)^warn']", true),
        ("log_severity_number: {min: 13}", true),
        ("log_severity_number: {min: 14}", false),
        ("match_type: strict, log_severity_number: {min: 9, match_undefined: true}", true),
        ("match_type: strict, attributes: [{key: env, value: prod}, {key: n}]", true),
        ("match_type: strict, attributes: [{key: env, value: dev}]", false),
        ("match_type: strict, resources: [{key: service.name, value: checkout}]", true),
        ("match_type: strict, libraries: [{name: kernel, version: '6.1'}]", true),
        ("match_type: strict, libraries: [{name: kernel, version: ''}]", false),
        ("match_type: strict, log_bodies: [disk is full], log_severity_number: {min: 17}", false),
        ("match_type: strict, projects: [web-app]", false),
        // A list that is empty asks for nothing, whatever it is of.
        ("match_type: strict, log_bodies: [disk is full], services: [], span_names:", true),
    ] {
        assert_eq!(matches(settings, &record), expected, "{settings}");
    }
    assert!(matches("match_type: strict, log_bodies: ['7']", &number(7)));
    assert!(matches("match_type: strict, log_bodies: ['']", &TestRecord::default()));
    assert!(!matches("log_severity_number: {min: 1}", &number(7)));
    assert!(matches("log_severity_number: {min: 1, match_undefined: true}", &number(7)));
}

#[test]
fn metrics_match_by_name_and_resource() {
    let metric = TestMetric {
        name: "http.server.duration",
        kind: 9,
        points: vec![vec![]],
        resource: vec![("env", V::S("prod"))],
    };
    for (settings, expected) in [
        ("match_type: strict, metric_names: [a, http.server.duration]", true),
        ("match_type: strict, metric_names: [http]", false),
        ("match_type: regexp, metric_names: ['^http[.]']", true),
        ("match_type: strict, resources: [{key: env, value: prod}]", true),
        ("match_type: regexp, metric_names: [http], resources: [{key: env, value: dev}]", false),
    ] {
        let properties = properties(Signal::Metrics, &format!("{{{settings}}}")).unwrap_or_else(|e| panic!("{e}"));
        let dropped = metrics(std::slice::from_ref(&metric)).retain_metrics(|m| properties.matches_metric(m));
        assert_eq!(dropped == 0, expected, "{settings}");
    }
}

#[test]
fn what_metrics_are_not_chosen_by_is_refused_and_not_left_out() {
    for settings in [
        "services: [a]",
        "span_names: [a]",
        "span_kinds: [SPAN_KIND_SERVER]",
        "status_codes: [Error]",
        "log_bodies: [a]",
        "log_severity_texts: [WARN]",
        "log_severity_number: {min: 9}",
        "attributes: [{key: a}]",
        "libraries: [{name: a}]",
    ] {
        let (key, _) = settings.split_once(':').unwrap();
        // Beside what metrics are chosen by too.
        for settings in
            [format!("match_type: strict, {settings}"), format!("match_type: strict, metric_names: [m], {settings}")]
        {
            let error = properties(Signal::Metrics, &format!("{{{settings}}}")).unwrap_err();
            assert!(error.contains(&format!("include: {key} should not be specified for metrics: ")), "{error}");
        }
    }
    properties(Signal::Metrics, "{match_type: strict, metric_names: [m], services: [], attributes: }").unwrap();
}

#[test]
fn numbers_are_matched_without_exponents() {
    let span = TestSpan::named("s", &[("large", V::D(1e21)), ("small", V::D(1e-7))]);
    let large = "{match_type: regexp, attributes: [{key: large, value: '^1000000000000000000000$'}]}";
    assert!(matches(large, &span));
    assert!(matches("{match_type: regexp, attributes: [{key: small, value: '^0[.]0000001$'}]}", &span));
}

#[test]
fn properties_that_a_signal_has_not_are_refused() {
    for (signal, settings, message) in [
        (
            Signal::Logs,
            "match_type: strict, services: [a]",
            "weir.yaml:1:32: processors::it::include: services should not be specified for log records: match `resources: [{key: service.name, value: …}]`",
        ),
        (
            Signal::Logs,
            "match_type: strict, span_names: [a]",
            "weir.yaml:1:34: processors::it::include: span_names should not be specified for log records",
        ),
        (
            Signal::Logs,
            "match_type: strict, metric_names: [a]",
            "weir.yaml:1:36: processors::it::include: metric_names should not be specified for log records",
        ),
        (
            Signal::Logs,
            "match_type: strict",
            "weir.yaml:1:1: processors::it::include: nothing is specified to match: specify at least one of projects, environments, log_bodies",
        ),
        (
            Signal::Logs,
            "log_bodies: [a]",
            "weir.yaml:1:1: processors::it::include: match_type is required: valid types are strict and regexp",
        ),
        (
            Signal::Logs,
            "match_type: regexp, log_bodies: ['(']",
            "weir.yaml:1:35: processors::it::include: \"(\" is not a valid pattern",
        ),
        (
            Signal::Logs,
            "log_severity_number: {min: warn}",
            "weir.yaml:1:29: processors::it::include::log_severity_number::min: ",
        ),
        (
            Signal::Metrics,
            "match_type: strict, services: [a]",
            "weir.yaml:1:32: processors::it::include: services should not be specified for metrics: match `resources: [{key: service.name, value: …}]`",
        ),
        (
            Signal::Metrics,
            "match_type: strict, attributes: [{key: a}]",
            "weir.yaml:1:34: processors::it::include: attributes should not be specified for metrics: metrics are chosen by metric_names and resources",
        ),
        (
            Signal::Metrics,
            "match_type: strict",
            "weir.yaml:1:1: processors::it::include: nothing is specified to match: specify at least one of projects, environments, metric_names and resources",
        ),
    ] {
        let error = properties(signal, &format!("{{{settings}}}")).unwrap_err();
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}
