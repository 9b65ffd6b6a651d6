//! Deterministic OTLP trace requests of two shapes, made once and sent many times.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status},
};
use prost::Message;
use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// What a span looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// An OpenLLMetry chat span with prompts and completion: about 1,716 bytes, 26 attributes.
    Llm,
    /// An HTTP server span: about 341 bytes, 7 attributes.
    Tiny,
}

impl Shape {
    /// Mean size of one encoded span in bytes, without the resource around it.
    pub(crate) fn span_bytes(self) -> usize {
        match self {
            Shape::Llm => 1_716,
            Shape::Tiny => 341,
        }
    }

    /// The word used on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Llm => "llm",
            Shape::Tiny => "tiny",
        }
    }

    /// Half the range over which sizes of single spans are spread.
    fn spread(self) -> usize {
        match self {
            Shape::Llm => 500,
            Shape::Tiny => 30,
        }
    }
}

/// Compression of the request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    #[default]
    Identity,
    /// gzip at level 6, what the SDKs' exporters write.
    Gzip,
}

/// Distinct requests of one shape, encoded and ready to be sent in rotation.
#[derive(Debug)]
pub(crate) struct Pool {
    messages: Vec<Bytes>,
    framed: Vec<Bytes>,
    /// Where the ids of each message are that are made anew each time.
    ids: Vec<Ids>,
    /// Requests made anew so far.
    serial: AtomicU64,
    /// Spans in each request.
    pub(crate) spans_per_request: usize,
    pub(crate) encoding: Encoding,
}

impl Pool {
    /// Makes `distinct` requests of `spans` spans each. The same arguments give the same bytes.
    pub(crate) fn generate(shape: Shape, spans: usize, distinct: usize, encoding: Encoding) -> Result<Self> {
        let mut random = Random(0x5eed);
        let mut pool = Self {
            messages: Vec::with_capacity(distinct),
            framed: Vec::with_capacity(distinct),
            ids: Vec::with_capacity(distinct),
            serial: AtomicU64::new(0),
            spans_per_request: spans,
            encoding,
        };
        for _ in 0..distinct {
            let request = request(shape, spans, &mut random);
            let plain = request.encode_to_vec();
            if encoding == Encoding::Identity {
                pool.ids.push(Ids::of(&request, &plain));
            }
            let message = match encoding {
                Encoding::Identity => plain,
                Encoding::Gzip => {
                    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
                    encoder.write_all(&plain)?;
                    encoder.finish()?
                }
            };
            pool.framed.push(frame(&message, encoding)?);
            pool.messages.push(Bytes::from(message));
        }
        Ok(pool)
    }

    /// The same requests, sent again as they are: to compare with compressed ones, which always are.
    pub(crate) fn repeating(self) -> Self {
        Self { ids: Vec::new(), ..self }
    }

    /// Requests of one span each with bodies given as they are, to see a receiver refuse them.
    #[cfg(test)]
    pub(crate) fn of(messages: &[Bytes]) -> Self {
        let encoding = Encoding::Identity;
        let framed = messages.iter().map(|message| frame(message, encoding).unwrap()).collect();
        let (ids, serial) = (Vec::new(), AtomicU64::new(0));
        Self { messages: messages.to_vec(), framed, ids, serial, spans_per_request: 1, encoding }
    }

    /// The `turn`th request of the rotation as a bare protobuf message, for OTLP/HTTP.
    pub(crate) fn message(&self, turn: u64) -> Bytes {
        pick(&self.messages, turn)
    }

    /// The same request with the five bytes of gRPC framing before it.
    pub(crate) fn framed(&self, turn: u64) -> Bytes {
        pick(&self.framed, turn)
    }

