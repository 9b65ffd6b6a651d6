//! One table per rule of pricing, with what the vendors publish, computed by hand in the comments. Rates are in USD per
//! million tokens, so a rate times a number of tokens is in millionths of a dollar.

use super::*;
use crate::cost::Catalog;
use crate::cost::catalog::{Call, CatalogBuilder, Overlay, instant};

/// A call: input, output, and what is special about it.
fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

/// Id of the price and total of a call in a service tier at a time.
fn priced(catalog: &Catalog, model: &str, time: &str, tier: &str, usage: &Usage) -> (String, String) {
    let (provider, name) = model.split_once('/').unwrap();
    let model = catalog.models().find(|m| {
        catalog.model_name(*m) == name && catalog.provider_of(*m).map(|p| catalog.provider_name(p)) == Some(provider)
    });
    let time_unix_nano = u64::try_from(instant(time).unwrap()).unwrap() * 1_000_000_000;
    let call = Call { time_unix_nano, service: catalog.service(tier, "", false), ..Call::default() };
    let price_ref = catalog.price_for(model.unwrap(), &call).unwrap();
    let cost = price(usage, price_ref).unwrap();
    assert!(!cost.tier_unknown && !cost.fee_unknown, "{}", price_ref.id());
    (price_ref.id().to_owned(), cost.total.to_string())
}

fn total(model: &str, time: &str, tier: &str, usage: &Usage) -> String {
    priced(&Catalog::embedded().unwrap(), model, time, tier, usage).1
}

#[test]
fn a_snapshot_keeps_its_price() {
    // https://developers.openai.com/api/docs/pricing: the first snapshot of GPT-4o 5 and 15, nothing less for cached
    // input; priority 8.75 and 26.25, batch 2.5 and 7.5. 1000×5 + 100×15 = 6500
    let cached = Usage { cache_read: Some(800), ..usage(1_000, 100) };
    let first = |tier| total("openai/gpt-4o-2024-05-13", "2026-11-01", tier, &cached);
    assert_eq!([first(""), first("priority"), first("batch")], ["0.0065", "0.011375", "0.00325"]);
    assert_eq!(total("openai/gpt-4o", "2026-11-01", "", &usage(1_000, 100)), "0.0035");
}

#[test]
fn cached_input() {
    // https://openai.com/api/pricing: GPT-4o 2.50, cached 1.25, output 10.
    // 2006 input of which 1920 cached, 300 output (the example of OpenAI's guide to prompt caching):
    // 86×2.5 + 1920×1.25 + 300×10 = 215 + 2400 + 3000 = 5615
    let gpt = Usage { cache_read: Some(1_920), ..usage(2_006, 300) };
    assert_eq!(total("openai/gpt-4o", "2026-01-01", "", &gpt), "0.005615");
    // Gemini 2.5 Flash: 0.30, cached 0.03, audio 1.00, cached audio 0.10, output 2.50.
    // 1000 input: 200 audio of which 50 cached, 100 other cached, 700 the rest; 10 output:
    // 700×0.3 + 100×0.03 + 150×1 + 50×0.1 + 10×2.5 = 210 + 3 + 150 + 5 + 25 = 393
    let gemini = Usage { cache_read: Some(150), audio_in: Some(200), cached_audio: Some(50), ..usage(1_000, 10) };
    assert_eq!(total("google/gemini-2.5-flash", "2026-01-01", "", &gemini), "0.000393");
}

