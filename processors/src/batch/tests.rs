use weir_pipeline::config::Node;
use weir_pipeline::receipt::{Outcome, Receipt, Waiter};
use weir_pipeline::signal::Signal;

use std::time::Duration;

use super::*;

/// A request of `n` spans, each of four bytes with its framing.
fn spans(n: usize) -> (Batch, Waiter) {
    let body = [0x12, 2, 0x30, 0].repeat(n);
    let wrap = |tag: u8, body: Vec<u8>| {
        let mut out = Vec::new();
        weir_pipeline::batch::wire::put_bytes(&mut out, u32::from(tag >> 3), &body);
        out
    };
    let bytes = wrap(0x0a, wrap(0x12, body));
    let (receipt, waiter) = Receipt::pair();
    (Batch::decode(Signal::Traces, bytes.into()).unwrap().with_receipt(receipt), waiter)
}

fn batcher(yaml: &str) -> Batcher {
    let node = Node::parse("test.yaml", yaml).unwrap();
    Batcher { settings: Settings::parse(&node, "processors::batch").unwrap(), pending: Vec::new() }
}

fn feed(batcher: &mut Batcher, sizes: &[usize]) -> (Vec<Batch>, Vec<Waiter>) {
    let (mut out, mut waiters) = (Vec::new(), Vec::new());
    for &n in sizes {
        let (batch, waiter) = spans(n);
        waiters.push(waiter);
        batcher.process(batch, &mut |b| out.push(b));
    }
    (out, waiters)
}

fn lens(batches: &[Batch]) -> Vec<usize> {
    batches.iter().map(Batch::len).collect()
}

