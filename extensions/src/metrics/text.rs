//! Prometheus' text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use weir_pipeline::telemetry::{Description, Family, Kind};

use super::collect::{Collected, DIFFERENCE, DIFFERENCE_IS, shown_name};
use super::config::Reader;

/// The labels of `target_info`, sanitized.
#[derive(Debug)]
pub(super) struct Resource(Vec<(String, String)>);

impl Resource {
    pub(super) fn new(attributes: &BTreeMap<String, String>) -> Self {
        Self(attributes.iter().map(|(name, value)| (sanitize(name), value.clone())).collect())
    }
}

/// All metrics, as `reader` spells them.
pub(super) fn exposition(collected: &Collected, reader: &Reader, resource: &Resource) -> String {
    let mut text = Text { out: String::with_capacity(16 << 10), reader };
    collected.families.iter().for_each(|family| text.family(family));
    text.head(DIFFERENCE, DIFFERENCE_IS);
    for balance in &collected.balances {
        let labels = [("exporter", balance.exporter.as_str()), ("signal", balance.signal.as_str())];
        text.sample(DIFFERENCE, &labels, balance.difference());
    }
    collected.process.iter().for_each(|family| text.family(family));
    text.head("target_info", Description::gauge("What is said of this process."));
    let labels: Vec<(&str, &str)> = resource.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    // About the process, not about one of its instruments.
    text.line("target_info", &labels, 1);
    text.out
}

struct Text<'r> {
    out: String,
    reader: &'r Reader,
}

impl Text<'_> {
    fn family(&mut self, Family { name, description, series }: &Family) {
        let name = self.head(name, *description);
        for (labels, value) in series {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
            self.sample(&name, &labels, quotient(*value, description.divisor));
        }
    }

    /// Writes what the metric means, and returns its name as it is spelt here.
    fn head(&mut self, name: &str, description: Description) -> String {
        let name = spell(name, description, self.reader);
        let kind = match description.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        if !description.help.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(self.out, "# HELP {name} {}", escape(description.help, false));
        }
        let _ = writeln!(self.out, "# TYPE {name} {kind}");
        name
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        if self.reader.scope_info {
            let scope = [("otel_scope_name", "weir"), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
            self.line(name, &[labels, &scope].concat(), value);
        } else {
            self.line(name, labels, value);
        }
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.out.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{}=\"{}\"", sanitize(label), escape(text, true));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{after} {value}");
    }
}

/// The name of a metric with the suffixes that the reader wants.
fn spell(name: &str, description: Description, reader: &Reader) -> String {
    let mut name = sanitize(&shown_name(name, description));
    let mut add = |suffix: &str| {
        let is_there = suffix.is_empty() || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('_'));
        if !is_there {
            name.push('_');
            name.push_str(suffix);
        }
    };
    if reader.units {
        add(&match description.unit {
            "s" => "seconds".to_owned(),
            "ms" => "milliseconds".to_owned(),
            "By" => "bytes".to_owned(),
            // What is counted is in the name already.
            unit if unit.is_empty() || unit.starts_with('{') => String::new(),
            unit => sanitize(&unit.to_ascii_lowercase()),
        });
    }
    if reader.type_suffix && description.kind == Kind::Counter {
        add("total");
    }
    name
}

/// A name of letters, digits and underscores.
fn sanitize(name: &str) -> String {
    let mut clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) || clean.is_empty() {
        clean.insert(0, '_');
    }
    clean
}

fn escape(text: &str, in_quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if in_quotes => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `value / divisor`: all digits where the divisor is a power of ten.
pub(super) fn quotient(value: u64, divisor: u64) -> String {
    let digits = divisor.checked_ilog10().unwrap_or(0);
    if divisor <= 1 {
        return value.to_string();
    }
    if 10u64.pow(digits) != divisor {
        return (value as f64 / divisor as f64).to_string();
    }
    let (whole, rest) = (value / divisor, value % divisor);
    let fraction = format!("{rest:0width$}", width = digits as usize);
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}
