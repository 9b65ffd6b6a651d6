//! A built graph as text: what is connected with what.

use std::fmt::Write;

use super::build::{End, Graph};
use crate::config::ComponentId;

impl Graph {
    /// What runs and what is connected with what, a line each, pipelines in the direction of the data.
    ///
    /// ```text
    /// extension health_check
    /// receiver otlp → traces/in, metrics
    /// pipeline traces/in: memory_limiter, batch
    ///   → exporter otlphttp/a (otlp_http)
    ///   → connector forward → traces/out
    /// ```
    ///
    /// The name of a type stands in parentheses where the id says another: a former name, for one.
    pub fn outline(&self) -> String {
        let mut out = String::new();
        for (id, _) in self.extensions.iter() {
            line(&mut out, format_args!("extension {}", named(id, self.parts.extensions.get(id).map(|p| p.kind))));
        }
        for node in &self.receivers {
            let id = named(&node.id, self.parts.receivers.get(&node.id).map(|p| p.kind));
            line(&mut out, format_args!("receiver {id} → {}", self.list(&node.feeds)));
        }
        for pipeline in self.pipelines.iter().rev() {
            let ids = pipeline
                .processors
                .iter()
                .map(|node| named(&node.id, self.parts.processors.get(&node.id).map(|p| p.kind)));
            let chain: Vec<String> = ids.collect();
            let colon = if chain.is_empty() { "" } else { ": " };
            line(&mut out, format_args!("pipeline {}{colon}{}", pipeline.id, chain.join(", ")));
            for end in &pipeline.ends {
                match end {
                    End::Exporter(i) => {
                        let Some(node) = self.exporters.get(*i) else { continue };
                        let id = named(&node.id, self.parts.exporters.get(&node.id).map(|p| p.kind));
                        line(&mut out, format_args!("  → exporter {id}"));
                    }
                    End::Connector(id, _, targets) => {
                        let to = self.list(targets);
                        let id = named(id, self.parts.connectors.get(id).map(|p| p.kind));
                        line(&mut out, format_args!("  → connector {id} → {to}"));
                    }
                }
            }
        }
        out
    }

    /// The ids of pipelines, in the order in which they are printed.
    fn list(&self, pipelines: &[usize]) -> String {
        let mut pipelines = pipelines.to_vec();
        pipelines.sort_unstable_by(|a, b| b.cmp(a));
        let ids = pipelines.iter().filter_map(|i| self.pipelines.get(*i)).map(|pipeline| pipeline.id.to_string());
        ids.collect::<Vec<_>>().join(", ")
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{text}");
}

/// An id, with its type where that has another name.
fn named(id: &ComponentId, kind: Option<&str>) -> String {
    match kind {
        Some(kind) if kind != id.kind => format!("{id} ({kind})"),
        _ => id.to_string(),
    }
}
