//! What the batch refuses says at which byte, and in which field.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::{Fault, put_bytes};
use weir_pipeline::signal::Signal;

#[test]
fn a_malformed_request_names_byte_and_path() {
    let span = |name: Vec<u8>| {
        let mut kv = vec![10, 1, b'k', 18, 0];
        kv[4] = name.len() as u8;
        kv.extend(name);
        let mut span = vec![0x4a, kv.len() as u8];
        span.extend(kv);
        span
    };
    let wrap = |number: u8, body: &[u8]| {
        let mut out = vec![number << 3 | 2, body.len() as u8];
        out.extend(body);
        out
    };
    let request = |span: &[u8]| {
        let ok = wrap(2, &[0x2a, 1, b'x']);
        wrap(1, &wrap(2, &[ok, wrap(2, span)].concat()))
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![0x0a], "malformed ExportTraceServiceRequest at byte 0, resource_spans[0]: the bytes end inside a field"),
        (
            vec![0x0a, 5, 0],
            "malformed ExportTraceServiceRequest at byte 0, resource_spans[0]: a length of 5 bytes is declared but 1 are left",
        ),
        (
            vec![0x08, 1],
            "malformed ExportTraceServiceRequest at byte 0, resource_spans[0]: wire type 0 where 2 is expected",
        ),
        (vec![0x00], "malformed ExportTraceServiceRequest at byte 0: field number 0 does not exist in protobuf"),
        (vec![0x3f], "malformed ExportTraceServiceRequest at byte 0: wire type 7 is not possible here"),
        (
            request(&[0x2a, 2, 0xff, 0xfe]),
            "malformed ExportTraceServiceRequest at byte 11, resource_spans[0].scope_spans[0].spans[1].name: the string is not valid UTF-8",
        ),
        (
            request(&span(vec![10, 1, 0xff])),
            "malformed ExportTraceServiceRequest at byte 18, resource_spans[0].scope_spans[0].spans[1].attributes[0].value.string_value: the string is not valid UTF-8",
        ),
        (
            request(&span(vec![16, 1, 16, 1])),
            "malformed ExportTraceServiceRequest at byte 20, resource_spans[0].scope_spans[0].spans[1].attributes[0].value.bool_value: the field occurs twice",
        ),
    ];
    for (bytes, expected) in cases {
        let error = Batch::decode(Signal::Traces, bytes.into()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn ids_have_their_length_or_none() {
    let field = |number: u32, body: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, body);
        out
    };
    let within = |numbers: &[u32], body: Vec<u8>| numbers.iter().fold(body, |body, number| field(*number, &body));
    // Of spans as encoders write them and otherwise, of links, log records and exemplars of numbers and histograms.
    let places: &[(Signal, &[u32], u32, usize)] = &[
        (Signal::Traces, &[2, 2, 1], 1, 16),
        (Signal::Traces, &[2, 2, 1], 2, 8),
        (Signal::Traces, &[2, 2, 1], 4, 8),
        (Signal::Traces, &[13, 2, 2, 1], 1, 16),
        (Signal::Traces, &[13, 2, 2, 1], 2, 8),
        (Signal::Logs, &[2, 2, 1], 9, 16),
        (Signal::Logs, &[2, 2, 1], 10, 8),
        (Signal::Metrics, &[5, 1, 5, 2, 2, 1], 5, 16),
        (Signal::Metrics, &[5, 1, 5, 2, 2, 1], 4, 8),
        (Signal::Metrics, &[8, 1, 9, 2, 2, 1], 5, 16),
        (Signal::Metrics, &[11, 1, 10, 2, 2, 1], 4, 8),
    ];
    for (signal, containers, number, usual) in places {
        for len in 0..40 {
            let request = within(containers, field(*number, &vec![1; len]));
            let judged = Batch::decode(*signal, request.into());
            assert_eq!(judged.is_ok(), len == 0 || len == *usual, "{signal} {containers:?} {number}: {len}");
            if let Err(error) = judged {
                assert_eq!(error.fault, Fault::IdLength(len, *usual as u8));
                assert!(error.path.ends_with("_id"), "{error}");
            }
        }
        let usual_ones = [field(1, &[1; 16]), field(2, &[2; 8]), field(4, &[3; 8]), field(5, b"name")].concat();
        if *signal == Signal::Traces && containers.len() == 3 {
            // The last one counts, and each is looked at.
            for wrong in [usual - 1, usual + 1] {
                let span = [usual_ones.clone(), field(*number, &vec![1; wrong])].concat();
                let error = Batch::decode(*signal, within(containers, span).into()).unwrap_err();
                assert_eq!(error.fault, Fault::IdLength(wrong, *usual as u8));
            }
        }
    }
}
