//! Projects, environments, keys and their data from the outside: by the commands, and by HTTP on a running collector.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "lake")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Weir, folder, weir};

/// Exit code, standard output and standard error of a command over a store.
fn run(store: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = weir();
    command
        .args(arguments)
        .env("WEIR_STORE", store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without having read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The standard output of a command that succeeds.
fn ok(store: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(store, arguments, "");
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

/// The message of a command that fails: one line.
fn fails(store: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(store, arguments, "");
    assert_ne!(code, 0, "{arguments:?}: {out}");
    assert_eq!(out, "", "{arguments:?}");
    assert!(!err.contains("panicked"), "{arguments:?}: {err}");
    err
}

#[test]
fn a_key_is_printed_alone_and_its_spans_can_be_asked() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    assert_eq!(ok(&store, &["projects", "create", "Web App"]), "created the project `web-app` (Web App)\n");
    assert_eq!(ok(&store, &["envs", "create", "QA"]), "created the environment `qa` in all projects\n");
    let own = ok(&store, &["envs", "create", "EU Production", "--project", "web-app"]);
    assert_eq!(own, "created the environment `eu-production` in the project `web-app`\n");

    let create = ["keys", "create", "--project", "web-app", "--env", "qa", "--name", "CI", "--expires", "90d"];
    let (code, key, said) = run(&store, &create, "");
    assert_eq!(code, 0);
    assert!(key.starts_with("weir_") && key.len() == 49 && key.lines().count() == 1, "{key}");
    assert!(said.contains("of web-app/qa, until ") && said.ends_with("; it is not shown again:\n"), "{said}");
    assert!(!said.contains(key.trim()));
    let listed = ok(&store, &["keys", "list", "--project", "web-app"]);
    assert!(!listed.contains(key.trim()) && listed.contains(&key[..12]) && listed.contains("valid"), "{listed}");
    let list: Value =
        serde_json::from_str(&ok(&store, &["keys", "list", "--project", "web-app", "--format", "json"])).unwrap();
    let id = list["keys"][0]["id"].as_str().unwrap();
    assert_eq!((&list["keys"][0]["name"], &list["keys"][0]["environment"]), (&json!("CI"), &json!("qa")));
    let revoked = ok(&store, &["keys", "revoke", "--project", "web-app", id]);
    assert_eq!(revoked, format!("revoked the key {id} ({}…) of web-app/qa\n", &key[..12]));
    assert!(ok(&store, &["keys", "list", "--project", "web-app", "--env", "qa"]).contains("revoked"));

    assert_eq!(ok(&store, &["projects", "rename", "web-app", "Shop"]), "the project `web-app` is called Shop now\n");
    let projects = ok(&store, &["projects", "list"]);
    assert!(projects.lines().nth(1).unwrap().starts_with("web-app  Shop"), "{projects}");
    let environments = ok(&store, &["envs", "list", "--project", "web-app"]);
    assert!(environments.contains("eu-production  EU Production  project       forever\n"), "{environments}");

    assert_eq!(ok(&store, &["retention", "set", "90d"]), "spans of all projects: 90d\n");
    assert_eq!(
        ok(&store, &["retention", "set", "7d", "--project", "web-app", "--env", "dev"]),
        "spans of web-app/dev: 7d\n"
    );
    let shown = ok(&store, &["retention", "show", "--project", "web-app"]);
    assert!(shown.contains("dev            7d    this environment of this project\n"), "{shown}");
    assert!(shown.contains("prd            90d   all projects\n"), "{shown}");
    ok(&store, &["retention", "set", "inherit", "--project", "web-app", "--env", "dev"]);
    let shown = ok(&store, &["retention", "show", "--project", "web-app"]);
    assert!(shown.contains("dev            90d   all projects\n"), "{shown}");
    let (code, out, said) = run(&store, &["maintain"], "");
    assert_eq!((code, out.as_str(), said.as_str()), (0, "", "there was nothing to do\n"));
}

#[test]
fn a_deletion_is_confirmed_and_says_what_goes_and_went() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    spans(&folder, &store);
    // The collector writes to `default`; with a project of that name its spans can be deleted.
    ok(&store, &["projects", "create", "default"]);
    ok(&store, &["keys", "create", "--project", "default", "--env", "dev"]);
    for input in ["", "\n", "no\n", "Default\n", "yes\n"] {
        let (code, out, said) = run(&store, &["projects", "delete", "default"], input);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(said.contains("the project `default` (default) will be deleted for good, with:\n  1 key\n"), "{said}");
        assert!(said.contains("  qa: 1 span in 1 file (") && said.contains("nothing was deleted"), "{said}");
    }
    assert_eq!(support::sql(&store, "select count(*) from spans"), ["2"]);
    let seen = |env: &str| {
        let out = ok(
            &store,
            &["sql", "--project", "default", "--env", env, "--format", "csv", "select count(*) n from spans"],
        );
        out.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!((seen("qa"), seen("prd"), seen("' or true --")), ("1".to_owned(), "0".to_owned(), "0".to_owned()));

    ok(&store, &["envs", "create", "QA", "--project", "default"]);
    let (code, out, said) = run(&store, &["envs", "delete", "qa", "--project", "default"], "qa\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the environment `qa` of the project `default` will be deleted for good"), "{said}");
    assert!(
        out.starts_with("deleted the environment `qa` of the project `default`\n  default: qa: 1 span in 1 file ("),
        "{out}"
    );
    assert_eq!(support::sql(&store, "select environment, count(*) from spans group by 1"), ["dev,1"]);

    let (code, out, said) = run(&store, &["projects", "delete", "default", "--yes", "--format", "json"], "");
    assert_eq!(code, 0, "{said}");
    let deleted: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&deleted["deleted"], &deleted["removed"][0]["spans"]), (&json!("default"), &json!(1)));
    assert!(!store.join("projects/default").exists());
    let (code, _, said) = run(&store, &["projects", "list"], "");
    assert_eq!((code, said.as_str()), (0, "there are no projects yet: weir projects create NAME\n"));
}

