use std::collections::BTreeSet;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::capacity::{Bytes as Room, Capacity};
use super::super::settings::Sizer;
use super::*;

fn settings(directory: &TempDir) -> LogSettings {
    LogSettings { directory: directory.path().join("log"), fsync: false }
}

fn space() -> Space {
    Arc::new(Capacity::new(usize::MAX, Sizer::Requests, Room::new(usize::MAX))).force_units(1, 1)
}

fn body(n: u64, len: usize) -> Bytes {
    Bytes::from(n.to_le_bytes().iter().copied().cycle().take(len).collect::<Vec<u8>>())
}

async fn append(log: &Arc<Log>, n: u64, len: usize) -> Entry {
    log.append(3, format!("metadata {n}").into_bytes(), body(n, len), space()).await.unwrap()
}

/// The bodies of all that waits, which are then in nobody's hand again.
fn waiting(log: &Arc<Log>) -> Vec<Bytes> {
    let entries: Vec<Entry> = std::iter::from_fn(|| log.take_before(None)).collect();
    entries.iter().map(|entry| entry.read().unwrap().1).collect()
}

fn files(settings: &LogSettings, extension: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(&settings.directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_not_done_with_waits_after_a_restart_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let first = append(&log, 1, 10).await;
    let second = append(&log, 2, 20_000).await;
    let third = append(&log, 3, 0).await;
    second.done();
    assert_eq!(first.read().unwrap(), (Bytes::from("metadata 1"), body(1, 10)));
    drop((first, third, log));

    let log = Log::open(&settings(&directory)).unwrap();
    assert_eq!(
        log.admit(|records, _| {
            assert_eq!(records, 3);
            space()
        }),
        6
    );
    assert_eq!(log.admit(|_, _| space()), 0, "they have room now");
    let first = log.take_before(None).unwrap();
    assert_eq!((first.records, first.read().unwrap()), (3, (Bytes::from("metadata 1"), body(1, 10))));
    let third = log.take_before(None).unwrap();
    assert_eq!(third.read().unwrap().1, body(3, 0));
    assert!(log.take_before(None).is_none());
    first.done();
    third.done();
    // Numbers go on: a note of the last process must not speak of a batch of this one.
    append(&log, 4, 5).await;
    drop(log);
    assert_eq!(waiting(&Log::open(&settings(&directory)).unwrap()), [body(4, 5)]);
}

#[tokio::test]
async fn segments_of_which_nothing_is_left_are_deleted() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let mut entries = Vec::new();
    for n in 0..9 {
        entries.push(append(&log, n, 6 << 20).await);
    }
    assert_eq!(files(&settings(&directory), "log").len(), 3);
    entries.into_iter().for_each(Entry::done);
    // What came before the second one is through.
    append(&log, 8, 1).await.done();
    drop(append(&log, 9, 1).await);
    assert_eq!(files(&settings(&directory), "log").len(), 1);
    drop(log);
    assert_eq!(waiting(&Log::open(&settings(&directory)).unwrap()), [body(9, 1)]);
}

#[tokio::test]
async fn one_batch_that_stays_does_not_keep_all_that_came_after_it() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let kept = append(&log, 1_000, 1_000).await;
    for n in 0..100 {
        append(&log, n, 2 << 20).await.done();
    }
    let bytes: u64 = files(&settings(&directory), "log").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(bytes < 80 << 20, "{bytes}");
    assert_eq!(kept.read().unwrap().1, body(1_000, 1_000));
    drop((kept, log));
    assert_eq!(waiting(&Log::open(&settings(&directory)).unwrap()), [body(1_000, 1_000)]);
}

#[tokio::test]
async fn a_log_that_is_open_is_shared_and_one_that_is_closed_opened_again() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let again = Log::open(&settings(&directory)).unwrap();
    assert!(Arc::ptr_eq(&log, &again));
    let entry = append(&log, 1, 1).await;
    drop((log, again));
    let log = Log::open(&settings(&directory)).unwrap();
    assert!(log.take_before(None).is_none(), "it is in somebody's hand");
    drop(entry);
    assert_eq!(waiting(&log), [body(1, 1)]);
    for n in 0..20 {
        drop(append(&Log::open(&settings(&directory)).unwrap(), n, 1 << 20).await);
    }
}

