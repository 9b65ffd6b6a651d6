//! The registry: which component types exist and how each is built. A plain table, filled in by the binary.

use std::fmt;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};

use crate::channel::Inlet;
use crate::config::{ConfigError, Node, PipelineId, suggest};
use crate::extension::Extension;
use crate::node::{Context, Exporter, ExporterFactory, ProcessorFactory, Receiver, Shutdown};
use crate::signal::Signal;

/// A component type.
pub struct Component<T> {
    /// The type's name in configurations.
    pub name: &'static str,
    /// Former names, still accepted.
    pub aliases: &'static [&'static str],
    /// The signals it handles.
    pub signals: &'static [Signal],
    /// How far it can be relied on.
    pub stability: Stability,
    /// Describes its configuration; see [`schema`](crate::config::schema).
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Builds it from its configuration.
    pub build: fn(&Section<'_>) -> Result<T, ConfigError>,
}

/// How far a component can be relied on, in the Collector's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// It may not work yet, and anything about it may change.
    Development,
    /// It works; its configuration and what it writes may change.
    Alpha,
    /// Its configuration changes rarely, and never without a word.
    Beta,
    /// Its configuration changes only with a new major version.
    Stable,
}

impl fmt::Display for Stability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "Development",
            Self::Alpha => "Alpha",
            Self::Beta => "Beta",
            Self::Stable => "Stable",
        })
    }
}

/// A component's part of the configuration, and what it is built with.
pub struct Section<'a> {
    /// The component's body.
    pub node: &'a Node,
    /// Where that stands: `exporters::otlp_http`.
    pub path: &'a str,
    /// The signals of the pipelines that name the component; empty if none does.
    pub signals: &'a [Signal],
    /// Id, counters, clock.
    pub context: Context,
}

/// All component types of a binary.
#[derive(Default)]
pub struct Components {
    /// Receivers by type.
    pub receivers: Vec<Component<Arc<dyn Receiver>>>,
    /// Processors by type.
    pub processors: Vec<Component<Arc<dyn ProcessorFactory>>>,
    /// Exporters by type.
    pub exporters: Vec<Component<Arc<dyn ExporterFactory>>>,
    /// Extensions by type.
    pub extensions: Vec<Component<Arc<dyn Extension>>>,
    /// Connectors by type.
    pub connectors: Vec<Component<Arc<dyn ConnectorFactory>>>,
}

/// Makes one connector per lane: an exporter of one pipeline that feeds others.
pub trait ConnectorFactory: Send + Sync + 'static {
    /// Whether what comes in as one signal goes out as the other.
    fn joins(&self, from: Signal, to: Signal) -> bool {
        from == to
    }

    /// Checks the connector's settings against the pipelines that it can feed, which are known once all are built.
    ///
    /// # Errors
    /// For instance when the settings name a pipeline that is none of them.
    fn check(&self, _targets: &[&PipelineId]) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The instance of one lane, with the pipelines that it can feed.
    fn create(
        &self,
        lane: usize,
        signal: Signal,
        targets: Vec<(PipelineId, Inlet)>,
        shutdown: Shutdown,
    ) -> Arc<dyn Exporter>;
}

/// Finds a type by its name or an alias.
///
/// # Errors
/// Names the type that might have been meant, and all there are.
pub(super) fn find<'a, T>(
    types: &'a [Component<T>],
    section: &str,
    kind: &str,
    id: &str,
    node: &Node,
) -> Result<&'a Component<T>, ConfigError> {
    types.iter().find(|t| t.name == kind || t.aliases.contains(&kind)).ok_or_else(|| {
        let names: Vec<&str> = types.iter().map(|t| t.name).collect();
        let mut hint = match suggest::closest(kind, names.iter().copied()) {
            Some(close) => format!("did you mean `{close}`? "),
            None => String::new(),
        };
        if names.is_empty() {
            hint.push_str("this build has none");
        } else {
            hint.push_str(&format!("valid values: [{}]", names.join(" ")));
        }
        node.error(section, format!("unknown type: {kind:?} for id: {id:?}")).with_hint(hint)
    })
}
