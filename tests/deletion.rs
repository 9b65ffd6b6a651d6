//! Deletion for good on the real binary, while clients go on sending: nothing of what is deleted is left or comes back,
//! and the others' accounts add up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "lake")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use support::client::{TRACES, export_with, http1, http2, post};
use support::spans::request;
use support::{PATIENCE, Weir, folder, key, names, ok, weir};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Two collectors over one store, as they are by default but for shorter waits of data.
fn collectors(folder: &Path, store: &Path) -> Vec<Weir> {
    let config = format!(
        "
extensions:
  apikeyauth: {{registry: {{url: '{store}'}}}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}}}
      http: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}}}
processors:
  batch: {{timeout: 20ms}}
exporters:
  parquet: {{url: '{store}', flush: {{max_age: 20ms}}}}
service:
  extensions: [apikeyauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [parquet]}}
",
        store = store.display()
    );
    (0..2).map(|_| Weir::start(folder, &config)).collect()
}

/// How a client was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Taken,
    /// 401, UNAUTHENTICATED
    Unauthenticated,
    /// 500, INTERNAL: the exporter has refused what was let in before.
    Refused,
    /// 503, UNAVAILABLE: on a machine that is busy, commits may take longer than the receiver waits.
    Unknown,
}

/// What several clients share.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    /// Requests that were taken.
    taken: watch::Sender<usize>,
    /// Requests that were not.
    refused: watch::Sender<usize>,
}

/// A client that sends one span after the other, each with a name of its own, until it is told to stop. Returns how each
/// was answered.
async fn client(
    to: SocketAddr,
    over_grpc: bool,
    key: String,
    name: String,
    progress: Arc<Progress>,
) -> Vec<(String, Answer)> {
    let client = if over_grpc { http2() } else { http1() };
    let authorization = format!("Bearer {key}");
    let mut answers = Vec::new();
    while !progress.stop.load(Ordering::Relaxed) {
        let name = format!("{name}-{:06}", answers.len());
        let body = request(&[(&[], &name)]);
        let answer = if over_grpc {
            let (status, message) = export_with(&client, to, TRACES, &[("authorization", &authorization)], &body).await;
            match status {
                0 => Answer::Taken,
                16 => Answer::Unauthenticated,
                13 => Answer::Refused,
                14 => Answer::Unknown,
                _ => panic!("{name}: {status} {message}"),
            }
        } else {
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-protobuf")];
            let (status, body) = post(&client, to, "/v1/traces", &headers, body).await;
            match status.as_u16() {
                200 => Answer::Taken,
                401 => Answer::Unauthenticated,
                500 => Answer::Refused,
                503 => Answer::Unknown,
                _ => panic!("{name}: {status} {body:?}"),
            }
        };
        match answer {
            Answer::Taken => progress.taken.send_modify(|n| *n += 1),
            Answer::Unauthenticated | Answer::Refused => progress.refused.send_modify(|n| *n += 1),
            Answer::Unknown => {}
        }
        answers.push((name, answer));
    }
    answers
}

/// Waits until so many more requests were answered like this.
async fn reaches(counter: &watch::Sender<usize>, more: usize, what: &str) {
    let target = *counter.borrow() + more;
    let mut counter = counter.subscribe();
    let reached = tokio::time::timeout(PATIENCE, counter.wait_for(|n| *n >= target)).await;
    assert!(reached.is_ok(), "{what}: not {target}");
}

