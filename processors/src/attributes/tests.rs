#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{
    Bench, TestMetric, TestRecord, TestSpan, V, batch, bodies, logs, metrics, points, refused, refused_by,
};

const DELETE: &str = "actions: [{key: credit_card, action: delete}]";

/// The names of the spans that the processor has changed.
fn changed(settings: &str, spans: &[TestSpan]) -> Vec<String> {
    let mut spans = spans.to_vec();
    spans.iter_mut().for_each(|s| s.attributes.push(("credit_card", V::I(1234))));
    let after = Bench::new(build, &format!("{settings}\n{DELETE}\n")).run(batch(&spans));
    after.spans().filter(|s| s.attr("credit_card").is_none()).map(|s| s.name().to_string()).collect()
}

/// The examples of the Collector's `attributesprocessor/testdata/config.yaml`.
#[test]
fn spans_are_included_and_excluded_as_in_the_collectors_examples() {
    let dev = [("env", V::S("dev")), ("test_request", V::I(123))];
    let spans = [
        TestSpan::named("1", &dev).of_service("svcB"),
        TestSpan::named("2", &[("env", V::S("dev")), ("test_request", V::B(false))]).of_service("svcA"),
        TestSpan::named("3", &[("env", V::I(1)), ("test_request", V::S("dev"))]).of_service("svcB"),
        TestSpan::named("4", &dev).of_service("svcC"),
    ];
    let exclude = "exclude: {match_type: strict, services: [svcA, svcB], attributes: [{key: env, value: dev}, {key: test_request}]}";
    assert_eq!(changed(exclude, &spans), ["3", "4"]);

    let spans = [
        TestSpan::named("1", &[("redact_trace", V::S("false"))]).of_service("svcB"),
        TestSpan::named("2", &[("redact_trace", V::B(true))]).of_service("svcA"),
        TestSpan::named("3", &[("redact_trace", V::B(false))]).of_service("svcB"),
        TestSpan::named("4", &[]).of_service("svcC"),
    ];
    let selective = "include: {match_type: strict, services: [svcA, svcB]}\nexclude: {match_type: strict, attributes: [{key: redact_trace, value: false}]}";
    assert_eq!(changed(selective, &spans), ["1", "2"], "a text is no boolean");
}

#[test]
fn a_batch_that_no_action_changes_keeps_its_bytes() {
    let before = batch(&[TestSpan::named("a", &[("k", V::I(1))]), TestSpan::named("b", &[])]);
    let bytes = before.encode();
    let bench = Bench::new(
        build,
        "actions: [{key: absent, action: delete}, {key: absent, value: 1, action: update}, {key: absent, action: hash}]",
    );
    assert_eq!(bench.run(before).encode(), bytes);
    assert_eq!(bench.count("otelcol_processor_outgoing_items", "traces"), 2);
}

/// The bodies of the log records that the processor has changed.
fn changed_records(settings: &str, records: &[TestRecord]) -> Vec<String> {
    let mut records = records.to_vec();
    records.iter_mut().for_each(|r| r.attributes.push(("credit_card", V::I(1234))));
    let mut after = Bench::of(Signal::Logs, build, &format!("{settings}\n{DELETE}\n")).run(logs(&records));
    after.retain_log_records_mut(|record| record.view().attr("credit_card").is_none());
    bodies(after)
}

#[test]
fn log_records_are_included_and_excluded() {
    let severe = |body, severity| TestRecord { severity, ..TestRecord::saying(body, &[("env", V::S("dev"))]) };
    let records = [
        severe("a", (9, "INFO")),
        severe("b", (17, "ERROR")),
        TestRecord { resource: vec![("host.name", V::S("h1"))], ..TestRecord::saying("c", &[]) },
    ];
    assert_eq!(changed_records("", &records), ["a", "b", "c"]);
    assert_eq!(changed_records("include: {match_type: strict, log_bodies: [a, c]}", &records), ["a", "c"]);
    assert_eq!(changed_records("exclude: {log_severity_number: {min: 17}}", &records), ["a", "c"]);
    let selective = "include: {match_type: regexp, attributes: [{key: env, value: ^d}]}
exclude: {match_type: strict, log_severity_texts: [ERROR]}";
    assert_eq!(changed_records(selective, &records), ["a"]);
    assert_eq!(
        changed_records("include: {match_type: strict, resources: [{key: host.name, value: h1}]}", &records),
        ["c"]
    );
}

