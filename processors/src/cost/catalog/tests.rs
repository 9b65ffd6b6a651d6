use super::*;

#[test]
fn the_embedded_catalog_is_complete() {
    let catalog = Catalog::embedded().unwrap();
    assert!(catalog.model_count() > 1_000);
    assert!(catalog.version().starts_with("2026-08-21-"));
    assert_eq!(catalog.version().len(), "2026-08-21-".len() + 12);
    assert!(catalog.heap_bytes() < 300_000, "{} bytes", catalog.heap_bytes());
    // Patterns are compiled on demand: this is where they are proved to be patterns.
    assert_eq!(Catalog::parse(EMBEDDED).unwrap().version(), catalog.version());
}

#[test]
fn every_price_is_named_after_its_model() {
    let catalog = Catalog::embedded().unwrap();
    for model in catalog.models() {
        let provider = catalog.provider_name(catalog.provider_of(model).unwrap());
        let name = format!("{provider}/{}", catalog.model_name(model));
        for day in [0, 20_000, 25_000, 40_000] {
            for hour in [0, 1, 12, 17, 23] {
                let price = catalog.price_at(model, (day * 86_400 + hour * 3_600) * 1_000_000_000).unwrap();
                let rest = price.id().strip_prefix(&name).unwrap_or_else(|| panic!("{} of {name}", price.id()));
                assert!(rest.is_empty() || rest.starts_with(['@', '#']), "{}", price.id());
            }
        }
    }
}

/// A catalog with one model and these prices.
fn with_prices(prices: &str) -> Result<Catalog, CatalogError> {
    with_provider("", r#"{"equals":"m"}"#, prices)
}

fn with_provider(more: &str, rule: &str, prices: &str) -> Result<Catalog, CatalogError> {
    Catalog::parse(&format!(
        r#"{{"format":1,"source":{{"name":"","date":"2026-01-01","license":"","sha256":""}},"providers":[
        {{"id":"p","name":"P","address":"https://p\\.example"{more},"models":[{{"id":"m","match":{rule},"prices":[{prices}]}}]}}]}}"#
    ))
}

fn id_at(catalog: &Catalog, seconds: u64) -> &str {
    catalog.price_at(ModelId(0), seconds * 1_000_000_000).unwrap().id()
}

#[test]
fn the_last_price_that_is_valid_counts_else_the_first() {
    let catalog = with_prices(
        r#"{"id":"p/m","rates":{"input":"1"}},
           {"id":"p/m@2025-06-10","valid_from":"2025-06-10","rates":{"input":"2"}},
           {"id":"p/m#2","daily":["00:30:00","16:30:00"],"valid_from":"2025-06-11","rates":{"input":"3"}}"#,
    )
    .unwrap();
    let day = 20_249 * 86_400;
    assert_eq!(id_at(&catalog, 0), "p/m");
    assert_eq!(id_at(&catalog, day - 1), "p/m");
    assert_eq!(id_at(&catalog, day), "p/m@2025-06-10");
    assert_eq!(id_at(&catalog, day + 3_600), "p/m@2025-06-10", "the window is not valid yet");
    assert_eq!(id_at(&catalog, day + 86_400 + 1_799), "p/m@2025-06-10");
    assert_eq!(id_at(&catalog, day + 86_400 + 1_800), "p/m#2");
    assert_eq!(id_at(&catalog, day + 86_400 + 59_399), "p/m#2");
    assert_eq!(id_at(&catalog, day + 86_400 + 59_400), "p/m@2025-06-10", "the window's end is excluded");
    assert_eq!(catalog.price_at(ModelId(0), u64::MAX).map(|price| price.id()), Some("p/m@2025-06-10"));
}

