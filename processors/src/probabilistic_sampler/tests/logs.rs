//! Log records. Counts and thresholds are those of the Collector's own tests
//! (processor/probabilisticsamplerprocessor/logsprocessor_test.go).

use weir_pipeline::sampling::Randomness;
use weir_pipeline::signal::Signal;

use super::super::decide::hash;
use super::*;
use crate::testing::{TestRecord, bodies, logs};

fn bench(yaml: &str) -> Bench {
    Bench::of(Signal::Logs, build, &format!("{{{yaml}}}"))
}

/// A hundred records: half of them with an id as bytes and as a text, a fourth with a priority of 100.
fn hundred() -> Vec<TestRecord> {
    let record = |n: u8| {
        let mut trace_id = vec![0; 16];
        trace_id[8..].fill(n);
        // FNV-1a of the seed 123 and the id: the decisive bits and the unused ones put together again.
        let random =
            trace_id.iter().fold([123u32, 0, 0, 0].iter().fold(0x811c_9dc5, fnv), |h, b| fnv(h, &u32::from(*b)));
        let mut attributes = vec![("rando", V::I(i64::from(random)))];
        if n.is_multiple_of(2) {
            attributes.push(("foo", V::Y(trace_id.clone())));
            let text: String = trace_id.iter().map(|b| format!("{b:02x}")).collect();
            attributes.push(("bar", V::S(if n == 0 { "" } else { text.leak() })));
        }
        if n.is_multiple_of(4) {
            attributes.push(("priority", V::D(100.0)));
        }
        TestRecord { trace_id, ..TestRecord::saying("", &attributes) }
    };
    (0..100).map(record).collect()
}

fn fnv(hash: u32, byte: &u32) -> u32 {
    (hash ^ byte).wrapping_mul(0x0100_0193)
}

#[test]
fn as_many_are_kept_as_by_the_collector() {
    const BY_PRIORITY: &str = "sampling_priority: priority";
    const RANDO: &str = "sampling_priority: priority, attribute_source: record, from_attribute: rando";
    for (yaml, kept) in [
        ("sampling_percentage: 100, fail_closed: false".to_owned(), 100),
        ("sampling_percentage: 0".to_owned(), 0),
        ("sampling_percentage: 50".to_owned(), 45),
        ("sampling_percentage: 0, attribute_source: record, from_attribute: foo".to_owned(), 0),
        ("sampling_percentage: 100, attribute_source: record, from_attribute: foo, fail_closed: false".to_owned(), 100),
        ("sampling_percentage: 50, attribute_source: record, from_attribute: foo".to_owned(), 23),
        ("sampling_percentage: 50, attribute_source: record, from_attribute: bar".to_owned(), 29),
        (format!("sampling_percentage: 0, {RANDO}"), 25),
        (format!("sampling_percentage: 50, {RANDO}"), 64),
        (format!("sampling_percentage: 100, {RANDO}"), 100),
        (format!("sampling_percentage: 0, {BY_PRIORITY}"), 25),
        (format!("sampling_percentage: 50, {BY_PRIORITY}, fail_closed: false"), 57),
        (format!("sampling_percentage: 100, {BY_PRIORITY}"), 100),
        (
            "sampling_percentage: 0, attribute_source: record, from_attribute: foo, sampling_priority: priority"
                .to_owned(),
            25,
        ),
    ] {
        let bench = bench(&yaml);
        assert_eq!(bench.run(logs(&hundred())).len(), kept, "{yaml}");
        assert_eq!(bench.telemetry.sum("otelcol_processor_probabilistic_sampler_count_logs_sampled"), 100);
        assert_eq!(bench.telemetry.sum("weir_processor_dropped"), 100 - kept as u64);
    }
}

