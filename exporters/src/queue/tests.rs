//! The queue in front of a scripted destination, in paused time.

mod batching;
mod size;
mod storage;

use std::collections::VecDeque;

use tokio::sync::watch;
use tokio::time::Instant;
use weir_pipeline::node::ShutdownTrigger;
use weir_pipeline::telemetry::Telemetry;

use super::settings::Sizer;
use super::*;
use crate::testing::{Counts, batch, context, counts, dropped, settled, unattended};

/// A destination that answers by a script, and with success when that is through.
#[derive(Clone, Default)]
struct Script(Arc<Played>);

#[derive(Default)]
struct Played {
    answers: Mutex<VecDeque<Result<Accepted, Failure>>>,
    /// Whether attempts have to wait.
    closed: watch::Sender<bool>,
    attempts: Mutex<Vec<Request>>,
    /// Requests of more bytes are refused for that.
    largest: Mutex<Option<usize>>,
    under_way: Mutex<(usize, usize)>,
}

/// A request as it was attempted.
#[derive(Debug, Clone)]
struct Request {
    at: Instant,
    spans: usize,
    bytes: usize,
    metadata: Option<Arc<Metadata>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Result<Accepted, Failure>>) -> Self {
        let script = Self::default();
        script.0.answers.lock().unwrap().extend(answers);
        script
    }

    fn close(self) -> Self {
        self.0.closed.send_replace(true);
        self
    }

    fn open(&self) {
        self.0.closed.send_replace(false);
    }

    /// When the attempts began.
    fn attempts(&self) -> Vec<Instant> {
        self.0.attempts.lock().unwrap().iter().map(|r| r.at).collect()
    }

    fn sizes(&self) -> Vec<usize> {
        self.0.attempts.lock().unwrap().iter().map(|r| r.spans).collect()
    }

    /// Seconds between the attempts.
    fn waits(&self) -> Vec<f64> {
        self.attempts().windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect()
    }

    fn most_under_way(&self) -> usize {
        self.0.under_way.lock().unwrap().1
    }
}

impl Destination for Script {
    type Payload = Request;

    async fn encode(&self, batch: &Batch) -> Result<Encoded, Failure> {
        Ok(batch.encode_pieces())
    }

    async fn pack(&self, request: Encoded, metadata: Option<&Arc<Metadata>>) -> Result<Request, Failure> {
        let spans = Batch::decode(Signal::Traces, request.clone().into_bytes()).unwrap().len();
        Ok(Request { at: Instant::now(), spans, bytes: request.len(), metadata: metadata.cloned() })
    }

    async fn attempt(&self, payload: &Request) -> Result<Accepted, Failure> {
        self.0.attempts.lock().unwrap().push(Request { at: Instant::now(), ..payload.clone() });
        {
            let mut under_way = self.0.under_way.lock().unwrap();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        self.0.closed.subscribe().wait_for(|closed| !closed).await.unwrap();
        self.0.under_way.lock().unwrap().0 -= 1;
        if self.0.largest.lock().unwrap().is_some_and(|largest| payload.bytes > largest) {
            return Err(Failure::TooLarge("larger than max".to_owned()));
        }
        self.0.answers.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Accepted::default()))
    }
}

/// The `max_request_size` of these tests.
const MAX_REQUEST: usize = 1 << 20;

struct Rig {
    lane: Lane<Script>,
    script: Script,
    telemetry: Telemetry,
    queue: Arc<Queue>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
}

fn rig(settings: &QueueSettings, retry: &RetrySettings, script: Script) -> Rig {
    rig_with_bytes(settings, retry, script, capacity::DEFAULT_BYTES)
}

fn rig_with_bytes(settings: &QueueSettings, retry: &RetrySettings, script: Script, bytes: usize) -> Rig {
    let context = context();
    let (trigger, shutdown) = Shutdown::channel();
    let queue = Queue::new(&context, Signal::Traces, settings, retry, MAX_REQUEST, capacity::Bytes::new(bytes));
    let lane = Lane::new(Arc::clone(&queue), script.clone(), shutdown.clone());
    Rig { lane, script, telemetry: context.telemetry, queue, trigger, shutdown }
}

fn exact() -> RetrySettings {
    RetrySettings { randomization_factor: 0.0, ..RetrySettings::default() }
}