#[test]
fn cache_writes_for_five_minutes_and_an_hour() {
    // https://platform.claude.com/docs/en/about-claude/pricing: Claude Opus 4.5 5, written for 5 minutes 6.25, for an
    // hour 10, read 0.50, output 25. 503 plain, 456 written for 5 minutes, 100 for an hour, 1800 read, 503 output:
    // 503×5 + 456×6.25 + 100×10 + 1800×0.5 + 503×25 = 2515 + 2850 + 1000 + 900 + 12575 = 19840
    let opus = Usage {
        cache_read: Some(1_800),
        cache_write: Some(556),
        cache_write_1h: Some(100),
        ..usage(503 + 1_800 + 556, 503)
    };
    assert_eq!(total("anthropic/claude-opus-4-5", "2026-01-01", "", &opus), "0.01984");
    // Twice the input for an hour, 1.25 times for five minutes, a tenth for reading, of every model.
    for (model, input) in [("claude-haiku-4-5", 1), ("claude-opus-4-1", 15), ("claude-sonnet-4-0", 3)] {
        let write = |hour| Usage { cache_write: Some(1_000_000), cache_write_1h: hour, ..usage(1_000_000, 0) };
        let read = Usage { cache_read: Some(1_000_000), ..usage(1_000_000, 0) };
        let name = format!("anthropic/{model}");
        let usd = |text: String| (text.parse::<f64>().unwrap() * 1e6).round() as u64;
        assert_eq!(usd(total(&name, "2026-01-01", "", &write(None))), input * 1_250_000, "{name}");
        assert_eq!(usd(total(&name, "2026-01-01", "", &write(Some(1_000_000)))), input * 2_000_000, "{name}");
        assert_eq!(usd(total(&name, "2026-01-01", "", &read)), input * 100_000, "{name}");
    }
}

#[test]
fn long_contexts_on_both_sides_of_the_threshold() {
    let cases = [
        // Gemini 2.5 Pro, https://ai.google.dev/gemini-api/docs/pricing: "prompts <= 200k tokens" 1.25 and 10,
        // "prompts > 200k tokens" 2.50 and 15. 200000×1.25 + 100×10 = 251000; 200001×2.5 + 100×15 = 501502.5
        ("google/gemini-2.5-pro", 200_000, 100, "0.251"),
        ("google/gemini-2.5-pro", 200_001, 100, "0.5015025"),
        // GPT-5.4: above 272,000 input tokens 5 and 22.50 instead of 2.50 and 15 for the whole call.
        // 272000×2.5 + 100×15 = 681500; 272001×5 + 100×22.5 = 1362255
        ("openai/gpt-5.4", 272_000, 100, "0.6815"),
        ("openai/gpt-5.4", 272_001, 100, "1.362255"),
        // Claude Sonnet 4.5 with a million tokens of context: above 200,000 6 and 22.50 instead of 3 and 15.
        // 200000×3 + 100×15 = 601500; 200001×6 + 100×22.5 = 1202256
        ("anthropic/claude-sonnet-4-5", 200_000, 100, "0.6015"),
        ("anthropic/claude-sonnet-4-5", 200_001, 100, "1.202256"),
        // Grok 4.20, https://docs.x.ai/developers/models/grok-4.20-0309.md: "< 200k" 1.25 and 2.50, ">= 200k" 2.50 and
        // 5. 199999×1.25 + 100×2.5 = 250248.75; 200000×2.5 + 100×5 = 500500
        ("x-ai/grok-4.20", 199_999, 100, "0.25024875"),
        ("x-ai/grok-4.20", 200_000, 100, "0.5005"),
    ];
    for (model, input, output, expected) in cases {
        assert_eq!(total(model, "2026-05-01", "", &usage(input, output)), expected, "{model} {input}");
    }
    // Cached tokens count for the threshold: 1×6 + 200000×0.6 = 120006
    let cached = Usage { cache_read: Some(200_000), ..usage(200_001, 0) };
    assert_eq!(total("anthropic/claude-sonnet-4-5", "2026-01-01", "", &cached), "0.120006");
}

#[test]
fn service_tiers() {
    let cases = [
        // https://openai.com/api-priority-processing/: GPT-4.1 3.50 and 14, GPT-4o 4.25 and 17, o4-mini 2.00 and 8.
        ("openai/gpt-4.1", "priority", "0.0049"),
        ("openai/gpt-4o", "priority", "0.00595"),
        ("openai/o4-mini", "priority", "0.0028"),
        ("openai/gpt-4o-mini", "priority", "0.00035"),
        ("openai/gpt-5-mini", "PRIORITY", "0.00081"),
        ("openai/gpt-5.5", "priority", "0.02"),
        // Flex: o3 1.00 and 4, GPT-5 0.625 and 5.
        ("openai/o3", "flex", "0.0014"),
        ("openai/gpt-5", "flex", "0.001125"),
        // Nothing is special about these.
        ("openai/o3", "default", "0.0028"),
        ("openai/o3", "auto", "0.0028"),
        ("openai/o3", "", "0.0028"),
    ];
    for (model, tier, expected) in cases {
        // 1000 input and 100 output.
        assert_eq!(total(model, "2026-01-01", tier, &usage(1_000, 100)), expected, "{model} {tier}");
    }
    // Cached input in priority: GPT-4.1 0.875, GPT-4o 2.125. 900×3.5 + 100×0.875 = 3237.5; 900×4.25 + 100×2.125 = 4037.5
    let cached = Usage { cache_read: Some(100), ..usage(1_000, 0) };
    assert_eq!(total("openai/gpt-4.1", "2026-01-01", "priority", &cached), "0.0032375");
    assert_eq!(total("openai/gpt-4o", "2026-01-01", "priority", &cached), "0.0040375");
}

