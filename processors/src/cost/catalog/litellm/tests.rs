use super::*;
use crate::cost::catalog::{Call, Catalog, ModelId};
use crate::cost::{Usage, price};

const FILE: &str = r#"{
  "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of https://…", "mode": "one of chat, …"},
  "gpt-4o": {
    "litellm_provider": "openai", "mode": "chat", "max_tokens": 16384,
    "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06,
    "input_cost_per_token_batches": 1.25e-06, "output_cost_per_token_batches": 5e-06,
    "input_cost_per_token_priority": 4.25e-06, "output_cost_per_token_priority": 1.7e-05
  },
  "claude-x": {
    "litellm_provider": "anthropic",
    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
    "cache_creation_input_token_cost_above_200k_tokens": 7.5e-06
  },
  "gemini/gemini-x": {
    "litellm_provider": "gemini", "input_cost_per_token": 1e-07, "output_cost_per_token": "4e-07",
    "input_cost_per_token_above_128k_tokens": 2e-07, "input_cost_per_token_above_200k_tokens_priority": 3e-07,
    "input_cost_per_audio_token": 1e-06
  },
  "dashscope/qwen-x": {
    "litellm_provider": "dashscope",
    "tiered_pricing": [
      {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06},
      {"range": [32000.0, 128000.0], "input_cost_per_token": 1.8e-06, "output_cost_per_token": 9e-06}
    ]
  },
  "whisper": {"litellm_provider": "openai", "input_cost_per_second": 0.0001},
  "broken": {"litellm_provider": "openai", "input_cost_per_token": -1},
  "odd": {"litellm_provider": "openai", "input_cost_per_token": "NaN"},
  "nobody": {"input_cost_per_token": 1e-06}
}"#;

fn catalog() -> (Catalog, Litellm) {
    let mut builder = CatalogBuilder::embedded().unwrap();
    let result = builder.litellm(FILE).unwrap();
    (builder.build().unwrap(), result)
}

fn find(catalog: &Catalog, provider: &str, name: &str) -> ModelId {
    catalog.find_model(catalog.provider_by_id(provider).unwrap(), name).unwrap()
}

fn total(catalog: &Catalog, model: ModelId, tier: &str, usage: &Usage) -> String {
    let call = Call { service: catalog.service(tier, "", false), ..Call::default() };
    price(usage, catalog.price_for(model, &call).unwrap()).unwrap().total.to_string()
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn entries_are_taken_or_accounted_for() {
    let (_, result) = catalog();
    assert_eq!((result.models, result.unpriced), (4, 1));
    assert_eq!(
        result.problems,
        [
            "`broken`: `input_cost_per_token`: `-1` is not a price",
            "`nobody`: it has no `litellm_provider`",
            "`odd`: `input_cost_per_token`: `NaN` is not a price",
        ]
    );
}

#[test]
fn prices_are_those_of_the_file() {
    let (catalog, _) = catalog();
    let gpt = find(&catalog, "openai", "gpt-4o");
    assert_eq!(catalog.price_at(gpt, 0).unwrap().id(), "openai/gpt-4o+litellm");
    // 1000×2.5 + 100×10 micro-USD; half of it; 1000×4.25 + 100×17.
    assert_eq!(total(&catalog, gpt, "", &usage(1_000, 100)), "0.0035");
    assert_eq!(total(&catalog, gpt, "batch", &usage(1_000, 100)), "0.00175");
    assert_eq!(total(&catalog, gpt, "priority", &usage(1_000, 100)), "0.00595");
    // A cached token of a batch costs what it costs else: the file has no price of it in batches. 1.25×1000
    let cached = Usage { cache_read: Some(1_000), ..usage(1_000, 0) };
    assert_eq!(total(&catalog, gpt, "batch", &cached), "0.00125");

    let claude = find(&catalog, "anthropic", "claude-x");
    // 200000×3 and 200001×6 micro-USD.
    assert_eq!(total(&catalog, claude, "", &usage(200_000, 0)), "0.6");
    assert_eq!(total(&catalog, claude, "", &usage(200_001, 0)), "1.200006");
    // 100 for an hour at 6, 200 for five minutes at 3.75, 700 at 3 micro-USD.
    let written = Usage { cache_write: Some(300), cache_write_1h: Some(100), ..usage(1_000, 0) };
    assert_eq!(total(&catalog, claude, "", &written), "0.00345");

    let gemini = find(&catalog, "google", "gemini-x");
    assert_eq!(gemini, find(&catalog, "google", "gemini/gemini-x"));
    // 10×0.1 + 10×0.4 micro-USD; above 128000 0.2; of priority only the tier is known.
    assert_eq!(total(&catalog, gemini, "", &usage(10, 10)), "0.000005");
    assert_eq!(total(&catalog, gemini, "", &usage(128_001, 0)), "0.0256002");
    assert_eq!(total(&catalog, gemini, "priority", &usage(10, 0)), "0.000001");
    assert_eq!(total(&catalog, gemini, "priority", &usage(200_001, 0)), "0.0600003");

    let qwen = find(&catalog, "dashscope", "qwen-x");
    // 32000×1, 32001×1.8 + 1×9 micro-USD.
    assert_eq!(total(&catalog, qwen, "", &usage(32_000, 0)), "0.032");
    assert_eq!(total(&catalog, qwen, "", &usage(32_001, 1)), "0.0576108");
}

#[test]
fn providers_are_the_catalogs() {
    for (litellm, id) in [
        ("vertex_ai-anthropic_models", "google"),
        ("bedrock_converse", "aws"),
        ("text-completion-openai", "openai"),
        ("fireworks_ai-embedding-models", "fireworks"),
        ("Dashscope", "dashscope"),
    ] {
        assert_eq!(provider_id(litellm), id);
    }
}

#[test]
fn other_models_keep_the_catalogs_price() {
    let (catalog, _) = catalog();
    assert_eq!(catalog.price_at(find(&catalog, "openai", "o3"), 0).unwrap().id(), "openai/o3");
    assert_ne!(catalog.version(), Catalog::embedded().unwrap().version());
}

#[test]
fn what_is_no_such_file_is_refused() {
    for text in ["", "[]", "1", "{\"a\":", "null"] {
        assert!(CatalogBuilder::embedded().unwrap().litellm(text).is_err(), "{text}");
    }
    // An entry that is no object is that entry's problem.
    let mut builder = CatalogBuilder::embedded().unwrap();
    assert_eq!(builder.litellm(r#"{"a": 1}"#).unwrap().problems, ["`a`: it is not an object"]);
}
