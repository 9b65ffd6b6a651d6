use proptest::prelude::*;

use super::super::Document;
use super::*;

const VARIABLES: [(&str, &str); 2] = [("CONFIG", "receivers: {otlp: }"), ("EMPTY", "")];

fn env(name: &str) -> Option<String> {
    VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn retrieved(uri: &str) -> Node {
    Source::retrieve(uri, &env, Reading::First).unwrap().parse().unwrap()
}

fn refused(uri: &str) -> String {
    Source::retrieve(uri, &env, Reading::First).unwrap_err().to_string()
}

/// The keys that lead to the first scalar, and the scalar.
fn way(node: &Node) -> String {
    match node.entries().first() {
        Some((key, below)) => format!("{}/{}", key.text, way(below)),
        None => node.text().unwrap_or("~").to_owned(),
    }
}

#[test]
fn uris() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/expand/fixture.txt");
    for (uri, expected) in [
        (path, "from a file"),
        (&format!("file:{path}"), "from a file"),
        ("env:CONFIG", "receivers/otlp/~"),
        ("env:UNSET:-a: b", "a/b"),
        ("yaml:a: b", "a/b"),
        ("yaml:receivers::otlp/x::endpoint: ':1'", "receivers/otlp/x/endpoint/:1"),
        ("yaml:a::b:", "a/b/~"),
        ("yaml:{a::b: c}", "a/b/c"),
        ("yaml:a: {b::c: d}", "a/b::c/d"),
        ("yaml:", "~"),
    ] {
        assert_eq!(way(&retrieved(uri)), expected, "{uri}");
    }
    let both = retrieved("yaml:{a::b: 1, a::c: 2}");
    assert_eq!(both.get("a").unwrap().entries().len(), 2);
    assert_eq!(Source::retrieve(path, &env, Reading::First).unwrap().name(), path);
}

#[test]
fn names_tell_no_values() {
    for (uri, name) in [
        ("env:CONFIG", "env:CONFIG"),
        ("yaml:a::b: secret", "yaml:a::b"),
        ("yaml:a::b:\n  c: secret", "yaml:a::b"),
        ("yaml:{a: secret}", "yaml"),
        ("yaml:secret", "yaml"),
        ("yaml:'secret': x", "yaml"),
    ] {
        let source = Source::retrieve(uri, &env, Reading::First).unwrap();
        assert_eq!(source.name(), name, "{uri}");
        assert!(!format!("{source:?}").contains("secret"));
    }
    assert_eq!(Source::set("a.b=secret").unwrap().name(), "--set a.b");
    for wrong in ["a.b:secret word", "secret word"] {
        let error = Source::set(wrong).unwrap_err().to_string();
        assert_eq!(error, "--set: missing equal sign: write it as `processors.batch.timeout=2s`");
    }
}

#[test]
fn wrong_uris_are_refused() {
    for (uri, expected) in [
        ("nowhere.yaml", "cannot read nowhere.yaml: No such file or directory (os error 2)"),
        ("file:nowhere.yaml", "cannot read nowhere.yaml: No such file or directory (os error 2)"),
        ("./a:b", "cannot read ./a:b: No such file or directory (os error 2)"),
        ("c:/weir.yaml", "cannot read c:/weir.yaml: No such file or directory (os error 2)"),
        ("/", "cannot read /: Is a directory (os error 21)"),
        ("/dev/zero", "cannot read /dev/zero: it is larger than 16 MiB"),
        (
            "env:UNSET",
            "environment variable `UNSET` is not set: it should hold a configuration, as `--config env:UNSET` says",
        ),
        ("env:1A", "environment variable \"1A\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"),
        (
            "https://user:secret@example.com/weir.yaml",
            "scheme \"https\" is not supported: a configuration is not fetched over the network: \
             download it, look at it, and give the file",
        ),
        (
            "s3://bucket/weir.yaml",
            "scheme \"s3\" is not supported for uri \"s3://bucket/weir.yaml\": \
             supported schemes: env, file, yaml; a file whose name looks like that is `file:…`",
        ),
        (
            "exporters::otlp_grpc::headers: {a: secret}",
            "scheme \"exporters\" is not supported: a configuration itself is written after `yaml:`",
        ),
        (
            "vault://user:secret@host",
            "scheme \"vault\" is not supported: \
             supported schemes: env, file, yaml; a file whose name looks like that is `file:…`",
        ),
    ] {
        assert_eq!(refused(uri), expected, "{uri}");
    }
    let error = Source::retrieve("yaml:a::::b: 1", &env, Reading::First).unwrap().parse().unwrap_err();
    assert_eq!(error.to_string(), "yaml:a::::b:1:1: a key is missing in `a::::b`");
    let deep = format!("yaml:{}a: 1", "a::".repeat(100));
    let error = Source::retrieve(&deep, &env, Reading::First).unwrap().parse().unwrap_err();
    assert!(error.to_string().ends_with("1:1: nested more than 64 levels deep"), "{error}");
}

