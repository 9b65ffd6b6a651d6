use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use weir_pipeline::batch::message_of;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::channel::{Intake, channel};
use weir_pipeline::clock::Environment;
use weir_pipeline::node::{Outlet, ShutdownTrigger};
use weir_pipeline::otlp::json::to_json;
use weir_pipeline::telemetry::Telemetry;

use super::record::{Framing, Next, decode, next};
use super::*;

/// A request of one resource, scope and record with this content.
fn request(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    for number in [2, 2, 1] {
        let mut outer = Vec::new();
        put_bytes(&mut outer, number, &bytes);
        bytes = outer;
    }
    bytes
}

/// One span with a name.
fn span(name: &str) -> Vec<u8> {
    let mut span = Vec::new();
    put_bytes(&mut span, 5, name.as_bytes());
    request(&span)
}

fn line(signal: Signal, protobuf: &[u8]) -> Vec<u8> {
    let mut json = to_json(message_of(signal), protobuf);
    json.push(b'\n');
    json
}

fn prefixed(body: &[u8]) -> Vec<u8> {
    let mut record = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    record.extend_from_slice(body);
    record
}

struct Rig {
    intake: Intake,
    telemetry: Telemetry,
    trigger: ShutdownTrigger,
    task: tokio::task::JoinHandle<()>,
}

/// A receiver of traces that runs.
fn run(settings: &str) -> Rig {
    let telemetry = Telemetry::default();
    let context = Context::new("otlp_json_file", telemetry.clone(), Environment::with(|| 0, 1));
    let node = Node::parse("weir.yaml", settings).unwrap();
    let receiver = Arc::new(FileReceiver::from_config(&node, "receivers::otlp_json_file", context).unwrap());
    let (inlet, intake) = channel(4, 1 << 20);
    let outlets = Outlets { traces: Some(Outlet::new(vec![inlet], Vec::new())), ..Outlets::default() };
    let (trigger, shutdown) = Shutdown::channel();
    let task = tokio::spawn(receiver.run(0, outlets, shutdown));
    Rig { intake, telemetry, trigger, task }
}

impl Rig {
    /// The name of the next span, which is settled so.
    async fn next(&mut self, outcome: &Outcome) -> String {
        let batch = tokio::time::timeout(Duration::from_secs(30), self.intake.recv()).await.unwrap().unwrap();
        let name = batch.spans().next().unwrap().name().as_str().to_owned();
        batch.settle(outcome);
        name
    }

    async fn done(&mut self) -> String {
        self.next(&Outcome::Done).await
    }

    async fn stop(mut self) -> Telemetry {
        self.trigger.request();
        self.task.await.unwrap();
        assert!(self.intake.recv().await.is_none(), "nothing is left");
        self.telemetry
    }
}