fn waiting() -> QueueSettings {
    QueueSettings { wait_for_result: true, ..QueueSettings::default() }
}

fn busy() -> Result<Accepted, Failure> {
    Err(Failure::transient("busy"))
}

fn throttled(seconds: u64) -> Result<Accepted, Failure> {
    Err(Failure::Transient { delay: Some(Duration::from_secs(seconds)), message: "slow down".to_owned() })
}

fn refused() -> Result<Accepted, Failure> {
    Err(Failure::Permanent("no such tenant".to_owned()))
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_batch_is_acknowledged_before_it_is_sent() {
    let rig = rig(&QueueSettings::default(), &exact(), Script::default().close());
    let (data, waiter) = batch(3);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(counts(&rig.telemetry).in_flight, 3);
    rig.script.open();
    rig.lane.drain().await;
    settled(&rig.telemetry, 3, 0, 0);
    assert_eq!(rig.queue.capacity.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn wait_for_result_settles_by_the_result() {
    let rig = rig(&waiting(), &RetrySettings { enabled: false, ..exact() }, Script::of([refused(), throttled(7)]));
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let (data, waiter) = batch(1);
        rig.lane.consume(data).await;
        outcomes.push(waiter.await);
    }
    let after = Some(Duration::from_secs(7));
    let expected = [
        Outcome::Rejected("no such tenant".into()),
        Outcome::Retry { after, reason: "slow down".into() },
        Outcome::Done,
    ];
    assert_eq!(outcomes, expected);
    settled(&rig.telemetry, 1, 2, 0);
    assert_eq!(dropped(&rig.telemetry, "permanent_error"), 1);
    assert_eq!(dropped(&rig.telemetry, "retries_exhausted"), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_exponential_backoff() {
    let rig = rig(&waiting(), &exact(), Script::of([busy(), busy(), busy()]));
    let (data, waiter) = batch(2);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    let waits = rig.script.waits();
    for (wait, expected) in waits.iter().zip([5.0, 7.5, 11.25]) {
        assert!((wait - expected).abs() < 0.01, "{waits:?}");
    }
    assert_eq!(waits.len(), 3);
    settled(&rig.telemetry, 2, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn the_destinations_delay_counts_if_it_is_longer() {
    let rig = rig(&waiting(), &exact(), Script::of([throttled(60), throttled(1)]));
    let (data, waiter) = batch(1);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    let waits = rig.script.waits();
    assert!((waits[0] - 60.0).abs() < 0.01 && (waits[1] - 7.5).abs() < 0.01, "{waits:?}");
    settled(&rig.telemetry, 1, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_does_not_decide_that_data_waits_for_ever() {
    // `max_interval` is 30 s at first, then ten minutes.
    for (retry, waits) in [
        (RetrySettings { max_elapsed_time: None, ..exact() }, [60.0, 60.0]),
        (RetrySettings { max_elapsed_time: None, max_interval: Duration::from_secs(600), ..exact() }, [600.0, 600.0]),
        // There are 300 s, and at their end a last attempt.
        (RetrySettings { max_interval: Duration::from_secs(200), ..exact() }, [200.0, 100.0]),
    ] {
        let rig = rig(&waiting(), &retry, Script::of([throttled(u64::MAX), throttled(601)]));
        let (data, waiter) = batch(1);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
        let found = rig.script.waits();
        assert!(found.iter().zip(waits).all(|(a, b)| (a - b).abs() < 0.01) && found.len() == 2, "{found:?}");
        settled(&rig.telemetry, 1, 0, 0);
    }
    // Nor do we hand that on to our clients.
    let rig = rig(&waiting(), &RetrySettings { enabled: false, ..exact() }, Script::of([throttled(u64::MAX)]));
    let (data, waiter) = batch(1);
    rig.lane.consume(data).await;
    let after = Some(Duration::from_secs(60));
    assert_eq!(waiter.await, Outcome::Retry { after, reason: "slow down".into() });
}

#[tokio::test(start_paused = true)]
async fn retrying_ends_with_max_elapsed_time() {
    let retry = RetrySettings { max_elapsed_time: Some(Duration::from_secs(20)), ..exact() };
    let rig = rig(&waiting(), &retry, Script::of((0..10).map(|_| busy())));
    let (data, waiter) = batch(4);
    let started = Instant::now();
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Retry { after: None, reason: "busy".into() });
    // After 0, 5 and 12.5 s; the next would be at 23.75 s.
    assert_eq!(rig.script.attempts().len(), 4);
    let elapsed = started.elapsed().as_secs_f64();
    assert!((elapsed - 20.0).abs() < 0.01, "{elapsed}");
    settled(&rig.telemetry, 0, 4, 0);
    assert_eq!(dropped(&rig.telemetry, "retries_exhausted"), 4);
}

#[tokio::test(start_paused = true)]
async fn without_max_elapsed_time_retrying_never_ends() {
    let retry = RetrySettings { max_elapsed_time: None, ..exact() };
    let rig = rig(&waiting(), &retry, Script::of((0..200).map(|_| busy())));
    let (data, waiter) = batch(1);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    assert_eq!(rig.script.attempts().len(), 201);
    settled(&rig.telemetry, 1, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn rejected_records_are_failed_and_the_rest_is_sent() {
    let partial = |rejected| Ok(Accepted { rejected, message: "too old".to_owned() });
    let rig = rig(&waiting(), &exact(), Script::of([partial(2), partial(99), partial(0)]));
    for _ in 0..3 {
        let (data, waiter) = batch(5);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Done);
    }
    assert_eq!(rig.script.attempts().len(), 3, "a partial success is not retried");
    settled(&rig.telemetry, 3 + 5, 2 + 5, 0);
    assert_eq!(dropped(&rig.telemetry, "partial_success"), 7);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let settings = QueueSettings { queue_size: 2, ..QueueSettings::default() };
    let rig = rig(&settings, &exact(), Script::default().close());
    let mut waiters = Vec::new();
    for _ in 0..3 {
        let (data, waiter) = batch(10);
        rig.lane.consume(data).await;
        waiters.push(waiter);
    }
    let full = Outcome::Retry { after: None, reason: "sending queue is full".into() };
    assert_eq!(waiters.pop().unwrap().await, full);
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    rig.script.open();
    rig.lane.drain().await;
    settled(&rig.telemetry, 20, 0, 10);
    assert_eq!(dropped(&rig.telemetry, "queue_full"), 10);
}

#[tokio::test(start_paused = true)]
async fn block_on_overflow_waits_for_room() {
    let settings =
        QueueSettings { queue_size: 10, sizer: Sizer::Items, block_on_overflow: true, ..QueueSettings::default() };
    let rig = rig(&settings, &exact(), Script::default().close());
    rig.lane.consume(unattended(8)).await;
    let blocked = rig.lane.consume(unattended(5));
    tokio::pin!(blocked);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut blocked).await.is_err());
    assert_eq!(counts(&rig.telemetry).in_flight, 13);
    rig.script.open();
    blocked.await;
    rig.lane.drain().await;
    assert_eq!(rig.script.sizes(), [8, 5]);
    settled(&rig.telemetry, 13, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_holds_no_more_than_the_bytes_allow() {
    let limit = 20_000;
    let rig = rig_with_bytes(&QueueSettings::default(), &exact(), Script::default().close(), limit);
    let mut accepted_bytes = 0;
    for _ in 0..500 {
        let (data, waiter) = batch(10);
        let bytes = data.size_hint();
        rig.lane.consume(data).await;
        if waiter.await == Outcome::Done {
            accepted_bytes += bytes;
        }
    }
    assert!(accepted_bytes > limit / 2 && accepted_bytes <= limit, "{accepted_bytes}");
    assert!(rig.lane.0.state().waiting.len() <= limit / 100);
    rig.script.open();
    rig.lane.drain().await;
    let Counts { sent, enqueue_failed, .. } = counts(&rig.telemetry);
    assert_eq!(sent + enqueue_failed, 5_000);
    settled(&rig.telemetry, sent, 0, enqueue_failed);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_num_consumers_requests_are_under_way_over_all_lanes() {
    let settings = QueueSettings { num_consumers: 3, ..QueueSettings::default() };
    let rig = rig(&settings, &exact(), Script::default().close());
    let other = Lane::new(Arc::clone(&rig.queue), rig.script.clone(), rig.shutdown.clone());
    for _ in 0..10 {
        rig.lane.consume(unattended(1)).await;
        other.consume(unattended(1)).await;
    }
    settle().await;
    assert_eq!(rig.script.attempts().len(), 3);
    rig.script.open();
    rig.lane.drain().await;
    other.drain().await;
    assert_eq!(rig.script.most_under_way(), 3);
    settled(&rig.telemetry, 20, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_the_pipeline_waits_once_enough_is_under_way() {
    let rig = rig(&QueueSettings::direct(), &exact(), Script::default().close());
    let mut waiters = Vec::new();
    for _ in 0..QueueSettings::direct().num_consumers {
        let (data, waiter) = batch(1);
        rig.lane.consume(data).await;
        waiters.push(waiter);
    }
    let (data, waiter) = batch(1);
    waiters.push(waiter);
    let one_more = rig.lane.consume(data);
    tokio::pin!(one_more);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut one_more).await.is_err());
    rig.script.open();
    one_more.await;
    for waiter in waiters {
        assert_eq!(waiter.await, Outcome::Done);
    }
    rig.lane.drain().await;
    settled(&rig.telemetry, 101, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_cuts_a_wait_short_to_one_last_attempt() {
    let rig = rig(&waiting(), &exact(), Script::of([throttled(200), busy()]));
    let (data, waiter) = batch(1);
    rig.lane.consume(data).await;
    settle().await;
    let stopped = Instant::now();
    rig.trigger.request();
    rig.lane.drain().await;
    assert_eq!(stopped.elapsed(), Duration::ZERO);
    assert_eq!(waiter.await, Outcome::Retry { after: None, reason: "busy".into() });
    assert_eq!(rig.script.attempts().len(), 2);
    settled(&rig.telemetry, 0, 1, 0);
    assert_eq!(dropped(&rig.telemetry, "shutdown"), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_sends_what_is_queued_once() {
    let settings = QueueSettings { num_consumers: 1, ..QueueSettings::default() };
    let rig = rig(&settings, &exact(), Script::of([Ok(Accepted::default()), busy(), Ok(Accepted::default())]).close());
    for _ in 0..5 {
        rig.lane.consume(unattended(2)).await;
    }
    rig.trigger.request();
    rig.script.open();
    rig.lane.drain().await;
    assert_eq!(rig.script.attempts().len(), 5);
    settled(&rig.telemetry, 8, 2, 0);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_drain_leaves_the_rest_in_flight() {
    let rig = rig(&QueueSettings::default(), &exact(), Script::default().close());
    rig.lane.consume(unattended(2)).await;
    rig.trigger.request();
    assert!(tokio::time::timeout(Duration::from_secs(25), rig.lane.drain()).await.is_err());
    assert_eq!(counts(&rig.telemetry).in_flight, 2);
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_is_not_sent() {
    let rig = rig(&waiting(), &exact(), Script::default());
    let (data, waiter) = batch(0);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
    rig.lane.drain().await;
    assert!(rig.script.attempts().is_empty());
    settled(&rig.telemetry, 0, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_not_tried_again() {
    for (settings, attempts) in [(waiting(), 1), (QueueSettings::direct(), 1), (QueueSettings::default(), 3)] {
        let rig = rig(&settings, &exact(), Script::of([busy(), busy()]));
        let (data, waiter) = batch(4);
        rig.lane.consume(data).await;
        settle().await;
        waiter.abandon();
        rig.lane.drain().await;
        assert_eq!(rig.script.sizes(), vec![4; attempts], "what was acknowledged goes on");
        let expected = if attempts == 1 { (0, 4) } else { (4, 0) };
        settled(&rig.telemetry, expected.0, expected.1, 0);
        assert_eq!(dropped(&rig.telemetry, "abandoned"), expected.1);
    }
    // As long as one waits, all of it is tried.
    let (rig, (mut data, gone), (other, waits)) = (rig(&waiting(), &exact(), Script::of([busy()])), batch(1), batch(2));
    data.append(other);
    rig.lane.consume(data).await;
    drop(gone);
    assert_eq!(waits.await, Outcome::Done);
    assert_eq!(rig.script.sizes(), [3, 3]);
}
