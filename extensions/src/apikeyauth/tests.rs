use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::config::Node;
use weir_pipeline::signal::Signal;
use weir_pipeline::tenant::record::NewKey;
use weir_pipeline::tenant::{ApiKey, Claim, Directory, KeyUse, Look, Organization, Project, Slug, Tenant, Unreachable};

use super::*;

const NOW: u64 = 1_795_000_000_000_000_000;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::apikeyauth").map_err(|e| e.to_string())
}

fn extension(yaml: &str, registry: Option<Arc<dyn Registry>>) -> (Arc<ApiKeyAuth>, Telemetry) {
    let telemetry = Telemetry::default();
    let environment = Environment::with(|| NOW, 1);
    (Arc::new(ApiKeyAuth::new(parse(yaml).unwrap(), registry, "apikeyauth", &telemetry, &environment)), telemetry)
}

fn ask(auth: &ApiKeyAuth, name: &str, value: &str) -> Result<Option<String>, Denied> {
    let identity = auth.authenticate(&|wanted| (wanted == name).then_some(value))?.made().unwrap();
    Ok(identity.tenant.as_ref().map(ToString::to_string))
}

/// A registry in memory, which can be made to fail.
#[derive(Default)]
struct Memory {
    projects: Mutex<BTreeMap<Slug, Project>>,
    fails: Mutex<bool>,
    incomplete: Mutex<bool>,
    noted: Mutex<Vec<KeyUse>>,
}

impl Memory {
    fn check(&self) -> Result<(), Unreachable> {
        if *self.fails.lock().unwrap() { Err(Unreachable("it is down".to_owned())) } else { Ok(()) }
    }

    fn add_key(&self, project: &str, environment: &str, key: &ApiKey) -> String {
        let mut projects = self.projects.lock().unwrap();
        let project = projects.entry(slug(project)).or_insert_with(|| Project::new(project, 1).unwrap());
        let description = NewKey { name: "", now: 1, expires_unix_nano: None };
        let organization = Organization::default();
        project.add_key(&organization, &slug(environment), key, description).unwrap().id.clone()
    }
}

#[async_trait]
impl Registry for Memory {
    async fn look(&self) -> Result<Look, Unreachable> {
        self.check()?;
        let projects: Vec<_> = self.projects.lock().unwrap().values().cloned().map(Arc::new).collect();
        Ok(Look {
            directory: Arc::new(Directory::new(Arc::default(), projects, [], &[])),
            unreadable: Vec::new(),
            is_complete: !*self.incomplete.lock().unwrap(),
        })
    }

    async fn ensure(&self, wanted: &[(Slug, Slug)]) -> Result<(), Unreachable> {
        self.check()?;
        let mut projects = self.projects.lock().unwrap();
        for (project, environment) in wanted {
            let project = projects.entry(project.clone()).or_insert_with(|| Project::new(project.as_str(), 1).unwrap());
            let _ = project.add_environment(&Organization::default(), environment.as_str(), 1);
        }
        Ok(())
    }

    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), Unreachable> {
        self.check()?;
        self.noted.lock().unwrap().extend(uses);
        Ok(())
    }
}

fn key(n: u8) -> ApiKey {
    ApiKey::of_random(&[n; 32])
}

#[test]
fn the_key_alone_decides() {
    let yaml = "{keys: [{key: k1, project: a, environment: dev}, {key: k2, project: a, environment: prd},
                        {key: k3, project: b, environment: prd}]}";
    let (auth, _) = extension(yaml, None);
    assert_eq!(ask(&auth, "authorization", "Bearer k1"), Ok(Some("a/dev".to_owned())));
    assert_eq!(ask(&auth, "authorization", "bearer k3 "), Ok(Some("b/prd".to_owned())));
    let unknown = Err(Denied::Unknown("the API key is not known"));
    for bad in ["Bearer k4", "Bearer k1 k2", "Bearer a/dev", "Bearer ", &format!("Bearer {}", "x".repeat(10_000))] {
        assert_eq!(ask(&auth, "authorization", bad), unknown, "{bad}");
    }
    let scheme = Err(Denied::Unknown("the API key is not of the expected scheme"));
    assert_eq!(ask(&auth, "authorization", "Basic k1"), scheme);
    assert_eq!(ask(&auth, "x-api-key", "k1"), Err(Denied::Unknown("the header with the API key is missing")));

    let (auth, _) = extension("{header: X-Api-Key, keys: [{key: k1, project: a, environment: dev}]}", None);
    assert_eq!(ask(&auth, "x-api-key", "k1"), Ok(Some("a/dev".to_owned())));
    assert!(auth.tenants().is_none());
}

