//! What each may see, looked at from everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;

use super::super::plan::{ENVIRONMENTS, Random};
use super::super::support::client::metrics;
use super::super::support::weir;
use super::{ADMIN_KEY, World, body};

impl World<'_> {
    /// Whether a text that anybody may see has nothing that belongs to somebody.
    pub(super) fn says_nothing(&self, text: &str) -> Result<()> {
        self.shows_no_secret(text)?;
        for project in 0..self.plan.projects.len() {
            self.says_nothing_of(project, text)?;
        }
        Ok(())
    }

    /// Whether a text shows neither keys nor spans, nor takes a forged name for one.
    pub(super) fn shows_no_secret(&self, text: &str) -> Result<()> {
        let secret = self.keys.iter().find(|key| text.contains(&key.secret));
        ensure!(secret.is_none() && !text.contains(ADMIN_KEY), "a key is shown: {text}");
        let marker = markers(&self.plan.tag, text).pop_first();
        ensure!(marker.is_none(), "the span {marker:?} is shown: {text}");
        ensure!(!text.contains(&format!("forged-{}", self.plan.tag)), "a forged name counts: {text}");
        Ok(())
    }

    /// Whether a text has neither a project's name nor that of its environment, nor what its keys are recognised by.
    pub(super) fn says_nothing_of(&self, project: usize, text: &str) -> Result<()> {
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
