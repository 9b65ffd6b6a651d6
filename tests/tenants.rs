//! Projects and environments kept apart (I4), on the real binary: keys, forged attributes and headers, revocations,
//! several replicas on one store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "lake")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use support::client::{TRACES, export_with, http1, http2, post};
use support::sink::Sink;
use support::{Weir, folder, weir};
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{put_bytes, put_tag};
use weir_pipeline::signal::Signal;

/// The standard output of a command over a store.
fn ok(store: &Path, arguments: &[&str]) -> String {
    let output = weir().args(arguments).env("WEIR_STORE", store).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn key(store: &Path, project: &str, env: &str) -> String {
    ok(store, &["keys", "create", "--project", project, "--env", env]).trim().to_owned()
}

/// The names of a project's spans, sorted.
fn names(store: &Path, project: &str, env: Option<&str>) -> Vec<String> {
    let mut arguments = vec!["sql", "--format", "csv", "--project", project];
    arguments.extend(env.iter().flat_map(|env| ["--env", env]));
    arguments.push("SELECT name FROM spans ORDER BY name");
    ok(store, &arguments).lines().skip(1).map(str::to_owned).collect()
}

fn wrap(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, inner);
    out
}

/// A request of one resource with these attributes for each of the names, which is that of its span.
fn request(resources: &[(&[(&str, &str)], &str)]) -> Vec<u8> {
    let attribute =
        |(key, value): &(&str, &str)| wrap(1, &[wrap(1, key.as_bytes()), wrap(2, &wrap(1, value.as_bytes()))].concat());
    let resource = |(attributes, name): &(&[(&str, &str)], &str)| {
        let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
        let mut span = [wrap(1, &[7; 16]), wrap(2, &[7; 8]), wrap(5, name.as_bytes())].concat();
        for field in [7, 8] {
            put_tag(&mut span, field, 1);
            span.extend_from_slice(&1_795_248_000_000_000_000_u64.to_le_bytes());
        }
        wrap(1, &[wrap(1, &attributes), wrap(2, &wrap(2, &span))].concat())
    };
    resources.iter().flat_map(resource).collect()
}

/// Spans that a backend was sent: their names.
fn forwarded(sink: &Sink) -> Vec<String> {
    let mut names = Vec::new();
    for received in sink.requests() {
        let batch = Batch::decode(Signal::Traces, received.body).unwrap();
        for span in batch.spans() {
            assert!(span.resource_attributes().get("weir.project").is_none(), "a claim went on");
            names.push(span.name().to_string());
        }
    }
    names.sort();
    names
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

const PROJECTS: [&str; 3] = ["shop", "search", "side"];
const ENVIRONMENTS: [&str; 3] = ["dev", "stg", "prd"];

/// Random clients with keys of nine tenants, keys that are revoked on the way, keys that never were, and every way to claim
/// something else. What is stored, forwarded, counted, logged and answered is exactly each one's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_span_is_ever_seen_by_another_project() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    let mut keys = Vec::new();
    for project in PROJECTS {
        ok(&store, &["projects", "create", project]);
        for env in ENVIRONMENTS {
            keys.push((project, env, key(&store, project, env)));
        }
    }
    let sinks = [Sink::start().await, Sink::start().await];
    let config = format!(
        "
extensions:
  apikeyauth:
    registry: {{url: '{store}', poll_interval: 50ms}}
    keys: [{{key: a static key, project: side, environment: prd}}]
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}, include_metadata: true}}
      http: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}}}
processors:
  batch: {{timeout: 20ms}}
  cost:
connectors:
  routing:
    table:
      - {{condition: 'project == \"shop\" and environment == \"prd\"', pipelines: [traces/shop]}}
      - {{context: span, condition: 'project == \"search\"', pipelines: [traces/search]}}
exporters:
  parquet: {{url: '{store}', flush: {{max_age: 20ms}}}}
  otlp_http/shop: {{endpoint: 'http://{shop}', compression: none, sending_queue: {{wait_for_result: true}}}}
  otlp_http/search: {{endpoint: 'http://{search}', compression: none, sending_queue: {{wait_for_result: true}}}}
service:
  extensions: [apikeyauth]
  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}
  pipelines:
    traces/in: {{receivers: [otlp], processors: [cost, batch], exporters: [parquet, routing]}}
    traces/shop: {{receivers: [routing], exporters: [otlp_http/shop]}}
    traces/search: {{receivers: [routing], exporters: [otlp_http/search]}}