/// A collector takes a span of `dev` and one of `qa`.
fn spans(folder: &Path, store: &Path) {
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0}}}}}}}}
exporters: {{parquet: {{url: {}, flush: {{max_age: 1ms}}}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [parquet]}}}}}}
",
        store.display()
    );
    let weir = Weir::start(folder, &config);
    for (n, environment) in [(1, "dev"), (2, "qa")] {
        let body = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "deployment.environment.name", "value": {"stringValue": environment}}]},
            "scopeSpans": [{"spans": [{
                "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": format!("010203040506070{n}"), "name": "x",
                "startTimeUnixNano": "1795248000000000000", "endTimeUnixNano": "1795248000000000001",
            }]}],
        }]});
        let (status, answer) = ask(weir.http.unwrap(), "POST", "/v1/traces", "", &body.to_string());
        assert_eq!(status, 200, "{answer}");
    }
    let (status, log) = weir.stop();
    assert!(status.success(), "{log}");
}

/// A request by hand: status and body.
fn ask(to: SocketAddr, method: &str, path: &str, key: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is too large may be refused before it is read.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

#[test]
fn mistakes_are_one_line_with_a_way_out() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    let nobody = fails(&store, &["projects", "delete", "web", "--yes"]);
    assert!(nobody.contains("there is no project `web`"), "{nobody}");
    ok(&store, &["projects", "create", "Web App"]);
    for (arguments, message) in [
        (&["projects", "create", "web-app"][..], "project `web-app` exists already"),
        (&["projects", "create", ""], "a name must not be empty"),
        (&["projects", "create", "🍮"], "a name needs at least one letter a-z or digit"),
        (&["projects", "create", "a\nb"], "a name must not contain control characters"),
        (&["projects", "rename", "web-ap", "x"], "there is no project `web-ap`; there are: web-app"),
        (&["projects", "rename", "Web App", "x"], "did you mean `web-app`?"),
        (&["projects", "delete", "../../etc"], "is no slug"),
        (&["envs", "delete", "dev"], "the environment `dev` is built in and cannot be deleted"),
        (&["envs", "delete", "nope"], "there is no environment `nope`; there are: dev, stg, prd"),
        (&["envs", "delete", "dev", "--project", "web-app"], "belongs to the organization: delete it there"),
        (&["envs", "create", "PRD"], "environment `prd` exists already"),
        (&["envs", "list", "--project", "none"], "there is no project `none`; there are: web-app"),
        (&["keys", "create", "--project", "web-app", "--env", "prod"], "did you mean `prd`? There are: dev, stg, prd"),
        (&["keys", "create", "--project", "web-app", "--env", "a/b"], "did you mean `a-b`?"),
        (&["keys", "create", "--project", "web-app", "--env", "dev", "--expires", "90"], "is no time for a key"),
        (&["keys", "create", "--project", "web-app", "--env", "dev", "--name", "\u{1b}[2J"], "control characters"),
        (&["keys", "list", "--project", "web-app", "--env", "nope"], "there is no environment `nope`"),
        (&["keys", "revoke", "--project", "web-app", "ffff"], "there is no key `ffff`"),
        (
            &["retention", "set", "0d"],
            "is no time to keep spans: give days from 1d to 36500d, or `forever`, or `inherit`",
        ),
        (&["retention", "set", "3d", "--env", "nope"], "there is no environment `nope`"),
        (&["sql", "--project", "web-ap", "select 1"], "there is no project `web-ap`; there are: web-app"),
        (&["sql", "--project", "a/../b", "select 1"], "did you mean `a-b`?"),
        (&["sql", "--project", "web-app", "select 1"], "holds no spans yet"),
        (&["maintain", "--storage", "x=y"], "storage option x has no meaning for this store"),
    ] {
        let said = fails(&store, arguments);
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(said.lines().count() == 1 || said.contains("--help"), "{arguments:?}: {said}");
    }
    let long = "x".repeat(300);
    assert!(fails(&store, &["projects", "create", &long]).contains("a name of 300 bytes is too long: at most 200"));
    for trick in ["../../escape", "'; DROP TABLE spans; --", "a/b\\c", ".hidden", "_delta_log"] {
        ok(&store, &["projects", "create", trick]);
    }
    let registry = store.join("_weir/registry/projects");
    let mut slugs: Vec<String> =
        std::fs::read_dir(registry).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    slugs.sort();
    assert_eq!(slugs, ["a-b-c", "delta-log", "drop-table-spans", "escape", "hidden", "web-app"]);
}

