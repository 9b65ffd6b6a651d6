#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::signal::Signal;

use super::*;
use crate::testing::{Bench, TestSpan, V, attributes, batch};

#[test]
fn all_signals_have_resources() {
    let bench =
        Bench::new(build, "attributes: [{key: env, value: prod, action: upsert}, {key: secret, action: delete}]");
    let wrap = |number: u32, body: &[u8]| {
        let mut out = Vec::new();
        weir_pipeline::batch::wire::put_bytes(&mut out, number, body);
        out
    };
    // One log record, and one metric with a gauge of one point, of resources with and without attributes.
    for (signal, records) in
        [(Signal::Logs, wrap(2, &wrap(2, &[]))), (Signal::Metrics, wrap(2, &wrap(2, &wrap(5, &wrap(1, &[])))))]
    {
        let resource = wrap(1, &attributes(1, &[("env", V::S("dev")), ("secret", V::I(1)), ("z", V::B(true))]));
        let request = [wrap(1, &[resource, records.clone()].concat()), wrap(1, &records)].concat();
        let after = bench.run(Batch::decode(signal, request.into()).unwrap()).encode();
        let env = attributes(1, &[("z", V::B(true)), ("env", V::S("prod"))]);
        let expected = [
            wrap(1, &[wrap(1, &env), records.clone()].concat()),
            wrap(1, &[wrap(1, &attributes(1, &[("env", V::S("prod"))])), records].concat()),
        ]
        .concat();
        assert_eq!(after, expected, "{signal}");
        assert_eq!(bench.count("otelcol_processor_incoming_items", signal.as_str()), 2);
    }
}

#[test]
fn every_span_of_a_resource_sees_the_change() {
    let bench = Bench::new(build, "attributes: [{key: env, from_attribute: service.name, action: insert}]");
    let after = bench.run(batch(&[TestSpan::named("a", &[]).of_service("x"), TestSpan::named("b", &[])]));
    let env: Vec<_> =
        after.spans().map(|s| s.resource_attributes().get("env").map(|v| v.to_text().into_owned())).collect();
    assert_eq!(env, [Some("x".to_owned()), None]);
}