    /// The `turn`th request with a trace id and response ids that no request before had, as a collector gets it: what
    /// remembers spans would take repeated ones for repeated. Compressed requests stay as they are.
    pub(crate) fn fresh(&self, turn: u64, is_framed: bool) -> Bytes {
        let message = if is_framed { self.framed(turn) } else { self.message(turn) };
        let index = turn.checked_rem(self.ids.len() as u64).unwrap_or(0);
        let Some(ids) = self.ids.get(index as usize) else { return message };
        let head = if is_framed { PREFIX } else { 0 };
        let serial = self.serial.fetch_add(1, Relaxed) + 1;
        let mut fresh = BytesMut::from(&message[..]);
        for at in &ids.traces {
            let id = fresh.iter_mut().skip(head + at);
            id.zip(serial.to_le_bytes()).for_each(|(byte, other)| *byte ^= other);
        }
        for at in &ids.responses {
            let letters = fresh.iter_mut().skip(head + at).take(8).enumerate();
            letters.for_each(|(n, letter)| *letter = LETTERS[(serial >> (5 * n)) as usize % LETTERS.len()]);
        }
        fresh.freeze()
    }

    /// Mean size of a request body in bytes, gRPC framing excluded.
    pub(crate) fn mean_bytes(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum::<usize>() / self.messages.len().max(1)
    }
}

/// Places of ids in a message.
#[derive(Debug, Default)]
struct Ids {
    /// Where the trace id of a span begins.
    traces: Vec<usize>,
    /// Where the varying part of a response id begins.
    responses: Vec<usize>,
}

impl Ids {
    fn of(request: &ExportTraceServiceRequest, message: &[u8]) -> Self {
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        let trace_id = spans.map(|span| &span.trace_id[..]).next().unwrap_or_default();
        let places = |pattern: &[u8]| {
            let windows = message.windows(pattern.len().max(1)).enumerate();
            windows.filter(|(_, window)| *window == pattern).map(|(at, _)| at).collect::<Vec<_>>()
        };
        let mut responses = places(RESPONSE.as_bytes());
        responses.iter_mut().for_each(|at| *at += RESPONSE.len());
        Self { traces: places(trace_id), responses }
    }
}

/// Distinct requests which together hold about 8 MB, more than the caches keep, and at least 16.
pub(crate) fn distinct_requests(shape: Shape, spans: usize) -> usize {
    (8_000_000 / (shape.span_bytes() * spans.max(1))).clamp(16, 64)
}

/// How OpenAI's response ids begin.
const RESPONSE: &str = "chatcmpl-";
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefgh";
/// Bytes of gRPC framing before a message.
const PREFIX: usize = 5;

/// Puts the five bytes of gRPC framing before a message.
fn frame(message: &[u8], encoding: Encoding) -> Result<Bytes> {
    let length = u32::try_from(message.len()).context("a gRPC message is limited to 4 GiB")?;
    let mut framed = BytesMut::with_capacity(message.len() + PREFIX);
    framed.put_u8(u8::from(encoding == Encoding::Gzip));
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}

fn pick(from: &[Bytes], turn: u64) -> Bytes {
    let index = turn.checked_rem(from.len() as u64).unwrap_or(0);
    from.get(index as usize).cloned().unwrap_or_default()
}

