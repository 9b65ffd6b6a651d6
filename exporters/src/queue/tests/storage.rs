//! Queues with a log. What a process leaves behind is seen by dropping a runtime with everything in it.

use tempfile::TempDir;
use weir_pipeline::extension::StorageDirectory;
use weir_pipeline::metadata::{Identity, Reads};

use super::super::settings::{BatchSettings, BatchSizer};
use super::*;

fn stored(directory: &TempDir) -> QueueSettings {
    let storage = StorageDirectory { directory: directory.path().to_owned(), fsync: false };
    let kept_metadata =
        Reads { headers: vec!["x-tenant".to_owned()], attributes: vec!["username".to_owned()], is_unknown: false };
    let settings = QueueSettings { overflow: Overflow::Refuse, kept_metadata, ..QueueSettings::default() };
    QueueSettings { storage: Some(storage), ..settings }
}

/// Runs in a process, so to speak, that ends without a word. Its clock is a real one, since its disk is.
fn process<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run)
}

/// Until so many spans have been delivered.
async fn delivered(rig: &Rig, spans: u64) {
    while counts(&rig.telemetry).sent < spans {
        tokio::task::yield_now().await;
    }
}

fn kept(rig: &Rig) -> u64 {
    counts(&rig.telemetry);
    rig.telemetry.sum("weir_exporter_kept_spans")
}

async fn accepted(rig: &Rig, spans: usize) {
    let (data, waiter) = batch(spans);
    rig.lane.consume(data).await;
    assert_eq!(waiter.await, Outcome::Done);
}

#[test]
fn what_was_accepted_is_delivered_by_the_next_process_and_not_by_the_one_after() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default().close());
        for spans in 1..=3 {
            accepted(&rig, spans).await;
        }
        assert_eq!(rig.queue.capacity.used(), 3);
    });
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        assert_eq!((rig.queue.capacity.used(), kept(&rig)), (3, 6), "what was found has room in the queue");
        accepted(&rig, 4).await;
        delivered(&rig, 10).await;
        rig.lane.drain().await;
        settled(&rig.telemetry, 10, 0, 0);
        let mut sizes = rig.script.sizes();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2, 3, 4]);
        assert_eq!(rig.queue.capacity.used(), 0);
    });
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        rig.trigger.request();
        rig.lane.drain().await;
        assert_eq!(rig.telemetry.sum("weir_exporter_recovered_spans"), 0);
    });
}

#[test]
fn what_comes_from_disk_is_cut_as_everything_else() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default().close());
        accepted(&rig, 25).await;
    });
    process(async {
        let batch = BatchSettings {
            flush_timeout: Duration::from_millis(1),
            min_size: 0,
            max_size: Some(10),
            sizer: BatchSizer::Items,
            metadata_keys: Vec::new(),
            is_by_sender: true,
        };
        let rig = rig(&QueueSettings { batch: Some(batch), ..stored(&directory) }, &exact(), Script::default());
        delivered(&rig, 25).await;
        rig.lane.drain().await;
        assert_eq!(rig.script.sizes(), [10, 10, 5]);
        settled(&rig.telemetry, 25, 0, 0);
        assert!(rig.telemetry.families().iter().any(|family| family.name == "weir_exporter_kept_spans"));
    });
}

#[test]
fn the_next_process_knows_who_sent_it_and_the_disk_no_passwords() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default().close());
        let (data, waiter) = batch(1);
        let metadata = Metadata::new([("authorization", "Basic c2VjcmV0"), ("x-tenant", "acme")]);
        let identity = Arc::new(Identity::new(vec![("username", "alice".into())]));
        rig.lane.consume(data.with_metadata(Arc::new(metadata.with_identity(identity)))).await;
        assert_eq!(waiter.await, Outcome::Done);
    });
    let log = directory.path().join(log_name(crate::testing::ID, Signal::Traces));
    for file in std::fs::read_dir(log).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|w| w == b"c2VjcmV0"), "the password is on disk");
    }
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        delivered(&rig, 1).await;
        let requests = rig.script.0.attempts.lock().unwrap();
        let metadata = requests[0].metadata.as_ref().unwrap();
        assert_eq!((metadata.lookup("auth.username"), metadata.first("x-tenant")), (Some("alice"), Some("acme")));
    });
}

