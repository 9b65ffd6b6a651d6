//! The corpus of real payloads, as batches.

// Each test binary compiles this module for itself and may need only a part of it.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../tests/support/corpus.rs"]
pub(crate) mod corpus;

use std::collections::BTreeMap;

use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json;
use weir_pipeline::signal::Signal;

/// The requests of traces by their paths.
pub(crate) fn batches() -> BTreeMap<String, Batch> {
    let decode = |path: &str, bytes: Vec<u8>| {
        let bytes = if path.ends_with(".json") {
            json::to_protobuf(message_of(Signal::Traces), &bytes, json::Limits::default()).unwrap()
        } else {
            bytes
        };
        Batch::decode(Signal::Traces, bytes.into()).unwrap()
    };
    corpus::files("traces/").into_iter().map(|(path, bytes)| (path.clone(), decode(&path, bytes))).collect()
}
