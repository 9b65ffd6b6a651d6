use proptest::prelude::*;
use rust_decimal::{Decimal, RoundingStrategy};

use super::*;
use crate::cost::Catalog;
use crate::cost::money::MAX_TOKENS;

/// A catalog with one model of these rates.
fn catalog(rates: &str) -> Catalog {
    Catalog::parse(&format!(
        r#"{{"format":1,"source":{{"name":"","date":"2026-01-01","license":"","sha256":""}},"providers":[
        {{"id":"p","name":"P","address":"https://p\\.example","models":[
        {{"id":"m","match":{{"equals":"m"}},"prices":[{{"id":"p/m","rates":{{{rates}}}}}]}}]}}]}}"#
    ))
    .unwrap()
}

fn cost(catalog: &Catalog, usage: &Usage) -> Result<Cost, CostStatus> {
    price(usage, catalog.price_at(catalog.models().next().unwrap(), 0).unwrap())
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

/// The parts as text: input, output, cache read, cache write, request, total.
fn parts(rates: &str, usage: &Usage) -> [String; 6] {
    let cost = cost(&catalog(rates), usage).unwrap();
    let Cost { input, output, cache_read, cache_write, request, total, .. } = cost;
    [input, output, cache_read, cache_write, request, total].map(|usd| usd.to_string())
}

#[test]
fn costs_by_hand() {
    let rates = r#""input":"3","output":"15","cache_read":"0.3","cache_write":"3.75","cache_write_1h":"6""#;
    // 1000 = 600 plain + 300 read + 100 written.
    let cached = Usage { cache_read: Some(300), cache_write: Some(100), ..usage(1_000, 200) };
    assert_eq!(parts(rates, &cached), ["0.0018", "0.003", "0.00009", "0.000375", "0", "0.005265"]);
    // 40 of the 100 for an hour.
    let hour = Usage { cache_write_1h: Some(40), ..cached };
    assert_eq!(parts(rates, &hour), ["0.0018", "0.003", "0.00009", "0.000465", "0", "0.005355"]);
    // Reasoning is output like any other.
    let reasoning = Usage { reasoning: Some(150), ..usage(1_000, 200) };
    assert_eq!(parts(rates, &reasoning), ["0.003", "0.003", "0", "0", "0", "0.006"]);
}

#[test]
fn what_has_no_rate_of_its_own_is_billed_with_the_whole() {
    let cached = Usage { cache_read: Some(300), cache_write: Some(100), audio_in: Some(50), ..usage(1_000, 200) };
    assert_eq!(parts(r#""input":"3","output":"15""#, &cached), ["0.003", "0.003", "0", "0", "0", "0.006"]);
    // Only the hour-long writes have a rate: the other 60 are input.
    let hour = Usage { cache_write: Some(100), cache_write_1h: Some(40), ..usage(1_000, 0) };
    let rates = r#""input":"3","output":"15","cache_write_1h":"6""#;
    assert_eq!(parts(rates, &hour), ["0.00288", "0", "0", "0.00024", "0", "0.00312"]);
}

#[test]
fn audio_and_reasoning_with_rates_of_their_own() {
    let rates = r#""input":"2","output":"8","input_audio":"10","output_audio":"20","output_reasoning":"3""#;
    let mixed = Usage { audio_in: Some(100), audio_out: Some(50), reasoning: Some(30), ..usage(1_000, 200) };
    // 900×2 + 100×10 = 2800; 120×8 + 50×20 + 30×3 = 2050.
    assert_eq!(parts(rates, &mixed), ["0.0028", "0.00205", "0", "0", "0", "0.00485"]);
}

#[test]
fn requests_have_a_fee_of_their_own() {
    let rates = r#""input":"1","output":"1","per_thousand_requests":"12""#;
    assert_eq!(parts(rates, &usage(10, 20)), ["0.00001", "0.00002", "0", "0", "0.012", "0.01203"]);
}

#[test]
fn a_tier_is_a_cliff_on_the_whole_input() {
    let rates = r#""input":{"base":"3","tiers":[{"start":200000,"price":"6"}]},
        "output":{"base":"15","tiers":[{"start":200000,"price":"22.5"}]},
        "cache_read":{"base":"0.3","tiers":[{"start":200000,"price":"0.6"}]}"#;
    assert_eq!(parts(rates, &usage(200_000, 10)), ["0.6", "0.00015", "0", "0", "0", "0.60015"]);
    assert_eq!(parts(rates, &usage(200_001, 10)), ["1.200006", "0.000225", "0", "0", "0", "1.200231"]);
    // Cached tokens count for the threshold.
    let cached = Usage { cache_read: Some(200_000), ..usage(200_001, 0) };
    assert_eq!(parts(rates, &cached), ["0.000006", "0", "0.12", "0", "0", "0.120006"]);
    // Of several tiers the highest that is exceeded.
    let steps = r#""input":{"base":"1","tiers":[{"start":10,"price":"2"},{"start":20,"price":"3"}]},"output":"0""#;
    for (tokens, total) in [(10, "0.00001"), (11, "0.000022"), (20, "0.00004"), (21, "0.000063")] {
        assert_eq!(parts(steps, &usage(tokens, 0))[5], total);
    }
}

#[test]
fn operators_and_marginal_tiers() {
    let steps = |more: &str| {
        format!(
            r#""input":{{"base":"1","tiers":[{{"start":10,"price":"2"}},{{"start":20,"price":"3"}}]{more}}},"output":"0""#
        )
    };
    // From the start on: 9×1, 10×2, 19×2, 20×3.
    let from = steps(r#","operator":">=""#);
    for (tokens, total) in [(9, "0.000009"), (10, "0.00002"), (19, "0.000038"), (20, "0.00006")] {
        assert_eq!(parts(&from, &usage(tokens, 0))[5], total, "{tokens}");
    }
    // Marginal: 10×1; 10×1 + 1×2; 10×1 + 10×2; 10×1 + 10×2 + 5×3.
    let marginal = steps(r#","mode":"marginal""#);
    for (tokens, total) in [(10, "0.00001"), (11, "0.000012"), (20, "0.00003"), (25, "0.000045")] {
        assert_eq!(parts(&marginal, &usage(tokens, 0))[5], total, "{tokens}");
    }
    // What counts is the size of the whole input for a cliff, that of its own tokens for a marginal rate.
    let cached = Usage { cache_read: Some(20), ..usage(25, 0) };
    let rates = |mode: &str| {
        format!(r#""input":"0","output":"0","cache_read":{{"base":"1","tiers":[{{"start":21,"price":"5"}}]{mode}}}"#)
    };
    assert_eq!(parts(&rates(""), &cached)[2], "0.0001", "25 input tokens are above 21");
    assert_eq!(parts(&rates(r#","mode":"marginal""#), &cached)[2], "0.00002", "20 cached ones are not");
}

#[test]
fn media_are_billed_once() {
    let rates = r#""input":"1","output":"1","cache_read":"0.1","input_audio":"10","input_image":"5",
        "cache_audio_read":"2","output_image":"20""#;
    let media = Usage {
        cache_read: Some(400),
        audio_in: Some(300),
        cached_audio: Some(100),
        image_in: Some(200),
        cached_image: Some(50),
        image_out: Some(10),
        ..usage(1_000, 30)
    };
    // 100 cached audio at 2, the other 300 cached (50 of them images) at 0.1: 230. 200 audio at 10, 150 images at 5, the
    // other 250 at 1: 3000. 10 images at 20, the other 20 at 1: 220.
    assert_eq!(parts(rates, &media), ["0.003", "0.00022", "0.00023", "0", "0", "0.00345"]);
    // Without rates for cached tokens audio is audio and an image an image.
    let plain = r#""input":"1","output":"1","input_audio":"10","input_image":"5""#;
    // 300×10 + 200×5 + 500×1
    assert_eq!(parts(plain, &media)[0], "0.0045");
    assert_eq!(
        cost(&catalog(rates), &Usage { audio_in: Some(50), ..media }),
        Err(CostStatus::Inconsistent),
        "more cached audio than audio"
    );
}

#[test]
fn free_is_zero_and_unknown_is_not() {
    assert_eq!(parts(r#""input":"0","output":"0""#, &usage(100, 100))[5], "0");
    let embeddings = catalog(r#""input":"0.1""#);
    assert_eq!(cost(&embeddings, &usage(100, 0)).unwrap().total.to_string(), "0.00001");
    assert_eq!(cost(&embeddings, &usage(100, 1)), Err(CostStatus::NoRate));
    assert_eq!(cost(&catalog(r#""output":"1""#), &usage(1, 1)), Err(CostStatus::NoRate));
}

#[test]
fn parts_larger_than_their_whole_are_inconsistent() {
    let rates = catalog(
        r#""input":"3","output":"15","cache_read":"0.3","cache_write":"3.75","cache_write_1h":"6","output_audio":"1""#,
    );
    for wrong in [
        Usage { cache_read: Some(11), ..usage(10, 1) },
        Usage { cache_read: Some(6), cache_write: Some(5), ..usage(10, 1) },
        Usage { cache_write: Some(4), cache_write_1h: Some(5), ..usage(10, 1) },
        Usage { audio_out: Some(2), ..usage(10, 1) },
    ] {
        assert_eq!(cost(&rates, &wrong), Err(CostStatus::Inconsistent), "{wrong:?}");
    }
}

/// A rate with up to 18 decimals, as text.
fn rate() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..1_000, 0u32..1_000_000).prop_map(|(whole, fraction)| format!("{whole}.{fraction:06}")),
        (0u32..100, 0u64..1_000_000_000_000).prop_map(|(whole, fraction)| format!("{whole}.{fraction:012}")),
        Just("0.08333333333333334".to_owned()),
    ]
}

/// `tokens × rate`, in pico-USD, by a decimal library.
fn oracle(leaves: &[(u64, &str)]) -> u128 {
    let exact: Decimal =
        leaves.iter().map(|(tokens, rate)| Decimal::from(*tokens) * rate.parse::<Decimal>().unwrap()).sum();
    // USD per million is micro-USD per token: times 10⁶ is pico-USD.
    let pico = exact * Decimal::from(1_000_000);
    pico.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven).try_into().unwrap()
}

proptest! {
    #[test]
    fn amounts_are_those_of_a_decimal_library(
        (input_rate, output_rate, read_rate, write_rate) in (rate(), rate(), rate(), rate()),
        (plain, read, write, output) in (0u64..1_000_000, 0u64..1_000_000, 0u64..1_000_000, 0u64..1_000_000),
    ) {
        let catalog = catalog(&format!(
            r#""input":"{input_rate}","output":"{output_rate}","cache_read":"{read_rate}","cache_write":"{write_rate}""#
        ));
        let usage = Usage { cache_read: Some(read), cache_write: Some(write), ..usage(plain + read + write, output) };
        let cost = cost(&catalog, &usage).unwrap();
        prop_assert_eq!(cost.input.as_pico(), oracle(&[(plain, &input_rate)]));
        prop_assert_eq!(cost.output.as_pico(), oracle(&[(output, &output_rate)]));
        prop_assert_eq!(cost.cache_read.as_pico(), oracle(&[(read, &read_rate)]));
        prop_assert_eq!(cost.cache_write.as_pico(), oracle(&[(write, &write_rate)]));
        prop_assert_eq!(
            cost.total.as_pico(),
            [cost.input, cost.output, cost.cache_read, cost.cache_write].iter().map(|part| part.as_pico()).sum::<u128>()
        );
    }

    #[test]
    fn tiers_and_service_tiers_are_those_of_a_decimal_library(
        (low, high, factor) in (rate(), rate(), 0u32..4_000),
        (start, tokens) in (1u32..2_000, 0u64..4_000),
        (inclusive, marginal, flex) in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) {
        let start = start + u32::from(inclusive);
        let mode = if marginal { r#","mode":"marginal""# } else if inclusive { r#","operator":">=""# } else { "" };
        let factor = format!("{}.{:03}", factor / 1_000, factor % 1_000);
        let json = format!(
            r#"{{"format":2,"source":{{"name":"","date":"2026-01-01","license":"","sha256":""}},"providers":[
            {{"id":"p","name":"P","models":[{{"id":"m","match":{{"equals":"m"}},"prices":[{{"id":"p/m",
            "rates":{{"input":{{"base":"{low}","tiers":[{{"start":{start},"price":"{high}"}}]{mode}}}}},
            "service_tiers":{{"flex":{{"multiplier":"{factor}"}}}}}}]}}]}}]}}"#
        );
        let catalog = Catalog::parse(&json).unwrap();
        let service = catalog.service(if flex { "flex" } else { "" }, "", false);
        let call = crate::cost::catalog::Call { service, ..Default::default() };
        let price_ref = catalog.price_for(catalog.models().next().unwrap(), &call).unwrap();
        let found = price(&usage(tokens, 0), price_ref).unwrap();

        let times = |rate: &str| {
            let rate = rate.parse::<Decimal>().unwrap();
            let rate = if flex { rate * factor.parse::<Decimal>().unwrap() } else { rate };
            rate.round_dp_with_strategy(18, RoundingStrategy::MidpointNearestEven).to_string()
        };
        let (low, high, start) = (times(&low), times(&high), u64::from(start));
        let leaves = if marginal {
            vec![(tokens.min(start), &*low), (tokens.saturating_sub(start), &*high)]
        } else if tokens > start || (inclusive && tokens == start) {
            vec![(tokens, &*high)]
        } else {
            vec![(tokens, &*low)]
        };
        prop_assert_eq!(found.total.as_pico(), oracle(&leaves));
    }

    #[test]
    fn costs_of_usages_add_up(a in 0u64..1 << 40, b in 0u64..1 << 40, out in 0u64..1 << 40) {
        let catalog = catalog(r#""input":"0.123456","output":"600","cache_read":"0.01""#);
        let with = |input, read| cost(&catalog, &Usage { cache_read: Some(read), ..usage(input, out) }).unwrap();
        let (one, other, both) = (with(a, 0), with(b, b), with(a + b, b));
        prop_assert_eq!(both.input, one.input + other.input);
        prop_assert_eq!(both.cache_read, one.cache_read + other.cache_read);
        prop_assert_eq!(both.total + one.output, one.total + other.total);
    }

    #[test]
    fn no_usage_can_break_the_arithmetic(counts in proptest::array::uniform8(proptest::option::of(0..=MAX_TOKENS))) {
        let [input, output, cache_read, cache_write, cache_write_1h, reasoning, audio_in, audio_out] = counts;
        let usage = Usage {
            input, output, cache_read, cache_write, cache_write_1h, reasoning, audio_in, audio_out, total: None,
            ..Usage::default()
        };
        let catalog = catalog(
            r#""input":"1000000","output":"999999.999999999999999999","cache_read":"0.1","cache_write":"1",
            "cache_write_1h":"2","input_audio":"3","output_audio":"4","output_reasoning":"5""#,
        );
        if let Ok(cost) = cost(&catalog, &usage) {
            let sum = cost.input + cost.output + cost.cache_read + cost.cache_write + cost.request;
            prop_assert_eq!(cost.total, sum);
        }
    }
}