#[test]
fn without_a_key_the_default_is_meant_and_a_wrong_one_is_refused() {
    let yaml =
        "{mode: optional, default: {project: home, environment: stg}, keys: [{key: k1, project: a, environment: dev}]}";
    let (auth, _) = extension(yaml, None);
    assert_eq!(ask(&auth, "other", ""), Ok(Some("home/stg".to_owned())));
    assert_eq!(ask(&auth, "authorization", "Bearer k1"), Ok(Some("a/dev".to_owned())));
    assert_eq!(ask(&auth, "authorization", "Bearer no"), Err(Denied::Unknown("the API key is not known")));
}

#[tokio::test]
async fn nothing_is_taken_without_a_key_for_a_default_that_was_deleted() {
    let memory = Arc::new(Memory::default());
    memory.add_key("home", "prd", &key(1));
    let yaml = "{mode: optional, default: {project: home}, registry: {url: x}}";
    let (auth, _) = extension(yaml, Some(memory.clone()));
    auth.state.look().await;
    assert_eq!(ask(&auth, "other", ""), Ok(Some("home/dev".to_owned())));
    memory.projects.lock().unwrap().get_mut(&slug("home")).unwrap().deleting = true;
    auth.state.look().await;
    assert_eq!(ask(&auth, "other", ""), Err(Denied::Unknown("nothing is taken without an API key now")));
}

#[tokio::test(start_paused = true)]
async fn a_registry_is_followed_and_its_failures_lose_nothing() {
    let memory = Arc::new(Memory::default());
    *memory.fails.lock().unwrap() = true;
    let id = memory.add_key("web-app", "prd", &key(1));
    let (auth, telemetry) = extension("{registry: {url: x, poll_interval: 1s}}", Some(memory.clone()));
    auth.start().await.unwrap();
    let bearer = |n| format!("Bearer {}", key(n).expose());
    let undecided = Err(Denied::Undecided("the API keys cannot be read now"));
    assert_eq!(ask(&auth, "authorization", &bearer(1)), undecided);
    assert_eq!(telemetry.sum("weir_registry_failed_reads"), 1);

    *memory.fails.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(ask(&auth, "authorization", &bearer(1)), Ok(Some("web-app/prd".to_owned())));
    assert_eq!(ask(&auth, "authorization", &bearer(2)), Err(Denied::Unknown("the API key is not known")));
    assert_eq!((telemetry.sum("weir_registry_projects"), telemetry.sum("weir_registry_keys")), (1, 1));

    // It is gone again: what was known stays.
    *memory.fails.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask(&auth, "authorization", &bearer(1)), Ok(Some("web-app/prd".to_owned())));
    *memory.fails.lock().unwrap() = false;

    // Some project is unreadable: who knows whose key this is.
    *memory.incomplete.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ask(&auth, "authorization", &bearer(2)), undecided);
    assert_eq!(telemetry.sum("weir_registry_incomplete"), 1);
    *memory.incomplete.lock().unwrap() = false;

    memory.projects.lock().unwrap().get_mut(&slug("web-app")).unwrap().revoke_key(&id, 5).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ask(&auth, "authorization", &bearer(1)), Err(Denied::Unknown("the API key is not known")));
    auth.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_use_of_keys_is_noted() {
    let memory = Arc::new(Memory::default());
    let id = memory.add_key("web-app", "prd", &key(1));
    memory.add_key("web-app", "prd", &key(2));
    let (auth, _) = extension("{registry: {url: x}}", Some(memory.clone()));
    auth.start().await.unwrap();
    ask(&auth, "authorization", &format!("Bearer {}", key(1).expose())).unwrap();
    tokio::time::sleep(Duration::from_secs(62)).await;
    let expected = KeyUse { project: slug("web-app"), id: id.into(), used_unix_nano: NOW };
    assert_eq!(*memory.noted.lock().unwrap(), std::slice::from_ref(&expected));
    // Not used since then: not noted again, neither by the clock nor at the end.
    tokio::time::sleep(Duration::from_secs(62)).await;
    auth.stop().await;
    assert_eq!(*memory.noted.lock().unwrap(), [expected]);
}