#[test]
fn settings() {
    for (assignment, expected) in [
        ("processors.batch.timeout=2s", "processors/batch/timeout/2s"),
        ("a=b=c", "a/b=c"),
        ("a::b.c=d", "a/b/c/d"),
        (" a =b", "a/b"),
        ("a.b=", "a/b/~"),
        ("a={b: {c: d}}", "a/b/c/d"),
        ("a='0123'", "a/0123"),
    ] {
        assert_eq!(way(&Source::set(assignment).unwrap().parse().unwrap()), expected, "{assignment}");
    }
    for (assignment, expected) in [
        ("a.b", "--set a.b: missing equal sign: write it as `processors.batch.timeout=2s`"),
        ("=b", "--set : a key is missing: write it as `processors.batch.timeout=2s`"),
        ("a..b=c", "--set a..b: a key is missing: write it as `processors.batch.timeout=2s`"),
    ] {
        assert_eq!(Source::set(assignment).unwrap_err().to_string(), expected);
    }
    let error = Source::set("a.b=[1").unwrap().parse().unwrap_err().to_string();
    assert!(error.starts_with("--set a.b:1:3: invalid YAML: "), "{error}");
    assert!(Source::set(&format!("{}=1", "a.".repeat(70))).is_err());
}

/// Lists are replaced, maps joined, and the last one wins.
#[test]
fn settings_are_laid_over_files() {
    let base = "
receivers: {otlp: {list: [1, 2], map: {a: 1}}}
exporters: {debug: }
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
";
    let sets =
        ["receivers.otlp.list=[3]", "receivers.otlp.map.b=2", "receivers.otlp.on=t", "receivers.otlp.map.b=${X}"];
    let sources = std::iter::once(Source::text("a.yaml", base)).chain(sets.map(|set| Source::set(set).unwrap()));
    let document = Document::read(sources, &|name| (name == "X").then(|| "4".to_owned()), Reading::First).unwrap();
    let otlp = &document.receivers[0].1;
    assert_eq!(otlp.get("list").unwrap().parse_as(""), Ok(vec![3]));
    assert_eq!(otlp.get("map").unwrap().parse_as(""), Ok(vec![("a".to_owned(), 1), ("b".to_owned(), 4)]));
    let error = otlp.get("on").unwrap().parse_as::<bool>("receivers::otlp::on").unwrap_err();
    assert_eq!(
        error.to_string(),
        "--set receivers.otlp.on:1:1: receivers::otlp::on: expected `true` or `false`, found `t`"
    );
}

proptest! {
    #[test]
    fn any_argument_is_answered(uri in "\\PC{0,12}|(yaml|env|http):[a-z:{}\\[ \n]{0,24}", set in "[a-z.=:{}\\[' ]{0,24}") {
        for source in [Source::retrieve(&uri, &env, Reading::First), Source::set(&set)].into_iter().flatten() {
            let _ = source.parse();
        }
    }
}
