//! Settings of the `filter` processor: the Collector's `spans`, and a clear word about the rest.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node};

use crate::matching::{RawProperties, Selection};

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    #[schemars(with = "Option<RawSpans>")]
    spans: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    error_mode: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    traces: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    metrics: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    logs: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    profiles: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    trace_conditions: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    metric_conditions: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    log_conditions: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    profile_conditions: Option<Node>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSpans {
    #[schemars(with = "Option<RawProperties>")]
    include: Option<Node>,
    #[schemars(with = "Option<RawProperties>")]
    exclude: Option<Node>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

const INSTEAD: &str = "write what is to be dropped as properties, for instance `spans: {exclude: {match_type: strict, \
                       attributes: [{key: env, value: dev}]}}`";

pub(super) fn parse(node: &Node, path: &str) -> Result<Selection, ConfigError> {
    let raw: Raw = node.parse_as(path)?;
    for (key, found) in [("traces", &raw.traces), ("trace_conditions", &raw.trace_conditions)] {
        if let Some(found) = found {
            let error = found.error(&format!("{path}::{key}"), "conditions in OTTL are not supported yet");
            return Err(error.with_hint(INSTEAD));
        }
    }
    for (key, found) in [
        ("metrics", &raw.metrics),
        ("logs", &raw.logs),
        ("profiles", &raw.profiles),
        ("metric_conditions", &raw.metric_conditions),
        ("log_conditions", &raw.log_conditions),
        ("profile_conditions", &raw.profile_conditions),
    ] {
        if let Some(found) = found {
            let error = found.error(&format!("{path}::{key}"), "only spans can be filtered");
            return Err(error.with_hint("take it out, and the processor out of the pipelines of other signals"));
        }
    }
    if let Some(error_mode) = &raw.error_mode {
        let message = "this is for conditions in OTTL, which are not supported yet";
        return Err(error_mode.error(&format!("{path}::error_mode"), message).with_hint("take it out"));
    }
    let path = format!("{path}::spans");
    let Some(spans) = &raw.spans else {
        return Err(node.error(&path, "nothing is specified to filter by").with_hint(INSTEAD));
    };
    let RawSpans { include, exclude } = spans.parse_as(&path)?;
    let selection = Selection::parse(include.as_ref(), exclude.as_ref(), &path)?;
    if selection.is_all() {
        return Err(spans.error(&path, "nothing is specified to filter by").with_hint(INSTEAD));
    }
    Ok(selection)
}
