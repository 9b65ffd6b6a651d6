//! Requests that are too large.

use super::*;
use crate::testing::request;

/// A batch of spans with names of these lengths, and who waits for it.
fn sized(lengths: &[usize]) -> (Batch, weir_pipeline::receipt::Waiter) {
    let (receipt, waiter) = weir_pipeline::receipt::Receipt::pair();
    let mut batch = Batch::empty(Signal::Traces);
    for length in lengths {
        batch.append(Batch::decode(Signal::Traces, request(1, *length)).unwrap());
    }
    (batch.with_receipt(receipt), waiter)
}

fn limited(largest: usize) -> Script {
    let script = Script::default();
    *script.0.largest.lock().unwrap() = Some(largest);
    script
}

fn bytes(script: &Script) -> Vec<usize> {
    script.0.attempts.lock().unwrap().iter().map(|r| r.bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_above_the_limit_is_never_sent_and_everything_else_is() {
    let rig = rig(&waiting(), &exact(), Script::default());
    let (small, oversize) = (MAX_REQUEST / 4, MAX_REQUEST + 1);
    let (data, waiter) = sized(&[small, small, small, oversize, small, small]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(rig.script.sizes(), [3, 2]);
    assert!(bytes(&rig.script).iter().all(|b| *b <= MAX_REQUEST));
    settled(&rig.telemetry, 5, 1, 0);
    assert_eq!(dropped(&rig.telemetry, "too_large"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_cuts_until_the_parts_fit_and_the_next_batch_is_cut_beforehand() {
    let limit = 100_000;
    let rig = rig(&waiting(), &exact(), limited(limit));
    for _ in 0..2 {
        let (data, waiter) = sized(&[40_000; 8]);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    // 320 kB, 160 kB and 160 kB are refused; of the second batch nothing is.
    assert_eq!(rig.script.sizes(), [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]);
    settled(&rig.telemetry, 16, 0, 0);

    tokio::time::advance(Duration::from_secs(601)).await;
    let (data, waiter) = sized(&[40_000; 4]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(rig.script.sizes()[11..], [4, 2, 2], "the limit may have been raised meanwhile");
}

#[tokio::test(start_paused = true)]
async fn one_span_that_the_destination_refuses_goes_alone() {
    let rig = rig(&waiting(), &exact(), limited(100_000));
    let (data, waiter) = sized(&[10, 200_000, 10, 10]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(rig.script.sizes(), [4, 2, 1, 1, 2]);
    settled(&rig.telemetry, 3, 1, 0);
    assert_eq!(dropped(&rig.telemetry, "too_large"), 1);

    // A single span is tried in spite of what was learned, since only trying tells.
    let (data, waiter) = sized(&[200_000]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Rejected("larger than max".into()));
    settled(&rig.telemetry, 3, 2, 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_any_size_is_not_asked_about_every_span() {
    let rig = rig(&waiting(), &exact(), limited(0));
    let (data, waiter) = sized(&[100; 1_000]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Rejected("larger than max".into()));
    assert!(rig.script.sizes().len() < 32, "{:?}", rig.script.sizes());
    settled(&rig.telemetry, 0, 1_000, 0);
    *rig.script.0.largest.lock().unwrap() = None;
    let (data, waiter) = sized(&[100; 1_000]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(rig.script.sizes().last(), Some(&1_000), "nothing was learned from it");
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_the_worst_of_the_parts() {
    let retry = RetrySettings { enabled: false, ..exact() };
    let rig = rig(&waiting(), &retry, Script::of([busy(), Ok(Accepted::default())]));
    let (data, waiter) = sized(&[MAX_REQUEST * 2 / 3, MAX_REQUEST * 2 / 3]);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Retry { after: None, reason: "busy".into() });
    settled(&rig.telemetry, 1, 1, 0);
}
