//! What the tests of exporters have in common.

use bytes::Bytes;
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::clock::Environment;
use weir_pipeline::node::Context;
use weir_pipeline::receipt::{Receipt, Waiter};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::{Telemetry, suffix};

/// The id of the exporter under test.
pub(crate) const ID: &str = "under/test";

/// Saturday, 1 August 2026, 00:00:00 GMT.
pub(crate) const NOW_UNIX_SECONDS: u64 = 1_785_542_400;

/// A context with a clock that stands still and a fixed seed.
pub(crate) fn context() -> Context {
    let environment = Environment::with(|| NOW_UNIX_SECONDS * 1_000_000_000, 1);
    Context::new(ID, Telemetry::default(), environment)
}

/// The request of `spans` spans whose names have `name_length` bytes.
pub(crate) fn request(spans: usize, name_length: usize) -> Bytes {
    let mut scope_spans = Vec::new();
    for n in 0..spans {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[1; 16]);
        put_bytes(&mut span, 2, &(n as u64 + 1).to_be_bytes());
        put_bytes(&mut span, 5, "x".repeat(name_length).as_bytes());
        put_bytes(&mut scope_spans, 2, &span);
    }
    let mut resource_spans = Vec::new();
    put_bytes(&mut resource_spans, 2, &scope_spans);
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &resource_spans);
    request.into()
}

/// A batch of `spans` spans, and who waits for it.
pub(crate) fn batch(spans: usize) -> (Batch, Waiter) {
    let (receipt, waiter) = Receipt::pair();
    let batch = Batch::decode(Signal::Traces, request(spans, 10)).unwrap();
    (batch.with_receipt(receipt), waiter)
}

/// The same, and nobody waits for it.
pub(crate) fn unattended(spans: usize) -> Batch {
    let (mut batch, _waiter) = batch(spans);
    batch.take_receipts().into_iter().for_each(Receipt::ignore);
    batch
}

/// The counters of the exporter under test; the equation that must always hold (I2) is asserted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) send_failed: u64,
    pub(crate) enqueue_failed: u64,
    pub(crate) in_flight: u64,
}

pub(crate) fn counts(telemetry: &Telemetry) -> Counts {
    let get = |name: &str| telemetry.sum(&format!("{name}_{}", suffix(Signal::Traces)));
    let counts = Counts {
        sent: get("otelcol_exporter_sent"),
        send_failed: get("otelcol_exporter_send_failed"),
        enqueue_failed: get("otelcol_exporter_enqueue_failed"),
        in_flight: get("weir_exporter_in_flight"),
    };
    let Counts { sent, send_failed, enqueue_failed, in_flight } = counts;
    let begun = get("weir_exporter_consumed") + get("weir_exporter_recovered");
    assert_eq!(begun, sent + send_failed + enqueue_failed + in_flight + get("weir_exporter_kept"), "{counts:?}");
    counts
}

/// Counts of an exporter that has nothing left to do.
pub(crate) fn settled(telemetry: &Telemetry, sent: u64, send_failed: u64, enqueue_failed: u64) {
    assert_eq!(counts(telemetry), Counts { sent, send_failed, enqueue_failed, in_flight: 0 });
    let dropped = telemetry.sum("weir_exporter_dropped");
    assert_eq!(dropped, send_failed + enqueue_failed, "every drop has a reason");
}

/// Records dropped for one reason.
pub(crate) fn dropped(telemetry: &Telemetry, reason: &str) -> u64 {
    let is_it = |labels: &[(&'static str, String)]| labels.iter().any(|(k, v)| *k == "reason" && v == reason);
    let all = telemetry.snapshot();
    all.iter().filter(|(k, _)| k.name == "weir_exporter_dropped" && is_it(&k.labels)).map(|(_, n)| n).sum()
}
