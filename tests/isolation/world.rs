//! A collector, everybody who sends to it and looks at it, and what each of them may see.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::plan::{Claim, Claimed, ENVIRONMENTS, Plan, Shot, Shown, Step};
use super::support::Weir;
use super::support::client::{HttpClient, TRACES, ask, export_with, http1, http2};
use super::support::sink::Sink;
use super::support::spans::{attribute, resource, span, wrap};

const ADMIN_KEY: &str = "an-admin-key-of-the-test";

/// What the destination of the first project says when it takes something for good.
const POISON: &str = "poison";
const REFUSAL: &str = "this-is-told-to-one-project-alone";

/// An API key and where it leads.
struct Key {
    project: usize,
    environment: String,
    secret: String,
    /// Empty for the one in the configuration.
    id: String,
    is_open: bool,
}

/// Project by number, and environment.
type Tenant = (usize, String);

pub(crate) struct World<'p> {
    plan: &'p Plan,
    weir: Weir,
    admin: SocketAddr,
    store: PathBuf,
    /// The backend of each project, and the one of whoever believes attributes.
    sinks: Vec<Sink>,
    believer: Sink,
    clients: (HttpClient, HttpClient),
    keys: Vec<Key>,
    /// What clients were told is stored, by what each span is marked with.
    taken: BTreeMap<String, Tenant>,
    /// What they were told is not.
    refused: BTreeSet<String>,
    _folder: tempfile::TempDir,
}

/// What an answer to a client said.
struct Answer {
    is_taken: bool,
    is_rejected: bool,
    text: String,
}

impl<'p> World<'p> {
    pub(crate) async fn start(plan: &'p Plan) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("lake");
        let mut sinks = vec![Sink::refusing(POISON, REFUSAL).await];
        for _ in &plan.projects[1..] {
            sinks.push(Sink::start().await);
        }
        let believer = Sink::start().await;
        let last = plan.projects.len() - 1;
        let secret = format!("a-static-key-{}", plan.tag);
        let config = configuration(plan, &store.display().to_string(), &sinks, &believer, &secret);
        let weir = Weir::start(folder.path(), &config);
        let line = weir.seen("admin_api listens on");
        let admin = line.split_once(" listens on ").and_then(|(_, rest)| rest.split(' ').next());
        let admin = admin.context("no address")?.parse()?;
        let keys = vec![Key { project: last, environment: "prd".to_owned(), secret, id: String::new(), is_open: true }];
        let clients = (http1(), http2());
        let (taken, refused) = Default::default();
        let mut world =
            Self { plan, weir, admin, store, sinks, believer, clients, keys, taken, refused, _folder: folder };
        for project in 0..plan.projects.len() {
            world.create("projects", &json!({"name": plan.projects[project]})).await?;
            let path = format!("projects/{}/environments", plan.projects[project]);
            world.create(&path, &json!({"name": plan.own_environment(project)})).await?;
            for n in 0..=ENVIRONMENTS.len() {
                world.issue(project, n).await?;
            }
        }
        Ok(world)
    }

    pub(crate) async fn step(&mut self, number: usize, step: &Step) -> Result<()> {
        match step {
            Step::Issue { project, environment } => self.issue(*project, *environment).await,
            Step::Revoke(n) => self.revoke(n % self.keys.len()).await,
            Step::Volley(shots) => self.volley(number, shots).await,
        }
    }

    // === Keys ===