#[test]
fn batches() {
    let cases = [
        // https://platform.claude.com/docs/en/about-claude/pricing, batch processing: Sonnet 4.5 1.50 and 7.50, Haiku 4.5
        // 0.50 and 2.50, Opus 4.1 7.50 and 37.50. 1000 input and 100 output.
        ("anthropic/claude-sonnet-4-5", "0.00225"),
        ("anthropic/claude-haiku-4-5", "0.00075"),
        ("anthropic/claude-opus-4-1", "0.01125"),
        // GPT-4o 1.25 and 5; Gemini 2.5 Pro 0.625 and 5; Grok 4.20 20 % less: 1 and 2.
        ("openai/gpt-4o", "0.00175"),
        ("google/gemini-2.5-pro", "0.001125"),
        ("x-ai/grok-4.20", "0.0012"),
    ];
    for (model, expected) in cases {
        assert_eq!(total(model, "2026-05-01", "batch", &usage(1_000, 100)), expected, "{model}");
    }
    // Anthropic halves the cache as well: 500×1.5 + 500×0.15 = 825. OpenAI's batches of GPT-4o have no cached rate of
    // their own: 500×1.25 + 500×1.25 = 1250. Google: "context caching stays at the standard rate":
    // 500×0.625 + 500×0.125 = 375
    let cached = Usage { cache_read: Some(500), ..usage(1_000, 0) };
    assert_eq!(total("anthropic/claude-sonnet-4-5", "2026-01-01", "batch", &cached), "0.000825");
    assert_eq!(total("openai/gpt-4o", "2026-01-01", "batch", &cached), "0.00125");
    assert_eq!(total("google/gemini-2.5-pro", "2026-01-01", "batch", &cached), "0.000375");
    // The tier and the batch at once: 200001×1.25 = 250001.25
    assert_eq!(total("google/gemini-2.5-pro", "2026-01-01", "batch", &usage(200_001, 0)), "0.25000125");
}

#[test]
fn prices_change_at_midnight_utc() {
    // OpenAI cut o3 from 10 and 40 to 2 and 8 on 2025-06-10; xAI Grok 4.20 from 2 and 6 to 1.25 and 2.50 on 2026-04-30;
    // Anthropic raised Sonnet 5 from 2 and 10 to 3 and 15 on 2026-09-01. 1000 input and 100 output.
    let cases = [
        ("openai/o3", "2025-06-09T23:59:59Z", "openai/o3", "0.014"),
        ("openai/o3", "2025-06-10T00:00:00Z", "openai/o3@2025-06-10", "0.0028"),
        ("x-ai/grok-4.20", "2026-04-29T23:59:59Z", "x-ai/grok-4.20#1", "0.0026"),
        ("x-ai/grok-4.20", "2026-04-30T00:00:00Z", "x-ai/grok-4.20@2026-04-30", "0.0015"),
        ("anthropic/claude-sonnet-5", "2026-08-31T23:59:59Z", "anthropic/claude-sonnet-5", "0.003"),
        ("anthropic/claude-sonnet-5", "2026-09-01T00:00:00Z", "anthropic/claude-sonnet-5@2026-09-01", "0.0045"),
    ];
    for (model, time, id, expected) in cases {
        let found = priced(&Catalog::embedded().unwrap(), model, time, "", &usage(1_000, 100));
        assert_eq!(found, (id.to_owned(), expected.to_owned()), "{model} {time}");
    }
}

