#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::batch::NewValue;
use weir_pipeline::tenant::Tenant;

use super::hash::Hasher;
use super::*;
use crate::testing::{Bench, TestSpan, V, batch, refused};

const COUNT: &str = "weir_content_policy_spans";

fn span() -> TestSpan {
    let mut span = TestSpan::named(
        "openai.chat",
        &[
            ("gen_ai.request.model", V::S("gpt-4o")),
            ("gen_ai.prompt.0.role", V::S("user")),
            ("gen_ai.prompt.0.content", V::S("abc")),
            ("gen_ai.completion.0.unheard_of", V::I(7)),
            ("my.prompt.x", V::S("mine")),
            ("gen_ai.usage.input_tokens", V::I(3)),
        ],
    );
    span.events = vec![
        ("gen_ai.user.message", vec![("content", V::S("abc")), ("role", V::S("user"))]),
        ("exception", vec![("exception.message", V::S("abc is wrong"))]),
        ("app.step", vec![("gen_ai.input.messages", V::S("abc")), ("step", V::I(1))]),
    ];
    span
}

fn tenant(project: &str, environment: &str) -> Arc<Tenant> {
    Arc::new(Tenant::new(project.parse().unwrap(), environment.parse().unwrap()))
}

/// Attributes, then those of each event.
fn shown(batch: &Batch) -> Vec<String> {
    let span = batch.spans().next().unwrap();
    let attributes = span.attributes().map(|(k, v)| format!("{k}={}", v.to_text()));
    let events = span.events().flat_map(|event| {
        event.attributes().iter().map(move |(k, v)| format!("{}: {k}={}", event.name(), v.to_text()))
    });
    attributes.chain(events).collect()
}

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn dropped_content_is_gone_from_attributes_and_events() {
    let bench = Bench::new(build, "{content: drop, attributes: [my.prompt.*]}");
    let kept = [
        "gen_ai.request.model=gpt-4o",
        "gen_ai.prompt.0.role=user",
        "gen_ai.usage.input_tokens=3",
        "gen_ai.user.message: role=user",
        "exception: exception.message=abc is wrong",
        "app.step: step=1",
    ];
    assert_eq!(shown(&bench.run(batch(&[span()]))), kept);
    assert_eq!(bench.count(COUNT, "drop"), 1);
}

#[test]
fn hashed_content_can_be_recognised_and_not_read() {
    let bench = Bench::new(build, "{content: hash, attributes: [my.prompt.x]}");
    let seven = "sha256:7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451";
    let mine = Hasher::new(None).hash(Value::Str("mine".into()));
    let mut hashed = shown(&bench.run(batch(&[span()])));
    hashed.sort();
    let mut expected = [
        "gen_ai.request.model=gpt-4o".to_owned(),
        "gen_ai.prompt.0.role=user".to_owned(),
        "gen_ai.usage.input_tokens=3".to_owned(),
        format!("gen_ai.prompt.0.content={ABC}"),
        format!("gen_ai.completion.0.unheard_of={seven}"),
        format!("my.prompt.x={mine}"),
        "gen_ai.user.message: role=user".to_owned(),
        format!("gen_ai.user.message: content={ABC}"),
        "exception: exception.message=abc is wrong".to_owned(),
        "app.step: step=1".to_owned(),
        format!("app.step: gen_ai.input.messages={ABC}"),
    ];
    expected.sort();
    assert_eq!(hashed, expected);
    assert_eq!(bench.count(COUNT, "hash"), 1);

    let keyed = Bench::new(build, "{content: hash, hash_key: 0123456789abcdef}");
    let keyed = shown(&keyed.run(batch(&[span()]))).join(" ");
    assert!(keyed.contains("gen_ai.prompt.0.content=hmac-sha256:") && !keyed.contains(ABC), "{keyed}");
    let other = Bench::new(build, "{content: hash, hash_key: 0123456789abcdeg}");
    assert_ne!(shown(&other.run(batch(&[span()]))).join(" "), keyed);
}

#[test]
fn content_that_a_processor_added_or_a_client_repeated_is_found_too() {
    let mut twice = span();
    twice.attributes.push(("gen_ai.prompt.0.content", V::S("again")));
    let mut batch = batch(&[twice]);
    batch.for_each_mut(|span| {
        span.set("output.value", NewValue::Str("added"));
        span.edit_events(|_, attributes| attributes.set("input.value", NewValue::Str("added")));
    });
    let left = shown(&Bench::new(build, "content: drop").run(batch)).join(" ");
    for gone in ["abc ", "again", "added"] {
        assert!(!left.replace("abc is wrong", "").contains(gone), "{left}");
    }
}

#[test]
fn a_span_of_very_many_contents_takes_no_longer_than_it_is_long() {
    let keys: Vec<String> = (0..50_000).map(|n| format!("prompt.{n}.content")).collect();
    let mut batch = batch(&[TestSpan::named("many", &[])]);
    batch.for_each_mut(|span| {
        keys.iter().for_each(|key| span.insert_absent(key, NewValue::Str("abc")));
        span.insert_absent("kept", NewValue::Bool(true));
    });
    // As a client would send it.
    let batch = Batch::decode(weir_pipeline::signal::Signal::Traces, batch.encode()).unwrap();
    let hashed = Bench::new(build, "content: hash").run(batch.fork());
    assert_eq!(shown(&hashed).iter().filter(|text| text.ends_with(ABC)).count(), 50_000);
    assert_eq!(shown(&Bench::new(build, "content: drop").run(batch)), ["kept=true"]);
}

