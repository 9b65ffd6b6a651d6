//! Settings of the `span` processor, with the Collector's keys, rules and messages.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Warning};
use weir_pipeline::pattern;
use weir_pipeline::signal::Signal;

use super::Rule;
use crate::actions::named_groups;
use crate::matching::{RawProperties, STATUS_CODES, Selection};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[schemars(with = "Option<RawProperties>")]
    include: Option<Node>,
    #[schemars(with = "Option<RawProperties>")]
    exclude: Option<Node>,
    #[serde(default)]
    name: RawName,
    status: Option<RawStatus>,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawName {
    from_attributes: Vec<String>,
    separator: String,
    to_attributes: RawRules,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawRules {
    #[schemars(with = "Vec<String>")]
    rules: Vec<Node>,
    break_after_match: bool,
    keep_original_name: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawStatus {
    #[serde(default)]
    code: String,
    #[serde(default)]
    description: String,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

pub(super) struct Settings {
    pub(super) selection: Selection,
    pub(super) from_attributes: Vec<String>,
    pub(super) separator: String,
    pub(super) rules: Vec<Rule>,
    pub(super) break_after_match: bool,
    pub(super) keep_original_name: bool,
    /// `StatusCode` as a number, and the description.
    pub(super) status: Option<(i32, String)>,
}

impl Settings {
    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        let RawName { from_attributes, separator, to_attributes } = raw.name;
        if from_attributes.is_empty() && to_attributes.rules.is_empty() && raw.status.is_none() {
            let message = "nothing to do: either `from_attributes` or `to_attributes` must be specified in `name`, or \
                           `status` must be specified";
            return Err(node.error(path, message));
        }
        let status = raw.status.map(|status| {
            let at = node.get("status").unwrap_or(node);
            check_status(status, at, &format!("{path}::status"))
        });
        let rule = |(n, node): (usize, &Node)| {
            let path = format!("{path}::name::to_attributes::rules[{n}]");
            let text: String = node.parse_as(&path)?;
            let pattern = pattern::compile(&text).map_err(|message| node.error(&path, message))?;
            // The one group that every pattern has is all of it.
            let has_groups = pattern.captures_len() > 1;
            if !has_groups && !to_attributes.break_after_match {
                Warning::of_moot(
                    node,
                    &path,
                    "the pattern has no group (?P<name>…) that an attribute could be made of",
                );
            }
            let names = if has_groups { named_groups(&pattern) } else { Ok(Vec::new()) };
            let names = names.map_err(|message| node.error(&path, message))?;
            Ok(Rule { pattern, names })
        };
        Ok(Self {
            selection: Selection::parse(raw.include.as_ref(), raw.exclude.as_ref(), path, Signal::Traces)?,
            from_attributes,
            separator,
            rules: to_attributes.rules.iter().enumerate().map(rule).collect::<Result<_, ConfigError>>()?,
            break_after_match: to_attributes.break_after_match,
            keep_original_name: to_attributes.keep_original_name,
            status: status.transpose()?,
        })
    }
}

fn check_status(status: RawStatus, node: &Node, path: &str) -> Result<(i32, String), ConfigError> {
    let Some(code) = STATUS_CODES.iter().position(|known| *known == status.code) else {
        let at = node.get("code").unwrap_or(node);
        return Err(at
            .error(path, format!("{:?} is no status code", status.code))
            .with_hint("codes are Unset, Ok and Error"));
    };
    if !status.description.is_empty() && status.code != "Error" {
        let at = node.get("description").unwrap_or(node);
        return Err(at.error(path, "`description` can be specified only for the code Error"));
    }
    Ok((code as i32, status.description))
}
