//! `weir price explain`: how the cost of a span comes about.

#[cfg(feature = "lake")]
mod stored;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use weir_pipeline::batch::{Batch, message_of};
use weir_pipeline::otlp::json;
use weir_pipeline::signal::Signal;
use weir_processors::cost::{self, Explanation, Pricing};

use super::price::now;
use super::pricing::PricingArguments;

#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// A span, a ResourceSpans or a whole request as OTLP/JSON, or a request as OTLP protobuf; `-` reads standard input
    #[cfg_attr(feature = "lake", arg(required_unless_present = "trace", conflicts_with = "trace"))]
    #[cfg_attr(not(feature = "lake"), arg(required = true))]
    file: Option<PathBuf>,
    /// The instrumentation scope of a span that stands alone, which some conventions are told apart by
    #[arg(long, value_name = "NAME", default_value = "")]
    scope: String,
    #[cfg(feature = "lake")]
    #[command(flatten)]
    stored: stored::StoredArguments,
    #[command(flatten)]
    pricing: PricingArguments,
}

/// Larger files are no spans to be explained to a person.
const MAX_BYTES: u64 = 64 << 20;

/// Prints each step for each span of the file, or of the stored trace, that has to do with models.
///
/// # Errors
/// If the file or the store cannot be read, or is no OTLP, with the place; or if no span is about a model.
pub(crate) fn explain(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let pricing = arguments.pricing.load(now())?;
    let explanations = match &arguments.file {
        Some(file) => of_file(file, &arguments.scope, &pricing)?,
        #[cfg(feature = "lake")]
        None => arguments.stored.explain(&pricing)?,
        #[cfg(not(feature = "lake"))]
        None => bail!("give a file"),
    };
    match print(&explanations, &pricing) {
        // Whoever reads has seen enough: `weir price explain … | head`.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS).context("cannot write the explanation"),
    }
}

fn of_file(file: &Path, scope: &str, pricing: &Pricing) -> anyhow::Result<Vec<Explanation>> {
    let bytes = read(file)?;
    let name = file.display();
    let batch = decode(&bytes, scope).with_context(|| format!("{name} cannot be explained"))?;
    let explanations = cost::explain(pricing, &batch);
    if explanations.is_empty() {
        bail!("none of the {} spans of {name} is about a model: there is no usage and no model on any", batch.len());
    }
    Ok(explanations)
}

fn print(explanations: &[Explanation], pricing: &Pricing) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "catalog {}", pricing.catalog().version())?;
    for explanation in explanations {
        write!(out, "\n{explanation}")?;
    }
    out.flush()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let cannot = || format!("cannot read {}", path.display());
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(path).with_context(cannot)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(cannot)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{} is larger than 64 MiB: give the request with the span in question", path.display());
    }
    Ok(bytes)
}

/// Spans as a batch, whatever they are wrapped in.
fn decode(bytes: &[u8], scope: &str) -> anyhow::Result<Batch> {
    let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let protobuf = if is_json { from_json(bytes, scope)? } else { bytes.to_vec() };
    Ok(Batch::decode(Signal::Traces, protobuf.into())?)
}

fn from_json(text: &[u8], scope: &str) -> anyhow::Result<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(text)?;
    let has = |names: [&str; 2]| names.iter().any(|name| value.get(name).is_some());
    let scope = serde_json::to_string(scope)?;
    let (before, after) = if has(["resourceSpans", "resource_spans"]) {
        (String::new(), "")
    } else if has(["scopeSpans", "scope_spans"]) {
        ("{\"resourceSpans\":[".to_owned(), "]}")
    } else if has(["spans", "spans"]) {
        ("{\"resourceSpans\":[{\"scopeSpans\":[".to_owned(), "]}]}")
    } else if has(["attributes", "spanId"]) {
        let before = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"scope\":{{\"name\":{scope}}},\"spans\":[");
        (before, "]}]}]}")
    } else {
        bail!("it is JSON, but no OTLP: expected `resourceSpans`, `scopeSpans`, `spans` or a span's `attributes`");
    };
    let whole = [before.as_bytes(), text, after.as_bytes()].concat();
    json::to_protobuf(message_of(Signal::Traces), &whole, json::Limits::default()).map_err(|mut error| {
        // The place in the file, not in what was put around it.
        if error.line == 1 {
            error.column = error.column.saturating_sub(before.len());
        }
        error.into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const SPAN: &str = r#"{"traceId":"01010101010101010101010101010101","spanId":"0101010101010101","name":"chat",
        "attributes":[{"key":"gen_ai.request.model","value":{"stringValue":"gpt-4o"}}]}"#;

    #[test]
    fn a_span_may_be_wrapped_or_not() {
        let scope = format!(r#"{{"scope":{{"name":"s"}},"spans":[{SPAN}]}}"#);
        let resource = format!(r#"{{"scopeSpans":[{scope}]}}"#);
        let request = format!(r#"{{"resourceSpans":[{resource}]}}"#);
        let bytes = decode(request.as_bytes(), "").unwrap().encode();
        for text in [SPAN, &scope, &resource, &request] {
            let batch = decode(text.as_bytes(), "s").unwrap();
            assert_eq!(batch.encode(), bytes, "{text}");
        }
        assert_eq!(decode(&bytes, "").unwrap().encode(), bytes, "protobuf");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |text: &str| format!("{:#}", decode(text.as_bytes(), "").unwrap_err());
        assert!(error("{\"a\":1}").contains("expected `resourceSpans`"));
        assert!(error("{\"attributes\":").contains("line 1 column 14"), "{}", error("{\"attributes\":"));
        let wrong = error(r#"{"attributes":[],"name":5}"#);
        assert!(wrong.contains("line 1, column 26"), "{wrong}");
        assert!(decode(b"not otlp", "").is_err());
        assert!(decode(b"", "").unwrap().is_empty());
    }
}
