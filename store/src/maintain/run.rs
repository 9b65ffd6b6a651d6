//! One pass over everything.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_pipeline::tenant::{Organization, Project};

use super::folders::Folders;
use super::retain::retain;
use super::spans::Spans;
use super::vacuum::vacuum;
use super::{Freed, MaintainError, Maintenance, Removed, Stored};
use crate::objects::one_line;
use crate::registry::{Census, RegistryError};

/// What a pass did, or with a dry run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Deletions that others had begun.
    pub finished: Vec<Finished>,
    /// What had arrived late of projects that were deleted before, by their folder.
    pub swept: BTreeMap<String, Removed>,
    /// Spans past their retention that left the table, by project and environment.
    pub expired: BTreeMap<String, Stored>,
    /// Files that were deleted because no query needs them, by project.
    pub vacuumed: BTreeMap<String, Freed>,
    /// What could not be done; the rest was.
    pub problems: Vec<String>,
}

/// A deletion that was begun before and is complete now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finished {
    /// `project`, `environment`.
    pub kind: &'static str,
    /// `web-app`, `web-app/qa`, or `qa` for one of the organization.
    pub name: String,
    /// What was left, by project; nothing in a dry run.
    pub removed: BTreeMap<String, Removed>,
}

impl Report {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Maintenance {
    /// Finishes deletions, sweeps what came after them, takes spans past their retention out of all tables, and deletes
    /// files that nobody needs. A project that cannot be looked after is in [`Report::problems`] and does not keep the
    /// others from it. With `dry_run` nothing is changed and the report says what would be.
    ///
    /// # Errors
    /// If the registry or the store cannot be read at all.
    pub async fn run(&self, dry_run: bool) -> Result<Report, MaintainError> {
        let mut report = Report::default();
        let organization = self.organization().await?;
        let census = self.registry.census().await?;
        let Census { projects, unreadable, .. } = &census;
        // What an unreadable project has said about its retention is not known: its spans are left alone.
        let skipped: Vec<String> = unreadable.iter().filter_map(RegistryError::project).collect();
        report.problems.extend(unreadable.iter().map(|error| one_line(error)));
        self.finish(&organization, projects, dry_run, &mut report).await;
        let known: BTreeMap<String, &Project> = projects.iter().map(|p| (p.folder(), p)).collect();
        let folders = Folders::new(&self.root);
        for name in folders.projects().await? {
            let project = known.get(name.as_str()).copied();
            // A later project of a slug has a folder of its own.
            let slug = name.split_once('.').map_or(name.as_str(), |(slug, _)| slug);
            if skipped.iter().any(|skipped| skipped == slug) || project.is_some_and(|project| project.deleting) {
                continue;
            }
            let done = match census.is_former(&name) {
                true => self.sweep(&name, dry_run, &mut report).await,
                false => self.tend(&folders, &name, project, &organization, dry_run, &mut report).await,
            };
            if let Err(error) = done {
                report.problems.push(format!("project {name}: {}", one_line(&error)));
            }
        }
        Ok(report)
    }

    /// Deletes what is left of a project that was deleted: a collector that could not reach the store for long, or has no
    /// registry, may have written it afterwards.
    async fn sweep(&self, name: &str, dry_run: bool, report: &mut Report) -> Result<(), MaintainError> {
        let removed = match dry_run {
            true => self.left_of(name).await?,
            false => self.erase_project(name).await?,
        };
        if !removed.is_empty() {
            report.swept.insert(name.to_owned(), removed);
        }
        Ok(())
    }

    /// Looks after the table of one project.
    async fn tend(
        &self,
        folders: &Folders<'_>,
        name: &str,
        project: Option<&Project>,
        organization: &Organization,
        dry_run: bool,
        report: &mut Report,
    ) -> Result<(), MaintainError> {
        let Some(mut spans) = Spans::open(&self.root, name).await? else { return Ok(()) };
        let retention = project.map(|project| &project.retention);
        let expired = retain(&mut spans, retention, &organization.retention, self, dry_run).await?;
        if !expired.is_empty() {
            report.expired.insert(name.to_owned(), expired);
        }
        let now = self.clock.now_unix_nanos();
        let freed = vacuum(folders, name, &mut spans, &self.settings, now, dry_run).await?;
        if freed != Freed::default() {
            report.vacuumed.insert(name.to_owned(), freed);
        }
        Ok(())
    }

    /// Finishes what was marked for deletion.
    async fn finish(&self, organization: &Organization, projects: &[Project], dry_run: bool, report: &mut Report) {
        for environment in organization.environments.iter().filter(|e| e.deleting) {
            let removed = match dry_run {
                true => Ok(BTreeMap::new()),
                false => self.delete_organization_environment(&environment.slug).await,
            };
            report.note("environment", environment.slug.to_string(), removed);
        }
        for project in projects {
            let of = |removed| BTreeMap::from([(project.slug.to_string(), removed)]);
            if project.deleting {
                let removed = match dry_run {
                    true => Ok(BTreeMap::new()),
                    false => self.delete_project(&project.slug).await.map(of),
                };
                report.note("project", project.slug.to_string(), removed);
                continue;
            }
            for environment in project.environments.iter().filter(|e| e.deleting) {
                let removed = match dry_run {
                    true => Ok(BTreeMap::new()),
                    false => self.delete_environment(&project.slug, &environment.slug).await.map(of),
                };
                report.note("environment", format!("{}/{}", project.slug, environment.slug), removed);
            }
        }
    }
}

impl Report {
    fn note(&mut self, kind: &'static str, name: String, removed: Result<BTreeMap<String, Removed>, MaintainError>) {
        match removed {
            Ok(removed) => self.finished.push(Finished { kind, name, removed }),
            Err(error) => self.problems.push(format!("deletion of {kind} {name}: {}", one_line(&error))),
        }
    }
}
