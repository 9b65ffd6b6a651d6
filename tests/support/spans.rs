//! Requests with spans, written by hand.

use weir_pipeline::batch::wire::{put_bytes, put_tag};

/// A field with a message or a text.
pub fn wrap(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, inner);
    out
}

/// An attribute with a text.
pub fn attribute(key: &str, value: &str) -> Vec<u8> {
    [wrap(1, key.as_bytes()), wrap(2, &wrap(1, value.as_bytes()))].concat()
}

/// A span of a millisecond in 2026; `more` are further fields.
pub fn span(name: &str, more: &[u8]) -> Vec<u8> {
    let mut span = [wrap(1, &[7; 16]), wrap(2, &[7; 8]), wrap(5, name.as_bytes())].concat();
    for (field, time) in [(7, 1_795_248_000_000_000_000_u64), (8, 1_795_248_000_001_000_000)] {
        put_tag(&mut span, field, 1);
        span.extend_from_slice(&time.to_le_bytes());
    }
    [span, more.to_vec()].concat()
}

/// A resource with these attributes, each a `KeyValue`, and spans.
pub fn resource(attributes: &[Vec<u8>], spans: &[Vec<u8>]) -> Vec<u8> {
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| wrap(1, attribute)).collect();
    let spans: Vec<u8> = spans.iter().flat_map(|span| wrap(2, span)).collect();
    wrap(1, &[wrap(1, &attributes), wrap(2, &spans)].concat())
}

/// A request of one resource with these attributes for each of the names, which is that of its span.
pub fn request(resources: &[(&[(&str, &str)], &str)]) -> Vec<u8> {
    let one = |(attributes, name): &(&[(&str, &str)], &str)| {
        let attributes: Vec<Vec<u8>> = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
        resource(&attributes, &[span(name, &[])])
    };
    resources.iter().flat_map(one).collect()
}
