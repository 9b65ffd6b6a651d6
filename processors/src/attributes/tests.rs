#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{Bench, TestSpan, V, batch};

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