#[test]
fn what_fits_no_memory_waits_on_disk_with_its_metadata() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig_with_bytes(&stored(&directory), &exact(), Script::default().close(), 1_000);
        for n in 0..40 {
            let (data, waiter) = batch(10);
            rig.lane.consume(data.with_metadata(Arc::new(Metadata::new([("x-tenant", n.to_string().as_str())])))).await;
            assert_eq!(waiter.await, Outcome::Done);
        }
        assert!(kept(&rig) > 200, "{}", kept(&rig));
        rig.script.open();
        delivered(&rig, 400).await;
        rig.lane.drain().await;
        settled(&rig.telemetry, 400, 0, 0);
        let requests = rig.script.0.attempts.lock().unwrap();
        let tenants = requests.iter().map(|r| r.metadata.as_ref().unwrap().first("x-tenant").unwrap().parse().unwrap());
        let mut tenants: Vec<u32> = tenants.collect();
        tenants.sort_unstable();
        assert_eq!(tenants, (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn a_stop_leaves_in_the_log_what_the_destination_does_not_take() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::of((0..100).map(|_| busy())));
        for _ in 0..30 {
            accepted(&rig, 2).await;
        }
        rig.trigger.request();
        rig.lane.drain().await;
        settled(&rig.telemetry, 0, 0, 0);
        assert_eq!(kept(&rig), 60);
        assert!(rig.script.attempts().len() < 50, "what is on disk needs no last attempt");
    });
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        delivered(&rig, 60).await;
    });
}

#[test]
fn what_is_given_up_is_done_with() {
    let directory = TempDir::new().unwrap();
    process(async {
        let retry = RetrySettings { enabled: false, ..exact() };
        let rig = rig(&stored(&directory), &retry, Script::of([refused(), busy()]));
        accepted(&rig, 5).await;
        accepted(&rig, 6).await;
        while counts(&rig.telemetry).send_failed < 11 {
            tokio::task::yield_now().await;
        }
        rig.lane.drain().await;
        settled(&rig.telemetry, 0, 11, 0);
    });
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        assert_eq!(kept(&rig), 0);
    });
}

#[test]
fn a_full_queue_and_a_disk_that_takes_nothing_make_the_client_come_again() {
    let directory = TempDir::new().unwrap();
    process(async {
        let settings = QueueSettings { queue_size: 1, ..stored(&directory) };
        let rig = rig(&settings, &exact(), Script::default().close());
        accepted(&rig, 1).await;
        let (data, waiter) = batch(2);
        rig.lane.consume(data).await;
        assert_eq!(waiter.await, Outcome::Retry { after: None, reason: FULL.into() });
        assert_eq!(dropped(&rig.telemetry, "queue_full"), 2);
    });
    let blocked = TempDir::new().unwrap();
    process(async {
        let file = blocked.path().join(log_name(crate::testing::ID, Signal::Traces));
        std::fs::write(&file, "in the way").unwrap();
        let rig = rig(&stored(&blocked), &exact(), Script::default());
        let (data, waiter) = batch(2);
        rig.lane.consume(data).await;
        let Outcome::Retry { reason, .. } = waiter.await else { panic!("the client has to know") };
        assert!(reason.starts_with("the batch cannot be stored"), "{reason}");
        settled(&rig.telemetry, 0, 0, 2);
        assert_eq!(dropped(&rig.telemetry, "storage"), 2);
        // It is looked for again, every second.
        std::fs::remove_file(&file).unwrap();
        loop {
            let (data, waiter) = batch(3);
            rig.lane.consume(data).await;
            if waiter.await == Outcome::Done {
                break;
            }
            tokio::task::yield_now().await;
        }
        delivered(&rig, 3).await;
    });
}

#[test]
fn a_stop_does_not_wait_for_room_that_never_comes() {
    let directory = TempDir::new().unwrap();
    process(async {
        let settings = QueueSettings { queue_size: 1, block_on_overflow: true, ..stored(&directory) };
        let rig = rig(&settings, &exact(), Script::of((0..50).map(|_| busy())));
        accepted(&rig, 1).await;
        let (data, waiter) = batch(2);
        let consumed = rig.lane.consume(data);
        let stopped = async {
            settle().await;
            rig.trigger.request();
        };
        tokio::join!(consumed, stopped);
        assert!(matches!(waiter.await, Outcome::Retry { .. }));
        rig.lane.drain().await;
        assert_eq!((counts(&rig.telemetry).in_flight, kept(&rig)), (0, 1));
    });
}

