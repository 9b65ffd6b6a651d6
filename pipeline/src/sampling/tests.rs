use proptest::prelude::*;

use super::*;

/// The specification's own examples, and the Collector's.
#[test]
fn probabilities_become_the_thresholds_of_the_specification() {
    for (probability, precision, th) in [
        (1.0, 4, "0"),
        (0.5, 4, "8"),
        (0.25, 4, "c"),
        (0.1, 4, "e666"),
        (0.1, 5, "e6666"),
        (0.1, 14, "e6666666666666"),
        (0.01, 4, "fd70a"),
        (1.0 / 3.0, 4, "aaab"),
        (1.0 / 3.0, 1, "b"),
        (2.0 / 3.0, 4, "5555"),
        (0.99, 4, "028f6"),
        (1.0 / 65_536.0, 4, "ffff"),
        (1.0 / (1u64 << 56) as f64, 4, "ffffffffffffff"),
    ] {
        let threshold = Threshold::from_probability(probability, precision).unwrap();
        assert_eq!(threshold.to_string(), th, "{probability} with {precision} digits");
        assert_eq!(Threshold::parse(th), Some(threshold));
    }
    for probability in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY, 0.5 / (1u64 << 56) as f64] {
        assert_eq!(Threshold::from_probability(probability, 4), None, "{probability}");
    }
}

#[test]
fn thresholds_and_randomness_are_read_strictly() {
    assert_eq!(Threshold::parse("8").map(Threshold::adjusted_count), Some(2.0));
    assert_eq!(Threshold::parse("c").map(Threshold::adjusted_count), Some(4.0));
    assert_eq!(Threshold::parse("0"), Some(Threshold::ALWAYS));
    assert_eq!(Threshold::ALWAYS.adjusted_count(), 1.0);
    for bad in ["", "123456789abcdef", "g", "+1", "-1", " 1", "0x1"] {
        assert_eq!(Threshold::parse(bad), None, "{bad}");
    }
    assert_eq!(Randomness::parse("9b8233f7e3a151").map(Randomness::bits), Some(0x009b_8233_f7e3_a151));
    for bad in ["", "9b8233f7e3a15", "9b8233f7e3a1511", "9b8233f7e3a15g", "+b8233f7e3a151"] {
        assert_eq!(Randomness::parse(bad), None, "{bad}");
    }
    let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
    assert_eq!(Randomness::of_trace_id(&id).map(Randomness::bits), Some(0x0023_4567_89ab_cdef));
    assert_eq!(Randomness::of_trace_id(&[0; 16]), None);
    assert_eq!(Randomness::of_trace_id(&id[1..]), None);
}