#[test]
fn off_peak_hours() {
    // DeepSeek until September 2025: 16:30 to 00:30 UTC at half of 0.27 and 1.10. 1000 input and 100 output.
    let cases = [
        ("2025-06-10T16:29:59Z", "0.00038"),
        ("2025-06-10T16:30:00Z", "0.00019"),
        ("2025-06-10T23:59:59Z", "0.00019"),
        ("2025-06-11T00:00:00Z", "0.00019"),
        ("2025-06-11T00:29:59Z", "0.00019"),
        ("2025-06-11T00:30:00Z", "0.00038"),
    ];
    let mut own = CatalogBuilder::parse(
        r#"{"format":2,"source":{"name":"","date":"2026-01-01","license":"","sha256":""},"providers":[
        {"id":"deepseek","name":"","models":[{"id":"deepseek-chat","match":{"equals":"deepseek-chat"},
        "prices":[{"id":"deepseek/deepseek-chat","rates":{"input":"0.27","output":"1.1"}}]}]}]}"#,
    )
    .unwrap();
    let yaml = "prices: [{provider: deepseek, model: deepseek-chat, daily: ['16:30', '00:30'], rates: {input: 0.135, output: 0.55}}]";
    let node = weir_pipeline::config::Node::parse("own.yaml", yaml).unwrap();
    own.overlay(&Overlay::from_node(&node, "").unwrap()).unwrap();
    let own = own.build().unwrap();
    for (time, expected) in cases {
        assert_eq!(total("deepseek/deepseek-chat", time, "", &usage(1_000, 100)), expected, "{time}");
        // The same as a window across midnight.
        assert_eq!(priced(&own, "deepseek/deepseek-chat", time, "", &usage(1_000, 100)).1, expected, "{time}");
    }
}

#[test]
fn fees() {
    // Anthropic: 10 USD per 1,000 web searches, besides the tokens, and not halved in batches.
    // 1000×3 + 100×15 micro-USD + 2×0.01; half of the tokens + 2×0.01
    let searched = Usage { web_searches: Some(2), ..usage(1_000, 100) };
    assert_eq!(total("anthropic/claude-sonnet-4-5", "2026-01-01", "", &searched), "0.0245");
    assert_eq!(total("anthropic/claude-sonnet-4-5", "2026-01-01", "batch", &searched), "0.02225");
    // Perplexity Sonar: 1 and 1, and 12 USD per 1,000 requests.
    assert_eq!(total("perplexity/sonar", "2026-01-01", "", &usage(1_000, 100)), "0.0131");
    let twice = Usage { requests: Some(2), ..usage(1_000, 100) };
    assert_eq!(total("perplexity/sonar", "2026-01-01", "", &twice), "0.0251");
}

#[test]
fn what_is_not_known_is_marked() {
    let catalog = Catalog::embedded().unwrap();
    let of = |name: &str, tier: &str, usage: &Usage| {
        let model = catalog.models().find(|m| catalog.model_name(*m) == name).unwrap();
        let call = Call { service: catalog.service(tier, "", false), ..Call::default() };
        price(usage, catalog.price_for(model, &call).unwrap()).unwrap()
    };
    let standard = of("gpt-4o", "", &usage(1_000, 100));
    for tier in ["scale", "provisioned", "flex"] {
        let cost = of("gpt-4o", tier, &usage(1_000, 100));
        assert_eq!((cost.total, cost.tier_unknown), (standard.total, true), "{tier}: the standard price, and says so");
    }
    let searched = of("gpt-4o", "", &Usage { web_searches: Some(1), ..usage(1_000, 100) });
    assert_eq!((searched.total, searched.fee_unknown), (standard.total, true));
}

#[test]
fn served_comes_before_requested_and_batch_before_both() {
    let catalog = Catalog::embedded().unwrap();
    let id = |served: &str, requested: &str, batch: bool| {
        let model = catalog.models().find(|m| catalog.model_name(*m) == "gpt-5").unwrap();
        let call = Call { service: catalog.service(served, requested, batch), ..Call::default() };
        catalog.price_for(model, &call).unwrap().id().to_owned()
    };
    assert_eq!(id("default", "priority", false), "openai/gpt-5", "asked for, and not given");
    assert_eq!(id("flex", "auto", false), "openai/gpt-5:flex");
    assert_eq!(id("", "flex", false), "openai/gpt-5:flex");
    assert_eq!(id("", "auto", false), "openai/gpt-5");
    assert_eq!(id("default", "", true), "openai/gpt-5:batch");
    assert_eq!(id("ON_DEMAND_PRIORITY", "", false), "openai/gpt-5:priority");
}
