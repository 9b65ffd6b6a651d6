//! The catalog of a running processor, which a refresh replaces.
//!
//! All lanes share one [`LiveCatalog`]; each looks at a counter per batch ([`CatalogWatch::changed`]) and takes the new
//! catalog when it has moved, so that all spans of a batch are priced with one catalog. A thread looks at the files; it
//! ends with the last owner. A refresh that fails changes nothing: it is logged, counted, and tried again.
//!
//! | metric | meaning |
//! |---|---|
//! | `weir_cost_catalog_refreshes{processor, result}` | refreshes that found something `changed`, `unchanged`, or `failed` |
//! | `weir_cost_catalog_age_seconds{processor}` | level: how old the prices are, by the date of their source |
//! | `weir_cost_catalog_stale{processor}` | level: 1 while they are older than `max_age` |
//! | `weir_cost_catalog_info{processor, version}` | level: 1 for the version in use |
//! | `weir_cost_catalog_models{processor}` | level: models that have prices |
//! | `weir_cost_catalog_silence_seconds{processor}` | level, if prices come from URLs: how long ago the last of them told its latest version; 0 until it first has |

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use weir_pipeline::clock::Environment;
use weir_pipeline::fetch::Fetch;
use weir_pipeline::telemetry::{Counter, Telemetry};

use super::files::{self, Files, Loaded, NO_FETCHER};
use super::settings::{CatalogSettings, OverlaySource, Place};
use super::sources::Sources;
use super::{Catalog, Litellm};

/// A catalog that can change.
#[derive(Debug)]
pub struct LiveCatalog {
    shared: Arc<Shared>,
    /// Set once the thread runs.
    thread: OnceLock<()>,
}

#[derive(Debug)]
struct Shared {
    settings: CatalogSettings,
    fetcher: Option<Arc<dyn Fetch>>,
    processor: String,
    environment: Environment,
    telemetry: Telemetry,
    current: RwLock<Arc<Catalog>>,
    /// Moves with each new catalog.
    generation: AtomicU64,
    state: Mutex<State>,
    stop: AtomicBool,
    /// Woken to stop.
    wake: (Mutex<()>, Condvar),
}

/// What the last refresh found.
#[derive(Debug, Default)]
struct State {
    sources: Sources,
    files: Files,
    history: String,
    is_stale: bool,
}

/// What a refresh came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// There are new prices.
    Changed,
    /// The files are as they were.
    Unchanged,
    /// The old catalog stays, for this reason.
    Failed(String),
}

/// How often the age is brought up to date, at least.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl LiveCatalog {
    /// Loads the catalog that the settings describe.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn open(
        settings: CatalogSettings,
        processor: &str,
        telemetry: &Telemetry,
        environment: &Environment,
        fetcher: Option<Arc<dyn Fetch>>,
    ) -> Result<Self, String> {
        let mut sources = Sources::open(&settings);
        if !sources.is_empty() && fetcher.is_none() {
            return Err(NO_FETCHER.to_owned());
        }
        let mut files = Files::read(&settings, &sources)?;
        let has_copies = sources.catalog().is_some() || sources.litellm().is_some();
        if has_copies && let Err(problem) = files.load(&settings, files.history(), seconds(environment)) {
            tracing::warn!(%processor, problem, "the kept copies of price lists are not used");
            sources.forget();
            files = Files::read(&settings, &sources)?;
        }
        let is_default = settings.path.is_none() && settings.litellm.is_none() && settings.history.is_none();
        let (catalog, history) = if is_default && settings.overlay.is_none() {
            // Shared by all processors, and loaded without a history that nothing can replace.
            (Catalog::embedded().map_err(|e| e.to_string())?, String::new())
        } else {
            let Loaded { catalog, litellm, history } = files.load(&settings, files.history(), seconds(environment))?;
            report(processor, &litellm);
            (Arc::new(catalog), history)
        };
        let state = State { sources, files, history, is_stale: false };
        let mut shared = Shared::new(settings, processor, telemetry, environment, catalog, state);
        shared.fetcher = fetcher;
        shared.publish(&shared.current());
        shared.measure_age();
        Ok(Self { shared: Arc::new(shared), thread: OnceLock::new() })
    }

    /// A catalog that stays as it is, outside of any graph.
    pub fn fixed(catalog: Arc<Catalog>) -> Self {
        let (settings, environment) = (CatalogSettings::default(), Environment::with(|| 0, 0));
        let shared = Shared::new(settings, "", &Telemetry::default(), &environment, catalog, State::default());
        Self { shared: Arc::new(shared), thread: OnceLock::new() }
    }

    /// The catalog as it is now.
    pub fn current(&self) -> Arc<Catalog> {
        self.shared.current()
    }

    /// A lane's view of it, and the catalog as it is now.
    pub fn watch(&self) -> (CatalogWatch, Arc<Catalog>) {
        let seen = self.shared.generation.load(Ordering::Acquire);
        (CatalogWatch { shared: Arc::clone(&self.shared), seen }, self.current())
    }

    /// Lets a thread refresh it from now on. Without effect if one does.
    pub fn start(&self) {
        self.thread.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            let spawned = thread::Builder::new().name("weir-prices".to_owned()).spawn(move || shared.run());
            if let Err(e) = spawned {
                tracing::error!(processor = %self.shared.processor, "prices will not be refreshed: no thread: {e}");
            }
        });
    }

    /// Looks at the files and URLs now, and waits for the answers.
    pub fn refresh(&self) -> Refresh {
        self.shared.refresh()
    }
}

