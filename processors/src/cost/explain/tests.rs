use weir_pipeline::batch::message_of;
use weir_pipeline::config::Node;
use weir_pipeline::otlp::json;
use weir_pipeline::signal::Signal;

use super::*;
use crate::cost::Catalog;

/// A request of one resource and one scope with these spans, as OTLP/JSON.
fn batch(scope: &str, spans: &[(u8, &str)]) -> Batch {
    batch_of("", scope, spans)
}

/// The same with a resource.
fn batch_of(resource: &str, scope: &str, spans: &[(u8, &str)]) -> Batch {
    let spans: Vec<_> = spans
        .iter()
        .map(|(id, attributes)| {
            format!(
                r#"{{"traceId":"{}","spanId":"{}","name":"chat","endTimeUnixNano":"1749513600000000000",
                "attributes":[{attributes}]}}"#,
                "01".repeat(16),
                format!("{id:02x}").repeat(8),
            )
        })
        .collect();
    let json = format!(
        r#"{{"resourceSpans":[{{{resource}"scopeSpans":[{{"scope":{{"name":"{scope}"}},"spans":[{}]}}]}}]}}"#,
        spans.join(",")
    );
    let bytes = json::to_protobuf(message_of(Signal::Traces), json.as_bytes(), json::Limits::default()).unwrap();
    Batch::decode(Signal::Traces, bytes.into()).unwrap()
}

