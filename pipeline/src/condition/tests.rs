use proptest::prelude::*;

use super::*;
use crate::batch::{Batch, NewValue};
use crate::metadata::Metadata;
use crate::signal::Signal;

/// One client span with an error, of a service in production.
fn span() -> Batch {
    let mut batch = Batch::decode(Signal::Traces, vec![0x0a, 6, 0x12, 4, 0x12, 2, 0x30, 3].into()).unwrap();
    batch.for_each_mut(|span| {
        span.set_name("GET /health");
        span.set_status(2, "timeout");
        span.set("region", NewValue::Str("east"));
        span.set("count", NewValue::Int(3));
        span.set("ratio", NewValue::Double(0.5));
        span.set("cached", NewValue::Bool(true));
        span.set("digest", NewValue::Raw(&[0x3a, 2, 0xab, 0x01]));
    });
    batch.for_each_resource_mut(|resource| resource.set("env", NewValue::Str("prod")));
    batch
}

fn on_span(text: &str) -> bool {
    let batch = span();
    let condition = Condition::parse_text(text, Context::Span).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    batch.spans().all(|span| condition.holds(Subject::Span(span)))
}

#[test]
fn conditions_on_spans_follow_ottl() {
    for (text, expected) in [
        (r#"attributes["region"] == "east""#, true),
        (r#"span.attributes["region"] == "west""#, false),
        (r#""east" == attributes["region"]"#, true),
        (r#"attributes["absent"] == "east""#, false),
        (r#"attributes["absent"] != "east""#, true),
        (r#"attributes["absent"] == nil"#, true),
        (r#"attributes["region"] != nil"#, true),
        (r#"attributes["count"] == 3"#, true),
        (r#"attributes["count"] == 3.0"#, true),
        (r#"attributes["count"] > 2.5 and attributes["count"] <= 3"#, true),
        (r#"attributes["count"] == "3""#, false),
        (r#"attributes["count"] != "3""#, true),
        (r#"attributes["absent"] < 3"#, false),
        (r#"attributes["absent"] >= attributes["none"]"#, true),
        (r#"attributes["absent"] <= attributes["none"]"#, true),
        (r#"attributes["absent"] <= nil"#, true),
        (r#"attributes["absent"] > attributes["none"]"#, false),
        (r#"attributes["absent"] < attributes["none"]"#, false),
        (r#"attributes["absent"] != attributes["none"]"#, false),
        (r#"attributes["absent"] >= attributes["region"]"#, false),
        (r#"attributes["region"] <= nil"#, false),
        (r#"attributes["ratio"] < 1"#, true),
        (r#"attributes["cached"] == true"#, true),
        (r#"resource.attributes["env"] == "prod""#, true),
        (r#"name == "GET /health" and kind == SPAN_KIND_CLIENT"#, true),
        ("kind == 3 and status.code == STATUS_CODE_ERROR", true),
        (r#"status.message == "timeout""#, true),
        (r#"instrumentation_scope.name == """#, true),
        (r#"IsMatch(name, "^GET /h.*")"#, true),
        (r#"IsMatch(attributes["count"], "^3$")"#, true),
        (r#"IsMatch(attributes["absent"], ".*")"#, false),
        (r#"IsMatch(attributes["digest"], "^ab01$")"#, true),
        (r#"not IsMatch(name, "POST")"#, true),
        ("true", true),
        ("not true or false", false),
        // `and` binds more strongly than `or`.
        (r#"attributes["region"] == "east" or name == "x" and name == "y""#, true),
        (r#"(attributes["region"] == "east" or name == "x") and name == "y""#, false),
        (r#"not (name == "x" or name == "y") and not name == "z""#, true),
        (r#"attributes["a\"b\\c\n"] == nil"#, true),
        (r#"attributes["count"] == -3 or attributes["count"] == +3"#, true),
        (r#"attributes["ratio"] == 5e-1"#, true),
    ] {
        assert_eq!(on_span(text), expected, "{text}");
    }
}

#[test]
fn conditions_on_resources_and_requests() {
    let batch = span();
    let resource = batch.spans().next().unwrap().resource();
    for (text, expected) in
        [(r#"attributes["env"] == "prod""#, true), (r#"resource.attributes["env"] != "prod""#, false)]
    {
        let condition = Condition::parse_text(text, Context::Resource).unwrap();
        assert_eq!(condition.holds(Subject::Resource(resource, None)), expected, "{text}");
    }
    let metadata = Metadata::new([("X-Tenant", "acme"), ("x-tenant", "ecorp")]);
    for (text, with, without) in [
        (r#"request["X-Tenant"] == "acme""#, true, false),
        (r#"request["x-tenant"] == "ecorp""#, true, false),
        (r#"request["X-Tenant"] == "other""#, false, false),
        // As the Collector does it: a header that is not there is neither equal nor unequal.
        (r#"request["X-Tenant"] != "acme""#, true, false),
        (r#"not request["X-Tenant"] == "acme""#, false, true),
        (r#"request["X-Tenant"] == "acme" and request["y"] == "z""#, false, false),
        (r#"IsMatch(request["X-Tenant"], "^ac")"#, true, false),
    ] {
        let condition = Condition::parse_text(text, Context::Request).unwrap();
        assert_eq!(condition.holds(Subject::Request(Some(&metadata))), with, "{text}");
        assert_eq!(condition.holds(Subject::Request(None)), without, "{text}");
    }
}

#[test]
fn what_is_not_supported_is_named_where_it_stands() {
    let refused = |yaml: &str, context| {
        let node = Node::parse("weir.yaml", yaml).unwrap();
        Condition::parse(node.get("condition").unwrap(), "connectors::routing::table[0]", context)
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (
            r#"'severity_number < 9'"#,
            "at character 1 of the condition: `severity_number` is not known in the context `span`",
        ),
        (r#"'attributes["é"] = "b"'"#, "at character 17 of the condition: `=` is no comparison: comparisons are"),
        (
            r#"'IsString(attributes["a"])'"#,
            "at character 1 of the condition: the function `IsString` is not supported: known are",
        ),
        (
            r#"'attributes["a"]["b"] == 1'"#,
            "at character 16 of the condition: the parts of an attribute's value cannot be compared",
        ),
        (r#"'attributes["a"]'"#, "at character 16 of the condition: expected a comparison"),
        (r#"'attributes["a"] == 1 and'"#, "at character 25 of the condition: expected a path or a value"),
        (r#"'attributes["a"] == 1)'"#, "at character 21 of the condition: expected `and`, `or` or the end"),
        (r#"'attributes["a] == 1'"#, "at character 12 of the condition: the text does not end"),
        (r#"'IsMatch(name, "(")'"#, "at character 15 of the condition: \"(\" is not a valid pattern: unclosed group"),
        (r#"'kind == "client"'"#, "at character 9 of the condition: this is compared with SPAN_KIND_"),
        ("'1 == 1'", "at character 6 of the condition: one side of a comparison must be a path"),
        ("'1x == name'", "at character 1 of the condition: this is neither an integer nor a float"),
        ("'name == $x'", "at character 9 of the condition: `$` means nothing here"),
        ("['a']", "expected a condition, which is a text"),
    ];
    for (condition, message) in cases {
        let error = refused(&format!("condition: {condition}\n"), Context::Span);
        let expected = format!("weir.yaml:1:12: connectors::routing::table[0]: {message}");
        assert!(error.starts_with(&expected), "{error}\nis not\n{expected}");
    }
    let error = refused("condition: 'request[\"X\"] == nil'\n", Context::Request);
    assert!(error.contains("a header is compared with a text in double quotes"), "{error}");
    let error = refused("condition: 'request[\"X\"] < \"a\"'\n", Context::Request);
    assert!(error.contains("a header is compared with == or !="), "{error}");
    let deep = format!("condition: '{}true{}'\n", "(".repeat(100), ")".repeat(100));
    assert!(refused(&deep, Context::Span).contains("conditions nest at most 64 levels"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,30}|[a-z\\[\\]\"()=!<>0-9. ]{0,40}") {
        for context in [Context::Span, Context::Resource, Context::Request] {
            if let Err(fault) = Condition::parse_text(&text, context) {
                prop_assert!(fault.offset <= text.len() && text.is_char_boundary(fault.offset));
            }
        }
    }

    #[test]
    fn and_or_not_are_what_they_are_in_rust(a: bool, b: bool, c: bool) {
        let text = format!("not {a} and {b} or ({c} or {a}) and not ({b} and {c})");
        prop_assert_eq!(on_span(&text), !a && b || (c || a) && !(b && c));
    }
}
