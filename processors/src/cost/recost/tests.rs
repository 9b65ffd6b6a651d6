use std::sync::Arc;

use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{put_bytes, put_uint};
use weir_pipeline::config::Node;
use weir_pipeline::signal::Signal;

use super::*;
use crate::cost::Catalog;

/// 2025-06-10
const TIME: u64 = 1_749_513_600_000_000_000;
const MINUTE: u64 = 60_000_000_000;

/// A stored span: a call of 1,000 tokens in and 100 out.
#[derive(Clone)]
struct Kept {
    id: u8,
    parent: Option<u8>,
    model: &'static str,
    response: &'static str,
    scope: &'static str,
    counts: [u64; 2],
    status: Option<&'static str>,
    fixed: bool,
    time: u64,
    more: Vec<(&'static str, &'static str)>,
}

impl Kept {
    fn new(id: u8, model: &'static str, status: Option<&'static str>) -> Self {
        let (counts, time) = ([1_000, 100], TIME);
        Self {
            id,
            parent: None,
            model,
            response: "",
            scope: "test",
            counts,
            status,
            fixed: false,
            time,
            more: Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[9; 16]);
        put_bytes(&mut span, 2, &[self.id; 8]);
        if let Some(parent) = self.parent {
            put_bytes(&mut span, 4, &[parent; 8]);
        }
        for (tag, time) in [(0x39, self.time - 1_000), (0x41, self.time)] {
            span.push(tag);
            span.extend_from_slice(&time.to_le_bytes());
        }
        let mut attribute = |key: &str, value: &dyn Fn(&mut Vec<u8>)| {
            let (mut any, mut pair) = (Vec::new(), Vec::new());
            value(&mut any);
            put_bytes(&mut pair, 1, key.as_bytes());
            put_bytes(&mut pair, 2, &any);
            put_bytes(&mut span, 9, &pair);
        };
        let texts = [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", self.model),
            ("gen_ai.response.id", self.response),
        ];
        for (key, text) in texts.into_iter().chain(self.more.iter().copied()).filter(|(_, text)| !text.is_empty()) {
            attribute(key, &|any| put_bytes(any, 1, text.as_bytes()));
        }
        for (key, n) in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"].into_iter().zip(self.counts) {
            attribute(key, &|any| put_uint(any, 3, n));
        }
        let (mut scope, mut spans, mut body, mut out) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut scope, 1, self.scope.as_bytes());
        put_bytes(&mut spans, 1, &scope);
        put_bytes(&mut spans, 2, &span);
        put_bytes(&mut body, 2, &spans);
        put_bytes(&mut out, 1, &body);
        out
    }
}

fn pricing(yaml: &str) -> Pricing {
    if yaml.is_empty() {
        return Pricing::with_catalog(Catalog::embedded().unwrap());
    }
    Pricing::from_node(&Node::parse("test.yaml", yaml).unwrap(), "processors::cost", 0, None).unwrap()
}

/// A price of 2 USD per million for a model that the catalog does not know, and 10 USD for gpt-4o.
const NEW: &str = "catalog: {overlay: {prices: [{provider: openai, model: house, match: [house], rates: {input: 2, output: 2}}, \
                   {provider: openai, model: gpt-4o, rates: {input: 10, output: 10}}]}}";

/// Status and total of the spans of one file, in their order; `-` where nothing is said of one.
fn file(recost: &mut Recost, spans: &[Kept]) -> Vec<String> {
    let bytes: Vec<u8> = spans.iter().flat_map(Kept::encode).collect();
    let batch = Batch::decode(Signal::Traces, bytes.into()).unwrap();
    let mut kept = Vec::new();
    for (span, stored) in batch.spans().zip(spans) {
        let stored =
            Stored { status: stored.status, may_change: !stored.fixed, arrival_unix_nanos: stored.time + MINUTE };
        kept.extend(recost.read(span, stored));
    }
    let mut out = vec!["-".to_owned(); spans.len()];
    let decided = recost.decide();
    assert_eq!(decided.iter().map(|(at, _)| *at).collect::<Vec<_>>(), kept, "what is read is decided");
    for (at, found) in decided {
        let total = found.total.map(|usd| format!(" {usd}")).unwrap_or_default();
        assert_eq!(found.total.is_some(), found.status.has_cost());
        assert_eq!(found.deferred_to.is_some(), matches!(found.status, CostStatus::Duplicate | CostStatus::Aggregate));
        out[at] = format!("{}{total}", found.status);
    }
    out
}

fn once(yaml: &str, spans: &[Kept]) -> Vec<String> {
    file(&mut Recost::new(&pricing(yaml), ""), spans)
}

