//! Settings of the `filter` processor: the Collector's `spans`, `logs` and `metrics`, and a clear word about the rest.

use schemars::JsonSchema;
use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, ErrorMode, Node, Value, Warning};
use weir_pipeline::signal::Signal;

use super::Filters;
use super::records::{RawLogProperties, RawMetricProperties, exclude_metrics, include_metrics, log_properties};
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
    #[schemars(with = "Option<RawTraces>")]
    traces: Option<Node>,
    #[schemars(with = "Option<RawProfiles>")]
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

/// Conditions in OTTL, which are refused where there are any.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTraces {
    #[serde(rename = "resource")]
    #[schemars(with = "Vec<serde_json::Value>")]
    _resource: Vec<Node>,
    #[serde(rename = "span")]
    #[schemars(with = "Vec<serde_json::Value>")]
    _span: Vec<Node>,
    #[serde(rename = "spanevent")]
    #[schemars(with = "Vec<serde_json::Value>")]
    _spanevent: Vec<Node>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawProfiles {
    #[serde(rename = "resource")]
    #[schemars(with = "Vec<serde_json::Value>")]
    _resource: Vec<Node>,
    #[serde(rename = "profile")]
    #[schemars(with = "Vec<serde_json::Value>")]
    _profile: Vec<Node>,
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
    if let Some(traces) = &raw.traces {
        traces.parse_as::<RawTraces>(&format!("{path}::traces"))?;
    }
    for (key, found) in [("profiles", &raw.profiles), ("profile_conditions", &raw.profile_conditions)] {
        if let Some(found) = found.as_ref().filter(|found| asks(found)) {
            let error = found.error(&format!("{path}::{key}"), "profiles are not supported");
            return Err(error.with_hint("take it out: there is no pipeline of profiles"));
        }
    }
    if let Some(profiles) = &raw.profiles {
        profiles.parse_as::<RawProfiles>(&format!("{path}::profiles"))?;
    }
    let filters = Filters {
        spans: raw.spans.as_ref().map(|node| spans(node, &format!("{path}::spans"))).transpose()?.flatten(),
        logs: raw.logs.as_ref().map(|node| logs(node, &format!("{path}::logs"))).transpose()?.flatten(),
        metrics: raw.metrics.as_ref().map(|node| metrics(node, &format!("{path}::metrics"))).transpose()?.flatten(),
    };
    if filters.spans.is_none() && filters.logs.is_none() && filters.metrics.is_none() {
        let nothing = "it drops nothing: say what is to be dropped in spans, logs or metrics";
        Warning::of_moot(node, path, nothing);
    }
    Ok(filters)
}

/// Whether anything is asked for: lists and mappings of nothing, which templates leave behind, do not.
fn asks(node: &Node) -> bool {
    match node.value() {
        Value::Null => false,
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => entries.iter().any(|(_, node)| asks(node)),
        Value::Scalar(_) => true,
    }
}

fn no_condition(found: Option<&Node>, path: &str, signal: Signal) -> Result<(), ConfigError> {
    match found.filter(|found| asks(found)) {
        None => Ok(()),
        Some(found) => Err(found.error(path, "conditions in OTTL are not supported yet").with_hint(instead(signal))),
    }
}

/// `None`, here and below: nothing is dropped.
fn spans(node: &Node, path: &str) -> Result<Option<Selection>, ConfigError> {
    let RawSpans { include, exclude } = node.parse_as(path)?;
    let selection = Selection::parse(include.as_ref(), exclude.as_ref(), path, Signal::Traces)?;
    Ok((!selection.is_all()).then_some(selection))
}

fn logs(node: &Node, path: &str) -> Result<Option<Selection>, ConfigError> {
    let RawLogs { include, exclude, resource, log_record } = node.parse_as(path)?;
    for (key, found) in [("resource", resource), ("log_record", log_record)] {
        no_condition(found.as_ref(), &format!("{path}::{key}"), Signal::Logs)?;
    }
    let properties = |node: Option<&Node>, name: &str| {
        let parsed = node.map(|node| log_properties(node, &format!("{path}::{name}"))).transpose()?;
        Ok::<_, ConfigError>(parsed.flatten())
    };
    // Either may ask for nothing, as in the Collector.
    let selection = Selection {
        include: properties(include.as_ref(), "include")?,
        exclude: properties(exclude.as_ref(), "exclude")?,
    };
    Ok((!selection.is_all()).then_some(selection))
}

fn metrics(node: &Node, path: &str) -> Result<Option<super::MetricFilter>, ConfigError> {
    let RawMetrics { include, exclude, resource, metric, datapoint, _regexp } = node.parse_as(path)?;
    for (key, found) in [("resource", resource), ("metric", metric), ("datapoint", datapoint)] {
        no_condition(found.as_ref(), &format!("{path}::{key}"), Signal::Metrics)?;
    }
    let include = include.map(|node| include_metrics(&node, &format!("{path}::include"))).transpose()?.flatten();
    let exclude = exclude.map(|node| exclude_metrics(&node, &format!("{path}::exclude"))).transpose()?;
    let exclude = exclude.unwrap_or_default();
    let is_all = include.is_none() && exclude.is_empty();
    Ok((!is_all).then_some(super::MetricFilter { include, exclude }))
}
