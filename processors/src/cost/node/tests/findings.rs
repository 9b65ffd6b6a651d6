//! Findings that are not the first: those of another Weir, of agents, and those that cannot be.

use super::*;

#[test]
fn agents_without_a_call_are_counted_and_not_billed() {
    let agent = |trace, id| TestSpan::call(trace, id).with("gen_ai.operation.name", "invoke_agent");
    let spans = [TestSpan::call(1, 2).below(1), agent(1, 1), agent(2, 1)];
    let mut rig = Rig::new("");
    let out = rig.run(request(&[], &spans));
    assert_eq!(pairs(&out[2]), [("weir.cost.status", "aggregate")]);
    assert!(get(&out[1], "weir.cost.deferred_to").is_some());
    let counted = |rig: &Rig| rig.counter("weir_cost_aggregates_alone", &[("processor", "cost")]);
    assert_eq!((counted(&rig), rig.counter("weir_cost_unpriced_spans", &[])), (1, 0));
    assert_eq!(rig.counter("weir_cost_picousd", &[]), 3_500_000_000);
    // Another Weir knew its calls, and who remembers none cannot tell.
    let mut rig = Rig::new("");
    rig.run(request(&[], &[agent(3, 1).with("weir.cost.status", "aggregate")]));
    assert_eq!(counted(&rig), 0);
    let mut rig = Rig::new("billed_once: {enabled: false}");
    rig.run(request(&[], &spans));
    assert_eq!(counted(&rig), 0);
}

#[test]
fn what_another_weir_found_stands() {
    let earlier = TestSpan::call(1, 1)
        .with("gen_ai.response.id", "r")
        .with("weir.cost.status", "priced")
        .with("gen_ai.usage.cost.amount", 7.0);
    let later = TestSpan::call(2, 2).with("gen_ai.response.id", "r");
    let out = Rig::new("given_cost: prefer_local").run(request(&[], &[earlier, later]));
    assert_eq!(pairs(&out[0]), [("gen_ai.usage.cost.amount", "7"), ("weir.cost.status", "priced")]);
    assert_eq!(get(&out[1], "weir.cost.status"), Some("duplicate"), "and it is billed there");
}

#[test]
fn a_finding_of_another_weir_without_the_amount_it_promises_is_none() {
    let found = |status: &str, key: &str, amount: TestValue| {
        let span = TestSpan::call(1, 1).with("weir.cost.status", status).with(key, amount);
        Rig::new("").run(request(&[], &[span])).remove(0)
    };
    let total = "weir.cost.total";
    for amount in [TestValue::from("abc"), f64::NAN.into(), (-1.0).into(), 1e6.into()] {
        let out = found("priced", "gen_ai.usage.cost.amount", amount.clone());
        assert_eq!((get(&out, "weir.cost.status"), get(&out, total)), (Some("priced"), Some("0.0035")));
        let out = found("given", total, amount);
        assert_eq!((get(&out, "weir.cost.status"), get(&out, total)), (Some("priced"), Some("0.0035")));
        assert_eq!(get(&out, "gen_ai.usage.cost.amount"), Some("0.0035"));
    }
    let none = Rig::new("").run(request(&[], &[TestSpan::call(1, 1).with("weir.cost.status", "estimated")])).remove(0);
    assert_eq!(get(&none, "gen_ai.usage.cost.amount"), Some("0.0035"));
    assert_eq!(pairs(&found("priced", total, "7".into())), [("weir.cost.status", "priced"), (total, "7")]);
    let unknown = found("unknown_model", "gen_ai.usage.cost.amount", "abc".into());
    assert_eq!(get(&unknown, "weir.cost.status"), Some("unknown_model"), "it promises nothing");
}

#[test]
fn a_million_for_one_span_is_a_mistake() {
    let mut rig = Rig::new("");
    // 2.50 USD per million: 400,000,000,000 tokens are a million USD.
    let call = |id, tokens: i64| {
        TestSpan::call(id, id).with("gen_ai.usage.input_tokens", tokens).with("gen_ai.usage.output_tokens", 0)
    };
    let out = rig.run(request(&[], &[call(1, 400_000_000_000), call(2, 399_999_000_000)]));
    assert_eq!(pairs(&out[0]), [("weir.cost.status", "invalid")]);
    assert_eq!(get(&out[1], "gen_ai.usage.cost.amount"), Some("999997.5"));
    assert_eq!(rig.counter("weir_cost_unpriced_spans", &[("reason", "invalid")]), 1);
    let given = TestSpan::call(3, 3).with("operation.cost", 2e6);
    let out = Rig::new("given_cost: prefer_given").run(request(&[], &[given])).remove(0);
    assert_eq!(get(&out, "weir.cost.status"), Some("priced"), "what the application gave is no cost");
}