/// A request whose resources have these attributes, a span each.
fn request(resources: &[Vec<(&str, &str)>]) -> Batch {
    let wrap = |number: u32, inner: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, inner);
        out
    };
    let attribute =
        |key: &str, value: &str| wrap(1, &[wrap(1, key.as_bytes()), wrap(2, &wrap(1, value.as_bytes()))].concat());
    let resource = |attributes: &Vec<(&str, &str)>| {
        let attributes: Vec<u8> = attributes.iter().flat_map(|(key, value)| attribute(key, value)).collect();
        wrap(1, &[wrap(1, &attributes), wrap(2, &wrap(2, &wrap(5, b"span")))].concat())
    };
    let bytes: Vec<u8> = resources.iter().flat_map(resource).collect();
    Batch::decode(Signal::Traces, bytes.into()).unwrap()
}

fn claims(source: &dyn TenantSource, resources: &[Vec<(&str, &str)>]) -> Vec<String> {
    let mut claims = Vec::new();
    request(resources).for_each_resource(|resource| {
        claims.push(match source.claim(resource) {
            Claim::Tenant(tenant) => tenant.to_string(),
            Claim::New { project, environment } => format!("new {project}/{environment}"),
            Claim::Closed => "closed".to_owned(),
        });
    });
    claims
}

#[tokio::test]
async fn trusted_attributes_make_projects_within_bounds() {
    let memory = Arc::new(Memory::default());
    let yaml = "{mode: trusted_attributes, registry: {url: x},
                 trusted_attributes: {max_projects: 2, max_environments: 1}}";
    let (auth, telemetry) = extension(yaml, Some(memory.clone()));
    auth.start().await.unwrap();
    assert_eq!(ask(&auth, "authorization", "Bearer whatever"), Ok(None));
    let source = auth.tenants().unwrap();
    let resources = [
        vec![("weir.project", "Web App"), ("service.namespace", "other"), ("deployment.environment", "EU Production")],
        vec![("service.namespace", "search")],
        vec![("deployment.environment.name", "prd")],
        vec![("weir.project", "../../etc"), ("weir.environment", "'; DROP TABLE spans")],
        vec![("weir.project", "🍮")],
        vec![],
    ];
    assert_eq!(
        claims(&*source, &resources),
        [
            "new web-app/eu-production",
            "new search/dev",
            "new default/prd",
            "new etc/drop-table-spans",
            "default/dev",
            "default/dev"
        ]
    );
    let missing = ["web-app", "search", "default", "etc"].map(|project| (slug(project), slug("eu-production")));
    source.create(missing.to_vec()).await.unwrap();
    let projects: Vec<String> = memory.projects.lock().unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(projects, ["search", "web-app"], "no more than two");
    assert_eq!(
        claims(&*source, &resources),
        ["web-app/eu-production", "search/dev", "default/dev", "default/dev", "default/dev", "default/dev"]
    );
    let of_web_app = [vec![("weir.project", "web-app"), ("weir.environment", "second")]];
    assert_eq!(claims(&*source, &of_web_app), ["default/dev"], "no more than one environment");
    assert!(telemetry.sum("weir_tenant_default_resources") >= 3);

    memory.projects.lock().unwrap().get_mut(&slug("search")).unwrap().deleting = true;
    let deleting = |project: &mut Project| {
        project.begin_delete_environment(&Organization::default(), &slug("eu-production")).unwrap();
    };
    deleting(memory.projects.lock().unwrap().get_mut(&slug("web-app")).unwrap());
    auth.state.look().await;
    assert_eq!(claims(&*source, &resources[..2]), ["closed", "closed"]);
    // The default too.
    memory.projects.lock().unwrap().insert(slug("default"), Project::new("default", 1).unwrap());
    memory.projects.lock().unwrap().get_mut(&slug("default")).unwrap().deleting = true;
    auth.state.look().await;
    assert_eq!((claims(&*source, &resources[5..]), source.default_tenant()), (vec!["closed".to_owned()], None));

    // What is not known may be what cannot be read: it is not given to the default.
    *memory.incomplete.lock().unwrap() = true;
    memory.projects.lock().unwrap().remove(&slug("search"));
    auth.state.look().await;
    assert_eq!(claims(&*source, &resources[1..2]), ["new search/dev"]);
    let refused = source.create(vec![(slug("search"), slug("dev"))]).await.unwrap_err();
    assert_eq!(refused.reason, "projects cannot be read now");

    *memory.fails.lock().unwrap() = true;
    let refused = source.create(vec![(slug("late"), slug("dev"))]).await.unwrap_err();
    assert_eq!(refused.reason, "projects cannot be made now");
    auth.stop().await;
}

