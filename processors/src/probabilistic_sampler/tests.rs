#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod logs;

use proptest::prelude::*;
use weir_pipeline::sampling::{Threshold, TraceState, adjusted_count};
use weir_pipeline::tenant::Tenant;

use super::*;
use crate::testing::{Bench, TestSpan, V, batch, refused};

fn span(trace_id: u128, trace_state: &str) -> TestSpan {
    TestSpan {
        trace_id: trace_id.to_be_bytes().to_vec(),
        trace_state: trace_state.to_owned(),
        ..TestSpan::named("s", &[])
    }
}

/// The tracestate of the span if it is kept.
fn sampled(yaml: &str, span: &TestSpan) -> Option<String> {
    let kept = Bench::new(build, yaml).run(batch(std::slice::from_ref(span)));
    kept.spans().next().map(|s| s.fields().trace_state.to_string())
}

/// Sampled at 50 % and not at 49 %: its randomness is 0x80000000000000.
const HALF: u128 = 0xfefe_fefe_fefe_fefe_fe80_0000_0000_0000;
/// Sampled at every probability.
const IMPROBABLE: u128 = 0x1111_1111_1111_1111_11ff_ffff_ffff_ffff;

/// The Collector's own cases (processor/probabilisticsamplerprocessor/tracesprocessor_test.go). Each with what
/// `equalizing` and `proportional` make of it; `None`: not sampled.
#[test]
fn the_consistent_modes_agree_with_the_collectors_cases() {
    type Case = (&'static str, u128, &'static str, Option<&'static str>, Option<&'static str>);
    let both = |settings, id, state, out| -> Case { (settings, id, state, out, out) };
    let cases: Vec<Case> = vec![
        both("sampling_percentage: 100", HALF, "", Some("ot=th:0")),
        both("sampling_percentage: 50", HALF, "", Some("ot=th:8")),
        both("sampling_percentage: 25", 0xdddd_dddd_dddd_dddd_ddc0_0000_0000_0000, "", Some("ot=th:c")),
        both("sampling_percentage: 25", 0xdddd_dddd_dddd_dddd_ddb0_0000_0000_0000, "", None),
        both(
            "sampling_percentage: 1, sampling_precision: 14",
            HALF,
            "ot=rv:fd70a400000000",
            Some("ot=rv:fd70a400000000;th:fd70a3d70a3d71"),
        ),
        both("sampling_percentage: 1", HALF, "ot=rv:fd70a3d70a3d71", Some("ot=rv:fd70a3d70a3d71;th:fd70a")),
        both("sampling_percentage: 1, sampling_precision: 3", HALF, "ot=rv:fd70a3d70a3d71", None),
        both("sampling_percentage: 1, sampling_precision: 14", HALF, "ot=rv:fd70a3d70a3d70", None),
        both("sampling_percentage: 49", HALF, "", None),
        both("sampling_percentage: 1", 0xa0a0_a0a0_a0a0_a0a0_a0fe_0000_0000_0000, "", Some("ot=th:fd70a")),
        (
            "sampling_percentage: 50",
            HALF,
            // The zeros at the end are not needed and go.
            "ot=rv:90000000000000;th:80000000000000",
            Some("ot=rv:90000000000000;th:8"),
            // Half of a half.
            None,
        ),
        both("sampling_percentage: 25", HALF, "ot=th:8", None),
        ("sampling_percentage: 25", u128::MAX, "ot=th:8", Some("ot=th:c"), Some("ot=th:e")),
        (
            "sampling_percentage: 50",
            HALF,
            "ot=rv:c0000000000000;th:8",
            Some("ot=rv:c0000000000000;th:8"),
            Some("ot=rv:c0000000000000;th:c"),
        ),
        both(
            "sampling_percentage: 100, fail_closed: false",
            HALF,
            "ot=rv:40000000000000;th:8",
            Some("ot=rv:40000000000000;th:0"),
        ),
        both("sampling_percentage: 1", HALF, "ot=rv:40000000000000;th:8", None),
        both(
            "sampling_percentage: 40, sampling_precision: 3",
            HALF,
            "ot=rv:a0000000000000",
            Some("ot=rv:a0000000000000;th:99a"),
        ),
        (
            "sampling_percentage: 40, sampling_precision: 6",
            0xa0a0_a0a0_a0a0_a0a0_a0d0_0000_0000_0000,
            "ot=th:8",
            Some("ot=th:99999a"),
            Some("ot=th:cccccd"),
        ),
        (
            "sampling_percentage: 40, sampling_precision: 3",
            0xa0a0_a0a0_a0a0_a0a0_a0b0_0000_0000_0000,
            "ot=th:8",
            Some("ot=th:99a"),
            None,
        ),
        both(
            "sampling_percentage: 40, sampling_precision: 3",
            0xa0a0_a0a0_a0a0_a0a0_a080_0000_0000_0000,
            "ot=th:8",
            None,
        ),
        both("sampling_percentage: 200", HALF, "", Some("ot=th:0")),
        ("sampling_percentage: 0.006103515625", IMPROBABLE, "ot=th:fffc", Some("ot=th:fffc"), Some("ot=th:fffffff")),
        both("sampling_percentage: 99.99992, sampling_precision: 10", IMPROBABLE, "", Some("ot=th:00000cccccccd")),
        ("sampling_percentage: 0.0625", IMPROBABLE, "ot=th:fffffffffffff8", Some("ot=th:fffffffffffff8"), None),
    ];
    for (settings, id, state, equalizing, proportional) in cases {
        for (mode, expected) in [("equalizing", equalizing), ("proportional", proportional)] {
            let actual = sampled(&format!("{{mode: {mode}, {settings}}}"), &span(id, state));
            assert_eq!(actual.as_deref(), expected, "{mode}, {settings}, {state}");
        }
    }
}

