mod fetched;

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::*;

const DAY: u64 = 86_400_000_000_000;

/// A folder with a catalog, and a clock that a test sets.
struct Setting {
    folder: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    telemetry: Telemetry,
}

impl Setting {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(AtomicU64::new(20_000 * DAY)),
            telemetry: Telemetry::default(),
        }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    fn open(&self, settings: CatalogSettings) -> Result<LiveCatalog, String> {
        self.open_with(settings, None)
    }

    fn open_with(&self, settings: CatalogSettings, fetcher: Option<Arc<dyn Fetch>>) -> Result<LiveCatalog, String> {
        let clock = Arc::clone(&self.clock);
        let environment = Environment::with(move || clock.load(Ordering::Relaxed), 1);
        LiveCatalog::open(settings, "cost", &self.telemetry, &environment, fetcher)
    }

    fn settings(&self) -> CatalogSettings {
        CatalogSettings { path: Some(self.folder.path().join("prices.json").into()), ..CatalogSettings::default() }
    }

    fn level(&self, name: &str) -> u64 {
        self.telemetry.sum(name)
    }

    fn refreshes(&self, result: &str) -> u64 {
        self.telemetry.counter("weir_cost_catalog_refreshes", &[("processor", "cost"), ("result", result)]).get()
    }
}

fn catalog(rate: &str) -> String {
    format!(
        r#"{{"format":2,"source":{{"name":"n","date":"2024-10-04","license":"","sha256":""}},"providers":[
        {{"id":"p","name":"P","models":[{{"id":"m","match":{{"equals":"m"}},"prices":[{{"id":"p/m","rates":{{"input":"{rate}"}}}}]}}]}}]}}"#
    )
}

/// The id of the price and the rate of the only model at a time.
fn price(catalog: &Catalog, time: u64) -> (String, String) {
    let price = catalog.price_at(catalog.models().next().unwrap(), time).unwrap();
    let mut amount = crate::cost::money::Amount::default();
    price.rates(1).add(&mut amount, super::super::Unit::Input, 1_000_000);
    (price.id().to_owned(), amount.finish().to_string())
}

#[test]
fn a_refresh_changes_prices_from_then_on() {
    let setting = Setting::new();
    setting.write("prices.json", &catalog("1"));
    let live = setting.open(setting.settings()).unwrap();
    let (mut watch, first) = live.watch();
    assert!(watch.changed().is_none());
    assert_eq!(live.refresh(), Refresh::Unchanged);
    assert_eq!(setting.level("weir_cost_catalog_models"), 1);

    setting.write("prices.json", &catalog("2"));
    setting.clock.store(20_001 * DAY, Ordering::Relaxed);
    assert_eq!(live.refresh(), Refresh::Changed);
    let second = watch.changed().unwrap();
    assert!(watch.changed().is_none());
    assert_ne!(first.version(), second.version());
    assert_eq!(price(&second, 20_001 * DAY - 1), ("p/m".into(), "1".into()), "the call's own time decides");
    assert_eq!(price(&second, 20_001 * DAY), ("p/m~2024-10-05".into(), "2".into()));
    assert_eq!(price(&first, 20_001 * DAY).1, "1", "a batch under way keeps its catalog");
    let labels = |version: &str| {
        setting.telemetry.counter("weir_cost_catalog_info", &[("processor", "cost"), ("version", version)]).get()
    };
    assert_eq!((labels(first.version()), labels(second.version())), (0, 1));
}

#[test]
fn a_broken_file_keeps_the_old_prices() {
    let setting = Setting::new();
    let file = setting.write("prices.json", &catalog("1"));
    let live = setting.open(setting.settings()).unwrap();
    let (mut watch, _) = live.watch();
    for broken in ["", "{", "null", &catalog("NaN"), &catalog("-1"), &catalog("9223372036854775808"), &catalog("1 ")] {
        fs::write(&file, broken).unwrap();
        let Refresh::Failed(problem) = live.refresh() else { panic!("{broken}") };
        assert!(problem.contains("prices.json: "), "{problem}");
    }
    fs::remove_file(&file).unwrap();
    let Refresh::Failed(problem) = live.refresh() else { panic!("it is gone") };
    assert!(problem.contains("cannot read"), "{problem}");
    assert!(watch.changed().is_none());
    assert_eq!(setting.refreshes("failed"), 8);
    // Back again, it is what it was.
    setting.write("prices.json", &catalog("1"));
    assert_eq!(live.refresh(), Refresh::Unchanged);
}