/// Runs a command that takes some time, beside everything else.
fn delete(store: &Path, command: &[&str]) -> JoinHandle<()> {
    let mut deletion = weir();
    deletion.args(command).env("WEIR_STORE", store);
    tokio::task::spawn_blocking(move || {
        let output = deletion.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
}

/// Files and folders below a path that have a name in theirs, relative to it.
fn named(root: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if relative.contains(name) {
                found.push(relative);
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Clients with two keys send to two collectors while a command deletes what one of the keys leads to. Returns the
/// collectors, which still run, and what became of the spans that were sent with the other key.
async fn delete_under_load(
    (folder, store): (&Path, &Path),
    (doomed, other): (&str, &str),
    command: &[&str],
) -> (Vec<Weir>, Accounts) {
    let collectors = collectors(folder, store);
    let (of_doomed, of_other) = (Arc::<Progress>::default(), Arc::<Progress>::default());
    let mut clients = Vec::new();
    // One of each to each collector.
    for (over_grpc, to) in [(true, collectors[0].grpc.unwrap()), (false, collectors[1].http.unwrap())] {
        for (name, key, progress) in [("doomed", doomed, &of_doomed), ("other", other, &of_other)] {
            let name = format!("{name}-{over_grpc}");
            clients.push(tokio::spawn(client(to, over_grpc, key.to_owned(), name, Arc::clone(progress))));
        }
    }
    reaches(&of_doomed.taken, 12, "spans of what will be deleted").await;
    reaches(&of_other.taken, 12, "spans of what will stay").await;
    delete(store, command).await.unwrap();
    // Everybody goes on for a while.
    reaches(&of_doomed.refused, 20, "refusals after the deletion").await;
    reaches(&of_other.taken, 8, "spans after the deletion").await;
    for progress in [&of_doomed, &of_other] {
        progress.stop.store(true, Ordering::Relaxed);
    }
    let mut accounts = Accounts::default();
    for client in clients {
        let answers = client.await.unwrap();
        if answers[0].0.starts_with("doomed") {
            let closed = answers.iter().position(|(_, answer)| *answer == Answer::Unauthenticated);
            let (before, after) = answers.split_at(closed.expect("the key was refused"));
            assert!(before.iter().any(|(_, answer)| *answer == Answer::Taken), "{before:?}");
            assert!(after.iter().all(|(_, answer)| *answer == Answer::Unauthenticated), "{after:?}");
        } else {
            for (name, answer) in answers {
                match answer {
                    Answer::Taken => accounts.taken.insert(name),
                    Answer::Unknown => accounts.unknown.insert(name),
                    _ => panic!("{name} is answered {answer:?}"),
                };
            }
        }
    }
    (collectors, accounts)
}

/// What clients know of their spans, by name.
#[derive(Default)]
struct Accounts {
    taken: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Accounts {
    /// Whether what is stored is what was taken, each span once.
    fn check(&self, stored: &[String]) {
        let seen: BTreeSet<String> = stored.iter().cloned().collect();
        assert_eq!(seen.len(), stored.len(), "twice: {stored:?}");
        let lost: Vec<&String> = self.taken.difference(&seen).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let strange: Vec<&String> = seen.iter().filter(|name| !self.taken.contains(*name)).collect();
        assert!(strange.iter().all(|name| self.unknown.contains(*name)), "nobody's: {strange:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_goes_while_its_clients_send() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    for project in ["doomed", "other"] {
        ok(&store, &["projects", "create", project]);
    }
    let (doomed, other) = (key(&store, "doomed", "prd"), key(&store, "other", "prd"));
    let command = ["projects", "delete", "doomed", "--yes"];
    let (collectors, accounts) = delete_under_load((&folder, &store), (&doomed, &other), &command).await;

    // Nothing is left but what the registry says about it.
    let left = named(&store, "doomed");
    assert!(left.iter().all(|path| path.starts_with("_weir/registry/projects/doomed")), "{left:?}");
    accounts.check(&names(&store, "other", None));

    // One of the same name begins with nothing, for those who know of it and those who do not.
    ok(&store, &["projects", "create", "doomed"]);
    let output = weir().args(["sql", "--project", "doomed", "SELECT 1"]).env("WEIR_STORE", &store).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("holds no spans yet"), "{said}");
    let fresh = key(&store, "doomed", "prd");
    for (n, collector) in collectors.iter().enumerate() {
        let send = async |key: &str, name: &str| {
            let authorization = format!("Bearer {key}");
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-protobuf")];
            post(&http1(), collector.http.unwrap(), "/v1/traces", &headers, request(&[(&[], name)])).await.0
        };
        let began = Instant::now();
        while send(&fresh, "open").await != 200 {
            assert!(began.elapsed() < PATIENCE, "the new key does not open");
            tokio::task::yield_now().await;
        }
        assert_eq!(send(&doomed, "late").await, 401);
        assert_eq!(send(&fresh, &format!("new-{n}")).await, 200);
    }
    for collector in collectors {
        let (status, log) = collector.stop();
        assert!(status.success() && !log.contains("unaccounted"), "{log}");
    }
    assert_eq!(names(&store, "doomed", None), ["new-0", "new-1", "open", "open"]);
    accounts.check(&names(&store, "other", None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_goes_while_its_clients_send() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    ok(&store, &["projects", "create", "web"]);
    ok(&store, &["envs", "create", "doomed", "--project", "web"]);
    let (doomed, other) = (key(&store, "web", "doomed"), key(&store, "web", "prd"));
    let command = ["envs", "delete", "doomed", "--project", "web", "--yes"];
    let (collectors, accounts) = delete_under_load((&folder, &store), (&doomed, &other), &command).await;
    assert_eq!(named(&store, "doomed"), [""; 0]);
    accounts.check(&names(&store, "web", None));
    for collector in collectors {
        let (status, log) = collector.stop();
        assert!(status.success() && !log.contains("unaccounted"), "{log}");
    }
    accounts.check(&names(&store, "web", None));
}

/// A process that believes attributes and has no registry, behind another one that has it for instance.
fn believer(folder: &Path, store: &Path, max_age: &str) -> Weir {
    let config = format!(
        "
extensions:
  apikeyauth: {{mode: trusted_attributes}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0, auth: {{authenticator: apikeyauth}}}}}}}}
exporters:
  parquet: {{url: '{store}', flush: {{max_age: {max_age}}}}}
service:
  extensions: [apikeyauth]
  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [parquet]}}
",
        store = store.display()
    );
    Weir::start(folder, &config)
}