fn append(path: &Path, bytes: &[u8]) {
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn settings_are_checked() {
    let refused = |yaml: &str| {
        FileSettings::parse(&Node::parse("weir.yaml", yaml).unwrap(), "receivers::x").unwrap_err().to_string()
    };
    for (yaml, text) in [
        ("{}", "include: must name at least one file"),
        ("{include: ['a[']}", "include: \"a[\" is not a pattern"),
        ("{include: [a], start_at: middle}", "start_at"),
        ("{include: [a], poll_interval: 0}", "poll_interval: must be positive"),
        ("{include: [a], storage: x}", "storage"),
    ] {
        let error = refused(yaml);
        assert!(error.starts_with("weir.yaml:1:") && error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn both_formats_are_read_from_the_beginning_and_as_they_grow() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("a.jsonl");
    let lengths = folder.path().join("b.bin");
    append(&lines, &line(Signal::Traces, &span("a1")));
    append(&lines, b"\n{broken\n");
    append(&lines, &line(Signal::Logs, &request(&[])));
    append(&lines, &line(Signal::Traces, &span("a2")));
    append(&lengths, &prefixed(&span("b1")));
    append(&lengths, &prefixed(&zstd::bulk::compress(&span("b2"), 1).unwrap()));
    let json = to_json(message_of(Signal::Traces), &span("b3"));
    append(&lengths, &prefixed(&zstd::bulk::compress(&json, 1).unwrap()));
    append(&folder.path().join("c.skip"), &line(Signal::Traces, &span("c")));
    let settings = format!(
        "{{include: ['{0}/*'], exclude: ['{0}/*.skip'], start_at: beginning, poll_interval: 5ms}}",
        folder.path().display()
    );
    let mut rig = run(&settings);
    for name in ["a1", "a2", "b1", "b2", "b3"] {
        assert_eq!(rig.done().await, name);
    }
    // In two pieces, of which the first is no record yet.
    let grown = prefixed(&span("b4"));
    append(&lengths, &grown[..7]);
    append(&lines, &line(Signal::Traces, &span("a3")));
    assert_eq!(rig.done().await, "a3");
    append(&lengths, &grown[7..]);
    assert_eq!(rig.done().await, "b4");
    // Another file in its place.
    std::fs::rename(&lines, folder.path().join("a.skip")).unwrap();
    append(&lines, &line(Signal::Traces, &span("a4")));
    assert_eq!(rig.done().await, "a4");
    // A last line without its end.
    append(&lines, line(Signal::Traces, &span("a5")).trim_ascii_end());
    assert_eq!(rig.done().await, "a5");
    let telemetry = rig.stop().await;
    assert_eq!(telemetry.sum("otelcol_receiver_accepted_spans"), 9);
    assert_eq!(telemetry.sum("weir_receiver_failed_requests"), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_renamed_file_goes_on_where_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let span = |name: &str| line(Signal::Traces, &span(name));
    append(&path("a.jsonl"), &span("a1"));
    let include = folder.path().join("a*.jsonl");
    let mut rig = run(&format!("{{include: ['{}'], start_at: beginning, poll_interval: 5ms}}", include.display()));
    assert_eq!(rig.done().await, "a1");
    // The name is still one of those that match, as that of a file which the exporter has rotated.
    std::fs::rename(path("a.jsonl"), path("a-1.jsonl")).unwrap();
    append(&path("a-1.jsonl"), &span("a2"));
    assert_eq!(rig.done().await, "a2");
    append(&path("a.jsonl"), &span("a3"));
    assert_eq!(rig.done().await, "a3");
    // It no longer is, and what was written shortly before and after is on the moved file alone.
    append(&path("a.jsonl"), &span("a4"));
    std::fs::rename(path("a.jsonl"), path("old")).unwrap();
    append(&path("a.jsonl"), &span("a6"));
    append(&path("old"), &span("a5"));
    let mut names = [rig.done().await, rig.done().await, rig.done().await];
    names.sort_unstable();
    assert_eq!(names, ["a4", "a5", "a6"]);
    assert_eq!(rig.stop().await.sum("otelcol_receiver_accepted_spans"), 6);
}

#[tokio::test]
async fn half_a_line_waits_for_the_other_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = line(Signal::Traces, &span("a1"));
    let (first, second) = whole.split_at(whole.len() / 2);
    append(&path("a.jsonl"), first);
    let include = folder.path().join("*.jsonl");
    let mut rig = run(&format!("{{include: ['{}'], start_at: beginning, poll_interval: 5ms}}", include.display()));
    // Each of them is read in a look of its own, which comes after one at the half line.
    for name in ["b1", "b2", "b3", "b4"] {
        append(&path(&format!("{name}.jsonl")), &line(Signal::Traces, &span(name)));
        assert_eq!(rig.done().await, name);
    }
    append(&path("a.jsonl"), second);
    assert_eq!(rig.done().await, "a1");
    assert_eq!(rig.stop().await.sum("weir_receiver_failed_requests"), 0);
}

#[tokio::test]
async fn by_default_only_what_is_new_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, &line(Signal::Traces, &span("old")));
    let mut rig = run(&format!("{{include: ['{}'], poll_interval: 5ms}}", path.display()));
    // Known to have been seen once a file that comes later has been read.
    loop {
        append(&path, &line(Signal::Traces, &span("new")));
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), rig.intake.recv()).await {
            let batch = batch.unwrap();
            assert_eq!(batch.spans().next().unwrap().name(), "new");
            batch.settle(&Outcome::Done);
            break;
        }
    }
    rig.trigger.request();
}

