//! A collector, everybody who sends to it and looks at it, and what each of them may see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;

use super::plan::{Claim, Claimed, ENVIRONMENTS, Plan, Random, Shot, Shown, Step};
use super::support::client::{HttpClient, TRACES, ask, export_with, http1, http2, metrics};
use super::support::sink::Sink;
use super::support::spans::{attribute, resource, span, wrap};
use super::support::{Weir, weir};

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

    // === Looking ===

    /// Whether a text that anybody may see has nothing that belongs to somebody.
    fn says_nothing(&self, text: &str) -> Result<()> {
        self.shows_no_secret(text)?;
        for project in 0..self.plan.projects.len() {
            self.says_nothing_of(project, text)?;
        }
        Ok(())
    }

    /// Whether a text shows neither keys nor spans, nor takes a forged name for one.
    fn shows_no_secret(&self, text: &str) -> Result<()> {
        let secret = self.keys.iter().find(|key| text.contains(&key.secret));
        ensure!(secret.is_none() && !text.contains(ADMIN_KEY), "a key is shown: {text}");
        let marker = markers(&self.plan.tag, text).pop_first();
        ensure!(marker.is_none(), "the span {marker:?} is shown: {text}");
        ensure!(!text.contains(&format!("forged-{}", self.plan.tag)), "a forged name counts: {text}");
        Ok(())
    }

    /// Whether a text has neither a project's name nor that of its environment, nor what its keys are recognised by.
    fn says_nothing_of(&self, project: usize, text: &str) -> Result<()> {
        let own = [self.plan.projects[project].clone(), self.plan.own_environment(project)];
        let keys = self.keys.iter().filter(|key| key.project == project && !key.id.is_empty());
        let keys = keys.flat_map(|key| [key.id.clone(), key.secret[..12].to_owned()]);
        let words: BTreeSet<&str> = words(text).collect();
        let named = own.into_iter().chain(keys).find(|name| words.contains(name.as_str()));
        ensure!(named.is_none(), "{named:?} of {} is named: {text}", self.plan.projects[project]);
        Ok(())
    }

    /// What a project has, by environment.
    fn own(&self, project: usize) -> BTreeMap<&str, BTreeSet<String>> {
        let mut own: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (marker, (_, environment)) in self.taken.iter().filter(|(_, tenant)| tenant.0 == project) {
            own.entry(environment).or_default().insert(marker.clone());
        }
        own
    }

    /// Looks at everything, from everywhere.
    pub(crate) async fn look(self, random: &mut Random) -> Result<()> {
        for project in 0..self.plan.projects.len() {
            self.look_at_admin_api(project).await?;
            self.look_at_rows(project, random)?;
        }
        self.ask_hostile_questions(random)?;
        self.look_at_destinations()?;
        self.look_at_folders()?;
        let page = metrics(&self.weir.seen("metrics are at http://")).await;
        self.look_at_metrics(&page)?;
        let Self { weir, plan, .. } = self;
        let (status, log) = weir.stop();
        ensure!(status.success(), "{log}");
        let rest = (&self.keys, &plan.tag);
        ensure!(!rest.0.iter().any(|key| log.contains(&key.secret)) && !log.contains(ADMIN_KEY), "a key: {log}");
        ensure!(markers(rest.1, &log).is_empty() && !log.contains(&format!("forged-{}", rest.1)), "a span: {log}");
        Ok(())
    }

    async fn look_at_admin_api(&self, project: usize) -> Result<()> {
        let slug = &self.plan.projects[project];
        let own = self.own(project);
        for of in ["", "/keys", "/environments", "/retention", "/stored"] {
            let path = format!("projects/{slug}{of}");
            let (status, answer) = self.admin("GET", &path, ADMIN_KEY, String::new()).await;
            ensure!(status == 200, "{path}: {answer}");
            self.shows_no_secret(&answer).context(path.clone())?;
            for other in (0..self.plan.projects.len()).filter(|other| *other != project) {
                self.says_nothing_of(other, &answer).context(path.clone())?;
            }
            if of == "/stored" {
                let body = body(&answer)?;
                let amounts = body["stored"].as_array().context("no list")?.iter();
                let amounts = amounts.filter_map(|a| Some((a["environment"].as_str()?, a["spans"].as_u64()?)));
                let expected = own.iter().map(|(environment, markers)| (*environment, markers.len() as u64));
                ensure!(amounts.eq(expected), "{path}: {answer}\nis not {own:?}");
            }
        }
        // No key of an application opens it.
        for key in self.keys.iter().filter(|key| key.project == project).take(2) {
            let (status, answer) =
                self.admin("GET", &format!("projects/{slug}/keys"), &key.secret, String::new()).await;
            ensure!(status == 401, "{answer}");
            self.says_nothing(&answer)?;
        }
        Ok(())
    }

    fn sql(&self, project: &str, environment: Option<&str>, query: &str) -> Result<(bool, String, String)> {
        let mut command = weir();
        command.args(["sql", "--format", "json", "--project", project, "--store"]).arg(&self.store);
        command.args(environment.iter().flat_map(|environment| ["--env", environment])).arg(query);
        let output = command.output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.success(), text(output.stdout), text(output.stderr)))
    }

    fn look_at_rows(&self, project: usize, random: &mut Random) -> Result<()> {
        let slug = &self.plan.projects[project];
        let own = self.own(project);
        let all: BTreeSet<String> = own.values().flatten().cloned().collect();
        if all.is_empty() {
            return Ok(());
        }
        let (good, rows, said) = self.sql(slug, None, "SELECT * FROM spans")?;
        ensure!(good, "{said}");
        let seen = markers(&self.plan.tag, &rows);
        ensure!(seen == all, "{slug} sees {:?}, misses {:?}", minus(&seen, &all), minus(&all, &seen));
        let rows: Vec<Value> = serde_json::from_str(&rows)?;
        ensure!(rows.len() == all.len(), "{slug} has {} rows of {} spans", rows.len(), all.len());
        for row in rows {
            let environment = row["environment"].as_str().unwrap_or_default();
            let marker = markers(&self.plan.tag, row["name"].as_str().unwrap_or_default()).pop_first();
            let is_there = own.get(environment).zip(marker.as_ref()).is_some_and(|(own, marker)| own.contains(marker));
            ensure!(is_there, "{marker:?} is in {environment} of {slug}");
        }
        // One environment alone, its own or somebody else's.
        let of = random.below(self.plan.projects.len());
        let environment = self.plan.environment(of, random.below(4));
        let (good, rows, said) =
            self.sql(slug, Some(&environment), "SELECT * FROM spans WHERE true OR environment <> ''")?;
        ensure!(good, "{said}");
        let (seen, expected) =
            (markers(&self.plan.tag, &rows), own.get(environment.as_str()).cloned().unwrap_or_default());
        ensure!(seen == expected, "{slug}/{environment} sees {seen:?}, not {expected:?}");
        Ok(())
    }

    /// Statements that try to see other tables, other environments, files and the process.
    fn ask_hostile_questions(&self, random: &mut Random) -> Result<()> {
        let count = self.plan.projects.len();
        let project = random.below(count);
        let other = &self.plan.projects[(project + 1 + random.below(count - 1)) % count];
        let environment = random.pick(&ENVIRONMENTS);
        let (lake, stolen) = (self.store.display().to_string(), self.store.join("stolen"));
        let files = format!("{lake}/projects/{other}/spans/environment=prd");
        let out = stolen.display();
        let statements = [
            format!("SELECT * FROM '{files}/'"),
            format!("SELECT * FROM \"{files}\""),
            format!("SELECT * FROM \"file://{lake}/projects/{other}/spans/\""),
            format!("SELECT * FROM \"../{other}/spans\""),
            format!("SELECT * FROM \"{other}\".spans"),
            format!("SELECT * FROM datafusion.\"{other}\".spans"),
            format!("SELECT * FROM read_parquet('{files}')"),
            format!("SELECT * FROM parquet_metadata('{files}')"),
            format!("SELECT * FROM delta_scan('{lake}/projects/{other}/spans')"),
            format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{files}/'"),
            format!("SELECT 1; CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{files}/'; SELECT * FROM t"),
            format!("COPY (SELECT * FROM spans) TO '{out}'"),
            format!("COPY spans TO '{out}' STORED AS PARQUET"),
            "CREATE VIEW spans AS SELECT 1".to_owned(),
            "DELETE FROM spans".to_owned(),
            "INSERT INTO spans SELECT * FROM spans".to_owned(),
            "DROP TABLE spans".to_owned(),
            "SET datafusion.catalog.location = '/'".to_owned(),
            "SHOW ALL".to_owned(),
            "SELECT * FROM information_schema.tables".to_owned(),
            "SELECT * FROM information_schema.df_settings".to_owned(),
            "EXPLAIN ANALYZE VERBOSE SELECT * FROM spans".to_owned(),
            "PREPARE p AS SELECT * FROM spans".to_owned(),
            "WITH spans AS (SELECT * FROM spans) SELECT * FROM spans".to_owned(),
            format!("SELECT * FROM spans UNION ALL SELECT * FROM \"{other}\""),
            format!("SELECT * FROM spans WHERE project = '{other}' OR environment = 'prd'"),
            format!("SELECT * FROM spans, LATERAL (SELECT * FROM \"{other}\") x"),
        ];
        let slug = &self.plan.projects[project];
        let expected = self.own(project).get(environment).cloned().unwrap_or_default();
        for _ in 0..4 {
            let statement = random.pick(&statements);
            let (_, rows, said) = self.sql(slug, Some(environment), statement)?;
            let seen = markers(&self.plan.tag, &rows);
            ensure!(seen.is_subset(&expected), "{slug}/{environment} sees {seen:?} by {statement}");
            ensure!(markers(&self.plan.tag, &said).is_empty() && !said.contains("panicked"), "{statement}: {said}");
        }
        ensure!(!stolen.exists(), "a statement has written a file");
        let tricks =
            [format!("../{other}"), format!("{slug}/../{other}"), format!("{other}.1"), format!("{slug} {other}")];
        let (good, rows, said) = self.sql(random.pick::<String>(&tricks), None, "SELECT * FROM spans")?;
        ensure!(!good && rows.is_empty() && said.contains("is no slug"), "{rows} {said}");
        let (_, rows, _) = self.sql(slug, Some("' OR environment <> '"), "SELECT * FROM spans")?;
        ensure!(markers(&self.plan.tag, &rows).is_empty(), "an environment is a condition: {rows}");
        Ok(())
    }

    fn look_at_destinations(&self) -> Result<()> {
        for (project, sink) in self.sinks.iter().enumerate() {
            let own = self.own(project);
            // Odd ones get what is of `prd` alone.
            let wanted = own.iter().filter(|(environment, _)| project % 2 == 0 || **environment == "prd");
            let wanted: BTreeSet<String> = wanted.flat_map(|(_, markers)| markers.clone()).collect();
            let mut seen = BTreeSet::new();
            for received in sink.requests() {
                let headers = format!("{:?}", received.headers);
                self.says_nothing(&headers)?;
                seen.append(&mut markers(&self.plan.tag, &String::from_utf8_lossy(&received.body)));
                for span in Batch::decode(Signal::Traces, received.body)?.spans() {
                    let claims = ["weir.project", "weir.environment"].map(|key| span.resource_attributes().get(key));
                    ensure!(claims.iter().all(Option::is_none), "a claim of {} went on", span.name());
                }
            }
            let slug = &self.plan.projects[project];
            ensure!(seen.is_subset(&wanted), "{slug} was sent {:?}", minus(&seen, &wanted));
            // The first one has refused some.
            ensure!(project == 0 || seen == wanted, "{slug} was not sent {:?}", minus(&wanted, &seen));
        }
        ensure!(self.believer.requests().is_empty(), "a claim was believed");
        Ok(())
    }

    /// Names in the store are those that somebody has made.
    fn look_at_folders(&self) -> Result<()> {
        let names = |path: PathBuf| -> Result<Vec<String>> {
            let Ok(entries) = std::fs::read_dir(path) else { return Ok(Vec::new()) };
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        for folder in names(self.store.join("projects"))? {
            let project = self.plan.projects.iter().position(|slug| *slug == folder);
            let project = project.with_context(|| format!("nobody has made {folder}"))?;
            let own = self.own(project);
            for partition in names(self.store.join("projects").join(&folder).join("spans"))? {
                let Some(environment) = partition.strip_prefix("environment=") else { continue };
                ensure!(own.contains_key(environment), "{folder} has {partition}");
            }
        }
        Ok(())
    }

    fn look_at_metrics(&self, page: &str) -> Result<()> {
        self.shows_no_secret(page)?;
        let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let label = |name: &str| Some(line.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_owned());
            let (Some(project), Some(environment)) = (label("project"), label("environment")) else {
                ensure!(label("project").is_none(), "{line}");
                continue;
            };
            let records = counted.entry((project, environment)).or_default();
            if ["weir_tenant_accepted_records", "weir_tenant_refused_records"].iter().any(|name| line.starts_with(name))
            {
                *records += line.rsplit(' ').next().context("no value")?.parse::<f64>()? as usize;
            }
        }
        let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (project, environment) in self.taken.values() {
            *expected.entry((self.plan.projects[*project].clone(), environment.clone())).or_default() += 1;
        }
        // Who has shown a key and sent nothing.
        counted.retain(|_, records| *records > 0);
        ensure!(counted == expected, "the metrics say {counted:?}, not {expected:?}");
        Ok(())
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

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').filter(|word| !word.is_empty())
}

/// What spans are marked with, wherever it is in a text.
fn markers(tag: &str, text: &str) -> BTreeSet<String> {
    let begin = format!("mk{tag}s");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(&begin) {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        found.insert(rest[..end].to_owned());
    }
    found
}

fn minus(from: &BTreeSet<String>, other: &BTreeSet<String>) -> Vec<String> {
    from.difference(other).cloned().collect()
}

/// The JSON of an answer that begins with its headers.
fn body(answer: &str) -> Result<Value> {
    let (_, body) = answer.split_once("} ").context("no headers")?;
    Ok(serde_json::from_str(body)?)
}