#[test]
fn actions_run_on_the_data_points_of_every_type_of_metric() {
    let metric = |name, kind| TestMetric {
        name,
        kind,
        points: vec![vec![("path", V::S("/a")), ("user", V::S("bob"))], vec![("path", V::S("/b"))]],
        resource: vec![("service.name", V::S("shop"))],
    };
    let all = [
        metric("gauge", 5),
        metric("sum", 7),
        metric("histogram", 9),
        metric("exponential", 10),
        metric("summary", 11),
    ];
    let actions = "actions: [{key: user, action: delete}, {key: route, from_attribute: path, action: insert}]";
    let after = points(Bench::of(Signal::Metrics, build, actions).run(metrics(&all)));
    let expected: Vec<(String, String)> = all
        .iter()
        .flat_map(|metric| {
            [r#"{"path": Str("/a"), "route": Str("/a")}"#, r#"{"path": Str("/b"), "route": Str("/b")}"#]
                .map(|point| (metric.name.to_owned(), point.to_owned()))
        })
        .collect();
    assert_eq!(after, expected);

    let chosen = |settings: &str| {
        let bench =
            Bench::of(Signal::Metrics, build, &format!("{settings}\nactions: [{{key: path, action: delete}}]\n"));
        let points = points(bench.run(metrics(&all))).into_iter();
        let mut names: Vec<String> =
            points.filter(|(_, point)| !point.contains("path")).map(|(name, _)| name).collect();
        names.dedup();
        names
    };
    assert_eq!(chosen("include: {match_type: regexp, metric_names: [^s]}"), ["sum", "summary"]);
    let excluding = "include: {match_type: strict, resources: [{key: service.name, value: shop}]}
exclude: {match_type: strict, metric_names: [gauge, sum, histogram]}";
    assert_eq!(chosen(excluding), ["exponential", "summary"]);
    assert!(chosen("include: {match_type: strict, resources: [{key: service.name, value: bank}]}").is_empty());
}

#[test]
fn logs_and_metrics_that_no_action_changes_keep_their_bytes() {
    let yaml = "actions: [{key: absent, action: delete}, {key: absent, value: 1, action: update}]";
    let point = vec![("k", V::I(1))];
    let metric = TestMetric { name: "m", kind: 7, points: vec![point], resource: Vec::new() };
    for before in [logs(&[TestRecord::saying("a", &[("k", V::I(1))])]), metrics(&[metric])] {
        let bytes = before.encode();
        assert_eq!(Bench::of(before.signal(), build, yaml).run(before).encode(), bytes);
    }
}

#[test]
fn what_is_matched_must_be_there_in_each_signal_of_the_pipelines() {
    let services = format!("include: {{match_type: strict, services: [a]}}\n{DELETE}\n");
    let bodies = format!("include: {{match_type: strict, log_bodies: [a]}}\n{DELETE}\n");
    let both = [Signal::Traces, Signal::Logs];
    assert!(refused_by(&both, build, &services).contains("services should not be specified for log records"));
    assert!(refused_by(&both, build, &bodies).contains("log_bodies should not be specified for trace spans"));
    // On metrics the actions would run for all of them if it were left out.
    let both = [Signal::Traces, Signal::Metrics];
    assert!(refused_by(&both, build, &services).contains("services should not be specified for metrics"));
    let services_apart = services.replace("include", "exclude");
    assert!(
        refused_by(&both, build, &services_apart).contains("exclude: services should not be specified for metrics")
    );
    Bench::of(Signal::Traces, build, &services);
    Bench::of(Signal::Logs, build, &bodies);
    // Of what no pipeline names, nobody knows what it is for; but not for everything.
    assert!(refused(build, &bodies.replace("log_bodies", "metric_names: [a], log_bodies")).contains("metric_names"));
    assert!(refused(build, &bodies.replace("strict", "glob")).contains("unrecognized match_type"));
}
