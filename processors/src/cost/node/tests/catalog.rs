//! The `catalog` section, through the processor.

use super::*;

const YAML: &str = "
billed_once: {enabled: false}
catalog:
  overlay:
    providers: [{id: local, hosts: [gpu.internal], free: true}]
    prices:
      - {provider: openai, model: gpt-4o, project: shop, rates: {input: 1, output: 1}}
";

fn one(rig: &mut Rig, resource: &[(&str, &str)], span: TestSpan) -> Vec<(String, String)> {
    rig.run(request(resource, &[span])).remove(0)
}

#[test]
fn overlays_reach_the_spans() {
    let mut rig = Rig::new(YAML);
    let shop = one(&mut rig, &[("weir.project", "shop")], TestSpan::call(1, 1));
    // 1000 + 100 tokens at 1 USD per million.
    assert_eq!(get(&shop, "gen_ai.usage.cost.amount"), Some("0.0011"));
    assert_eq!(get(&shop, "weir.cost.price_id"), Some("openai/gpt-4o+overlay(shop)"));
    let other = one(&mut rig, &[("weir.project", "search")], TestSpan::call(1, 2));
    assert_eq!(get(&other, "weir.cost.price_id"), Some("openai/gpt-4o"));
    let local = TestSpan::call(1, 3).with("server.address", "gpu.internal").with("gen_ai.request.model", "llama3");
    let local = one(&mut rig, &[], local);
    assert_eq!((get(&local, "weir.cost.status"), get(&local, "gen_ai.usage.cost.amount")), (Some("priced"), Some("0")));
    assert_eq!(get(&local, "weir.cost.price_id"), Some("local/*"));
}

#[test]
fn what_is_uncertain_is_said() {
    let mut rig = Rig::new("billed_once: {enabled: false}");
    let plain = one(&mut rig, &[], TestSpan::call(1, 1));
    assert_eq!((get(&plain, "weir.cost.confidence"), get(&plain, "weir.cost.caveat")), (None, None));
    let flex = TestSpan::call(1, 2).with("openai.response.service_tier", "flex");
    let flex = one(&mut rig, &[], flex);
    assert_eq!(get(&flex, "weir.cost.caveat"), Some("tier_unknown"), "gpt-4o has no flex price");
    assert_eq!(get(&flex, "gen_ai.usage.cost.amount"), Some("0.0035"));
    let priority = TestSpan::call(1, 3).with("openai.response.service_tier", "priority");
    let priority = one(&mut rig, &[], priority);
    assert_eq!(get(&priority, "weir.cost.price_id"), Some("openai/gpt-4o:priority"));
    // 1000×4.25 + 100×17 micro-USD.
    assert_eq!(
        (get(&priority, "gen_ai.usage.cost.amount"), get(&priority, "weir.cost.caveat")),
        (Some("0.00595"), None)
    );
    let dated = one(&mut rig, &[], TestSpan::call(1, 4).with("gen_ai.request.model", "gpt-5-mini-2031-01-01"));
    assert_eq!(get(&dated, "weir.cost.confidence"), Some("undated"));
}

#[test]
fn a_refresh_reaches_a_running_lane() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.yaml");
    let price =
        |rate: &str| format!("prices: [{{provider: openai, model: gpt-4o, rates: {{input: {rate}, output: 0}}}}]");
    std::fs::write(&file, price("1")).unwrap();
    let telemetry = Telemetry::default();
    let yaml = format!("billed_once: {{enabled: false}}\ncatalog: {{overlay: {}}}", file.display());
    let node = Node::parse("test.yaml", &yaml).unwrap();
    let context = Context::new("cost", telemetry.clone(), Environment::with(|| TIME, 1));
    let section = Section { node: &node, path: "processors::cost", signals: &[], context };
    let factory = factory(&section, None).unwrap();
    let mut rig = Rig { telemetry, processor: Box::new(factory.processor()) };
    let before = one(&mut rig, &[], TestSpan::call(1, 1));
    assert_eq!(get(&before, "gen_ai.usage.cost.amount"), Some("0.001"));
    std::fs::write(&file, price("2")).unwrap();
    factory.catalog.refresh();
    let after = one(&mut rig, &[], TestSpan::call(1, 2));
    assert_eq!(get(&after, "gen_ai.usage.cost.amount"), Some("0.002"));
    std::fs::write(&file, price("NaN")).unwrap();
    factory.catalog.refresh();
    let kept = one(&mut rig, &[], TestSpan::call(1, 3));
    assert_eq!(get(&kept, "gen_ai.usage.cost.amount"), Some("0.002"));
    assert_eq!(rig.counter("weir_cost_catalog_refreshes", &[("result", "failed")]), 1);
}

#[test]
fn mistakes_in_the_section_are_located() {
    let error = |yaml: &str| {
        let node = Node::parse("test.yaml", yaml).unwrap();
        let context = Context::new("cost", Telemetry::default(), Environment::with(|| TIME, 1));
        let section = Section { node: &node, path: "processors::cost", signals: &[], context };
        build(&section).err().unwrap().to_string()
    };
    let cases = [
        ("catalog: {url: 'https://x'}", "test.yaml:1:11: processors::cost::catalog"),
        ("catalog: {path: /does/not/exist.json}", "processors::cost::catalog: cannot read /does/not/exist.json"),
        ("catalog: {refresh_interval: 1ms}", "processors::cost::catalog::refresh_interval: must be at least 1s"),
        ("catalog: {max_age: 0s}", "processors::cost::catalog::max_age: must be greater than zero"),
        ("catalog: {overlay: [1]}", "processors::cost::catalog::overlay: expected the name of a file"),
        (
            "catalog: {overlay: {prices: [{provider: openai, model: gpt-4o, rates: {input: -1}}]}}",
            "processors::cost::catalog::overlay::prices[0]::rates::input: a rate is",
        ),
        (
            "catalog: {overlay: {discounts: [{provider: openai, models: [x], multiplier: 1}]}}",
            "processors::cost::catalog::overlay::discounts[0]: `x` fits no model",
        ),
    ];
    for (yaml, expected) in cases {
        let error = error(yaml);
        assert!(error.contains(expected), "{yaml}\n  {error}");
    }
}