#[test]
fn a_collector_serves_the_admin_api() {
    let (_guard, folder) = folder();
    let store = folder.join("lake");
    let config = format!(
        "extensions:
  admin_api: {{endpoint: 127.0.0.1:0, admin_key: a-key-of-the-test-run, store: {{url: {}}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0}}}}}}}}
exporters: {{nop: }}
service:
  extensions: [admin_api]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}
",
        store.display()
    );
    let weir = Weir::start(&folder, &config);
    let line = weir.seen("admin_api listens on");
    let address = line.split_once(" listens on ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let key = "a-key-of-the-test-run";
    assert_eq!(ask(address, "GET", "/v2/projects", "wrong", "").0, 401);
    assert_eq!(ask(address, "GET", "/openapi.json", "", "").0, 200);
    let (status, made) = ask(address, "POST", "/v2/projects", key, r#"{"name": "Web App"}"#);
    assert_eq!(status, 201, "{made}");
    // The command and the API say the same of the same store.
    let (status, listed) = ask(address, "GET", "/v2/projects", key, "");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let printed: Value = serde_json::from_str(&ok(&store, &["projects", "list", "--format", "json"])).unwrap();
    assert_eq!((status, &listed), (200, &printed));
    assert_eq!(listed["projects"][0]["slug"], "web-app");
    let (status, refused) = ask(address, "POST", "/v2/projects", key, &"x".repeat(70_000));
    assert_eq!(status, 413, "{refused}");
    assert!(refused.contains("at most 65536 bytes"), "{refused}");
    let (status, log) = weir.stop();
    assert!(status.success() && !log.contains(key), "{log}");
}
