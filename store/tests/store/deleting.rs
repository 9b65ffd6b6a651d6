//! Deletion for good, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use weir_pipeline::tenant::{ApiKey, Slug};
use weir_store::maintain::{MaintainError, Maintenance, Settings};
use weir_store::objects::Root;
use weir_store::registry::Watch;

use crate::failing::Failing;
use crate::s3_server::Server;
use crate::support::{self, append, append_to, clock, commit, counts, objects, root_over, upload};

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn impatient() -> Settings {
    Settings { settle: Duration::ZERO, looks: 5, backoff: support::impatient(), ..Settings::default() }
}

fn maintenance(root: &Root) -> Maintenance {
    Maintenance::new(root, clock().0, impatient())
}

/// Two projects with spans in three environments, one of them the organization's and one of `web` alone. Returns a key
/// of each environment of `web`.
async fn filled(root: &Root) -> Vec<ApiKey> {
    let maintenance = maintenance(root);
    let registry = maintenance.registry();
    registry.change_organization(|organization| organization.add_environment("QA", 1)).await.unwrap();
    let organization = registry.organization().await.unwrap();
    for name in ["web", "search"] {
        registry.create_project(name).await.unwrap();
    }
    registry.change_project(&slug("web"), |p| p.add_environment(&organization, "Canary", 1)).await.unwrap();
    let mut keys = Vec::new();
    for environment in ["dev", "qa", "canary"] {
        append(root, "web", environment, 1, 3).await;
        append(root, "web", environment, 0, 1).await;
        keys.push(registry.create_key(&slug("web"), &slug(environment), "", None).await.unwrap().0);
    }
    append(root, "search", "dev", 0, 7).await;
    append(root, "search", "qa", 0, 2).await;
    keys
}

/// Which of these keys open something.
async fn open(root: &Root, keys: &[ApiKey]) -> Vec<bool> {
    let mut watch = Watch::new(maintenance(root).registry().clone(), Vec::new());
    watch.look().await.unwrap();
    keys.iter().map(|key| watch.directory().find(key.expose(), 10).is_some()).collect()
}

async fn a_project_goes(root: &Root, store: &dyn ObjectStore, prefix: &str) {
    let keys = filled(root).await;
    let maintenance = maintenance(root);
    let stored = maintenance.stored("web").await.unwrap();
    assert_eq!((stored.total().rows, stored.of("canary").files), (12, 2));
    let removed = maintenance.delete_project(&slug("web")).await.unwrap();
    assert_eq!(removed.environments, stored);
    assert!(removed.freed.objects > stored.total().files && removed.freed.bytes > stored.total().bytes);
    assert_eq!(objects(store, &format!("{prefix}projects/web")).await, [""; 0]);
    assert_eq!(open(root, &keys).await, [false, false, false]);
    assert_eq!(counts(root, "search").await, "dev 7, qa 2");
    let again = maintenance.delete_project(&slug("web")).await.unwrap_err().to_string();
    assert_eq!(again, "there is no project `web`; there are: search");
    // The name can be used again: nothing of before is there.
    maintenance.registry().create_project("web").await.unwrap();
    append(root, "web", "dev", 0, 1).await;
    assert_eq!(counts(root, "web").await, "dev 1");
    assert_eq!(open(root, &keys).await, [false, false, false]);
}

async fn an_environment_goes(root: &Root, store: &dyn ObjectStore, prefix: &str) {
    let keys = filled(root).await;
    let maintenance = maintenance(root);
    // A file that was uploaded and never committed goes too.
    upload(root, "web", "canary", 0, 9).await;
    let stored = maintenance.stored("web").await.unwrap().of("canary");
    let removed = maintenance.delete_environment(&slug("web"), &slug("canary")).await.unwrap();
    assert_eq!(removed.environments.of("canary"), stored);
    assert_eq!((removed.environments.total(), removed.freed.objects), (stored, 3));
    let left = objects(store, &format!("{prefix}projects/web")).await;
    assert!(left.iter().all(|path| !path.contains("canary")), "{left:?}");
    assert_eq!(counts(root, "web").await, "dev 4, qa 4");
    assert_eq!(open(root, &keys).await, [true, true, false]);
    let again = maintenance.delete_environment(&slug("web"), &slug("canary")).await.unwrap_err().to_string();
    assert_eq!(again, "there is no environment `canary`; there are: dev, stg, prd, qa");
    let organization = maintenance.registry().organization().await.unwrap();
    let add = |project: &mut weir_pipeline::tenant::Project| project.add_environment(&organization, "canary", 9);
    maintenance.registry().change_project(&slug("web"), add).await.unwrap();
    assert_eq!(open(root, &keys).await, [true, true, false], "a new environment is not opened by old keys");
}