#[tokio::test]
async fn a_replayed_file_is_read_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, &line(Signal::Traces, &span("a1")));
    append(&path, &line(Signal::Traces, &span("a2")));
    let mut rig = run(&format!("{{include: ['{}'], replay_file: true, poll_interval: 5ms}}", path.display()));
    for name in ["a1", "a2", "a1", "a2", "a1"] {
        assert_eq!(rig.done().await, name);
    }
    rig.trigger.request();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_is_sent_again_and_what_is_refused_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, &line(Signal::Traces, &span("a1")));
    append(&path, &line(Signal::Traces, &span("a2")));
    let mut rig = run(&format!("{{include: ['{}'], start_at: beginning}}", path.display()));
    let busy = Outcome::Retry { after: None, reason: "busy".into() };
    assert_eq!(rig.next(&busy).await, "a1");
    assert_eq!(rig.next(&Outcome::Lost).await, "a1");
    assert_eq!(rig.next(&Outcome::Rejected("no".into())).await, "a1");
    assert_eq!(rig.done().await, "a2");
    let telemetry = rig.stop().await;
    let sum = |name: &str| telemetry.sum(name);
    assert_eq!((sum("otelcol_receiver_accepted_spans"), sum("otelcol_receiver_refused_spans")), (1, 1));
}

#[test]
fn protobuf_needs_one_signal_and_json_says_its_own() {
    let all = Signal::ALL;
    let (lines, lengths) = (Framing::Lines, Framing::Lengths);
    assert!(decode(lengths, &span("a"), &all).unwrap_err().contains("protobuf"));
    // Of any length: one of 123 bytes begins like an indented JSON object.
    for length in 0..200 {
        let decoded = decode(lengths, &span(&"x".repeat(length)), &[Signal::Traces]).unwrap();
        assert_eq!(decoded.unwrap().len(), 1);
    }
    assert_eq!(decode(lines, b" \r", &all).unwrap().map(|b| b.len()), None);
    assert_eq!(decode(lines, b"[]", &all).unwrap_err(), "it is no JSON object");
    for signal in all {
        let content: &[u8] = if signal == Signal::Metrics { &[0x2a, 2, 0x0a, 0] } else { &[] };
        let json = line(signal, &request(content));
        assert_eq!(decode(lines, &json, &all).unwrap().unwrap().signal(), signal);
        let others: Vec<Signal> = all.into_iter().filter(|s| *s != signal).collect();
        assert!(decode(lines, &json, &others).unwrap().is_none());
    }
}

#[test]
fn a_record_that_is_too_large_is_told_by_its_length() {
    let too_large = u32::try_from(MAX_RECORD + 1).unwrap().to_be_bytes();
    assert_eq!(next(Framing::Lengths, &too_large, false), Next::TooLarge(Some(MAX_RECORD + 5)));
    assert_eq!(Framing::of(too_large[0]), Framing::Lengths);
    let endless = vec![b'x'; MAX_RECORD + 1];
    assert_eq!(next(Framing::Lines, &endless, false), Next::TooLarge(None));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_whole: bool) {
        for framing in [Framing::Lines, Framing::Lengths] {
            if let Next::Record(record, taken) = next(framing, &bytes, is_whole) {
                prop_assert!(taken > 0 && taken <= bytes.len() && record.len() <= taken);
                let _ = decode(framing, record, &[Signal::Traces]);
            }
        }
    }

    #[test]
    fn records_come_out_as_they_went_in(records in proptest::collection::vec("[a-z{}]{1,20}", 1..10)) {
        let lines: Vec<u8> = records.iter().flat_map(|r| [r.as_bytes(), b"\n"].concat()).collect();
        let lengths: Vec<u8> = records.iter().flat_map(|r| prefixed(r.as_bytes())).collect();
        for (framing, bytes) in [(Framing::Lines, lines), (Framing::Lengths, lengths)] {
            let (mut rest, mut read) = (&bytes[..], Vec::new());
            while let Next::Record(record, taken) = next(framing, rest, false) {
                read.push(String::from_utf8(record.to_vec()).unwrap());
                rest = &rest[taken..];
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&read, &records);
        }
    }
}
