use proptest::prelude::*;

use super::*;
use crate::cost::catalog::{Call, Catalog, ModelId, instant};
use crate::cost::{Usage, price};

fn overlay(yaml: &str) -> Result<Overlay, ConfigError> {
    Overlay::from_node(&Node::parse("own.yaml", yaml)?, "")
}

fn catalog(yaml: &str) -> Result<Catalog, ConfigError> {
    let mut builder = CatalogBuilder::embedded().unwrap();
    builder.overlay(&overlay(yaml)?)?;
    Ok(builder.build().unwrap())
}

fn find(catalog: &Catalog, provider: &str, name: &str) -> ModelId {
    catalog.find_model(catalog.provider_by_id(provider).unwrap(), name).unwrap()
}

/// Id of the price and cost of a million input tokens.
fn million(catalog: &Catalog, provider: &str, model: &str, date: &str, project: &str, tier: &str) -> (String, String) {
    let call = Call {
        time_unix_nano: instant(date).unwrap() as u64 * 1_000_000_000,
        service: catalog.service(tier, "", false),
        project: catalog.project(project),
    };
    let price_ref = catalog.price_for(find(catalog, provider, model), &call).unwrap();
    let usage = Usage { input: Some(1_000_000), output: Some(0), ..Usage::default() };
    (price_ref.id().to_owned(), price(&usage, price_ref).unwrap().total.to_string())
}

fn pair(id: &str, total: &str) -> (String, String) {
    (id.to_owned(), total.to_owned())
}

#[test]
fn own_prices_come_before_the_catalogs() {
    let catalog = catalog(
        "prices:
  - {provider: openai, model: gpt-4o, rates: {input: 2, output: 8}, service_tiers: {flex: {multiplier: 0.25}}}
  - {provider: openai, model: o3, valid_from: 2026-01-01, valid_until: 2026-02-01T12:00:00Z, rates: {input: 1}}
  - {provider: bedrock, model: our-model, match: ['our-*', '*-ours'], rates: {input: 7}}
  - {provider: openai, model: gpt-4o-2024-08-06, rates: {input: 9}}",
    )
    .unwrap();
    assert_eq!(million(&catalog, "openai", "gpt-4o", "2026-01-01", "", ""), pair("openai/gpt-4o+overlay", "2"));
    assert_eq!(
        million(&catalog, "openai", "gpt-4o", "2026-01-01", "", "flex"),
        pair("openai/gpt-4o+overlay:flex", "0.5")
    );
    let o3 = |date: &str| million(&catalog, "openai", "o3", date, "", "");
    assert_eq!(o3("2025-01-01"), pair("openai/o3", "10"));
    assert_eq!(o3("2025-12-31"), pair("openai/o3@2025-06-10", "2"));
    assert_eq!(o3("2026-01-01"), pair("openai/o3@2026-01-01+overlay", "1"));
    assert_eq!(o3("2026-02-01T11:59:59Z"), pair("openai/o3@2026-01-01+overlay", "1"));
    assert_eq!(o3("2026-02-01T12:00:00Z"), pair("openai/o3@2025-06-10", "2"), "the catalog's again");
    for name in ["our-model", "our-new", "x-ours"] {
        assert_eq!(million(&catalog, "aws", name, "2026-01-01", "", ""), pair("aws/our-model+overlay", "7"));
    }
    assert_eq!(million(&catalog, "openai", "gpt-4o-2024-08-06", "2026-01-01", "", "").1, "9", "a snapshot of its own");
}

#[test]
fn projects_have_prices_of_their_own() {
    let catalog = catalog(
        "prices:
  - {provider: openai, model: gpt-4o, project: checkout, rates: {input: 1}}
  - {provider: openai, model: gpt-4o, rates: {input: 2}}
discounts:
  - {provider: openai, models: ['o3*'], project: search, multiplier: 0.5}",
    )
    .unwrap();
    let of = |model: &str, project: &str| million(&catalog, "openai", model, "2026-01-01", project, "");
    assert_eq!(of("gpt-4o", "checkout"), pair("openai/gpt-4o+overlay(checkout)", "1"));
    assert_eq!(of("gpt-4o", "search"), pair("openai/gpt-4o+overlay", "2"));
    assert_eq!(of("gpt-4o", ""), pair("openai/gpt-4o+overlay", "2"));
    assert_eq!(of("o3", "search"), pair("openai/o3@2025-06-10*0.5+overlay(search)", "1"));
    assert_eq!(of("o3", "checkout"), pair("openai/o3@2025-06-10", "2"));
}