/// The sum of a metric with a label.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_registry_writes_nothing_of_what_was_deleted() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    for project in ["doomed", "other"] {
        ok(&store, &["projects", "create", project]);
        ok(&store, &["envs", "create", "canary", "--project", project]);
    }
    let collector = believer(&folder, &store, "20ms");
    let client = http1();
    let send = async |tenants: &[(&str, &str, &str)]| {
        let attributes: Vec<[(&str, &str); 2]> =
            tenants.iter().map(|(project, env, _)| [("weir.project", *project), ("weir.environment", *env)]).collect();
        let resources: Vec<(&[(&str, &str)], &str)> =
            attributes.iter().zip(tenants).map(|(attributes, (_, _, name))| (&attributes[..], *name)).collect();
        let headers = [("content-type", "application/x-protobuf")];
        let (status, body) = post(&client, collector.http.unwrap(), "/v1/traces", &headers, request(&resources)).await;
        (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    };
    let all = [("doomed", "prd", "d1"), ("other", "canary", "o1"), ("other", "prd", "o2"), ("loose", "any", "l1")];
    assert_eq!(send(&all).await.0, 200);
    let two = [
        ["projects", "delete", "doomed", "--yes"].as_slice(),
        &["envs", "delete", "canary", "--project", "other", "--yes"],
    ];
    let deletions = two.map(|command| delete(&store, command));
    for deletion in deletions {
        deletion.await.unwrap();
    }
    // What is alone is refused for good, and nobody is named.
    for (project, env, said) in [
        ("doomed", "prd", "the project of these spans was deleted"),
        ("other", "canary", "the environment of these spans was deleted, or was never made"),
    ] {
        let (status, answer) = send(&[(project, env, "late")]).await;
        assert!(status == 500 && answer.contains(said), "{status} {answer}");
        assert!(!answer.contains(project) && !answer.contains(env), "{answer}");
    }
    // What comes along with others is dropped, and they are not.
    let all = [("doomed", "prd", "d2"), ("other", "canary", "o3"), ("other", "prd", "o4"), ("loose", "any", "l2")];
    assert_eq!(send(&all).await.0, 200);
    // Nor is it a later project's.
    ok(&store, &["projects", "create", "doomed"]);
    assert_eq!(send(&[("doomed", "prd", "d3")]).await.0, 500);

    let metrics = support::client::metrics(&collector.seen("metrics are at http://")).await;
    for (reason, spans) in [("project_deleted", 3.0), ("environment_deleted", 2.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(sum(&metrics, "weir_exporter_dropped", &label), spans, "{metrics}");
    }
    let (status, log) = collector.stop();
    assert!(status.success() && !log.contains("unaccounted"), "{log}");
    assert_eq!(log.matches("are refused: ").count(), 2, "once each: {log}");
    let left = named(&store, "projects/doomed");
    assert!(left.iter().all(|path| path.starts_with("_weir/registry")), "{left:?}");
    assert_eq!(named(&store, "environment=canary"), [""; 0]);
    assert_eq!(names(&store, "other", None), ["o2", "o4"]);
    assert_eq!(names(&store, "loose", None), ["l1", "l2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_while_its_project_goes_is_not_written() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    for project in ["doomed", "other"] {
        ok(&store, &["projects", "create", project]);
    }
    let collector = believer(&folder, &store, "10m");
    let to = collector.http.unwrap();
    let requests = ["doomed", "other"].map(|project| {
        let body = request(&[(&[("weir.project", project), ("weir.environment", "prd")], project)]);
        tokio::spawn(async move {
            post(&http1(), to, "/v1/traces", &[("content-type", "application/x-protobuf")], body).await.0.as_u16()
        })
    });
    let line = collector.seen("metrics are at http://");
    let began = Instant::now();
    while sum(&support::client::metrics(&line).await, "weir_exporter_in_flight_spans", "parquet") < 2.0 {
        assert!(began.elapsed() < PATIENCE, "the spans do not come");
        tokio::task::yield_now().await;
    }
    delete(&store, &["projects", "delete", "doomed", "--yes"]).await.unwrap();
    // Now they are written at once.
    let (status, log) = tokio::task::spawn_blocking(move || collector.stop()).await.unwrap();
    assert!(status.success() && !log.contains("unaccounted"), "{log}");
    let [doomed, other] = requests;
    assert_eq!((doomed.await.unwrap(), other.await.unwrap()), (500, 200), "{log}");
    let left = named(&store, "doomed");
    assert!(left.iter().all(|path| path.starts_with("_weir/registry/projects/doomed")), "{left:?}");
    assert_eq!(names(&store, "other", None), ["other"]);
}
