//! Whether somebody keeps the metadata that somebody else reads.

use std::fmt;

use super::build::{End, Graph, PipelineNode};
use crate::config::{ComponentId, Document, PipelineId, Reference};
use crate::metadata::Reads;
use crate::node::Keeps;

/// What of clients' metadata may come with data.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept<'g> {
    /// Nothing: no receiver keeps any.
    Never,
    /// Nothing one could rely on: this processor joins what several clients sent.
    Joined(&'g ComponentId),
    /// Headers of these names, which this processor keeps, and who the client is.
    Headers(Vec<&'g str>, &'g ComponentId),
    Everything,
}

/// A component that reads what nobody keeps for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing<'g> {
    pipeline: &'g PipelineId,
    kind: &'static str,
    id: &'g ComponentId,
    why: Why<'g>,
}

#[derive(Debug, PartialEq, Eq)]
enum Why<'g> {
    /// No receiver keeps metadata.
    Never,
    /// No receiver finds out who a client is.
    Nobody,
    /// The processor keeps none.
    Joined(&'g ComponentId),
    /// The processor keeps others.
    Header(String, &'g ComponentId),
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, kind, id, why } = self;
        write!(f, "service::pipelines::{pipeline}: {kind} `{id}` reads ")?;
        match why {
            Why::Never => f.write_str(
                "what clients said, and no receiver of the pipeline keeps that: set `include_metadata: true` there",
            ),
            Why::Nobody => {
                f.write_str("who the client is, and no receiver of the pipeline finds that out: set `auth` there")
            }
            Why::Joined(by) => write!(
                f,
                "what clients said, and the processor `{by}` joins what several of them sent and keeps nothing of it: \
                 give that `metadata_keys`"
            ),
            Why::Header(name, by) => write!(
                f,
                "the header {name:?} of clients, which the processor `{by}` does not keep: name it in its \
                 `metadata_keys`"
            ),
        }
    }
}

impl<'g> Kept<'g> {
    /// What may come from either of two sources.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
            (Self::Headers(mut names, by), Self::Headers(more, _)) => {
                names.extend(more);
                Self::Headers(names, by)
            }
            (headers @ Self::Headers(..), _) | (_, headers @ Self::Headers(..)) => headers,
            (joined @ Self::Joined(_), _) | (_, joined @ Self::Joined(_)) => joined,
            (Self::Never, Self::Never) => Self::Never,
        }
    }

    /// What is left of it behind a processor.
    fn behind(self, id: &'g ComponentId, keeps: Keeps<'g>) -> Self {
        match (self, keeps) {
            (kept, Keeps::Everything) | (kept @ (Self::Never | Self::Joined(_)), _) => kept,
            (_, Keeps::Nothing) => Self::Joined(id),
            (Self::Everything, Keeps::Headers(names)) => Self::Headers(names.iter().map(String::as_str).collect(), id),
            (Self::Headers(mut before, _), Keeps::Headers(names)) => {
                before.retain(|name| names.iter().any(|other| other == name));
                Self::Headers(before, id)
            }
        }
    }

    /// What a component misses that reads metadata, whatever it is of them.
    fn misses_any(&self) -> Option<Why<'g>> {
        match self {
            Self::Never => Some(Why::Never),
            Self::Joined(by) => Some(Why::Joined(by)),
            Self::Headers(..) | Self::Everything => None,
        }
    }

    /// The first that is missing of what is known to be read.
    fn misses(&self, reads: &Reads) -> Option<Why<'g>> {
        match self {
            _ if reads.headers.is_empty() && reads.attributes.is_empty() => None,
            Self::Never if reads.headers.is_empty() => Some(Why::Nobody),
            Self::Headers(names, by) => {
                let missing = reads.headers.iter().find(|name| !names.contains(&name.as_str()));
                missing.map(|name| Why::Header(name.clone(), by))
            }
            _ => self.misses_any(),
        }
    }
}

impl Graph {
    /// Warns of components that read what clients said where nobody before them keeps it. For them it is as if nobody
    /// had said anything, which the Collector leaves the user to find out: data then goes out as somebody else's.
    pub(super) fn warn_of_missing_metadata(&self, document: &Document) {
        for missing in self.missing_metadata() {
            let written = document.service.pipelines.iter().find(|p| p.id == *missing.pipeline);
            let references = written.into_iter().flat_map(|p| p.processors.iter().chain(&p.exporters));
            let place = references.into_iter().find(|reference: &&Reference| reference.0 == *missing.id);
            let place = place.map_or_else(String::new, |(_, location)| location.to_string());
            tracing::warn!("{place}: {missing}");
        }
    }

    /// In the order of the pipelines in the graph.
    pub(super) fn missing_metadata(&self) -> Vec<Missing<'_>> {
        let mut found: Vec<Vec<Missing<'_>>> = Vec::new();
        let mut arriving = self.received();
        // Those that feed others stand after them.
        for (at, pipeline) in self.pipelines.iter().enumerate().rev() {
            let mut kept = arriving.get(at).cloned().unwrap_or(Kept::Never);
            found.push(self.missing_in(pipeline, &mut kept));
            for end in &pipeline.ends {
                let End::Connector(_, _, fed) = end else { continue };
                for to in fed {
                    if let Some(there) = arriving.get_mut(*to) {
                        *there = std::mem::replace(there, Kept::Never).or(kept.clone());
                    }
                }
            }
        }
        found.into_iter().rev().flatten().collect()
    }

    /// What comes into each pipeline without connectors.
    fn received(&self) -> Vec<Kept<'_>> {
        let is_kept = |at| self.receivers.iter().any(|node| node.feeds.contains(&at) && node.receiver.keeps_metadata());
        (0..self.pipelines.len()).map(|at| if is_kept(at) { Kept::Everything } else { Kept::Never }).collect()
    }

    /// What the components of one pipeline miss; `kept` is what comes into it, and then what leaves it.
    fn missing_in<'g>(&'g self, pipeline: &'g PipelineNode, kept: &mut Kept<'g>) -> Vec<Missing<'g>> {
        let mut found = Vec::new();
        let mut note = |kind, id, why: Option<Why<'g>>| {
            found.extend(why.map(|why| Missing { pipeline: &pipeline.id, kind, id, why }));
        };
        for node in &pipeline.processors {
            if node.factory.reads_metadata() {
                note("processor", &node.id, kept.misses_any());
            }
            *kept = std::mem::replace(kept, Kept::Never).behind(&node.id, node.factory.keeps_metadata());
        }
        for end in &pipeline.ends {
            match end {
                End::Connector(id, connector, _) if connector.reads_metadata() => {
                    note("connector", id, kept.misses_any());
                }
                End::Connector(..) => {}
                End::Exporter(at) => {
                    if let Some(node) = self.exporters.get(*at) {
                        note("exporter", &node.id, kept.misses(&node.factory.reads_metadata()));
                    }
                }
            }
        }
        found
    }
}