#[test]
fn spans_that_cannot_be_used_are_dropped_or_kept_as_fail_closed_says() {
    for (id, state, reason) in [
        (0, "", "missing_randomness"),
        (HALF, "ot=rv:abababababababab", "invalid_tracestate"),
        (HALF, "ot=th:abababababababab", "invalid_tracestate"),
        (HALF, "ot=th:-1", "invalid_tracestate"),
        (0xffff_ffff_ffff_ffff_ff70_0000_0000_0000, "ot=th:8", "inconsistent_threshold"),
        (HALF, "ot=th:8;rv:70000000000000", "inconsistent_threshold"),
    ] {
        for mode in ["equalizing", "proportional"] {
            let bench = Bench::new(build, &format!("{{mode: {mode}, sampling_percentage: 100}}"));
            assert!(bench.run(batch(&[span(id, state)])).is_empty(), "{mode} {state}");
            assert_eq!(bench.count("weir_processor_dropped", reason), 1, "{mode} {state}");
            let open = format!("{{mode: {mode}, sampling_percentage: 1, fail_closed: false}}");
            let kept = sampled(&open, &span(id, state)).unwrap();
            // What cannot be read stays as it is.
            assert!(if reason == "invalid_tracestate" { kept == state } else { adjusted_count(&kept) == Some(1.0) });
        }
    }
}

#[test]
fn hash_seed_says_how_it_sampled_and_leaves_other_samplers_alone() {
    for (percentage, th) in [("100", "0"), ("75", "4"), ("50", "8"), ("25", "c"), ("10", "e668"), ("33.333333", "aaac")]
    {
        let bench = Bench::new(build, &format!("{{sampling_percentage: {percentage}, hash_seed: 22}}"));
        let spans: Vec<_> = (1..200u128).map(|n| span(n * 0x9e37_79b9_7f4a_7c15, "")).collect();
        let kept = bench.run(batch(&spans));
        assert!(!kept.is_empty());
        for span in kept.spans() {
            let fields = span.fields();
            let state = TraceState::parse(fields.trace_state.as_str()).unwrap();
            let threshold = state.threshold().unwrap();
            assert_eq!(threshold.to_string(), th);
            assert!(threshold.keeps(state.randomness().unwrap()), "another sampler would have kept it too");
        }
        assert_eq!(
            bench.count("otelcol_processor_probabilistic_sampler_count_traces_sampled", "trace_id_hash"),
            spans.len() as u64
        );
    }
    for state in ["ot=th:8", "ot=rv:9b8233f7e3a151"] {
        assert_eq!(sampled("sampling_percentage: 100", &span(HALF, state)), None);
        assert_eq!(
            sampled("{sampling_percentage: 100, fail_closed: false}", &span(HALF, state)).as_deref(),
            Some(state)
        );
    }
}