/// Not the same as an end that was not written: something else than a record is there.
#[tokio::test]
async fn damage_in_the_last_segment_is_told_and_the_file_is_kept() {
    let directory = TempDir::new().unwrap();
    // In the name of the format, behind which everything is found, and in the header of the only batch.
    for (at, found) in [(3, Some(1)), (8 + 5, None)] {
        let log = Log::open(&settings(&directory)).unwrap();
        drop(append(&log, 1, 100).await);
        drop(log);
        let file = files(&settings(&directory), "log").pop().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let log = Log::open(&settings(&directory)).unwrap();
        let entry = log.take_before(None);
        assert_eq!((log.damaged(), entry.as_ref().map(|e| e.number)), (1, found), "{at}");
        entry.into_iter().for_each(Entry::done);
        append(&log, 2, 1).await.done();
        drop(log);
        assert!(file.with_extension("corrupt").exists(), "{at}");
    }
}

/// Torn ends are cut off, so that later, when other segments have come behind them, they are not taken for damage.
#[tokio::test]
async fn an_end_that_was_not_written_is_no_damage_however_often_it_is_read() {
    let directory = TempDir::new().unwrap();
    let header =
        Header { kind: record::Kind::Batch, number: 9, records: 1, metadata_len: 0, body_len: 20, checksum: 1 };
    let unsound = [&header.encode()[..], &[7; 20]].concat();
    for torn in [&b"we"[..], &header.encode()[..20], &header.encode(), &unsound, &[0; 500]] {
        let log = Log::open(&settings(&directory)).unwrap();
        let kept = append(&log, 1, 100).await;
        drop((kept, log));
        let file = files(&settings(&directory), "log").pop().unwrap();
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, [&whole[..], torn].concat()).unwrap();
        for _ in 0..3 {
            let log = Log::open(&settings(&directory)).unwrap();
            assert_eq!(log.damaged(), 0, "{torn:?}");
            drop(append(&log, 2, 10).await);
        }
        let log = Log::open(&settings(&directory)).unwrap();
        assert_eq!(waiting(&log).len(), 4, "{torn:?}");
        std::iter::from_fn(|| log.take_before(None)).collect::<Vec<_>>().into_iter().for_each(Entry::done);
    }
    std::fs::write(settings(&directory).directory.join(recover::file_name(1_000)), b"weir").unwrap();
    assert_eq!(Log::open(&settings(&directory)).unwrap().damaged(), 0, "a beginning that was not written");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    drop(append(&log, 1, 1).await);
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&settings(&directory).directory), 0o700);
    assert!(files(&settings(&directory), "log").iter().all(|file| mode(file) == 0o600));
}

/// What another process would see.
#[test]
fn the_directory_is_locked() {
    let directory = TempDir::new().unwrap();
    let _log = Log::open(&settings(&directory)).unwrap();
    let error = Disk::open(&settings(&directory).directory, Arc::default()).unwrap_err();
    assert!(error.to_string().ends_with("is in use by another process"), "{error}");
}

#[tokio::test]
async fn whoever_gives_up_waiting_leaves_the_batch_to_others() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let mut appending = Box::pin(log.append(1, Vec::new(), body(1, 1), space()));
    // Its command is sent, its answer never heard.
    let polled = futures_poll(appending.as_mut());
    drop((polled, appending));
    drop(append(&log, 2, 2).await);
    let mut found = waiting(&log);
    found.sort();
    assert_eq!(found, [body(1, 1), body(2, 2)]);
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn a_damaged_payload_is_one_lost_batch() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    for n in 1..=3 {
        drop(append(&log, n, 100).await);
    }
    let [file] = &files(&settings(&directory), "log")[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(10).position(|w| w == b"metadata 2").unwrap();
    bytes[at + 50] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let entries: Vec<Entry> = std::iter::from_fn(|| log.take_before(None)).collect();
    let read: Vec<_> = entries.iter().map(|e| e.read().map(|(_, body)| body)).collect();
    assert!(matches!(&read[..], [Ok(_), Err(ReadError::Corrupt { .. }), Ok(_)]), "{read:?}");
    let mut entries = entries.into_iter();
    let (first, second) = (entries.next().unwrap(), entries.next().unwrap());
    second.damaged();
    first.done();
    entries.for_each(Entry::done);
    drop(log);
    let log = Log::open(&settings(&directory)).unwrap();
    assert_eq!(log.take_before(None).map(|e| e.number), None);
}

#[tokio::test]
async fn a_damaged_header_is_one_lost_batch() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    for n in 1..=7 {
        drop(append(&log, n, 6 << 20).await);
    }
    drop(log);
    let segments = files(&settings(&directory), "log");
    assert_eq!(segments.len(), 3, "of three batches, but the last");
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let second = 8 + record::HEADER + "metadata 1".len() + (6 << 20);
    bytes[second + 9] ^= 0x40;
    std::fs::write(&segments[0], bytes).unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    assert_eq!(log.damaged(), 1);
    assert_eq!(log.damaged(), 0, "it is told once");
    let numbers: Vec<u8> = waiting(&log).iter().map(|body| body[0]).collect();
    assert_eq!(numbers, [1, 3, 4, 5, 6, 7]);
    std::iter::from_fn(|| log.take_before(None)).collect::<Vec<_>>().into_iter().for_each(Entry::done);
    append(&log, 8, 1).await.done();
    drop(log);
    assert_eq!(files(&settings(&directory), "corrupt").len(), 1, "kept for whoever wants to look");
}