#[test]
fn discounts_hold_in_their_time_and_do_not_multiply_each_other() {
    let catalog = catalog(
        "discounts:
  - {provider: openai, models: [o3], multiplier: 0.5, valid_from: 2025-06-01, valid_until: 2025-06-20}
  - {provider: openai, models: [o3], multiplier: 0.9, valid_from: 2025-06-15}",
    )
    .unwrap();
    let at = |date: &str| million(&catalog, "openai", "o3", date, "", "").1;
    // 10 until 2025-06-09, 2 from then on.
    assert_eq!(at("2025-05-31"), "10");
    assert_eq!(at("2025-06-01"), "5");
    assert_eq!(at("2025-06-09"), "5");
    assert_eq!(at("2025-06-10"), "1");
    assert_eq!(at("2025-06-14"), "1");
    assert_eq!(at("2025-06-15"), "1.8", "the later one, of the catalog's price");
    assert_eq!(at("2025-06-20"), "1.8");
    // Flex is half of the discounted price.
    assert_eq!(million(&catalog, "openai", "o3", "2025-07-01", "", "flex").1, "0.9");
}

#[test]
fn other_currencies_become_usd() {
    let catalog = catalog(
        "currency: {code: EUR, usd: 1.08}
prices: [{provider: mistral, model: mistral-large, rates: {input: 2.5}, source: contract 42}]",
    )
    .unwrap();
    assert_eq!(million(&catalog, "mistral", "mistral-large", "2026-01-01", "", "").1, "2.7");
    let model = find(&catalog, "mistral", "mistral-large");
    assert_eq!(catalog.prices(model).last().unwrap().source, "contract 42, in EUR at 1.08 USD");
}

#[test]
fn own_servers_and_deployments_are_known() {
    let catalog = std::sync::Arc::new(
        catalog(
            "providers:
  - {id: local, names: [ollama, vLLM], hosts: [gpu.internal, '10.1.2.3:8000'], free: true}
  - {id: reseller, hosts: [llm.reseller.example], fallback: [openai]}
aliases: [{provider: azure, name: Chat-Prod, model: openai/gpt-4o}]
prices: [{provider: local, model: big, rates: {input: 1}}]",
        )
        .unwrap(),
    );
    let matcher = crate::cost::Matcher::new(std::sync::Arc::clone(&catalog));
    let name = |provider: &str, model: &str, address: &str| {
        let reading = crate::cost::Reading {
            provider: provider.into(),
            request_model: model.into(),
            address: address.into(),
            ..crate::cost::UsageReader::default().finish("")
        };
        matcher
            .find(&reading)
            .map_or_else(|status| status.to_string(), |found| catalog.price_at(found.model, 0).unwrap().id().to_owned())
    };
    assert_eq!(name("ollama", "llama3", ""), "local/*");
    assert_eq!(name("Ollama", "big", ""), "local/big+overlay");
    assert_eq!(name("openai", "gpt-4o", "http://gpu.internal:8080/v1"), "local/*");
    assert_eq!(name("openai", "gpt-4o", "http://10.1.2.3:8000/v1"), "local/*");
    assert_eq!(name("openai", "gpt-4o", "http://10.1.2.3:9000/v1"), "openai/gpt-4o");
    assert_eq!(name("litellm", "ollama/llama3", ""), "local/*");
    assert_eq!(name("langchain", "vllm/big", ""), "local/big+overlay");
    assert_eq!(name("openai", "gpt-4o", "https://llm.reseller.example/v1"), "openai/gpt-4o");
    assert_eq!(name("azure.ai.openai", "chat-prod", ""), "openai/gpt-4o");
    assert_eq!(name("azure.ai.openai", "chat-test", ""), "unknown_model");
}

