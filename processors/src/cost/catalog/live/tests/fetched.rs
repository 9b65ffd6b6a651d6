//! Prices at URLs, by a server that follows a script.

use std::collections::VecDeque;

use weir_pipeline::fetch::{FetchError, FetchRequest, Fetched};

use super::*;

const URL: &str = "https://prices.example/catalog.json?token=secret";

/// Answers by a script and notes what it was asked with.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Fetched, FetchError>>>,
    etags: Mutex<Vec<Option<String>>>,
}

impl Script {
    fn says(self: &Arc<Self>, answers: impl IntoIterator<Item = Result<Fetched, FetchError>>) -> Arc<Self> {
        lock(&self.answers).extend(answers);
        Arc::clone(self)
    }

    fn etags(&self) -> Vec<Option<String>> {
        std::mem::take(&mut lock(&self.etags))
    }
}

impl Fetch for Script {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<Fetched, FetchError> {
        assert!(request.url.starts_with("https://prices.example/") && request.max_bytes == 64 << 20);
        lock(&self.etags).push(request.etag.map(str::to_owned));
        lock(&self.answers).pop_front().unwrap_or_else(|| Err(FetchError("nobody there".to_owned())))
    }
}

fn new(body: &str, etag: &str) -> Result<Fetched, FetchError> {
    Ok(Fetched::New { body: body.as_bytes().to_vec(), etag: Some(etag.to_owned()).filter(|tag| !tag.is_empty()) })
}

fn at(url: &str) -> CatalogSettings {
    CatalogSettings { path: Some(Place::from(url.to_owned())), ..CatalogSettings::default() }
}

#[test]
fn a_url_is_fetched_once_it_runs_and_again_when_it_has_changed() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let live = setting.open_with(at(URL), Some(script.clone())).unwrap();
    assert!(script.etags().is_empty(), "opening asks nobody");
    assert!(live.current().model_count() > 1_000, "until then the prices are those in the binary");

    script.says([new(&catalog("1"), "a"), Ok(Fetched::Unchanged), new(&catalog("2"), "b"), new(&catalog("2"), "c")]);
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(price(&live.current(), 0), ("p/m".into(), "1".into()), "at all times: nothing of it was known before");
    assert_eq!(live.current().model_count(), 1);
    assert_eq!(live.refresh(), Refresh::Unchanged);
    setting.clock.store(20_001 * DAY, Ordering::Relaxed);
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(price(&live.current(), 20_001 * DAY - 1).1, "1", "the call's own time decides");
    assert_eq!(price(&live.current(), 20_001 * DAY).1, "2");
    assert_eq!(live.refresh(), Refresh::Unchanged, "another tag for the same text");
    let tag = |tag: &str| Some(tag.to_owned());
    assert_eq!(script.etags(), [None, tag("a"), tag("a"), tag("b")]);
}

#[test]
fn what_is_no_price_list_keeps_the_last_good_one() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let live = setting.open_with(at(URL), Some(script.clone())).unwrap();
    script.says([
        new(&catalog("1"), "a"),
        new("<html>be right back</html>", "b"),
        new("", ""),
        new(&catalog("-1"), "c"),
        Ok(Fetched::New { body: vec![0xff, 0xfe], etag: None }),
        Err(FetchError("HTTP status 500".to_owned())),
        Ok(Fetched::Unchanged),
    ]);
    assert_eq!(live.refresh(), Refresh::Changed);
    for hint in ["catalog.json: the price catalog", "catalog.json: ", "a rate is a plain", "not a text", "status 500"] {
        let Refresh::Failed(problem) = live.refresh() else { panic!("{hint}") };
        assert!(problem.contains(hint) && !problem.contains("secret"), "{problem}");
        assert_eq!(price(&live.current(), 0).1, "1");
    }
    assert_eq!(live.refresh(), Refresh::Unchanged);
    assert_eq!(setting.refreshes("failed"), 5);
    assert!(
        script.etags().iter().skip(1).all(|tag| tag.as_deref() == Some("a")),
        "what is not used is asked for again"
    );
}

