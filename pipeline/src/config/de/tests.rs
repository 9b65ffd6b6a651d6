use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::{ComponentId, Node, Optional, Secret, units, without_defaults};

fn node(text: &str) -> Node {
    Node::parse("c.yaml", text).unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    match node(text).parse_as("x") {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

fn error<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
    node(text).parse_as::<T>("x").unwrap_err().to_string()
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Receiver {
    protocols: Protocols,
    name: String,
    limit: Option<u16>,
    count: Count,
    level: Level,
    tags: Vec<String>,
    ratio: f64,
    on: bool,
    window: Window,
    token: Secret,
    auth: Option<ComponentId>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Protocols {
    grpc: Optional<Server>,
    http: Optional<Server>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    endpoint: String,
    port: u16,
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self { endpoint: "localhost".into(), port: 1, timeout: Duration::from_secs(5) }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Count(u8);

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    #[default]
    Normal,
    VeryDetailed,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "(u8, u8)")]
struct Window(u8, u8);

impl TryFrom<(u8, u8)> for Window {
    type Error = String;

    fn try_from((from, to): (u8, u8)) -> Result<Self, String> {
        if from <= to { Ok(Self(from, to)) } else { Err(format!("begins at {from}, after its end at {to}")) }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Required {
    endpoint: String,
    #[serde(default)]
    port: u16,
}

#[test]
fn everything_is_read() {
    let receiver: Receiver = read(
        "
protocols: {grpc: {endpoint: here, port: 0x10, timeout: 1m30s}, http: }
name: 0123
limit: 7
count: 3
level: very_detailed
tags: [a, true, 1.50]
ratio: 1
on: true
window: [1, 2]
token: s3cret
auth: bearer/a
",
    );
    let expected = Receiver {
        protocols: Protocols {
            grpc: Server { endpoint: "here".into(), port: 16, timeout: Duration::from_secs(90) }.into(),
            http: Server::default().into(),
        },
        name: "0123".into(),
        limit: Some(7),
        count: Count(3),
        level: Level::VeryDetailed,
        tags: vec!["a".into(), "true".into(), "1.50".into()],
        ratio: 1.0,
        on: true,
        window: Window(1, 2),
        token: "s3cret".to_owned().into(),
        auth: Some("bearer/a".parse().unwrap()),
    };
    assert_eq!(receiver, expected);
}

#[test]
fn what_go_takes_for_a_list_or_an_integer_is_one() {
    for (yaml, tags) in [("tags: 'a,b'", &["a", "b"][..]), ("tags: a", &["a"]), ("tags: ''", &[])] {
        assert_eq!(read::<Receiver>(yaml).tags, tags);
    }
    for (yaml, port) in [("port: 1e+03", 1000), ("port: 16.0", 16), ("port: 0.0", 0)] {
        assert_eq!(read::<Server>(yaml).port, port);
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Guarded {
    #[serde(deserialize_with = "without_defaults")]
    tls: Optional<Server>,
}

#[test]
fn a_section_without_defaults_is_off_while_it_is_empty() {
    assert_eq!(read::<Guarded>("tls:").tls, Optional(None));
    assert_eq!(read::<Guarded>("tls: {}").tls, Optional(Some(Server::default())));
    assert_eq!(read::<Guarded>("tls: {enabled: false}").tls, Optional(None));
}

#[test]
fn no_value_is_as_if_it_were_absent() {
    assert_eq!(read::<Receiver>(""), Receiver::default());
    let all = "{name: , limit: , count: , level: , tags: ~, ratio: null, on: , window: , token: , auth: }";
    assert_eq!(read::<Receiver>(all), Receiver::default());
    assert_eq!(read::<Server>("{endpoint: , port: , timeout: }"), Server::default());
    assert_eq!(read::<Required>("{endpoint: x, port: }"), Required { endpoint: "x".into(), port: 0 });
    assert_eq!(error::<Required>("{endpoint: }"), "c.yaml:1:1: x: missing key `endpoint`");
    // Several levels, several fields.
    let servers: Vec<Protocols> = read("[{grpc: {port: , endpoint: a}}, {grpc: {endpoint: , port: 2}}]");
    assert_eq!(servers[0].grpc.as_ref().unwrap().port, 1);
    assert_eq!(servers[1].grpc.as_ref().unwrap().endpoint, "localhost");
    // Outside structs there is nothing to fall back to.
    assert_eq!(read::<BTreeMap<String, String>>("{a: }"), BTreeMap::from([("a".into(), String::new())]));
    assert_eq!(read::<Vec<Vec<u8>>>("[[1], ]"), [[1]]);
    assert_eq!(error::<Vec<u8>>("[1, null]"), "c.yaml:1:5: x[1]: expected an integer, found no value");
    assert_eq!(error::<BTreeMap<String, u8>>("{a: }"), "c.yaml:1:2: x::a: expected an integer, found no value");
    assert_eq!(error::<bool>(""), "c.yaml:1:1: x: expected `true` or `false`, found no value");
}

#[test]
fn optional_sections() {
    let server = |text: &str| read::<Protocols>(text).grpc.into_inner();
    assert_eq!(server("{}"), None);
    assert_eq!(server("grpc:"), Some(Server::default()));
    assert_eq!(server("grpc: {}"), Some(Server::default()));
    assert_eq!(server("grpc: {enabled: true, port: 2}").unwrap().port, 2);
    assert_eq!(server("grpc: {enabled: false, port: 2}"), None);
    assert_eq!(
        error::<Protocols>("grpc: {enabled: false, prot: 2}"),
        "c.yaml:1:24: x::grpc: unknown key `prot`: did you mean `port`? known keys: endpoint, port, timeout"
    );
    assert_eq!(
        error::<Protocols>("grpc: {enabled: no}"),
        "c.yaml:1:17: x::grpc::enabled: expected `true` or `false`, found `no`"
    );
}

#[test]
fn errors_say_what_and_where() {
    for (text, expected) in [
        ("protocols: {htpp: }", "1:13: x::protocols: unknown key `htpp`: did you mean `http`? known keys: grpc, http"),
        (
            "protocols:\n  grpc:\n    port: 70000",
            "3:11: x::protocols::grpc::port: expected an integer from 0 to 65535, found `70000`",
        ),
        (
            "protocols:\n  grpc: :4317",
            "2:9: x::protocols::grpc: expected a mapping, found a text: known keys: endpoint, port, timeout",
        ),
        ("protocols: [grpc]", "1:12: x::protocols: expected a mapping, found a list: known keys: grpc, http"),
        (
            "protocols: {grpc: {timeout: 10 parsecs}}",
            "1:29: x::protocols::grpc::timeout: `10 parsecs` has an unknown unit: write a duration like `200ms`, `1.5s` or `1h30m`; units: ns, us, ms, s, m, h",
        ),
        (
            "protocols: {grpc: {timeout: -1s}}",
            "1:29: x::protocols::grpc::timeout: `-1s` must not be negative: write a duration like `200ms`, `1.5s` or `1h30m`; units: ns, us, ms, s, m, h",
        ),
        (
            "protocols: {grpc: {timeout: 1.5}}",
            "1:29: x::protocols::grpc::timeout: `1.5` has no unit: write a duration like `200ms`, `1.5s` or `1h30m`; units: ns, us, ms, s, m, h",
        ),
        ("protocols: {grpc: {timeout: [1s]}}", "1:29: x::protocols::grpc::timeout: expected a duration, found a list"),
        ("name: [a]", "1:7: x::name: expected a text, found a list"),
        ("token: {a: b}", "1:8: x::token: expected a text, found a mapping"),
        ("limit: -1", "1:8: x::limit: expected an integer from 0 to 65535, found `-1`"),
        (
            "limit: 010",
            "1:8: x::limit: expected an integer, found `010`: leading zeros are ambiguous in YAML: drop them, or write 0o for octal",
        ),
        ("limit: '10'", "1:8: x::limit: expected an integer, found the text \"10\": remove the quotes"),
        ("limit: 1.5", "1:8: x::limit: expected an integer, found `1.5`"),
        ("limit: ten", "1:8: x::limit: expected an integer, found `ten`"),
        ("count: 256", "1:8: x::count: expected an integer from 0 to 255, found `256`"),
        ("ratio: half", "1:8: x::ratio: expected a number, found `half`"),
        ("on: t", "1:5: x::on: expected `true` or `false`, found `t`"),
        ("on: 1", "1:5: x::on: expected `true` or `false`, found `1`"),
        ("on: yes", "1:5: x::on: expected `true` or `false`, found `yes`"),
        ("on: 'true'", "1:5: x::on: expected `true` or `false`, found the text \"true\""),
        (
            "level: very-detailed",
            "1:8: x::level: unknown value `very-detailed`: did you mean `very_detailed`? accepted values: normal, very_detailed",
        ),
        ("level: [normal]", "1:8: x::level: expected a name, found a list: accepted values: normal, very_detailed"),
        ("tags:\n  a: b", "1:1: x::tags: expected a list, found a mapping"),
        ("tags:\n  - a\n  - {b: c}", "3:5: x::tags[1]: expected a text, found a mapping"),
        ("window: [2, 1]", "1:9: x::window: begins at 2, after its end at 1"),
        ("window: [2]", "1:9: x::window: expected a tuple of size 2, found 1 items"),
        ("auth: 1a", "1:7: x::auth: in \"1a\" id: invalid character(s) in type \"1a\""),
        (
            "just text",
            "1:1: x: expected a mapping, found a text: known keys: protocols, name, limit, count, level, tags, ratio, on, window, token, auth",
        ),
    ] {
        assert_eq!(error::<Receiver>(text), format!("c.yaml:{expected}"), "{text}");
    }
    assert_eq!(error::<Required>("\n\nport: 1"), "c.yaml:3:1: x: missing key `endpoint`");
    assert_eq!(error::<NonZeroU32>("0"), "c.yaml:1:1: x: expected a nonzero u32, found `0`");
    // The component itself has something to say.
    let server = node("endpoint: a\nport: 0");
    let error = server.get("port").unwrap().error("x::port", "must not be 0").with_hint("use 4317");
    assert_eq!(error.to_string(), "c.yaml:2:7: x::port: must not be 0: use 4317");
}

#[test]
fn a_key_below_its_section_locates_the_section() {
    #[derive(Debug, Deserialize)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Required,
    }
    assert_eq!(error::<Outer>("\ninner:\n  port: 1\n"), "c.yaml:2:1: x::inner: missing key `endpoint`");
}

#[test]
fn maps_keep_types_and_order() {
    let map: HashMap<u16, String> = read("{1: a, 0x10: b}");
    assert_eq!(map, HashMap::from([(1, "a".into()), (16, "b".into())]));
    let pairs: Vec<(String, f32)> = read("{z: 1, a: .5}");
    assert_eq!(pairs, [("z".into(), 1.0), ("a".into(), 0.5)]);
    let ids: BTreeMap<ComponentId, Level> = read("{otlp/a: normal}");
    assert_eq!(ids.into_keys().next().unwrap().to_string(), "otlp/a");
    assert_eq!(error::<Vec<(String, u8)>>("{a: 1, b: c}"), "c.yaml:1:11: x::b: expected an integer, found `c`");
    assert_eq!(
        error::<HashMap<u8, u8>>("{a: 1}"),
        "c.yaml:1:2: x: expected an integer from 0 to 255 as the key, found `a`"
    );
    let bare: Vec<(String, u8)> = read("");
    assert!(bare.is_empty());
}

#[test]
fn enums_with_settings() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Resolver {
        Static { hostnames: Vec<String> },
        Dns(Required),
        None,
    }
    assert_eq!(read::<Resolver>("static: {hostnames: [a]}"), Resolver::Static { hostnames: vec!["a".into()] });
    assert_eq!(read::<Resolver>("dns: {endpoint: a}"), Resolver::Dns(Required { endpoint: "a".into(), port: 0 }));
    assert_eq!(read::<Resolver>("none"), Resolver::None);
    assert_eq!(read::<Resolver>("none:"), Resolver::None);
    assert_eq!(
        error::<Resolver>("sttic: {}"),
        "c.yaml:1:1: x: unknown value `sttic`: did you mean `static`? accepted values: static, dns, none"
    );
    assert_eq!(
        error::<Resolver>("dns: {endpoint: a, prt: 1}"),
        "c.yaml:1:20: x::dns: unknown key `prt`: did you mean `port`? known keys: endpoint, port"
    );
    assert_eq!(
        error::<Resolver>("{static: , dns: }"),
        "c.yaml:1:1: x: expected one of the variants as the only key, found a mapping"
    );
}

#[test]
fn flattened_structs_still_locate_unknown_keys() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        on: bool,
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        port: u16,
    }
    assert_eq!(read::<Outer>("{on: true, port: 1}"), Outer { on: true, inner: Inner { port: 1 } });
    assert_eq!(error::<Outer>("{on: true, port: 1, prt: 2}"), "c.yaml:1:21: x: unknown key `prt`");
}

#[test]
fn parts_are_kept_as_nodes() {
    #[derive(Debug, Deserialize)]
    struct Policies {
        policies: Vec<Node>,
        rest: Option<Node>,
        none: Node,
    }
    let policies: Policies = read("policies:\n- {type: latency}\n- text\nnone:\n");
    assert_eq!(policies.policies[0].get("type").unwrap().text(), Some("latency"));
    assert_eq!(policies.policies[1].location().to_string(), "c.yaml:3:3");
    assert!(policies.rest.is_none());
    assert!(policies.none.is_null());
    assert_eq!(policies.none.location().to_string(), "c.yaml:4:1");
    assert!(serde_json::from_str::<Node>("1").is_err(), "a node has a place, and JSON has none to give");
}

#[test]
fn debug_output_shows_shapes_only() {
    assert_eq!(format!("{:?}", node("{a: secret, b: [1, ~]}")), r#"{"a": [REDACTED], "b": [[REDACTED], null]}"#);
}

#[test]
fn sizes_and_durations_in_lists_and_options() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Limits {
        buckets: Vec<units::GoDuration>,
        #[serde(default, deserialize_with = "units::optional_duration")]
        age: Option<Duration>,
        memory: units::ByteSize,
    }
    let limits: Limits = read("{buckets: [2ms, 1000000], age: 1h, memory: 64 MiB}");
    assert_eq!(limits.buckets, [Duration::from_millis(2).into(), Duration::from_millis(1).into()]);
    assert_eq!(limits.age, Some(Duration::from_secs(3600)));
    assert_eq!(limits.memory, units::ByteSize(64 << 20));
    let limits: Limits = read("{buckets: [], age: , memory: 65536}");
    assert_eq!((limits.age, limits.memory.0), (None, 65536));
    assert!(
        error::<Limits>("{buckets: [], memory: 64Mb}")
            .starts_with("c.yaml:1:23: x::memory: `64Mb` has an unknown unit: write a size like")
    );
}