#[test]
fn defaults_are_the_collectors() {
    let settings = Settings::parse(&Node::null("test.yaml"), "processors::batch").unwrap();
    assert_eq!((settings.send_batch_size, settings.send_batch_max_size), (8192, 0));
    assert_eq!(settings.timeout, Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn items_trigger_and_the_rest_waits_for_the_timeout() {
    let mut batcher = batcher("{send_batch_size: 10, timeout: 1s}");
    let (out, _waiters) = feed(&mut batcher, &[4, 5, 3, 2]);
    assert_eq!(lens(&out), [12]);
    let deadline = batcher.deadline().unwrap();
    assert_eq!(deadline, Instant::now() + Duration::from_secs(1));
    let mut late = Vec::new();
    batcher.tick(deadline, &mut |b| late.push(b));
    assert_eq!(lens(&late), [2]);
    assert_eq!(batcher.deadline(), None);
}

#[tokio::test]
async fn bytes_trigger() {
    let mut batcher = batcher("{send_batch_bytes: 100, timeout: 1s}");
    let (out, _waiters) = feed(&mut batcher, &[10, 10, 10, 10]);
    assert_eq!(lens(&out), [30], "three requests of 44 bytes reach 100");
}

#[tokio::test]
async fn larger_batches_are_split_and_every_client_hears_of_its_own_data() {
    let mut batcher = batcher("{send_batch_size: 4, send_batch_max_size: 4, timeout: 1s}");
    let (out, mut waiters) = feed(&mut batcher, &[3, 6]);
    assert_eq!(lens(&out), [4, 4, 1]);
    let second = waiters.pop().unwrap();
    let first = waiters.pop().unwrap();
    for (i, batch) in out.into_iter().enumerate() {
        batch.settle(&if i == 2 { Outcome::Rejected("no".into()) } else { Outcome::Done });
    }
    // Both clients' data shares the last part's receipts: a split batch cannot tell whose record failed.
    assert_eq!((first.await, second.await), (Outcome::Rejected("no".into()), Outcome::Rejected("no".into())));
}

#[tokio::test]
async fn without_a_timeout_nothing_waits() {
    let mut batcher = batcher("{timeout: 0s}");
    let (out, _waiters) = feed(&mut batcher, &[1, 2]);
    assert_eq!(lens(&out), [1, 2]);
    assert_eq!(batcher.deadline(), None);
}

#[tokio::test]
async fn without_a_size_nothing_waits_either() {
    let mut batcher = batcher("{send_batch_size: 0, send_batch_bytes: 1MiB, send_batch_max_size: 2, timeout: 10s}");
    let (out, _waiters) = feed(&mut batcher, &[1, 5]);
    assert_eq!(lens(&out), [1, 2, 2, 1]);
    assert_eq!(batcher.deadline(), None);
}

#[test]
fn a_maximum_below_the_trigger_is_refused_where_it_stands() {
    let node = Node::parse("weir.yaml", "send_batch_size: 10\nsend_batch_max_size: 5\n").unwrap();
    let error = Settings::parse(&node, "processors::batch").unwrap_err().to_string();
    assert!(error.starts_with("weir.yaml:2:22: processors::batch: send_batch_max_size (5) must be greater"), "{error}");
}

fn tagged(n: usize, headers: &[(&str, &str)]) -> Batch {
    spans(n).0.with_metadata(Arc::new(Metadata::new(headers.iter().copied())))
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_with_other_headers_is_not_joined() {
    let mut batcher = batcher("{timeout: 1s, metadata_keys: [X-Tenant]}");
    let mut out = Vec::new();
    for (n, headers) in [
        (1, &[("x-tenant", "a"), ("x-other", "1")][..]),
        (2, &[("x-tenant", "b")]),
        (4, &[("X-TENANT", "a"), ("x-other", "2")]),
        (8, &[]),
        (16, &[("x-tenant", "")]),
        (32, &[]),
    ] {
        batcher.process(tagged(n, headers), &mut |b| out.push(b));
    }
    batcher.process(spans(64).0, &mut |b| out.push(b));
    assert!(out.is_empty());
    batcher.tick(batcher.deadline().unwrap(), &mut |b| out.push(b));
    assert_eq!(lens(&out), [5, 2, 104, 16]);
    let tenant = |batch: &Batch| batch.metadata().and_then(|m| m.first("x-tenant").map(str::to_owned));
    assert_eq!(out.iter().map(tenant).collect::<Vec<_>>(), [Some("a".into()), Some("b".into()), None, Some("".into())]);
    assert!(out.iter().all(|batch| batch.metadata().is_none_or(|m| m.first("x-other").is_none())));
}

fn sent_by(name: &str, headers: &[(&str, &str)]) -> Batch {
    let identity = Arc::new(Identity::new(vec![("username", name.into())]));
    spans(1).0.with_metadata(Arc::new(Metadata::new(headers.iter().copied()).with_identity(identity)))
}

#[tokio::test(start_paused = true)]
async fn what_is_joined_by_headers_keeps_its_sender_and_is_of_one() {
    let mut batcher = batcher("{timeout: 1s, metadata_keys: [X-Tenant]}");
    let mut out = Vec::new();
    for name in ["alice", "bob", "alice", "bob", "alice"] {
        batcher.process(sent_by(name, &[("x-tenant", "a"), ("x-other", name)]), &mut |b| out.push(b));
    }
    batcher.process(tagged(4, &[("x-tenant", "a")]), &mut |b| out.push(b));
    batcher.drain(&mut |b| out.push(b));
    let sender = |batch: &Batch| {
        let metadata = batch.metadata().unwrap();
        assert_eq!((metadata.first("x-tenant"), metadata.first("x-other")), (Some("a"), None));
        (batch.len(), metadata.lookup("auth.username").map(str::to_owned))
    };
    let expected = [(3, Some("alice".into())), (2, Some("bob".into())), (4, None)];
    assert_eq!(out.iter().map(sender).collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn without_keys_what_is_joined_of_different_senders_is_nobodys() {
    for (names, joined) in [(["alice", "alice"], Some("alice")), (["alice", "bob"], None)] {
        let (mut batcher, mut out) = (batcher("{timeout: 1s}"), Vec::new());
        for (n, name) in names.into_iter().enumerate() {
            batcher.process(sent_by(name, &[("x-request", &n.to_string())]), &mut |b| out.push(b));
        }
        batcher.drain(&mut |b| out.push(b));
        let [batch] = &out[..] else { panic!("they are joined") };
        assert_eq!(batch.metadata().and_then(|m| m.lookup("auth.username")), joined);
    }
}

#[test]
fn what_is_kept_of_metadata_depends_on_what_is_joined() {
    for (yaml, keys) in [
        ("{}", Some(&[][..])),
        ("{metadata_keys: [X-Tenant, b]}", Some(&["x-tenant", "b"])),
        ("{timeout: 0s}", None),
        ("{send_batch_size: 0, metadata_keys: [a]}", None),
        ("{send_batch_size: 1}", None),
    ] {
        let node = Node::parse("test.yaml", yaml).unwrap();
        let factory = Batching { settings: Settings::parse(&node, "processors::batch").unwrap() };
        let names = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        let expected = match &names {
            None => Keeps::Everything,
            Some(names) if names.is_empty() => Keeps::Nothing,
            Some(names) => Keeps::Headers(names),
        };
        assert_eq!(factory.keeps_metadata(), expected, "{yaml}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_too_many_headers_the_oldest_goes_first() {
    let mut batcher = batcher("{timeout: 1s, metadata_keys: [x-tenant], metadata_cardinality_limit: 2}");
    let mut out = Vec::new();
    for (n, tenant) in [(1, "a"), (2, "b"), (4, "a"), (8, "c")] {
        batcher.process(tagged(n, &[("x-tenant", tenant)]), &mut |b| out.push(b));
    }
    assert_eq!(lens(&out), [5]);
    batcher.drain(&mut |b| out.push(b));
    assert_eq!(lens(&out), [5, 2, 8]);
    assert_eq!(batcher.deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_what_became_of_the_data_of_another_project() {
    let tenant = |project: &str| Arc::new(Tenant::new(project.parse().unwrap(), "prd".parse().unwrap()));
    let mut batcher = batcher("{timeout: 1s}");
    let (mut out, mut waiters) = (Vec::new(), Vec::new());
    for (n, project) in [(1, Some("a")), (2, Some("b")), (4, None), (8, Some("a")), (16, None)] {
        let (batch, waiter) = spans(n);
        let batch = project.map(tenant).iter().fold(batch, Batch::with_tenant);
        batcher.process(batch, &mut |b| out.push(b));
        waiters.push(waiter);
    }
    // One request with data of both.
    let (batch, waiter) = spans(32);
    let mut both = batch.with_tenant(&tenant("a"));
    both.append(spans(64).0.with_tenant(&tenant("b")));
    batcher.process(both, &mut |b| out.push(b));
    waiters.push(waiter);
    batcher.drain(&mut |b| out.push(b));
    assert_eq!(lens(&out), [1 + 8 + 32, 2 + 64, 4 + 16]);
    for batch in out {
        let is_b = batch.tenant().is_some_and(|tenant| tenant.project.as_str() == "b");
        batch.settle(&if is_b { Outcome::Rejected("no".into()) } else { Outcome::Done });
    }
    let mut heard = Vec::new();
    for waiter in waiters {
        heard.push(waiter.await == Outcome::Done);
    }
    assert_eq!(heard, [true, false, true, true, true, false]);
}

#[test]
fn a_header_cannot_be_named_twice() {
    let node = Node::parse("test.yaml", "metadata_keys: [a, A]").unwrap();
    let error = Settings::parse(&node, "processors::batch").unwrap_err().to_string();
    let wanted = "test.yaml:1:20: processors::batch::metadata_keys[1]: duplicate entry in metadata_keys: \"a\"";
    assert!(error.starts_with(wanted), "{error}");
}
