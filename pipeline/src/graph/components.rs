//! The registry: which component types exist and how each is built. A plain table, filled in by the binary.

use std::sync::Arc;

use crate::channel::Inlet;
use crate::config::{ConfigError, Node, PipelineId, suggest};
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
    /// Builds it from the body of its configuration, which stands at the path (`exporters::otlp_http`).
    pub build: fn(&Node, &str, &Context) -> Result<T, ConfigError>,
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
    /// Connectors by type.
    pub connectors: Vec<Component<Arc<dyn ConnectorFactory>>>,
}

/// Makes one connector per lane: an exporter of one pipeline that feeds others.
pub trait ConnectorFactory: Send + Sync + 'static {
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