    async fn admin(&self, method: &str, path: &str, key: &str, body: String) -> (u16, String) {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str())];
        let (head, body) = ask(&self.clients.0, method, self.admin, &format!("/v2/{path}"), &headers, body).await;
        (head.status.as_u16(), format!("{:?} {}", head.headers, String::from_utf8_lossy(&body)))
    }

    async fn create(&self, path: &str, what: &Value) -> Result<Value> {
        let (status, answer) = self.admin("POST", path, ADMIN_KEY, what.to_string()).await;
        ensure!(status == 201, "{path}: {status} {answer}");
        body(&answer)
    }

    async fn issue(&mut self, project: usize, environment: usize) -> Result<()> {
        let environment = self.plan.environment(project, environment);
        let path = format!("projects/{}/keys", self.plan.projects[project]);
        let made = self.create(&path, &json!({"environment": environment})).await?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let key = Key { project, environment, secret: text("key"), id: text("id"), is_open: true };
        self.until(&key.secret, 200).await?;
        self.keys.push(key);
        Ok(())
    }

    async fn revoke(&mut self, key: usize) -> Result<()> {
        let Key { project, id, secret, .. } = &self.keys[key];
        if id.is_empty() {
            return Ok(());
        }
        let path = format!("projects/{}/keys/{id}", self.plan.projects[*project]);
        let (status, answer) = self.admin("DELETE", &path, ADMIN_KEY, String::new()).await;
        ensure!(status == 204, "{path}: {status} {answer}");
        self.until(secret, 401).await?;
        self.keys[key].is_open = false;
        Ok(())
    }

    /// Waits until a key is answered like this. An empty request leaves nothing behind.
    async fn until(&self, secret: &str, status: u16) -> Result<()> {
        let began = Instant::now();
        let authorization = format!("Bearer {secret}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/x-protobuf")];
        let to = self.weir.http.context("no HTTP")?;
        loop {
            let (head, _) = ask(&self.clients.0, "POST", to, "/v1/traces", &headers, "").await;
            if head.status == status {
                return Ok(());
            }
            ensure!(began.elapsed() < Duration::from_secs(5), "a key is answered {} for 5 s", head.status);
            tokio::task::yield_now().await;
        }
    }

    // === Sending ===

    /// What is sent as `Authorization`, and the key that counts, whether it is open or not.
    fn shown(&self, shown: Shown) -> (Vec<String>, Option<usize>) {
        let at = |n: usize| n % self.keys.len();
        let secret = |n: usize| self.keys[at(n)].secret.as_str();
        let nobody = |value: String| (vec![value], None);
        match shown {
            Shown::Key(n) => (vec![format!("Bearer {}", secret(n))], Some(at(n))),
            Shown::Sloppy(n) => (vec![format!("bearer {}", secret(n))], Some(at(n))),
            Shown::Two(n, m) => (vec![format!("Bearer {}", secret(n)), format!("Bearer {}", secret(m))], Some(at(n))),
            Shown::UnknownFirst(n) => {
                (vec![format!("Bearer weir_{}", "x".repeat(43)), format!("Bearer {}", secret(n))], None)
            }
            Shown::Joined(n, m) => nobody(format!("Bearer {}, Bearer {}", secret(n), secret(m))),
            Shown::Basic(n) => nobody(format!("Basic {}", secret(n))),
            Shown::WithoutScheme(n) => nobody(secret(n).to_owned()),
            Shown::Cut(n) => nobody(format!("Bearer {}", &secret(n)[..secret(n).len() - 1])),
            Shown::Changed(n) => nobody(format!("Bearer {}!", &secret(n)[..secret(n).len() - 1])),
            Shown::Prefix(n) => nobody(format!("Bearer {}", &secret(n)[..12])),
            Shown::Id(n) => nobody(format!("Bearer {}", self.keys[at(n)].id)),
            Shown::Slug(project) => nobody(format!("Bearer {}", self.plan.projects[project])),
            Shown::AdminKey => nobody(format!("Bearer {ADMIN_KEY}")),
            Shown::Nothing => (Vec::new(), None),
        }
    }

    async fn volley(&mut self, number: usize, shots: &[Shot]) -> Result<()> {
        let loaded: Vec<(Vec<u8>, Vec<String>)> = shots
            .iter()
            .enumerate()
            .map(|(n, shot)| request(&format!("mk{}s{number}n{n}", self.plan.tag), &shot.resources))
            .collect();
        let answers = loaded.iter().zip(shots).map(|((bytes, _), shot)| self.send(shot, bytes));
        let answers: Vec<Result<Answer>> = futures::future::join_all(answers).await;
        // What the first project's destination refuses takes along what it was joined with, of that project alone.
        let is_poisoned = shots.iter().flat_map(|shot| &shot.resources).any(|resource| resource.is_poisoned);
        for ((shot, answer), (_, markers)) in shots.iter().zip(answers).zip(loaded) {
            let answer = answer?;
            let owner = self.shown(shot.shown).1.map(|n| &self.keys[n]).filter(|key| key.is_open);
            let told = format!("{shot:?} is answered {}", answer.text);
            ensure!(answer.is_taken || answer.is_rejected == owner.is_some(), "{told}");
            ensure!(!answer.is_taken || owner.is_some(), "nobody's spans are taken: {told}");
            if answer.is_rejected {
                ensure!(owner.is_some_and(|key| key.project == 0) && is_poisoned, "{told}");
            } else {
                ensure!(!answer.text.contains(REFUSAL), "{told}");
            }
            self.says_nothing(&answer.text).context(told)?;
            match owner {
                Some(Key { project, environment, .. }) => {
                    let tenant = (*project, environment.clone());
                    self.taken.extend(markers.into_iter().map(|marker| (marker, tenant.clone())));
                }
                None => self.refused.extend(markers),
            }
        }
        Ok(())
    }

    async fn send(&self, shot: &Shot, bytes: &[u8]) -> Result<Answer> {
        let (shown, _) = self.shown(shot.shown);
        let mut headers: Vec<(&str, &str)> = shown.iter().map(|value| ("authorization", value.as_str())).collect();
        headers.extend(shot.headers.iter().map(|(name, value)| (*name, value.as_str())));
        if shot.over_grpc {
            let to = self.weir.grpc.context("no gRPC")?;
            let (status, message) = export_with(&self.clients.1, to, TRACES, &headers, bytes).await;
            ensure!([0, 13, 16].contains(&status), "{shot:?} is answered {status} {message}");
            return Ok(Answer { is_taken: status == 0, is_rejected: status == 13, text: message });
        }
        headers.push(("content-type", "application/x-protobuf"));
        let to = self.weir.http.context("no HTTP")?;
        let path = format!("/v1/traces{}", shot.query);
        let (head, body) = ask(&self.clients.0, "POST", to, &path, &headers, bytes.to_vec()).await;
        let text = format!("{} {:?} {}", head.status, head.headers, String::from_utf8_lossy(&body));
        ensure!([200, 401, 500].contains(&head.status.as_u16()), "{shot:?} is answered {text}");
        Ok(Answer { is_taken: head.status == 200, is_rejected: head.status == 500, text })
    }
}

