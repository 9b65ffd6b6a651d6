//! Settings of the `filter` processor: the Collector's `spans`, `logs` and `metrics`, and a clear word about the rest.

use schemars::JsonSchema;
use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, ErrorMode, Node};
use weir_pipeline::signal::Signal;

use super::Filters;
use super::records::{
    RawLogProperties, RawMetricProperties, exclude_metrics, include_metrics, log_properties, no_log_properties,
};
use crate::matching::{RawProperties, RegexpCache, Selection};

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    #[schemars(with = "Option<RawSpans>")]
    spans: Option<Node>,
    #[schemars(with = "Option<RawLogs>")]
    logs: Option<Node>,
    #[schemars(with = "Option<RawMetrics>")]
    metrics: Option<Node>,
    #[serde(rename = "error_mode")]
    _error_mode: ErrorMode,
    #[schemars(with = "Option<serde_json::Value>")]
    traces: Option<Node>,
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLogs {
    #[schemars(with = "Option<RawLogProperties>")]
    include: Option<Node>,
    #[schemars(with = "Option<RawLogProperties>")]
    exclude: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    resource: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    log_record: Option<Node>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    #[schemars(with = "Option<RawMetricProperties>")]
    include: Option<Node>,
    #[schemars(with = "Option<RawMetricProperties>")]
    exclude: Option<Node>,
    #[serde(rename = "regexp")]
    _regexp: Option<RegexpCache>,
    #[schemars(with = "Option<serde_json::Value>")]
    resource: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    metric: Option<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    datapoint: Option<Node>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

const NOTHING: &str = "nothing is specified to filter by";

/// What to write instead of a condition.
fn instead(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => {
            "write what is to be dropped as properties, for instance `spans: {exclude: {match_type: strict, \
             attributes: [{key: env, value: dev}]}}`"
        }
        Signal::Metrics => {
            "write what is to be dropped as properties, for instance `metrics: {exclude: {match_type: regexp, \
             metric_names: ['^go_']}}`"
        }
        Signal::Logs => {
            "write what is to be kept or dropped as properties, for instance `logs: {include: {severity_number: \
             {min: INFO}}}`"
        }
    }
}

pub(super) fn parse(node: &Node, path: &str) -> Result<Filters, ConfigError> {
    let raw: Raw = node.parse_as(path)?;
    for (key, found, signal) in [
        ("traces", &raw.traces, Signal::Traces),
        ("trace_conditions", &raw.trace_conditions, Signal::Traces),
        ("metric_conditions", &raw.metric_conditions, Signal::Metrics),
        ("log_conditions", &raw.log_conditions, Signal::Logs),
    ] {
        no_condition(found.as_ref(), &format!("{path}::{key}"), signal)?;
    }
    for (key, found) in [("profiles", &raw.profiles), ("profile_conditions", &raw.profile_conditions)] {
        if let Some(found) = found {
            let error = found.error(&format!("{path}::{key}"), "profiles are not supported");
            return Err(error.with_hint("take it out: there is no pipeline of profiles"));
        }
    }
    let filters = Filters {
        spans: raw.spans.as_ref().map(|node| spans(node, &format!("{path}::spans"))).transpose()?,
        logs: raw.logs.as_ref().map(|node| logs(node, &format!("{path}::logs"))).transpose()?,
        metrics: raw.metrics.as_ref().map(|node| metrics(node, &format!("{path}::metrics"))).transpose()?,
    };
    if filters.spans.is_none() && filters.logs.is_none() && filters.metrics.is_none() {
        let error = node.error(path, NOTHING);
        return Err(error.with_hint("specify at least one of spans, logs and metrics"));
    }
    Ok(filters)
}

fn no_condition(found: Option<&Node>, path: &str, signal: Signal) -> Result<(), ConfigError> {
    match found {
        None => Ok(()),
        Some(found) => Err(found.error(path, "conditions in OTTL are not supported yet").with_hint(instead(signal))),
    }
}

fn spans(node: &Node, path: &str) -> Result<Selection, ConfigError> {
    let RawSpans { include, exclude } = node.parse_as(path)?;
    let selection = Selection::parse(include.as_ref(), exclude.as_ref(), path, Signal::Traces)?;
    if selection.is_all() {
        return Err(node.error(path, NOTHING).with_hint(instead(Signal::Traces)));
    }
    Ok(selection)
}

fn logs(node: &Node, path: &str) -> Result<Selection, ConfigError> {
    let RawLogs { include, exclude, resource, log_record } = node.parse_as(path)?;
    for (key, found) in [("resource", resource), ("log_record", log_record)] {
        no_condition(found.as_ref(), &format!("{path}::{key}"), Signal::Logs)?;
    }
    let properties = |node: Option<&Node>, name: &str| {
        let parsed = node.map(|node| log_properties(node, &format!("{path}::{name}"))).transpose()?;
        Ok::<_, ConfigError>(parsed.flatten())
    };
    // One of the two may ask for nothing, as in the Collector.
    let selection = Selection {
        include: properties(include.as_ref(), "include")?,
        exclude: properties(exclude.as_ref(), "exclude")?,
    };
    if selection.is_all() {
        return Err(match (include, exclude) {
            (Some(include), _) => no_log_properties(&include, &format!("{path}::include")),
            (None, Some(exclude)) => no_log_properties(&exclude, &format!("{path}::exclude")),
            (None, None) => node.error(path, NOTHING).with_hint(instead(Signal::Logs)),
        });
    }
    Ok(selection)
}

fn metrics(node: &Node, path: &str) -> Result<super::MetricFilter, ConfigError> {
    let RawMetrics { include, exclude, resource, metric, datapoint, _regexp } = node.parse_as(path)?;
    for (key, found) in [("resource", resource), ("metric", metric), ("datapoint", datapoint)] {
        no_condition(found.as_ref(), &format!("{path}::{key}"), Signal::Metrics)?;
    }
    if include.is_none() && exclude.is_none() {
        return Err(node.error(path, NOTHING).with_hint(instead(Signal::Metrics)));
    }
    Ok(super::MetricFilter {
        include: include.map(|node| include_metrics(&node, &format!("{path}::include"))).transpose()?,
        exclude: exclude
            .map(|node| exclude_metrics(&node, &format!("{path}::exclude")))
            .transpose()?
            .unwrap_or_default(),
    })
}
