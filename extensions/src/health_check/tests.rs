use std::sync::atomic::{AtomicU64, Ordering};

use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::Telemetry;

use super::*;
use crate::http::testing::{ask, get};

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::health_check").map_err(|e| e.to_string())
}

#[tokio::test]
async fn the_state_is_told_from_start_to_stop() {
    let clock = Arc::new(AtomicU64::new(1_700_000_000_000_000_000));
    let now = Arc::clone(&clock);
    let environment = Environment::with(move || now.load(Ordering::Relaxed), 1);
    let context = Context::new("health_check", Telemetry::default(), environment);
    let host = context.host.clone();
    let settings = parse("{endpoint: '127.0.0.1:0', path: /health}").unwrap();
    let check = extension(settings, &context);
    check.start().await.unwrap();
    let to = check.addresses()[0].1;
    let not_available = r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#;
    assert_eq!(get(to, "/health").await, (503, not_available.to_owned()));
    host.set_status(Status::Ready);
    clock.fetch_add(90_500_000_000, Ordering::Relaxed);
    let available = r#"{"status":"Server available","upSince":"2023-11-14T22:13:20Z","uptime":"1m30.5s"}"#;
    assert_eq!(get(to, "/health").await, (200, available.to_owned()));
    assert_eq!(get(to, "/").await.0, 404);
    assert_eq!(ask("HEAD", to, "/health", &[]).await.0, 200);
    assert_eq!(ask("POST", to, "/health", &[]).await.0, 405);
    host.set_status(Status::Stopping);
    assert_eq!(get(to, "/health").await, (503, not_available.to_owned()));
    check.stop().await;
    assert!(tokio::net::TcpStream::connect(to).await.is_err());
    // And the address is free for the next.
    check.start().await.unwrap();
}

#[tokio::test]
async fn bodies_and_paths_can_be_chosen() {
    let context = Context::new("health_check", Telemetry::default(), Environment::system());
    let host = context.host.clone();
    let settings = parse("{endpoint: '127.0.0.1:0', response_body: {healthy: fine, unhealthy: wait}}").unwrap();
    let check = extension(settings, &context);
    check.start().await.unwrap();
    let to = check.addresses()[0].1;
    assert_eq!(get(to, "/any/path").await, (503, "wait".to_owned()));
    host.set_status(Status::Ready);
    assert_eq!(get(to, "/").await, (200, "fine".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_is_said_and_where() {
    for (yaml, error) in [
        ("{endpoint: here}", "weir.yaml:1:12: extensions::health_check::endpoint: \"here\" is not `host:port`"),
        ("{path: health}", "weir.yaml:1:8: extensions::health_check::path: must start with `/`"),
        ("{tls: {}}", "weir.yaml:1:2: extensions::health_check: unknown key `tls`"),
    ] {
        let refused = parse(yaml).err().unwrap();
        assert!(refused.starts_with(error), "{refused}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = parse(&format!("{{endpoint: '{address}'}}")).unwrap();
    let context = Context::new("health_check/a", Telemetry::default(), Environment::system());
    let refused = extension(settings, &context).start().await.unwrap_err().to_string();
    assert_eq!(refused, format!("health_check/a: {address} is already in use (extensions::health_check/a::endpoint)"));
}
