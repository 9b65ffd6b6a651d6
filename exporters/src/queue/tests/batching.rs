//! `sending_queue::batch`, and what a full queue does.

use weir_pipeline::metadata::Identity;
use weir_pipeline::receipt::{Receipt, Waiter};

use super::super::settings::{BatchSettings, BatchSizer};
use super::*;

fn joining(min_size: usize, max_size: Option<usize>) -> QueueSettings {
    let batch = BatchSettings {
        flush_timeout: Duration::from_millis(200),
        min_size,
        max_size,
        sizer: BatchSizer::Items,
        metadata_keys: Vec::new(),
        is_by_sender: true,
    };
    QueueSettings { batch: Some(batch), ..waiting() }
}

fn of_tenant(tenant: Option<&str>, request_id: &str) -> (Batch, Waiter) {
    let (data, waiter) = batch(1);
    let headers = tenant.map(|tenant| ("X-Tenant", tenant)).into_iter().chain([("x-request", request_id)]);
    (data.with_metadata(Arc::new(Metadata::new(headers))), waiter)
}

#[tokio::test(start_paused = true)]
async fn small_batches_are_joined_until_they_are_enough() {
    let rig = rig(&joining(10, None), &exact(), Script::default());
    let mut waiters = Vec::new();
    for spans in [4, 4, 4, 10] {
        let (data, waiter) = batch(spans);
        rig.lane.consume(data).await;
        waiters.push(waiter);
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(rig.script.sizes(), [12, 10]);
    settled(&rig.telemetry, 22, 0, 0);
    assert_eq!(rig.queue.capacity.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_timeout() {
    let rig = rig(&joining(10, None), &exact(), Script::default());
    let start = Instant::now();
    for _ in 0..2 {
        let (data, waiter) = batch(3);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400) && elapsed < Duration::from_millis(410), "{elapsed:?}");
    assert_eq!(rig.script.sizes(), [3, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_timer_of_a_batch_does_not_cut_the_next_one_short() {
    let rig = rig(&joining(10, None), &exact(), Script::default());
    rig.lane.consume(unattended(4)).await;
    tokio::time::advance(Duration::from_millis(150)).await;
    rig.lane.consume(unattended(6)).await;
    rig.lane.consume(unattended(2)).await;
    tokio::time::advance(Duration::from_millis(100)).await;
    settle().await;
    assert_eq!(rig.script.sizes(), [10], "the second one waits for another 100 ms");
    rig.lane.drain().await;
    assert_eq!(rig.script.sizes(), [10, 2], "or for the end");
    settled(&rig.telemetry, 12, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn large_batches_are_cut() {
    let rig = rig(&joining(0, Some(40)), &exact(), Script::of([refused()]));
    let (data, waiter) = batch(100);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Rejected("no such tenant".into()), "all parts answer for the whole");
    rig.lane.drain().await;
    assert_eq!(rig.script.sizes(), [40, 40, 20]);
    settled(&rig.telemetry, 60, 40, 0);
    assert_eq!(rig.queue.capacity.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn sizes_in_bytes_say_where_to_cut() {
    let mut settings = joining(0, Some(1_000));
    if let Some(batch) = &mut settings.batch {
        batch.sizer = BatchSizer::Bytes;
    }
    let rig = rig(&settings, &exact(), Script::default());
    let (data, waiter) = batch(100);
    let bytes = data.size_hint();
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert!(bytes > 4_000 && rig.script.sizes().len() == 8, "{bytes}: {:?}", rig.script.sizes());
    // One span that is larger than the wish is no reason to drop it.
    let (receipt, waiter) = Receipt::pair();
    let large = Batch::decode(Signal::Traces, crate::testing::request(1, 2_000)).unwrap();
    rig.lane.consume(large.with_receipt(receipt)).await;
    assert_eq!(waiter.await, Outcome::Done);
    settled(&rig.telemetry, 101, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn tenants_are_kept_apart_and_their_metadata_with_them() {
    let mut settings = joining(2, None);
    if let Some(batch) = &mut settings.batch {
        batch.metadata_keys = vec!["x-tenant".to_owned()];
    }
    let rig = rig(&settings, &exact(), Script::default());
    let mut waiters = Vec::new();
    for (i, tenant) in [Some("a"), Some("b"), None, Some(""), Some("a"), Some("b"), None, Some("")].iter().enumerate() {
        let (data, waiter) = of_tenant(*tenant, &i.to_string());
        rig.lane.consume(data).await;
        waiters.push(waiter);
    }
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(rig.script.sizes(), [2; 4], "a missing header is not an empty one");
    let attempts = rig.script.0.attempts.lock().unwrap();
    let metadata: Vec<_> = attempts.iter().map(|r| r.metadata.as_ref().unwrap()).collect();
    let tenants: Vec<_> = metadata.iter().map(|m| m.first("x-tenant")).collect();
    assert_eq!(tenants, [Some("a"), Some("b"), None, Some("")]);
    assert!(metadata.iter().all(|m| m.first("x-request").is_none()), "that of one is not that of the other");
}

#[tokio::test(start_paused = true)]
async fn senders_are_kept_apart_where_it_is_read_who_they_are() {
    for (keys, is_by_sender, sizes) in
        [(&["x-tenant"][..], true, &[2, 2][..]), (&[], true, &[2, 2]), (&[], false, &[4])]
    {
        let mut settings = joining(sizes[0], None);
        if let Some(batch) = &mut settings.batch {
            batch.metadata_keys = keys.iter().map(|key| (*key).to_owned()).collect();
            batch.is_by_sender = is_by_sender;
        }
        let rig = rig(&settings, &exact(), Script::default());
        for (i, name) in ["alice", "bob", "alice", "bob"].into_iter().enumerate() {
            let metadata = Metadata::new([("x-tenant", "a"), ("x-request", &i.to_string())]);
            let identity = Arc::new(Identity::new(vec![("username", name.into())]));
            rig.lane.consume(unattended(1).with_metadata(Arc::new(metadata.with_identity(identity)))).await;
        }
        rig.lane.drain().await;
        assert_eq!(rig.script.sizes(), sizes);
        let attempts = rig.script.0.attempts.lock().unwrap();
        let senders: Vec<_> =
            attempts.iter().map(|r| r.metadata.as_ref().and_then(|m| m.lookup("auth.username"))).collect();
        assert_eq!(senders, if is_by_sender { vec![Some("alice"), Some("bob")] } else { vec![None] }, "{keys:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_back_once_the_shutdown_is_requested() {
    let rig = rig(&joining(1_000, None), &exact(), Script::default());
    let (early, first) = batch(1);
    rig.lane.consume(early).await;
    let start = Instant::now();
    rig.trigger.request();
    assert_eq!(first.await, Outcome::Done);
    let (late, second) = batch(1);
    rig.lane.consume(late).await;
    assert_eq!(second.await, Outcome::Done);
    assert_eq!(start.elapsed(), Duration::ZERO);
    settled(&rig.telemetry, 2, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn drop_on_overflow_drops_and_counts_and_says_ok() {
    let settings = QueueSettings { queue_size: 1, overflow: Overflow::Drop, ..QueueSettings::default() };
    let rig = rig(&settings, &exact(), Script::default().close());
    for _ in 0..3 {
        let (data, waiter) = batch(10);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done, "the client does not send it to the others again");
    }
    rig.script.open();
    rig.lane.drain().await;
    settled(&rig.telemetry, 10, 0, 20);
    assert_eq!(dropped(&rig.telemetry, "queue_full"), 20);
}