/// The published test vector of FNV-1a: "foobar" hashes to 0xbf9cf968, seed included.
#[test]
fn the_hash_is_fnv_1a_of_seed_and_id() {
    let bits = super::decide::hash(b"ar", u32::from_le_bytes(*b"foob")).bits();
    assert_eq!(bits & 0x3fff, 0xbf9c_f968 & 0x3fff);
    assert_eq!(bits >> 42, 0x3fff - (0xbf9c_f968 & 0x3fff));
    let high = 0xbf9c_f968_u64 >> 18;
    assert_eq!(bits >> 14 & 0x0fff_ffff, high ^ high << 10);
}

#[test]
fn a_priority_wins_over_every_mode() {
    for (value, kept) in [
        (V::I(2), Some(true)),
        (V::I(0), Some(false)),
        (V::I(-1), None),
        (V::D(0.5), Some(true)),
        (V::D(0.0), Some(false)),
        (V::D(-1.0), None),
        (V::S("0.0"), Some(false)),
        (V::S("0.5"), Some(true)),
        (V::S("-0.5"), None),
        (V::S("NaN"), None),
        (V::S("high"), None),
        // As Go reads numbers.
        (V::S("0x1p2"), Some(true)),
        (V::S("0x0p2"), Some(false)),
        (V::S("1_0"), Some(true)),
        (V::S("+Inf"), Some(true)),
        (V::S("1e400"), None),
        (V::B(true), None),
    ] {
        let mut one = span(HALF, "");
        one.attributes = vec![("sampling.priority", value.clone())];
        for (percentage, by_chance) in [("1", false), ("99", true), ("0", false)] {
            let yaml = format!("{{mode: proportional, sampling_percentage: {percentage}}}");
            let state = sampled(&yaml, &one);
            assert_eq!(state.is_some(), kept.unwrap_or(by_chance), "{value:?} at {percentage} %");
            if kept == Some(true) {
                assert_eq!(state.as_deref(), Some("ot=th:0"));
            }
        }
    }
    let mut before = span(HALF, "ot=th:4,x=y");
    before.attributes = vec![("sampling.priority", V::I(1))];
    let yaml = "{mode: proportional, sampling_percentage: 1}";
    assert_eq!(sampled(yaml, &before).as_deref(), Some("ot=th:4,x=y"), "a threshold is never lowered");
}

