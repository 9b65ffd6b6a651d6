//! Settings of `include` and `exclude`, with the Collector's keys, rules and messages.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Value};
use weir_pipeline::signal::Signal;

use super::reader::{RawAttribute, RawLibrary, Reader, RegexpCache};
use super::{KINDS, LeastSeverity, Properties, STATUS_CODES, Selection, Selections};

impl Selection {
    /// Reads both parts, which are about records of this signal; `path` is that of the mapping they stand in.
    pub(crate) fn parse(
        include: Option<&Node>,
        exclude: Option<&Node>,
        path: &str,
        signal: Signal,
    ) -> Result<Self, ConfigError> {
        let properties = |node: Option<&Node>, name: &str| {
            node.map(|node| Properties::parse(node, &format!("{path}::{name}"), signal)).transpose()
        };
        Ok(Self { include: properties(include, "include")?, exclude: properties(exclude, "exclude")? })
    }
}

impl Selections {
    /// Reads both parts for each of these signals, which are those of the pipelines that name the processor.
    pub(crate) fn parse(
        include: Option<&Node>,
        exclude: Option<&Node>,
        path: &str,
        signals: &[Signal],
    ) -> Result<Self, ConfigError> {
        let mut selections = Self::default();
        // What no pipeline names is checked too, for what it seems to be about.
        let meant = [meant(include, exclude)];
        for &signal in if signals.is_empty() { &meant } else { signals } {
            let selection = Selection::parse(include, exclude, path, signal)?;
            match signal {
                Signal::Traces => selections.spans = selection,
                Signal::Metrics => selections.metrics = selection,
                Signal::Logs => selections.log_records = selection,
            }
        }
        Ok(selections)
    }
}

/// The signal that properties are about, if their keys tell it.
fn meant(include: Option<&Node>, exclude: Option<&Node>) -> Signal {
    let nodes = [include, exclude];
    let has = |keys: &[&str]| nodes.iter().flatten().any(|node| keys.iter().any(|key| node.get(key).is_some()));
    if has(OF_LOG_RECORDS) {
        Signal::Logs
    } else if has(OF_METRICS) {
        Signal::Metrics
    } else {
        Signal::Traces
    }
}

const OF_SPANS: &[&str] = &["services", "span_names", "span_kinds", "status_codes"];
const OF_LOG_RECORDS: &[&str] = &["log_bodies", "log_severity_texts", "log_severity_number"];
const OF_METRICS: &[&str] = &["metric_names"];
/// What data points have, but not the metric that a processor chooses by.
const OF_RECORDS: &[&str] = &["attributes", "libraries"];

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProperties {
    match_type: String,
    #[serde(rename = "regexp")]
    _regexp: Option<RegexpCache>,
    #[schemars(with = "Vec<String>")]
    projects: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    environments: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    services: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    span_names: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    span_kinds: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    status_codes: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    log_bodies: Vec<Node>,
    #[schemars(with = "Vec<String>")]
    log_severity_texts: Vec<Node>,
    log_severity_number: Option<RawSeverity>,
    #[schemars(with = "Vec<String>")]
    metric_names: Vec<Node>,
    #[schemars(with = "Vec<RawAttribute>")]
    attributes: Vec<Node>,
    #[schemars(with = "Vec<RawAttribute>")]
    resources: Vec<Node>,
    #[schemars(with = "Vec<RawLibrary>")]
    libraries: Vec<Node>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSeverity {
    min: i32,
    match_undefined: bool,
}

impl Properties {
    pub(super) fn parse(node: &Node, path: &str, signal: Signal) -> Result<Self, ConfigError> {
        let raw: RawProperties = node.parse_as(path)?;
        let reader = Reader::new(&raw.match_type, node, path)?;
        refuse_foreign(node, path, signal)?;
        let lists = [
            &raw.projects,
            &raw.environments,
            &raw.services,
            &raw.span_names,
            &raw.span_kinds,
            &raw.status_codes,
            &raw.log_bodies,
            &raw.log_severity_texts,
            &raw.metric_names,
            &raw.attributes,
            &raw.resources,
            &raw.libraries,
        ];
        if lists.iter().all(|list| list.is_empty()) && raw.log_severity_number.is_none() {
            return Err(node.error(path, "nothing is specified to match").with_hint(match signal {
                Signal::Traces => {
                    "specify at least one of projects, environments, services, span_names, span_kinds, status_codes, attributes, resources \
                     and libraries"
                }
                Signal::Metrics => "specify at least one of projects, environments, metric_names and resources",
                Signal::Logs => {
                    "specify at least one of projects, environments, log_bodies, log_severity_texts, log_severity_number, attributes, \
                     resources and libraries"
                }
            }));
        }
        reader.only(&raw.span_kinds, "span_kinds", &KINDS)?;
        reader.only(&raw.status_codes, "status_codes", &STATUS_CODES)?;
        let severity = |RawSeverity { min, match_undefined }| LeastSeverity { min, match_undefined };
        Ok(Self {
            projects: reader.texts(&raw.projects)?,
            environments: reader.texts(&raw.environments)?,
            services: reader.texts(&raw.services)?,
            span_names: reader.texts(&raw.span_names)?,
            span_kinds: reader.texts(&raw.span_kinds)?,
            status_codes: reader.texts(&raw.status_codes)?,
            log_bodies: reader.texts(&raw.log_bodies)?,
            log_severity_texts: reader.texts(&raw.log_severity_texts)?,
            log_severity_number: raw.log_severity_number.map(severity),
            metric_names: reader.texts(&raw.metric_names)?,
            attributes: reader.attributes(&raw.attributes, "attributes")?,
            resources: reader.attributes(&raw.resources, "resources")?,
            libraries: reader.libraries(&raw.libraries)?,
        })
    }
}

fn is_empty_list(node: &Node) -> bool {
    matches!(node.value(), Value::List(items) if items.is_empty())
}

/// Which of these keys are there; a list that is empty asks for none.
fn asked<'a>(node: &'a Node, keys: &'a [&'a [&'a str]]) -> impl Iterator<Item = (&'a str, &'a Node)> {
    let is_asked = |node: &&Node| !matches!(node.value(), Value::Null) && !is_empty_list(node);
    keys.iter().copied().flatten().filter_map(move |key| Some((*key, node.get(key).filter(is_asked)?)))
}

/// Refuses properties that records of this signal cannot have, or are not chosen by. To leave them out would choose all
/// records instead of a few.
fn refuse_foreign(node: &Node, path: &str, signal: Signal) -> Result<(), ConfigError> {
    let (foreign, records): (&[&[&str]], &str) = match signal {
        Signal::Logs => (&[OF_SPANS, OF_METRICS], "log records"),
        Signal::Traces => (&[OF_LOG_RECORDS, OF_METRICS], "trace spans"),
        Signal::Metrics => (&[OF_SPANS, OF_LOG_RECORDS, OF_RECORDS], "metrics"),
    };
    let Some((key, at)) = asked(node, foreign).next() else { return Ok(()) };
    let error = at.error(path, format!("{key} should not be specified for {records}"));
    Err(match (key, signal) {
        ("services", _) => error.with_hint("match `resources: [{key: service.name, value: …}]`"),
        (_, Signal::Metrics) => error.with_hint("metrics are chosen by metric_names and resources"),
        _ => error,
    })
}
