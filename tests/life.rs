//! The life of a process: start, refuse, drain, be killed; and what a person reads on the way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::client::{self, TRACES};
use support::sink::Sink;
use support::{Weir, folder, nobody, sql, sql_output, weir};
use weir_pipeline::batch::wire::put_bytes;

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

/// A request of one span with this id.
fn span(id: u64) -> Vec<u8> {
    let mut span = Vec::new();
    put_bytes(&mut span, 1, &[7; 16]);
    put_bytes(&mut span, 2, &id.to_be_bytes());
    put_bytes(&mut span, 5, b"a span");
    [2, 2, 1].iter().fold(span, |inner, number| {
        let mut outer = Vec::new();
        put_bytes(&mut outer, *number, &inner);
        outer
    })
}

fn pipeline(exporters: &str, name: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}}}}}
exporters: {{{exporters}}}
service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [{name}]}}}}}}
"
    )
}

// `stop` blocks its thread, and the backend must go on answering meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_delivers_what_waits_in_a_queue() {
    let (_guard, folder) = folder();
    let sink = Sink::start().await;
    let exporters = format!("otlp_http: {{endpoint: 'http://{}', compression: none}}", sink.address);
    let weir = Weir::start(&folder, &pipeline(&exporters, "otlp_http"));
    let client = client::http1();
    for id in 0..50 {
        assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(id)).await.0, 200);
    }
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert_eq!(sink.requests().len(), 50);
    assert!(log.contains("otlp_http: of 50 spans delivered 50, dropped 0"), "{log}");
}

#[tokio::test]
async fn a_stop_that_loses_records_says_how_many_and_fails() {
    let (_guard, folder) = folder();
    let nobody = nobody();
    let exporters = format!("otlp_grpc: {{endpoint: '{nobody}', tls: {{insecure: true}}}}");
    let weir = Weir::start_with(&folder, &pipeline(&exporters, "otlp_grpc"), &["--shutdown-timeout", "2s"]);
    let client = client::http2();
    for id in 0..3 {
        // The queue has taken it: that is what this configuration promises.
        assert_eq!(client::export(&client, weir.grpc.unwrap(), TRACES, &span(id)).await.0, 0);
    }
    let (status, log) = weir.stop();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("3 records were lost in this stop"), "{log}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let (_guard, folder) = folder();
    let weir = Weir::start(&folder, &pipeline("parquet: {url: ./store, flush: {max_age: 50ms}}", "parquet"));
    let client = client::http1();
    let mut acknowledged = 0;
    for id in 0..20 {
        if client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(id)).await.0 == 200 {
            acknowledged += 1;
        }
    }
    weir.kill();
    assert_eq!(acknowledged, 20);
    let store = folder.join("store");
    assert_eq!(sql(&store, "SELECT count(*), count(DISTINCT span_id) FROM spans"), ["20,20"]);
    // And the store is open for the next one.
    let weir = Weir::start(&folder, &pipeline("parquet: {url: ./store, flush: {max_age: 50ms}}", "parquet"));
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(99)).await.0, 200);
    assert_eq!(sql(&store, "SELECT count(*) FROM spans"), ["21"]);
    assert!(weir.stop().0.success());
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let (_guard, folder) = folder();
    let weir = Weir::start(&folder, &pipeline("parquet: {url: ./store, flush: {max_age: 50ms}}", "parquet"));
    let client = client::http1();
    let to = weir.http.unwrap();
    let json = &[("content-type", "application/json")];
    let gzip = &[("content-type", "application/x-protobuf"), ("content-encoding", "gzip")];
    let brotli = &[("content-type", "application/x-protobuf"), ("content-encoding", "br")];
    let cases = [
        (PROTOBUF, vec![0x0a], 400),
        (json, b"{\"resourceSpans\": [{]}".to_vec(), 400),
        (&[("content-type", "text/plain")], b"hello".to_vec(), 415),
        (gzip, vec![0x1f, 0x8b, 8, 0], 400),
        (brotli, span(0), 415),
    ];
    for (id, (headers, body, expected)) in (0..).zip(&cases) {
        let (status, answer) = client::post(&client, to, "/v1/traces", headers, body.clone()).await;
        assert_eq!(status.as_u16(), *expected, "{headers:?}: {answer:?}");
        assert_eq!(client::post(&client, to, "/v1/traces", PROTOBUF, span(id)).await.0, 200);
    }
    assert_eq!(sql(&folder.join("store"), "SELECT count(*) FROM spans"), [cases.len().to_string()]);
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("hello"), "what clients send is not logged:\n{log}");
}