fn text(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

fn int(key: &str, value: u64) -> String {
    format!(r#"{{"key":"{key}","value":{{"intValue":"{value}"}}}}"#)
}

fn call(provider: &str, model: &str, more: &[String]) -> String {
    let call = [
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", provider),
        text("gen_ai.request.model", model),
        text("gen_ai.response.id", "r"),
    ];
    [&call[..], more].concat().join(",")
}

fn embedded() -> Pricing {
    Pricing::with_catalog(Catalog::embedded().unwrap())
}

fn configured(yaml: &str) -> Pricing {
    let node = Node::parse("test.yaml", yaml).unwrap();
    Pricing::from_node(&node, "processors::cost", 0, None).unwrap()
}

fn explained(batch: &Batch) -> Vec<String> {
    explain(&embedded(), batch).iter().map(ToString::to_string).collect()
}

#[test]
fn every_step_is_shown() {
    let counts = [
        int("gen_ai.usage.input_tokens", 4),
        int("gen_ai.usage.output_tokens", 50),
        int("gen_ai.usage.cache_read.input_tokens", 18_131),
    ];
    let attributes = call("aws.bedrock", "claude-3-5-haiku-20241022-v1:0", &counts);
    let text = explained(&batch("opentelemetry.instrumentation.bedrock", &[(1, &attributes)])).remove(0);
    for line in [
        "gen_ai.usage.input_tokens = 4  [OpenTelemetry GenAI]",
        "input 18135, reported as 4: excludes its parts: this emitter passes on the provider's raw counts",
        "cache_read 18131",
        "found aws/regional.anthropic.claude-3-5-haiku-20241022-v1:0 by the name as it stands",
        "price           aws/regional.anthropic.claude-3-5-haiku-20241022-v1:0",
        "cache_read: 18131 × 0.08 USD per million = 0.00145048 USD",
        "input: 4 × 0.8 USD per million = 0.0000032 USD",
        "output: 50 × 4 USD per million = 0.0002 USD",
        "total 0.00165368 USD",
        "status          priced: this span carries the cost of its call",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn why_there_is_no_cost_is_said() {
    let counts = [int("gen_ai.usage.input_tokens", 4), int("gen_ai.usage.output_tokens", 50)];
    let unknown = call("openai", "gpt-nonsense", &counts);
    let without = call("openai", "gpt-4o", &[]);
    let other = text("http.method", "GET");
    let texts = explained(&batch("", &[(1, &unknown), (2, &other)]));
    assert_eq!(texts.len(), 1, "only spans of models are explained");
    assert!(texts[0].contains("not found: the catalog has the provider but not the model"), "{}", texts[0]);
    let text = explained(&batch("", &[(1, &without)])).remove(0);
    assert!(text.contains("usage           none: the span does not say how many tokens"), "{text}");
}

#[test]
fn dates_tiers_given_costs_and_duplicates_are_shown() {
    let counts = [
        int("gen_ai.usage.input_tokens", 1_000),
        int("gen_ai.usage.output_tokens", 100),
        text("openai.response.service_tier", "nobody-knows"),
        r#"{"key":"operation.cost","value":{"doubleValue":0.003}}"#.to_owned(),
    ];
    let attributes = call("openai", "o3", &counts);
    let spans = explain(&embedded(), &batch("", &[(1, &attributes), (2, &attributes)]));
    let text = spans[0].to_string();
    for line in [
        "openai/o3@2025-06-10, from 2025-06-10",
        "service tier served \"nobody-knows\"",
        "the call's service tier has no price",
        "given cost      operation.cost = 0.003 USD; computed 0.0028 USD",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let first = format!("{}/{}", "01".repeat(16), "01".repeat(8));
    assert_eq!((spans[1].status, spans[1].deferred_to.as_deref()), (CostStatus::Duplicate, Some(first.as_str())));
    assert!(spans[1].to_string().contains(&first));
}

#[test]
fn prices_of_projects_are_those_of_the_spans_project() {
    let prices = "catalog: {overlay: {prices: [{provider: openai, model: gpt-4o, project: shop, rates: {input: 1}}]}}";
    let counts = [int("gen_ai.usage.input_tokens", 1_000), int("gen_ai.usage.output_tokens", 0)];
    let spans = [(1, call("openai", "gpt-4o", &counts))];
    let spans: Vec<_> = spans.iter().map(|(id, attributes)| (*id, attributes.as_str())).collect();
    let of = |project: &str| {
        let resource = format!(r#""resource":{{"attributes":[{}]}},"#, text("service.namespace", project));
        explain(&configured(prices), &batch_of(&resource, "", &spans)).remove(0).to_string()
    };
    let shop = of("shop");
    for line in [
        "project         \"shop\" has prices of its own",
        "openai/gpt-4o+overlay(shop)",
        "for the project \"shop\" alone",
        "input: 1000 × 1 USD per million = 0.001 USD",
    ] {
        assert!(shop.contains(line), "{line}\n{shop}");
    }
    let other = of("other");
    assert!(other.contains("\"other\" has no prices of its own"), "{other}");
    assert!(other.contains("input: 1000 × 2.5 USD per million = 0.0025 USD"), "{other}");
}

#[cfg(feature = "estimate")]
#[test]
fn estimates_are_shown_with_their_method() {
    let messages = [
        text("gen_ai.prompt.0.role", "user"),
        text("gen_ai.prompt.0.content", "Tell me a joke about OpenTelemetry"),
        text("gen_ai.completion.0.role", "assistant"),
        text("gen_ai.completion.0.content", "Why did the span cross the road?"),
    ];
    let attributes = call("openai", "gpt-4o", &messages);
    let batch = batch("", &[(1, &attributes)]);
    let found = explain(&configured("estimate: on"), &batch).remove(0);
    let shown = found.to_string();
    assert_eq!(found.status, CostStatus::Estimated, "{shown}");
    for line in ["none: the span does not say how many tokens", "estimated with tiktoken/o200k_base", "total 0."] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert_eq!(explain(&embedded(), &batch).remove(0).status, CostStatus::NoUsage, "off by default");
}

#[test]
fn an_agent_whose_calls_are_not_there_is_said_not_to_be_billed() {
    let counts = [
        int("gen_ai.usage.input_tokens", 1),
        int("gen_ai.usage.output_tokens", 1),
        text("gen_ai.operation.name", "invoke_agent"),
    ];
    let attributes = call("openai", "gpt-4o", &counts);
    let found = explain(&embedded(), &batch("", &[(1, &attributes)])).remove(0);
    assert_eq!((found.status, &found.deferred_to), (CostStatus::Aggregate, &None));
    let end =
        "only they are billed; no call with a cost was seen below it, and what only this span reports is not billed\n";
    assert!(found.to_string().ends_with(end), "{found}");
    let known = Explanation { deferred_to: Some("a/b".to_owned()), ..found };
    assert!(known.to_string().ends_with("only they are billed (a/b)\n"), "{known}");
}

#[test]
fn what_a_processor_found_stands() {
    let of = format!("{}/{}", "01".repeat(16), "09".repeat(8));
    let counts = [
        int("gen_ai.usage.input_tokens", 1),
        int("gen_ai.usage.output_tokens", 1),
        text("weir.cost.status", "duplicate"),
        text("weir.cost.deferred_to", &of),
    ];
    let attributes = call("openai", "gpt-4o", &counts);
    let found = explain(&embedded(), &batch("", &[(1, &attributes)])).remove(0);
    assert_eq!((found.status, found.deferred_to), (CostStatus::Duplicate, Some(of)));
}