#[test]
fn batches_whose_file_is_gone_do_not_hold_up_the_others() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig_with_bytes(&stored(&directory), &exact(), Script::default().close(), 1);
        for _ in 0..30 {
            accepted(&rig, 2).await;
        }
        let log = directory.path().join(log_name(crate::testing::ID, Signal::Traces));
        let files = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some()).for_each(|path| std::fs::remove_file(path).unwrap());
        rig.script.open();
        while counts(&rig.telemetry).sent + counts(&rig.telemetry).send_failed < 60 {
            tokio::task::yield_now().await;
        }
        rig.lane.drain().await;
        assert!(dropped(&rig.telemetry, "corrupt") > 0);
    });
}

#[test]
fn joined_batches_are_done_with_together() {
    let directory = TempDir::new().unwrap();
    let batching = BatchSettings {
        flush_timeout: Duration::from_secs(3_600),
        min_size: 10,
        max_size: Some(8),
        sizer: BatchSizer::Items,
        metadata_keys: Vec::new(),
        is_by_sender: true,
    };
    let settings = QueueSettings { batch: Some(batching), ..stored(&directory) };
    process(async {
        let rig =
            rig(&settings, &exact(), Script::of([Ok(Accepted::default())].into_iter().chain((0..50).map(|_| busy()))));
        for _ in 0..4 {
            accepted(&rig, 3).await;
        }
        // Of twelve spans eight are delivered: the other four belong to the same batches, which all stay.
        delivered(&rig, 8).await;
        accepted(&rig, 1).await;
        rig.trigger.request();
        rig.lane.drain().await;
        assert_eq!(counts(&rig.telemetry), Counts { sent: 8, send_failed: 0, enqueue_failed: 0, in_flight: 0 });
        assert_eq!(kept(&rig), 13);
    });
    process(async {
        let rig = rig(&settings, &exact(), Script::default());
        delivered(&rig, 13).await;
        rig.lane.drain().await;
        settled(&rig.telemetry, 13, 0, 0);
    });
}

/// A reload: the new exporter takes over what the old one could not deliver.
#[test]
fn a_log_is_handed_over_within_a_process() {
    let directory = TempDir::new().unwrap();
    process(async {
        let old = rig(&stored(&directory), &exact(), Script::of((0..100).map(|_| busy())));
        for _ in 0..15 {
            accepted(&old, 2).await;
        }
        let context = Context { telemetry: old.telemetry.clone(), ..context() };
        let queue = Queue::new(
            &context,
            Signal::Traces,
            &stored(&directory),
            &exact(),
            MAX_REQUEST,
            capacity::Bytes::new(1 << 20),
        );
        let (_trigger, shutdown) = Shutdown::channel();
        let script = Script::default();
        let new = Lane::new(queue, script.clone(), shutdown);
        // Nobody stops the process.
        old.lane.drain().await;
        delivered(&old, 30).await;
        new.drain().await;
        settled(&old.telemetry, 30, 0, 0);
        assert_eq!(script.sizes(), [2; 15]);
    });
}

#[test]
fn a_batch_that_cannot_be_read_is_counted_and_the_others_are_delivered() {
    let directory = TempDir::new().unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default().close());
        for spans in [2, 3, 4] {
            accepted(&rig, spans).await;
        }
    });
    let log = directory.path().join(log_name(crate::testing::ID, Signal::Traces));
    let segment =
        std::fs::read_dir(&log).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some()).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the payload of the first batch.
    bytes[60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    process(async {
        let rig = rig(&stored(&directory), &exact(), Script::default());
        delivered(&rig, 7).await;
        rig.lane.drain().await;
        settled(&rig.telemetry, 7, 2, 0);
        assert_eq!(dropped(&rig.telemetry, "corrupt"), 2);
    });
}

#[test]
fn logs_have_names_that_every_file_system_takes() {
    assert_eq!(log_name("otlp_grpc/a b", Signal::Traces), "exporter_otlp_grpc%2fa%20b_traces");
    assert_eq!(log_name("otlp", Signal::Logs), "exporter_otlp_logs");
}
