//! Projects, environments and keys on the real binary: several replicas on one store, projects that make themselves.
//! That they are kept apart is what `isolation.rs` is about.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "lake")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use support::client::{http1, post};
use support::spans::request;
use support::{Weir, folder, key, names, ok, weir};

/// Waits until a key is refused, which must not take five seconds.
async fn closes(client: &support::client::HttpClient, to: SocketAddr, authorization: &str, body: &[u8]) {
    let began = Instant::now();
    let headers = [("authorization", authorization), ("content-type", "application/x-protobuf")];
    // An empty request asks the same of the key and leaves nothing behind.
    while post(client, to, "/v1/traces", &headers, Vec::new()).await.0 != 401 {
        assert!(began.elapsed() < Duration::from_secs(5), "the key still opens");
        tokio::task::yield_now().await;
    }
    assert_eq!(post(client, to, "/v1/traces", &headers, body.to_vec()).await.0, 401);
}

fn gateway(store: &Path, settings: &str) -> String {
    format!(
        "
extensions:
  apikeyauth: {{{settings}, registry: {{url: '{store}'}}}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}}}}}}}
exporters:
  parquet: {{url: '{store}', flush: {{max_age: 20ms}}}}
service:
  extensions: [apikeyauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [parquet]}}
",
        store = store.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_on_every_replica() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    ok(&store, &["projects", "create", "shop"]);
    let (secret, other) = (key(&store, "shop", "prd"), key(&store, "shop", "dev"));
    // As they are by default.
    let config = gateway(&store, "mode: required");
    let replicas: Vec<Weir> = (0..3).map(|_| Weir::start(&folder, &config)).collect();
    let client = http1();
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
    for replica in &replicas {
        let body = request(&[(&[], "before")]);
        assert_eq!(post(&client, replica.http.unwrap(), "/v1/traces", &headers, body).await.0, 200);
    }
    let listed: serde_json::Value =
        serde_json::from_str(&ok(&store, &["keys", "list", "--project", "shop", "--format", "json"])).unwrap();
    let id = listed["keys"].as_array().unwrap().iter().find(|k| k["environment"] == "prd").unwrap()["id"].clone();
    ok(&store, &["keys", "revoke", "--project", "shop", id.as_str().unwrap()]);
    let revoked = Instant::now();
    for replica in &replicas {
        closes(&client, replica.http.unwrap(), &bearer, &request(&[(&[], "after")])).await;
    }
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    // The others stay open.
    let bearer = format!("Bearer {other}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
    for replica in &replicas {
        let body = request(&[(&[], "other")]);
        assert_eq!(post(&client, replica.http.unwrap(), "/v1/traces", &headers, body).await.0, 200);
    }
    drop(replicas);
    assert_eq!(names(&store, "shop", None), ["before", "before", "before", "other", "other", "other"]);
}

#[test]
fn of_several_processes_that_create_a_project_one_does() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    for round in 0..3 {
        let name = format!("Project {round}");
        let create = || weir().args(["projects", "create", &name]).env("WEIR_STORE", &store).spawn().unwrap();
        let children: Vec<_> = (0..4).map(|_| create()).collect();
        let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().success()).collect();
        assert_eq!(codes.iter().filter(|ok| **ok).count(), 1, "{codes:?}");
    }
    assert_eq!(ok(&store, &["projects", "list"]).lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_edge_projects_make_themselves() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    let collector =
        Weir::start(&folder, &gateway(&store, "mode: trusted_attributes, trusted_attributes: {max_projects: 2}"));
    let body = request(&[
        (&[("service.namespace", "Web App"), ("deployment.environment", "EU Production")], "a"),
        (&[("weir.project", "search"), ("deployment.environment.name", "prd")], "b"),
        (&[("service.namespace", "web-app")], "c"),
        (&[], "d"),
    ]);
    let headers = [("content-type", "application/x-protobuf")];
    let client = http1();
    assert_eq!(post(&client, collector.http.unwrap(), "/v1/traces", &headers, body).await.0, 200);
    // There is no room for a third one.
    let body = request(&[(&[("weir.project", "third")], "e")]);
    assert_eq!(post(&client, collector.http.unwrap(), "/v1/traces", &headers, body).await.0, 200);
    assert!(collector.stop().0.success());
    assert_eq!(names(&store, "web-app", Some("eu-production")), ["a"]);
    assert_eq!(names(&store, "web-app", Some("dev")), ["c"]);
    assert_eq!(names(&store, "search", Some("prd")), ["b"]);
    assert_eq!(names(&store, "default", Some("dev")), ["d", "e"]);
    let listed = ok(&store, &["projects", "list"]);
    assert!(listed.contains("web-app") && listed.contains("search") && !listed.contains("third"), "{listed}");
}

