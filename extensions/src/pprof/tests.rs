use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::Telemetry;

use super::*;
use crate::http::testing::{ask, get};

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::pprof").map_err(|e| e.to_string())
}

/// Keeps a core busy under a name that the profile must show.
#[inline(never)]
fn a_busy_function(stop: &AtomicBool) -> u64 {
    let mut n = 1u64;
    while !stop.load(Ordering::Relaxed) {
        n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    n
}

// The profiler is that of the process, so everything about it is in one test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_shows_where_time_went() {
    let context = Context::new("pprof", Telemetry::default(), Environment::system());
    let profiles = Arc::<Profiles>::default();
    let settings = parse("{endpoint: '127.0.0.1:0'}").unwrap();
    let pprof = PageExtension::new(&context, settings.endpoint, Arc::<Profiles>::clone(&profiles));
    pprof.start().await.unwrap();
    let to = pprof.addresses()[0].1;
    assert!(get(to, "/debug/pprof/").await.1.contains("/debug/pprof/profile"));
    for query in ["seconds=0", "seconds=301", "seconds=x", "seconds="] {
        assert_eq!(get(to, &format!("/debug/pprof/profile?{query}")).await.0, 400, "{query}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || a_busy_function(&stop)
    });
    let running = profiles.running.lock().await;
    assert_eq!(get(to, "/debug/pprof/profile?seconds=1").await.0, 409);
    drop(running);
    let (status, gzip) = ask("GET", to, "/debug/pprof/profile?seconds=1", &[]).await;
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert_eq!(status, 200);
    let mut message = Vec::new();
    GzDecoder::new(&gzip[..]).read_to_end(&mut message).unwrap();
    let texts = texts(&message);
    assert_eq!(texts[0], "");
    assert!(texts.iter().any(|text| text.contains("a_busy_function")), "{texts:?}");
    assert!(texts.iter().any(|text| text == "nanoseconds"));
    pprof.stop().await;
}

/// The string table of a profile.
fn texts(message: &[u8]) -> Vec<String> {
    use weir_pipeline::batch::wire::Reader;
    let mut reader = Reader::new(message);
    let mut texts = Vec::new();
    while !reader.is_empty() {
        match reader.tag().unwrap() {
            (6, 2) => texts.push(String::from_utf8(reader.len_delimited().unwrap().to_vec()).unwrap()),
            (number, wire_type) => reader.skip_value(wire_type, number, 0).unwrap(),
        }
    }
    texts
}

#[test]
fn what_is_wrong_is_said_and_where() {
    assert_eq!(parse("").unwrap().endpoint.to_string(), "localhost:1777");
    assert!(
        parse("{endpoint: x}").unwrap_err().starts_with("weir.yaml:1:12: extensions::pprof::endpoint: \"x\" is not")
    );
    assert!(parse("{save_to_file: x}").unwrap_err().contains("unknown key `save_to_file`"));
}