async fn an_environment_goes_everywhere(root: &Root, store: &dyn ObjectStore, prefix: &str) {
    let keys = filled(root).await;
    let maintenance = maintenance(root);
    // Spans of a project that nobody has made.
    append(root, "loose", "qa", 0, 5).await;
    let stored = maintenance.stored_everywhere(&slug("qa")).await.unwrap();
    let rows: Vec<_> = stored.iter().map(|(project, amount)| (project.as_str(), amount.rows)).collect();
    assert_eq!(rows, [("loose", 5), ("search", 2), ("web", 4)]);
    let removed = maintenance.delete_organization_environment(&slug("qa")).await.unwrap();
    let rows: Vec<_> =
        removed.iter().map(|(name, removed)| (name.as_str(), removed.environments.of("qa").rows)).collect();
    assert_eq!(rows, [("loose", 5), ("search", 2), ("web", 4)]);
    let left = objects(store, &format!("{prefix}projects")).await;
    assert!(left.iter().all(|path| !path.contains("environment=qa")), "{left:?}");
    for (project, rows) in [("web", "canary 4, dev 4"), ("search", "dev 7"), ("loose", "")] {
        assert_eq!(counts(root, project).await, rows);
    }
    maintenance.registry().change_organization(|organization| organization.add_environment("qa", 9)).await.unwrap();
    assert_eq!(open(root, &keys).await, [true, false, true], "a new environment is not opened by old keys");
    let built_in = maintenance.delete_organization_environment(&slug("dev")).await.unwrap_err().to_string();
    assert_eq!(built_in, "the environment `dev` is built in and cannot be deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory() {
    for n in 0..3 {
        let (store, root) = support::memory();
        match n {
            0 => a_project_goes(&root, &*store, "lake/").await,
            1 => an_environment_goes(&root, &*store, "lake/").await,
            _ => an_environment_goes_everywhere(&root, &*store, "lake/").await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_directory() {
    let local = object_store::local::LocalFileSystem::new();
    for n in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
        let prefix = format!("{}/", folder.path().to_str().unwrap().trim_start_matches('/'));
        match n {
            0 => a_project_goes(&root, &local, &prefix).await,
            1 => {
                an_environment_goes(&root, &local, &prefix).await;
                let spans = folder.path().join("projects/web/spans");
                assert!(!spans.join("environment=canary").exists() && spans.join("environment=dev").exists());
            }
            _ => an_environment_goes_everywhere(&root, &local, &prefix).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_directory_is_left_of_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    filled(&root).await;
    maintenance(&root).delete_project(&slug("web")).await.unwrap();
    assert!(!folder.path().join("projects/web").exists());
    assert!(folder.path().join("projects/search/spans/_delta_log").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_s3() {
    let server = Server::start(true).await;
    for n in 0..3 {
        let url = format!("s3://lake/{n}");
        let (root, prefix) = (server.root(&url), format!("{n}/"));
        // The server's objects, seen as a store.
        let seen = InMemory::new();
        match n {
            0 => a_project_goes(&root, &seen, &prefix).await,
            1 => an_environment_goes(&root, &seen, &prefix).await,
            _ => an_environment_goes_everywhere(&root, &seen, &prefix).await,
        }
    }
    let keys = server.keys();
    assert!(keys.iter().all(|key| !key.contains("environment=canary") || !key.starts_with("1/")), "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains("environment=qa") || !key.starts_with("2/")), "{keys:?}");
    // The project was made again with one span.
    let web = keys.iter().filter(|key| key.starts_with("0/projects/web.") && key.ends_with(".parquet")).count();
    assert_eq!(web, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_under_way_when_the_mark_is_set_go_too() {
    let (store, root) = support::memory();
    filled(&root).await;
    let settings = Settings { settle: Duration::from_millis(700), ..impatient() };
    let maintenance = Maintenance::new(&root, clock().0, settings);
    // A collector that has uploaded, and commits after it could have seen the mark: a flush that was under way.
    let straggler = |project: &'static str, environment: &'static str| {
        let (root, registry) = (root.clone(), maintenance.registry().clone());
        async move {
            let files = upload(&root, project, environment, 0, 5).await;
            loop {
                let document = registry.project(&slug(project)).await.unwrap();
                if document.deleting || document.environments.iter().any(|e| e.deleting) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            commit(&root, project, &files).await;
        }
    };
    let late = tokio::spawn(straggler("web", "canary"));
    let removed = maintenance.delete_environment(&slug("web"), &slug("canary")).await.unwrap();
    late.await.unwrap();
    assert_eq!(removed.environments.of("canary").rows, 9);
    assert_eq!(counts(&root, "web").await, "dev 4, qa 4");

    let late = tokio::spawn(straggler("web", "dev"));
    let removed = maintenance.delete_project(&slug("web")).await.unwrap();
    late.await.unwrap();
    assert_eq!(removed.environments.total().rows, 13);
    assert_eq!(objects(&*store, "lake/projects/web").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_stops_writing_keeps_it_from_being_deleted() {
    let (store, root) = support::memory();
    let keys = filled(&root).await;
    let settings = Settings { settle: Duration::from_millis(30), looks: 3, ..impatient() };
    let maintenance = Maintenance::new(&root, clock().0, settings);
    let stubborn = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let path = Path::from("lake/projects/web/spans/environment=dev/date=2026-11-21/late.parquet");
                store.put(&path, PutPayload::from_static(b"late")).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let error = maintenance.delete_project(&slug("web")).await.unwrap_err();
    assert!(matches!(error, MaintainError::StillWritten { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the project `web` is not deleted yet: spans still arrive after 3 looks; stop whoever writes them and try again"
    );
    // Its keys stay closed, and whoever comes next finishes it.
    assert_eq!(open(&root, &keys).await, [false, false, false]);
    stubborn.abort();
    let _ = stubborn.await;
    let report = maintenance.run(false).await.unwrap();
    assert_eq!((report.finished.len(), report.problems), (1, vec![]));
    assert_eq!(objects(&*store, "lake/projects/web").await, [""; 0]);
}

/// What is deleted, and how it is seen to be complete.
#[derive(Debug, Clone, Copy)]
enum What {
    Project,
    Environment,
    Everywhere,
}

/// The number of spans by environment, as the log has it: `dev 3, prd 4`.
async fn logged(root: &Root, project: &str) -> String {
    let stored = maintenance(root).stored(project).await.unwrap();
    stored.0.iter().map(|(name, amount)| format!("{name} {}", amount.rows)).collect::<Vec<_>>().join(", ")
}

/// Deletes on a store that breaks after each possible number of operations, or each so many of them, and has the next run
/// finish it.
async fn a_crash_anywhere_is_finished(what: What, step: usize) {
    let (full, root) = support::memory();
    let keys = filled(&root).await;
    let mut broken = 0;
    for operations in (0..).step_by(step) {
        let failing = Failing::after(operations, full.fork());
        let root = root_over(failing.clone());
        let maintenance = maintenance(&root);
        let done = match what {
            What::Project => maintenance.delete_project(&slug("web")).await.map(drop),
            What::Environment => maintenance.delete_environment(&slug("web"), &slug("canary")).await.map(drop),
            What::Everywhere => maintenance.delete_organization_environment(&slug("qa")).await.map(drop),
        };
        let was_broken = failing.is_broken();
        failing.heal();
        if done.is_err() {
            assert!(was_broken, "after {operations}: {done:?}");
            broken += 1;
            // Unless it broke before the mark was set, whoever looks after the store finishes it.
            let report = maintenance.run(false).await.unwrap();
            assert_eq!(report.problems, [""; 0], "after {operations}");
            if report.finished.is_empty() && logged(&root, "web").await == "canary 4, dev 4, qa 4" {
                assert_eq!(open(&root, &keys).await, [true, true, true], "after {operations}");
                continue;
            }
        }
        let (left, gone, opens, search) = match what {
            What::Project => ("", "projects/web", [false, false, false], "dev 7, qa 2"),
            What::Environment => {
                ("dev 4, qa 4", "projects/web/spans/environment=canary", [true, true, false], "dev 7, qa 2")
            }
            What::Everywhere => ("canary 4, dev 4", "projects/web/spans/environment=qa", [true, false, true], "dev 7"),
        };
        assert_eq!(logged(&root, "web").await, left, "after {operations}");
        assert_eq!(logged(&root, "search").await, search, "after {operations}");
        assert_eq!(objects(&*failing, &format!("lake/{gone}")).await, [""; 0], "after {operations}");
        assert_eq!(open(&root, &keys).await, opens, "after {operations}");
        if done.is_ok() {
            assert!(broken > 10, "{broken}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_a_project_is_deleted_is_finished_by_the_next_run() {
    a_crash_anywhere_is_finished(What::Project, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_an_environment_is_deleted_is_finished_by_the_next_run() {
    a_crash_anywhere_is_finished(What::Environment, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_an_environment_is_deleted_everywhere_is_finished_by_the_next_run() {
    a_crash_anywhere_is_finished(What::Everywhere, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_delete_at_once_end_with_one_deletion() {
    let (store, root) = support::memory();
    filled(&root).await;
    let deletions = (0..3).map(|_| {
        let other = maintenance(&root);
        tokio::spawn(async move { other.delete_project(&slug("web")).await })
    });
    let results = futures::future::join_all(deletions).await;
    let mut rows = 0;
    for result in results {
        match result.unwrap() {
            Ok(removed) => rows += removed.environments.total().rows,
            // One was late enough to find nothing.
            Err(error) => assert!(error.to_string().starts_with("there is no project `web`"), "{error}"),
        }
    }
    // Files are removed once; an object that two see going is counted by one or, where the log went first, by none.
    assert!(rows <= 12, "{rows}");
    assert_eq!(objects(&*store, "lake/projects/web").await, [""; 0]);
    assert_eq!(counts(&root, "search").await, "dev 7, qa 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lands_after_a_deletion_is_not_seen_and_swept() {
    let (store, root) = support::memory();
    filled(&root).await;
    let maintenance = maintenance(&root);
    let web = slug("web");
    maintenance.delete_project(&web).await.unwrap();
    for is_made_again in [false, true] {
        if is_made_again {
            let again = maintenance.registry().create_project("web").await.unwrap();
            assert_ne!(again.folder(), "web");
            append(&root, "web", "dev", 0, 2).await;
        }
        // A collector that could not reach the store until now.
        append_to(&root, "web", "dev", 0, 5).await;
        let seen = if is_made_again { "dev 2" } else { "" };
        assert_eq!(logged(&root, "web").await, seen);
        let would = maintenance.run(true).await.unwrap();
        assert_eq!(would.swept["web"].environments.total().rows, 5);
        assert!(!objects(&*store, "lake/projects/web").await.is_empty());
        let report = maintenance.run(false).await.unwrap();
        assert_eq!(report.swept["web"].environments, would.swept["web"].environments);
        assert!(report.problems.is_empty() && report.swept.len() == 1, "{report:?}");
        assert_eq!(objects(&*store, "lake/projects/web").await, [""; 0]);
        assert_eq!(logged(&root, "web").await, seen);
        assert!(maintenance.run(false).await.unwrap().is_empty());
    }
    assert_eq!(logged(&root, "search").await, "dev 7, qa 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_can_be_deleted() {
    let (store, root) = support::memory();
    filled(&root).await;
    let log = Path::from("lake/projects/web/spans/_delta_log/00000000000000000003.json");
    store.put(&log, PutPayload::from_static(b"no json")).await.unwrap();
    let removed = maintenance(&root).delete_project(&slug("web")).await.unwrap();
    assert!(removed.environments.is_empty() && removed.freed.objects > 6, "{removed:?}");
    assert_eq!(objects(&*store, "lake/projects/web").await, [""; 0]);
    assert_eq!(counts(&root, "search").await, "dev 7, qa 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_stays_marked_while_a_project_cannot_be_read() {
    let (store, root) = support::memory();
    let keys = filled(&root).await;
    let corrupt = Path::from("lake/_weir/registry/projects/search/00000000000000000002.json");
    store.put(&corrupt, PutPayload::from_static(b"{")).await.unwrap();
    let maintenance = maintenance(&root);
    // A key of it could be hidden in there, and open a later environment of the name.
    let error = maintenance.delete_organization_environment(&slug("qa")).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{corrupt} cannot be read: ")), "{error}");
    assert_eq!(open(&root, &keys).await, [true, false, true]);
    let deleting = maintenance.registry().change_organization(|o| o.add_environment("qa", 9)).await.unwrap_err();
    assert_eq!(deleting.to_string(), "the environment `qa` is being deleted");
    let store: Arc<dyn ObjectStore> = store;
    store.delete(&corrupt).await.unwrap();
    assert_eq!(maintenance.run(false).await.unwrap().finished.len(), 1);
    maintenance.registry().change_organization(|o| o.add_environment("qa", 9)).await.unwrap();
}
