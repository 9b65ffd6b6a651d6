//! The registry: which component types exist and how each is built. A plain table, filled in by the binary.

use std::fmt;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};

use crate::channel::Inlet;
use crate::config::{ConfigError, Location, Node, PipelineId, suggest};
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
    /// Types that people know from elsewhere and will look for.
    pub missing: &'static [Missing],
}

/// Component types that a binary does not have, and what to do without them.
#[derive(Debug, Clone, Copy)]
pub struct Missing {
    /// The section they belong to: `receivers`.
    pub section: &'static str,
    /// Their names and aliases.
    pub names: &'static [&'static str],
    /// What to use instead.
    pub instead: &'static str,
}

impl Components {
    /// What to say of a type that a section does not know, if it is known otherwise.
    fn advice(&self, section: &str, kind: &str) -> Option<String> {
        // Many types have two spellings: `kubeletstats`, and since 2025 `kubelet_stats`.
        let is_it = |name: &&str| name.replace('_', "") == kind.replace('_', "");
        let missing = self.missing.iter().find(|m| m.section == section && m.names.iter().any(is_it));
        if let Some(Missing { instead, .. }) = missing {
            return Some(format!("Weir does not have this component of the Collector: {instead}"));
        }
        let known = |name: &'static str, aliases: &[&str]| name == kind || aliases.contains(&kind);
        let elsewhere = [
            ("receivers", self.receivers.iter().any(|c| known(c.name, c.aliases))),
            ("processors", self.processors.iter().any(|c| known(c.name, c.aliases))),
            ("exporters", self.exporters.iter().any(|c| known(c.name, c.aliases))),
            ("connectors", self.connectors.iter().any(|c| known(c.name, c.aliases))),
            ("extensions", self.extensions.iter().any(|c| known(c.name, c.aliases))),
        ];
        let (place, _) = elsewhere.into_iter().find(|(_, is_known)| *is_known)?;
        Some(format!("it belongs under `{place}`"))
    }
}

/// Makes one connector per lane: an exporter of one pipeline that feeds others.
pub trait ConnectorFactory: Send + Sync + 'static {
    /// Whether what comes in as one signal goes out as the other.
    fn joins(&self, from: Signal, to: Signal) -> bool {
        from == to
    }

    /// Whether it reads the metadata of data.
    fn reads_metadata(&self) -> bool {
        false
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

/// Finds a type by its name or an alias; `at` is where a configuration names it.
///
/// # Errors
/// Says what to use instead, or names the type that might have been meant, and all there are.
pub(super) fn find<'a, T>(
    all: &Components,
    types: &'a [Component<T>],
    section: &str,
    kind: &str,
    id: &str,
    at: &Location,
) -> Result<&'a Component<T>, ConfigError> {
    types.iter().find(|t| t.name == kind || t.aliases.contains(&kind)).ok_or_else(|| {
        let error = ConfigError::new(at, section, format!("unknown type: {kind:?} for id: {id:?}"));
        if let Some(advice) = all.advice(section, kind) {
            return error.with_hint(advice);
        }
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
        error.with_hint(hint)
    })
}
