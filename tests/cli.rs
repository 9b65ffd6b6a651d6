//! What the commands print, exactly: of configurations that are wrong and right, of components, and of the schema.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{folder, schema, weir, words};
use weir_pipeline::config::Node;

/// Files, commands and what they print; how they are written is said in the first.
const TRANSCRIPTS: [&str; 2] = [include_str!("fixtures/cli/wrong.txt"), include_str!("fixtures/cli/right.txt")];

const VARIABLES: [(&str, &str); 4] = [("SECRET", "hunter22"), ("PORT", "4317"), ("PIPELINE", "[nop]"), ("EMPTY", "")];

/// `weir` with these arguments, in a folder, and with known variables only.
fn command(folder: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = weir();
    command.current_dir(folder).env_clear().envs(VARIABLES).args(arguments);
    command
}

/// Everything that a command prints, and its exit code as the last line.
fn transcript(folder: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let output = command(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!("{}{}exit {}", text(output.stderr), text(output.stdout), output.status.code().unwrap())
}

fn printed(folder: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let output = command(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn transcripts_are_as_they_were() {
    let mut commands = 0;
    for case in TRANSCRIPTS.iter().flat_map(|file| file.split("=====\n").skip(1)) {
        let (_guard, folder) = folder();
        let mut file: Option<(String, String)> = None;
        let mut lines = case.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(arguments) = line.strip_prefix("$ weir ") {
                if let Some((name, text)) = file.take() {
                    std::fs::write(folder.join(name), text).unwrap();
                }
                let mut expected = Vec::new();
                for line in lines.by_ref() {
                    expected.push(line);
                    if line.starts_with("exit ") {
                        break;
                    }
                }
                let found = transcript(&folder, &words(arguments));
                let fits = |(expected, found): (&&str, &str)| match expected.strip_suffix('…') {
                    Some(beginning) => found.starts_with(beginning),
                    None => found == *expected,
                };
                assert!(
                    expected.len() == found.lines().count() && expected.iter().zip(found.lines()).all(fits),
                    "{case}\nweir {arguments}\nprinted:\n{found}\nexpected:\n{}",
                    expected.join("\n")
                );
                commands += 1;
            } else if let Some(name) = line.strip_prefix("# ").filter(|name| name.ends_with(".yaml")) {
                if let Some((name, text)) = file.replace((name.to_owned(), String::new())) {
                    std::fs::write(folder.join(name), text).unwrap();
                }
            } else if let Some((_, text)) = &mut file {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(commands > 20, "{commands}");
}

#[test]
fn secrets_are_printed_when_asked_for_and_never_else() {
    let transcripts = TRANSCRIPTS.concat();
    let mut command = "";
    for line in transcripts.lines() {
        command = line.strip_prefix("$ ").unwrap_or(command);
        let is_input = line.starts_with("$ ") || line.contains("SECRET=");
        assert!(is_input || command.contains("unredacted") || !line.contains("hunter22"), "{command}: {line}");
    }
    assert_eq!(transcripts.matches("Bearer hunter22").count(), 1);
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    let (_guard, folder) = folder();
    let config = "
receivers: {otlp: {protocols: {grpc: {endpoint: '[::]:${env:PORT}'}, http: }}}
processors: {batch: {timeout: 1500ms}, cost: }
exporters: {otlp_http: {traces_endpoint: 'http://a/b?c=d', headers: {a: '0123', b: '${env:SECRET}', c: 'a: b', d: '- #'}}}
service: {pipelines: {traces: {receivers: [otlp], processors: [cost, batch], exporters: [otlp_http]}}}
";
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    for format in ["yaml", "json"] {
        let once = printed(&folder, &["print-config", "--mode=unredacted", "--format", format, "-c", "weir.yaml"]);
        std::fs::write(folder.join("printed.yaml"), &once).unwrap();
        let twice = printed(&folder, &["print-config", "--mode=unredacted", "--format", format, "-c", "printed.yaml"]);
        assert_eq!(once, twice);
        assert!(once.contains("0123") && once.contains("hunter22"), "{once}");
    }
}

#[test]
fn components_are_listed_as_the_collector_does() {
    let (_guard, folder) = folder();
    let text = printed(&folder, &["components"]);
    let list = Node::parse("components.yaml", &text).unwrap();
    let sections: Vec<&str> = list.entries().iter().map(|(key, _)| key.text.as_str()).collect();
    assert_eq!(
        sections,
        ["buildinfo", "receivers", "processors", "exporters", "connectors", "extensions", "providers"]
    );
    assert!(
        text.starts_with(&format!(
            "buildinfo:\n  command: weir\n  description: An OpenTelemetry collector made for LLM applications\n  version: {}\n",
            env!("CARGO_PKG_VERSION")
        )),
        "{text}"
    );
    assert!(
        text.contains(
            "  - name: otlp_http\n    aliases:\n      - otlphttp\n    signals:\n      - traces\n      - metrics\n      - logs\n    \
             stability:\n      traces: Beta\n      metrics: Beta\n      logs: Beta\n"
        ),
        "{text}"
    );
    assert!(text.contains("traces-to-traces: Beta"), "{text}");
    for section in &sections[1..6] {
        for component in list.get(section).unwrap().items() {
            let name = component.get("name").unwrap().text().unwrap();
            let signals = component.get("signals").map_or(0, |signals| signals.items().len());
            let stability = component.get("stability").unwrap().entries().len();
            assert_eq!(stability, if *section == "extensions" { 1 } else { signals }, "{section}::{name}");
        }
    }
}

/// A configuration in which every component has every key that the schema has, without values.
fn every_key(schema: &Value, place: &Value, depth: usize) -> String {
    let mut text = String::new();
    for key in schema::properties(schema, place).keys() {
        let below = &schema::properties(schema, place)[key];
        text += &format!("{:depth$}{key}:\n{}", "", every_key(schema, below, depth + 2));
    }
    text
}

/// The decoder and the schema come from the same structs, but attributes and hand-written parts could part them.
#[test]
fn the_schema_has_the_keys_that_are_known_and_no_others() {
    let (_guard, folder) = folder();
    let schema: Value = serde_json::from_str(&printed(&folder, &["schema"])).unwrap();
    assert!(!schema.to_string().contains("\"secs\""), "a duration is described as serde would write it");
    let sections = ["receivers", "processors", "exporters", "connectors", "extensions"];
    let service = "service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n";
    let (mut all, mut wrong) = (service.to_owned(), service.to_owned());
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for section in sections {
        let components = schema::properties(&schema, &schema["properties"][section]);
        if components.is_empty() {
            continue;
        }
        all += &format!("{section}:\n{}", every_key(&schema, &schema["properties"][section], 2));
        wrong += &format!("{section}:\n");
        for (name, component) in &components {
            wrong += &format!("  {name}: {{no_such_key: }}\n");
            known.insert(format!("{section}::{name}"), schema::properties(&schema, component).into_keys().collect());
        }
    }
    std::fs::write(folder.join("all.yaml"), &all).unwrap();
    let answer = transcript(&folder, &["validate", "-c", "all.yaml"]);
    assert!(!answer.contains("unknown") && !answer.contains("invalid YAML"), "of\n{all}\nthis is said:\n{answer}");

    std::fs::write(folder.join("wrong.yaml"), &wrong).unwrap();
    let answer = transcript(&folder, &["validate", "-c", "wrong.yaml"]);
    for (component, keys) in known {
        let line = answer.lines().find(|line| line.contains(&format!(": {component}: unknown key"))).unwrap();
        let told = line
            .split_once("known keys: ")
            .map_or_else(BTreeSet::new, |(_, told)| told.split(", ").map(str::to_owned).collect());
        assert_eq!(told, keys, "{line}");
    }
}

#[test]
fn the_schema_accepts_what_weir_accepts() {
    let (_guard, folder) = folder();
    let schema: Value = serde_json::from_str(&printed(&folder, &["schema"])).unwrap();
    let mut samples = 0;
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let folders = [configs.clone(), configs.join("backends")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        // The schema is that of this build, which may be without the store.
        if cfg!(not(feature = "lake")) && text.contains("parquet:") {
            continue;
        }
        assert_eq!(schema::problems(&schema, &schema::instance(&text)), [""; 0], "{}", path.display());
        samples += 1;
    }
    assert!(samples > 0);
    let config = |exporter: &str| {
        format!(
            "receivers: {{otlp/a: {{protocols: {{grpc: , http: {{enabled: false}}}}}}}}
exporters: {{otlp_grpc: {exporter}}}
service: {{pipelines: {{traces/x: {{receivers: [otlp/a], exporters: [otlp_grpc]}}}}}}
"
        )
    };
    for (exporter, problem) in [
        ("{endpoint: 'h:1', timeout: 5s}", None),
        ("{endpoint: , timeout: 5000000000, compression: '${env:C}', sending_queue: '${file:q.yaml}'}", None),
        ("{endpoint: 1, headers: {a: 012, b: true}, tls: {min_version: 1.2}}", None),
        ("{headers: [{name: a, value: b}], sending_queue: {queue_size: '${env:N}'}}", None),
        ("{endpont: 'h:1'}", Some("/exporters/otlp_grpc/endpont: is not allowed")),
        ("{timeout: 5 s}", Some("/exporters/otlp_grpc/timeout: does not match")),
        ("{timeout: true}", Some("/exporters/otlp_grpc/timeout: has the wrong type")),
        ("{compression: lz5}", Some("/exporters/otlp_grpc/compression: fits no alternative")),
        ("{tls: {insecure: yes}}", Some("/exporters/otlp_grpc/tls/insecure: does not match")),
        ("{sending_queue: {queue_size: -1}}", Some("/exporters/otlp_grpc/sending_queue/queue_size: is too small")),
        ("[a]", Some("/exporters/otlp_grpc: has the wrong type")),
    ] {
        let text = config(exporter);
        let problems = schema::problems(&schema, &schema::instance(&text));
        assert_eq!(problems.first().map(String::as_str), problem, "{text}");
        // And Weir agrees, as far as the shape goes.
        std::fs::write(folder.join("weir.yaml"), &text).unwrap();
        let answer = transcript(&folder, &["validate", "-c", "weir.yaml"]);
        let shape = ["unknown key", "expected", "unknown value", "has an unknown unit"];
        let file = answer.contains("q.yaml");
        assert_eq!(shape.iter().any(|words| answer.contains(words)), problem.is_some() && !file, "{text}{answer}");
    }
    let missing = "receivers: {otlp: }\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: [otlp]}}}";
    assert_eq!(schema::problems(&schema, &schema::instance(missing)), ["/service/pipelines/traces: has no exporters"]);
}

/// Everything in it that a header, a token or a URL carries is a secret.
#[test]
fn no_secret_is_printed() {
    let (_guard, folder) = folder();
    let config = "receivers:
  otlp: {protocols: {http: {endpoint: '127.0.0.1:0', response_headers: {x-s: secret}}}}
extensions:
  bearertokenauth: {token: secret}
  bearertokenauth/several: {tokens: [secret]}
  basicauth: {client_auth: {username: user, password: secret}}
  basicauth/server: {htpasswd: {inline: 'a:secret'}}
  headers_setter:
    headers:
      - {key: authorization, value: Bearer secret}
      - {key: x-api-key, from_context: x, default_value: secret}
processors:
  content_policy: {content: hash, hash_key: a secret of some length}
exporters:
  otlp_http: {traces_endpoint: 'https://h.example/x?api_key=secret', headers: [{name: x, value: secret}]}
  otlp_http/proxy: {endpoint: 'https://h.example', headers: {x: secret}, proxy_url: 'http://u:secret@127.0.0.1:1'}
service:
  telemetry:
    metrics:
      readers:
        - periodic:
            exporter:
              otlp: {protocol: http/protobuf, endpoint: 'http://h.example/?k=secret', headers: [{name: a, value: secret}]}
  pipelines: {traces: {receivers: [otlp], processors: [content_policy], exporters: [otlp_http, otlp_http/proxy]}}
";
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    for format in ["yaml", "json"] {
        let print = |mode| printed(&folder, &["print-config", "-c", "weir.yaml", "--format", format, "--mode", mode]);
        assert_eq!(print("unredacted").matches("secret").count(), config.matches("secret").count());
        let shown = print("redacted");
        assert!(!shown.contains("secret") && shown.contains("user"), "{shown}");
    }
}

/// A configuration is mostly checked elsewhere than where it runs.
#[test]
fn files_that_only_a_running_collector_needs_are_asked_for_when_it_starts() {
    let (_guard, folder) = folder();
    let config = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}
exporters: {otlp_grpc: {endpoint: 'h:1', tls: {ca_file: not-here.pem}}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}}
";
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    let place = "weir.yaml:2:57: exporters::otlp_grpc::tls::ca_file: cannot read not-here.pem: ";
    let output = command(&folder, &["validate", "-c", "weir.yaml"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines();
    let warning = lines.next().unwrap();
    assert!(output.status.success() && warning.starts_with(&format!("warning: {place}")), "{said}");
    assert_eq!(lines.next(), Some("weir.yaml is valid"));
    let output = command(&folder, &["run", "-c", "weir.yaml"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(place), "{said}");
}

/// What a run would say in its log is said before it.
#[test]
fn what_has_no_effect_is_warned_of() {
    let (_guard, folder) = folder();
    let config = |port: &str| {
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'{port}}}}}}}}}
exporters: {{nop: }}
processors:
  probabilistic_sampler: {{mode: proportional, hash_seed: 3, sampling_percentage: 10}}
  batch: {{metadata_keys: [x-a]}}
connectors:
  routing:
    default_pipelines: [traces/b]
    table: [{{context: request, condition: 'request[\"x-tenant\"] == \"acme\"', pipelines: [traces/a]}}]
service:
  pipelines:
    traces/in: {{receivers: [otlp], processors: [probabilistic_sampler], exporters: [routing]}}
    traces/a: {{receivers: [routing], processors: [batch], exporters: [nop]}}
    traces/b: {{receivers: [routing], exporters: [nop]}}
"
        )
    };
    let said = |config: &str| {
        std::fs::write(folder.join("weir.yaml"), config).unwrap();
        let output = command(&folder, &["validate", "-c", "weir.yaml"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let seed = "warning: weir.yaml:4:58: processors::probabilistic_sampler::hash_seed: has no effect: ";
    let reads =
        "reads what clients said, and no receiver of the pipeline keeps that: set `include_metadata: true` there";
    let text = said(&config(""));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(seed), "{text}");
    let warnings = [
        format!("warning: weir.yaml:13:51: service::pipelines::traces/a: processor `batch` {reads}"),
        format!("warning: weir.yaml:12:85: service::pipelines::traces/in: connector `routing` {reads}"),
    ];
    assert_eq!(lines[1..3], warnings, "{text}");
    assert_eq!(lines[3], "weir.yaml is valid");
    let text = said(&config(", include_metadata: true"));
    assert!(text.starts_with(seed) && text.lines().nth(1) == Some("weir.yaml is valid"), "{text}");
}

#[test]
fn what_the_collector_takes_in_silence_is_warned_of() {
    let (_guard, folder) = folder();
    let config = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}
exporters: {file: {path: out, compression_params: {level: 3}}}
processors:
  filter: {spans: {}, logs: {include: {}}}
  probabilistic_sampler/moot: {mode: equalizing, sampling_percentage: 1, from_attribute: id}
  probabilistic_sampler/lost: {sampling_percentage: 1, attribute_source: record}
  span: {name: {to_attributes: {rules: [abc]}}}
  memory_limiter: {check_interval: 1s, limit_mib: 100, garbage_collector: {enabled: false}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, filter, span], exporters: [file]}
    logs: {receivers: [otlp], processors: [probabilistic_sampler/moot, probabilistic_sampler/lost], exporters: [file]}
";
    std::fs::write(folder.join("weir.yaml"), config).unwrap();
    let output = command(&folder, &["validate", "-c", "weir.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let warnings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("warning: weir.yaml:")).collect();
    for warning in [
        "2:51: exporters::file::compression_params: has no effect: ",
        "4:11: processors::filter: has no effect: it drops nothing: ",
        "5:90: processors::probabilistic_sampler/moot::from_attribute: has no effect: ",
        "6:74: processors::probabilistic_sampler/lost::attribute_source: all log records lack randomness: ",
        "7:41: processors::span::name::to_attributes::rules[0]: has no effect: ",
        "8:75: processors::memory_limiter::garbage_collector: has no effect: ",
    ] {
        assert!(warnings.iter().any(|found| found.starts_with(warning)), "{warning}: {text}");
    }
    assert_eq!(warnings.len(), 6, "{text}");
}

#[test]
fn arguments_that_nobody_knows_are_refused() {
    let (_guard, folder) = folder();
    for (arguments, message) in [
        (&["validate", "--conf", "a"][..], "unexpected argument '--conf' found"),
        (&["print-config", "--mode", "naked"], "invalid value 'naked' for '--mode <MODE>'"),
        (&["compnents"], "unrecognized subcommand 'compnents'"),
    ] {
        let output = command(&folder, arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(message), "{text}");
    }
}
