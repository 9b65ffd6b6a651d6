//! Settings of the `routing` connector, with the Collector's keys and defaults.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use crate::condition::{Condition, Context};
use crate::config::{ConfigError, ErrorMode, Location, Node, PipelineId};
use crate::signal::Signal;

/// Pipelines that one connector can tell apart.
const MAX_PIPELINES: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    default_pipelines: Vec<Node>,
    #[serde(default, rename = "error_mode")]
    _error_mode: ErrorMode,
    #[serde(default)]
    #[schemars(with = "Vec<RawRow>")]
    table: Vec<Node>,
}

/// Describes the configuration; see [`crate::config::schema`].
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRow {
    #[serde(default)]
    context: RawContext,
    #[schemars(with = "Option<String>")]
    condition: Option<Node>,
    #[schemars(with = "Option<String>")]
    statement: Option<Node>,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pipelines: Vec<Node>,
}

#[derive(Deserialize, JsonSchema, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum RawContext {
    #[default]
    #[serde(alias = "")]
    Resource,
    Span,
    Request,
}

/// What becomes of data that a row sends somewhere.
#[derive(Deserialize, JsonSchema, Default, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It is done with.
    #[default]
    Move,
    /// The rows below are asked too.
    Copy,
}

/// A row of the table.
pub(super) struct Row {
    pub(super) context: Context,
    pub(super) condition: Condition,
    pub(super) action: Action,
    pub(super) pipelines: Vec<PipelineId>,
}

pub(super) struct Settings {
    pub(super) table: Vec<Row>,
    pub(super) default_pipelines: Vec<PipelineId>,
    /// Every mention of a pipeline, and the path to it.
    mentions: Vec<(PipelineId, Location, String)>,
}

impl Settings {
    pub(super) fn parse(node: &Node, path: &str, signals: &[Signal]) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        let mut settings = Self { table: Vec::new(), default_pipelines: Vec::new(), mentions: Vec::new() };
        settings.default_pipelines =
            settings.pipelines(&raw.default_pipelines, &format!("{path}::default_pipelines"))?;
        if raw.table.is_empty() {
            let error =
                node.get("table").unwrap_or(node).error(path, "invalid routing table: the routing table is empty");
            return Err(error.with_hint("write `table: [{condition: …, pipelines: […]}]`"));
        }
        for (n, row) in raw.table.iter().enumerate() {
            let row = settings.row(row, &format!("{path}::table[{n}]"), signals)?;
            settings.table.push(row);
        }
        Ok(settings)
    }

    fn row(&mut self, node: &Node, path: &str, signals: &[Signal]) -> Result<Row, ConfigError> {
        if let Some(context) = node.get("context")
            && let Some("metric" | "datapoint" | "log") = context.text()
        {
            let message = "routing by metrics, data points and logs one by one is not supported yet";
            let error = context.error(&format!("{path}::context"), message);
            return Err(error.with_hint("route them by `resource` or `request`"));
        }
        let raw: RawRow = node.parse_as(path)?;
        let context = match raw.context {
            RawContext::Resource => Context::Resource,
            RawContext::Span => Context::Span,
            RawContext::Request => Context::Request,
        };
        if context == Context::Span
            && let Some(other) = signals.iter().find(|s| **s != Signal::Traces)
        {
            let message = format!("the context `span` is for traces, and this connector routes {other}");
            let error = node.get("context").unwrap_or(node).error(path, message);
            return Err(error.with_hint("route them by `resource` or `request`"));
        }
        let condition = match (&raw.condition, &raw.statement) {
            (Some(condition), None) => Condition::parse(condition, path, context)?,
            (None, Some(statement)) if context != Context::Request => {
                Condition::parse_statement(statement, path, context)?
            }
            (None, Some(statement)) => {
                return Err(statement.error(path, "the context `request` requires a `condition`"));
            }
            (Some(_), Some(statement)) => {
                return Err(statement.error(path, "invalid route: both condition and statement provided"));
            }
            (None, None) => {
                let error = node.error(path, "invalid route: no condition or statement provided");
                return Err(error.with_hint("write `condition: attributes[\"key\"] == \"value\"`"));
            }
        };
        if raw.pipelines.is_empty() {
            return Err(node.error(path, "invalid route: no pipelines defined"));
        }
        let pipelines = self.pipelines(&raw.pipelines, &format!("{path}::pipelines"))?;
        Ok(Row { context, condition, action: raw.action, pipelines })
    }

    fn pipelines(&mut self, nodes: &[Node], path: &str) -> Result<Vec<PipelineId>, ConfigError> {
        let mut ids = Vec::with_capacity(nodes.len());
        for (n, node) in nodes.iter().enumerate() {
            let path = format!("{path}[{n}]");
            let id: PipelineId = node.parse_as(&path)?;
            self.mentions.push((id.clone(), node.location().clone(), path));
            ids.push(id);
        }
        Ok(ids)
    }

    /// Checks that every pipeline that is mentioned can be reached.
    pub(super) fn check(&self, targets: &[&PipelineId]) -> Result<(), ConfigError> {
        for (id, location, path) in &self.mentions {
            if !targets.contains(&id) {
                let known: Vec<String> = targets.iter().map(ToString::to_string).collect();
                let message = format!("pipeline \"{id}\" does not name this connector as a receiver");
                let hint = format!("pipelines that do: {}", known.join(", "));
                return Err(ConfigError::new(location, path, message).with_hint(hint));
            }
        }
        match self.mentions.first() {
            Some((_, location, path)) if targets.len() > MAX_PIPELINES => {
                let message = format!("a routing connector feeds at most {MAX_PIPELINES} pipelines");
                Err(ConfigError::new(location, path, message).with_hint("chain several connectors"))
            }
            _ => Ok(()),
        }
    }
}