#[test]
fn settings_are_refused_where_they_stand() {
    for (yaml, message) in [
        ("mode: equalizing\n", "weir.yaml:1:1: processors::it: missing required field `sampling_percentage`"),
        ("sampling_percentage: -1\n", "weir.yaml:1:22: processors::it: the sampling percentage is negative"),
        ("sampling_percentage: .inf\n", "weir.yaml:1:22: processors::it: the sampling percentage is negative or not"),
        ("sampling_percentage: .nan\n", "weir.yaml:1:22: processors::it: the sampling percentage is negative or not"),
        ("sampling_percentage: 1e-20\n", "weir.yaml:1:22: processors::it: the sampling percentage is too small"),
        (
            "{sampling_percentage: 1, sampling_precision: 0}",
            "weir.yaml:1:46: processors::it: invalid sampling precision: 0",
        ),
        (
            "{sampling_percentage: 1, sampling_precision: 15}",
            "weir.yaml:1:46: processors::it: invalid sampling precision: 15",
        ),
        ("{sampling_percentage: 1, mode: random}", "weir.yaml:1:32: processors::it::mode: "),
        ("{sampling_percentage: 1, attribute_source: body}", "weir.yaml:1:44: processors::it::attribute_source: "),
    ] {
        let error = refused(build, yaml);
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}

#[test]
fn what_the_collector_ignores_is_no_error() {
    for yaml in [
        "{sampling_percentage: 100, hash_seed: 1, mode: equalizing}",
        "{sampling_percentage: 100, hash_seed: 1, mode: proportional}",
        "{sampling_percentage: 100, hash_seed: 1, mode: '', attribute_source: ''}",
        "{sampling_percentage: 100, mode: proportional, from_attribute: id}",
        "{sampling_percentage: 100, mode: equalizing, attribute_source: record}",
        "{sampling_percentage: 100, mode: equalizing, attribute_source: record, from_attribute: id}",
        "{sampling_percentage: 100, attribute_source: record}",
    ] {
        Bench::new(build, yaml);
    }
}

fn yaml(mode: &str, percentage: f64) -> String {
    format!("{{mode: {mode}, sampling_percentage: {percentage}}}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Of 4,000 random traces, as many as the binomial distribution allows but once in a billion.
    #[test]
    fn the_rate_is_what_was_asked_for(percentage in 1.0..99.0f64, seed: u64, mode in 0..3usize) {
        let mode = ["hash_seed", "proportional", "equalizing"][mode];
        let environment = weir_pipeline::clock::Environment::with(|| 0, seed);
        let id = || u128::from(environment.random()) << 64 | u128::from(environment.random());
        const TRACES: usize = 4_000;
        let spans: Vec<_> = (0..TRACES).map(|_| span(id(), "")).collect();
        let kept = Bench::new(build, &yaml(mode, percentage)).run(batch(&spans));
        let p = percentage / 100.0;
        let deviation = (TRACES as f64 * p * (1.0 - p)).sqrt();
        let expected = TRACES as f64 * p;
        prop_assert!((kept.len() as f64 - expected).abs() <= 6.2 * deviation + 1.0, "{} of {}", kept.len(), expected);
        // The adjusted counts estimate what came in, within the same bounds.
        let counts: f64 = kept.spans().filter_map(|s| adjusted_count(s.fields().trace_state.as_str())).sum();
        prop_assert!((counts - TRACES as f64).abs() <= (6.2 * deviation + 2.0) / p, "{}", counts);
    }

    /// All spans of a trace share a fate, and who is kept at a lower rate is kept at a higher one.
    #[test]
    fn decisions_are_consistent(ids in proptest::collection::vec(1..=u128::MAX, 1..20), a in 0.1..100.0f64, b in 0.1..100.0f64) {
        for mode in ["hash_seed", "proportional", "equalizing"] {
            let kept = |percentage| -> Vec<Vec<u8>> {
                let spans: Vec<_> = ids.iter().chain(&ids).map(|id| span(*id, "")).collect();
                let kept = Bench::new(build, &yaml(mode, percentage)).run(batch(&spans));
                kept.spans().map(|s| s.fields().trace_id.to_vec()).collect()
            };
            let (low, high) = (kept(a.min(b)), kept(a.max(b)));
            prop_assert!(low.iter().all(|id| high.contains(id)), "{}", mode);
            let (first, second) = high.split_at(high.len() / 2);
            prop_assert_eq!(first, second);
        }
    }

    /// Two samplers in a row, against plain arithmetic: proportional ones multiply, of equalizing ones the stricter counts.
    #[test]
    fn samplers_in_a_row_multiply_or_take_the_stricter(a in 5.0..100.0f64, b in 5.0..100.0f64) {
        for (mode, expected) in [("proportional", a * b / 1e4), ("equalizing", a.min(b) / 100.0)] {
            let first = sampled(&yaml(mode, a), &span(IMPROBABLE, "")).unwrap();
            let second = sampled(&yaml(mode, b), &span(IMPROBABLE, &first)).unwrap();
            let probability = 1.0 / adjusted_count(&second).unwrap();
            prop_assert!((probability / expected - 1.0).abs() < 2e-3, "{} {} {}", mode, probability, expected);
            let state = TraceState::parse(&first).unwrap();
            prop_assert!(state.threshold() <= TraceState::parse(&second).unwrap().threshold());
            prop_assert!(state.threshold().is_some_and(|t| t < Threshold::NEVER));
        }
    }
}

fn of(project: &str, environment: &str, spans: &[TestSpan]) -> weir_pipeline::batch::Batch {
    batch(spans).with_tenant(&Arc::new(Tenant::new(project.parse().unwrap(), environment.parse().unwrap())))
}

#[test]
fn tenants_have_shares_of_their_own() {
    let yaml = "{mode: equalizing, sampling_percentage: 100, tenants: [
        {project: web-app, environment: prd, sampling_percentage: 49},
        {project: web-app, sampling_percentage: 0},
        {project: search, sampling_percentage: 50}]}";
    let bench = Bench::new(build, yaml);
    // The randomness of this trace is in the upper half and not above.
    let spans = [span(HALF, "")];
    for (project, environment, kept) in
        [("web-app", "prd", 0), ("web-app", "dev", 0), ("search", "prd", 1), ("other", "prd", 1)]
    {
        assert_eq!(bench.run(of(project, environment, &spans)).len(), kept, "{project}/{environment}");
    }
    assert_eq!(bench.run(batch(&spans)).len(), 1, "nobody's");
    // What is joined is told apart.
    let mut joined = of("web-app", "prd", &spans);
    joined.append(of("search", "dev", &spans));
    joined.append(batch(&spans));
    assert_eq!(bench.run(joined).len(), 2);
}

