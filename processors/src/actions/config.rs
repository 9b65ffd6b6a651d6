//! A list of actions, with the Collector's keys, rules and messages.

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::pattern;

use super::value::ConfiguredValue;
use super::{Action, Keys, Kind, Source, SourceKind};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAction {
    #[serde(default)]
    key: String,
    #[serde(default)]
    action: String,
    #[schemars(with = "Option<serde_json::Value>")]
    value: Option<ConfiguredValue>,
    #[serde(default)]
    from_attribute: String,
    #[serde(default)]
    from_context: String,
    #[schemars(with = "Option<serde_json::Value>")]
    default_value: Option<ConfiguredValue>,
    #[schemars(with = "Option<String>")]
    pattern: Option<Node>,
    #[serde(default)]
    converted_type: String,
}

/// Reads the actions in the list `nodes`, which stands at `path`.
pub(super) fn parse(nodes: &[Node], path: &str) -> Result<Vec<Action>, ConfigError> {
    nodes.iter().enumerate().map(|(n, node)| parse_one(node, &format!("{path}[{n}]"))).collect()
}

fn parse_one(node: &Node, path: &str) -> Result<Action, ConfigError> {
    let raw: RawAction = node.parse_as(path)?;
    let check = Check { node, path, raw: &raw };
    match raw.action.to_ascii_lowercase().as_str() {
        "insert" => check.sourced(Action::Insert),
        "update" => check.sourced(Action::Update),
        "upsert" => check.sourced(Action::Upsert),
        "delete" => check.keys().map(Action::Delete),
        "hash" => check.keys().map(Action::Hash),
        "extract" => check.extract(),
        "convert" => check.convert(),
        "" => Err(node.error(path, "missing required field `action`").with_hint(ACTIONS)),
        other => Err(check.error("action", format!("unsupported action {other:?}")).with_hint(ACTIONS)),
    }
}

const ACTIONS: &str = "actions are insert, update, upsert, delete, hash, extract and convert";

struct Check<'a> {
    node: &'a Node,
    path: &'a str,
    raw: &'a RawAction,
}

impl Check<'_> {
    /// An error at the value of a key, or at the action if that is missing.
    fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        self.node.get(key).unwrap_or(self.node).error(self.path, message)
    }

    fn key(&self) -> Result<String, ConfigError> {
        if self.raw.key.is_empty() {
            return Err(self.error("key", "missing required field `key`"));
        }
        Ok(self.raw.key.clone())
    }

    /// Refuses fields that the action does not use. A name or pattern that is empty is as good as none.
    fn unused(&self, keys: &[&str]) -> Result<(), ConfigError> {
        let is_used = |key: &str, value: &Node| {
            !value.is_null() && (key.ends_with("value") || value.text().is_none_or(|text| !text.is_empty()))
        };
        match keys.iter().find(|key| self.node.get(key).is_some_and(|value| is_used(key, value))) {
            None => Ok(()),
            Some(key) => Err(self.error(key, format!("action {:?} does not use `{key}`", self.raw.action))),
        }
    }

    fn sourced(&self, action: fn(String, Source) -> Action) -> Result<Action, ConfigError> {
        let key = self.key()?;
        self.unused(&["pattern", "converted_type"])?;
        let (raw, value) = (self.raw, self.value("value", &self.raw.value));
        let default = self.value("default_value", &raw.default_value);
        let given = [value.is_some(), !raw.from_attribute.is_empty(), !raw.from_context.is_empty()].map(usize::from);
        let kind = match (given.iter().sum(), value) {
            (2.., _) => {
                let message = "only one of `value`, `from_attribute` and `from_context` can be given";
                return Err(self.error("key", message));
            }
            (_, Some(value)) => SourceKind::Value(value),
            (1, _) if !raw.from_attribute.is_empty() => SourceKind::Attribute(raw.from_attribute.clone()),
            (1, _) if raw.from_context == "client.address" => {
                let message = "the client's address is not kept with its data";
                let hint = "`from_context` knows metadata.<header> and auth.<attribute>";
                return Err(self.error("from_context", message).with_hint(hint));
            }
            (1, _) => SourceKind::Context(raw.from_context.clone()),
            _ if default.is_some() => SourceKind::Nothing,
            _ => {
                let message = "one of `value`, `from_attribute`, `from_context` and `default_value` must be given";
                return Err(self.error("key", message));
            }
        };
        Ok(action(key, Source { kind, default }))
    }

    /// A value; what a variable that is empty takes the place of is an empty text, unlike nothing.
    fn value(&self, key: &str, given: &Option<ConfiguredValue>) -> Option<ConfiguredValue> {
        let is_empty = |node: &&Node| node.is_null() && node.text() == Some("");
        given.clone().or_else(|| self.node.get(key).filter(is_empty).map(|_| ConfiguredValue::text("")))
    }

    /// The pattern, unless it is empty, which would match everything.
    fn given_pattern(&self) -> Option<&Node> {
        self.raw.pattern.as_ref().filter(|node| node.text().is_none_or(|text| !text.is_empty()))
    }

    fn keys(&self) -> Result<Keys, ConfigError> {
        self.unused(&["value", "from_attribute", "from_context", "default_value", "converted_type"])?;
        if self.raw.key.is_empty() && self.given_pattern().is_none() {
            return Err(self.error("key", "at least one of `key` and `pattern` must be given"));
        }
        let pattern = self.given_pattern().map(|node| self.pattern(node)).transpose()?;
        Ok(Keys { key: self.raw.key.clone(), pattern })
    }

    fn pattern(&self, node: &Node) -> Result<Regex, ConfigError> {
        pattern::compile(node.text().unwrap_or_default()).map_err(|message| node.error(self.path, message))
    }

    fn extract(&self) -> Result<Action, ConfigError> {
        let key = self.key()?;
        self.unused(&["value", "from_attribute", "from_context", "default_value", "converted_type"])?;
        let Some(node) = self.given_pattern() else {
            return Err(self.error("key", "missing required field `pattern` for action \"extract\""));
        };
        let pattern = self.pattern(node)?;
        let names = named_groups(&pattern).map_err(|message| node.error(self.path, message))?;
        Ok(Action::Extract { key, pattern, names })
    }

    fn convert(&self) -> Result<Action, ConfigError> {
        let key = self.key()?;
        self.unused(&["value", "from_attribute", "from_context", "default_value", "pattern"])?;
        let to = match self.raw.converted_type.as_str() {
            "int" => Kind::Int,
            "double" => Kind::Double,
            "string" => Kind::Text,
            "" => return Err(self.error("key", "missing required field `converted_type` for action \"convert\"")),
            other => {
                let error = self.error("converted_type", format!("{other:?} is no type to convert to"));
                return Err(error.with_hint("types are int, double and string"));
            }
        };
        Ok(Action::Convert { key, to })
    }
}

/// The names of a pattern's groups, each of which becomes an attribute.
///
/// # Errors
/// If there is no group, or one without a name.
pub(crate) fn named_groups(pattern: &Regex) -> Result<Vec<String>, &'static str> {
    const HINT: &str = "every group of the pattern needs a name, which becomes an attribute's key: write (?P<name>…), or \
                        (?:…) for a group that is no attribute";
    let names: Option<Vec<String>> = pattern.capture_names().skip(1).map(|name| name.map(str::to_owned)).collect();
    names.filter(|names| !names.is_empty()).ok_or(HINT)
}
