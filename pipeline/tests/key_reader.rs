//! Reading attributes by what their keys mean: always the same attributes that a walk over the bytes finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/support/corpus.rs"]
mod corpus;
mod support;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use weir_pipeline::batch::view::KeyValue;
use weir_pipeline::batch::wire::{Fields, put_bytes, put_tag, put_varint};
use weir_pipeline::batch::{AttributeEdit, Batch, KeyReader, NewValue, Span};
use weir_pipeline::signal::Signal;

/// A meaning for about every other key, unlike that of most other keys.
fn meaning(key: &[u8]) -> Option<u32> {
    let sum = key.iter().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    sum.is_multiple_of(2).then_some(sum)
}

/// The same attributes by a plain walk over the bytes of the span.
fn walked(span: Span<'_>) -> Vec<(u32, Vec<u8>)> {
    let attributes = Fields::new(span.raw()).filter(|f| f.number == 9).map(|f| KeyValue::parse(f.bytes));
    attributes.filter_map(|kv| Some((meaning(kv.key.as_bytes())?, kv.any_value.to_vec()))).collect()
}

fn read(span: Span<'_>, reader: &mut KeyReader<u32>) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    span.read(reader, |meaning, kv| found.push((meaning, kv.any_value.to_vec())));
    found
}

fn assert_reads_alike(batch: &Batch, reader: &mut KeyReader<u32>) -> usize {
    batch.spans().map(|span| (read(span, reader), walked(span))).inspect(|(a, b)| assert_eq!(a, b)).count()
}

#[test]
fn the_corpus_reads_as_it_walks_with_one_reader_for_all() {
    let mut reader = KeyReader::new(meaning);
    let mut joined = Batch::empty(Signal::Traces);
    let mut spans = 0;
    for (path, bytes) in corpus::files("traces/").into_iter().filter(|(path, _)| path.ends_with(".pb")) {
        let batch = Batch::decode(Signal::Traces, bytes.into()).unwrap_or_else(|e| panic!("{path}: {e}"));
        spans += assert_reads_alike(&batch, &mut reader);
        joined.append(batch);
    }
    // The reader goes from chunk to chunk and back.
    assert_eq!(assert_reads_alike(&joined, &mut reader), spans);
    assert_eq!(assert_reads_alike(&joined, &mut reader), spans);
    assert!(spans > 2_000);
}

proptest! {
    #[test]
    fn made_requests_read_as_they_walk(requests in prop::collection::vec(support::arb_traces(), 1..4)) {
        let mut reader = KeyReader::new(meaning);
        for request in requests {
            let batch = Batch::decode(Signal::Traces, request.encode_to_vec().into()).unwrap();
            assert_reads_alike(&batch, &mut reader);
        }
    }

    /// Where attributes are noted, edits find them by number; where they are not, by key. Both must do the same.
    #[test]
    fn edits_are_the_same_with_and_without_notes(
        attributes in prop::collection::vec((0usize..6, 0usize..5, any::<i64>()), 0..20),
        edits in prop::collection::vec((0usize..7, 0usize..5), 0..12),
    ) {
        let own: Vec<u8> = attributes.iter().flat_map(|(key, shape, number)| unusual(*key, *shape, *number)).collect();
        let degenerate = [0x4a, 0].repeat(10_000);
        let [mut noted, mut plain] = [vec![], vec![degenerate]].map(|more| {
            Batch::decode(Signal::Traces, request(&[vec![own.clone()], more].concat())).unwrap()
        });
        for batch in [&mut noted, &mut plain] {
            let mut is_first = true;
            batch.for_each_mut(|span| {
                for (key, edit) in edits.iter().filter(|_| is_first) {
                    let key = KEYS.get(*key).copied().unwrap_or("one that none has");
                    match edit {
                        0 => span.set(key, NewValue::Int(7)),
                        1 => span.remove(key),
                        2 if span.view().attr(key).is_none() => span.insert_absent(key, NewValue::Bool(true)),
                        3 => span.edit_attributes(|kv| match kv.key == *key {
                            true => AttributeEdit::Text("edited".to_owned()),
                            false => AttributeEdit::Keep,
                        }),
                        _ => span.set_name("another name"),
                    }
                }
                is_first = false;
            });
        }
        let shown = |batch: &Batch| -> Vec<String> {
            let span = batch.spans().next().unwrap();
            let all = span.attributes().map(|(key, value)| format!("{key}={value:?}"));
            let single = KEYS.iter().map(|key| format!("{:?}", span.attr(key)));
            all.chain(single).collect()
        };
        prop_assert_eq!(shown(&noted), shown(&plain));
        prop_assert_eq!(encoded_attributes(&noted), encoded_attributes(&plain));
        let read_from = |batch: &Batch| read(batch.spans().next().unwrap(), &mut KeyReader::new(meaning));
        prop_assert_eq!(read_from(&noted), read_from(&plain));
    }

    /// Attributes as no encoder writes them: long lengths, values before keys, keys twice, foreign fields, in two rows.
    #[test]
    fn unusual_attributes_read_as_they_walk(
        attributes in prop::collection::vec((0usize..6, 0usize..5, any::<i64>()), 0..40),
        spans in 1usize..5,
    ) {
        let span: Vec<u8> = attributes.iter().flat_map(|(key, shape, number)| unusual(*key, *shape, *number)).collect();
        let batch = Batch::decode(Signal::Traces, request(&vec![span; spans])).unwrap();
        prop_assert_eq!(assert_reads_alike(&batch, &mut KeyReader::new(meaning)), spans);
        for span in batch.spans() {
            prop_assert_eq!(span.attributes().count(), attributes.len());
        }
    }
}