#[test]
fn a_port_in_use_is_named() {
    let (_guard, folder) = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'}}}}}}}}\nexporters: {{nop: }}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}}}\n"
    );
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    let output = weir().current_dir(&folder).args(["--config", "weir.yaml"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{address} is already in use")), "{text}");
}

#[test]
fn a_wrong_configuration_is_refused_line_by_line() {
    let (_guard, folder) = folder();
    let config = "receivers:
  otlp:
    protocols:
      htpp:
processors:
  costs:
exporters:
  parquet:
    flush: {max_age: 10 parsecs}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [costs]
      exporters: [parquet]
";
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    let output = weir().current_dir(&folder).args(["validate", "--config", "weir.yaml"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "weir: weir.yaml cannot be used:");
    assert!(
        lines[1].starts_with("  weir.yaml:4:7: receivers::otlp::protocols: unknown key `htpp`: did you mean `http`?"),
        "{text}"
    );
    assert!(
        lines[2].starts_with(
            "  weir.yaml:6:3: processors: unknown type: \"costs\" for id: \"costs\": did you mean `cost`?"
        ),
        "{text}"
    );
    assert!(lines[3].starts_with("  weir.yaml:9:22: exporters::parquet::flush::max_age: "), "{text}");
    assert_eq!(lines.len(), 4, "{text}");
}

#[tokio::test]
async fn sql_errors_are_one_clear_line() {
    let (_guard, folder) = folder();
    let store = folder.join("store");
    let refused = |query: &str| {
        let output = sql_output(&store, query, "table");
        assert_eq!(output.status.code(), Some(1), "{query}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    assert!(refused("SELECT 1").contains("holds no spans yet: start a collector with a `parquet` exporter"));
    let weir = Weir::start(&folder, &pipeline("parquet: {url: ./store, flush: {max_age: 50ms}}", "parquet"));
    let client = client::http1();
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(1)).await.0, 200);
    assert!(refused("SELECT total_costs FROM spans").contains("Did you mean 'spans.total_cost'?"));
    assert_eq!(refused("SELECT 1 FROM span"), "weir: table 'span' not found: the spans are in `spans`\n");
    let syntax = refused("SELECT (1");
    assert!(syntax.contains("Expected: )"), "{syntax}");
    assert!(refused("DROP TABLE spans").contains("not supported"));
    assert!(refused("COPY spans TO '/tmp/x.csv'").contains("not supported"));
    let json = sql_output(&store, "SELECT name, total_cost FROM spans", "json");
    assert_eq!(String::from_utf8(json.stdout).unwrap(), "[{\"name\":\"a span\",\"total_cost\":null}]\n");
    assert!(weir.stop().0.success());
}

#[test]
fn the_version_is_told() {
    let output = weir().arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

/// A process that waits for data is small, one that has some is fast.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn huge_pages_are_used_from_the_first_data_on() {
    let (_guard, folder) = folder();
    let weir = Weir::start(&folder, &pipeline("nop: ", "nop"));
    let status = format!("/proc/{}/status", weir.id());
    let allowed = || {
        let status = std::fs::read_to_string(&status).unwrap();
        // Kernels without huge pages do not say.
        status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).map(|value| value.trim() == "1")
    };
    if allowed().is_none() {
        return;
    }
    assert_eq!(allowed(), Some(false));
    let client = client::http1();
    assert_eq!(client::post(&client, weir.http.unwrap(), "/v1/traces", PROTOBUF, span(1)).await.0, 200);
    tokio::time::timeout(support::PATIENCE, async {
        while allowed() == Some(false) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(weir.stop().0.success());
}

/// Connections that say nothing more than that they are there keep nobody out, and leave the process file descriptors.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_way() {
    use tokio::io::AsyncWriteExt as _;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (_guard, folder) = folder();
    let path = folder.join("weir.yaml");
    std::fs::write(&path, pipeline("nop: {}", "nop")).unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 160; exec \"$0\" run --threads 1 --config \"$1\"", env!("CARGO_BIN_EXE_weir")]);
    command.arg(&path).env_remove("WEIR_LOG").stdin(std::process::Stdio::null());
    let weir = Weir::spawn(command);
    let mut idle = Vec::new();
    for n in 0..400 {
        let to = if n % 2 == 0 { weir.grpc.unwrap() } else { weir.http.unwrap() };
        let mut connection = tokio::net::TcpStream::connect(to).await.unwrap();
        // One that was turned away may be gone already.
        let _ = connection.write_all(PREFACE).await;
        idle.push(connection);
        if n % 100 == 99 {
            let sent = client::post(&client::http1(), weir.http.unwrap(), "/v1/traces", PROTOBUF, span(n)).await;
            assert_eq!(sent.0, 200, "{n}");
        }
    }
    let (status, log) = weir.stop();
    assert!(status.success() && !log.contains("cannot accept"), "{log}");
    drop(idle);
}