fn rewritten(text: &str, change: impl FnOnce(&mut TraceState<'_>)) -> String {
    let mut state = TraceState::parse(text).unwrap();
    change(&mut state);
    let mut out = String::new();
    state.write(&mut out);
    out
}

#[test]
fn the_own_member_moves_to_the_front_and_the_others_stay() {
    let half = Threshold::parse("8");
    for (before, after) in [
        ("", "ot=th:8"),
        ("ot=th:0", "ot=th:8"),
        ("ot=th:0;rv:9b8233f7e3a151", "ot=rv:9b8233f7e3a151;th:8"),
        ("a=1, b=2 ,,c@d=x:y;z", "ot=th:8,a=1,b=2,c@d=x:y;z"),
        ("a=1,ot=p:8;th:4;zz:vv,b=2", "ot=th:8;p:8;zz:vv,a=1,b=2"),
    ] {
        assert_eq!(rewritten(before, |s| s.set_threshold(half)), after);
    }
    assert_eq!(rewritten("a=1,ot=th:8", |s| s.set_threshold(None)), "a=1");
    assert_eq!(rewritten("ot=th:8", |s| s.set_threshold(None)), "");
    assert_eq!(adjusted_count("x=1,ot=th:c"), Some(4.0));
    assert_eq!((adjusted_count("x=1"), adjusted_count("ot=th:zz")), (None, None));
}

#[test]
fn what_breaks_the_grammar_is_refused() {
    for (text, fault) in [
        ("a", InvalidTraceState::Member),
        ("=1", InvalidTraceState::Member),
        ("A=1", InvalidTraceState::Member),
        ("1a=1", InvalidTraceState::Member),
        ("a=", InvalidTraceState::Member),
        ("a=b=c", InvalidTraceState::Member),
        ("a=\u{e9}", InvalidTraceState::Member),
        ("a@1b=1", InvalidTraceState::Member),
        ("ot=th", InvalidTraceState::OpenTelemetry),
        ("ot=th:", InvalidTraceState::OpenTelemetry),
        ("ot=th:123456789abcdef", InvalidTraceState::OpenTelemetry),
        ("ot=rv:1", InvalidTraceState::OpenTelemetry),
        ("ot=th:8;", InvalidTraceState::OpenTelemetry),
        ("ot=T:8", InvalidTraceState::OpenTelemetry),
        ("ot=x:a b", InvalidTraceState::OpenTelemetry),
    ] {
        assert_eq!(TraceState::parse(text), Err(fault), "{text}");
    }
    let many = (0..33).map(|n| format!("a{n}=1")).collect::<Vec<_>>();
    assert_eq!(TraceState::parse(&many.join(",")), Err(InvalidTraceState::TooLong));
    assert!(TraceState::parse(&many[1..].join(",")).is_ok());
    assert_eq!(TraceState::parse(&"a".repeat(1025)), Err(InvalidTraceState::TooLong));
    assert!(TraceState::parse("0tenant@system=1").is_ok());
}

/// The same in exact arithmetic: which of the numbers with so many digits is nearest to `2^56 - probability * 2^56`.
fn model(probability: f64, precision: u32) -> u64 {
    let exact = (1u64 << 56) - (probability * (1u64 << 56) as f64).round() as u64;
    let digits = format!("{exact:014x}");
    let run = |c: char| digits.chars().take_while(|d| *d == c).count() as u32;
    // Leading zeros, or leading fs, come on top of the precision.
    let kept = (precision + run('0').max(run('f'))).min(14);
    let unit = 1u64 << (4 * (14 - kept));
    let below = exact / unit * unit;
    let nearest = if exact - below >= unit.div_ceil(2) && unit > 1 { below + unit } else { below };
    nearest.min((1 << 56) - 1)
}

proptest! {
    #[test]
    fn thresholds_agree_with_plain_arithmetic(exponent in 0.0..40.0f64, precision in 1..=14u8) {
        // Evenly on the scale of logarithms, and the same distance from one.
        let small = 2f64.powf(-exponent);
        for probability in [small, 1.0 - small] {
            let Some(threshold) = Threshold::from_probability(probability, precision) else { continue };
            prop_assert_eq!(Threshold::parse(&threshold.to_string()), Some(threshold));
            let expected = model(probability, u32::from(precision));
            // At a power of sixteen the exponent and the digits may see one leading digit more or less.
            let near_power = [probability, 1.0 - probability].iter().any(|p| (p.log2() / 4.0).fract().abs() < 1e-6);
            prop_assert!(
                threshold.bits() == expected || near_power,
                "{} with {} digits: {:x}, not {:x}", probability, precision, threshold.bits(), expected
            );
            // The relative error is bounded by the digits, the absolute one by the last of 56 bits.
            let error = (threshold.probability() - probability).abs() / probability;
            let bound = 16f64.powi(1 - i32::from(precision)) + 2f64.powi(-56) / probability;
            prop_assert!(error <= bound, "{} {}", probability, error);
        }
    }

    #[test]
    fn the_stricter_sampler_keeps_a_subset(a in 0..=1u64 << 56, b in 0..=1u64 << 56, randomness in 0..1u64 << 56) {
        let (strict, lax) = (Threshold::from_bits(a.max(b)), Threshold::from_bits(a.min(b)));
        let randomness = Randomness::from_bits(randomness);
        prop_assert!(!strict.keeps(randomness) || lax.keeps(randomness));
        prop_assert!(strict == Threshold::NEVER || strict.keeps(Randomness::MAX));
        prop_assert!(!Threshold::NEVER.keeps(randomness) && Threshold::ALWAYS.keeps(randomness));
    }

    #[test]
    fn values_are_read_back(bits in 0..1u64 << 56) {
        let threshold = Threshold::from_bits(bits);
        prop_assert_eq!(Threshold::parse(&threshold.to_string()), Some(threshold));
        let randomness = Randomness::from_bits(bits);
        prop_assert_eq!(Randomness::parse(&randomness.to_string()), Some(randomness));
        prop_assert!((threshold.adjusted_count() * threshold.probability() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn any_text_is_answered_and_what_is_written_is_read(
        text in "\\PC{0,20}|(ot=|a=|b@c=|[a-z]{1,3}=)?[a-z0-9:;,=@. ]{0,30}",
        bits in 0..1u64 << 56,
    ) {
        if let Ok(mut state) = TraceState::parse(&text) {
            state.set_threshold(Some(Threshold::from_bits(bits)));
            let mut out = String::new();
            state.write(&mut out);
            let again = TraceState::parse(&out).unwrap();
            prop_assert_eq!((again.threshold(), again.randomness()), (state.threshold(), state.randomness()));
            let mut twice = String::new();
            again.write(&mut twice);
            prop_assert_eq!(out, twice);
        }
    }
}
