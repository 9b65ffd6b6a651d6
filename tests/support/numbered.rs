//! Spans of the tests that count them: each is known by its id.

use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::signal::Signal;

use super::sink::Sink;

/// A request of one span with this id and name.
pub fn span(id: u64, name: &[u8]) -> Vec<u8> {
    let mut span = Vec::with_capacity(name.len() + 64);
    put_bytes(&mut span, 1, &[7; 16]);
    put_bytes(&mut span, 2, &id.to_be_bytes());
    put_bytes(&mut span, 5, name);
    [2, 2, 1].iter().fold(span, |inner, number| {
        let mut outer = Vec::with_capacity(inner.len() + 8);
        put_bytes(&mut outer, *number, &inner);
        outer
    })
}

/// The ids of all spans that a backend has, as often as it has them.
pub fn ids(sink: &Sink) -> Vec<u64> {
    let mut ids = Vec::new();
    for request in sink.requests() {
        let batch = Batch::decode(Signal::Traces, request.body).unwrap();
        ids.extend(batch.spans().map(|span| u64::from_be_bytes(span.fields().span_id.try_into().unwrap())));
    }
    ids
}