#[test]
fn without_a_registry_attributes_are_taken_at_their_word() {
    let yaml =
        "{mode: trusted_attributes, trusted_attributes: {project: [team], environment: [stage], max_projects: 2}}";
    let (auth, _) = extension(yaml, None);
    let source = auth.tenants().unwrap();
    let of = |team| vec![("team", team), ("stage", "prd")];
    assert_eq!(claims(&*source, &[of("a"), of("b"), of("c"), of("a")]), ["a/prd", "b/prd", "default/dev", "a/prd"]);
}

#[test]
fn what_is_wrong_is_said_and_keys_are_not() {
    for (yaml, error) in [
        ("{}", "weir.yaml:1:1: extensions::apikeyauth: there are no keys that a client could show: give a `registry`"),
        (
            "{keys: [{key: '', project: a, environment: dev}]}",
            "weir.yaml:1:15: extensions::apikeyauth::keys[0]::key: a key must not be empty: is the variable",
        ),
        (
            "{keys: [{key: hunter2, project: A B, environment: dev}]}",
            "weir.yaml:1:33: extensions::apikeyauth::keys[0]::project: \"A B\" is no slug (lower-case letters, digits \
             and dashes): did you mean `a-b`?",
        ),
        (
            "{keys: [{key: hunter2, project: a, environment: dev}, {key: hunter2, project: b, environment: dev}]}",
            "weir.yaml:1:55: extensions::apikeyauth::keys[1]: this key is given twice, for different tenants",
        ),
        (
            "{mode: trusted_attributes, keys: [{key: hunter2, project: a, environment: dev}]}",
            "weir.yaml:1:34: extensions::apikeyauth::keys: keys are not looked at where attributes are trusted",
        ),
        (
            "{mode: requird}",
            "weir.yaml:1:8: extensions::apikeyauth::mode: unknown value `requird`: did you mean `required`?",
        ),
        (
            "{registry: {url: x, poll_interval: 1ms}}",
            "weir.yaml:1:36: extensions::apikeyauth::registry::poll_interval:",
        ),
        (
            "{default: {project: '../x'}, registry: {url: x}}",
            "weir.yaml:1:21: extensions::apikeyauth::default::project:",
        ),
    ] {
        let refused = parse(yaml).err().unwrap();
        assert!(refused.starts_with(error), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let node = Node::parse("weir.yaml", "{registry: {url: x}}").unwrap();
    let settings = Settings::parse(&node, "extensions::apikeyauth").unwrap();
    let refused = settings.registry(&node, "extensions::apikeyauth", None, &Environment::system()).err().unwrap();
    assert!(refused.to_string().contains("this build of Weir has no store"), "{refused}");
}

proptest! {
    /// Whatever a client shows, it gets the tenant of its key or none.
    #[test]
    fn no_header_opens_another_tenant(
        keys in prop::collection::btree_map("[a-z]{1,4}", 0..4usize, 1..6),
        shown in "(Bearer |bearer |Basic |)[a-z/ ]{0,6}",
    ) {
        let list: Vec<String> =
            keys.iter().map(|(key, n)| format!("{{key: '{key}', project: p{n}, environment: dev}}")).collect();
        let (auth, _) = extension(&format!("{{keys: [{}]}}", list.join(", ")), None);
        let expected = shown.get(..7).filter(|s| s.eq_ignore_ascii_case("bearer ")).and_then(|_| keys.get(shown[7..].trim()));
        match (ask(&auth, "authorization", &shown), expected) {
            (Ok(Some(tenant)), Some(n)) => prop_assert_eq!(tenant, format!("p{n}/dev")),
            (Err(denied), None) => {
                let said = denied.to_string();
                let words: BTreeSet<&str> = said.split(' ').collect();
                prop_assert!(!keys.keys().any(|key| key.len() > 3 && words.contains(key.as_str())), "{}", said);
            }
            (got, expected) => prop_assert!(false, "{:?} {:?}", got, expected),
        }
    }
}

#[test]
fn tenants_of_one_environment_are_one_allocation() {
    let (auth, _) = extension("{keys: [{key: k1, project: a, environment: dev}]}", None);
    let tenant = || auth.authenticate(&|_| Some("Bearer k1")).unwrap().made().unwrap().tenant.clone().unwrap();
    assert!(Arc::ptr_eq(&tenant(), &tenant()));
    assert_eq!(*tenant(), Tenant::new(slug("a"), slug("dev")));
}