#[test]
fn mistakes_are_located() {
    let cases = [
        (
            "prices: [{provider: openai, model: gpt-4o, rates: {input: NaN}}]",
            "own.yaml:1:59: prices[0]::rates::input: a rate is",
        ),
        ("prices: [{provider: openai, model: gpt-4o, rates: {input: -1}}]", "a rate is a plain decimal"),
        ("prices: [{provider: openai, model: gpt-4o, rates: {input: 9223372036854775808}}]", "at most 1000000 USD"),
        ("prices: [{provider: openai, model: gpt-4o, rates: {input: '1 2'}}]", "a rate is a plain decimal"),
        ("prices: [{provider: openai, model: gpt-4o, rates: {input: 1e-6}}]", "a rate is a plain decimal"),
        ("prices: [{provider: openai, model: gpt-4o, rates: {inputs: 1}}]", "`inputs` is not the name of a rate"),
        ("prices: [{provider: openai, model: gpt-4o, rates: {}}]", "own.yaml:1:10: prices[0]: a price needs rates"),
        ("prices: [{provider: openai, model: ' gpt', rates: {input: 1}}]", "without spaces around it"),
        ("prices: [{provider: opnai, model: gpt-4o, rates: {input: 1}}]", "`opnai` is not a provider"),
        ("prices: [{provider: openai, model: m, rates: {input: 1}, tier: 1}]", "tier"),
        ("prices: [{provider: openai, model: m, rates: {input: 1}, valid_from: 2026-02-30}]", "expected a UTC date"),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, valid_from: 2026-02-02, valid_until: 2026-02-01}]",
            "it holds until",
        ),
        ("prices: [{provider: openai, model: m, rates: {input: 1}, daily: ['25:00', '01:00']}]", "time of day"),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{rates: {input: 2}}]}]",
            "either `above` or `from`",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: 0, rates: {input: 2}}]}]",
            "leave some tokens below",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: 9223372036854775808, rates: {input: 2}}]}]",
            "integer",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: -5, rates: {input: 2}}]}]",
            "integer",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: 9, rates: {output: 2}}]}]",
            "`rates` has none",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: 9, rates: {input: 2}}, {above: 9, rates: {input: 3}}]}]",
            "must ascend",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{above: 9, rates: {input: 2}}, {from: 10, rates: {input: 3}}]}]",
            "all be `above`",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, tiers: [{from: 9, marginal: true, rates: {input: 2}}]}]",
            "begins `above`",
        ),
        (
            "prices: [{provider: openai, model: m, rates: {input: 1}, service_tiers: {flex: {}}}]",
            "needs a `multiplier` or `rates`",
        ),
        ("prices: [{provider: openai, model: gpt-4o, match: [x], rates: {input: 1}}]", "use `aliases`"),
        ("discounts: [{provider: openai, models: ['gtp*'], multiplier: 0.9}]", "`gtp*` fits no model"),
        ("discounts: [{provider: openai, multiplier: 1001}]", "a factor is"),
        ("discounts: [{provider: openai}]", "multiplier"),
        ("service_tiers: [{provider: openai, models: [gpt-4o], tiers: {flex: {multiplier: half}}}]", "a factor is"),
        ("providers: [{id: openai, free: true}]", "multiplier 0"),
        ("providers: [{id: x, fallback: [y]}]", "`y` is not a provider"),
        ("aliases: [{provider: azure, name: x, model: gpt-4o}]", "is not a model of the catalog"),
        ("currency: {code: EUR, usd: -1}", "own.yaml:1:28: currency::usd: what a unit"),
        ("currency: {code: EUR, usd: 0}", "own.yaml:1:28: currency::usd: what a unit"),
        ("currency: {code: EUR, usd: 0.000000000}", "own.yaml:1:28: currency::usd: what a unit"),
        ("currency: {code: EUR, usd: .nan}", "own.yaml:1:28: currency::usd: what a unit"),
        ("price: []", "did you mean `prices`?"),
    ];
    for (yaml, expected) in cases {
        let error = catalog(yaml).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("own.yaml:1:"), "{yaml}\n  {error}");
    }
}

#[test]
fn the_embedded_catalog_has_the_overlay_beside_it() {
    let text = include_str!("../../../../catalog/overlay.yaml");
    let overlay = Overlay::from_node(&Node::parse("overlay.yaml", text).unwrap(), "").unwrap().without_label();
    let embedded = CatalogBuilder::embedded().unwrap();
    let mut again = embedded.clone();
    again.overlay(&overlay).unwrap();
    let (before, after) = (embedded.to_json().unwrap(), again.to_json().unwrap());
    let differ: Vec<_> = before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    // Service tiers are what they are; prices are added once more, under other ids.
    let prices: Vec<_> = overlay.raw.prices.iter().map(|p| format!("{{\"id\":\"{}\",", p.model.0)).collect();
    for (before, _) in &differ {
        assert!(prices.iter().any(|model| before.starts_with(model)), "convert the catalog again: {before}");
    }
    assert!(!differ.is_empty());
}

proptest! {
    #[test]
    fn no_overlay_panics(yaml in "(prices|discounts|service_tiers|providers|aliases|currency): \\[?\\{?[a-z_: {}\\[\\],0-9.*-]{0,120}") {
        let _ = catalog_of_nothing(&yaml);
    }

    #[test]
    fn a_discount_is_its_multiplier(rate in 0u64..1_000_000_000, percent in 0u32..=100) {
        let rate = format!("{}.{:06}", rate / 1_000_000, rate % 1_000_000);
        let yaml = format!(
            "prices: [{{provider: openai, model: gpt-4o, rates: {{input: '{rate}'}}}}]
discounts: [{{provider: openai, models: [gpt-4o], multiplier: '{}.{:02}'}}]", percent / 100, percent % 100);
        let mut builder = CatalogBuilder::parse(SMALL).unwrap();
        builder.overlay(&overlay(&yaml).unwrap()).unwrap();
        let (_, total) = million(&builder.build().unwrap(), "openai", "gpt-4o", "2026-01-01", "", "");
        let exact = rate.parse::<rust_decimal::Decimal>().unwrap() * rust_decimal::Decimal::from(percent) / rust_decimal::Decimal::from(100);
        prop_assert_eq!(total.parse::<rust_decimal::Decimal>().unwrap(), exact);
    }
}

const SMALL: &str = r#"{"format":2,"source":{"name":"","date":"2026-01-01","license":"","sha256":""},
    "providers":[{"id":"openai","name":"","models":[]}]}"#;

/// Any answer will do: an error or a catalog.
fn catalog_of_nothing(yaml: &str) -> Result<(), ConfigError> {
    CatalogBuilder::parse(SMALL).unwrap().overlay(&overlay(yaml)?)
}
