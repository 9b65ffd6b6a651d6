//! What all ways of writing properties have in common: texts or patterns, attributes, libraries.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::batch::view::Value;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::pattern;

use super::{AttributeTest, Library, Text, Texts, ValueTest};
use crate::actions::{ConfiguredValue, kind_of};

/// The Collector's cache of matches. Accepted so that its configurations load: here a match takes time linear in the
/// text, and remembering it would cost more.
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

/// How texts are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatchType {
    Strict,
    Regexp,
}

/// Reads properties that stand at `path`.
pub(crate) struct Reader<'a> {
    /// `None`: it is not said, which is an error once it matters.
    match_type: Option<MatchType>,
    node: &'a Node,
    path: &'a str,
}

const TYPES: &str = "valid types are strict and regexp";

impl<'a> Reader<'a> {
    /// A reader for the mapping `node`, which says `match_type`.
    pub(crate) fn new(match_type: &str, node: &'a Node, path: &'a str) -> Result<Self, ConfigError> {
        let match_type = match match_type {
            "strict" => Some(MatchType::Strict),
            "regexp" => Some(MatchType::Regexp),
            "" => None,
            other => {
                let at = node.get("match_type").unwrap_or(node);
                let error = at.error(path, format!("unrecognized match_type: {other:?}"));
                return Err(error.with_hint(TYPES));
            }
        };
        Ok(Self { match_type, node, path })
    }

    fn match_type(&self) -> Result<MatchType, ConfigError> {
        self.match_type.ok_or_else(|| self.node.error(self.path, "match_type is required").with_hint(TYPES))
    }

    /// Refuses texts other than the known ones, where they are meant as they stand.
    pub(super) fn only(&self, nodes: &[Node], key: &str, known: &[&str]) -> Result<(), ConfigError> {
        if self.match_type != Some(MatchType::Strict) {
            return Ok(());
        }
        match nodes.iter().find(|node| !node.text().is_some_and(|text| known.contains(&text))) {
            None => Ok(()),
            Some(node) => {
                let text = node.text().unwrap_or_default();
                let message = format!("{text:?} is none of the {key} that match_type strict can match");
                Err(node.error(self.path, message).with_hint(format!("known are {}", known.join(", "))))
            }
        }
    }

    /// Texts, any of which is to match.
    pub(crate) fn texts(&self, nodes: &[Node]) -> Result<Texts, ConfigError> {
        let text = |node: &Node| {
            let text: String = node.parse_as(self.path)?;
            self.text(node, &text)
        };
        nodes.iter().map(text).collect::<Result<_, _>>().map(Texts)
    }

    fn text(&self, node: &Node, text: &str) -> Result<Text, ConfigError> {
        match self.match_type()? {
            MatchType::Strict => Ok(Text::Equal(text.to_owned())),
            MatchType::Regexp => {
                pattern::compile(text).map(Text::Matches).map_err(|message| node.error(self.path, message))
            }
        }
    }

    /// The attributes in the list of this name, all of which are to match.
    pub(crate) fn attributes(&self, nodes: &[Node], list: &str) -> Result<Vec<AttributeTest>, ConfigError> {
        let attribute = |(n, node): (usize, &Node)| {
            let raw: RawAttribute = node.parse_as(&format!("{}::{list}[{n}]", self.path))?;
            if raw.key.is_empty() {
                return Err(node.error(self.path, "can't have empty key in the list of attributes"));
            }
            let at = node.get("value").unwrap_or(node);
            let value = match raw.value {
                None => ValueTest::Present,
                Some(value) if self.match_type()? == MatchType::Strict => ValueTest::Equal(value),
                Some(value) => match value.view() {
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

    /// Instrumentation scopes, any of which is to match.
    pub(super) fn libraries(&self, nodes: &[Node]) -> Result<Vec<Library>, ConfigError> {
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
