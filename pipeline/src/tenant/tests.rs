#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::record::NewKey;
use super::*;
use std::sync::Arc;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn key(n: u8) -> ApiKey {
    ApiKey::of_random(&[n; 32])
}

fn at(now: u64) -> NewKey<'static> {
    NewKey { name: "", now, expires_unix_nano: None }
}

#[test]
fn environments_of_the_organization_reach_every_project() {
    let mut organization = Organization::default();
    let mut project = Project::new("Web App", 1).unwrap();
    assert_eq!(project.slug, slug("web-app"));
    organization.add_environment("QA", 2).unwrap();
    let own = project.add_environment(&organization, "EU Production", 3).unwrap();
    let environments: Vec<&str> = project.environments(&organization).map(|(slug, _)| slug).collect();
    assert_eq!(environments, ["dev", "stg", "prd", "qa", "eu-production"]);

    let exists = project.add_environment(&organization, "qa", 4).unwrap_err();
    assert_eq!(exists.to_string(), "environment `qa` exists already");
    let built_in = organization.remove_environment(&slug("dev")).unwrap_err();
    assert_eq!(built_in.to_string(), "the environment `dev` is built in and cannot be deleted");
    let elsewhere = project.remove_environment(&organization, &slug("qa")).unwrap_err();
    assert_eq!(
        elsewhere.to_string(),
        "the environment `qa` belongs to the organization: delete it there, and it goes from all projects"
    );
    let unknown = project.remove_environment(&organization, &slug("uat")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no environment `uat`; there are: dev, stg, prd, qa, eu-production");

    // A later environment of the organization takes the place of the project's own.
    organization.add_environment("EU-production", 5).unwrap();
    assert_eq!(project.environments(&organization).filter(|(slug, _)| *slug == own.as_str()).count(), 1);
}

#[test]
fn nothing_leads_to_what_is_being_deleted() {
    let mut organization = Organization::default();
    organization.add_environment("QA", 1).unwrap();
    let mut project = Project::new("web", 1).unwrap();
    project.add_environment(&organization, "Canary", 2).unwrap();
    for (n, environment) in [(1, "qa"), (2, "canary"), (3, "dev")] {
        project.add_key(&organization, &slug(environment), &key(n), at(3)).unwrap();
    }
    let opens = |organization: &Organization, project: &Project| -> Vec<bool> {
        let directory = Directory::new(Arc::new(organization.clone()), [Arc::new(project.clone())], [], &[]);
        [1, 2, 3].map(|n| directory.find(key(n).expose(), 5).is_some()).to_vec()
    };
    assert_eq!(opens(&organization, &project), [true, true, true]);
    project.begin_delete_environment(&organization, &slug("canary")).unwrap();
    assert_eq!(opens(&organization, &project), [true, false, true]);
    organization.begin_delete_environment(&slug("qa")).unwrap();
    assert_eq!(opens(&organization, &project), [false, false, true]);
    let environments: Vec<&str> = project.environments(&organization).map(|(slug, _)| slug).collect();
    assert_eq!(environments, ["dev", "stg", "prd"]);

    // Until it is gone nothing of the name can be made.
    let deleting = "the environment `qa` is being deleted";
    assert_eq!(organization.add_environment("qa", 4).unwrap_err().to_string(), deleting);
    assert_eq!(project.add_environment(&organization, "qa", 4).unwrap_err().to_string(), deleting);
    assert_eq!(project.add_key(&organization, &slug("qa"), &key(9), at(4)).unwrap_err().to_string(), deleting);
    let own = project.add_environment(&organization, "canary", 4).unwrap_err().to_string();
    assert_eq!(own, "the environment `canary` is being deleted");

    // One of the name that is made afterwards is not opened by the keys of before.
    assert!(project.knows_environment(&slug("qa")));
    project.forget_environment(&slug("qa"));
    project.remove_environment(&organization, &slug("canary")).unwrap();
    organization.remove_environment(&slug("qa")).unwrap();
    organization.add_environment("qa", 5).unwrap();
    project.add_environment(&organization, "canary", 5).unwrap();
    assert_eq!(opens(&organization, &project), [false, false, true]);
}

#[test]
fn an_environment_that_the_organization_deletes_goes_from_projects_that_had_it_before() {
    let mut organization = Organization::default();
    let mut project = Project::new("web", 1).unwrap();
    project.add_environment(&organization, "qa", 1).unwrap();
    organization.add_environment("qa", 2).unwrap();
    organization.begin_delete_environment(&slug("qa")).unwrap();
    assert!(!project.has(&organization, &slug("qa")));
    assert!(project.environments(&organization).all(|(known, _)| known != "qa"));
}

#[test]
fn retention_is_said_of_what_there_is() {
    let mut organization = Organization::default();
    let mut project = Project::new("web", 1).unwrap();
    project.set_retention(&organization, Some(&slug("prd")), Some(Keep::Days(90))).unwrap();
    organization.set_retention(None, Some(Keep::Days(30))).unwrap();
    let error = project.set_retention(&organization, Some(&slug("prod")), Some(Keep::Days(1))).unwrap_err();
    assert_eq!(error.to_string(), "there is no environment `prod`; did you mean `prd`? There are: dev, stg, prd");
    assert!(organization.set_retention(Some(&slug("nope")), None).is_err());
    let json = serde_json::to_string(&project).unwrap();
    assert!(json.contains(r#""retention":{"environments":{"prd":90}}"#), "{json}");
    assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), project);
    // Documents of before have none.
    assert!(serde_json::from_str::<Organization>(r#"{"format":1,"environments":[]}"#).unwrap().retention.is_empty());
}

#[test]
fn names_of_keys_can_be_shown() {
    let organization = Organization::default();
    let mut project = Project::new("web", 1).unwrap();
    for name in ["a\u{1b}[2J", &"x".repeat(300)] {
        let named = NewKey { name, ..at(1) };
        assert!(project.add_key(&organization, &slug("dev"), &key(1), named).is_err(), "{name}");
    }
    let named = NewKey { name: " CI 🍮 ", ..at(1) };
    assert_eq!(project.add_key(&organization, &slug("dev"), &key(1), named).unwrap().name, "CI 🍮");
}

#[test]
fn of_many_names_some_are_told() {
    let known = (0..50).map(|n| format!("project-{n}")).collect();
    let error = RecordError::Unknown { what: "project", name: "projct-7".to_owned(), known }.to_string();
    assert!(error.starts_with("there is no project `projct-7`; did you mean `project-7`? There are: "), "{error}");
    assert!(error.ends_with(", project-19 and 30 more"), "{error}");
}

#[test]
fn a_key_leads_to_its_environment_until_it_is_revoked_or_expires() {
    let organization = Organization::default();
    let mut project = Project::new("search", 1).unwrap();
    let id = project.add_key(&organization, &slug("prd"), &key(1), at(5)).unwrap().id.clone();
    let expiring = NewKey { name: "ci", now: 5, expires_unix_nano: Some(100) };
    project.add_key(&organization, &slug("dev"), &key(2), expiring).unwrap();
    let error = project.add_key(&organization, &slug("qa"), &key(3), at(5)).unwrap_err();
    assert_eq!(error.to_string(), "there is no environment `qa`; there are: dev, stg, prd");

    let directory = |project: &Project| Directory::new(Arc::default(), [Arc::new(project.clone())], [], &[]);
    let find =
        |directory: &Directory, key: &ApiKey, now| directory.find(key.expose(), now).map(|f| f.tenant.to_string());
    let before = directory(&project);
    assert_eq!(find(&before, &key(1), 50).as_deref(), Some("search/prd"));
    assert_eq!(find(&before, &key(2), 99).as_deref(), Some("search/dev"));
    assert_eq!(find(&before, &key(2), 100), None);
    assert_eq!(find(&before, &key(3), 50), None);
    for nonsense in ["", "weir_", "search/prd", &"x".repeat(100_000)] {
        assert!(before.find(nonsense, 50).is_none());
    }

    project.revoke_key(&id, 60).unwrap();
    assert_eq!(find(&directory(&project), &key(1), 61), None);
    let error = project.revoke_key("nonsense", 60).unwrap_err().to_string();
    assert!(error.starts_with("there is no key `nonsense`; there are: "), "{error}");

    project.deleting = true;
    assert_eq!(find(&directory(&project), &key(2), 50), None);
    assert_eq!(project.rename("other").unwrap_err().to_string(), "the project `search` is being deleted");
}

#[test]
fn documents_read_back_and_hold_no_key() {
    let organization = Organization::default();
    let mut project = Project::new("search", 1).unwrap();
    project.add_key(&organization, &slug("prd"), &key(1), at(5)).unwrap();
    let json = serde_json::to_string_pretty(&project).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&json).unwrap(), project);
    assert!(!json.contains(key(1).expose()));
    assert!(!format!("{project:?}").contains(key(1).expose()));
}

#[test]
fn keys_of_the_configuration_need_no_project() {
    let tenant = Tenant::new(slug("sidecar"), slug("prd"));
    let keys = [StaticKey { hash: KeyHash::of("tl_any text a client sends"), tenant: tenant.clone() }];
    let directory = Directory::new(Arc::default(), [], [], &keys);
    let found = directory.find("tl_any text a client sends", u64::MAX - 1).unwrap();
    assert_eq!((&**found.tenant, found.id), (&tenant, ""));
    assert_eq!(directory.key_count(), 1);
}

#[test]
fn what_is_deleted_is_closed_for_all_until_it_is_made_again() {
    let mut organization = Organization::default();
    organization.add_environment("qa", 1).unwrap();
    let mut project = Project::new("web", 1).unwrap();
    project.add_environment(&organization, "canary", 1).unwrap();
    project.generation = 4;
    let tenant = |project: &str, environment: &str, generation| Tenant {
        generation,
        ..Tenant::new(slug(project), slug(environment))
    };
    let static_key = |text: &str, tenant| StaticKey { hash: KeyHash::of(text), tenant };
    let keys = [
        static_key("k1", tenant("web", "canary", 1)),
        static_key("k2", tenant("web", "prod", 1)),
        static_key("k3", tenant("gone", "prd", 1)),
        static_key("k4", tenant("nobody-made-it", "anything", 1)),
    ];
    let directory = |organization: &Organization, project: &Project| {
        let organization = Arc::new(organization.clone());
        Directory::new(organization, [Arc::new(project.clone())], [(slug("gone"), 3)], &keys)
    };
    let now = directory(&organization, &project);
    for (project, environment, generation, closed) in [
        ("web", "prd", 4, None),
        ("web", "qa", 4, None),
        ("web", "canary", 4, None),
        ("web", "prod", 4, Some(Closed::Environment)),
        ("web", "prd", 3, Some(Closed::Project)),
        // Made again after this directory.
        ("web", "prod", 9, None),
        ("gone", "prd", 1, Some(Closed::Project)),
        ("gone", "prd", 3, Some(Closed::Project)),
        ("gone", "prd", 4, None),
        ("nobody-made-it", "anything", 1, None),
    ] {
        let tenant = tenant(project, environment, generation);
        assert_eq!(now.closed(&tenant), closed, "{tenant} {generation}");
    }
    let opened = |directory: &Directory| {
        ["k1", "k2", "k3", "k4"].map(|key| directory.find(key, 5).map(|found| found.tenant.folder()))
    };
    assert_eq!(opened(&now), [Some("web.4".to_owned()), None, None, Some("nobody-made-it".to_owned())]);
    let shut: Vec<String> = now.shut().iter().map(ToString::to_string).collect();
    assert_eq!(shut, ["web/prod", "gone/prd"]);

    organization.begin_delete_environment(&slug("qa")).unwrap();
    project.begin_delete_environment(&organization, &slug("canary")).unwrap();
    let now = directory(&organization, &project);
    for environment in ["qa", "canary"] {
        assert_eq!(now.closed(&tenant("web", environment, 4)), Some(Closed::Environment));
    }
    assert_eq!(opened(&now)[0], None);
    project.deleting = true;
    assert_eq!(directory(&organization, &project).closed(&tenant("web", "prd", 4)), Some(Closed::Project));
}

/// What a test does to the documents.
#[derive(Debug, Clone)]
enum Step {
    AddKey { project: usize, environment: usize, key: u8 },
    Revoke { project: usize, nth: usize },
    RemoveEnvironment { project: usize },
    Delete { project: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize, 0..4usize, any::<u8>()).prop_map(|(project, environment, key)| Step::AddKey { project, environment, key }),
        2 => (0..3usize, 0..8usize).prop_map(|(project, nth)| Step::Revoke { project, nth }),
        1 => (0..3usize).prop_map(|project| Step::RemoveEnvironment { project }),
        1 => (0..3usize).prop_map(|project| Step::Delete { project }),
    ]
}

