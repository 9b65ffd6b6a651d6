use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const VARIABLES: [(&str, &str); 14] = [
    ("A", "a"),
    ("PORT", "4317"),
    ("CODE", "0123"),
    ("YES", "true"),
    ("LIST", "[x, 2]"),
    ("MAP", "{k: v, nested: {a: \"${A}\"}}"),
    ("EMPTY", ""),
    ("PASSWORD", "pa$$w{}rd"),
    ("QUOTED", "\"q\""),
    ("BROKEN", "[a, "),
    ("NEXT", "${PORT}"),
    ("NAME", "PORT"),
    ("BASIC", "Basic: abc # def"),
    ("LOOP", "-${LOOP}"),
];

/// Expands `key: <text>`; the environment is [`VARIABLES`].
fn expand_value(text: &str) -> (Node, Vec<Warning>, Vec<ConfigError>) {
    let mut node = Node::parse("c.yaml", &format!("key: {text}")).unwrap();
    let env = |name: &str| VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let (warnings, errors) = expand(&mut node, &env, Reading::First);
    (node.get("key").unwrap().clone(), warnings, errors)
}

fn expanded(text: &str) -> Node {
    let (node, _, errors) = expand_value(text);
    assert_eq!(errors, [], "{text}");
    node
}

fn expansion_error(text: &str) -> String {
    let (_, _, errors) = expand_value(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    errors[0].to_string()
}

#[test]
fn texts() {
    for (text, expected) in [
        ("plain", "plain"),
        ("${env:A}", "a"),
        ("${A}", "a"),
        ("http://${A}:${env:PORT}/", "http://a:4317/"),
        ("${env:CODE}", "0123"),
        ("x${env:CODE}", "x0123"),
        ("${env:YES}", "true"),
        ("'${env:PORT}'", "4317"),
        ("${UNSET:-b}", "b"),
        ("${env:UNSET:-b}", "b"),
        ("${env:UNSET:-}", ""),
        ("${env:A:-b}", "a"),
        ("${env:EMPTY:-b}", ""),
        ("${env:UNSET:-${env:UNSET2:-${A}}}", "a"),
        ("${env:UNSET:-x${A}y${A}}", "xaya"),
        ("${env:UNSET:-http://h:1}", "http://h:1"),
        ("${env:${NAME}}", "4317"),
        ("${NEXT}", "4317"),
        ("-${NEXT}", "-4317"),
        ("$$", "$"),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$a"),
        ("$$$${env:A}", "$${env:A}"),
        ("$A costs 5$", "$A costs 5$"),
        ("^a$", "^a$"),
        ("replace-$$1", "replace-$1"),
        ("${env:PASSWORD}", "pa$$w{}rd"),
        ("x${env:PASSWORD}", "xpa$$w{}rd"),
        ("${env:UNSET:-a$$b}", "a$b"),
        ("${env:QUOTED}", "\"q\""),
        ("${env:BROKEN}", "[a, "),
        ("${env:BASIC}", "Basic: abc # def"),
        ("${env:LIST}", "[x, 2]"),
        ("${env:MAP}", "{k: v, nested: {a: \"a\"}}"),
        ("${env:UNSET}", ""),
        ("${yaml:0123}", "0123"),
        ("'${yaml:-a: b}'", "-a: b"),
        ("<${yaml:a$$${A}}>", "<a$a>"),
        ("\"a\\n${A}\"", "a\na"),
    ] {
        assert_eq!(expanded(text).parse_as::<String>("key").as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn a_reference_alone_is_typed() {
    assert_eq!(expanded("${env:PORT}").parse_as(""), Ok(4317_u16));
    assert_eq!(expanded("\"${env:PORT}\"").parse_as(""), Ok(4317_u16), "quotes are gone by then, as in the Collector");
    assert_eq!(expanded("${NEXT}").parse_as(""), Ok(4317_u16));
    assert_eq!(expanded("${UNSET:-4317}").parse_as(""), Ok(4317_u16));
    assert_eq!(expanded("${UNSET:-${PORT}}").parse_as(""), Ok(4317_u16));
    assert_eq!(expanded("${env:YES}").parse_as(""), Ok(true));
    assert_eq!(expanded("${env:LIST}").parse_as(""), Ok(vec!["x".to_owned(), "2".to_owned()]));
    assert_eq!(expanded("${UNSET:-[1, 2]}").parse_as(""), Ok(vec![1, 2]));
    assert_eq!(expanded("${env:MAP}").get("nested").unwrap().get("a").unwrap().text(), Some("a"));
    assert_eq!(expanded("${env:UNSET}").parse_as(""), Ok(None::<u16>));
    assert_eq!(expanded("${yaml:[1, 2]}").parse_as(""), Ok(vec![1, 2]));
    assert_eq!(expanded("${yaml:${PORT}}").parse_as(""), Ok(4317_u16));
    assert!(expanded("4${env:PORT}").parse_as::<u32>("").is_err(), "inside a text, a reference makes a text");
}

#[test]
fn files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/expand/fixture.txt");
    assert_eq!(expanded(&format!("${{file:{path}}}")).text(), Some("from a file"));
    assert_eq!(expanded(&format!("<${{file:{path}}}>")).text(), Some("<from a file>"));
    assert!(expansion_error("${file:/nowhere}").starts_with("c.yaml:1:6: key: cannot read file `/nowhere`: "));
}

#[test]
fn warnings() {
    for text in ["${env:UNSET}", "x${UNSET}"] {
        let (_, warnings, errors) = expand_value(text);
        assert_eq!(errors, []);
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["c.yaml:1:6: key: configuration references unset environment variable `UNSET`"]);
    }
    assert_eq!(expand_value("${UNSET:-x}").1, [], "a default is no surprise");
    assert_eq!(expand_value("${EMPTY}").1, []);
}

#[test]
fn errors() {
    for (text, expected) in [
        ("${env:A", "`${` without its `}`: close the reference, or write `$${` for the characters themselves"),
        ("\"${}\"", "environment variable \"\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"),
        ("${A B}", "environment variable \"A B\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"),
        ("${env:-x}", "environment variable \"-x\" has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"),
        (
            "${vault:a}",
            "scheme \"vault\" is not supported for uri \"vault:a\": \
             supported schemes: env, file, yaml; write `$${` for the characters themselves",
        ),
        ("${LOOP}", "more than 100 references go into this value: does a variable refer to itself?"),
        ("x${LOOP}", "more than 100 references go into this value: does a variable refer to itself?"),
    ] {
        assert_eq!(expansion_error(text), format!("c.yaml:1:6: key: {expected}"), "{text}");
    }
    let many = "${A}".repeat(101);
    assert!(expansion_error(&many).contains("more than 100 references"));
    assert_eq!(expanded(&"${A}".repeat(100)).text(), Some("a".repeat(100).as_str()));
}

#[test]
fn what_came_from_outside_is_not_quoted_in_errors() {
    for text in ["${env:BASIC}", "${UNSET:-${env:BASIC}}", "<${env:BASIC}>"] {
        let node = expanded(text);
        let errors = [
            node.parse_as::<bool>("key").unwrap_err(),
            node.parse_as::<u8>("key").unwrap_err(),
            node.parse_as::<Vec<u8>>("key").unwrap_err(),
            node.parse_as::<std::net::IpAddr>("key").unwrap_err(),
            node.parse_as::<super::super::ComponentId>("key").unwrap_err(),
            node.parse_as::<super::super::units::ByteSize>("key").unwrap_err(),
        ];
        for error in errors {
            let error = error.to_string();
            assert!(!error.contains("abc"), "{text}: {error}");
        }
    }
    let map: Result<BTreeMap<String, u8>, _> = expanded("${env:MAP}").parse_as("key");
    assert_eq!(
        map.unwrap_err().to_string(),
        "c.yaml:1:6: key::k: expected an integer, found the value of `${env:MAP}`"
    );
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "$", "$$", "${", "}", "${A}", "${env:", "env:", ":-", ":", "A", "B", "LOOP", "file:", "x", " ", "é", "[", "]",
        "\n", "'", "0123",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_answered(text in pieces(), a in pieces(), b in pieces()) {
        let env = |name: &str| match name {
            "A" => Some(a.clone()),
            "B" => Some(b.clone()),
            _ => None,
        };
        let scalar = Scalar { text, style: Style::Plain };
        let mut node = Node::new(Value::Scalar(scalar), Location::start_of("c.yaml"));
        let _ = expand(&mut node, &env, Reading::First);
    }

    /// With every `$` doubled, a text comes out as it was.
    #[test]
    fn escaped_text_is_kept(text in "[a-z${}:\\- ]{0,24}") {
        let scalar = Scalar { text: text.replace('$', "$$"), style: Style::Plain };
        let mut node = Node::new(Value::Scalar(scalar), Location::start_of("c.yaml"));
        let (warnings, errors) = expand(&mut node, &|_| None, Reading::First);
        prop_assert_eq!((warnings.len(), errors.len()), (0, 0));
        prop_assert_eq!(node.text(), Some(text.as_str()));
    }

    /// What a variable holds arrives unchanged in a text field, whatever YAML would make of it.
    #[test]
    fn values_arrive_verbatim(value in "[^{]*") {
        for written in ["${env:V}", "<${env:V}>"] {
            let scalar = Scalar { text: written.to_owned(), style: Style::Plain };
            let mut node = Node::new(Value::Scalar(scalar), Location::start_of("c.yaml"));
            let (_, errors) = expand(&mut node, &|_| Some(value.clone()), Reading::First);
            prop_assert_eq!(errors, []);
            prop_assert_eq!(node.parse_as::<String>(""), Ok(written.replace("${env:V}", &value)));
        }
    }
}
