#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use url::Url;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::record::NewKey;
use weir_pipeline::tenant::{ApiKey, Closed, Slug, Tenant};

use super::guard::EVERY;
use super::*;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn key(n: u8) -> ApiKey {
    ApiKey::of_random(&[n; 32])
}

fn memory() -> (Arc<InMemory>, Registry) {
    let store = Arc::new(InMemory::new());
    let root = Root::with_store(store.clone(), Url::parse("memory:///").unwrap());
    (store, Registry::new(&root, Clock::system()))
}

async fn add_key(registry: &Registry, project: &str, environment: &str, key: &ApiKey) -> String {
    let organization = registry.organization().await.unwrap();
    let description = NewKey { name: "", now: 1, expires_unix_nano: None };
    let project = slug(project);
    let added = registry.change_project(&project, |project| {
        Ok(project.add_key(&organization, &slug(environment), key, description)?.id.clone())
    });
    added.await.unwrap()
}

fn tenant_of(watch: &Watch, key: &ApiKey) -> Option<String> {
    watch.directory().find(key.expose(), 10).map(|found| found.tenant.to_string())
}

#[tokio::test]
async fn a_key_opens_and_closes_on_every_replica() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().to_str().unwrap();
    // Three processes over one directory.
    let open = || Registry::new(&Root::open(url, &BTreeMap::new()).unwrap(), Clock::system());
    let (one, two) = (open(), open());
    let mut watch = Watch::new(open(), Vec::new());
    assert!(watch.look().await.unwrap().is_empty());

    one.create_project("Web App").await.unwrap();
    let id = add_key(&one, "web-app", "prd", &key(1)).await;
    assert_eq!(tenant_of(&watch, &key(1)), None);
    watch.look().await.unwrap();
    assert_eq!(tenant_of(&watch, &key(1)).as_deref(), Some("web-app/prd"));

    two.change_project(&slug("web-app"), |project| project.revoke_key(&id, 5).map(drop)).await.unwrap();
    watch.look().await.unwrap();
    assert_eq!(tenant_of(&watch, &key(1)), None);

    one.change_organization(|organization| organization.add_environment("QA", 1)).await.unwrap();
    add_key(&two, "web-app", "qa", &key(2)).await;
    watch.look().await.unwrap();
    assert_eq!(tenant_of(&watch, &key(2)).as_deref(), Some("web-app/qa"));
    // Taking the environment from the organization closes the keys of all projects that lead there.
    two.change_organization(|organization| organization.remove_environment(&slug("qa"))).await.unwrap();
    watch.look().await.unwrap();
    assert_eq!(tenant_of(&watch, &key(2)), None);

    one.remove_project(&slug("web-app")).await.unwrap();
    watch.look().await.unwrap();
    assert_eq!(watch.directory().projects().len(), 0);
    let error = two.change_project(&slug("web-app"), |project| project.rename("back")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no project `web-app`");
    // The name can be used again, and the old key stays closed.
    two.create_project("web app").await.unwrap();
    watch.look().await.unwrap();
    assert_eq!(watch.directory().projects().len(), 1);
    assert_eq!(tenant_of(&watch, &key(1)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_create_a_project_one_does() {
    let (_, registry) = memory();
    let attempts = (0..20).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.create_project("Search").await.map_err(|e| e.to_string()) })
    });
    let results: Vec<_> = futures::future::join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error, "project `search` exists already");
    }
    assert_eq!(registry.projects().await.unwrap().0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_lost_among_many() {
    let (store, registry) = memory();
    registry.create_project("Search").await.unwrap();
    let changes = (0..6u8).map(|n| {
        let registry = registry.clone();
        tokio::spawn(async move { add_key(&registry, "search", "dev", &key(n)).await })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let mut watch = Watch::new(registry, Vec::new());
    watch.look().await.unwrap();
    for n in 0..6 {
        assert_eq!(tenant_of(&watch, &key(n)).as_deref(), Some("search/dev"));
    }
    // Each change is a state of its own.
    assert_eq!(store.list(None).count().await, 7);
}

#[tokio::test(start_paused = true)]
async fn a_guard_lets_nothing_through_for_what_was_deleted() {
    let (store, registry) = memory();
    let tenant = |environment: &str, generation| Tenant { generation, ..Tenant::new(slug("web"), slug(environment)) };
    let guard = Guard::new(registry.clone());
    // Nobody has made anything.
    assert_eq!(guard.folder(Some(&tenant("dev", 1))).await, Ok("web".to_owned()));
    assert_eq!(guard.folder(None).await, Ok("default".to_owned()));

    let made = registry.create_project("web").await.unwrap();
    assert_eq!(made.generation, 1);
    let organization = registry.organization().await.unwrap();
    let change = |project: &mut Project| project.add_environment(&organization, "canary", 1);
    registry.change_project(&slug("web"), change).await.unwrap();
    let begin = |project: &mut Project| project.begin_delete_environment(&organization, &slug("canary"));
    registry.change_project(&slug("web"), begin).await.unwrap();
    assert_eq!(guard.folder(Some(&tenant("canary", 1))).await, Ok("web".to_owned()), "it was asked just now");
    tokio::time::advance(EVERY).await;
    assert_eq!(guard.folder(Some(&tenant("canary", 1))).await, Err(Closed::Environment));
    assert_eq!(guard.folder(Some(&tenant("dev", 1))).await, Ok("web".to_owned()));

    registry.remove_project(&slug("web")).await.unwrap();
    tokio::time::advance(EVERY).await;
    assert_eq!(guard.folder(Some(&tenant("dev", 1))).await, Err(Closed::Project));
    let again = registry.create_project("web").await.unwrap();
    // One that was made since the last look is no former one.
    assert_eq!(guard.folder(Some(&tenant("dev", again.generation))).await, Ok(again.folder()));
    tokio::time::advance(EVERY).await;
    assert_eq!(guard.folder(Some(&tenant("dev", 1))).await, Err(Closed::Project));
    assert_eq!(guard.folder(Some(&tenant("dev", again.generation))).await, Ok(again.folder()));

    // What belongs to nobody follows the project `default`.
    registry.create_project("default").await.unwrap();
    registry.remove_project(&slug("default")).await.unwrap();
    tokio::time::advance(EVERY).await;
    assert_eq!(guard.folder(None).await, Err(Closed::Project));
    let again = registry.create_project("default").await.unwrap();
    tokio::time::advance(EVERY).await;
    assert_eq!(guard.folder(None).await, Ok(again.folder()));

    // An environment of the organization is not missing because the object that has it cannot be read.
    let corrupt = Path::from("_weir/registry/organization/00000000000000000001.json");
    store.put(&corrupt, PutPayload::from_static(b"{")).await.unwrap();
    tokio::time::advance(EVERY).await;
    let made = registry.project(&slug("web")).await.unwrap();
    assert_eq!(guard.folder(Some(&tenant("qa", made.generation))).await, Ok(made.folder()));
    assert_eq!(guard.folder(Some(&tenant("qa", 1))).await, Err(Closed::Project));
}

#[tokio::test]
async fn a_corrupt_object_shuts_out_its_project_only() {
    let (store, registry) = memory();
    for (name, n) in [("good", 1), ("bad", 2)] {
        registry.create_project(name).await.unwrap();
        add_key(&registry, name, "dev", &key(n)).await;
    }
    let mut watch = Watch::new(registry.clone(), Vec::new());
    watch.look().await.unwrap();
    assert_eq!(tenant_of(&watch, &key(2)).as_deref(), Some("bad/dev"));

    for (number, garbage) in [(3, "{\"format\": 1, \"slug\": "), (4, "[]"), (5, "{\"format\":9}")] {
        let path = Path::from(format!("_weir/registry/projects/bad/{number:020}.json"));
        store.put(&path, PutPayload::from(garbage)).await.unwrap();
        let errors = watch.look().await.unwrap();
        assert_eq!(errors.len(), 1);
        let message = errors[0].to_string();
        assert!(message.starts_with(&format!("{path} cannot be read: ")), "{message}");
        assert_eq!(tenant_of(&watch, &key(2)), None);
        assert_eq!(tenant_of(&watch, &key(1)).as_deref(), Some("good/dev"));
        // Said once, not at every look.
        assert!(watch.look().await.unwrap().is_empty());
    }
    let (projects, errors) = registry.projects().await.unwrap();
    assert_eq!((projects.len(), errors.len()), (1, 1));
    assert!(matches!(registry.project(&slug("bad")).await, Err(RegistryError::Corrupt { .. })));
    // What does not belong there is passed over.
    store.put(&Path::from("_weir/registry/projects/NOT A SLUG/1.json"), PutPayload::from("x")).await.unwrap();
    assert!(watch.look().await.unwrap().is_empty());
}
