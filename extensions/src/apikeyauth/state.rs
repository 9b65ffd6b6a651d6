//! What is known of the registry, and the task that keeps it so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_pipeline::metadata::Identity;
use weir_pipeline::telemetry::{Counter, Telemetry};
use weir_pipeline::tenant::{Directory, Look, Registry, Slug, StaticKey, Tenant, Unreachable};

/// The directory as of the last look.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) directory: Arc<Directory>,
    /// Whether a key that is not in it is none.
    pub(super) is_complete: bool,
    /// Counts the directories there were.
    pub(super) version: u64,
    /// Whose data are that belong to nobody else; `None` if that project is on its way out, or gone.
    pub(super) default: Option<Arc<Identity>>,
}

impl Known {
    fn new(directory: Arc<Directory>, is_complete: bool, version: u64, default: &Tenant) -> Arc<Self> {
        let default = directory.resolve(default).ok().map(|tenant| Arc::new(Identity::of_tenant(&Arc::new(tenant))));
        Arc::new(Self { directory, is_complete, version, default })
    }
}

/// What all lanes ask.
pub(super) struct State {
    id: String,
    registry: Option<Arc<dyn Registry>>,
    known: RwLock<Arc<Known>>,
    /// Whose data are that belong to nobody else, as the configuration says.
    default: Arc<Tenant>,
    /// Uses up to this time are written down, in nanoseconds since the epoch.
    noted: AtomicU64,
    projects: Counter,
    keys: Counter,
    incomplete: Counter,
    failures: Counter,
    /// Whether the last look failed, which is logged when it changes.
    failing: std::sync::atomic::AtomicBool,
}

impl State {
    pub(super) fn new(
        id: &str,
        registry: Option<Arc<dyn Registry>>,
        keys: &[StaticKey],
        default: &Arc<Tenant>,
        telemetry: &Telemetry,
    ) -> Self {
        let labels = [("extension", id)];
        let directory = Arc::new(Directory::new(Arc::default(), [], [], keys));
        let state = Self {
            id: id.to_owned(),
            known: RwLock::new(Known::new(directory, registry.is_none(), 0, default)),
            default: Arc::clone(default),
            registry,
            noted: AtomicU64::new(0),
            projects: telemetry.gauge("weir_registry_projects", &labels),
            keys: telemetry.gauge("weir_registry_keys", &labels),
            incomplete: telemetry.gauge("weir_registry_incomplete", &labels),
            failures: telemetry.counter("weir_registry_failed_reads", &labels),
            failing: std::sync::atomic::AtomicBool::new(false),
        };
        state.measure();
        state
    }

    pub(super) fn has_registry(&self) -> bool {
        self.registry.is_some()
    }

    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn measure(&self) {
        let known = self.known();
        self.projects.set(known.directory.projects().len());
        self.keys.set(known.directory.key_count());
        self.incomplete.set(usize::from(!known.is_complete));
    }

    /// Looks at the registry. A failure is counted, and logged when it is the first.
    pub(super) async fn look(&self) {
        let Some(registry) = &self.registry else { return };
        match registry.look().await {
            Ok(look) => {
                self.take(look);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(extension = self.id, "the registry of API keys can be read again");
                }
            }
            Err(Unreachable(error)) => {
                self.failures.add(1);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let extension = self.id.as_str();
                    tracing::warn!(
                        extension,
                        error,
                        "the registry of API keys cannot be read; what is known stays valid"
                    );
                }
            }
        }
    }

    fn take(&self, Look { directory, unreadable, is_complete }: Look) {
        for message in unreadable {
            tracing::error!(
                extension = self.id,
                "{message}; keys that are not known may be in it, and are told to come again"
            );
        }
        let former = self.known();
        if Arc::ptr_eq(&former.directory, &directory) && former.is_complete == is_complete {
            return;
        }
        directory.remember(&former.directory);
        let known = Known::new(directory, is_complete, former.version + 1, &self.default);
        self.warn_of_shut(&former, &known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.measure();
    }

    /// Tells of what the configuration names and the registry does not take, when that has changed.
    fn warn_of_shut(&self, former: &Known, known: &Known) {
        for tenant in known.directory.shut().iter().filter(|tenant| !former.directory.shut().contains(tenant)) {
            tracing::warn!(
                extension = self.id,
                "a key of the configuration is for {tenant} and opens nothing: that is deleted, or has no such environment"
            );
        }
        if known.default.is_none() && former.default.is_some() {
            let (extension, default) = (self.id.as_str(), &self.default);
            tracing::warn!(
                extension,
                "nothing is taken for the default, {default}: it is deleted, or not an environment"
            );
        }
    }

    /// Makes projects and environments, and looks at what came of it.
    pub(super) async fn ensure(&self, wanted: &[(Slug, Slug)]) -> Result<(), Unreachable> {
        let Some(registry) = &self.registry else { return Ok(()) };
        registry.ensure(wanted).await?;
        self.take(registry.look().await?);
        Ok(())
    }

    /// Writes down when keys were last used. Only for people to see, so a failure is no more than a line in the log.
    pub(super) async fn note_uses(&self) {
        let Some(registry) = &self.registry else { return };
        let uses: Vec<_> = self.known().directory.uses(self.noted.load(Ordering::Relaxed)).collect();
        let Some(latest) = uses.iter().map(|key| key.used_unix_nano).max() else { return };
        match registry.note_uses(uses).await {
            Ok(()) => self.noted.store(latest, Ordering::Relaxed),
            Err(error) => tracing::warn!(extension = self.id, "the last use of API keys cannot be noted: {error}"),
        }
    }

    /// Looks again and again.
    pub(super) async fn follow(&self, every: Duration, note_every: Duration) {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut noted = Instant::now();
        loop {
            looks.tick().await;
            self.look().await;
            if noted.elapsed() >= note_every {
                noted = Instant::now();
                self.note_uses().await;
            }
        }
    }
}
