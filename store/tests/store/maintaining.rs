//! Retention and vacuum.

use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use weir_pipeline::tenant::{Keep, Slug};
use weir_store::maintain::{Maintenance, Report, Settings};
use weir_store::objects::Root;

use crate::support::{self, DAY, append, clock, commit, counts, objects, upload};

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

/// A project `web` whose spans of `dev` are kept for 2 days, and an organization that keeps all for 10.
async fn configured(root: &Root) -> (Maintenance, std::sync::Arc<std::sync::atomic::AtomicU64>) {
    let (clock, ahead) = clock();
    let settings = Settings { settle: Duration::ZERO, backoff: support::impatient(), ..Settings::default() };
    let maintenance = Maintenance::new(root, clock, settings);
    let registry = maintenance.registry();
    registry.create_project("web").await.unwrap();
    let organization = registry.organization().await.unwrap();
    let dev = |project: &mut weir_pipeline::tenant::Project| {
        project.set_retention(&organization, Some(&slug("dev")), Some(Keep::Days(2)))
    };
    registry.change_project(&slug("web"), dev).await.unwrap();
    registry.change_organization(|o| o.set_retention(None, Some(Keep::Days(10)))).await.unwrap();
    (maintenance, ahead)
}

fn expired(report: &Report, project: &str, environment: &str) -> (u64, u64) {
    let amount = report.expired.get(project).map(|stored| stored.of(environment)).unwrap_or_default();
    (amount.rows, amount.files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_days_past_their_time_go_and_nothing_is_rewritten() {
    let (store, root) = support::memory();
    let (maintenance, ahead) = configured(&root).await;
    for days_ago in [0, 1, 5, 9, 30] {
        append(&root, "web", "dev", days_ago, 3).await;
        append(&root, "web", "prd", days_ago, 4).await;
    }
    // Nobody has made this project, and these are no slugs: the organization's word counts.
    let odd = "it's /a \"b\" %20 ü";
    append(&root, "loose", odd, 30, 2).await;
    append(&root, "loose", odd, 0, 1).await;
    let before = objects(&*store, "lake/projects").await;

    let told = maintenance.run(true).await.unwrap();
    assert_eq!(expired(&told, "web", "dev"), (9, 3));
    assert_eq!(expired(&told, "web", "prd"), (4, 1));
    assert_eq!(told.expired["loose"].total().rows, 2);
    assert_eq!(counts(&root, "web").await, "dev 15, prd 20");
    assert_eq!(objects(&*store, "lake/projects").await, before, "a dry run writes nothing");

    let done = maintenance.run(false).await.unwrap();
    assert_eq!(done, told);
    assert!(done.problems.is_empty() && done.expired["web"].total().bytes > 0, "{done:?}");
    assert_eq!(counts(&root, "web").await, "dev 6, prd 16");
    assert!(counts(&root, "loose").await.ends_with(" 1\""));
    let after = objects(&*store, "lake/projects").await;
    assert_eq!(after.len(), before.len() + 2, "one commit a table is all that was written");
    assert!(maintenance.run(false).await.unwrap().is_empty());
    assert_eq!(objects(&*store, "lake/projects").await, after);

    // Queries that began before find their files for a day, and then nobody does.
    ahead.store(23 * DAY / 24, Ordering::SeqCst);
    assert!(maintenance.run(false).await.unwrap().vacuumed.is_empty());
    ahead.store(DAY + DAY / 24, Ordering::SeqCst);
    let told = maintenance.run(true).await.unwrap();
    let done = maintenance.run(false).await.unwrap();
    assert_eq!(done.vacuumed, told.vacuumed);
    assert_eq!((done.vacuumed["web"].objects, done.vacuumed["loose"].objects), (4, 1));
    // The day went on, so that one more of dev was past its time in that very pass.
    assert!(counts(&root, "web").await.ends_with("prd 16"));
    assert!(counts(&root, "loose").await.ends_with(" 1\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_nobody_committed_go_when_nobody_can_any_more() {
    let (store, root) = support::memory();
    let (maintenance, ahead) = configured(&root).await;
    append(&root, "web", "prd", 0, 1).await;
    let files = upload(&root, "web", "prd", 0, 5).await;
    // What is not ours stays: it is no data of the table.
    let foreign = Path::from("lake/projects/web/spans/notes.txt");
    store.put(&foreign, PutPayload::from_static(b"mine")).await.unwrap();
    ahead.store(6 * DAY, Ordering::SeqCst);
    assert!(maintenance.run(false).await.unwrap().vacuumed.is_empty());
    commit(&root, "web", &files).await;
    upload(&root, "web", "prd", 0, 5).await;
    ahead.store(8 * DAY, Ordering::SeqCst);
    assert_eq!(maintenance.run(false).await.unwrap().vacuumed["web"].objects, 1);
    assert_eq!(counts(&root, "web").await, "prd 6");
    assert!(store.get(&foreign).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_maintain_at_once_each_file_is_removed_by_one() {
    let (_, root) = support::memory();
    let (maintenance, _) = configured(&root).await;
    for days_ago in [0, 20, 21, 22] {
        append(&root, "web", "dev", days_ago, 5).await;
    }
    let runs = (0..4).map(|_| {
        // Each as a process of its own.
        let other = Maintenance::new(&root, clock().0, Settings { settle: Duration::ZERO, ..Settings::default() });
        tokio::spawn(async move { other.run(false).await.unwrap() })
    });
    let reports = futures::future::join_all(runs).await;
    let removed: u64 = reports.iter().map(|report| expired(report.as_ref().unwrap(), "web", "dev").0).sum();
    assert_eq!(removed, 15);
    assert_eq!(counts(&root, "web").await, "dev 5");
    assert!(maintenance.run(false).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_pass_while_old_days_go() {
    let (_, root) = support::memory();
    let (maintenance, _) = configured(&root).await;
    let writer = {
        let root = root.clone();
        tokio::spawn(async move {
            for n in 0..12 {
                // Late spans of days that go, and spans of today.
                append(&root, "web", "dev", if n % 2 == 0 { 0 } else { 20 }, 2).await;
            }
        })
    };
    let mut removed = 0;
    while !writer.is_finished() {
        let report = maintenance.run(false).await.unwrap();
        assert_eq!(report.problems, [""; 0]);
        removed += expired(&report, "web", "dev").0;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    removed += expired(&maintenance.run(false).await.unwrap(), "web", "dev").0;
    assert_eq!(removed, 12);
    assert_eq!(counts(&root, "web").await, "dev 12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_whose_object_is_corrupt_is_left_alone() {
    let (store, root) = support::memory();
    let (maintenance, _) = configured(&root).await;
    for project in ["web", "other"] {
        append(&root, project, "dev", 30, 1).await;
    }
    let corrupt = Path::from("lake/_weir/registry/projects/web/00000000000000000009.json");
    store.put(&corrupt, PutPayload::from_static(b"{\"format\":7}")).await.unwrap();
    let before = objects(&*store, "lake/projects/web").await;
    let report = maintenance.run(false).await.unwrap();
    assert_eq!(
        report.problems,
        [format!(
            "{corrupt} cannot be read: it is of format 7; this version reads format 1: upgrade Weir; mend it, or restore it from a copy"
        )]
    );
    // What it said of its retention is not known.
    assert_eq!(objects(&*store, "lake/projects/web").await, before);
    assert_eq!(counts(&root, "other").await, "");
    // Without the organization nothing is known at all.
    let corrupt = Path::from("lake/_weir/registry/organization/00000000000000000009.json");
    store.put(&corrupt, PutPayload::from_static(b"[]")).await.unwrap();
    let error = maintenance.run(false).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{corrupt} cannot be read: ")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_in_the_background_until_it_is_stopped() {
    let (_, root) = support::memory();
    let (maintenance, _) = configured(&root).await;
    append(&root, "web", "dev", 30, 1).await;
    append(&root, "web", "dev", 0, 1).await;
    let mut background =
        weir_store::maintain::Background::start(maintenance.clone(), Duration::from_millis(1)).unwrap();
    while counts(&root, "web").await != "dev 1" {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || background.stop()).await.unwrap();
}
