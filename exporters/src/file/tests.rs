use std::path::Path;

use weir_pipeline::otlp::json::{Limits, to_protobuf};
use weir_pipeline::telemetry::Telemetry;

use super::*;
use crate::testing::{batch, context, counts, request, settled};

const PATH: &str = "exporters::file";

fn parsed(yaml: &str) -> Result<FileSettings, String> {
    FileSettings::parse(&Node::parse("weir.yaml", yaml).unwrap(), PATH).map_err(|e| e.to_string())
}

struct Rig {
    factory: FileExporter,
    lane: Arc<dyn Exporter>,
    telemetry: Telemetry,
    _trigger: weir_pipeline::node::ShutdownTrigger,
}

/// An exporter to `path` with further settings.
fn rig(path: &Path, settings: &str) -> Rig {
    let context = context();
    let telemetry = context.telemetry.clone();
    let settings = parsed(&format!("{{path: '{}', {settings}}}", path.display())).unwrap();
    let factory = FileExporter::new(settings, context);
    let (_trigger, shutdown) = Shutdown::channel();
    let lane = factory.create(0, Signal::Traces, shutdown);
    Rig { factory, lane, telemetry, _trigger }
}

async fn export(rig: &Rig, spans: usize) -> Outcome {
    let (data, waiter) = batch(spans);
    rig.lane.consume(data).await;
    waiter.await
}

/// The requests in a file with lengths.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    records
}

fn from_json(json: &[u8]) -> Vec<u8> {
    to_protobuf(message_of(Signal::Traces), json, Limits::default()).unwrap()
}

#[test]
fn settings_are_checked() {
    let settings = parsed("path: a.json").unwrap();
    let expected = FileSettings {
        path: "a.json".into(),
        format: Format::Json,
        compression_level: None,
        append: false,
        create_directory: None,
        flush_interval: Some(Duration::from_secs(1)),
        rotation: None,
    };
    assert_eq!(settings, expected);
    let rotation = parsed("{path: a, rotation: }").unwrap().rotation.unwrap();
    assert_eq!((rotation.max_bytes, rotation.max_age, rotation.max_backups), (100 << 20, None, Some(100)));
    let zero = parsed("{path: a, rotation: {max_megabytes: 0, max_backups: 0}}").unwrap().rotation.unwrap();
    assert_eq!((zero.max_bytes, zero.max_backups), (100 << 20, None));
    for (yaml, level) in [
        ("compression: zstd", Some(1)),
        ("compression: zstd, compression_params: {level: 0}", Some(1)),
        ("compression: zstd, compression_params: {level: 11}", Some(11)),
        ("compression: zstd, compression_params: {level: 300}", Some(22)),
        ("compression_params: {level: 11}", None),
    ] {
        assert_eq!(parsed(&format!("{{path: a, {yaml}}}")).unwrap().compression_level, level, "{yaml}");
    }
    for (yaml, mode) in [
        ("directory_permissions: ''", None),
        ("create_directory: true", Some(0o755)),
        ("create_directory: true, directory_permissions: '0700'", Some(0o700)),
        ("create_directory: true, directory_permissions: 0700", Some(0o700)),
    ] {
        assert_eq!(parsed(&format!("{{path: a, {yaml}}}")).unwrap().create_directory, mode, "{yaml}");
    }
    for off in ["group_by:", "group_by: {}", "group_by: {enabled: false, resource_attribute: x, max_open_files: 5}"] {
        assert_eq!(parsed(&format!("{{path: a.json, {off} }}")).unwrap(), expected, "{off}");
    }
    let refused = [
        ("{}", "path: must be the path of a file"),
        ("{path: a, append: true, rotation: {}}", "append: cannot be set beside `rotation`"),
        ("{path: a, compression: gzip}", "compression"),
        ("{path: a, format: csv}", "format"),
        ("{path: a, rotation: {localtime: true}}", "rotation::localtime: cannot be true"),
        ("{path: a, rotation: {max_megabytes: -1}}", "rotation::max_megabytes: expected an integer from 0"),
        (
            "{path: a, encoding: text_encoding}",
            "unknown key `encoding`: there are no encoding extensions: use `format`",
        ),
        ("{path: a, directory_permissions: '0700'}", "directory_permissions: requires `create_directory` to be true"),
        (
            "{path: a, create_directory: true, directory_permissions: '0o700'}",
            "directory_permissions: must be a valid octal",
        ),
        (
            "{path: a, create_directory: true, directory_permissions: '888'}",
            "directory_permissions: must be a valid octal",
        ),
        (
            "{path: a, create_directory: true, directory_permissions: '+700'}",
            "directory_permissions: must be a valid octal",
        ),
        (
            "{path: a, create_directory: true, directory_permissions: '1777'}",
            "directory_permissions: contains invalid bits",
        ),
        ("{path: a, group_by: {enabled: true}}", ":1:31: exporters::file::group_by::enabled: cannot be true: all data"),
        ("{path: a, group_by: {sub: 1}}", "group_by: unknown key `sub`"),
    ];
    for (yaml, text) in refused {
        let error = parsed(yaml).unwrap_err();
        assert!(error.starts_with("weir.yaml:1:") && error.contains(text), "{yaml}: {error}");
    }
}

