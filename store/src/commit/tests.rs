use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;

/// What an attempt to append does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Works,
    Fails,
    /// The commit is made, the answer is an error.
    LosesTheAnswer,
}

/// A table that follows a script and counts what was committed.
struct Scripted {
    appends: VecDeque<Step>,
    /// Refreshes that fail before the next one works.
    blind: u32,
    /// The last version it has for the application.
    version: Option<i64>,
    commits: u32,
}

impl Scripted {
    fn new(appends: &[Step], blind: u32) -> Self {
        Self { appends: appends.iter().copied().collect(), blind, version: None, commits: 0 }
    }
}

fn failure() -> StoreError {
    deltalake::DeltaTableError::Generic("broken for the test".to_owned()).into()
}

#[async_trait]
impl Table for Scripted {
    fn files(&self) -> Arc<dyn ObjectStore> {
        Arc::new(InMemory::new())
    }

    async fn try_append(&mut self, _: &[DataFile], transaction: &AppTransaction) -> Result<(), StoreError> {
        let step = self.appends.pop_front().unwrap_or(Step::Works);
        if step != Step::Fails {
            self.commits += 1;
            self.version = Some(transaction.version);
        }
        if step == Step::Works { Ok(()) } else { Err(failure()) }
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        if self.blind > 0 {
            self.blind -= 1;
            return Err(failure());
        }
        Ok(())
    }

    async fn committed(&self, _: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.version)
    }

    async fn maintain(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn finish_maintenance(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn run(table: &mut Scripted) -> Result<(), StoreError> {
    run_until(table, false).await
}

async fn run_until(table: &mut Scripted, stopping: bool) -> Result<(), StoreError> {
    let stops = stopping;
    let (_sender, mut stopping) = watch::channel(stops);
    let (trouble, troubled) = watch::channel(None);
    let transaction = AppTransaction { application: "writer/test".to_owned(), version: 7 };
    let backoff = Backoff { attempts: 4, first: Duration::from_millis(1), most: Duration::from_millis(1) };
    let (blind, watches) = (table.blind, Watches { stopping: &mut stopping, trouble: &trouble });
    let result = commit(table, &[], &transaction, &backoff, &Environment::with(|| 0, 1), watches).await;
    assert_eq!(troubled.borrow().is_some(), blind >= 4 && !stops, "others are told if it takes long");
    result
}

#[tokio::test]
async fn each_story_ends_with_one_commit() {
    use Step::{Fails, LosesTheAnswer, Works};
    for (appends, blind) in [
        (&[Works][..], 0),
        (&[Fails, Works], 0),
        (&[LosesTheAnswer], 0),
        (&[Fails, LosesTheAnswer], 0),
        // The table cannot be read for a while, so nobody knows whether the commit was made.
        (&[LosesTheAnswer], 2),
        (&[Fails, Works], 2),
        // Longer than the attempts last: an answer before the log is read could only be a guess.
        (&[LosesTheAnswer], 20),
        (&[Fails, Works], 20),
    ] {
        let mut table = Scripted::new(appends, blind);
        run(&mut table).await.unwrap();
        assert_eq!(table.commits, 1, "{appends:?} {blind}");
    }
}

#[tokio::test]
async fn attempts_are_limited() {
    let mut table = Scripted::new(&[Step::Fails; 10], 0);
    let error = run(&mut table).await.unwrap_err();
    assert!(matches!(error, StoreError::Commit { attempts: 4, .. }), "{error}");
    assert_eq!(table.appends.len(), 6);
    // A process that stops cannot wait for an answer.
    let mut table = Scripted::new(&[Step::LosesTheAnswer], 100);
    let error = run_until(&mut table, true).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
    assert_eq!((table.commits, table.blind), (1, 96), "it was looked for as often as anything is tried");
}

#[tokio::test]
async fn waiting_for_the_log_ends_when_the_process_stops() {
    let (sender, mut stopping) = watch::channel(false);
    let (trouble, _troubled) = watch::channel(None);
    let transaction = AppTransaction { application: "writer/test".to_owned(), version: 7 };
    // Nobody would see the end of this pause.
    let backoff = Backoff { attempts: 2, first: Duration::from_secs(3600), most: Duration::from_secs(3600) };
    let mut table = Scripted::new(&[Step::LosesTheAnswer], 1);
    let environment = Environment::with(|| 0, 1);
    let committing = commit(
        &mut table,
        &[],
        &transaction,
        &backoff,
        &environment,
        Watches { stopping: &mut stopping, trouble: &trouble },
    );
    // Polled in this order: the first look has failed when the process stops.
    let both = futures::future::join(committing, async { sender.send_replace(true) });
    let (result, was_stopping) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(result.is_ok() && !was_stopping);
    assert_eq!((table.commits, table.blind), (1, 0));
}

#[test]
fn pauses_double_up_to_a_limit() {
    let environment = Environment::with(|| 0, 42);
    let backoff = Backoff { attempts: 99, first: Duration::from_millis(100), most: Duration::from_secs(1) };
    for (failures, most) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (90, 1000)] {
        for _ in 0..50 {
            let pause = backoff.pause(failures, &environment).as_millis();
            assert!((most / 2..=most).contains(&pause), "{failures}: {pause}");
        }
    }
}

/// A volume that was away has come back without what was written meanwhile.
#[tokio::test]
async fn a_file_that_is_gone_is_not_committed() {
    let file = DataFile { path: "date=2026-11-21/part-1.parquet".to_owned(), ..DataFile::default() };
    let mut table = Scripted::new(&[Step::Fails, Step::Works], 0);
    let (_sender, mut stopping) = watch::channel(false);
    let (trouble, _troubled) = watch::channel(None);
    let transaction = AppTransaction { application: "writer/test".to_owned(), version: 7 };
    let watches = Watches { stopping: &mut stopping, trouble: &trouble };
    let (files, backoff) = (std::slice::from_ref(&file), Backoff::default());
    let committed = commit(&mut table, files, &transaction, &backoff, &Environment::with(|| 0, 1), watches).await;
    assert!(matches!(&committed, Err(StoreError::Gone { path }) if *path == file.path), "{committed:?}");
    assert_eq!(table.commits, 0);
}
