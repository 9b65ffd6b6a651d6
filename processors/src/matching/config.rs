//! Settings of `include` and `exclude`, with the Collector's keys, rules and messages.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_pipeline::batch::view::Value;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::pattern;

use super::{AttributeTest, KINDS, Library, Properties, STATUS_CODES, Selection, Text, Texts, ValueTest};
use crate::actions::{ConfiguredValue, kind_of};

impl Selection {
    /// Reads both parts; `path` is that of the mapping they stand in.
    pub(crate) fn parse(include: Option<&Node>, exclude: Option<&Node>, path: &str) -> Result<Self, ConfigError> {
        let properties = |node: Option<&Node>, name: &str| {
            node.map(|node| Properties::parse(node, &format!("{path}::{name}"))).transpose()
        };
        Ok(Self { include: properties(include, "include")?, exclude: properties(exclude, "exclude")? })
    }
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProperties {
    match_type: String,
    /// The Collector's cache of matches. Accepted so that its configurations load: here a match takes time linear in
    /// the text, and remembering it would cost more.
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
    #[schemars(with = "Vec<RawAttribute>")]
    attributes: Vec<Node>,
    #[schemars(with = "Vec<RawAttribute>")]
    resources: Vec<Node>,
    #[schemars(with = "Vec<RawLibrary>")]
    libraries: Vec<Node>,
    #[schemars(with = "Option<serde_json::Value>")]
    log_bodies: Option<IgnoredAny>,
    #[schemars(with = "Option<serde_json::Value>")]
    log_severity_texts: Option<IgnoredAny>,
    #[schemars(with = "Option<serde_json::Value>")]
    log_severity_number: Option<IgnoredAny>,
    #[schemars(with = "Option<serde_json::Value>")]
    metric_names: Option<IgnoredAny>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegexpCache {
    #[serde(default, rename = "cacheenabled")]
    _enabled: bool,
    #[serde(default, rename = "cachemaxnumentries")]
    _max_entries: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAttribute {
    #[serde(default)]
    key: String,
    #[schemars(with = "Option<serde_json::Value>")]
    value: Option<ConfiguredValue>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLibrary {
    name: String,
    version: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MatchType {
    Strict,
    Regexp,
}

impl Properties {
    pub(super) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let raw: RawProperties = node.parse_as(path)?;
        let match_type = match raw.match_type.as_str() {
            "strict" => MatchType::Strict,
            "regexp" => MatchType::Regexp,
            "" => {
                return Err(node.error(path, "match_type is required").with_hint("valid types are strict and regexp"));
            }
            other => {
                let at = node.get("match_type").unwrap_or(node);
                let error = at.error(path, format!("unrecognized match_type: {other:?}"));
                return Err(error.with_hint("valid types are strict and regexp"));
            }
        };
        for (key, given) in [
            ("log_bodies", raw.log_bodies.is_some()),
            ("log_severity_texts", raw.log_severity_texts.is_some()),
            ("log_severity_number", raw.log_severity_number.is_some()),
            ("metric_names", raw.metric_names.is_some()),
        ] {
            if given {
                let at = node.get(key).unwrap_or(node);
                return Err(at.error(path, format!("{key} should not be specified for trace spans")));
            }
        }
        let lists = [
            &raw.projects,
            &raw.environments,
            &raw.services,
            &raw.span_names,
            &raw.span_kinds,
            &raw.status_codes,
            &raw.attributes,
            &raw.resources,
        ];
        if lists.iter().all(|list| list.is_empty()) && raw.libraries.is_empty() {
            return Err(node.error(path, "nothing is specified to match").with_hint(
                "specify at least one of projects, environments, services, span_names, span_kinds, status_codes, attributes, resources \
                 and libraries",
            ));
        }
        let reader = Reader { match_type, path };
        if match_type == MatchType::Strict {
            reader.only(&raw.span_kinds, "span_kinds", &KINDS)?;
            reader.only(&raw.status_codes, "status_codes", &STATUS_CODES)?;
        }
        Ok(Self {
            projects: reader.texts(&raw.projects)?,
            environments: reader.texts(&raw.environments)?,
            services: reader.texts(&raw.services)?,
            span_names: reader.texts(&raw.span_names)?,
            span_kinds: reader.texts(&raw.span_kinds)?,
            status_codes: reader.texts(&raw.status_codes)?,
            attributes: reader.attributes(&raw.attributes, "attributes")?,
            resources: reader.attributes(&raw.resources, "resources")?,
            libraries: reader.libraries(&raw.libraries)?,
        })
    }
}

struct Reader<'a> {
    match_type: MatchType,
    path: &'a str,
}

impl Reader<'_> {
    fn only(&self, nodes: &[Node], key: &str, known: &[&str]) -> Result<(), ConfigError> {
        match nodes.iter().find(|node| !node.text().is_some_and(|text| known.contains(&text))) {
            None => Ok(()),
            Some(node) => {
                let text = node.text().unwrap_or_default();
                let message = format!("{text:?} is none of the {key} that match_type strict can match");
                Err(node.error(self.path, message).with_hint(format!("known are {}", known.join(", "))))
            }
        }
    }

    fn texts(&self, nodes: &[Node]) -> Result<Texts, ConfigError> {
        let text = |node: &Node| {
            let text: String = node.parse_as(self.path)?;
            self.text(node, &text)
        };
        nodes.iter().map(text).collect::<Result<_, _>>().map(Texts)
    }

    fn text(&self, node: &Node, text: &str) -> Result<Text, ConfigError> {
        match self.match_type {
            MatchType::Strict => Ok(Text::Equal(text.to_owned())),
            MatchType::Regexp => {
                pattern::compile(text).map(Text::Matches).map_err(|message| node.error(self.path, message))
            }
        }
    }

    fn attributes(&self, nodes: &[Node], list: &str) -> Result<Vec<AttributeTest>, ConfigError> {
        let attribute = |(n, node): (usize, &Node)| {
            let raw: RawAttribute = node.parse_as(&format!("{}::{list}[{n}]", self.path))?;
            if raw.key.is_empty() {
                return Err(node.error(self.path, "can't have empty key in the list of attributes"));
            }
            let at = node.get("value").unwrap_or(node);
            let value = match (raw.value, self.match_type) {
                (None, _) => ValueTest::Present,
                (Some(value), MatchType::Strict) => ValueTest::Equal(value),
                (Some(value), MatchType::Regexp) => match value.view() {
                    Value::Str(text) => ValueTest::Matches(
                        pattern::compile(text.as_str()).map_err(|message| at.error(self.path, message))?,
                    ),
                    other => {
                        let message = format!(
                            "match_type regexp needs a text as the value of {:?}, found {}",
                            raw.key,
                            kind_of(other)
                        );
                        return Err(at.error(self.path, message).with_hint("put it in quotes"));
                    }
                },
            };
            Ok(AttributeTest { key: raw.key, value })
        };
        nodes.iter().enumerate().map(attribute).collect()
    }

    fn libraries(&self, nodes: &[Node]) -> Result<Vec<Library>, ConfigError> {
        let library = |(n, node): (usize, &Node)| {
            let raw: RawLibrary = node.parse_as(&format!("{}::libraries[{n}]", self.path))?;
            let name = self.text(node.get("name").unwrap_or(node), &raw.name)?;
            let at = node.get("version").unwrap_or(node);
            let version = raw.version.map(|version| self.text(at, &version)).transpose()?;
            Ok(Library { name, version })
        };
        nodes.iter().enumerate().map(library).collect()
    }
}