#[test]
fn rules_match_as_they_say() {
    let cases = [
        (r#"{"equals":"GPT-4"}"#, &["gpt-4"][..], &["gpt-4o", "xgpt-4"][..]),
        (r#"{"starts_with":"gpt-"}"#, &["gpt-", "gpt-4"], &["ft:gpt-4", "gpt"]),
        (r#"{"ends_with":"-4"}"#, &["gpt-4"], &["gpt-4o"]),
        (r#"{"contains":"pt"}"#, &["gpt-4", "pt"], &["p", "gp-t"]),
        (r#"{"regex":"^o[134]"}"#, &["o1", "o3-mini"], &["o2", "go1"]),
        (
            r#"{"or":[{"equals":"a"},{"and":[{"starts_with":"b"},{"ends_with":"c"}]}]}"#,
            &["a", "bc", "bxc"],
            &["b", "c"],
        ),
        (r#"{"or":[]}"#, &[], &["", "a"]),
    ];
    for (rule, matching, others) in cases {
        let catalog = with_provider("", rule, r#"{"id":"p/m","rates":{"input":"1"}}"#).unwrap();
        let provider = catalog.provider_by_id("p").unwrap();
        for name in matching {
            assert!(catalog.find_model(provider, name).is_some(), "{rule} {name}");
        }
        for name in others {
            assert!(catalog.find_model(provider, name).is_none(), "{rule} {name}");
        }
    }
}

#[test]
fn bad_files_are_refused_with_the_place() {
    let error = |catalog: Result<Catalog, CatalogError>| catalog.unwrap_err().to_string();
    let good = r#"{"id":"p/m","rates":{"input":"1"}}"#;
    assert!(error(Catalog::parse("{")).contains("line 1"));
    assert!(
        error(Catalog::parse(r#"{"format":3,"source":{"name":"","date":"","license":"","sha256":""},"providers":[]}"#))
            .contains("format 3")
    );
    assert!(error(with_prices("")).contains("`p/m` has no prices"));
    assert!(error(with_prices(&format!("{good},{good}"))).contains("`p/m` occurs twice"));
    assert!(
        error(with_prices(r#"{"id":"p/m","rates":{"input":"1e-6"}}"#))
            .contains("price `p/m`: a rate is a plain decimal")
    );
    assert!(error(with_prices(r#"{"id":"p/m","rates":{"input":1}}"#)).contains("not readable"), "no floats");
    assert!(error(with_prices(r#"{"id":"p/m","rates":{"inputs":"1"}}"#)).contains("unknown field `inputs`"));
    assert!(
        error(with_prices(r#"{"id":"p/m","valid_from":"2026-02-30","rates":{}}"#))
            .contains("`2026-02-30` is not a date")
    );
    assert!(
        error(with_prices(r#"{"id":"p/m","daily":["16:00:00","16:00"],"rates":{}}"#))
            .contains("time other than the window's start")
    );
    let tiers =
        r#"{"id":"p/m","rates":{"input":{"base":"1","tiers":[{"start":9,"price":"2"},{"start":9,"price":"3"}]}}}"#;
    assert!(error(with_prices(tiers)).contains("ascend"));
    assert!(error(with_provider("", r#"{"regex":"("}"#, good)).contains("`(` is not a regular expression"));
    assert!(error(with_provider(r#","fallback":["q"]"#, r#"{"equals":"m"}"#, good)).contains("falls back to `q`"));
}

#[test]
fn what_is_written_is_what_was_read() {
    let embedded = CatalogBuilder::embedded().unwrap();
    assert_eq!(embedded.to_json().unwrap(), EMBEDDED, "convert the catalog again");
}

#[test]
fn prices_expire_and_come_back() {
    let catalog = with_prices(
        r#"{"id":"p/m","rates":{"input":"1"}},
           {"id":"p/m@2025-06-10","valid_from":"2025-06-10","valid_until":"2025-06-10T12:00:00Z","rates":{"input":"2"}}"#,
    )
    .unwrap();
    let day = 20_249 * 86_400;
    assert_eq!(id_at(&catalog, day + 43_199), "p/m@2025-06-10");
    assert_eq!(id_at(&catalog, day + 43_200), "p/m");
    let only = with_prices(r#"{"id":"p/m","valid_until":"2025-06-10","rates":{"input":"1"}}"#).unwrap();
    assert_eq!(id_at(&only, day - 1), "p/m");
    assert!(only.price_at(ModelId(0), day * 1_000_000_000).is_none(), "nothing is known about then");
}

#[test]
fn windows_may_cross_midnight() {
    let catalog = with_prices(
        r#"{"id":"p/m","rates":{"input":"1"}},{"id":"p/m#1","daily":["16:30","00:30:00"],"rates":{"input":"2"}}"#,
    )
    .unwrap();
    let ids: Vec<_> = [59_399, 59_400, 86_399, 86_400, 88_199, 88_200].map(|second| id_at(&catalog, second)).into();
    assert_eq!(ids, ["p/m", "p/m#1", "p/m#1", "p/m#1", "p/m#1", "p/m"]);
}

#[test]
fn service_tiers_are_checked() {
    let tier = |tier: &str| {
        let price = format!(r#"{{"id":"p/m","rates":{{"input":"1"}},"service_tiers":{{"flex":{tier}}}}}"#);
        with_prices(&price).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(tier(r#"{"multiplier":"0.5"}"#), Ok(()));
    for (text, expected) in [
        ("{}", "service tier `flex`: it needs a `multiplier` or `rates`"),
        (r#"{"multiplier":"-1"}"#, "a factor is a plain decimal"),
        (r#"{"multiplier":"1e3"}"#, "a factor is a plain decimal"),
        (r#"{"multiplier":"0.5","except":["inputs"]}"#, "`inputs` under `except`"),
        (r#"{"rates":{"input":"NaN"}}"#, "a rate is a plain decimal"),
        (
            r#"{"rates":{"input":{"base":"1","tiers":[{"start":9,"price":"2"}],"operator":">=","mode":"marginal"}}}"#,
            "no meaning",
        ),
    ] {
        assert!(tier(text).unwrap_err().contains(expected), "{text}: {:?}", tier(text));
    }
    let twice =
        r#"{"id":"p/m","rates":{"input":"1"},"service_tiers":{"flex":{"multiplier":"1"},"flex":{"multiplier":"2"}}}"#;
    assert!(with_prices(twice).unwrap_err().to_string().contains("occurs twice"));
    assert!(with_prices(r#"{"id":"p/m","valid_from":"2025-01-02","valid_until":"2025-01-02","rates":{}}"#).is_err());
}
