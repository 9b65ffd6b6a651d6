#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::config::Node;

use super::*;
use crate::testing::{TestSpan, V, batch};

fn properties(yaml: &str) -> Result<Properties, String> {
    Properties::parse(&Node::parse("weir.yaml", yaml).unwrap(), "processors::it::include").map_err(|e| e.to_string())
}

fn matches(yaml: &str, span: &TestSpan) -> bool {
    let properties = properties(yaml).unwrap_or_else(|e| panic!("{e}"));
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
        let error = properties(&format!("{{{settings}}}")).unwrap_err();
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}