#[test]
fn errors_and_dear_spans_are_kept_and_stand_for_themselves() {
    for mode in ["hash_seed", "proportional", "equalizing"] {
        let yaml = format!("{{mode: {mode}, sampling_percentage: 0, always_keep: {{errors: true, cost_above: 0.5}}}}");
        let bench = Bench::new(build, &yaml);
        let cost = |usd| TestSpan { attributes: vec![("weir.cost.total", V::D(usd))], ..span(HALF, "") };
        let spans = [
            span(HALF, ""),
            TestSpan { status: 2, ..span(HALF, "") },
            TestSpan { status: 1, ..span(HALF, "") },
            cost(0.5),
            cost(0.51),
            TestSpan { attributes: vec![("sampling.priority", V::I(0))], status: 2, ..span(HALF, "") },
        ];
        let kept = bench.run(batch(&spans));
        assert_eq!(kept.len(), 2, "{mode}");
        for span in kept.spans() {
            let fields = span.fields();
            assert_eq!(adjusted_count(fields.trace_state.as_str()), Some(1.0), "{mode}");
        }
    }
}

#[test]
fn shares_of_tenants_are_checked_where_they_stand() {
    for (yaml, error) in [
        (
            "{sampling_percentage: 1, tenants: [{project: A B, sampling_percentage: 1}]}",
            "weir.yaml:1:46: p::tenants[0]::project: \"A B\" is no slug",
        ),
        (
            "{sampling_percentage: 1, tenants: [{project: a, sampling_percentage: -1}]}",
            "weir.yaml:1:70: p::tenants[0]: the sampling percentage is negative",
        ),
        (
            "{sampling_percentage: 1, tenants: [{project: a, sampling_percentage: 1}, {project: a, environment: dev, sampling_percentage: 2}]}",
            "weir.yaml:1:74: p::tenants[1]: an entry above takes all that this one is for",
        ),
        (
            "{sampling_percentage: 1, always_keep: {cost_above: -1}}",
            "weir.yaml:1:52: p::always_keep::cost_above: is no amount",
        ),
    ] {
        let node = weir_pipeline::config::Node::parse("weir.yaml", yaml).unwrap();
        let refused = config::parse(&node, "p").unwrap_err().to_string();
        assert!(refused.starts_with(error), "{refused}");
    }
}