#[tokio::test]
async fn every_format_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let expected = [request(2, 10), request(30, 10)];
    for (format, compression) in [("json", "none"), ("json", "zstd"), ("proto", "none"), ("proto", "zstd")] {
        let path = folder.path().join(format!("{format}-{compression}"));
        let rig = rig(&path, &format!("format: {format}, compression: {compression}"));
        for spans in [2, 30] {
            assert_eq!(export(&rig, spans).await, Outcome::Done);
        }
        assert_eq!(counts(&rig.telemetry).in_flight, 32, "not written yet");
        rig.lane.drain().await;
        settled(&rig.telemetry, 32, 0, 0);
        let bytes = std::fs::read(&path).unwrap();
        let read: Vec<Vec<u8>> = if (format, compression) == ("json", "none") {
            assert!(bytes.ends_with(b"}\n"));
            bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
        } else {
            records(&bytes)
        };
        let unpacked = read.into_iter().map(|record| match compression {
            "zstd" => zstd::bulk::decompress(&record, 1 << 20).unwrap(),
            _ => record,
        });
        let decoded: Vec<Vec<u8>> =
            unpacked.map(|record| if format == "json" { from_json(&record) } else { record }).collect();
        assert_eq!(decoded, expected, "{format} {compression}");
    }
}

#[tokio::test]
async fn an_earlier_run_is_kept_only_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/spans.jsonl");
    for (append, lines) in [(false, 1), (true, 2), (false, 1)] {
        let rig = rig(&path, &format!("create_directory: true, append: {append}"));
        assert_eq!(export(&rig, 1).await, Outcome::Done);
        rig.factory.finish().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), lines);
    }
    for (append, kept) in [(false, 1), (true, 2)] {
        let rig = rig(&path, &format!("compression: zstd, compression_params: {{level: 3}}, append: {append}"));
        assert_eq!(export(&rig, 1).await, Outcome::Done);
        rig.factory.finish().await;
        assert_eq!(records(&std::fs::read(&path).unwrap()).len(), kept);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn folders_are_made_with_the_permissions_that_are_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outer/inner/spans.jsonl");
    let rig = rig(&path, "create_directory: true, directory_permissions: '0700'");
    assert_eq!(export(&rig, 1).await, Outcome::Done);
    rig.factory.finish().await;
    for made in ["outer", "outer/inner"] {
        let mode = std::fs::metadata(folder.path().join(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

#[tokio::test(start_paused = true)]
async fn data_is_written_within_the_interval_or_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, fast) = (folder.path().join("slow"), folder.path().join("fast"));
    let buffered = rig(&slow, "flush_interval: 5s");
    assert_eq!(export(&buffered, 1).await, Outcome::Done);
    assert_eq!(std::fs::read(&slow).unwrap(), b"");
    tokio::time::timeout(Duration::from_secs(60), async {
        while counts(&buffered.telemetry).sent == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    assert!(std::fs::read(&slow).unwrap().ends_with(b"\n"));
    let direct = rig(&fast, "flush_interval: 0");
    assert_eq!(export(&direct, 1).await, Outcome::Done);
    assert!(std::fs::read(&fast).unwrap().ends_with(b"\n"));
    settled(&direct.telemetry, 1, 0, 0);
}

#[tokio::test]
async fn files_are_rotated_between_requests_and_the_oldest_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans.jsonl");
    // Not one of ours, in spite of its name.
    std::fs::write(folder.path().join("spans-of-yesterday.jsonl"), "").unwrap();
    let rig = rig(&path, "rotation: {max_megabytes: 1, max_backups: 2}, format: proto");
    for _ in 0..10 {
        let data = Batch::decode(Signal::Traces, request(1, 400_000)).unwrap();
        rig.lane.consume(data).await;
    }
    rig.factory.finish().await;
    settled(&rig.telemetry, 10, 0, 0);
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    // The test's clock stands still, so the names are a millisecond apart.
    let expected = [
        "spans-2026-08-01T00-00-00.002.jsonl",
        "spans-2026-08-01T00-00-00.003.jsonl",
        "spans-of-yesterday.jsonl",
        "spans.jsonl",
    ];
    assert_eq!(names, expected);
    for name in &names[..2] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert_eq!(records(&bytes), [request(1, 400_000), request(1, 400_000)]);
    }
}

#[tokio::test]
async fn rotated_files_are_removed_for_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans");
    for (age, name) in [("old", "spans-2026-07-29T00-00-00.000"), ("young", "spans-2026-07-31T00-00-00.000")] {
        std::fs::write(folder.path().join(name), age).unwrap();
    }
    let rig = rig(&path, "rotation: {max_megabytes: 1, max_days: 2}");
    for _ in 0..2 {
        rig.lane.consume(Batch::decode(Signal::Traces, request(1, 900_000)).unwrap()).await;
    }
    rig.factory.finish().await;
    assert!(!folder.path().join("spans-2026-07-29T00-00-00.000").exists());
    assert!(folder.path().join("spans-2026-07-31T00-00-00.000").exists());
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/spans.jsonl");
    let rig = rig(&path, "append: true");
    let Outcome::Retry { reason, .. } = export(&rig, 3).await else { panic!("there is no such folder") };
    assert!(reason.contains("missing/spans.jsonl"), "{reason}");
    settled(&rig.telemetry, 0, 3, 0);
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    assert_eq!(export(&rig, 2).await, Outcome::Done);
    rig.factory.finish().await;
    settled(&rig.telemetry, 2, 3, 0);
}
