//! The admin API as a client sees it.

#![allow(clippy::large_futures, reason = "the stack of a test has room for them")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use url::Url;
use weir_api::admin::{Service, Settings};
use weir_extensions::http::{Ask, BodyError, Pages as _};
use weir_pipeline::batch::Batch;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::config::Node;
use weir_pipeline::signal::Signal;
use weir_pipeline::tenant::KeyHash;
use weir_store::convert::Stamp;
use weir_store::maintain::{Maintenance, Settings as Patience};
use weir_store::objects::Root;
use weir_store::registry::Watch;
use weir_store::table::{AppTransaction, Delta, Table as _};
use weir_store::writer::write_files;

const KEY: &str = "the-admin-key-of-the-test";

/// An API over a store in memory.
struct Api {
    service: Service,
    store: Arc<InMemory>,
    root: Root,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Api {
    fn new() -> Self {
        let store = Arc::new(InMemory::new());
        let root = Root::with_store(store.clone(), Url::parse("memory:///").unwrap());
        let patience = Patience { settle: Duration::ZERO, ..Patience::default() };
        let maintenance = Maintenance::new(&root, Clock::system(), patience);
        Self { service: Service::new(maintenance, KeyHash::of(KEY)), store, root }
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<String>) -> Answer {
        self.ask_with(method, path, body, &[("authorization", &format!("Bearer {KEY}"))]).await
    }

    async fn ask_with(&self, method: &str, path: &str, body: impl Into<String>, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(Method::try_from(method).unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let body = Ok(body.into().into_bytes().into());
        let peer = ([127, 0, 0, 1], 1).into();
        self.answer(Ask { method: head.method, uri: head.uri, headers: head.headers, body, peer }).await
    }

    async fn answer(&self, ask: Ask) -> Answer {
        let (head, body) = self.service.answer(&ask).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body };
        if answer.status >= 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            assert_eq!(answer.body["status"], answer.status);
            assert!(!answer.body["detail"].as_str().unwrap().is_empty() && !answer.body["title"].is_null());
        }
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.body.to_string().contains(KEY));
        answer
    }

    async fn append(&self, project: &str, environment: &str, spans: u64) {
        let value = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
        let environment =
            KeyValue { key: "deployment.environment.name".into(), value: value(environment), ..KeyValue::default() };
        let span = |n: u64| Span { trace_id: vec![1; 16], span_id: n.to_be_bytes().to_vec(), ..Span::default() };
        let spans = (1..=spans).map(span).collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: vec![environment], ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        let mut table = Delta::create(&self.root, project).await.unwrap();
        let stamp = Stamp { ingest_micros: 1, source: "test".into(), seq: 1 };
        let batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
        let files = write_files(table.files(), &[&batch], &stamp).await.unwrap();
        let application = format!("test/{project}/{:?}", std::time::Instant::now());
        table.try_append(&files, &AppTransaction { application, version: 1 }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_from_its_making_to_its_deletion() {
    let api = Api::new();
    let made = api.ask("POST", "/v2/projects", r#"{"name": " Web App 🍮 "}"#).await;
    assert_eq!((made.status, &made.headers["location"]), (201, &"/v2/projects/web-app".parse().unwrap()));
    assert_eq!((&made.body["slug"], &made.body["name"]), (&json!("web-app"), &json!("Web App 🍮")));
    let again = api.ask("POST", "/v2/projects", r#"{"name": "web app"}"#).await;
    assert_eq!((again.status, again.body["detail"].as_str()), (409, Some("project `web-app` exists already")));

    let renamed = api.ask("PATCH", "/v2/projects/web-app", r#"{"name": "Shop"}"#).await;
    assert_eq!(
        (renamed.status, &renamed.body["name"], &renamed.body["slug"]),
        (200, &json!("Shop"), &json!("web-app"))
    );

    let own = api.ask("POST", "/v2/projects/web-app/environments", r#"{"name": "EU Production"}"#).await;
    assert_eq!((own.status, &own.body["slug"], &own.body["level"]), (201, &json!("eu-production"), &json!("project")));
    let shared = api.ask("POST", "/v2/environments", r#"{"name": "QA"}"#).await;
    assert_eq!((shared.status, &shared.body["level"]), (201, &json!("organization")));
    let project = api.ask("GET", "/v2/projects/web-app", "").await.body;
    let environments: Vec<&str> =
        project["environments"].as_array().unwrap().iter().map(|e| e["slug"].as_str().unwrap()).collect();
    assert_eq!(environments, ["dev", "stg", "prd", "qa", "eu-production"]);

    let key = api
        .ask("POST", "/v2/projects/web-app/keys", r#"{"environment": "qa", "name": "CI", "expires_in": "90d"}"#)
        .await;
    assert_eq!((key.status, &key.body["state"], &key.body["environment"]), (201, &json!("valid"), &json!("qa")));
    let (secret, id) = (key.body["key"].as_str().unwrap(), key.body["id"].as_str().unwrap());
    assert_eq!(key.headers["location"], format!("/v2/projects/web-app/keys/{id}"));
    let mut watch = Watch::new(weir_store::registry::Registry::new(&api.root, Clock::system()), Vec::new());
    watch.look().await.unwrap();
    assert_eq!(watch.directory().find(secret, 10).unwrap().tenant.to_string(), "web-app/qa");
    let list = api.ask("GET", "/v2/projects/web-app/keys", "").await.body;
    assert!(!list.to_string().contains(secret) && list["keys"][0]["prefix"] == secret[..12], "{list}");
    assert_eq!(api.ask("GET", "/v2/projects/web-app/keys?environment=dev", "").await.body, json!({"keys": []}));
    for _ in 0..2 {
        assert_eq!(api.ask("DELETE", &format!("/v2/projects/web-app/keys/{id}"), "").await.status, 204);
    }
    watch.look().await.unwrap();
    assert!(watch.directory().find(secret, 10).is_none());
    assert_eq!(api.ask("DELETE", "/v2/projects/web-app/keys/nonsense", "").await.status, 404);

    api.append("web-app", "qa", 3).await;
    api.append("web-app", "eu-production", 4).await;
    let stored = api.ask("GET", "/v2/projects/web-app/stored", "").await.body;
    assert_eq!((&stored["stored"][1]["environment"], &stored["stored"][1]["spans"]), (&json!("qa"), &json!(3)));
    for (path, slug, spans) in
        [("/v2/projects/web-app/environments/eu-production", "eu-production", 4), ("/v2/environments/qa", "qa", 3)]
    {
        let asked = api.ask("DELETE", path, "").await;
        assert_eq!((asked.status, &asked.body["would_delete"][0]["spans"]), (422, &json!(spans)));
        assert!(asked.body["detail"].as_str().unwrap().ends_with(&format!("?confirm={slug}")), "{}", asked.body);
        assert_eq!(api.ask("DELETE", &format!("{path}?confirm=yes"), "").await.status, 422);
        let deleted = api.ask("DELETE", &format!("{path}?confirm={slug}"), "").await;
        assert_eq!((deleted.status, &deleted.body["removed"][0]["spans"]), (200, &json!(spans)));
        assert_eq!((&deleted.body["deleted"], &deleted.body["objects"]), (&json!(slug), &json!(1)));
        assert_eq!(api.ask("DELETE", &format!("{path}?confirm={slug}"), "").await.status, 404);
    }
    let built_in = api.ask("DELETE", "/v2/environments/dev?confirm=dev", "").await;
    assert_eq!((built_in.status, built_in.body["detail"].as_str().unwrap().contains("built in")), (409, true));
    let shared = api.ask("DELETE", "/v2/projects/web-app/environments/dev?confirm=dev", "").await;
    assert_eq!(shared.status, 409);

    api.append("web-app", "dev", 2).await;
    assert_eq!(api.ask("DELETE", "/v2/projects/web-app", "").await.body["would_delete"][0]["spans"], 2);
    let deleted = api.ask("DELETE", "/v2/projects/web-app?confirm=web-app", "").await;
    assert_eq!((deleted.status, &deleted.body["removed"][0]["spans"]), (200, &json!(2)));
    for path in ["", "/environments", "/keys", "/stored", "/retention"] {
        assert_eq!(api.ask("GET", &format!("/v2/projects/web-app{path}"), "").await.status, 404, "{path}");
    }
    assert_eq!(api.ask("GET", "/v2/projects", "").await.body, json!({"projects": [], "unreadable": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_is_set_and_shown_with_whose_word_it_is() {
    let api = Api::new();
    api.ask("POST", "/v2/projects", r#"{"name": "web"}"#).await;
    let shown = |answer: Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let list = answer.body["retention"].as_array().unwrap().iter();
        list.map(|e| format!("{} {} {}", e["environment"], e["keep"], e["said_of"]).replace('"', "")).collect()
    };
    let all = |body: &'static str| api.ask("PUT", "/v2/retention", body);
    let web = |body: &'static str| api.ask("PUT", "/v2/projects/web/retention", body);
    assert_eq!(shown(all(r#"{"keep": "90d"}"#).await), ["dev 90d all", "stg 90d all", "prd 90d all"]);
    shown(all(r#"{"environment": "dev", "keep": 3}"#).await);
    shown(web(r#"{"environment": "prd", "keep": "forever"}"#).await);
    let kept = ["dev 3d environment", "stg 90d all", "prd forever project_environment"];
    assert_eq!(shown(api.ask("GET", "/v2/projects/web/retention", "").await), kept);
    shown(web(r#"{"keep": "30d"}"#).await);
    let kept = ["dev 30d project", "stg 30d project", "prd forever project_environment"];
    assert_eq!(shown(web(r#"{"environment": "dev", "keep": null}"#).await), kept);
    assert_eq!(shown(api.ask("GET", "/v2/retention", "").await), ["dev 3d environment", "stg 90d all", "prd 90d all"]);
    for (body, status) in [
        (r#"{"keep": 0}"#, 422),
        (r#"{"keep": "a while"}"#, 422),
        (r#"{"keep": -3}"#, 422),
        (r#"{"environment": "nope", "keep": 3}"#, 422),
        (r#"{"environment": "No Slug", "keep": 3}"#, 422),
        (r#"{"kep": 3}"#, 422),
        ("{}", 422),
        ("{\"keep\": 3", 400),
        ("", 400),
    ] {
        assert_eq!(all(body).await.status, status, "{body}");
        assert_eq!(web(body).await.status, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_the_key() {
    let api = Api::new();
    for headers in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer the-admin-key-of-the-tesT")],
        &[("authorization", "Bearer the-admin-key-of-the-test-and-more")],
        &[("authorization", "Basic the-admin-key-of-the-test")],
        &[("authorization", "the-admin-key-of-the-test")],
        &[("x-api-key", KEY)],
        &[("authorization", "Bearer nonsense"), ("authorization", "Bearer the-admin-key-of-the-test")],
    ] {
        for (method, path) in [("GET", "/v2/projects"), ("DELETE", "/v2/projects/x?confirm=x"), ("GET", "/nowhere")] {
            let answer = api.ask_with(method, path, "", headers).await;
            assert_eq!((answer.status, &answer.headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
        }
    }
    let lower = api.ask_with("GET", "/v2/projects", "", &[("authorization", &format!("bearer {KEY}"))]).await;
    assert_eq!(lower.status, 200);
    let description = api.ask_with("GET", "/openapi.json", "", &[]).await;
    assert_eq!((description.status, &description.headers["content-type"]), (200, &"application/json".parse().unwrap()));
}

/// Names that somebody might use to break out of a folder, a statement or a message.
fn tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "",
        " ",
        ".",
        "..",
        "../..",
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "/",
        "%2e%2e%2f",
        "🍮",
        "\0",
        "a\0b",
        "a\nb",
        "'; DROP TABLE spans; --",
        "\" OR 1=1 --",
        "environment=dev",
        "_delta_log",
        "_weir",
        "\u{202e}abc",
        "\u{1b}[2J",
        "CON",
        "a b",
        "A",
        "-",
        "--yes",
        "a--b",
        "${env:HOME}",
        "{{7*7}}",
        "<script>",
        "a?confirm=a",
        "a#b",
        "a%00b",
    ]
    .map(str::to_owned)
    .to_vec();
    tricks.push("x".repeat(300));
    tricks.push("ü".repeat(300));
    tricks
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_breaks_out() {
    let api = Api::new();
    api.ask("POST", "/v2/projects", r#"{"name": "web"}"#).await;
    for trick in tricks() {
        let body = json!({ "name": trick }).to_string();
        for path in ["/v2/projects", "/v2/environments", "/v2/projects/web/environments"] {
            let answer = api.ask("POST", path, body.clone()).await;
            match answer.status {
                201 => {
                    let slug = answer.body["slug"].as_str().unwrap();
                    assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{slug}");
                }
                status => assert!([409, 422].contains(&status), "{trick:?}: {status}"),
            }
        }
        let renamed = api.ask("PATCH", "/v2/projects/web", body).await.status;
        assert!([200, 422].contains(&renamed), "{trick:?}: {renamed}");
        let key = json!({"environment": trick, "name": trick, "expires_in": trick}).to_string();
        assert_eq!(api.ask("POST", "/v2/projects/web/keys", key).await.status, 422, "{trick:?}");
        let part = encoded(&trick);
        if part.is_empty() || trick == "a" {
            continue;
        }
        for (method, path) in [
            ("GET", format!("/v2/projects/{part}")),
            ("PATCH", format!("/v2/projects/{part}")),
            ("DELETE", format!("/v2/projects/{part}?confirm={part}")),
            ("GET", format!("/v2/projects/{part}/stored")),
            ("DELETE", format!("/v2/projects/web/environments/{part}?confirm={part}")),
            ("DELETE", format!("/v2/environments/{part}?confirm={part}")),
            ("DELETE", format!("/v2/projects/web/keys/{part}")),
            ("GET", format!("/v2/projects/{part}/keys")),
        ] {
            let status = api.ask(method, &path, r#"{"name": "x"}"#).await.status;
            assert!([404, 405, 422].contains(&status), "{method} {path}: {status}");
        }
    }
    use futures::StreamExt as _;
    let objects: Vec<_> = object_store::ObjectStore::list(&*api.store, None).collect().await;
    for object in objects {
        let path = object.unwrap().location.to_string();
        assert!(
            path.starts_with("_weir/registry/projects/") || path.starts_with("_weir/registry/organization/"),
            "{path}"
        );
        assert!(
            path.chars().all(|c| c.is_ascii_alphanumeric() || "-/._".contains(c)) && !path.contains(".."),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_problem() {
    let api = Api::new();
    for (method, path, body, status) in [
        ("POST", "/v2/projects", "", 400),
        ("POST", "/v2/projects", "{", 400),
        ("POST", "/v2/projects", "name=web", 400),
        ("POST", "/v2/projects", "[]", 422),
        ("POST", "/v2/projects", "{}", 422),
        ("POST", "/v2/projects", r#"{"name": 7}"#, 422),
        ("POST", "/v2/projects", r#"{"name": "x", "slug": "y"}"#, 422),
        ("GET", "/v2/projects/none", "", 404),
        ("PATCH", "/v2/projects/none", r#"{"name": "x"}"#, 404),
        ("DELETE", "/v2/projects/none?confirm=none", "", 404),
        ("POST", "/v2/projects/none/keys", r#"{"environment": "dev"}"#, 404),
        ("DELETE", "/v2/environments/none?confirm=none", "", 404),
        ("DELETE", "/v2/environments/none?confrim=none", "", 400),
        ("PUT", "/v2/projects", "", 405),
        ("DELETE", "/v2/retention", "", 405),
        ("GET", "/", "", 404),
        ("GET", "/v2", "", 404),
        ("GET", "/v1/projects", "", 404),
        ("GET", "/v2/projects/", "", 404),
        ("POST", "/openapi.json", "", 404),
    ] {
        let answer = api.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
    }
    let nested = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(api.ask("POST", "/v2/projects", nested).await.status, 422);
    for (error, status) in [(BodyError::TooLarge, 413), (BodyError::Incomplete, 400)] {
        let headers = [("authorization".parse().unwrap(), format!("Bearer {KEY}").parse().unwrap())];
        let ask = Ask {
            method: Method::POST,
            uri: "/v2/projects".parse().unwrap(),
            headers: headers.into_iter().collect(),
            body: Err(error),
            peer: ([127, 0, 0, 1], 1).into(),
        };
        assert_eq!(api.answer(ask).await.status, status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_make_a_project_one_does() {
    let api = Api::new();
    let asks = (0..10).map(|_| api.ask("POST", "/v2/projects", r#"{"name": "web"}"#));
    let mut statuses: Vec<u16> = futures::future::join_all(asks).await.into_iter().map(|a| a.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[201].as_slice(), &[409; 9]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_object_is_told_and_shuts_out_its_project_only() {
    let api = Api::new();
    for name in ["good", "bad"] {
        api.ask("POST", "/v2/projects", json!({ "name": name }).to_string()).await;
    }
    let path = "_weir/registry/projects/bad/00000000000000000002.json";
    api.store.put(&Path::from(path), PutPayload::from_static(b"{}")).await.unwrap();
    let list = api.ask("GET", "/v2/projects", "").await.body;
    assert_eq!(list["projects"].as_array().unwrap().len(), 1);
    assert!(list["unreadable"][0].as_str().unwrap().starts_with(path), "{list}");
    for (method, path) in
        [("GET", "/v2/projects/bad"), ("DELETE", "/v2/projects/bad?confirm=bad"), ("GET", "/v2/projects/bad/keys")]
    {
        assert_eq!(api.ask(method, path, "").await.status, 500, "{path}");
    }
    assert_eq!(api.ask("GET", "/v2/projects/good", "").await.status, 200);
    assert_eq!(api.ask("POST", "/v2/projects", r#"{"name": "bad"}"#).await.status, 500);
}

/// Every route is in the description, and the description has no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_that_of_the_routes() {
    let api = Api::new();
    let described = api.ask("GET", "/openapi.json", "").await.body;
    assert!(described["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(described["security"], json!([{"admin_key": []}]));
    assert_eq!(described["components"]["securitySchemes"]["admin_key"]["scheme"], "bearer");
    let paths = described["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        let real = path.replace("{project}", "nobody").replace("{environment}", "nothing").replace("{id}", "none");
        for method in ["get", "put", "post", "patch", "delete"] {
            let answer = api.ask(&method.to_uppercase(), &real, "").await;
            let detail = answer.body["detail"].as_str().unwrap_or_default();
            assert!(!detail.starts_with("there is nothing at this path"), "{path}");
            assert_eq!(answer.status == 405, item[method].is_null(), "{method} {path}: {}", answer.status);
            let Some(operation) = item.get(method) else { continue };
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("401"), "{method} {path}");
            let is_told = responses.contains_key(&answer.status.to_string()) || answer.status == 400;
            assert!(is_told, "{method} {path} answered {}", answer.status);
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
            assert!(ids.insert(format!("{}/{}", operation["tags"][0], operation["operationId"])), "{method} {path}");
        }
        let variables = path.matches('{').count();
        for operation in item.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(parameters.iter().filter(|p| p["in"] == "path").count(), variables, "{path}");
        }
    }
    // The routes of the module, counted another way.
    let sources = [
        include_str!("../src/admin/routes/projects.rs"),
        include_str!("../src/admin/routes/environments.rs"),
        include_str!("../src/admin/routes/keys.rs"),
        include_str!("../src/admin/routes/retention.rs"),
    ];
    let handlers: usize = sources.iter().map(|source| source.matches("pub(super) async fn ").count()).sum();
    assert_eq!(ids.len(), handlers);
    // Every reference leads somewhere.
    let text = described.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(described.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn settings_are_explained() {
    let parse = |yaml: &str| {
        let node = Node::parse("weir.yaml", yaml).unwrap();
        Settings::parse(&node, "extensions::admin_api").map(|settings| format!("{settings:?}"))
    };
    let good = parse("{admin_key: 0123456789abcdef, endpoint: '[::1]:9', store: {url: 'memory:///x'}}").unwrap();
    assert!(good.contains("\"::1\"") && good.contains("9") && !good.contains("0123456789abcdef"), "{good}");
    for (yaml, message) in [
        ("{}", "there is no `admin_key`"),
        ("{admin_key: ''}", "must have at least 16 characters"),
        ("{admin_key: short}", "must have at least 16 characters"),
        ("{admin_key: 'with a space in it'}", "has characters that a header cannot carry"),
        ("{admin_key: 0123456789abcdef, endpoint: nowhere}", "is not `host:port`"),
        ("{admin_key: 0123456789abcdef, store: {url: 'ftp://x'}}", "not a store"),
        ("{admin_key: 0123456789abcdef, store: {url: s3://b, storage: {regoin: x}}}", "unknown storage option regoin"),
        ("{admin_key: 0123456789abcdef, tls: {}}", "unknown key"),
    ] {
        let error = parse(yaml).unwrap_err().to_string();
        assert!(error.contains(message), "{yaml}: {error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is asked is answered, and nothing is an error of ours.
    #[test]
    fn whatever_is_asked_is_answered(
        method in prop_oneof![Just("GET"), Just("POST"), Just("PUT"), Just("PATCH"), Just("DELETE"), Just("OPTIONS")],
        parts in prop::collection::vec("\\PC{0,20}", 0..4),
        place in 0..6usize,
        body in "\\PC{0,60}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let parts: Vec<String> = parts.iter().map(|part| encoded(part)).collect();
        let path = ["/", "/v2/", "/v2/projects/", "/v2/environments/", "/v2/projects/web/keys/", "/v2/projects/web/environments/"][place];
        let path = format!("{path}{}?confirm={}", parts.join("/"), parts.first().map_or("", String::as_str));
        let status = runtime.block_on(async {
            let api = Api::new();
            api.ask("POST", "/v2/projects", r#"{"name": "web"}"#).await;
            api.ask(method, &path, body).await.status
        });
        prop_assert!(status < 500, "{method} {path}: {status}");
    }
}
