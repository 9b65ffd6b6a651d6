//! The process's variables as JSON, for programs that ask `/debug/expvarz`.
//!
//! The Collector shows there what Go's runtime exports. Of that nothing exists here; a program finds Weir's own numbers
//! instead, of which each is named as Prometheus gets it before units are appended.

use serde_json::{Map, Value, json};
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::{Family, Level};

use crate::metrics::{Collected, shown_name};

/// `{"version": …, "uptime_seconds": …, "metrics": {name: value or [{labels, value}]}}`
pub(super) fn variables(host: &Host) -> String {
    let Collected { families, process, .. } = Collected::now(host, Level::Detailed);
    let metrics: Map<String, Value> = families.iter().chain(&process).map(metric).collect();
    let all = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": host.uptime_nanos() / 1_000_000_000,
        "metrics": metrics,
    });
    format!("{all:#}\n")
}

/// A name with its only value, or with one for each set of labels.
fn metric(Family { name, description, series }: &Family) -> (String, Value) {
    let value = |value: u64| match description.divisor {
        0 | 1 => json!(value),
        divisor => json!(value as f64 / divisor as f64),
    };
    let values = match &series[..] {
        [(labels, only)] if labels.is_empty() => value(*only),
        series => {
            let labelled = |labels: &[(&'static str, String)]| -> Map<String, Value> {
                labels.iter().map(|(label, text)| ((*label).to_owned(), json!(text))).collect()
            };
            series.iter().map(|(labels, n)| json!({"labels": labelled(labels), "value": value(*n)})).collect()
        }
    };
    (shown_name(name, *description), values)
}