#[test]
fn a_copy_on_disk_outlives_a_restart_without_a_network() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let cache = setting.folder.path().join("made/on/demand");
    let settings = || CatalogSettings { cache_dir: Some(cache.clone()), ..at(URL) };
    let live = setting.open_with(settings(), Some(script.says([new(&catalog("7"), "a")]))).unwrap();
    assert_eq!(live.refresh(), Refresh::Changed);
    drop(live);
    script.etags();

    let live = setting.open_with(settings(), Some(script.clone())).unwrap();
    assert_eq!(price(&live.current(), 0).1, "7", "before anybody is asked");
    assert!(matches!(live.refresh(), Refresh::Failed(_)));
    assert_eq!(script.etags(), [Some("a".to_owned())]);
    assert_eq!(price(&live.current(), 0).1, "7");
    // It is the copy of this URL alone.
    let other = CatalogSettings { cache_dir: Some(cache.clone()), ..at("https://prices.example/other") };
    assert!(setting.open_with(other, Some(script.clone())).unwrap().current().model_count() > 1_000);
    // A copy that is damaged is as good as none.
    let file = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret"), "{text}");
    for damaged in [text.replace("\"rates\"", "\"rats\""), "nonsense".to_owned(), String::new()] {
        fs::write(&file, damaged).unwrap();
        let live = setting.open_with(settings(), Some(script.clone())).unwrap();
        assert!(live.current().model_count() > 1_000);
    }
}

#[test]
fn a_server_that_is_away_does_not_hold_up_the_rest() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let overlay = setting.write("own.yaml", "");
    let settings = CatalogSettings {
        litellm: Some(Place::from("https://prices.example/litellm.json".to_owned())),
        overlay: Some(OverlaySource::File(overlay)),
        ..at(URL)
    };
    let live = setting.open_with(settings, Some(script.clone())).unwrap();
    script.says([new(&catalog("1"), "a"), Err(FetchError("away".to_owned()))]);
    assert_eq!(live.refresh(), Refresh::Failed("away".to_owned()));
    assert_eq!(price(&live.current(), 0).1, "1", "the other list is used");
    setting.write("own.yaml", "prices: [{provider: p, model: m, rates: {input: 0.25}}]");
    script.says([Ok(Fetched::Unchanged), Err(FetchError("away".to_owned()))]);
    assert_eq!(live.refresh(), Refresh::Failed("away".to_owned()));
    assert_eq!(price(&live.current(), 0).1, "0.25");
    let litellm = r#"{"p/x": {"litellm_provider": "p", "input_cost_per_token": 1e-6}}"#;
    script.says([Ok(Fetched::Unchanged), new(litellm, "")]);
    assert_eq!(live.refresh(), Refresh::Changed);
    assert_eq!(live.current().model_count(), 2);
}

#[test]
fn how_long_a_server_has_been_silent_is_measured() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let live = setting.open_with(at(URL), Some(script.says([new(&catalog("1"), "a")]))).unwrap();
    let silence = |day: u64| {
        setting.clock.store(day * DAY, Ordering::Relaxed);
        live.refresh();
        live.shared.measure_age();
        setting.level("weir_cost_catalog_silence_seconds")
    };
    assert_eq!(silence(20_000), 0);
    assert_eq!(silence(20_003), 3 * 86_400);
    script.says([Ok(Fetched::Unchanged)]);
    assert_eq!(silence(20_004), 0);
}

#[test]
fn the_thread_fetches_at_its_start() {
    let (setting, script) = (Setting::new(), Arc::new(Script::default()));
    let live = setting.open_with(at(URL), Some(script.says([new(&catalog("1"), "a")]))).unwrap();
    let (mut watch, _) = live.watch();
    live.start();
    let deadline = Instant::now() + Duration::from_secs(10);
    let found = loop {
        assert!(Instant::now() < deadline, "nothing was fetched");
        match watch.changed() {
            Some(catalog) => break catalog,
            None => thread::yield_now(),
        }
    };
    assert_eq!(price(&found, 0).1, "1");
}

#[test]
fn without_anybody_who_fetches_a_url_is_refused() {
    let setting = Setting::new();
    assert!(setting.open(at(URL)).unwrap_err().contains("name a file"));
    assert!(at(URL).load(0, None).unwrap_err().contains("name a file"));
    let script = Arc::new(Script::default());
    assert_eq!(at(URL).load(0, Some(&*script)).unwrap_err(), "nobody there");
    script.says([new(&catalog("1"), "a")]);
    assert_eq!(at(URL).load(0, Some(&*script)).unwrap().catalog.model_count(), 1);
}
