use std::collections::BTreeMap;

use proptest::prelude::*;
use regex::Regex;
use serde::Deserialize;

use super::super::units::{self, ByteSize};
use super::super::{ComponentId, Node, Optional, Secret};
use super::*;

/// Of the receiver.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Config {
    /// How long to wait.
    #[serde(deserialize_with = "units::duration")]
    timeout: Duration,
    #[serde(deserialize_with = "units::optional_duration")]
    age: Option<Duration>,
    size: ByteSize,
    token: Secret,
    tls: Optional<Tls>,
    level: Level,
    #[serde(rename = "type")]
    kind: Kind,
    auth: Option<ComponentId>,
    map: BTreeMap<ComponentId, u16>,
    any: Node,
    name: String,
    limit: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(1500),
            age: None,
            size: ByteSize(2 << 20),
            token: Secret::default(),
            tls: Optional(None),
            level: Level::V1,
            kind: Kind::A,
            auth: None,
            map: BTreeMap::new(),
            any: Node::null(""),
            name: "x".into(),
            limit: Some(7),
        }
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Tls {
    insecure: bool,
}

#[derive(Deserialize, JsonSchema)]
enum Level {
    #[serde(rename = "1.2")]
    V1,
}

#[derive(Deserialize, JsonSchema)]
enum Kind {
    /// The first.
    A,
    /// The second.
    B,
}

fn schema() -> ConfigSchema {
    let mut generator = generator();
    let root = generator.subschema_for::<Config>();
    ConfigSchema::new(generator, json_schema(&root))
}

fn json_schema(config: &Schema) -> Schema {
    schemars::json_schema!({"properties": {"config": config}})
}

#[test]
fn a_config_is_described() {
    let schema = schema().0;
    let config = &schema["definitions"]["Config"];
    let of = |key: &str| config["properties"][key].clone();
    assert_eq!(config["additionalProperties"], json!(false));
    assert_eq!(config.get("required"), None);
    assert_eq!(
        of("timeout"),
        json!({"description": "How long to wait.", "default": "1.5s", "allOf": [{"$ref": "#/definitions/Duration"}]})
    );
    assert_eq!(of("age"), json!({"anyOf": [{"$ref": "#/definitions/Duration"}, {"type": "null"}]}));
    assert_eq!(schema["definitions"]["Duration"]["type"], json!(["string", "integer"]));
    assert_eq!(of("size")["default"], json!("2MiB"));
    assert_eq!(of("token"), json!({"type": "string", "writeOnly": true}), "and its default is not told");
    assert_eq!(
        schema["definitions"]["Optional_Tls"]["properties"]["enabled"]["type"],
        json!("boolean"),
        "an optional section can be switched off"
    );
    assert_eq!(of("name")["default"], json!("x"));
}

#[test]
fn a_view_knows_secrets_and_texts() {
    let schema = schema();
    let config = schema.view().key("config");
    let secret: Vec<&str> = KEYS.into_iter().filter(|key| config.key(key).is_secret()).collect();
    let text: Vec<&str> = KEYS.into_iter().filter(|key| config.key(key).is_text()).collect();
    let unknown: Vec<&str> = KEYS.into_iter().filter(|key| !config.key(key).is_described()).collect();
    assert_eq!(secret, ["token"]);
    assert_eq!(text, ["token", "level", "type", "auth", "name"]);
    assert_eq!(unknown, ["any"]);
    assert!(!config.key("none").is_described());
    assert!(!config.key("map").key("a b").is_described());
    assert!(config.key("map").key("a/b").is_described());
    assert!(!config.item().is_described());
}

const KEYS: [&str; 12] =
    ["timeout", "age", "size", "token", "tls", "level", "type", "auth", "map", "any", "name", "limit"];

#[test]
fn editors_are_told_what_may_be_written_in_place_of_a_value() {
    let schema = schema().for_editors();
    let of = |key: &str| schema["definitions"]["Config"]["properties"][key].clone();
    assert_eq!(schema["definitions"]["Config"]["type"], json!(["object", "null", "string"]));
    assert_eq!(
        of("limit"),
        json!({"default": 7, "type": ["integer", "null", "string"], "minimum": 0, "pattern": "\\$\\{"})
    );
    assert_eq!(of("name")["type"], json!(["string", "null", "number", "boolean"]));
    assert_eq!(of("name").get("pattern"), None);
    assert_eq!(
        schema["definitions"]["Level"],
        json!({
            "type": ["string", "null", "number"],
            "anyOf": [{"enum": ["1.2", 1.2, null]}, {"type": "string", "pattern": "\\$\\{"}],
        })
    );
    assert_eq!(
        schema["definitions"]["Kind"],
        json!({"anyOf": [
            {"description": "The first.", "type": "string", "const": "A"},
            {"description": "The second.", "type": "string", "const": "B"},
            {"type": ["string", "null"], "pattern": "\\$\\{"},
        ]})
    );
    let duration = schema["definitions"]["Duration"]["pattern"].as_str().unwrap();
    for (text, fits) in [("5s", true), ("1h30m", true), ("${env:T:-5s}", true), ("5 s", false), ("", false)] {
        assert_eq!(Regex::new(duration).unwrap().is_match(text), fits, "{text}");
    }
}

fn pattern<T: JsonSchema>() -> Regex {
    let schema = T::json_schema(&mut generator());
    Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap()
}

proptest! {
    /// What is read is also described.
    #[test]
    fn patterns_fit_what_is_read(text in "[+]?[0-9.]{0,4}(ns|us|µs|ms|s|m|h|[KMGT]?i?B| MB|d)?([0-9]{1,3}(s|m|x))?") {
        if text.parse::<GoDuration>().is_ok() {
            prop_assert!(pattern::<GoDuration>().is_match(&text));
        }
        if text.parse::<ByteSize>().is_ok() {
            prop_assert!(pattern::<ByteSize>().is_match(&text));
        }
    }

    #[test]
    fn ids_fit_their_pattern(text in "[a-z0-9_/ é.+-]{0,8}") {
        if text.parse::<ComponentId>().is_ok() {
            prop_assert!(pattern::<ComponentId>().is_match(&text));
        }
    }
}