#[test]
fn what_cannot_be_used_stops_the_start() {
    let setting = Setting::new();
    assert!(setting.open(setting.settings()).unwrap_err().contains("cannot read"));
    setting.write("prices.json", "{");
    assert!(setting.open(setting.settings()).unwrap_err().contains("prices.json: the price catalog is not readable"));
    let overlay = setting.write("own.yaml", "prices:\n  - {provider: p, model: m, rates: {input: -1}}\n");
    setting.write("prices.json", &catalog("1"));
    let settings = CatalogSettings { overlay: Some(OverlaySource::File(overlay)), ..setting.settings() };
    let problem = setting.open(settings).unwrap_err();
    assert!(problem.contains("own.yaml:2:") && problem.contains("a rate is a plain decimal"), "{problem}");
}

#[test]
fn overlays_and_litellm_files_are_refreshed_too() {
    let setting = Setting::new();
    let overlay = setting.write("own.yaml", "");
    let litellm = setting.write("litellm.json", "{}");
    setting.write("prices.json", &catalog("1"));
    let settings = CatalogSettings {
        overlay: Some(OverlaySource::File(overlay)),
        litellm: Some(litellm.into()),
        ..setting.settings()
    };
    let live = setting.open(settings).unwrap();
    assert_eq!(price(&live.current(), 0).1, "1");
    setting.write("own.yaml", "prices: [{provider: p, model: m, rates: {input: 0.25}}]");
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(price(&live.current(), 0), ("p/m+overlay".into(), "0.25".into()));
    // What a user lays over is no history: without it all is as before.
    setting.write("own.yaml", "");
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(price(&live.current(), 0), ("p/m".into(), "1".into()));
    setting.write("litellm.json", r#"{"p/x": {"litellm_provider": "p", "input_cost_per_token": 1e-6}}"#);
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(live.current().model_count(), 2);
}

#[test]
fn history_survives_a_restart() {
    let setting = Setting::new();
    setting.write("prices.json", &catalog("1"));
    let history = setting.folder.path().join("history.json");
    let settings = || CatalogSettings { history: Some(history.clone()), ..setting.settings() };
    let live = setting.open(settings()).unwrap();
    live.shared.keep_history();
    assert!(history.exists());
    drop(live);
    // The file changes while nothing runs.
    setting.write("prices.json", &catalog("2"));
    setting.clock.store(20_002 * DAY, Ordering::Relaxed);
    let live = setting.open(settings()).unwrap();
    assert_eq!(price(&live.current(), 20_002 * DAY - 1).1, "1");
    assert_eq!(price(&live.current(), 20_002 * DAY).1, "2");
    setting.write("prices.json", &catalog("3"));
    setting.clock.store(20_003 * DAY, Ordering::Relaxed);
    assert_eq!(live.refresh(), Refresh::Changed);
    drop(live);
    setting.clock.store(20_009 * DAY, Ordering::Relaxed);
    let live = setting.open(settings()).unwrap();
    let rates: Vec<_> = [20_001, 20_002, 20_003].map(|day| price(&live.current(), day * DAY).1).into();
    assert_eq!(rates, ["1", "2", "3"]);
}

#[test]
fn age_is_measured_from_the_date_of_the_source() {
    let setting = Setting::new();
    setting.write("prices.json", &catalog("1"));
    setting.clock.store(20_010 * DAY, Ordering::Relaxed);
    let settings = CatalogSettings { max_age: Some(Duration::from_secs(9 * 86_400)), ..setting.settings() };
    let live = setting.open(settings).unwrap();
    // 2024-10-04 is day 20000.
    assert_eq!(setting.level("weir_cost_catalog_age_seconds"), 10 * 86_400);
    assert_eq!(setting.level("weir_cost_catalog_stale"), 1);
    setting.clock.store(20_009 * DAY, Ordering::Relaxed);
    live.shared.measure_age();
    assert_eq!(setting.level("weir_cost_catalog_age_seconds"), 9 * 86_400);
    assert_eq!(setting.level("weir_cost_catalog_stale"), 0);
}

#[test]
fn the_thread_ends_with_its_owner() {
    let setting = Setting::new();
    setting.write("prices.json", &catalog("1"));
    let live = setting.open(setting.settings()).unwrap();
    live.start();
    live.start();
    let shared = Arc::downgrade(&live.shared);
    drop(live);
    let deadline = Instant::now() + Duration::from_secs(10);
    while shared.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the thread still runs");
        thread::yield_now();
    }
}