#[test]
fn amounts_are_those_of_the_prices_now() {
    let spans = [
        Kept::new(1, "gpt-4o", Some("priced")),
        Kept { time: TIME + 1_000_000_000, ..Kept::new(2, "house", Some("unknown_model")) },
    ];
    // 1,000 tokens at 2.5 and 100 at 10 USD per million.
    assert_eq!(once("", &spans), ["priced 0.0035", "unknown_model"]);
    // 1,100 tokens at 10, and at 2.
    assert_eq!(once(NEW, &spans), ["priced 0.011", "priced 0.0022"]);
}

#[test]
fn what_was_decided_among_spans_stands() {
    let other = |id: u8, status| Kept { time: TIME + u64::from(id) * MINUTE, ..Kept::new(id, "gpt-4o", status) };
    let spans = [
        Kept::new(1, "gpt-4o", Some("duplicate")),
        Kept::new(2, "gpt-4o", Some("aggregate")),
        other(3, Some("given")),
        Kept { fixed: true, ..other(4, Some("priced")) },
        // A row of an older version: its span tells.
        Kept { more: vec![("weir.cost.status", "duplicate")], ..other(5, None) },
        Kept { more: vec![("gen_ai.operation.name", "invoke_agent")], ..other(6, Some("aggregate")) },
    ];
    assert_eq!(once(NEW, &spans), ["-", "-", "-", "-", "-", "-"]);
    // The column counts, not the attribute that was written on arrival.
    let later = Kept { more: vec![("weir.cost.status", "unknown_model")], ..other(7, Some("duplicate")) };
    assert_eq!(once(NEW, &[later]), ["-"]);
    let unseen = other(8, None);
    assert_eq!(once(NEW, &[unseen]), ["priced 0.011"], "a span that no processor saw is priced");
}

#[test]
fn a_call_that_gets_a_price_is_billed_once() {
    let inner = Kept { parent: Some(1), ..Kept::new(2, "house", Some("unknown_model")) };
    let outer =
        Kept { scope: "opentelemetry.instrumentation.langchain", ..Kept::new(1, "house", Some("unknown_model")) };
    // In one file, whatever their order: the inner one is the exact one.
    assert_eq!(once(NEW, &[outer.clone(), inner.clone()]), ["duplicate", "priced 0.0022"]);
    assert_eq!(once(NEW, &[inner.clone(), outer.clone()]), ["priced 0.0022", "duplicate"]);
    // In two, the first.
    let mut recost = Recost::new(&pricing(NEW), "");
    assert_eq!(file(&mut recost, std::slice::from_ref(&outer)), ["priced 0.0022"]);
    assert_eq!(file(&mut recost, std::slice::from_ref(&inner)), ["duplicate"]);
    // One that had a cost comes before one that gets it.
    let billed = Kept { status: Some("priced"), ..outer.clone() };
    assert_eq!(once(NEW, &[inner.clone(), billed.clone()]), ["duplicate", "priced 0.0022"]);
    // In a later file it is found too late to come first, so it is the one that gives way.
    let mut recost = Recost::new(&pricing(NEW), "");
    assert_eq!(file(&mut recost, std::slice::from_ref(&inner)), ["priced 0.0022"]);
    assert_eq!(file(&mut recost, &[billed]), ["duplicate"]);
    // Without billing once, each has its cost.
    let separate = format!("billed_once: {{enabled: false}}\n{NEW}");
    assert_eq!(once(&separate, &[outer, inner]), ["priced 0.0022", "priced 0.0022"]);
}

#[test]
fn two_that_were_both_billed_on_arrival_stay_so() {
    let spans = [
        Kept { response: "r", ..Kept::new(1, "gpt-4o", Some("priced")) },
        Kept { response: "r", ..Kept::new(2, "gpt-4o", Some("priced")) },
    ];
    assert_eq!(once("", &spans), ["priced 0.0035", "priced 0.0035"]);
}

#[test]
fn a_price_that_is_gone_leaves_a_reason() {
    let catalog = r#"{"format":2,"source":{"name":"n","date":"2024-10-04","license":"","sha256":""},"providers":[
        {"id":"openai","name":"O","models":[{"id":"m","match":{"equals":"m"},"prices":[{"id":"openai/m","rates":{"input":"1"}}]}]}]}"#;
    let pricing = Pricing::with_catalog(Arc::new(Catalog::parse(catalog).unwrap()));
    let mut recost = Recost::new(&pricing, "");
    let spans = [Kept::new(1, "gpt-4o", Some("priced")), Kept::new(2, "m", Some("priced"))];
    assert_eq!(file(&mut recost, &spans), ["unknown_model", "no_rate"]);
}

#[test]
fn spans_without_a_project_have_that_of_their_table() {
    let yaml = "catalog: {overlay: {prices: [{provider: openai, model: gpt-4o, project: shop, rates: {input: 1, output: 1}}]}}";
    let spans = [Kept::new(1, "gpt-4o", Some("priced"))];
    assert_eq!(file(&mut Recost::new(&pricing(yaml), "shop"), &spans), ["priced 0.0011"]);
    assert_eq!(file(&mut Recost::new(&pricing(yaml), "other"), &spans), ["priced 0.0035"]);
}
