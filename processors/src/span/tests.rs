//! The first cases are the examples of the Collector's `spanprocessor/testdata/config.yaml`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{Bench, TestSpan, V, batch, refused};

/// Name, attributes, status code and description of the span afterwards.
fn after(yaml: &str, span: TestSpan) -> (String, Vec<String>, i32, String) {
    let batch = Bench::new(build, yaml).run(batch(&[span]));
    let span = batch.spans().next().unwrap();
    let fields = span.fields();
    let attributes = span.attributes().map(|(k, v)| format!("{k}={}", v.to_text())).collect();
    (fields.name.to_string(), attributes, fields.status_code, fields.status_message.to_string())
}

fn renamed(yaml: &str, span: TestSpan) -> String {
    after(yaml, span).0
}

#[test]
fn names_are_made_of_attributes_if_all_are_there() {
    let yaml = "name: {separator: '::', from_attributes: [db.svc, operation, id]}";
    let all = [("db.svc", V::S("location")), ("operation", V::S("get")), ("id", V::S("1234"))];
    assert_eq!(renamed(yaml, TestSpan::named("serviceA", &all)), "location::get::1234");
    assert_eq!(renamed(yaml, TestSpan::named("serviceA", &[all[0].clone(), all[2].clone()])), "serviceA");
    let plain = "name: {from_attributes: [db.svc, operation, id]}";
    assert_eq!(renamed(plain, TestSpan::named("serviceA", &all)), "locationget1234");
    let typed = [("db.svc", V::B(true)), ("operation", V::D(0.5)), ("id", V::I(-7))];
    assert_eq!(renamed(yaml, TestSpan::named("", &typed)), "true::0.5::-7");
    let far = [("db.svc", V::D(1e21)), ("operation", V::D(1e-7)), ("id", V::D(-0.0))];
    assert_eq!(renamed(yaml, TestSpan::named("", &far)), "1000000000000000000000::0.0000001::-0");
}

#[test]
fn attributes_are_made_of_names() {
    let yaml = r"name: {to_attributes: {rules: ['^\/api\/v1\/document\/(?P<documentId>.*)\/update$']}}";
    let (name, attributes, ..) =
        after(yaml, TestSpan::named("/api/v1/document/12345678/update", &[("documentId", V::I(1))]));
    assert_eq!(
        (name.as_str(), &attributes[..]),
        ("/api/v1/document/{documentId}/update", &["documentId=12345678".to_owned()][..])
    );
    assert_eq!(renamed(yaml, TestSpan::named("/api/v2", &[])), "/api/v2");

    let rules = "rules: ['^/(?P<first>[a-z]+)', '(?P<number>[0-9]+)$']";
    let both = format!("name: {{to_attributes: {{{rules}}}}}");
    let (name, attributes, ..) = after(&both, TestSpan::named("/users/7", &[]));
    assert_eq!((name.as_str(), attributes.join(" ").as_str()), ("/{first}/{number}", "first=users number=7"));
    let stop = format!("name: {{to_attributes: {{{rules}, break_after_match: true}}}}");
    assert_eq!(renamed(&stop, TestSpan::named("/users/7", &[])), "/{first}/7");
    let keep = format!("name: {{to_attributes: {{{rules}, keep_original_name: true}}}}");
    let (name, attributes, ..) = after(&keep, TestSpan::named("/users/7", &[]));
    assert_eq!((name.as_str(), attributes.len()), ("/users/7", 2));
    // A group that takes no part, and one within another.
    let odd = "name: {to_attributes: {rules: ['^(?P<absent>x)?(?P<outer>a(?P<inner>b)c)$']}}";
    let (name, attributes, ..) = after(odd, TestSpan::named("abc", &[]));
    assert_eq!((name.as_str(), attributes.join(" ").as_str()), ("{outer}", "outer=abc inner=b"));
}

#[test]
fn a_rule_without_groups_only_stops_the_rules_behind_it() {
    let rules = "rules: [health, '(?P<number>[0-9]+)$']";
    let both = format!("name: {{to_attributes: {{{rules}}}}}");
    assert_eq!(renamed(&both, TestSpan::named("/health/7", &[])), "/health/{number}");
    let stop = format!("name: {{to_attributes: {{{rules}, break_after_match: true}}}}");
    let (name, attributes, ..) = after(&stop, TestSpan::named("/health/7", &[]));
    assert_eq!((name.as_str(), attributes.len()), ("/health/7", 0));
    assert_eq!(renamed(&stop, TestSpan::named("/users/7", &[])), "/users/{number}");
    let alone = "name: {to_attributes: {rules: ['^(?:a|b)c']}}";
    let before = batch(&[TestSpan::named("bcd", &[])]);
    let bytes = before.encode();
    assert_eq!(Bench::new(build, alone).run(before).encode(), bytes);
}

#[test]
fn include_and_exclude_choose_spans() {
    let yaml = r#"
include: {match_type: regexp, services: [banks], span_names: ["^(.*?)/(.*?)$"]}
exclude: {match_type: strict, span_names: [donot/change]}
name: {to_attributes: {rules: ["(?P<operation_website>.*?)$"]}}
"#;
    let of = |name, service| TestSpan::named(name, &[]).of_service(service);
    let (name, attributes, ..) = after(yaml, of("www.test.com/code", "test-banks"));
    assert_eq!(
        (name.as_str(), attributes.join(" ").as_str()),
        ("{operation_website}", "operation_website=www.test.com/code")
    );
    for (name, service) in [("donot/change", "banks"), ("x/y", "shop"), ("noslash", "banks")] {
        assert_eq!(renamed(yaml, of(name, service)), name);
    }
}

#[test]
fn the_status_is_set() {
    let error = r#"status: {code: Error, description: "some additional error description"}"#;
    let (.., code, description) = after(error, TestSpan::named("s", &[]));
    assert_eq!((code, description.as_str()), (2, "some additional error description"));
    let ok = "include: {match_type: strict, attributes: [{key: http.status_code, value: 400}]}\nstatus: {code: Ok}";
    for (status, code) in [(400, 1), (500, 2)] {
        let span = TestSpan { status: 2, ..TestSpan::named("s", &[("http.status_code", V::I(status))]) };
        assert_eq!(after(ok, span).2, code);
    }
    let span = TestSpan { status: 2, ..TestSpan::named("s", &[]) };
    assert_eq!(after("status: {code: Unset}", span).2, 0);
}

#[test]
fn settings_are_refused_where_they_stand() {
    for (yaml, message) in [
        ("{}", "weir.yaml:1:1: processors::it: nothing to do: either `from_attributes`"),
        ("name: {separator: x}", "weir.yaml:1:1: processors::it: nothing to do"),
        (
            "status: {code: ok}",
            "weir.yaml:1:16: processors::it::status: \"ok\" is no status code: codes are Unset, Ok and Error",
        ),
        (
            "status: {code: Ok, description: x}",
            "weir.yaml:1:33: processors::it::status: `description` can be specified only",
        ),
        (
            "name: {to_attributes: {rules: ['(']}}",
            "weir.yaml:1:32: processors::it::name::to_attributes::rules[0]: \"(\" is not",
        ),
        (
            "name: {to_attributes: {rules: ['a(b)']}}",
            "weir.yaml:1:32: processors::it::name::to_attributes::rules[0]: every group",
        ),
        (
            "{status: {code: Ok}, include: {services: [a]}}",
            "weir.yaml:1:31: processors::it::include: match_type is required",
        ),
    ] {
        let error = refused(build, yaml);
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}
