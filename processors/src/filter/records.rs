//! Properties of log records and metrics, as `filter` spells them.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::otlp::schema::SEVERITIES;

use crate::matching::{AttributeTest, LeastSeverity, Properties, RawAttribute, Reader, RegexpCache, Texts};

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLogProperties {
    match_type: String,
    #[schemars(with = "Vec<RawAttribute>")]
    resource_attributes: Vec<Node>,
    #[schemars(with = "Vec<RawAttribute>")]
    record_attributes: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    severity_texts: Vec<Node>,
    #[schemars(with = "Option<RawSeverity>")]
    severity_number: Option<Node>,
    #[schemars(with = "Vec<String>")]
    bodies: Vec<Node>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSeverity {
    /// A short name such as `WARN2`, or its number; without one all severities match.
    min: String,
    match_undefined: bool,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetricProperties {
    match_type: String,
    #[serde(rename = "regexp")]
    _regexp: Option<RegexpCache>,
    #[schemars(with = "Vec<String>")]
    metric_names: Vec<Node>,
    #[schemars(with = "Vec<RawAttribute>")]
    resource_attributes: Vec<Node>,
    #[schemars(with = "Vec<serde_json::Value>")]
    expressions: Vec<Node>,
}

/// What log records are to have, all of it; `None` if that is nothing.
pub(super) fn log_properties(node: &Node, path: &str) -> Result<Option<Properties>, ConfigError> {
    let raw: RawLogProperties = node.parse_as(path)?;
    let lists = [&raw.resource_attributes, &raw.record_attributes, &raw.severity_texts, &raw.bodies];
    if lists.iter().all(|list| list.is_empty()) && raw.severity_number.is_none() {
        return Ok(None);
    }
    let reader = Reader::new(&raw.match_type, node, path)?;
    let severity_number = raw.severity_number.as_ref().map(|node| severity(node, &format!("{path}::severity_number")));
    Ok(Some(Properties {
        log_bodies: reader.texts(&raw.bodies)?,
        log_severity_texts: reader.texts(&raw.severity_texts)?,
        log_severity_number: severity_number.transpose()?,
        attributes: reader.attributes(&raw.record_attributes, "record_attributes")?,
        resources: reader.attributes(&raw.resource_attributes, "resource_attributes")?,
        ..Properties::default()
    }))
}

fn severity(node: &Node, path: &str) -> Result<LeastSeverity, ConfigError> {
    let RawSeverity { min, match_undefined } = node.parse_as(path)?;
    let name = format!("SEVERITY_NUMBER_{}", min.to_ascii_uppercase());
    let known = SEVERITIES.iter().filter(|(_, number)| *number > 0);
    let number = known.clone().find(|(known, number)| *known == name || number.to_string() == min);
    match number {
        Some((_, number)) => Ok(LeastSeverity { min: *number, match_undefined }),
        None if min.is_empty() => Ok(LeastSeverity { min: 0, match_undefined }),
        None => {
            let at = node.get("min").unwrap_or(node);
            let error = at.error(path, format!("{min:?} is not a valid severity"));
            Err(error.with_hint(
                "severities are 1 to 24, or TRACE, DEBUG, INFO, WARN, ERROR and FATAL, each also with 2 to 4 behind it",
            ))
        }
    }
}

/// What metrics are to have, all of it; `None` if that is nothing.
pub(super) fn include_metrics(node: &Node, path: &str) -> Result<Option<Properties>, ConfigError> {
    let Parts { metric_names, resources } = Parts::parse(node, path)?;
    let is_nothing = metric_names.is_empty() && resources.is_empty();
    Ok((!is_nothing).then_some(Properties { metric_names, resources, ..Properties::default() }))
}

/// What metrics are dropped for, any of it.
pub(super) fn exclude_metrics(node: &Node, path: &str) -> Result<Vec<Properties>, ConfigError> {
    let Parts { metric_names, resources } = Parts::parse(node, path)?;
    let mut any = Vec::new();
    // One that asks for nothing would match everything.
    if !metric_names.is_empty() {
        any.push(Properties { metric_names, ..Properties::default() });
    }
    if !resources.is_empty() {
        any.push(Properties { resources, ..Properties::default() });
    }
    Ok(any)
}

struct Parts {
    metric_names: Texts,
    resources: Vec<AttributeTest>,
}

impl Parts {
    fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        const EXPRESSIONS: &str = "expressions are not supported";
        const INSTEAD: &str = "name the metrics in `metric_names`, with match_type strict or regexp";
        let raw: RawMetricProperties = node.parse_as(path)?;
        let is_nothing = raw.metric_names.is_empty() && raw.resource_attributes.is_empty();
        if raw.expressions.is_empty() && is_nothing {
            // Whatever would match it: the Collector does not look at the type then.
            return Ok(Self { metric_names: Texts::default(), resources: Vec::new() });
        }
        if raw.match_type == "expr" {
            let at = node.get("match_type").unwrap_or(node);
            return Err(at.error(path, format!("match_type expr: {EXPRESSIONS}")).with_hint(INSTEAD));
        }
        if !raw.expressions.is_empty() {
            let at = node.get("expressions").unwrap_or(node);
            return Err(at.error(path, EXPRESSIONS).with_hint(INSTEAD));
        }
        let reader = Reader::new(&raw.match_type, node, path)?;
        Ok(Self {
            metric_names: reader.texts(&raw.metric_names)?,
            resources: reader.attributes(&raw.resource_attributes, "resource_attributes")?,
        })
    }
}
