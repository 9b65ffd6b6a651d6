//! Foreign text as a configuration: no panic, and every error says where.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_pipeline::config::Document;

fuzz_target!(|text: &str| {
    if let Err(errors) = Document::parse([("fuzz.yaml", text)], &|_| None) {
        assert!(!errors.0.is_empty());
    }
});
