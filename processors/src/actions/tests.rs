//! The actions on attributes of spans and of resources; the first ones are the examples of the Collector's
//! `attributesprocessor/testdata/config.yaml`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use weir_pipeline::metadata::{Identity, Metadata};

use super::*;
use crate::testing::{Bench, TestSpan, V, batch, refused};
use crate::{attributes, resource};

/// What the actions make of these attributes, on a span and on a resource alike.
fn acted(actions: &str, before: &[(&'static str, V)], metadata: Option<Metadata>) -> Vec<String> {
    let metadata = metadata.map(Arc::new);
    let with = |batch: weir_pipeline::batch::Batch| match &metadata {
        Some(metadata) => batch.with_metadata(Arc::clone(metadata)),
        None => batch,
    };
    let shown = |list: &mut dyn Iterator<Item = (weir_pipeline::batch::view::Text<'_>, Value<'_>)>| {
        let mut list: Vec<String> = list.map(|(k, v)| format!("{k}={v:?}")).collect();
        list.sort();
        list
    };
    let of_span = Bench::new(attributes::build, &format!("actions: {actions}\n"))
        .run(with(batch(&[TestSpan::named("s", before)])));
    let of_span = shown(&mut of_span.spans().next().unwrap().attributes());
    let span = TestSpan { resource: before.to_vec(), ..TestSpan::named("s", &[]) };
    let of_resource = Bench::new(resource::build, &format!("attributes: {actions}\n")).run(with(batch(&[span])));
    let of_resource = shown(&mut of_resource.spans().next().unwrap().resource_attributes().iter());
    assert_eq!(of_span, of_resource, "actions do to resources what they do to spans");
    of_span
}

fn check(actions: &str, before: &[(&'static str, V)], after: &[&str]) {
    assert_eq!(acted(actions, before, None), after, "{actions} on {before:?}");
}

#[test]
fn insert_adds_what_is_absent() {
    let actions = r#"[{key: attribute1, value: 123, action: insert}, {key: string key, from_attribute: anotherkey, action: insert}]"#;
    check(actions, &[], &["attribute1=Int(123)"]);
    check(actions, &[("attribute1", V::S("x"))], &[r#"attribute1=Str("x")"#]);
    check(
        actions,
        &[("anotherkey", V::B(true))],
        &["anotherkey=Bool(true)", "attribute1=Int(123)", "string key=Bool(true)"],
    );
}

#[test]
fn extract_makes_attributes_of_named_groups() {
    let url = "http://example.com/path?queryParam1=value1,queryParam2=value2";
    let actions = r#"[{key: http.url, action: extract, pattern: '^(?P<http_protocol>.*):\/\/(?P<http_domain>.*)\/(?P<http_path>.*)(?:\?|\&)(?P<http_query_params>.*)'}]"#;
    check(
        actions,
        &[("http.url", V::S(url)), ("http_path", V::S("overwritten"))],
        &[
            &format!("http.url=Str({url:?})"),
            r#"http_domain=Str("example.com")"#,
            r#"http_path=Str("path")"#,
            r#"http_protocol=Str("http")"#,
            r#"http_query_params=Str("queryParam1=value1,queryParam2=value2")"#,
        ],
    );
    check(actions, &[("http.url", V::S("no url"))], &[r#"http.url=Str("no url")"#]);
    check(actions, &[("http.url", V::I(7))], &["http.url=Int(7)"]);
    // A group that takes no part in a match is an empty text.
    check(
        r#"[{key: k, action: extract, pattern: '^(?P<a>x)?(?P<b>y)'}]"#,
        &[("k", V::S("y"))],
        &[r#"a=Str("")"#, r#"b=Str("y")"#, r#"k=Str("y")"#],
    );
}

#[test]
fn update_changes_what_is_there_and_upsert_both() {
    let update = "[{key: boo, from_attribute: foo, action: update}, {key: db.secret, value: redacted, action: update}]";
    check(update, &[("foo", V::I(1))], &["foo=Int(1)"]);
    check(update, &[("foo", V::I(1)), ("boo", V::S("x"))], &["boo=Int(1)", "foo=Int(1)"]);
    check(update, &[("db.secret", V::S("x"))], &[r#"db.secret=Str("redacted")"#]);
    let upsert = r#"[{key: region, value: "planet-earth", action: upsert}, {key: new_user_key, from_attribute: user_key, action: upsert}]"#;
    check(upsert, &[("region", V::I(1))], &[r#"region=Str("planet-earth")"#]);
    check(
        upsert,
        &[("user_key", V::D(0.5))],
        &["new_user_key=Double(0.5)", r#"region=Str("planet-earth")"#, "user_key=Double(0.5)"],
    );
}

#[test]
fn actions_run_in_order() {
    let actions = "[{key: operation, value: default, action: insert}, {key: svc.operation, from_attribute: operation, action: upsert}, {key: operation, action: delete}]";
    for (before, after) in [
        (vec![("svc.operation", V::S("addition")), ("operation", V::S("addition"))], "addition"),
        (vec![("operation", V::S("subtract"))], "subtract"),
        (vec![], "default"),
        (vec![("svc.operation", V::S("division"))], "default"),
    ] {
        check(actions, &before, &[&format!("svc.operation=Str({after:?})")]);
    }
}

#[test]
fn delete_and_hash_take_keys_and_patterns() {
    let before = [("credit_card", V::I(1)), ("card.number", V::I(2)), ("card.name", V::S("x")), ("other", V::B(false))];
    check("[{key: credit_card, action: delete}]", &before[..1], &[]);
    check(
        "[{pattern: ^card, action: delete}, {key: absent, action: DELETE}]",
        &before,
        &["credit_card=Int(1)", "other=Bool(false)"],
    );
    check(
        "[{key: credit_card, pattern: number$, action: delete}]",
        &before,
        &[r#"card.name=Str("x")"#, "other=Bool(false)"],
    );
    // SHA-256 of "john@example.com", of the bytes 01 00 00 00 00 00 00 00, and of nothing.
    for (value, hash) in [
        (V::S("john@example.com"), "855f96e983f1f8e8be944692b6f719fd54329826cb62e98015efee8e2e071dd4"),
        (V::I(1), "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"),
        (V::B(true), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"),
        (V::S(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ] {
        check("[{key: user.email, action: hash}]", &[("user.email", value)], &[&format!("user.email=Str({hash:?})")]);
    }
    // A variable that is empty is no pattern, and the empty key is a key.
    let before = [("", V::I(1)), ("a", V::I(2)), ("b", V::I(3))];
    check("[{key: a, pattern: '', action: delete}]", &before, &["=Int(1)", "b=Int(3)"]);
    check("[{key: a, pattern: '', action: hash}]", &before[2..], &["b=Int(3)"]);
    check("[{pattern: '.*', action: delete}]", &before, &[]);
    check("[{pattern: '^$', action: delete}]", &before, &["a=Int(2)", "b=Int(3)"]);
    let both = acted(
        "[{key: a, pattern: '^a|b', action: hash}]",
        &[("a", V::S("x")), ("ab", V::S("x")), ("c", V::S("x"))],
        None,
    );
    let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    assert_eq!(
        both,
        [format!("a=Str({hash:?})"), format!("ab=Str({hash:?})"), r#"c=Str("x")"#.to_owned()],
        "each once"
    );
}

#[test]
fn many_keys_are_changed_as_few_are() {
    const KEYS: [&str; 9] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"];
    let hashed = |text: &str| format!("{:?}", Hex(&Sha256::digest(text.as_bytes())).to_string());
    for count in 1..KEYS.len() {
        // Each twice, of which the last counts, and one that does not match.
        let twice = KEYS[..count].iter().flat_map(|key| [(*key, V::S("first")), (*key, V::S("last"))]);
        let before: Vec<_> = twice.chain([("other", V::I(7))]).collect();
        let mut after: Vec<String> = KEYS[..count].iter().map(|key| format!("{key}=Str({})", hashed("last"))).collect();
        after.push("other=Int(7)".to_owned());
        let after: Vec<&str> = after.iter().map(String::as_str).collect();
        check("[{pattern: '^k', action: hash}]", &before, &after);
        check("[{key: k0, pattern: '^k', action: hash}]", &before, &after);
        check("[{pattern: '^k', action: delete}]", &before, &["other=Int(7)"]);
        // After other edits too.
        check(
            "[{key: other, value: 8, action: update}, {pattern: '^k', action: hash}, {pattern: '^[ko]', action: delete}]",
            &before,
            &[],
        );
    }
}

/// An attacker's span; with a pass over all attributes for each this would take hours.
#[test]
fn a_hundred_thousand_attributes_are_changed_in_a_moment() {
    let keys: Vec<&'static str> = (0..100_000).map(|n| &*Box::leak(format!("k{n}").into_boxed_str())).collect();
    let before: Vec<_> = keys.iter().map(|key| (*key, V::I(1))).collect();
    let actions = "[{pattern: '^k', action: hash}, {pattern: '1$', action: hash}, {pattern: '^k', action: delete}]";
    check(actions, &before, &[]);
}

#[test]
fn convert_changes_types_where_that_is_possible() {
    for (to, before, after) in [
        ("int", V::S("200"), "Int(200)"),
        ("int", V::S("+5"), "Int(5)"),
        ("int", V::S("2.5"), r#"Str("2.5")"#),
        ("int", V::D(2.9), "Int(2)"),
        ("int", V::D(-2.9), "Int(-2)"),
        ("int", V::D(f64::NAN), "Int(0)"),
        ("int", V::B(true), "Int(1)"),
        ("double", V::S("2.5"), "Double(2.5)"),
        ("double", V::S("1e400"), r#"Str("1e400")"#),
        ("double", V::S("0x1p-2"), "Double(0.25)"),
        ("double", V::S("-Inf"), "Double(-inf)"),
        ("double", V::S("x"), r#"Str("x")"#),
        ("double", V::I(3), "Double(3.0)"),
        ("double", V::B(false), "Double(0.0)"),
        ("string", V::I(404), r#"Str("404")"#),
        ("string", V::D(1.5), r#"Str("1.5")"#),
        ("string", V::B(true), r#"Str("true")"#),
        ("string", V::S("x"), r#"Str("x")"#),
    ] {
        check(
            &format!("[{{key: k, action: convert, converted_type: {to}}}]"),
            &[("k", before)],
            &[&format!("k={after}")],
        );
    }
    check("[{key: k, action: convert, converted_type: int}]", &[], &[]);
    let list = "[{key: k, value: [1, {b: x}], action: insert}, {key: k, action: convert, converted_type: string}]";
    check(list, &[], &[r#"k=Str("[1,{\"b\":\"x\"}]")"#]);
}

#[test]
fn values_come_from_the_client_and_defaults_take_their_place() {
    let identity = Identity::new(vec![("subject", "alice".into())]);
    let metadata = Metadata::new([("Origin", "a"), ("origin", "b")]).with_identity(Arc::new(identity));
    let actions = "[{key: origin, from_context: metadata.origin, action: insert}, {key: enduser.id, from_context: auth.subject, action: insert}, {key: bare, from_context: ORIGIN, action: upsert}]";
    let expected = [r#"bare=Str("a;b")"#, r#"enduser.id=Str("alice")"#, r#"origin=Str("a;b")"#];
    assert_eq!(acted(actions, &[], Some(metadata)), expected);
    assert!(acted(actions, &[], None).is_empty());
    let defaults = "[{key: region, from_attribute: cloud.region, default_value: us-east-1, action: insert}, {key: tenant_id, from_context: metadata.tenant, default_value: 7, action: upsert}]";
    check(defaults, &[], &[r#"region=Str("us-east-1")"#, "tenant_id=Int(7)"]);
    check(
        defaults,
        &[("cloud.region", V::S("eu"))],
        &[r#"cloud.region=Str("eu")"#, r#"region=Str("eu")"#, "tenant_id=Int(7)"],
    );
    check("[{key: k, default_value: true, action: upsert}]", &[], &["k=Bool(true)"]);
}

#[test]
fn values_are_typed_as_yaml_types_them() {
    for (yaml, shown) in [
        ("123", "Int(123)"),
        ("-1", "Int(-1)"),
        (r#""123""#, r#"Str("123")"#),
        ("1.5", "Double(1.5)"),
        ("true", "Bool(true)"),
        ("text", r#"Str("text")"#),
        ("[a, 1]", r#"Array([Str("a"), Int(1)])"#),
        ("{a: {b: 2}}", r#"KvList({"a": KvList({"b": Int(2)})})"#),
    ] {
        check(&format!("[{{key: k, value: {yaml}, action: insert}}]"), &[], &[&format!("k={shown}")]);
    }
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    for (action, message) in [
        ("{action: insert, value: 1}", "12: processors::it::actions[0]: missing required field `key`"),
        ("{key: k}", "12: processors::it::actions[0]: missing required field `action`: actions are insert"),
        ("{key: k, action: set}", "29: processors::it::actions[0]: unsupported action \"set\": actions are"),
        ("{key: k, action: insert}", "18: processors::it::actions[0]: one of `value`, `from_attribute`"),
        ("{key: k, action: insert, value: 1, from_attribute: a}", "18: processors::it::actions[0]: only one of"),
        (
            "{key: k, action: insert, value: 1, pattern: a}",
            "56: processors::it::actions[0]: action \"insert\" does not use `pattern`",
        ),
        (
            "{key: k, action: delete, value: 1}",
            "44: processors::it::actions[0]: action \"delete\" does not use `value`",
        ),
        ("{action: hash, pattern: ''}", "12: processors::it::actions[0]: at least one of `key` and `pattern`"),
        (
            "{action: delete, pattern: '('}",
            "38: processors::it::actions[0]: \"(\" is not a valid pattern: unclosed group",
        ),
        ("{key: k, action: extract}", "18: processors::it::actions[0]: missing required field `pattern`"),
        (
            "{key: k, action: extract, pattern: 'a(b)'}",
            "47: processors::it::actions[0]: every group of the pattern needs a name",
        ),
        (
            "{key: k, action: extract, pattern: ab}",
            "47: processors::it::actions[0]: every group of the pattern needs a name",
        ),
        ("{key: k, action: convert}", "18: processors::it::actions[0]: missing required field `converted_type`"),
        (
            "{key: k, action: convert, converted_type: bool}",
            "54: processors::it::actions[0]: \"bool\" is no type to convert to",
        ),
        (
            "{key: k, action: insert, from_context: client.address}",
            "51: processors::it::actions[0]: the client's address is not kept",
        ),
        (
            "{key: k, action: insert, value: 18446744073709551615}",
            "44: processors::it::actions[0]::value: 18446744073709551615 is too large",
        ),
        ("{key: k, action: insert, valu: 1}", "37: processors::it::actions[0]: unknown key `valu`"),
    ] {
        let error = refused(attributes::build, &format!("actions:  [{action}]\n"));
        assert!(error.starts_with(&format!("weir.yaml:1:{message}")), "{error}\nis not\n{message}");
    }
    assert!(refused(attributes::build, "{}").contains("missing required field `actions`"));
    assert!(refused(resource::build, "attributes: []").contains("missing required field `attributes`"));
    let error =
        refused(attributes::build, "actions: [{key: k, action: insert, value: {a: [.inf, 99999999999999999999]}}]");
    assert!(error.contains("actions[0]::value"), "{error}");
}