fn request(shape: Shape, spans: usize, random: &mut Random) -> ExportTraceServiceRequest {
    let (scope, version) = match shape {
        Shape::Llm => ("opentelemetry.instrumentation.openai.v1", "0.62.1"),
        Shape::Tiny => ("opentelemetry.instrumentation.fastapi", "0.66b1"),
    };
    let trace_id = random.bytes::<16>();
    let root = random.bytes::<8>();
    let spread = shape.spread();
    // Pairs of sizes lie opposite each other about the mean, so a request of any even count has
    // the announced mean size.
    let mut mirror = None;
    let spans = (0..spans)
        .map(|_| {
            let offset = mirror.take().unwrap_or_else(|| {
                if spans == 1 {
                    return spread;
                }
                let offset = random.below(2 * spread + 1);
                mirror = Some(2 * spread - offset);
                offset
            });
            span(shape, &trace_id, &root, shape.span_bytes() - spread + offset, random)
        })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("telemetry.sdk.language", "python"),
                    text("telemetry.sdk.name", "opentelemetry"),
                    text("telemetry.sdk.version", "1.45.1"),
                    text("service.instance.id", random.uuid()),
                    text("deployment.environment", "production"),
                    text("service.name", "support-assistant"),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: scope.into(),
                    version: version.into(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// A span whose free text is cut so that it encodes to `size` bytes, give or take three.
fn span(shape: Shape, trace_id: &[u8], parent: &[u8], size: usize, random: &mut Random) -> Span {
    let start = 1_790_000_000_000_000_000 + random.next() % 60_000_000_000;
    let mut span = Span {
        trace_id: trace_id.to_vec(),
        span_id: random.bytes::<8>().to_vec(),
        parent_span_id: parent.to_vec(),
        flags: 0x101,
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.next() % 4_000_000_000,
        status: Some(Status::default()),
        ..Span::default()
    };
    match shape {
        Shape::Llm => {
            span.name = "openai.chat".into();
            span.kind = 3;
            span.attributes = chat_attributes(random);
            let room = size.saturating_sub(span.encoded_len());
            // System prompt, question and answer, in the proportions of a support chat.
            for (key, share) in
                [("gen_ai.prompt.0.content", 3), ("gen_ai.prompt.1.content", 2), ("gen_ai.completion.0.content", 5)]
            {
                fill(&mut span, key, (room * share / 10).saturating_sub(2), random);
            }
        }
        Shape::Tiny => {
            span.name = "GET /v1/accounts/{id}".into();
            span.kind = 2;
            span.attributes = server_attributes(random);
            let room = size.saturating_sub(span.encoded_len());
            fill(&mut span, "url.path", room, random);
        }
    }
    span
}

fn chat_attributes(random: &mut Random) -> Vec<KeyValue> {
    const MODELS: [(&str, &str); 4] = [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
    ];
    let (model, served) = MODELS[random.below(MODELS.len())];
    let input = 80 + random.below(4_000) as i64;
    let output = 20 + random.below(900) as i64;
    vec![
        text("traceloop.workflow.name", "answer_ticket"),
        text("traceloop.entity.path", "retrieve.answer"),
        text("traceloop.association.properties.user_id", format!("user-{}", 10_000 + random.below(90_000))),
        text("traceloop.association.properties.session_id", random.uuid()),
        text("llm.request.type", "chat"),
        text("gen_ai.system", "openai"),
        text("gen_ai.request.model", model),
        double("gen_ai.request.temperature", 0.2),
        integer("gen_ai.request.max_tokens", 1_024),
        text("llm.headers", "None"),
        boolean("llm.is_streaming", false),
        text("gen_ai.openai.api_base", "https://api.openai.com/v1/"),
        text("gen_ai.prompt.0.role", "system"),
        text("gen_ai.prompt.0.content", ""),
        text("gen_ai.prompt.1.role", "user"),
        text("gen_ai.prompt.1.content", ""),
        text("gen_ai.response.model", served),
        text("gen_ai.response.id", format!("{RESPONSE}{}", random.letters(29))),
        text("gen_ai.openai.system_fingerprint", format!("fp_{:010x}", random.next() >> 24)),
        integer("gen_ai.usage.input_tokens", input),
        integer("gen_ai.usage.output_tokens", output),
        integer("llm.usage.total_tokens", input + output),
        integer("gen_ai.usage.cache_read_input_tokens", 0),
        text("gen_ai.completion.0.finish_reason", "stop"),
        text("gen_ai.completion.0.role", "assistant"),
        text("gen_ai.completion.0.content", ""),
    ]
}

fn server_attributes(random: &mut Random) -> Vec<KeyValue> {
    vec![
        text("http.request.method", "GET"),
        text("url.path", ""),
        text("http.route", "/v1/accounts/{id}"),
        integer("http.response.status_code", if random.below(50) == 0 { 404 } else { 200 }),
        text("server.address", "api.example.com"),
        integer("server.port", 443),
        text("user_agent.original", "okhttp/4.12"),
    ]
}

/// Puts about `length` bytes of words into the attribute `key`.
fn fill(span: &mut Span, key: &str, length: usize, random: &mut Random) {
    if let Some(found) = span.attributes.iter_mut().find(|attribute| attribute.key == key) {
        found.value = Some(AnyValue { value: Some(Value::StringValue(random.prose(length))) });
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn boolean(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// splitmix64: enough to vary a payload, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!("{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff, b >> 52, b >> 16)
    }

    /// Exactly `length` bytes of words, some of them made up, so that gzip finds about as much to
    /// gain as in real chat.
    fn prose(&mut self, length: usize) -> String {
        const WORDS: &str = "the customer asks about an order that was not delivered in time and wants to know \
            whether refund or replacement is possible please check account status before you answer with a short \
            polite explanation of our policy include tracking number if available never promise dates which we \
            cannot keep thank them for waiting then offer next step contact support team when problem remains \
            unsolved I have looked at your invoice from last month it shows two charges one for subscription other \
            upgrade to annual plan both were confirmed by email however second payment failed because card expired";
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let mut prose = String::with_capacity(length + 16);
        while prose.len() < length {
            if self.below(6) == 0 {
                let count = 3 + self.below(7);
                prose.push_str(&self.letters(count));
            } else {
                prose.push_str(words[self.below(words.len())]);
            }
            prose.push(if self.below(12) == 0 { '.' } else { ' ' });
        }
        prose.truncate(length);
        prose
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(message: &Bytes) -> Vec<Span> {
        let request = ExportTraceServiceRequest::decode(message.clone()).unwrap();
        request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
    }

    #[test]
    fn spans_have_the_announced_size_and_content() {
        for (shape, attributes) in [(Shape::Llm, 26), (Shape::Tiny, 7)] {
            for count in [1, 100] {
                let pool = Pool::generate(shape, count, 4, Encoding::Identity).unwrap();
                let spans = decode(&pool.message(1));
                assert_eq!(spans.len(), count);
                let mean = spans.iter().map(Message::encoded_len).sum::<usize>() as f64 / count as f64;
                let announced = shape.span_bytes() as f64;
                assert!((mean - announced).abs() < 0.03 * announced, "{shape:?} x{count}: {mean} bytes a span");
                assert!(spans.iter().all(|span| span.attributes.len() == attributes));
                assert!(spans.iter().all(|span| span.trace_id.len() == 16 && span.span_id.len() == 8));
            }
        }
    }

    #[test]
    fn requests_differ_and_generation_repeats_itself() {
        let a = Pool::generate(Shape::Llm, 3, 5, Encoding::Identity).unwrap();
        let b = Pool::generate(Shape::Llm, 3, 5, Encoding::Identity).unwrap();
        for turn in 0..5 {
            assert_eq!(a.message(turn), b.message(turn));
            assert_ne!(a.message(turn), a.message(turn + 1));
            assert_eq!(a.message(turn), a.message(turn + 5));
            assert_eq!(a.framed(turn).slice(5..), a.message(turn));
        }
    }

    #[test]
    fn fresh_requests_differ_in_their_ids_alone() {
        let pool = Pool::generate(Shape::Llm, 3, 2, Encoding::Identity).unwrap();
        let (first, second) = (pool.fresh(1, false), pool.fresh(1, true).slice(PREFIX..));
        let (before, first, second) = (decode(&pool.message(1)), decode(&first), decode(&second));
        let response = |span: &Span| span.attributes.iter().find(|a| a.key == "gen_ai.response.id").cloned();
        for ((before, first), second) in before.iter().zip(&first).zip(&second) {
            let traces = [&before.trace_id, &first.trace_id, &second.trace_id];
            assert!(traces[0] != traces[1] && traces[1] != traces[2] && traces[0] != traces[2]);
            assert!(response(first) != response(second));
            assert_eq!((&first.name, first.attributes.len()), (&before.name, before.attributes.len()));
            assert_eq!(first.encoded_len(), before.encoded_len());
        }
        assert_eq!(first[0].trace_id, first[2].trace_id, "of one trace");
        let small = Pool::generate(Shape::Llm, 3, 2, Encoding::Gzip).unwrap();
        assert_eq!(small.fresh(1, false), small.message(1));
    }

    #[test]
    fn gzip_carries_the_same_spans() {
        let plain = Pool::generate(Shape::Llm, 20, 2, Encoding::Identity).unwrap();
        let small = Pool::generate(Shape::Llm, 20, 2, Encoding::Gzip).unwrap();
        let mut inflated = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&small.message(0)[..]), &mut inflated).unwrap();
        assert_eq!(plain.message(0), inflated);
        assert_eq!(small.framed(0)[0], 1);
        assert!(small.mean_bytes() * 2 < plain.mean_bytes());
    }
}