/// What is in a project's object of the registry is nobody's business but its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_object_of_the_registry_shuts_out_its_project_and_loses_nothing() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    let keys = ["good", "bad"].map(|project| {
        ok(&store, &["projects", "create", project]);
        key(&store, project, "prd")
    });
    let mut collector = Weir::start(&folder, &gateway(&store, "mode: required"));
    let edge_folder = folder.join("edge");
    std::fs::create_dir(&edge_folder).unwrap();
    let edge = Weir::start(&edge_folder, &gateway(&store, "mode: trusted_attributes"));
    let client = http1();
    let send = async |to: SocketAddr, key: &str, attributes: &[(&str, &str)], name: &str| {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-protobuf")];
        let (head, body) =
            support::client::ask(&client, "POST", to, "/v1/traces", &headers, request(&[(attributes, name)])).await;
        let retry = head.headers.contains_key("retry-after");
        (head.status.as_u16(), retry, String::from_utf8_lossy(&body).into_owned())
    };
    let http = collector.http.unwrap();
    for key in &keys {
        assert_eq!(send(http, key, &[], "before").await.0, 200);
    }
    let object = store.join("_weir/registry/projects/bad/00000000000000000003.json");
    std::fs::write(&object, "{\"format\": 1, \"slug\": ").unwrap();
    let line = collector.wait_for("cannot be read");
    assert!(line.contains("ERROR") && line.contains("_weir/registry/projects/bad/00000000000000000003.json"), "{line}");
    assert!(line.contains("mend it, or restore it from a copy"), "{line}");

    // Behind a trusted edge the same: it is nobody else's, the default's least of all.
    let attributes = |project| [("weir.project", project), ("weir.environment", "prd")];
    for (to, key, attributes) in [(http, &*keys[1], &[][..]), (edge.http.unwrap(), "", &attributes("bad")[..])] {
        let began = Instant::now();
        loop {
            let (status, retry, said) = send(to, key, attributes, "until then").await;
            if status == 503 {
                assert!(retry && !said.contains("bad") && !said.contains("registry"), "{said}");
                break;
            }
            // What it has read counts a moment later, or it has not looked yet.
            assert!(status == 200 && began.elapsed() < Duration::from_secs(5), "{status} {said}");
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(send(http, &keys[0], &[], "while").await.0, 200);
    assert_eq!(send(edge.http.unwrap(), "", &attributes("good"), "edge").await.0, 200);
    assert_eq!(send(edge.http.unwrap(), "", &[], "edge").await.0, 200);
    // The commands say so too, and serve the others.
    let listed = weir().args(["projects", "list"]).env("WEIR_STORE", &store).output().unwrap();
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success() && said.contains("projects/bad/00000000000000000003.json"), "{said}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("good"));

    // Mended, it goes on.
    std::fs::remove_file(&object).unwrap();
    let began = Instant::now();
    while send(http, &keys[1], &[], "after").await.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(5), "the mended project stays shut");
        tokio::task::yield_now().await;
    }
    for weir in [collector, edge] {
        let (status, log) = weir.stop();
        assert!(status.success(), "{log}");
        assert_eq!(log.matches("projects/bad/00000000000000000003.json").count(), 1, "said once: {log}");
    }
    assert_eq!(names(&store, "good", None), ["before", "edge", "while"]);
    let of_bad = names(&store, "bad", None);
    assert!(of_bad.iter().all(|name| ["after", "before", "until then"].contains(&name.as_str())), "{of_bad:?}");
    assert_eq!(names(&store, "default", None), ["edge"]);
}
