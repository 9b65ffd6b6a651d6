use deltalake::arrow::array::{Array, AsArray};
use deltalake::arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use weir_pipeline::batch::Batch;
use weir_pipeline::signal::Signal;

use super::*;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn convert(attributes: Vec<(&str, Value)>) -> RecordBatch {
    let attributes = attributes.into_iter().map(|(key, value)| attribute(key, value)).collect();
    convert_of(Resource::default(), Span { attributes, ..Span::default() })
}

fn convert_of(resource: Resource, span: Span) -> RecordBatch {
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let mut rows = Rows::default();
    let batch = Batch::decode(Signal::Traces, request.into()).unwrap();
    rows.add(&batch);
    let stamp = Stamp { ingest_micros: 0, source: String::new(), seq: 0 };
    Converter::default().convert(&rows, 0..1, &stamp).unwrap()
}

fn text(batch: &RecordBatch, column: &str) -> Option<String> {
    let array = batch.column_by_name(column).unwrap().as_string::<i32>();
    array.is_valid(0).then(|| array.value(0).to_owned())
}

fn long(batch: &RecordBatch, column: &str) -> Option<i64> {
    let array = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
    array.is_valid(0).then(|| array.value(0))
}

fn keys(batch: &RecordBatch, column: &str) -> Vec<String> {
    let entries = batch.column_by_name(column).unwrap().as_map().value(0);
    entries.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

fn s(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn i(number: i64) -> Value {
    Value::IntValue(number)
}

#[test]
fn the_builders_are_the_schema_s_columns() {
    let names: Vec<&str> = crate::schema::COLUMNS.iter().map(|c| c.0).collect();
    assert_eq!(Columns::NAMES, names);
}

#[test]
fn content_moves_out_of_the_map() {
    let batch = convert(vec![("gen_ai.input.messages", s("[1]")), ("traceloop.entity.input", s("x")), ("a", s("b"))]);
    assert_eq!(text(&batch, "input").as_deref(), Some("[1]"));
    assert_eq!(text(&batch, "input_key").as_deref(), Some("gen_ai.input.messages"));
    assert_eq!(keys(&batch, "attributes_string"), ["traceloop.entity.input", "a"], "only the best source moves");
    assert_eq!(long(&batch, "content_bytes"), Some(3));
}

#[test]
fn families_become_json() {
    let batch = convert(vec![
        ("gen_ai.prompt.1.content", s("say \"hi\"\n")),
        ("gen_ai.prompt.0.role", s("system")),
        ("gen_ai.prompt.1.tool_calls.0.name", s("f")),
        ("gen_ai.prompt.0.n", i(3)),
        ("gen_ai.prompt.2.x.1", Value::DoubleValue(1.0)),
        ("llm.output_messages.0.message.role", s("assistant")),
        ("llm.tools.0.tool.json_schema", s("{}")),
    ]);
    let input = r#"[{"n":3,"role":"system"},{"content":"say \"hi\"\n","tool_calls":[{"name":"f"}]},{"x":{"1":1.0}}]"#;
    assert_eq!(text(&batch, "input").as_deref(), Some(input));
    assert_eq!(text(&batch, "input_key").as_deref(), Some("gen_ai.prompt.*"));
    assert_eq!(text(&batch, "output").as_deref(), Some(r#"[{"role":"assistant"}]"#));
    assert_eq!(text(&batch, "output_key").as_deref(), Some("llm.output_messages.*.message"));
    assert_eq!(text(&batch, "tool_definitions").as_deref(), Some(r#"[{"json_schema":"{}"}]"#));
    assert!(keys(&batch, "attributes_string").is_empty() && keys(&batch, "attributes_int").is_empty());
}

#[test]
fn families_that_could_not_be_taken_apart_stay() {
    let list = Value::ArrayValue(ArrayValue { values: vec![] });
    for attributes in [
        // A leaf that has children.
        vec![("gen_ai.prompt.0", s("a")), ("gen_ai.prompt.0.role", s("b"))],
        // A list, which would read as part of the family.
        vec![("gen_ai.prompt.0.role", list), ("gen_ai.prompt.0.content", s("b"))],
        // Twice the same key.
        vec![("gen_ai.prompt.0.role", s("a")), ("gen_ai.prompt.0.role", s("b"))],
    ] {
        let batch = convert(attributes);
        assert_eq!(text(&batch, "input"), None);
        assert_eq!(text(&batch, "input_key"), None);
        assert!(!keys(&batch, "attributes_string").is_empty());
    }
}

#[test]
fn the_last_of_equal_keys_is_the_one_to_query() {
    let batch = convert(vec![("k", s("first")), ("k", s("last")), ("gen_ai.request.model", s("a"))]);
    assert_eq!(keys(&batch, "attributes_string"), ["k", "gen_ai.request.model"]);
    let entries = batch.column_by_name("attributes_string").unwrap().as_map().value(0);
    assert_eq!(entries.column(1).as_string::<i32>().value(0), "last");
}

#[test]
fn what_would_make_queries_fail_or_miss_rows_is_not_in_the_columns() {
    let odd = Span {
        start_time_unix_nano: u64::MAX - 5,
        end_time_unix_nano: u64::MAX,
        attributes: vec![
            attribute("gen_ai.request.temperature", Value::DoubleValue(f64::NAN)),
            attribute("gen_ai.request.top_p", s("NaN")),
        ],
        ..Span::default()
    };
    let batch = convert_of(Resource::default(), odd);
    for column in ["temperature", "top_p"] {
        assert!(batch.column_by_name(column).unwrap().is_null(0), "{column}");
    }
    let start = batch.column_by_name("start_time").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(start, i64::MAX / 1000);
}

#[test]
fn many_attributes_of_a_resource_take_linear_time() {
    let attributes = (0..100_000).map(|n| attribute(&format!("k{n}"), s("v"))).collect();
    let started = std::time::Instant::now();
    let batch = convert_of(Resource { attributes, ..Resource::default() }, Span::default());
    assert_eq!(keys(&batch, "resource_attributes").len(), 100_000);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn usage_is_inclusive() {
    for (attributes, expected) in [
        // OpenAI: cached tokens are part of the input.
        (
            vec![("gen_ai.usage.input_tokens", i(1149)), ("gen_ai.usage.cache_read.input_tokens", i(1024))],
            (Some(1149), None, Some(1149)),
        ),
        // Bedrock: they are not, and not in the total either.
        (
            vec![
                ("gen_ai.provider.name", s("aws.bedrock")),
                ("gen_ai.usage.input_tokens", i(4)),
                ("gen_ai.usage.output_tokens", i(50)),
                ("gen_ai.usage.cache_read.input_tokens", i(3)),
                ("gen_ai.usage.total_tokens", i(54)),
            ],
            (Some(7), Some(50), Some(57)),
        ),
        // A total that counts both says so.
        (
            vec![
                ("gen_ai.system", s("anthropic")),
                ("gen_ai.usage.input_tokens", i(1000)),
                ("gen_ai.usage.output_tokens", i(100)),
                ("gen_ai.usage.cache_read_input_tokens", i(148)),
                ("gen_ai.usage.total_tokens", i(1248)),
            ],
            (Some(1148), Some(100), Some(1248)),
        ),
        (
            vec![
                ("gen_ai.provider.name", s("aws.bedrock")),
                ("gen_ai.usage.input_tokens", i(10)),
                ("gen_ai.usage.output_tokens", i(100)),
                ("gen_ai.usage.cache_read.input_tokens", i(1148)),
                ("gen_ai.usage.total_tokens", i(1258)),
            ],
            (Some(1158), Some(100), Some(1258)),
        ),
        // More tokens than any call has are no count.
        (
            vec![("gen_ai.usage.input_tokens", i(i64::MAX)), ("gen_ai.usage.output_tokens", i(7))],
            (None, Some(7), Some(7)),
        ),
        // More cached than input proves the same.
        (
            vec![("gen_ai.usage.prompt_tokens", i(4)), ("gen_ai.usage.cache_creation_input_tokens", i(10))],
            (Some(14), None, Some(14)),
        ),
        // Gemini: thinking is in the total alone.
        (
            vec![
                ("gen_ai.usage.input_tokens", i(5)),
                ("gen_ai.usage.output_tokens", i(877)),
                ("gen_ai.usage.total_tokens", i(1940)),
            ],
            (Some(5), Some(1935), Some(1940)),
        ),
        // What Weir has normalised is left alone.
        (
            vec![
                ("weir.usage.input_tokens", i(1)),
                ("gen_ai.usage.input_tokens", i(9)),
                ("weir.usage.cache_read_tokens", i(5)),
                ("weir.usage.total_tokens", i(8)),
            ],
            (Some(1), None, Some(8)),
        ),
        // Doubles (Cohere) and texts are numbers too; others are not.
        (
            vec![("gen_ai.usage.input_tokens", Value::DoubleValue(7.0)), ("gen_ai.usage.output_tokens", s(" 8 "))],
            (Some(7), Some(8), Some(15)),
        ),
        (
            vec![("gen_ai.usage.input_tokens", Value::DoubleValue(0.5)), ("llm.token_count.prompt", i(-1))],
            (None, None, None),
        ),
        (vec![("gen_ai.usage.input_tokens", s("many")), ("llm.token_count.prompt", i(3))], (Some(3), None, Some(3))),
        // The AI SDK repeats the model call's usage on the span around it.
        (vec![("ai.operationId", s("ai.generateText")), ("ai.usage.inputTokens", i(3))], (None, None, None)),
        (
            vec![("ai.operationId", s("ai.generateText.doGenerate")), ("ai.usage.inputTokens", i(3))],
            (Some(3), None, Some(3)),
        ),
        (vec![("gen_ai.usage.input_tokens", i(0))], (Some(0), None, Some(0))),
        (vec![], (None, None, None)),
    ] {
        let batch = convert(attributes.clone());
        let found = (long(&batch, "input_tokens"), long(&batch, "output_tokens"), long(&batch, "total_tokens"));
        assert_eq!(found, expected, "{attributes:?}");
    }
}

#[test]
fn money_is_read_exactly_or_not_at_all() {
    for (value, expected) in [
        (s("0.000000000001"), Some(1)),
        (s("123456.789012345678"), Some(123_456_789_012_345_678)),
        (s("-1.5"), Some(-1_500_000_000_000)),
        (s("1e-6"), Some(1_000_000)),
        (s("0.0000000000005"), Some(0)),
        (s("999999.9999999999999"), None),
        (s("1000000"), None),
        (s("$1"), None),
        (s(""), None),
        (Value::DoubleValue(0.1), Some(100_000_000_000)),
        (Value::DoubleValue(0.1 + 0.2), Some(300_000_000_000)),
        (Value::DoubleValue(1.25e-8), Some(12_500)),
        (Value::DoubleValue(f64::NAN), None),
        (Value::DoubleValue(1e300), None),
        (i(2), Some(2_000_000_000_000)),
        (i(i64::MAX), None),
        (Value::BoolValue(true), None),
    ] {
        let batch = convert(vec![("gen_ai.usage.cost.amount", value.clone())]);
        let array = batch.column_by_name("total_cost").unwrap().as_primitive::<Decimal128Type>();
        assert_eq!(array.is_valid(0).then(|| array.value(0)), expected, "{value:?}");
    }
}

fn usd(batch: &RecordBatch, column: &str) -> Option<i128> {
    let array = batch.column_by_name(column).unwrap().as_primitive::<Decimal128Type>();
    array.is_valid(0).then(|| array.value(0))
}

#[test]
fn only_the_span_that_carries_a_cost_has_one() {
    let d = Value::DoubleValue;
    let amount = "gen_ai.usage.cost.amount";
    let status = |status: &str| ("weir.cost.status", s(status));
    let (one, two) = (Some(1_000_000_000_000), Some(2_000_000_000_000));
    for (attributes, total, source, given) in [
        (vec![status("priced"), (amount, d(1.0))], one, Some("local"), None),
        (vec![status("estimated"), (amount, d(1.0))], one, Some("local"), None),
        (vec![status("given"), (amount, d(1.0)), ("weir.cost.given", d(1.0))], one, Some("application"), one),
        // The application keeps its key, so the computed cost has another.
        (
            vec![status("priced"), (amount, d(2.0)), ("weir.cost.total", d(1.0)), ("weir.cost.given", d(2.0))],
            one,
            Some("local"),
            two,
        ),
        // What other families hold is Weir's own as well.
        (
            vec![status("priced"), (amount, d(1.0)), ("gen_ai.usage.cost", d(1.0)), ("llm.cost.total", d(1.0))],
            one,
            Some("local"),
            None,
        ),
        (vec![status("duplicate"), (amount, d(2.0)), ("weir.cost.given", d(2.0))], None, None, two),
        (vec![status("aggregate"), ("gen_ai.usage.cost", d(2.0))], None, None, None),
        (vec![status("unknown_model"), (amount, d(2.0)), ("weir.cost.given", d(2.0))], None, None, two),
        // No cost processor.
        (vec![(amount, d(2.0))], two, Some("application"), two),
        (vec![(amount, d(2.0)), ("gen_ai.usage.cost.currency", s("EUR"))], None, None, None),
        (vec![("operation.cost", d(2.0))], None, None, two),
        (vec![("llm.cost.total", s("2"))], None, None, two),
        (vec![("llm.cost.prompt", d(1.5)), ("llm.cost.completion", d(0.5))], None, None, two),
        (vec![("gen_ai.usage.input_cost", d(1.0))], None, None, one),
        (vec![("langfuse.observation.cost_details", s("{\"input\":1.5,\"output\":0.5}"))], None, None, two),
        (vec![("langfuse.observation.cost_details", s("{\"input\":1.5,\"total\":2}"))], None, None, two),
        (vec![("langfuse.observation.cost_details", s("{\"input\":-1}"))], None, None, None),
        (vec![("langfuse.observation.cost_details", s("[1]"))], None, None, None),
        // One that writes only the proposal's keys.
        (
            vec![(amount, d(1.0)), ("gen_ai.usage.cost.source", s("local")), ("gen_ai.usage.cost", d(1.0))],
            one,
            Some("local"),
            None,
        ),
    ] {
        let batch = convert(attributes.clone());
        let found = (usd(&batch, "total_cost"), text(&batch, "cost_source"), usd(&batch, "given_cost"));
        assert_eq!(found, (total, source.map(str::to_owned), given), "{attributes:?}");
    }
    let batch = convert(vec![status("duplicate"), ("weir.cost.deferred_to", s("a/b")), ("weir.cost.caveat", s("c"))]);
    assert_eq!(text(&batch, "cost_status").as_deref(), Some("duplicate"));
    assert_eq!(text(&batch, "cost_deferred_to").as_deref(), Some("a/b"));
    assert_eq!(text(&batch, "cost_caveat").as_deref(), Some("c"));
    assert_eq!(usd(&batch, "previous_total_cost"), None);
}

#[test]
fn span_types_come_from_every_convention() {
    for (key, value, expected) in [
        ("traceloop.span.kind", "workflow", "workflow"),
        ("traceloop.span.kind", "server", "other"),
        ("gen_ai.operation.name", "chat", "llm"),
        ("gen_ai.operation.name", "execute_tool", "tool"),
        ("llm.request.type", "embedding", "embedding"),
        ("openinference.span.kind", "AGENT", "agent"),
        ("ai.operationId", "ai.streamText.doStream", "llm"),
        ("ai.operationId", "ai.streamText", "task"),
        ("db.system", "chroma", "vectordb"),
        ("db.system", "postgresql", "other"),
        ("unknown", "x", "other"),
    ] {
        assert_eq!(text(&convert(vec![(key, s(value))]), "span_type").as_deref(), Some(expected), "{key}={value}");
    }
    let batch = convert(vec![("gen_ai.system", s("openai")), ("gen_ai.request.model", s("gpt"))]);
    assert_eq!(text(&batch, "span_type").as_deref(), Some("llm"));
}

#[test]
fn association_properties_are_text_and_keep_their_type() {
    let batch = convert(vec![
        ("traceloop.association.properties.user_id", s("u1")),
        ("traceloop.association.properties.n", i(5)),
    ]);
    assert_eq!(keys(&batch, "association_properties"), ["user_id", "n"]);
    assert_eq!(text(&batch, "user_id").as_deref(), Some("u1"));
    assert!(keys(&batch, "attributes_string").is_empty());
    assert_eq!(keys(&batch, "attributes_int"), ["traceloop.association.properties.n"]);
}

#[test]
fn the_first_finish_reason_is_found_in_any_shape() {
    let list = |values: &[&str]| {
        let values = values.iter().map(|v| AnyValue { value: Some(s(v)) }).collect();
        Value::ArrayValue(ArrayValue { values })
    };
    for (value, expected) in [
        (list(&["stop", "length"]), Some("stop")),
        (list(&[]), None),
        (s("[\"tool_calls\"]"), Some("tool_calls")),
        (s("end_turn"), Some("end_turn")),
    ] {
        let batch = convert(vec![("gen_ai.response.finish_reasons", value.clone())]);
        assert_eq!(text(&batch, "finish_reason").as_deref(), expected, "{value:?}");
    }
}