const KEYS: [&str; 6] =
    ["", "a", "gen_ai.system", "gen_ai.usage.input_tokens", "a.key.of.more.than.sixteen.bytes", "long"];

fn unusual(key: usize, shape: usize, number: i64) -> Vec<u8> {
    let name = KEYS[key];
    let name = if name == "long" { "k".repeat(200) } else { name.to_owned() };
    let (mut value, mut kv) = (Vec::new(), Vec::new());
    put_tag(&mut value, 3, 0);
    put_varint(&mut value, number as u64);
    match shape {
        0 => (put_bytes(&mut kv, 1, name.as_bytes()), put_bytes(&mut kv, 2, &value)),
        1 => (put_bytes(&mut kv, 2, &value), put_bytes(&mut kv, 1, name.as_bytes())),
        2 => {
            put_bytes(&mut kv, 1, b"another key");
            (put_bytes(&mut kv, 1, name.as_bytes()), put_bytes(&mut kv, 15, &value))
        }
        3 => {
            // A length in two bytes where one would do.
            kv.extend_from_slice(&[0x0a, name.len() as u8 | 0x80, (name.len() >> 7) as u8]);
            kv.extend_from_slice(name.as_bytes());
            ((), put_bytes(&mut kv, 2, &value))
        }
        _ => ((), ()),
    };
    let mut out = Vec::new();
    put_bytes(&mut out, 9, &kv);
    if shape == 1 {
        put_bytes(&mut out, 5, b"a name between two rows");
    }
    out
}

/// Attributes of a span as it is encoded.
fn encoded_attributes(batch: &Batch) -> Vec<Vec<u8>> {
    let again = Batch::decode(Signal::Traces, batch.encode()).unwrap();
    let first = again.spans().next().unwrap();
    Fields::new(first.raw()).filter(|f| f.number == 9).map(|f| f.bytes.to_vec()).collect()
}

/// A request of these spans.
fn request(spans: &[Vec<u8>]) -> Bytes {
    let (mut scope, mut resource, mut out) = (Vec::new(), Vec::new(), Vec::new());
    spans.iter().for_each(|span| put_bytes(&mut scope, 2, span));
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut out, 1, &resource);
    out.into()
}

#[test]
fn degenerate_attributes_are_read_without_notes() {
    // Two bytes each: noting them would take six times the request.
    let empty = request(&[[0x4a, 0].repeat(10_000), [0x4a, 0].repeat(3)]);
    let batch = Batch::decode(Signal::Traces, empty.clone()).unwrap();
    let mut reader = KeyReader::new(|key| Some(key.len()));
    let counts: Vec<usize> = batch
        .spans()
        .map(|span| {
            let mut n = 0;
            span.read(&mut reader, |length, kv| n += usize::from(length == 0 && kv.any_value.is_empty()));
            assert_eq!(span.attributes().count(), n);
            n
        })
        .collect();
    assert_eq!(counts, [10_000, 3]);
    assert_eq!(batch.encode(), empty);
}

