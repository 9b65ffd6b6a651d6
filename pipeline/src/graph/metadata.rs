//! Whether somebody keeps the metadata that somebody else reads.

use super::build::{End, Graph, PipelineNode};
use crate::config::{ComponentId, Document, Reference};

impl Graph {
    /// Warns of components that read what clients said where no receiver before them keeps it. For them it is as if
    /// nobody had said anything, which the Collector leaves the user to find out.
    pub(super) fn warn_of_missing_metadata(&self, document: &Document) {
        for (at, pipeline) in self.pipelines.iter().enumerate() {
            if self.keeps_metadata(at) {
                continue;
            }
            let Some(written) = document.service.pipelines.iter().find(|p| p.id == pipeline.id) else { continue };
            for (id, kind) in readers(pipeline) {
                let is_it = |reference: &&Reference| reference.0 == *id;
                let place = written.processors.iter().chain(&written.exporters).find(is_it);
                tracing::warn!(
                    "{}: service::pipelines::{}: {kind} `{id}` reads what clients said, and no receiver of the pipeline \
                     keeps that: set `include_metadata: true` there",
                    place.map_or_else(String::new, |(_, location)| location.to_string()),
                    pipeline.id,
                );
            }
        }
    }

    /// Whether the data of a pipeline may come with metadata.
    fn keeps_metadata(&self, at: usize) -> bool {
        let is_kept = self.receivers.iter().any(|node| node.feeds.contains(&at) && node.receiver.keeps_metadata());
        // Those that feed it stand after it, so this ends.
        is_kept
            || (at + 1..self.pipelines.len()).any(|from| {
                let feeds = |end: &End| matches!(end, End::Connector(_, _, fed) if fed.contains(&at));
                self.pipelines.get(from).is_some_and(|p| p.ends.iter().any(feeds)) && self.keeps_metadata(from)
            })
    }
}

fn readers(pipeline: &PipelineNode) -> impl Iterator<Item = (&ComponentId, &'static str)> {
    let processors = pipeline.processors.iter().filter(|node| node.factory.reads_metadata());
    let connectors = pipeline.ends.iter().filter_map(|end| match end {
        End::Connector(id, connector, _) if connector.reads_metadata() => Some((id, "connector")),
        _ => None,
    });
    processors.map(|node| (&node.id, "processor")).chain(connectors)
}
