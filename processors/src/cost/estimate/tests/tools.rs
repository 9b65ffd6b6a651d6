use super::*;

/// The messages of the cookbook's example, and an answer.
fn messages() -> Vec<(&'static str, Json)> {
    vec![
        ("gen_ai.prompt.0.role", json!("system")),
        (
            "gen_ai.prompt.0.content",
            json!("You are a helpful assistant that can answer to questions about the weather."),
        ),
        ("gen_ai.prompt.1.role", json!("user")),
        ("gen_ai.prompt.1.content", json!("What's the weather like in San Francisco?")),
        ("gen_ai.completion.0.content", json!("Sunny.")),
    ]
}

/// The tool of the cookbook's example.
fn weather() -> Json {
    json!({
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": parameters(),
    })
}

fn parameters() -> Json {
    json!({
        "type": "object",
        "properties": {
            "location": { "type": "string", "description": "The city and state, e.g. San Francisco, CA" },
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    })
}

fn defined(definitions: &Json) -> (&'static str, Json) {
    ("gen_ai.tool.definitions", json!(definitions.to_string()))
}

fn with_tools(model: &str, definitions: &Json) -> Option<u64> {
    estimated("chat", model, &and(&messages(), &[defined(definitions)])).map(|(input, _)| input)
}

#[test]
fn the_cookbooks_example_is_counted_as_the_cookbook_does() {
    // The texts are 14 and 9 tokens (8 in o200k), and the chat adds 4 for each and 3: 34 (33).
    // The tool: 10 (7) for the function, 11 for its line; 3 for having parameters; 3 + 14 for `location`; 3 + 8 for
    // `unit`, and for its values −3 + (3 + 2) + (3 + 2); 12 at the end: 71 (68).
    let example = and(&messages(), &[defined(&json!([{ "type": "function", "function": weather() }]))]);
    for (model, tokens, method) in [
        ("gpt-3.5-turbo", 105, "tiktoken/cl100k_base+tools"),
        ("gpt-4", 105, "tiktoken/cl100k_base+tools"),
        ("gpt-4o", 101, "tiktoken/o200k_base+tools"),
        ("gpt-4o-mini", 101, "tiktoken/o200k_base+tools"),
    ] {
        assert_eq!(estimated("chat", model, &example), Some((tokens, method)), "{model}");
    }
}

#[test]
fn definitions_are_read_from_whatever_attributes_hold_them() {
    let (description, parameters) = (weather()["description"].clone(), json!(parameters().to_string()));
    let vercel = json!({
        "type": "function",
        "name": "get_current_weather",
        "description": description,
        "inputSchema": serde_json::from_str::<Json>(parameters.as_str().unwrap()).unwrap(),
    });
    let openinference = json!({ "type": "function", "function": weather() });
    let families: [&[(&str, Json)]; 7] = [
        &[defined(&json!([weather()]))],
        &[
            ("llm.request.functions.0.name", json!("get_current_weather")),
            ("llm.request.functions.0.description", description.clone()),
            ("llm.request.functions.0.parameters", parameters.clone()),
        ],
        &[
            ("gen_ai.request.functions.0.parameters", parameters),
            ("gen_ai.request.functions.0.name", json!("get_current_weather")),
            ("gen_ai.request.functions.0.description", description.clone()),
        ],
        &[("llm.tools.0.tool.json_schema", json!(openinference.to_string()))],
        &[("ai.prompt.tools", json!([vercel.to_string()])), ("ai.prompt.toolChoice", json!(r#"{"type":"auto"}"#))],
        // What an emitter leaves empty says nothing.
        &[defined(&json!([{ "type": "function", "name": "get_current_weather", "strict": true, "async_": null,
            "description": description, "parameters": weather()["parameters"] }]))],
        // The same tools twice are not twice as many.
        &[defined(&json!([weather()])), ("ai.prompt.tools", json!([vercel.to_string()]))],
    ];
    for family in families {
        let found = estimated("chat", "gpt-4o", &and(&messages(), family));
        assert_eq!(found, Some((101, "tiktoken/o200k_base+tools")), "{family:?}");
    }
    // No tools: 101 less the 68 that they add.
    let found = estimated("chat", "gpt-4o", &and(&messages(), &[defined(&json!([]))]));
    assert_eq!(found, Some((33, "tiktoken/o200k_base")));
}

#[test]
fn each_tool_adds_its_own_and_all_add_the_end_once() {
    let mut other = weather();
    other["name"] = json!("get_other_weather");
    let none =
        json!({ "name": "now", "description": "The time.", "parameters": { "type": "object", "properties": {} } });
    let at = |definitions: Json| with_tools("gpt-4o", &definitions).unwrap();
    // 56 a tool, and 12 at the end; the names are of three tokens each.
    assert_eq!(at(json!([weather(), other])), 33 + 2 * 56 + 12);
    // 7, and three for `now:The time`: the full stop at the end of a description does not count.
    assert_eq!(at(json!([none])), 33 + 7 + 3 + 12);
    assert_eq!(at(json!([weather(), none])), 101 + 7 + 3);
}

#[test]
fn what_the_rule_does_not_cover_is_not_guessed() {
    let tool = |schema: Json| json!([{ "name": "f", "description": "d", "parameters": schema }]);
    let property = |schema: Json| tool(json!({ "type": "object", "properties": { "p": schema } }));
    assert!(with_tools("gpt-4o", &property(json!({ "type": "string", "description": "d", "title": "P" }))).is_some());
    let list = json!({ "type": "array", "description": "d", "items": { "type": "string" } });
    assert!(with_tools("gpt-4o", &property(list)).is_some());
    for definitions in [
        // A parameter or function without a description.
        property(json!({ "type": "string" })),
        json!([{ "name": "f", "parameters": parameters() }]),
        // More than a flat schema.
        property(json!({ "type": "object", "description": "d", "properties": {} })),
        property(json!({ "type": "array", "description": "d", "items": { "type": "object" } })),
        property(json!({ "type": ["string", "null"], "description": "d" })),
        property(json!({ "anyOf": [], "description": "d" })),
        property(json!({ "type": "string", "description": "d", "default": "x" })),
        property(json!({ "type": "integer", "description": "d", "enum": [1, 2] })),
        tool(json!({ "type": "object", "properties": {}, "$defs": {} })),
        tool(json!("string")),
        // The provider's own.
        json!([{ "type": "web_search" }]),
        // No definitions.
        json!({}),
        json!([1]),
        json!("["),
    ] {
        assert_eq!(with_tools("gpt-4o", &definitions), None, "{definitions}");
    }
    for model in ["gpt-4.1", "gpt-4.1-nano", "gpt-4.5-preview", "gpt-5"] {
        assert_eq!(with_tools(model, &json!([weather()])), None, "{model}");
    }
    let example = and(&messages(), &[defined(&json!([weather()]))]);
    for more in [
        ("llm.request.functions.0.arguments", json!("{}")),
        ("llm.request.functions.x.name", json!("f")),
        ("llm.tools.0.tool.json_schema", json!("{")),
        ("ai.prompt.toolChoice", json!(r#"{"type":"required"}"#)),
        ("gen_ai.request.structured_output_schema", json!("{}")),
        // What came out or went in besides texts.
        ("gen_ai.response.finish_reasons", json!(["tool_calls"])),
        ("gen_ai.completion.0.finish_reason", json!("tool_calls")),
        ("gen_ai.completion.0.tool_calls.0.name", json!("get_current_weather")),
        ("ai.response.toolCalls", json!("[]")),
        ("gen_ai.prompt.2.tool_calls.0.name", json!("get_current_weather")),
        ("gen_ai.prompt.2.role", json!("tool")),
        // The Responses API.
        ("gen_ai.response.id", json!("resp_1")),
    ] {
        assert_eq!(estimated("chat", "gpt-4o", &and(&example, std::slice::from_ref(&more))), None, "{more:?}");
    }
    assert_eq!(estimated("openai.response", "gpt-4o", &example), None);
    let id = ("gen_ai.response.id", json!("chatcmpl-1"));
    assert!(estimated("streaming response", "gpt-4o", &and(&example, &[id])).is_some());
}

#[test]
fn what_came_out_as_calls_leaves_the_input_countable() {
    let attributes = and(&messages(), &[defined(&json!([weather()]))]);
    for more in [
        ("gen_ai.completion.0.tool_calls.0.name", json!("get_current_weather")),
        ("gen_ai.output.messages", json!(r#"[{"role":"assistant","parts":[{"type":"tool_call","name":"f"}]}]"#)),
    ] {
        let batch = span_with("chat", "gpt-4o", &and(&attributes, &[more]));
        let span = batch.spans().next().unwrap();
        let mut reader = UsageReader::default();
        reader.visit_all(span);
        let reading = reader.finish("");
        assert_eq!(input(span, &reading), Some((101, "tiktoken/o200k_base+tools")));
        assert_eq!(estimate(span, &reading), None);
    }
}