#[test]
fn spans_without_content_and_those_to_keep_are_not_rewritten() {
    let plain = || {
        let mut span = TestSpan::named("db", &[("db.system", V::S("pg")), ("my.prompt.x", V::S("mine"))]);
        span.events = vec![("exception", vec![("exception.message", V::S("abc"))])];
        span
    };
    for (yaml, span, action) in [
        ("content: drop", plain(), "none"),
        ("content: hash", plain(), "none"),
        ("content: keep", span(), "keep"),
        ("tenants: [{project: web, content: drop}]", span(), "keep"),
    ] {
        let bench = Bench::new(build, yaml);
        let before = batch(&[span]);
        let bytes = before.encode();
        let mut out = Vec::new();
        bench.factory().create(0).process(before, &mut |batch| out.push(batch));
        // Not a copy that looks alike.
        assert_eq!(out[0].encode().as_ptr(), bytes.as_ptr(), "{yaml}");
        assert_eq!(bench.count(COUNT, action), 1, "{yaml}");
    }
}

#[test]
fn the_first_rule_that_fits_a_tenant_wins() {
    let yaml = "
content: drop
tenants:
  - {project: web-app, environment: prd, content: hash}
  - {project: web-app, content: keep}
  - {environment: dev, content: keep}
";
    let bench = Bench::new(build, yaml);
    let run = |owner: Option<(&str, &str)>| {
        let mut batch = batch(&[span()]);
        if let Some((project, environment)) = owner {
            batch = batch.with_tenant(&tenant(project, environment));
        }
        let after = shown(&bench.run(batch)).join(" ");
        match () {
            () if after.contains("content=abc") => "keep",
            () if after.contains(ABC) => "hash",
            () => "drop",
        }
    };
    assert_eq!(run(Some(("web-app", "prd"))), "hash");
    assert_eq!(run(Some(("web-app", "stg"))), "keep");
    assert_eq!(run(Some(("search", "dev"))), "keep");
    assert_eq!(run(Some(("search", "prd"))), "drop");
    assert_eq!(run(None), "drop");
    // Tenants that the batch processor has joined are still told apart.
    let mut joined = batch(&[span()]).with_tenant(&tenant("web-app", "prd"));
    joined.append(batch(&[span()]).with_tenant(&tenant("search", "prd")));
    let joined = bench.run(joined);
    let has_prompt = |s: Span<'_>| s.attr("gen_ai.prompt.0.content").is_some();
    assert_eq!(joined.spans().map(has_prompt).collect::<Vec<_>>(), [true, false]);
    let counts = ["keep", "drop", "hash", "none"].map(|action| bench.count(COUNT, action));
    assert_eq!(counts, [2, 3, 2, 0]);
}

#[test]
fn settings_are_refused_where_they_stand() {
    for (yaml, message) in [
        ("{}", "weir.yaml:1:1: processors::it: nothing to do: neither `content` nor `tenants`"),
        ("content: dropp", "weir.yaml:1:10: processors::it::content: unknown value `dropp`: did you mean `drop`?"),
        ("contents: drop", "weir.yaml:1:1: processors::it: unknown key `contents`: did you mean `content`?"),
        (
            "tenants: [{project: a, enviroment: prd, content: drop}]",
            "weir.yaml:1:24: processors::it::tenants[0]: unknown key `enviroment`: did you mean `environment`?",
        ),
        ("tenants: [{project: Web App, content: drop}]", "weir.yaml:1:21: processors::it::tenants[0]::project: "),
        ("tenants: [{project: a}]", "weir.yaml:1:11: processors::it::tenants[0]: missing"),
        ("tenants: [{content: drop}]", "weir.yaml:1:11: processors::it::tenants[0]: neither a `project` nor an"),
        (
            "tenants: [{project: a, content: drop}, {project: a, environment: b, content: keep}]",
            "weir.yaml:1:40: processors::it::tenants[1]: never used: tenants[0] fits all that this fits",
        ),
        ("{content: drop, attributes: ['*']}", "weir.yaml:1:30: processors::it::attributes[0]: `*` alone is every"),
        ("{content: drop, attributes: [a, a*b]}", "weir.yaml:1:33: processors::it::attributes[1]: `*` can only be the"),
        ("{content: drop, attributes: ['']}", "weir.yaml:1:30: processors::it::attributes[0]: an empty key"),
        ("{content: drop, hash_key: 0123456789abcdef}", "weir.yaml:1:27: processors::it::hash_key: a key, and nothing"),
        ("{content: hash, hash_key: hunter2}", "weir.yaml:1:27: processors::it::hash_key: too short: fewer than 16"),
    ] {
        let error = refused(build, yaml);
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
        assert!(!error.contains("0123456789abcdef") && !error.contains("hunter2"), "a secret: {error}");
    }
}