impl Drop for LiveCatalog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Taken, so that the thread is either before its look at `stop` or asleep.
        drop(lock(&self.shared.wake.0));
        self.shared.wake.1.notify_all();
    }
}

/// A lane's view of a catalog that can change.
#[derive(Debug)]
pub struct CatalogWatch {
    shared: Arc<Shared>,
    seen: u64,
}

impl CatalogWatch {
    /// The new catalog, if there is one since the last look.
    #[inline]
    pub fn changed(&mut self) -> Option<Arc<Catalog>> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == self.seen {
            return None;
        }
        self.seen = generation;
        Some(self.shared.current())
    }
}

impl Shared {
    fn new(
        settings: CatalogSettings,
        processor: &str,
        telemetry: &Telemetry,
        environment: &Environment,
        catalog: Arc<Catalog>,
        state: State,
    ) -> Self {
        Self {
            settings,
            fetcher: None,
            processor: processor.to_owned(),
            environment: environment.clone(),
            telemetry: telemetry.clone(),
            current: RwLock::new(catalog),
            generation: AtomicU64::new(0),
            state: Mutex::new(state),
            stop: AtomicBool::new(false),
            wake: (Mutex::new(()), Condvar::new()),
        }
    }

    fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self) {
        self.keep_history();
        let interval = self.settings.refresh_interval;
        // What is at a URL has not been looked at yet.
        let mut since_refresh = if self.has_urls() { interval } else { Duration::ZERO };
        loop {
            let pause = MAX_PAUSE.min(interval.saturating_sub(since_refresh)).max(Duration::from_millis(1));
            let guard = lock(&self.wake.0);
            let is_running = |_: &mut ()| !self.stop.load(Ordering::Acquire);
            let (guard, _) =
                self.wake.1.wait_timeout_while(guard, pause, is_running).unwrap_or_else(PoisonError::into_inner);
            drop(guard);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            since_refresh += pause;
            if since_refresh >= interval {
                since_refresh = Duration::ZERO;
                if self.has_files() {
                    self.refresh();
                }
            }
            self.measure_age();
        }
    }

    fn has_urls(&self) -> bool {
        [&self.settings.path, &self.settings.litellm].into_iter().any(|place| matches!(place, Some(Place::Url(_))))
    }

    fn has_files(&self) -> bool {
        let overlay = matches!(self.settings.overlay, Some(OverlaySource::File(_)));
        self.settings.path.is_some() || self.settings.litellm.is_some() || overlay
    }

    fn refresh(&self) -> Refresh {
        let result = self.try_refresh().unwrap_or_else(Refresh::Failed);
        let label = match &result {
            Refresh::Changed => "changed",
            Refresh::Unchanged => "unchanged",
            Refresh::Failed(problem) => {
                tracing::error!(processor = %self.processor, "prices stay as they were: {problem}");
                "failed"
            }
        };
        let labels = [("processor", self.processor.as_str()), ("result", label)];
        self.telemetry.counter("weir_cost_catalog_refreshes", &labels).add(1);
        result
    }

    fn try_refresh(&self) -> Result<Refresh, String> {
        let mut state = lock(&self.state);
        let now = seconds(&self.environment);
        let (sources, problems) = match &self.fetcher {
            Some(fetcher) => state.sources.fetch(&**fetcher, now),
            None => (state.sources.clone(), Vec::new()),
        };
        // One server that is away does not keep the others, or a file, from being looked at.
        let result = self.adopt(&mut state, sources, now);
        match (result, problems.first()) {
            (Ok(_), Some(problem)) => Err(problem.clone()),
            (result, _) => result,
        }
    }

    /// Makes a catalog of what is there now, if that is something else than before.
    fn adopt(&self, state: &mut State, sources: Sources, now: i64) -> Result<Refresh, String> {
        let files = Files::read(&self.settings, &sources)?;
        if files.has_same_prices(&state.files) {
            state.sources = sources;
            return Ok(Refresh::Unchanged);
        }
        // What was there before the first answer is not what the list said before.
        let is_first = !state.sources.is_complete();
        let known = if is_first { state.files.history() } else { Some(state.history.as_str()) };
        let older = known.filter(|history| !history.is_empty());
        let Loaded { catalog, litellm, history } = files.load(&self.settings, older, now)?;
        let kept = self.settings.history.as_deref().map(|file| files::replace(file, &history));
        let copied = sources.keep(&state.sources);
        report(&self.processor, &litellm);
        tracing::info!(processor = %self.processor, version = catalog.version(), "new prices");
        state.files = files;
        state.history = history;
        state.sources = sources;
        let catalog = Arc::new(catalog);
        let older =
            std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), Arc::clone(&catalog));
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.info(older.version()).set(0);
        self.publish(&catalog);
        match (kept, copied) {
            (Some(Err(e)), _) => Err(format!("the new ones are used, but their history is not kept: {e}")),
            (_, Err(e)) => Err(format!("the new ones are used, but no copy of them is kept: {e}")),
            _ => Ok(Refresh::Changed),
        }
    }

    /// Writes down what is known at the start, so that a file that changes while nothing runs replaces nothing.
    fn keep_history(&self) {
        let state = lock(&self.state);
        if let Some(file) = &self.settings.history
            && state.files.history() != Some(&*state.history)
            && let Err(e) = files::replace(file, &state.history)
        {
            tracing::error!(processor = %self.processor, "the history of prices is not kept: {}: {e}", file.display());
        }
    }

    fn publish(&self, catalog: &Catalog) {
        self.info(catalog.version()).set(1);
        self.level("weir_cost_catalog_models").set(catalog.model_count());
    }

    fn measure_age(&self) {
        let age = u64::try_from(seconds(&self.environment) - self.current().date_unix_seconds()).unwrap_or(0);
        self.level("weir_cost_catalog_age_seconds").set(age as usize);
        if self.has_urls() {
            let silence = lock(&self.state).sources.silence(seconds(&self.environment));
            self.level("weir_cost_catalog_silence_seconds").set(silence.unwrap_or(0) as usize);
        }
        let Some(max_age) = self.settings.max_age else { return };
        let is_stale = age > max_age.as_secs();
        self.level("weir_cost_catalog_stale").set(usize::from(is_stale));
        let mut state = lock(&self.state);
        if is_stale && !state.is_stale {
            let version = self.current().version().to_owned();
            tracing::warn!(processor = %self.processor, %version, "prices are {} days old", age / 86_400);
        }
        state.is_stale = is_stale;
    }

    fn info(&self, version: &str) -> Counter {
        let labels = [("processor", self.processor.as_str()), ("version", version)];
        self.telemetry.gauge("weir_cost_catalog_info", &labels)
    }

    fn level(&self, name: &str) -> Counter {
        self.telemetry.gauge(name, &[("processor", self.processor.as_str())])
    }
}

/// What of a LiteLLM file could not be used.
fn report(processor: &str, litellm: &Litellm) {
    let Litellm { models, unpriced, problems } = litellm;
    if let Some(first) = problems.first() {
        let count = problems.len();
        tracing::warn!(%processor, models, unpriced, "{count} entries of the LiteLLM file are not used: {first} …");
    }
}

fn seconds(environment: &Environment) -> i64 {
    (environment.now_unix_nanos() / 1_000_000_000) as i64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