",
        store = store.display(),
        shop = sinks[0].address,
        search = sinks[1].address
    );
    let collector = Weir::start(&folder, &config);
    let (grpc, http) = (collector.grpc.unwrap(), collector.http.unwrap());
    let (client1, client2) = (http1(), http2());
    let mut random = Random(88_172_645_463_325_252);
    let mut expected: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for round in 0..120 {
        // Half-way some keys are taken back: one that opened until then, and nothing else changes.
        if round == 60 {
            let listed = ok(&store, &["keys", "list", "--project", "shop", "--format", "json"]);
            let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
            let of = |env: &str| listed["keys"].as_array().unwrap().iter().find(|k| k["environment"] == env).unwrap();
            ok(&store, &["keys", "revoke", "--project", "shop", of("stg")["id"].as_str().unwrap()]);
            let revoked = keys.iter().position(|(p, e, _)| (*p, *e) == ("shop", "stg")).unwrap();
            let secret = format!("Bearer {}", keys[revoked].2);
            let body = request(&[(&[], "after")]);
            closes(&client1, http, &secret, &body).await;
            keys[revoked] = ("", "", keys[revoked].2.clone());
        }
        let (project, env, secret) = match random.below(12) {
            n @ 0..9 => keys[n].clone(),
            9 => ("side", "prd", "a static key".to_owned()),
            10 => ("", "", format!("weir_{}", "x".repeat(43))),
            _ => ("", "", String::new()),
        };
        let name = format!("{project}|{env}|{round:03}");
        let claimed = PROJECTS[random.below(3)];
        let attributes: Vec<(&str, &str)> = vec![
            ("weir.project", claimed),
            ("weir.environment", ENVIRONMENTS[random.below(3)]),
            ("service.namespace", claimed),
            ("deployment.environment.name", ENVIRONMENTS[random.below(3)]),
            ("project", claimed),
        ];
        let body = request(&[(&attributes, &name), (&[], &name)]);
        let authorization = format!("Bearer {secret}");
        let mut headers = vec![("x-weir-project", claimed), ("project", claimed), ("x-scope-orgid", claimed)];
        if !secret.is_empty() {
            headers.push(("authorization", &authorization));
        }
        let (taken, said) = if random.below(2) == 0 {
            headers.push(("content-type", "application/x-protobuf"));
            let (status, answer) = post(&client1, http, "/v1/traces", &headers, body).await;
            assert!(status == 200 || status == 401, "{status}");
            (status == 200, String::from_utf8_lossy(&answer).into_owned())
        } else {
            let (status, message) = export_with(&client2, grpc, TRACES, &headers, &body).await;
            assert!(status == 0 || status == 16, "{status} {message}");
            (status == 0, message)
        };
        assert_eq!(taken, !project.is_empty(), "{name}: {said}");
        if taken {
            expected.entry((project, env)).or_default().extend([name.clone(), name]);
        } else {
            assert!(!PROJECTS.iter().any(|project| said.contains(project)) && !said.contains("weir_"), "{said}");
        }
    }
    let metrics = page(&collector.seen("metrics are at http://")).await;
    let (status, log) = collector.stop();
    assert!(status.success(), "{log}");
    assert!(!keys.iter().any(|(_, _, secret)| log.contains(secret) || metrics.contains(secret)), "a key was shown");
    for project in PROJECTS {
        let mut rows = Vec::new();
        for env in ENVIRONMENTS {
            let own = expected.get(&(project, env)).cloned().unwrap_or_default();
            let counted = accepted(&metrics, project, env);
            assert_eq!(counted, own.len(), "{project}/{env} in {metrics}");
            rows.extend(own.into_iter().map(|name| format!("{env},{name}")));
        }
        rows.sort();
        let query = "SELECT environment, name FROM spans ORDER BY environment, name";
        let stored = ok(&store, &["sql", "--format", "csv", "--project", project, query]);
        assert_eq!(stored.lines().skip(1).collect::<Vec<_>>(), rows, "{project}");
    }
    let of_env = expected.get(&("search", "stg")).cloned().unwrap_or_default();
    assert_eq!(names(&store, "search", Some("stg")), of_env);
    let of = |wanted: &dyn Fn(&str, &str) -> bool| {
        let own =
            expected.iter().filter(|((project, env), _)| wanted(project, env)).flat_map(|(_, names)| names.clone());
        let mut own: Vec<String> = own.collect();
        own.sort();
        own
    };
    assert_eq!(forwarded(&sinks[0]), of(&|project, env| project == "shop" && env == "prd"));
    assert_eq!(forwarded(&sinks[1]), of(&|project, _| project == "search"));
}

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

async fn page(line: &str) -> String {
    let address = line.rsplit_once("http://").unwrap().1.strip_suffix("/metrics").unwrap();
    let client = http1();
    let request = hyper::Request::get(format!("http://{address}/metrics")).body(Default::default()).unwrap();
    let response = client.request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// What the receiver says it took of a tenant.
fn accepted(metrics: &str, project: &str, env: &str) -> usize {
    let labels = [format!("project=\"{project}\""), format!("environment=\"{env}\"")];
    let lines = metrics.lines().filter(|line| line.starts_with("weir_tenant_accepted_records"));
    let own = lines.filter(|line| labels.iter().all(|label| line.contains(label.as_str())));
    own.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as usize).sum()
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