/// Opens a log with one segment of these bytes; returns the numbers of what waits in it.
fn opened(directory: &TempDir, bytes: &[u8]) -> (Arc<Log>, Vec<u64>) {
    let settings = settings(directory);
    std::fs::create_dir_all(&settings.directory).unwrap();
    std::fs::write(settings.directory.join(recover::file_name(5)), bytes).unwrap();
    let log = Log::open(&settings).unwrap();
    let numbers = log.state().waiting.keys().copied().collect();
    (log, numbers)
}

fn record(number: u64, payload: &[u8]) -> Vec<u8> {
    let checksum = record::checksum([payload]);
    let (kind, body_len) = (record::Kind::Batch, payload.len() as u32);
    [&Header { kind, number, records: 1, metadata_len: 0, body_len, checksum }.encode()[..], payload].concat()
}

#[test]
fn what_is_sound_is_found_behind_whatever_cannot_be_read() {
    let sound = |numbers: &[u64]| numbers.iter().flat_map(|n| record(*n, &body(*n, 300))).collect::<Vec<u8>>();
    // One that is sound but for its payload is no place to go on from.
    let mut doubtful = record(8, &[8; 50]);
    doubtful[40] ^= 1;
    // Headers lie across the blocks that are read at once.
    let long: Vec<u8> = (1..=255).cycle().take((64 << 10) - 30).collect();
    for garbage in [&[0; 100][..], &[1; 31], b"abc", &doubtful[1..], &doubtful.repeat(3)[1..], &long, &vec![0; 200_000]]
    {
        let directory = TempDir::new().unwrap();
        let bytes = [&record::MAGIC[..], &sound(&[1, 2]), garbage, &sound(&[3, 4]), garbage, &sound(&[5])].concat();
        let (log, numbers) = opened(&directory, &bytes);
        assert_eq!((numbers, log.damaged()), (vec![1, 2, 3, 4, 5], 1), "{} bytes", garbage.len());
        assert_eq!(waiting(&log), [1, 2, 3, 4, 5].map(|n| body(n, 300)));
    }
}

#[tokio::test]
async fn a_segment_of_a_newer_version_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let bytes = [b"weirlog2", &record(7, b"something else")[..]].concat();
    let (log, numbers) = opened(&directory, &bytes);
    assert_eq!((numbers, log.damaged()), (vec![], 0));
    let entry = append(&log, 1, 10).await;
    assert!(entry.number > 1_000_000, "{}: its batches have numbers too", entry.number);
    entry.done();
    for _ in 0..2 {
        drop(append(&log, 1, 10).await);
    }
    drop(log);
    let log = Log::open(&settings(&directory)).unwrap();
    assert_eq!(waiting(&log).len(), 2);
    drop(log);
    let [newer, ours] = &files(&settings(&directory), "log")[..] else { panic!("there are two segments") };
    assert_eq!(std::fs::read(newer).unwrap(), bytes);
    assert!(ours.ends_with(recover::file_name(6)), "{}", ours.display());
}

/// A file with a hole has any length and takes no room.
#[test]
fn what_a_file_claims_is_not_believed() {
    for body_len in [u32::MAX, record::MAX_PAYLOAD as u32 + 1] {
        let directory = TempDir::new().unwrap();
        let path = settings(&directory).directory.join(recover::file_name(5));
        std::fs::create_dir_all(&settings(&directory).directory).unwrap();
        let claim = Header { kind: record::Kind::Batch, body_len, ..Header::done(9) }.encode();
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, &[&record::MAGIC[..], &claim].concat()).unwrap();
        file.set_len(40 + u64::from(body_len)).unwrap();
        let log = Log::open(&settings(&directory)).unwrap();
        assert_eq!((log.damaged(), log.has_waiting()), (1, false));
        assert!(path.with_extension("corrupt").exists());
    }
}

#[test]
fn a_file_that_was_cut_since_is_read_as_damage() {
    let directory = TempDir::new().unwrap();
    let (log, _) = opened(&directory, &[&record::MAGIC[..], &record(1, &[1; 1_000])].concat());
    let file = files(&settings(&directory), "log").pop().unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(500).unwrap();
    let entry = log.take_before(None).unwrap();
    assert!(matches!(entry.read(), Err(ReadError::Corrupt { .. })));
}

