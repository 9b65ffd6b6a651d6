//! Configurations as people write them for the OpenTelemetry Collector, through the real binary.
//!
//! A case of `compat/loads` or `compat/broken` is `NAME.yaml` with `NAME.txt`: how it is loaded, if not as the one file
//! (`$ --config … --set …`), and what `weir validate` says: of what loads, the graph; of what is broken, each error with
//! its file, line and column. A line that ends with `…` may go on: lists of keys grow. Other files belong to a case whose
//! name they begin with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{weir, words};

/// All variables that are set.
const VARIABLES: [(&str, &str); 12] = [
    ("API_TOKEN", "hunter22"),
    ("BATCH_SIZE", "4096"),
    ("EXPORTERS", "[nop, debug]"),
    ("HOST_IP", "10.0.0.7"),
    ("LOGIN", "alice:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="),
    ("MY_POD_IP", "10.0.0.8"),
    ("NODE_NAME", "node-1"),
    ("OTLP_ENDPOINT", "https://otlp.example.com"),
    ("OTLP_RECEIVER", "{protocols: {grpc: , http: }}"),
    ("VERBOSITY", "normal"),
    ("VERSION", "0123"),
    ("WHOLE_CONFIG", "{receivers: {otlp: {protocols: {grpc: }}}, service: {pipelines: {traces: {receivers: [otlp]}}}}"),
];

/// A certificate of its own authority and its key, as variables.
fn certificate() -> [(&'static str, String); 2] {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    [("CERTIFICATE", certified.cert.pem()), ("PRIVATE_KEY", certified.signing_key.serialize_pem())]
}

struct Case {
    name: String,
    arguments: Vec<String>,
    /// Lines.
    expected: Vec<String>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(name)
}

/// The cases of a folder, each with what is expected of it.
fn cases(folder: &Path) -> Vec<Case> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        // `NAME.part.yaml` is a part of `NAME.yaml`.
        if let Some(name) = file.strip_suffix(".yaml").filter(|name| !name.contains('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let case = |name: String| {
        let path = folder.join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut expected: Vec<String> = text.lines().map(str::to_owned).collect();
        let arguments = match expected.first().and_then(|line| line.strip_prefix("$ ")) {
            Some(written) => words(written),
            None => vec!["--config".to_owned(), format!("{name}.yaml")],
        };
        expected.retain(|line| !line.starts_with("$ "));
        Case { name, arguments, expected }
    };
    names.into_iter().map(case).collect()
}

/// Whether `weir validate` accepts a case, what it prints, and what it complains of.
fn validate(folder: &Path, case: &Case, certificate: &[(&str, String)]) -> (bool, String, String) {
    let mut command = weir();
    command.current_dir(folder).env_clear().envs(VARIABLES).envs(certificate.iter().cloned());
    let output = command.args(["validate", "--graph"]).args(&case.arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// What differs from what is expected; `None` if nothing does.
fn difference(case: &Case, found: &str) -> Option<String> {
    let is_same = |(expected, found): (&String, &str)| match expected.strip_suffix('…') {
        Some(beginning) => found.starts_with(beginning),
        None => found == expected,
    };
    let all = case.expected.len() == found.lines().count() && case.expected.iter().zip(found.lines()).all(is_same);
    (!all).then(|| format!("{}:\n{found}\nexpected:\n{}\n", case.name, case.expected.join("\n")))
}

#[test]
fn what_a_collector_loads_is_loaded_as_it_is_meant() {
    let folder = folder("loads");
    let cases = cases(&folder);
    let certificate = certificate();
    let mut wrong = Vec::new();
    for case in &cases {
        let (is_valid, printed, complaint) = validate(&folder, case, &certificate);
        if !is_valid {
            wrong.push(format!("{}: {complaint}", case.name));
            continue;
        }
        assert!(!printed.contains("hunter22"), "{} shows a secret: {printed}", case.name);
        // The graph stands after the first empty line.
        let (_, graph) = printed.split_once("\n\n").unwrap();
        wrong.extend(difference(case, graph));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 40, "{}", cases.len());
}

#[test]
fn what_is_broken_is_named_where_it_stands() {
    let folder = folder("broken");
    let cases = cases(&folder);
    let mut wrong = Vec::new();
    for case in &cases {
        let (is_valid, printed, complaint) = validate(&folder, case, &[]);
        assert!(!is_valid && printed.is_empty(), "{} is accepted: {printed}", case.name);
        assert!(!complaint.contains("hunter22"), "{} shows a secret: {complaint}", case.name);
        // The first line says which configuration it is about.
        let errors: Vec<&str> = complaint.lines().skip(1).map(str::trim_start).collect();
        wrong.extend(difference(case, &errors.join("\n")));
        for error in errors {
            assert!(has_place(error), "{}: no file, line and column: {error}", case.name);
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 60, "{}", cases.len());
}

/// Whether a message begins with `name:line:column: `.
fn has_place(message: &str) -> bool {
    let message = message.strip_prefix("warning: ").unwrap_or(message);
    let place = regex::Regex::new(r"^\S.*?:[0-9]+:[0-9]+: ").unwrap();
    place.is_match(message)
}
