use proptest::prelude::*;
use schemars::{JsonSchema, json_schema};
use serde::Deserialize;

use super::super::schema::{ConfigSchema, generator};
use super::super::units::GoDuration;
use super::super::{Document, Secret};
use super::*;

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Exporter {
    endpoint: String,
    timeout: GoDuration,
    limit: u32,
    token: Secret,
    headers: std::collections::BTreeMap<String, Secret>,
    anything: Node,
    auth: Option<Auth>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is of interest")]
enum Auth {
    Anonymous,
    Basic { user: String, password: Secret },
}

fn schema() -> ConfigSchema {
    let mut generator = generator();
    let exporter = generator.subschema_for::<Exporter>();
    let root = json_schema!({"properties": {"exporters": {"patternProperties": {"^x": exporter}}}});
    ConfigSchema::new(generator, root)
}

/// Nothing is known of anything.
fn blank() -> ConfigSchema {
    ConfigSchema::new(generator(), true.into())
}

fn printed(exporter: &str, secrets: Secrets) -> String {
    let text = format!(
        "receivers: {{a: }}\nexporters: {{x/1: {exporter}}}\nservice: {{pipelines: {{traces: {{receivers: [a], exporters: [x/1]}}}}}}"
    );
    let env = |name: &str| {
        let known = [("MAP", "Basic: abc"), ("LIST", "[s1, s2]"), ("CODE", "0123"), ("KEYS", "{k1: v1}")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let document = Document::parse([("weir.yaml", text)], &env).unwrap();
    let exporters = document.root.get("exporters").unwrap();
    let root = Node::new(
        Value::Map(vec![(
            super::super::Key { text: "exporters".into(), location: exporters.location().clone() },
            exporters.clone(),
        )]),
        exporters.location().clone(),
    );
    Tree::of_config(&root, &schema(), secrets).to_yaml()
}

#[test]
fn secrets_are_left_out() {
    for (exporter, redacted, exposed) in [
        ("{token: abc}", "token: \"[REDACTED]\"", "token: abc"),
        ("{token: }", "token:", "token:"),
        ("{token: '${MAP}'}", "token: \"[REDACTED]\"", "token: \"Basic: abc\""),
        ("{token: '${LIST}'}", "token: \"[REDACTED]\"", "token: \"[s1, s2]\""),
        (
            "{headers: {a: 1, b: '${CODE}'}}",
            "headers:\n      a: \"[REDACTED]\"\n      b: \"[REDACTED]\"",
            "headers:\n      a: \"1\"\n      b: \"0123\"",
        ),
        // Of what nothing is known, not even the keys that came from outside are shown.
        ("{anything: {a: [b]}}", "anything:\n      a:\n        - \"[REDACTED]\"", "anything:\n      a:\n        - b"),
        ("{anything: '${KEYS}'}", "anything: \"[REDACTED]\"", "anything:\n      k1: v1"),
        ("{unknown: b}", "unknown: \"[REDACTED]\"", "unknown: b"),
        ("{auth: anonymous}", "auth: anonymous", "auth: anonymous"),
        (
            "{auth: {basic: {user: u, password: p}}}",
            "auth:\n      basic:\n        user: u\n        password: \"[REDACTED]\"",
            "auth:\n      basic:\n        user: u\n        password: p",
        ),
        (
            "{endpoint: 'https://u:p@w@h:1/x?y@z'}",
            "endpoint: \"https://u:[REDACTED]@h:1/x?y@z\"",
            "endpoint: \"https://u:p@w@h:1/x?y@z\"",
        ),
        (
            "{endpoint: 'https://h/x?a&api_key=s=1&b=&c=2&#f'}",
            "endpoint: \"https://h/x?a&api_key=[REDACTED]&b=&c=[REDACTED]&#f\"",
            "endpoint: \"https://h/x?a&api_key=s=1&b=&c=2&#f\"",
        ),
        (
            "{endpoint: 'https://u:p@h?k=v'}",
            "endpoint: \"https://u:[REDACTED]@h?k=[REDACTED]\"",
            "endpoint: \"https://u:p@h?k=v\"",
        ),
        // A number to the schema, and a text to whoever wrote it.
        ("{limit: 'https://h?k=v'}", "limit: \"https://h?k=[REDACTED]\"", "limit: \"https://h?k=v\""),
        ("{endpoint: 'h/x?a=b'}", "endpoint: \"h/x?a=b\"", "endpoint: \"h/x?a=b\""),
        ("{endpoint: 'https://u@h/x:y@z'}", "endpoint: https://u@h/x:y@z", "endpoint: https://u@h/x:y@z"),
    ] {
        let whole = |body: &str| format!("exporters:\n  x/1:\n    {body}\n");
        assert_eq!(printed(exporter, Secrets::Redacted), whole(redacted), "{exporter}");
        assert_eq!(printed(exporter, Secrets::Exposed), whole(exposed), "{exporter}");
    }
}

#[test]
fn texts_stay_texts_and_numbers_numbers() {
    for (exporter, expected) in [
        ("{endpoint: 0123}", "endpoint: \"0123\""),
        ("{endpoint: '${CODE}'}", "endpoint: \"0123\""),
        ("{endpoint: true}", "endpoint: \"true\""),
        ("{endpoint: ''}", "endpoint: \"\""),
        ("{limit: 0x10}", "limit: 16"),
        ("{timeout: 5s}", "timeout: 5s"),
        ("{timeout: 5}", "timeout: 5"),
    ] {
        assert_eq!(printed(exporter, Secrets::Redacted), format!("exporters:\n  x/1:\n    {expected}\n"));
    }
}

#[test]
fn yaml_and_json() {
    let text = "a: 1\nz: [1, [2, {b: c, d: []}], ~, {}]\nm: {x: -1.5, z: 1e300, w: .inf, big: 99999999999999999999}\nk y: \"q\\t\\u2028\"\n";
    let tree = Tree::of_config(&Node::parse("a.yaml", text).unwrap(), &blank(), Secrets::Exposed);
    let yaml = "a: 1
z:
  - 1
  -
    - 2
    - b: c
      d: []
  - null
  - {}
m:
  x: -1.5
  z: 1e300
  w: .inf
  big: 99999999999999999999
k y: \"q\\t\\u2028\"
";
    assert_eq!(tree.to_yaml(), yaml);
    assert_eq!(
        serde_json::to_string(&tree).unwrap(),
        "{\"a\":1,\"z\":[1,[2,{\"b\":\"c\",\"d\":[]}],null,{}],\
         \"m\":{\"x\":-1.5,\"z\":1e+300,\"w\":\".inf\",\"big\":\"99999999999999999999\"},\"k y\":\"q\\t\u{2028}\"}"
    );
    assert_eq!(Tree::Map(Vec::new()).to_yaml(), "{}\n");
}

fn trees() -> impl Strategy<Value = Tree> {
    let text = prop_oneof![
        any::<String>(),
        "\\PC{0,6}",
        prop::sample::select(vec![
            "null", "~", "true", "1", "1.5", "0x1", "012", "-", "- a", "a: b", "a #b", "#", "<<", "&a", "*a", "!t",
            "@", "%", "---", "...", "?", "yes", "1:30", "[a]", "{a}", "'", "\"", "a\nb", " a", "a ", "a:", "${x}",
            "$$", "é", "=",
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(|value| Tree::Int(value.into())),
        any::<f64>().prop_filter("finite", |value| value.is_finite() && value.fract() != 0.0).prop_map(Tree::Float),
        text.clone().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let map = prop::collection::btree_map(text.clone(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Tree::List),
            map.prop_map(|map| Tree::Map(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_printed_reads_as_the_same(tree in trees()) {
        let yaml = tree.to_yaml();
        let node = Node::parse("printed.yaml", &yaml);
        prop_assert!(node.is_ok(), "{yaml}\n{node:?}");
        prop_assert_eq!(&Tree::of_config(&node.unwrap(), &blank(), Secrets::Exposed), &tree, "{}", yaml);
        let json = serde_json::to_string(&tree).unwrap();
        prop_assert!(Node::parse("printed.json", &json).is_ok(), "{}", json);
    }

    #[test]
    fn nothing_of_a_secret_is_printed(secret in "[A-Za-z0-9]{8,20}", indirect: bool) {
        let written = if indirect { format!("${{yaml:{secret}}}") } else { secret.clone() };
        let text = printed(&format!("{{token: '{written}', headers: {{a: '<{written}>'}}, anything: ['{written}']}}"), Secrets::Redacted);
        prop_assert!(!text.contains(&secret), "{}", text);
        prop_assert_eq!(text.matches("[REDACTED]").count(), 3);
    }
}
