//! The pages as HTML.

use std::fmt::Write;
use std::time::Duration;

use weir_pipeline::config::units::GoDuration;
use weir_pipeline::host::{Host, Status};
use weir_pipeline::telemetry::{Balance, Family};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse;margin:0 0 2em}\
td,th{border:1px solid #ccc;padding:.2em .7em;text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}\
nav a{margin-right:1em}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}";

/// Where to go.
pub(super) fn index() -> String {
    document("Weir", "<p>Choose a page.</p>")
}

/// The process, and the balance of each destination.
pub(super) fn service(host: &Host) -> String {
    let status = match host.status() {
        Status::Starting => "starting",
        Status::Ready => "ready",
        Status::Stopping => "stopping",
    };
    // To the second: a person reads it.
    let uptime = GoDuration(Duration::from_secs(host.uptime_nanos() / 1_000_000_000)).to_string();
    let mut body = table(
        &["", ""],
        [("version", env!("CARGO_PKG_VERSION")), ("state", status), ("running for", &uptime)]
            .map(|(name, value)| vec![Cell::Text(name.to_owned()), Cell::Text(value.to_owned())]),
    );
    body.push_str("<h2>Destinations</h2>");
    let balances = host.telemetry().balances();
    body.push_str(&table(
        &[
            "exporter",
            "signal",
            "handed over",
            "delivered",
            "dropped",
            "refused: queue full",
            "held",
            "unaccounted for",
        ],
        balances.iter().map(|b| {
            let mut cells = vec![Cell::Text(b.exporter.clone()), Cell::Text(b.signal.to_string())];
            let numbers = [b.consumed, b.sent, b.send_failed, b.enqueue_failed, b.in_flight];
            cells.extend(numbers.map(|n| Cell::Number(n.to_string())));
            cells.push(Cell::Number(b.difference().to_string()));
            cells
        }),
    ));
    document("Service", &body)
}

/// Each pipeline with what its components have counted.
pub(super) fn pipelines(host: &Host) -> String {
    let families = host.telemetry().families();
    let balances = Balance::of(&families);
    let mut body = String::new();
    for pipeline in &host.layout().pipelines {
        let signal = pipeline.id.split('/').next().unwrap_or_default();
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        let mut row = |kind: &str, id: &str, counts: String| {
            rows.push(vec![Cell::Text(kind.to_owned()), Cell::Text(id.to_owned()), Cell::Text(counts)]);
        };
        let suffix = suffix(signal);
        for id in &pipeline.receivers {
            let count = |what: &str| sum(&families, &format!("otelcol_receiver_{what}_{suffix}"), "receiver", id, None);
            row("receiver", id, format!("accepted {}, refused {}", count("accepted"), count("refused")));
        }
        for id in &pipeline.processors {
            let count = |what: &str| {
                let name = format!("otelcol_processor_{what}_items");
                sum(&families, &name, "processor", id, Some(("otel_signal", signal)))
            };
            row("processor", id, format!("in {}, out {}", count("incoming"), count("outgoing")));
        }
        for id in &pipeline.exporters {
            let balance = balances.iter().find(|b| b.exporter == *id && b.signal.as_str() == signal);
            let counts = balance.map_or_else(String::new, |b| {
                let dropped = b.send_failed + b.enqueue_failed;
                format!("delivered {}, dropped {dropped}, held {}", b.sent, b.in_flight)
            });
            row("exporter", id, counts);
        }
        let _ = write!(body, "<h2>{}</h2>", escape(&pipeline.id));
        body.push_str(&table(&["", "component", "records of this signal, in all pipelines"], rows));
    }
    document("Pipelines", &body)
}

/// The extensions that run.
pub(super) fn extensions(host: &Host) -> String {
    let layout = host.layout();
    let rows = layout.extensions.iter().map(|id| vec![Cell::Text(id.clone())]);
    document("Extensions", &table(&["extension"], rows))
}

fn suffix(signal: &str) -> &'static str {
    use weir_pipeline::signal::Signal;
    let signal = Signal::ALL.into_iter().find(|known| known.as_str() == signal);
    signal.map_or("", weir_pipeline::telemetry::suffix)
}

/// What the series of one component sum up to.
fn sum(families: &[Family], name: &str, label: &str, id: &str, also: Option<(&str, &str)>) -> u64 {
    let Some(family) = families.iter().find(|family| family.name == name) else { return 0 };
    let has = |labels: &[(&'static str, String)], label: &str, value: &str| {
        labels.iter().any(|(l, v)| *l == label && v == value)
    };
    let wanted = |labels: &[(&'static str, String)]| {
        has(labels, label, id) && also.is_none_or(|(label, value)| has(labels, label, value))
    };
    family.series.iter().filter(|(labels, _)| wanted(labels)).map(|(_, value)| value).sum()
}

enum Cell {
    Text(String),
    Number(String),
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
    let mut html = String::from("<table>");
    if head.iter().any(|name| !name.is_empty()) {
        html.push_str("<tr>");
        for name in head {
            let _ = write!(html, "<th>{}</th>", escape(name));
        }
        html.push_str("</tr>");
    }
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            // Writing to a string cannot fail.
            let _ = match cell {
                Cell::Text(text) => write!(html, "<td>{}</td>", escape(&text)),
                Cell::Number(text) => write!(html, "<td class=n>{}</td>", escape(&text)),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    html
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><nav><a href=/debug/servicez>Service</a>\
         <a href=/debug/pipelinez>Pipelines</a><a href=/debug/extensionz>Extensions</a></nav><h1>{title}</h1>{body}</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
