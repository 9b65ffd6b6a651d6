//! The sample configurations for backends load in every build, the one without the store included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// The names after `${env:` in a text.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${env:").skip(1).map(|rest| rest.split(['}', ':']).next().unwrap())
}

/// What a variable holds: a secret if its name says so.
fn value(name: &str) -> &'static str {
    if ["KEY", "TOKEN", "AUTH"].iter().any(|word| name.contains(word)) { "hush" } else { "name" }
}

#[test]
fn every_recipe_for_a_backend_is_valid_and_keeps_its_secrets_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/backends");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["validate", "--config"])
            .arg(&path)
            .envs(variables(&text).map(|name| (name, value(name))))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("OK means") && !said.contains("warning"), "{}: {said}", path.display());
        assert!(!said.contains("hush"), "{} shows a secret: {said}", path.display());
        count += 1;
    }
    assert_eq!(count, 30);
}