proptest! {
    /// Whatever happens, a key opens exactly what a plain list of grants says.
    #[test]
    fn keys_open_what_they_were_made_for(steps in prop::collection::vec(step(), 0..60)) {
        let organization = Organization::default();
        let mut projects: Vec<Project> = ["a", "b", "c"].iter().map(|name| Project::new(name, 0).unwrap()).collect();
        for project in &mut projects {
            project.add_environment(&organization, "own", 0).unwrap();
        }
        let mut grants: BTreeMap<u8, (usize, &str)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::AddKey { project, environment, key: n } => {
                    let environment = ["dev", "stg", "prd", "own"][environment];
                    // A key is made once: 256 random bits do not come twice.
                    if !grants.contains_key(&n)
                        && !projects.iter().any(|p| p.keys.iter().any(|k| k.hash == key(n).hash()))
                        && projects[project].add_key(&organization, &slug(environment), &key(n), at(1)).is_ok()
                    {
                        grants.insert(n, (project, environment));
                    }
                }
                Step::Revoke { project, nth } => {
                    if let Some(record) = projects[project].keys.get(nth).cloned() {
                        projects[project].revoke_key(&record.id, 2).unwrap();
                        grants.retain(|n, _| key(*n).hash() != record.hash);
                    }
                }
                Step::RemoveEnvironment { project } => {
                    if projects[project].remove_environment(&organization, &slug("own")).is_ok() {
                        grants.retain(|_, grant| *grant != (project, "own"));
                    }
                }
                Step::Delete { project } => {
                    projects[project].deleting = true;
                    grants.retain(|_, grant| grant.0 != project);
                }
            }
        }
        let directory = Directory::new(Arc::default(), projects.iter().cloned().map(Arc::new), [], &[]);
        for n in 0..=u8::MAX {
            let found = directory.find(key(n).expose(), 10).map(|found| found.tenant.to_string());
            let expected = grants.get(&n).map(|(project, environment)| format!("{}/{environment}", projects[*project].slug));
            prop_assert_eq!(found, expected);
        }
    }
}
