use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn balance(telemetry: &Telemetry) -> Balance {
    let mut all = telemetry.balances();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_metric_has_a_bounded_number_of_series() {
    let telemetry = Telemetry::default();
    for i in 0..MAX_SERIES + 10 {
        telemetry.counter("many", &[("model", &i.to_string())]).add(1);
    }
    // Those that exist already are found, and go on counting.
    telemetry.counter("many", &[("model", "7")]).add(1);
    let families = telemetry.families();
    let [many] = &families[..] else { panic!("{families:?}") };
    assert_eq!(many.series.len(), MAX_SERIES + 1);
    let value = |label: &'static str, text: &str| {
        many.series.iter().find(|(l, _)| *l == [(label, text.to_owned())]).map(|(_, value)| *value)
    };
    assert_eq!((value("model", "7"), value(OVERFLOW, "true")), (Some(2), Some(10)));
    assert_eq!(telemetry.sum("many"), MAX_SERIES as u64 + 11);
}

#[test]
fn metrics_are_described_by_themselves_by_components_or_not_at_all() {
    let telemetry = Telemetry::default();
    ExporterCounters::new(&telemetry, "otlp", Signal::Metrics);
    telemetry.counter("weir_cost", &[]).add(5);
    telemetry.describe("weir_cost", Description::counter("Money spent.").unit("USD").divided_by(1_000_000_000));
    telemetry.gauge("level", &[]).set(3);
    telemetry.counter("unknown", &[]);
    telemetry.describe("never counted", Description::counter("Nothing."));
    let families = telemetry.families();
    let of = |name: &str| families.iter().find(|f| f.name == name).map(|f| f.description);
    let sent = of("otelcol_exporter_sent_metric_points").unwrap();
    assert_eq!((sent.kind, sent.unit), (Kind::Counter, "{datapoints}"));
    assert_eq!(of("weir_exporter_in_flight_metric_points").unwrap().kind, Kind::Gauge);
    assert_eq!(of("weir_cost").unwrap().divisor, 1_000_000_000);
    assert_eq!(of("level").unwrap().kind, Kind::Gauge);
    assert_eq!(of("unknown"), Some(Description::default()));
    assert_eq!(of("never counted"), None);
    telemetry.forget("exporter", "otlp");
    assert!(telemetry.families().iter().all(|f| !f.name.contains("exporter")));
}

#[test]
fn every_way_to_end_balances_and_what_vanishes_is_found() {
    let telemetry = Telemetry::default();
    let (offer, counters) = (
        OfferCounters::new(&telemetry, "otlp", Signal::Traces),
        ExporterCounters::new(&telemetry, "otlp", Signal::Traces),
    );
    offer.begin(100);
    assert_eq!(balance(&telemetry).difference(), 0, "not yet taken is not lost");
    counters.take(100);
    assert_eq!(balance(&telemetry).difference(), 0);
    offer.end(100);
    counters.succeed(50);
    counters.fail(20, "permanent_error");
    counters.refuse(10, "queue_full");
    let now = balance(&telemetry);
    assert_eq!((now.difference(), now.in_flight), (0, 20));
    assert_eq!(telemetry.sum("weir_exporter_dropped"), 30);

    // An exporter that forgets to count what it was handed, and one that counts twice.
    offer.begin(7);
    offer.end(7);
    assert_eq!(balance(&telemetry).difference(), 7);
    counters.take(7);
    counters.sent.add(3);
    assert_eq!(balance(&telemetry).difference(), -3);
}

#[test]
fn a_reader_never_sees_half_a_change() {
    let telemetry = Telemetry::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let offer = OfferCounters::new(&telemetry, "otlp", Signal::Traces);
                let counters = ExporterCounters::new(&telemetry, "otlp", Signal::Traces);
                while !done.load(Ordering::Relaxed) {
                    offer.begin(10);
                    counters.take(10);
                    offer.end(10);
                    counters.succeed(9);
                    counters.fail(1, "permanent_error");
                }
            });
        }
        for _ in 0..2000 {
            for balance in telemetry.balances() {
                assert_eq!(balance.difference(), 0, "{balance:?}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
