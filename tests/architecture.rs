//! The shape of the workspace: dependencies point one way, and there is one copy of each crate whose types cross crates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Which of the workspace's crates each may depend on, in the order of the charter. `weir-load` is a tool beside it.
const ARROWS: &[(&str, &[&str])] = &[
    ("weir-pipeline", &[]),
    ("weir-receivers", &["weir-pipeline"]),
    ("weir-processors", &["weir-pipeline"]),
    ("weir-store", &["weir-pipeline"]),
    ("weir-exporters", &["weir-pipeline", "weir-store"]),
    ("weir-extensions", &["weir-pipeline"]),
    ("weir-api", &["weir-pipeline", "weir-extensions", "weir-store"]),
    ("weir-load", &[]),
    (
        "weir",
        &[
            "weir-pipeline",
            "weir-receivers",
            "weir-processors",
            "weir-store",
            "weir-exporters",
            "weir-extensions",
            "weir-api",
        ],
    ),
];

/// Two copies of one of these compile, and then nothing can be passed between them.
const ONE_COPY: &[&str] = &[
    "arrow",
    "arrow-array",
    "arrow-schema",
    "parquet",
    "datafusion",
    "object_store",
    "tonic",
    "prost",
    "bytes",
    "hyper",
];

/// Crates that do I/O or are heavy, and the only workspace crates that may name them.
const LEAVES: &[(&str, &[&str])] = &[
    ("deltalake", &["weir-store"]),
    ("datafusion", &["weir-store"]),
    ("object_store", &["weir-store"]),
    ("hyper", &["weir-receivers", "weir-exporters", "weir-extensions", "weir-load"]),
    ("tokio-rustls", &["weir-receivers", "weir-exporters"]),
    ("axum", &["weir-api"]),
    ("tonic", &[]),
    ("anyhow", &["weir", "weir-load"]),
];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of a workspace crate's dependencies, those for tests left out.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    let all = package["dependencies"].as_array().unwrap();
    all.iter().filter(|d| d["kind"] != "dev").map(|d| d["name"].as_str().unwrap()).collect()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: Vec<&Value> = packages.iter().filter(|p| p["source"].is_null()).collect();
    assert_eq!(ours.len(), ARROWS.len(), "every workspace crate has its line in ARROWS");
    for package in ours {
        let name = package["name"].as_str().unwrap();
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} has no line in ARROWS"));
        for dependency in dependencies(package) {
            if ARROWS.iter().any(|(ours, _)| *ours == dependency) {
                assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
            }
            if let Some((_, users)) = LEAVES.iter().find(|(leaf, _)| *leaf == dependency) {
                assert!(users.contains(&name), "{dependency} belongs to {users:?}, not to {name}");
            }
        }
    }
}

#[test]
fn there_is_one_copy_of_each_crate_whose_types_cross_crates() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    for name in ONE_COPY {
        let versions: BTreeSet<&str> =
            packages.iter().filter(|p| p["name"] == *name).map(|p| p["version"].as_str().unwrap()).collect();
        assert!(versions.len() <= 1, "{name} is in the tree more than once: {versions:?}");
    }
}

#[test]
fn every_sample_configuration_is_covered_by_a_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/configs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Those for backends have a test of their own.
            assert_eq!(path.file_name().and_then(|n| n.to_str()), Some("backends"));
            continue;
        }
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("yaml"), "{} is no configuration", path.display());
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["validate", "--config"])
            .arg(&path)
            // The variables that the samples take their secrets from.
            .envs(
                ["HONEYCOMB_API_KEY", "DD_API_KEY", "TRACELOOP_API_KEY", "BACKEND_TOKEN", "WEIR_ADMIN_KEY"]
                    .map(|name| (name, "a-secret-of-the-test")),
            )
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        // That a sample's prices grow old is no fault of the sample.
        let is_fault = |line: &str| line.contains("warning") && !line.contains("days old");
        assert!(text.contains("OK means") && !text.lines().any(is_fault), "{}: {text}", path.display());
    }
}

/// What `weir print-config` leaves out is what the schema calls a secret. A field that is decoded into one is one, unless
/// an attribute describes it as something else.
#[test]
fn every_field_that_is_a_secret_is_described_as_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let members = ["", "pipeline", "receivers", "processors", "exporters", "extensions", "store", "api"];
    let mut folders: Vec<_> = members.iter().map(|member| root.join(member).join("src")).collect();
    let (mut fields, mut wrong) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let mut described = None;
                for line in text.lines().map(str::trim) {
                    if let Some((_, description)) = line.split_once("schemars(with = ") {
                        described = Some(description.to_owned());
                    } else if line.ends_with(',') && line.split_once(": ").is_some_and(|(_, kind)| is_secret(kind)) {
                        fields += 1;
                        wrong.extend(
                            described.take().filter(|text| !is_secret(text)).map(|_| (path.clone(), line.to_owned())),
                        );
                    } else if !line.starts_with(['#', '/']) {
                        described = None;
                    }
                }
            }
        }
    }
    assert!(fields > 10, "{fields}");
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Whether the name of a type has `Secret` in it as a word.
fn is_secret(kind: &str) -> bool {
    kind.split(|c: char| !c.is_alphanumeric()).any(|word| word == "Secret")
}