fn configuration(plan: &Plan, store: &str, sinks: &[Sink], believer: &Sink, secret: &str) -> String {
    let (mut rows, mut exporters, mut pipelines) = (String::new(), String::new(), String::new());
    for (n, (slug, sink)) in plan.projects.iter().zip(sinks).enumerate() {
        let row = match n % 2 {
            0 => format!("{{condition: 'project == \"{slug}\"', pipelines: [traces/p{n}]}}"),
            _ => format!(
                "{{context: span, condition: 'project == \"{slug}\" and environment == \"prd\"', pipelines: [traces/p{n}]}}"
            ),
        };
        rows.push_str(&format!("\n      - {row}"));
        let queue = "compression: none, sending_queue: {wait_for_result: true}";
        exporters.push_str(&format!("\n  otlp_http/p{n}: {{endpoint: 'http://{}', {queue}}}", sink.address));
        pipelines.push_str(&format!("\n    traces/p{n}: {{receivers: [routing], exporters: [otlp_http/p{n}]}}"));
    }
    format!(
        "
extensions:
  admin_api: {{endpoint: 127.0.0.1:0, admin_key: {ADMIN_KEY}, store: {{url: '{store}'}}}}
  apikeyauth:
    registry: {{url: '{store}', poll_interval: 20ms}}
    keys: [{{key: {secret}, project: {last}, environment: prd}}]
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
    table:{rows}
  routing/claims:
    table:
      - {{condition: 'attributes[\"weir.project\"] != nil', pipelines: [traces/believer]}}
      - {{context: span, condition: 'resource.attributes[\"weir.environment\"] != nil', pipelines: [traces/believer]}}
exporters:
  parquet: {{url: '{store}', flush: {{max_age: 20ms}}}}
  otlp_http/believer: {{endpoint: 'http://{believer}'}}{exporters}
service:
  extensions: [apikeyauth, admin_api]
  telemetry: {{metrics: {{address: '127.0.0.1:0', level: detailed}}}}
  pipelines:
    traces/in: {{receivers: [otlp], processors: [cost, batch], exporters: [parquet, routing, routing/claims]}}
    traces/believer: {{receivers: [routing/claims], exporters: [otlp_http/believer]}}{pipelines}
",
        believer = believer.address,
        last = plan.projects[plan.projects.len() - 1],
    )
}

/// A request, and what its spans are marked with: in their names, their attributes and those of their resources.
fn request(name: &str, resources: &[Claimed]) -> (Vec<u8>, Vec<String>) {
    let (mut bytes, mut all) = (Vec::new(), Vec::new());
    for (r, claimed) in resources.iter().enumerate() {
        let markers: Vec<String> = (0..claimed.spans).map(|s| format!("{name}r{r}x{s}")).collect();
        let mut attributes: Vec<Vec<u8>> = claimed.attributes.iter().map(Claim::encode).collect();
        attributes.push(attribute("host.name", &markers[0]));
        let spans = markers.iter().map(|marker| {
            let attributes =
                claimed.of_spans.iter().map(Claim::encode).chain([attribute("gen_ai.prompt.0.content", marker)]);
            let attributes: Vec<u8> = attributes.flat_map(|attribute| wrap(9, &attribute)).collect();
            let poison = if claimed.is_poisoned { POISON } else { "good" };
            span(&format!("{marker} {poison}"), &attributes)
        });
        bytes.extend(resource(&attributes, &spans.collect::<Vec<_>>()));
        all.extend(markers);
    }
    (bytes, all)
}

/// The JSON of an answer that begins with its headers.
fn body(answer: &str) -> Result<Value> {
    let (_, body) = answer.split_once("} ").context("no headers")?;
    Ok(serde_json::from_str(body)?)
}