/// What a record with this trace id and these attributes says of its sampling after it was kept: threshold, randomness.
fn sampled(yaml: &str, trace_id: u128, attributes: &[(&'static str, V)]) -> Option<(Option<String>, Option<String>)> {
    let record = TestRecord { trace_id: trace_id.to_be_bytes().to_vec(), ..TestRecord::saying("", attributes) };
    let mut said = None;
    bench(yaml).run(logs(&[record])).for_each_log_record_mut(|record| {
        let text = |key| record.view().attr(key).and_then(|value| value.as_str().map(str::to_owned));
        said = Some((text("sampling.threshold"), text("sampling.randomness")));
    });
    said
}

#[test]
fn records_say_how_they_were_sampled() {
    let threshold = |text: &'static str| ("sampling.threshold", V::S(text));
    let randomness = |text: &'static str| ("sampling.randomness", V::S(text));
    let said =
        |threshold: &str, randomness: Option<&str>| Some((Some(threshold.to_owned()), randomness.map(str::to_owned)));
    let hashed = |bytes: &[u8], seed| hash(bytes, seed).to_string();
    let half = HALF.to_be_bytes();
    for (yaml, id, attributes, expected) in [
        ("mode: proportional, sampling_percentage: 100", HALF, vec![], said("0", None)),
        ("sampling_percentage: 100, hash_seed: 22", HALF, vec![], said("0", Some(&hashed(&half, 22)))),
        (
            "sampling_percentage: 100, hash_seed: 49, attribute_source: record, from_attribute: veryrandom",
            HALF,
            vec![("veryrandom", V::S("1234"))],
            said("0", Some(&hashed(b"1234", 49))),
        ),
        // Without a trace id, the attribute takes its place.
        (
            "sampling_percentage: 100, from_attribute: veryrandom",
            0,
            vec![("veryrandom", V::I(1234))],
            said("0", Some(&hashed(b"1234", 0))),
        ),
        (
            "sampling_percentage: 0, sampling_priority: p, sampling_precision: 6",
            HALF,
            vec![randomness("e6147c00000000"), ("p", V::D(10.125))],
            said("e6147b", Some("e6147c00000000")),
        ),
        (
            "mode: proportional, sampling_percentage: 50",
            0xfefe_fefe_fefe_fefe_fef0_0000_0000_0000,
            vec![threshold("c")],
            said("e", None),
        ),
        // The threshold says that the record should not have come this far.
        (
            "mode: equalizing, sampling_percentage: 50",
            0xfefe_fefe_fefe_fefe_feb0_0000_0000_0000,
            vec![threshold("c")],
            None,
        ),
        (
            "mode: equalizing, sampling_percentage: 50, fail_closed: false",
            0xfefe_fefe_fefe_fefe_feb0_0000_0000_0000,
            vec![threshold("c")],
            said("0", None),
        ),
        // What was sampled before stays sampled.
        (
            "mode: equalizing, sampling_percentage: 50, sampling_priority: p",
            0xfefe_fefe_fefe_fefe_fefe_fefe_fefe_fefe,
            vec![threshold("c"), ("p", V::I(37))],
            said("c", None),
        ),
        ("mode: equalizing, sampling_percentage: 50", HALF, vec![randomness("7fffffffffffff")], None),
        (
            "sampling_percentage: 100, fail_closed: false",
            HALF,
            vec![randomness("f2341234123412")],
            Some((None, Some("f2341234123412".to_owned()))),
        ),
        ("sampling_percentage: 100", HALF, vec![randomness("f2341234123412")], None),
        ("sampling_percentage: 100", HALF, vec![threshold("8")], None),
        ("mode: equalizing, sampling_percentage: 100", HALF, vec![threshold("no hex")], None),
        (
            "mode: equalizing, sampling_percentage: 1, fail_closed: false",
            HALF,
            vec![threshold("no hex")],
            Some((Some("no hex".to_owned()), None)),
        ),
        // Nothing that is no text is a threshold.
        ("mode: equalizing, sampling_percentage: 50", HALF, vec![("sampling.threshold", V::I(8))], said("8", None)),
    ] {
        assert_eq!(sampled(yaml, id, &attributes), expected, "{yaml} {attributes:?}");
    }
    assert_eq!(Randomness::of_trace_id(&half).unwrap().to_string(), "80000000000000");
}

#[test]
fn records_without_randomness_are_dropped_or_kept_as_fail_closed_says() {
    for mode in ["hash_seed", "proportional", "equalizing"] {
        for (percentage, open) in [(0, false), (50, true), (100, true)] {
            let yaml =
                |fail_closed| format!("mode: {mode}, sampling_percentage: {percentage}, fail_closed: {fail_closed}");
            assert_eq!(sampled(&yaml(true), 0, &[("unused", V::S(""))]), None);
            assert_eq!(sampled(&yaml(false), 0, &[("unused", V::S(""))]).is_some(), open, "{mode} {percentage}");
        }
        let bench = bench(&format!("mode: {mode}, sampling_percentage: 50"));
        bench.run(logs(&[TestRecord::default()]));
        assert_eq!(bench.count("weir_processor_dropped", "missing_randomness"), 1);
        assert_eq!(bench.count("otelcol_processor_probabilistic_sampler_count_logs_sampled", "missing_randomness"), 1);
    }
}

#[test]
fn a_priority_is_a_percentage_of_the_records_own() {
    for (priority, kept) in [
        (V::I(0), false),
        (V::D(0.0), false),
        (V::I(100), true),
        (V::D(250.0), true),
        (V::I(50), true),
        (V::I(49), false),
        // These say nothing.
        (V::I(-1), true),
        (V::D(f64::NAN), true),
        (V::S("0"), true),
    ] {
        let yaml = "mode: proportional, sampling_percentage: 60, sampling_priority: p";
        assert_eq!(sampled(yaml, HALF, &[("p", priority.clone())]).is_some(), kept, "{priority:?}");
    }
    let bench = bench("sampling_percentage: 100, sampling_priority: p");
    bench.run(logs(&[TestRecord::saying("", &[("p", V::I(0))])]));
    assert_eq!(bench.count("weir_processor_dropped", "sampling_priority"), 1);
    assert_eq!(bench.count("otelcol_processor_probabilistic_sampler_count_logs_sampled", "sampling_priority"), 1);
}

#[test]
fn an_attribute_that_is_hashed_is_the_name_of_the_policy() {
    let bench = bench("sampling_percentage: 100, attribute_source: record, from_attribute: logID");
    bench.run(logs(&[TestRecord::saying("", &[("logID", V::S("a"))])]));
    assert_eq!(bench.count("otelcol_processor_probabilistic_sampler_count_logs_sampled", "logID"), 1);
}

#[test]
fn the_consistent_modes_hash_no_attribute() {
    for mode in ["proportional", "equalizing"] {
        let plain = format!("mode: {mode}, sampling_percentage: 50");
        for more in ["from_attribute: id", "attribute_source: record", "attribute_source: record, from_attribute: id"] {
            let yaml = format!("{plain}, {more}");
            for trace_id in [HALF, HALF - 1, 0] {
                let attributes = [("id", V::S("1234"))];
                assert_eq!(sampled(&yaml, trace_id, &attributes), sampled(&plain, trace_id, &attributes), "{yaml}");
            }
        }
    }
}

#[test]
fn without_a_name_no_attribute_is_hashed() {
    // The trace id is not looked at.
    let bench = bench("sampling_percentage: 100, attribute_source: record");
    assert_eq!(bench.run(logs(&hundred())).len(), 0);
    assert_eq!(bench.count("weir_processor_dropped", "missing_randomness"), 100);
    let yaml = "sampling_percentage: 50, attribute_source: record, fail_closed: false";
    assert_eq!(sampled(yaml, HALF, &[]), Some((Some("0".to_owned()), None)));
}

#[test]
fn errors_and_what_tenants_send_are_kept_as_they_are_of_spans() {
    let yaml = "sampling_percentage: 0, always_keep: {errors: true, cost_above: 1}";
    let record = |body, severity| TestRecord { severity: (severity, ""), ..TestRecord::saying(body, &[]) };
    let dear = TestRecord::saying("dear", &[("weir.cost.total", V::D(1.5))]);
    let kept = bench(yaml).run(logs(&[record("warning", 16), record("error", 17), dear]));
    assert_eq!(bodies(kept), ["error", "dear"]);
    let yaml = "mode: equalizing, sampling_percentage: 100, tenants: [{project: web-app, sampling_percentage: 0}]";
    let of = |project: &str| {
        let tenant = Tenant::new(project.parse().unwrap(), "prd".parse().unwrap());
        let record = TestRecord { trace_id: HALF.to_be_bytes().to_vec(), ..TestRecord::default() };
        logs(&[record]).with_tenant(&Arc::new(tenant))
    };
    assert_eq!((bench(yaml).run(of("web-app")).len(), bench(yaml).run(of("search")).len()), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Of a trace's spans and its log records the same share is kept: of each trace both or neither.
    #[test]
    fn logs_are_sampled_with_their_traces(ids in proptest::collection::vec(1..=u128::MAX, 1..20), percentage in 0.1..100.0f64) {
        for mode in ["hash_seed", "proportional", "equalizing"] {
            let yaml = yaml(mode, percentage);
            let spans: Vec<_> = ids.iter().map(|id| span(*id, "")).collect();
            let kept: Vec<Vec<u8>> =
                Bench::new(build, &yaml).run(batch(&spans)).spans().map(|s| s.fields().trace_id.to_vec()).collect();
            let record = |id: &u128| TestRecord { trace_id: id.to_be_bytes().to_vec(), ..TestRecord::default() };
            let records: Vec<_> = ids.iter().map(record).collect();
            let mut with = Vec::new();
            Bench::of(Signal::Logs, build, &yaml)
                .run(logs(&records))
                .for_each_log_record_mut(|record| with.push(record.view().trace_id().to_vec()));
            prop_assert_eq!(kept, with);
        }
    }
}