#[test]
fn a_key_for_each_attribute_is_read_without_notes() {
    // 4a 09 0a 05 <key> 12 00: noting a key takes ten times that.
    let keys = |range: std::ops::Range<u32>| -> Vec<u8> {
        let one = |n: u32| [b"\x4a\x09\x0a\x05", format!("{n:05}").as_bytes(), b"\x12\x00"].concat();
        range.flat_map(one).collect()
    };
    let bytes = request(&[keys(0..20), keys(0..9_000), keys(20..50)]);
    let batch = Batch::decode(Signal::Traces, bytes.clone()).unwrap();
    let mut reader = KeyReader::new(|key| std::str::from_utf8(key).ok()?.parse::<u32>().ok());
    for (span, range) in batch.spans().zip([0..20, 0..9_000, 20..50]) {
        let mut read = Vec::new();
        span.read(&mut reader, |n, _| read.push(n));
        assert_eq!(read, range.collect::<Vec<_>>());
    }
    assert_eq!(batch.encode(), bytes);
    let wrong = request(&[keys(0..9_000), [&keys(1..2)[..], b"\x4a\x03\x0a\x01\xff"].concat()]);
    assert!(Batch::decode(Signal::Traces, wrong).is_err(), "but validated");
}

#[test]
fn what_repeats_is_still_read_within_its_span() {
    let attribute = |key: &str, value: &str| {
        let (mut kv, mut any, mut out) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut any, 1, value.as_bytes());
        put_bytes(&mut kv, 1, key.as_bytes());
        put_bytes(&mut kv, 2, &any);
        put_bytes(&mut out, 9, &kv);
        out
    };
    let long = "a key that is longer than what is compared of one at once, so that it is looked up each time";
    let spans: Vec<_> = [("same", "x"), ("same", "y"), ("other", "y"), ("same", "longer"), ("same", "x")]
        .iter()
        .map(|(first, second)| {
            [attribute("a", first), attribute("b", "constant"), attribute("c", second), attribute(long, second)]
                .concat()
        })
        .collect();
    let batch = Batch::decode(Signal::Traces, request(&spans)).unwrap();
    let mut reader = KeyReader::new(|key| Some(key.len()));
    for (span, bytes) in batch.spans().zip(&spans) {
        let mut read = Vec::new();
        span.read(&mut reader, |_, kv| read.extend(attribute(kv.key.as_str(), kv.value().as_str().unwrap())));
        assert_eq!(read, *bytes);
    }

    // The second span ends within its attribute; what lies behind it would complete it.
    let whole = attribute("key", "constant");
    let behind = [b"\x1a".as_slice(), &[whole.len() as u8 - 3], &whole[3..]].concat();
    for cut in 1..whole.len() {
        let (mut scope, mut resource, mut out) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut scope, 2, &whole);
        put_bytes(&mut scope, 2, &whole[..cut]);
        scope.extend_from_slice(&whole[cut..]);
        scope.extend_from_slice(&behind);
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut out, 1, &resource);
        // Room for a whole comparison behind it.
        put_bytes(&mut out, 99, &[0; 100]);
        let malformed = Batch::decode(Signal::Traces, out.into()).unwrap_err();
        assert!(malformed.path.starts_with("resource_spans[0].scope_spans[0].spans[1]"), "{cut}: {malformed}");
    }
}

#[test]
fn changes_are_read_too() {
    let mut span = unusual(2, 0, 1);
    span.extend(unusual(3, 0, 2));
    let mut batch = Batch::decode(Signal::Traces, request(&[span.clone(), span])).unwrap();
    let mut first = true;
    batch.for_each_mut(|span| {
        if std::mem::take(&mut first) {
            span.set("gen_ai.system", NewValue::Int(9));
            span.remove("gen_ai.usage.input_tokens");
            span.set("added", NewValue::Bool(true));
        }
    });
    let mut reader = KeyReader::new(|key| Some(key.len()));
    let read = |span: Span<'_>, reader: &mut KeyReader<usize>| {
        let mut keys = Vec::new();
        span.read(reader, |length, kv| {
            assert_eq!(length, kv.key.len());
            keys.push(kv.key.as_str().to_owned());
        });
        keys
    };
    let keys: Vec<_> = batch.spans().map(|span| read(span, &mut reader)).collect();
    assert_eq!(keys, [vec!["gen_ai.system", "added"], vec!["gen_ai.system", "gen_ai.usage.input_tokens"]]);
}
