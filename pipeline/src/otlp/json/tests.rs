//! What is accepted, what is refused and in which words. Against prost: `tests/otlp_json.rs`.

use proptest::prelude::*;

use super::*;
use crate::batch::wire::{put_bytes, put_tag, put_uint, put_varint};
use crate::otlp::schema::{ANY_VALUE, EVENT, Kind, SCOPE};
use crate::otlp::schema::{LOGS, METRICS, Message, SPAN, TRACES};

fn decode(message: &'static Message, json: &str) -> Vec<u8> {
    to_protobuf(message, json.as_bytes(), Limits::default()).unwrap_or_else(|e| panic!("{json}: {e}"))
}

fn error(message: &'static Message, json: &str) -> String {
    match to_protobuf(message, json.as_bytes(), Limits::default()) {
        Ok(bytes) => panic!("{json} was taken as {bytes:?}"),
        Err(error) => error.to_string(),
    }
}

/// JSON to protobuf and back: the canonical spelling of what was understood.
fn canonical(message: &'static Message, json: &str) -> String {
    String::from_utf8(to_json(message, &decode(message, json))).unwrap()
}

#[test]
fn scalars_are_taken_in_every_spelling() {
    for (given, want) in [
        (r#"{"intValue":"-9223372036854775808"}"#, r#"{"intValue":"-9223372036854775808"}"#),
        (r#"{"intValue":9007199254740993}"#, r#"{"intValue":"9007199254740993"}"#),
        (r#"{"intValue":1e3}"#, r#"{"intValue":"1000"}"#),
        (r#"{"intValue":-1.50E+1}"#, r#"{"intValue":"-15"}"#),
        (r#"{"intValue":"9.223372036854775807e18"}"#, r#"{"intValue":"9223372036854775807"}"#),
        (r#"{"intValue":1500e-2}"#, r#"{"intValue":"15"}"#),
        (r#"{"intValue":0e99999999999999999999}"#, r#"{"intValue":"0"}"#),
        (r#"{"intValue":-0}"#, r#"{"intValue":"0"}"#),
        (r#"{"intValue":"\u0034\u0032"}"#, r#"{"intValue":"42"}"#),
        (r#"{"doubleValue":1}"#, r#"{"doubleValue":1.0}"#),
        (r#"{"doubleValue":"0.1"}"#, r#"{"doubleValue":0.1}"#),
        (r#"{"doubleValue":1.7976931348623157e308}"#, r#"{"doubleValue":1.7976931348623157e+308}"#),
        (r#"{"doubleValue":-0.0}"#, r#"{"doubleValue":-0.0}"#),
        (r#"{"doubleValue":"NaN"}"#, r#"{"doubleValue":"NaN"}"#),
        (r#"{"doubleValue":"Infinity"}"#, r#"{"doubleValue":"Infinity"}"#),
        (r#"{"doubleValue":"-Inf"}"#, r#"{"doubleValue":"-Infinity"}"#),
        (r#"{"boolValue":false}"#, r#"{"boolValue":false}"#),
        (r#"{"stringValue":""}"#, r#"{"stringValue":""}"#),
        (r#"{"stringValue":"a\/\"\\\n\t\r\b\f\u00e9\ud83e\udd80"}"#, r#"{"stringValue":"a/\"\\\n\t\r\b\fé🦀"}"#),
        (r#"{"stringValue":"cut \ud83e"}"#, r#"{"stringValue":"cut �"}"#),
        (r#"{"stringValue":"\ud83e\u0041\udd80\\u0041"}"#, r#"{"stringValue":"�A�\\u0041"}"#),
        (r#"{"bytesValue":"+/+/"}"#, r#"{"bytesValue":"+/+/"}"#),
        (r#"{"bytesValue":"-_-_"}"#, r#"{"bytesValue":"+/+/"}"#),
        (r#"{"bytesValue":"\/w"}"#, r#"{"bytesValue":"/w=="}"#),
        (r#"{"bytesValue":""}"#, r#"{"bytesValue":""}"#),
        (r#"{"arrayValue":{}}"#, r#"{"arrayValue":{}}"#),
        (
            r#"{"arrayValue":{"values":[{},null,{"intValue":1}]}}"#,
            r#"{"arrayValue":{"values":[{},{},{"intValue":"1"}]}}"#,
        ),
        (r#"{"stringValue":null,"intValue":"7"}"#, r#"{"intValue":"7"}"#),
        (r#"{"bytesValue":null,"boolValue":null,"intValue":null,"doubleValue":null,"arrayValue":null}"#, "{}"),
        (r#"{"String_value":"x","nope":[{"a":[1e999]}],"intValue":0}"#, r#"{"intValue":"0"}"#),
        (
            r#"{"kvlist_value":{"values":[{"value":{"int_value":7}}]}}"#,
            r#"{"kvlistValue":{"values":[{"value":{"intValue":"7"}}]}}"#,
        ),
        (r#" { "kvlistValue" : { "values" : [ ] } } "#, r#"{"kvlistValue":{}}"#),
    ] {
        assert_eq!(canonical(&ANY_VALUE, given), want, "{given}");
    }
    for (given, want) in [
        (r#"{"spanId":"","parentSpanId":"0123456789AbCdEf"}"#, r#"{"spanId":"","parentSpanId":"0123456789abcdef"}"#),
        (r#"{"start_time_unix_nano":"7","flags":1}"#, r#"{"startTimeUnixNano":"7","flags":1}"#),
        (r#"{"kind":"SPAN_KIND_CLIENT","flags":"257"}"#, r#"{"kind":3,"flags":257}"#),
        (r#"{"kind":-7,"status":{"code":"2"}}"#, r#"{"kind":-7,"status":{"code":2}}"#),
        (r#"{"startTimeUnixNano":18446744073709551615}"#, r#"{"startTimeUnixNano":"18446744073709551615"}"#),
        (r#"{"name":"x","name":null,"events":null,"status":null}"#, r#"{"name":"x"}"#),
        (r#"{"parentSpanId":null,"kind":null,"flags":null,"startTimeUnixNano":null}"#, "{}"),
    ] {
        assert_eq!(canonical(&SPAN, given), want, "{given}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_place_and_reason() {
    const DIGITS: &str = "99999999999999999999999999999999999999999999";
    for (json, want) in [
        ("", "ExportTraceServiceRequest: not valid JSON: EOF while parsing a value (line 1, column 0)"),
        ("[]", "ExportTraceServiceRequest: expected an object, found an array (line 1, column 2)"),
        ("null", "ExportTraceServiceRequest: expected an object, found null (line 1, column 4)"),
        ("{} {}", "ExportTraceServiceRequest: not valid JSON: trailing characters (line 1, column 4)"),
        (r#"{"resourceSpans":[{},{]}"#, "resourceSpans[1]: not valid JSON: key must be a string (line 1, column 23)"),
        (r#"{"resourceSpans":{}}"#, "resourceSpans: expected an array, found an object (line 1, column 19)"),
        ("{\n\"resourceSpans\":[7]}", "resourceSpans[0]: expected an object, found a number (line 2, column 18)"),
        (
            r#"{"resourceSpans":[{"resource":{}},{"resource":"secret"}]}"#,
            "resourceSpans[1].resource: expected an object, found a string of 6 bytes (line 1, column 54)",
        ),
        (
            r#"{"resourceSpans":[{"resource":{},"resource":{}}]}"#,
            "resourceSpans[0].resource: the field occurs twice in its object (line 1, column 47)",
        ),
        (
            r#"{"resourceSpans":[],"resourceSpans":[{}]}"#,
            "resourceSpans: the field occurs twice in its object (line 1, column 41)",
        ),
        (r#"{"unknown":[1,}]}"#, "ExportTraceServiceRequest: not valid JSON: expected value (line 1, column 15)"),
    ] {
        assert_eq!(error(&TRACES, json), want, "{json}");
    }
    let number = |what: &str| what.replace("DIGITS", DIGITS);
    for (json, want) in [
        (
            r#"{"kind":"secret"}"#,
            "kind: expected an integer or the name of an enumeration's value, found a string of 6 bytes (line 1, column 17)",
        ),
        (
            r#"{"kind":2147483648}"#,
            "kind: expected an integer or the name of an enumeration's value, found a number out of its range (line 1, column 19)",
        ),
        (
            r#"{"traceId":"abc"}"#,
            "traceId: expected a string of 32 hexadecimal digits, or of none, found a string of 3 bytes (line 1, column 17)",
        ),
        (
            r#"{"traceId":"abcz"}"#,
            "traceId: expected a string of 32 hexadecimal digits, or of none, found a string of 4 bytes (line 1, column 18)",
        ),
        (
            r#"{"parentSpanId":12}"#,
            "parentSpanId: expected a string of 16 hexadecimal digits, or of none, found a number (line 1, column 19)",
        ),
        (r#"{"name":true}"#, "name: expected a string, found a boolean (line 1, column 13)"),
        (r#"{"name":"bad \q"}"#, "name: not valid JSON: invalid escape (line 1, column 15)"),
        (
            r#"{"startTimeUnixNano":-1}"#,
            "startTimeUnixNano: expected an unsigned 64-bit integer, found a number out of its range (line 1, column 24)",
        ),
        (
            r#"{"startTimeUnixNano":DIGITS}"#,
            "startTimeUnixNano: expected an unsigned 64-bit integer, found a number out of its range (line 1, column 66)",
        ),
        (
            r#"{"startTimeUnixNano":1e400}"#,
            "startTimeUnixNano: expected an unsigned 64-bit integer, found a number out of its range (line 1, column 27)",
        ),
        (
            r#"{"droppedEventsCount":1.5}"#,
            "droppedEventsCount: expected an unsigned 32-bit integer, found a number with a fraction (line 1, column 26)",
        ),
        (
            r#"{"droppedEventsCount":1e-400}"#,
            "droppedEventsCount: expected an unsigned 32-bit integer, found a number with a fraction (line 1, column 29)",
        ),
        (
            r#"{"droppedEventsCount":"4294967296"}"#,
            "droppedEventsCount: expected an unsigned 32-bit integer, found a number out of its range (line 1, column 35)",
        ),
        (
            r#"{"droppedEventsCount":"1 "}"#,
            "droppedEventsCount: expected an unsigned 32-bit integer, found a string of 2 bytes (line 1, column 27)",
        ),
        (
            r#"{"attributes":[{"key":"a","value":{"intValue":"secret"}}]}"#,
            "attributes[0].value.intValue: expected a 64-bit integer, found a string of 6 bytes (line 1, column 55)",
        ),
        (
            r#"{"attributes":[{"value":{"intValue":[1]}}]}"#,
            "attributes[0].value.intValue: expected a 64-bit integer, found an array (line 1, column 40)",
        ),
        (
            r#"{"attributes":[{"value":{"boolValue":"true"}}]}"#,
            "attributes[0].value.boolValue: expected true or false, found a string of 4 bytes (line 1, column 44)",
        ),
        (
            r#"{"attributes":[{},{"value":{"doubleValue":"inf"}}]}"#,
            "attributes[1].value.doubleValue: expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", found a string of 3 bytes (line 1, column 48)",
        ),
        (
            r#"{"attributes":[{"value":{"doubleValue":-1e999}}]}"#,
            "attributes[0].value.doubleValue: expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", found a number out of its range (line 1, column 46)",
        ),
        (
            r#"{"attributes":[{"value":{"bytesValue":"a"}}]}"#,
            "attributes[0].value.bytesValue: expected a string in base64, found a string of 1 bytes (line 1, column 42)",
        ),
        (
            r#"{"attributes":[{"value":{"stringValue":"x","intValue":1}}]}"#,
            "attributes[0].value.intValue: only one member of a oneof may be set, and stringValue already is (line 1, column 56)",
        ),
    ] {
        assert_eq!(error(&SPAN, &number(json)), want, "{json}");
    }
    assert_eq!(
        error(
            &METRICS,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[1,null]}]}}]}]}]}"#
        ),
        "resourceMetrics[0].scopeMetrics[0].metrics[0].histogram.dataPoints[0].bucketCounts[1]: expected an unsigned 64-bit integer, found null (line 1, column 101)"
    );
    let utf8 = to_protobuf(&SPAN, b"{\n\"name\":\"\xff\"}", Limits::default()).unwrap_err();
    assert_eq!(utf8.to_string(), "Span: the body is not valid UTF-8 (line 2, column 9)");
}

/// An `AnyValue` of `arrays` arrays in each other: two messages each, below the root.
fn nested(arrays: usize) -> String {
    let open = r#"{"arrayValue":{"values":["#.repeat(arrays);
    format!("{open}{{}}{}", "]}}".repeat(arrays))
}

#[test]
fn depth_is_counted_in_messages() {
    let deepest = nested(MAX_DEPTH / 2);
    assert_eq!(canonical(&ANY_VALUE, &deepest), deepest, "both directions reach equally deep");
    let error = to_protobuf(&ANY_VALUE, nested(MAX_DEPTH / 2 + 1).as_bytes(), Limits::default()).unwrap_err();
    assert_eq!(error.problem, Problem::TooDeep);
    assert_eq!(error.path.matches(".values[0]").count() + 1, MAX_DEPTH / 2 + 1);
    let endless = to_protobuf(&ANY_VALUE, nested(100_000).as_bytes(), Limits::default()).unwrap_err();
    assert_eq!(endless.problem, Problem::TooDeep);
}

#[test]
fn unknown_fields_may_nest_as_deep_as_they_like() {
    let levels = 100_000;
    let (open, close) = ("[".repeat(levels), "]".repeat(levels));
    assert_eq!(canonical(&SPAN, &format!(r#"{{"nope":{open}{close},"name":"x"}}"#)), r#"{"name":"x"}"#);
    let unclosed = error(&SPAN, &format!(r#"{{"nope":{open}"#));
    assert!(
        unclosed.starts_with("Span: not valid JSON: EOF while parsing a list (line 1, column 100008"),
        "{unclosed}"
    );
    // The same in place of a scalar, and of a message.
    assert!(
        error(&SPAN, &format!(r#"{{"name":{open}{close}}}"#)).starts_with("name: expected a string, found an array")
    );
    assert!(
        error(&SPAN, &format!(r#"{{"status":{open}{close}}}"#))
            .starts_with("status: expected an object, found an array")
    );
}

#[test]
fn the_protobuf_is_no_longer_than_allowed() {
    let json = format!(r#"{{"name":"{}"}}"#, "x".repeat(98));
    assert_eq!(to_protobuf(&SPAN, json.as_bytes(), Limits { max_bytes: 100 }).map(|b| b.len()), Ok(100));
    let error = to_protobuf(&SPAN, json.as_bytes(), Limits { max_bytes: 99 }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "name: the request takes more than the 99 bytes allowed as protobuf (line 1, column 109)"
    );
    // Zeros grow the most: stopped at the element that goes too far, not after the list.
    let zeros = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"bucketCounts":[{}0]"#,
        "0,".repeat(1000)
    );
    let error = to_protobuf(&METRICS, zeros.as_bytes(), Limits { max_bytes: 1000 }).unwrap_err();
    assert!(error.path.ends_with("bucketCounts[123]"), "{error}");
}

#[test]
fn lengths_are_the_shortest_varints() {
    for len in [0, 1, 125, 126, 127, 128, 129, 16_381, 16_382, 16_383, 16_384, 2_097_151, 2_097_152] {
        // Once copied whole, once with an escape and so written before its length is known.
        for text in ["x".repeat(len), format!("{}\\n", "x".repeat(len.saturating_sub(1)))] {
            let plain = text.replace("\\n", "\n");
            let (mut value, mut pair, mut want) = (Vec::new(), Vec::new(), Vec::new());
            put_bytes(&mut value, 1, plain.as_bytes());
            put_bytes(&mut pair, 2, &value);
            put_bytes(&mut want, 9, &pair);
            let json = format!(r#"{{"attributes":[{{"value":{{"stringValue":"{text}"}}}}]}}"#);
            assert!(decode(&SPAN, &json) == want, "{len}");
        }
    }
}

#[test]
fn numbers_are_packed_and_empty_lists_left_out() {
    let point = r#"{"bucketCounts":["1",2],"explicitBounds":[]}"#;
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
    );
    let mut want = vec![0x32, 16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    for number in [1, 9, 2, 2, 1] {
        let mut outer = Vec::new();
        put_bytes(&mut outer, number, &want);
        want = outer;
    }
    assert_eq!(decode(&METRICS, &json), want);
    assert_eq!(canonical(&METRICS, &json), json.replace(r#",2],"explicitBounds":[]"#, r#","2"]"#));
}

#[test]
fn json_has_each_field_once_however_the_wire_scatters_it() {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 2, b"old");
    put_bytes(&mut scope, 3, &[0x0a, 1, b'a']);
    put_bytes(&mut scope, 1, b"name");
    put_bytes(&mut scope, 99, b"unknown");
    put_bytes(&mut scope, 3, &[0x0a, 1, b'b']);
    put_uint(&mut scope, 4, 0);
    put_bytes(&mut scope, 2, b"new");
    put_bytes(&mut scope, 4, b"of the wrong type");
    let json = String::from_utf8(to_json(&SCOPE, &scope)).unwrap();
    assert_eq!(
        json,
        r#"{"name":"name","version":"new","attributes":[{"key":"a"},{"key":"b"}],"droppedAttributesCount":0}"#
    );

    let Some(Kind::Message(buckets)) = exponential_buckets() else { panic!("the table has buckets") };
    let (mut wire, mut packed) = (Vec::new(), Vec::new());
    put_uint(&mut wire, 2, 1);
    put_varint(&mut packed, 300);
    put_varint(&mut packed, u64::MAX);
    put_bytes(&mut wire, 2, &packed);
    put_bytes(&mut wire, 2, &[]);
    put_uint(&mut wire, 1, 5);
    put_tag(&mut wire, 2, 0);
    put_varint(&mut wire, 2);
    let json = String::from_utf8(to_json(buckets, &wire)).unwrap();
    assert_eq!(json, r#"{"offset":-3,"bucketCounts":["1","300","18446744073709551615","2"]}"#);
}

/// The type of `ExponentialHistogramDataPoint.positive`.
fn exponential_buckets() -> Option<Kind> {
    let path = ["resource_metrics", "scope_metrics", "metrics", "exponential_histogram", "data_points", "positive"];
    path.into_iter().try_fold(Kind::Message(&METRICS), |kind, name| match kind {
        Kind::Message(message) => message.fields.iter().find(|f| f.name == name).map(|f| f.kind),
        _ => None,
    })
}

#[test]
fn every_message_has_room_in_the_set_of_seen_fields() {
    fn check(message: &'static Message, depth: usize) {
        assert!(message.fields.len() <= u32::BITS as usize, "{}", message.name);
        for field in message.fields {
            if let Kind::Message(inner) = field.kind
                && depth < 12
            {
                check(inner, depth + 1);
            }
        }
    }
    [&TRACES, &METRICS, &LOGS].into_iter().for_each(|message| check(message, 0));
}

/// JSON that looks like OTLP now and then.
fn arb_json() -> impl Strategy<Value = serde_json::Value> {
    let names = [
        "resourceSpans",
        "resource",
        "scopeSpans",
        "spans",
        "name",
        "traceId",
        "kind",
        "attributes",
        "key",
        "value",
        "stringValue",
        "intValue",
        "doubleValue",
        "bytesValue",
        "arrayValue",
        "values",
        "events",
        "status",
        "flags",
    ];
    let strings = ["", "12", "1e3", "-5", "NaN", "abcdef", "AQI=", "SPAN_KIND_SERVER", "-", "1e", "💥"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        prop::sample::select(strings.to_vec()).prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        let key = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec((key, inner), 0..5).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = to_protobuf(&TRACES, &bytes, Limits::default());
    }

    #[test]
    fn any_json_is_answered(json in arb_json()) {
        for message in [&TRACES, &SPAN, &EVENT, &ANY_VALUE] {
            if let Ok(bytes) = to_protobuf(message, json.to_string().as_bytes(), Limits::default()) {
                let again = to_json(message, &bytes);
                prop_assert_eq!(to_protobuf(message, &again, Limits::default()).map(|b| to_json(message, &b)), Ok(again));
            }
        }
    }

    #[test]
    fn damaged_json_is_answered(cut in 0usize..400, at in 0usize..400, byte in any::<u8>()) {
        let mut json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",
            "kind":3,"startTimeUnixNano":"1544712660000000000","attributes":[{"key":"a\u00e9\n","value":{"arrayValue":
            {"values":[{"intValue":"1"},{"doubleValue":1.5e3},{"bytesValue":"AQI="}]}}}]}]}]}]}"#.to_vec();
        if let Some(place) = json.get_mut(at) {
            *place = byte;
        }
        json.truncate(cut.max(at));
        let _ = to_protobuf(&TRACES, &json, Limits::default());
    }

    #[test]
    fn bytes_that_were_never_validated_still_give_json(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for message in [&TRACES, &SPAN, &ANY_VALUE] {
            let json = to_json(message, &bytes);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
        }
    }

    #[test]
    fn whole_numbers_are_read_exactly(value in any::<i64>(), shift in 0usize..25) {
        // The same number with its point moved to the left, and an exponent that moves it back.
        let digits = format!("{:0>26}", value.unsigned_abs());
        let (units, fraction) = digits.split_at(digits.len() - shift);
        let sign = if value < 0 { "-" } else { "" };
        let units = units.trim_start_matches('0');
        let units = if units.is_empty() { "0" } else { units };
        let point = if fraction.is_empty() { "" } else { "." };
        let want = format!(r#"{{"intValue":"{value}"}}"#);
        for text in [format!("{sign}{units}{point}{fraction}e{shift}"), format!("\"{sign}{units}{point}{fraction}E+{shift}\"")] {
            prop_assert_eq!(canonical(&ANY_VALUE, &format!(r#"{{"intValue":{text}}}"#)), want.clone());
        }
    }

    #[test]
    fn doubles_are_read_exactly(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let bytes = decode(&ANY_VALUE, &format!(r#"{{"doubleValue":{value:e}}}"#));
        prop_assert_eq!(&bytes[1..], value.to_le_bytes());
    }
}
