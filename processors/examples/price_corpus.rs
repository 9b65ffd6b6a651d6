//! Prices the spans of the corpus and writes a JSON object a line, for a comparison with other price lists
//! (`tests/oracle/README.md`):
//!
//! ```text
//! cargo run -p weir-processors --example price_corpus > spans.jsonl
//! ```

#![allow(clippy::unwrap_used, reason = "a tool for tests: what cannot be read ends it")]

#[path = "../../tests/support/corpus.rs"]
mod corpus;

use std::error::Error;
use std::io::{BufWriter, Write as _};

use serde_json::json;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json as otlp_json;
use weir_pipeline::signal::Signal;
use weir_processors::cost::{Catalog, CostStatus, Pricer, UsageReader};

fn main() -> Result<(), Box<dyn Error>> {
    let catalog = Catalog::embedded()?;
    let pricer = Pricer::new(catalog.clone());
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (path, bytes) in corpus::files("traces/") {
        let bytes = if path.ends_with(".json") {
            otlp_json::to_protobuf(message_of(Signal::Traces), &bytes, otlp_json::Limits::default())?
        } else {
            bytes
        };
        let batch = Batch::decode(Signal::Traces, bytes.into())?;
        for (at, span) in batch.spans().enumerate() {
            let mut reader = UsageReader::default();
            reader.visit_all(span);
            let reading = reader.finish(span.scope_name().as_str());
            let priced = pricer.price_reading(&reading, span.end_time_unix_nano());
            if priced.status == CostStatus::NotLlm {
                continue;
            }
            let usage = priced.usage;
            let cost = priced.cost.map(|cost| {
                json!({
                    "input": cost.input.to_string(), "output": cost.output.to_string(),
                    "cache_read": cost.cache_read.to_string(), "cache_write": cost.cache_write.to_string(),
                    "request": cost.request.to_string(), "web_search": cost.web_search.to_string(),
                    "total": cost.total.to_string(), "tier_unknown": cost.tier_unknown,
                })
            });
            let line = json!({
                "span": format!("{path}#{at}"), "catalog": catalog.version(), "status": priced.status.as_str(),
                "provider": priced.provider, "model": priced.model, "span_model": priced.span_model.as_str(),
                "price_id": priced.price_id, "match": priced.matched.map(|found| found.confidence()),
                "end_unix_nano": span.end_time_unix_nano(), "batch": reading.batch,
                "service_tier": reading.service_tier.as_str(),
                "usage": {
                    "input": usage.input, "output": usage.output, "cache_read": usage.cache_read,
                    "cache_write": usage.cache_write, "cache_write_1h": usage.cache_write_1h,
                    "audio_in": usage.audio_in, "audio_out": usage.audio_out, "cached_audio": usage.cached_audio,
                    "image_in": usage.image_in, "image_out": usage.image_out, "web_searches": usage.web_searches,
                },
                "cost": cost,
            });
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(())
}