#[tokio::test]
async fn a_batch_that_nobody_could_read_is_refused() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    let large = Bytes::from(vec![0; record::MAX_PAYLOAD as usize + 1]);
    let error = log.append(1, Vec::new(), large, space()).await.unwrap_err();
    assert_eq!(error.to_string(), "its 536870913 bytes are more than the 536870912 that the log takes");
}

/// Nobody writes into these pipes: whoever opened one would wait for ever.
#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = settings(&directory).directory;
    std::fs::create_dir_all(&path).unwrap();
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(path.join(name)).status().unwrap();
        assert!(made.success());
    };
    pipe(&recover::file_name(3));
    std::fs::create_dir(path.join(recover::file_name(4))).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path.join(recover::file_name(7))).unwrap();
    let log = Log::open(&settings(&directory)).unwrap();
    drop(append(&log, 1, 10).await);
    assert_eq!(waiting(&log), [body(1, 10)]);
    drop(log);
    assert!(path.join(recover::file_name(8)).is_file(), "it comes after all of them");
    std::fs::remove_file(path.join("lock")).unwrap();
    pipe("lock");
    let error = Log::open(&settings(&directory)).unwrap_err();
    assert!(error.to_string().ends_with("lock is not a regular file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Batches are appended, done with, given back and taken, the process ends in the middle of writing; what waits
    /// afterwards is what was accepted and not done with.
    #[test]
    fn nothing_that_was_accepted_is_lost(
        steps in prop::collection::vec((0..5_u8, 0..40_000_usize), 1..60),
        cut in prop::collection::vec(any::<u8>(), 0..90),
    ) {
        let directory = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut alive = BTreeSet::new();
        let mut log = Some(Log::open(&settings(&directory)).unwrap());
        let mut hands: Vec<(u64, Entry)> = Vec::new();
        let id = |entry: &Entry| {
            let (metadata, _) = entry.read().unwrap();
            std::str::from_utf8(&metadata[9..]).unwrap().parse::<u64>().unwrap()
        };
        for (n, (what, len)) in (0..).zip(steps) {
            let open = log.as_ref().unwrap();
            match what {
                0 | 1 => {
                    hands.push((n, runtime.block_on(append(open, n, len))));
                    alive.insert(n);
                }
                2 => if let Some((n, entry)) = hands.pop() {
                    entry.done();
                    alive.remove(&n);
                },
                3 => if let Some(entry) = open.take_before(None) {
                    hands.insert(0, (id(&entry), entry));
                },
                _ => {
                    hands.clear();
                    drop(log.take());
                    // The end of what the process was writing when it ended.
                    let last = files(&settings(&directory), "log").pop();
                    if let Some(last) = last.filter(|_| !cut.is_empty()) {
                        let mut bytes = std::fs::read(&last).unwrap();
                        let torn = Header {
                            kind: record::Kind::Batch, number: u64::MAX / 2, records: 1,
                            metadata_len: 0, body_len: 1_000, checksum: 0,
                        };
                        let torn = torn.encode();
                        bytes.extend_from_slice(&torn[..torn.len().min(cut.len())]);
                        bytes.extend_from_slice(&cut[torn.len().min(cut.len())..]);
                        std::fs::write(&last, bytes).unwrap();
                    }
                    log = Some(Log::open(&settings(&directory)).unwrap());
                }
            }
        }
        hands.clear();
        drop(log);
        let log = Log::open(&settings(&directory)).unwrap();
        let waits: Vec<Entry> = std::iter::from_fn(|| log.take_before(None)).collect();
        prop_assert_eq!(waits.iter().map(id).collect::<BTreeSet<_>>(), alive.clone());
        prop_assert_eq!(waits.len(), alive.len());
        for entry in &waits {
            let n = id(entry);
            prop_assert!(entry.read().unwrap().1.iter().zip(body(n, 40_000)).all(|(a, b)| *a == b));
        }
    }

    #[test]
    fn no_bytes_keep_it_from_opening(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4)) {
        let directory = TempDir::new().unwrap();
        let settings = settings(&directory);
        std::fs::create_dir_all(&settings.directory).unwrap();
        for (n, bytes) in (1..).zip(&files) {
            let magic = if n % 2 == 0 { &record::MAGIC[..] } else { &[] };
            std::fs::write(settings.directory.join(recover::file_name(n)), [magic, bytes].concat()).unwrap();
        }
        let log = Log::open(&settings).unwrap();
        prop_assert!(log.take_before(None).is_none());
    }
}
