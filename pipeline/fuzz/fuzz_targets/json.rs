//! Foreign bytes as OTLP/JSON: no panic, and what is accepted is a valid request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json;
use weir_pipeline::signal::Signal;

fuzz_target!(|bytes: &[u8]| {
    for signal in Signal::ALL {
        if let Ok(protobuf) = json::to_protobuf(message_of(signal), bytes, json::Limits::default()) {
            let batch = Batch::decode(signal, protobuf.into()).expect("JSON becomes a valid request");
            let again = json::to_json(message_of(signal), &batch.encode());
            json::to_protobuf(message_of(signal), &again, json::Limits::default()).expect("and JSON again");
        }
    }
});
