#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::tenant::Tenant;

use super::*;
use crate::testing::{Bench, TestSpan, V, batch, refused};

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
        ("logs: {include: {match_type: strict}}", "weir.yaml:1:7: processors::it::logs: only spans can be filtered"),
        ("metric_conditions: [x]", "weir.yaml:1:20: processors::it::metric_conditions: only spans can be filtered"),
        (
            "{error_mode: ignore, spans: {exclude: {match_type: strict, services: [a]}}}",
            "weir.yaml:1:14: processors::it::error_mode: this is for conditions in OTTL",
        ),
        ("{}", "weir.yaml:1:1: processors::it::spans: nothing is specified to filter by"),
        ("spans: {}", "weir.yaml:1:8: processors::it::spans: nothing is specified to filter by"),
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
