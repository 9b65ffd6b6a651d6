//! `headers_setter`, as it is written and as it is meant.

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use weir_pipeline::config::{ConfigError, Node, Secret};

use crate::places::error_at;

/// The validated settings of the extension.
pub struct Settings {
    pub(super) rules: Vec<Rule>,
}

/// What is done to one header.
pub(super) struct Rule {
    /// In lower case.
    pub(super) key: String,
    pub(super) action: Action,
    pub(super) source: Source,
}

/// Where a value comes from.
pub(super) enum Source {
    Value(Box<str>),
    /// A header of the client's request.
    Header {
        name: String,
        default: Option<Box<str>>,
    },
    /// An attribute of the authenticated client.
    Attribute {
        name: String,
        default: Option<Box<str>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Insert,
    Update,
    #[default]
    Upsert,
    Delete,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HeadersSetterConfig {
    #[schemars(with = "Vec<HeaderConfig>")]
    headers: Vec<Node>,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HeaderConfig {
    key: String,
    action: Action,
    /// Often a token, as `Bearer …` is.
    value: Option<Secret>,
    from_context: Option<String>,
    from_attribute: Option<String>,
    default_value: Option<Secret>,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<HeadersSetterConfig>()
}

impl Settings {
    /// The settings that are written at `path`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: HeadersSetterConfig = node.parse_as(path)?;
        if config.headers.is_empty() {
            return Err(error_at(node, path, &["headers"], "there must be at least one header"));
        }
        let rule = |(i, node): (usize, &Node)| Rule::parse(node, &format!("{path}::headers[{i}]"));
        Ok(Self { rules: config.headers.iter().enumerate().map(rule).collect::<Result<_, _>>()? })
    }
}

impl Rule {
    fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let config: HeaderConfig = node.parse_as(path)?;
        let error = |key: &str, message: &str| error_at(node, path, &[key], message);
        let key = HeaderName::try_from(&config.key).map_err(|_| error("key", "is not the name of a header"))?;
        let key = key.as_str().to_owned();
        if config.value.is_some() && config.default_value.is_some() {
            return Err(error("default_value", "is for `from_context` and `from_attribute`, which may find nothing"));
        }
        for (name, value) in [("value", &config.value), ("default_value", &config.default_value)] {
            if value.as_ref().is_some_and(|value| HeaderValue::from_str(value.expose()).is_err()) {
                return Err(error(name, "has characters that a header cannot carry"));
            }
        }
        let text = |secret: &Secret| secret.expose().as_str().into();
        let default = config.default_value.as_ref().map(text);
        let has_default = default.is_some();
        let source = match (config.value, config.from_context, config.from_attribute) {
            (None, None, None) if config.action == Action::Delete && !has_default => Source::Value(Box::default()),
            _ if config.action == Action::Delete => return Err(error("action", "`delete` takes no value")),
            (Some(value), None, None) => Source::Value(text(&value)),
            (None, Some(name), None) => match name.split_once('.') {
                Some(("auth", name)) => Source::Attribute { name: name.to_owned(), default },
                Some(("metadata", name)) => Source::Header { name: name.to_owned(), default },
                _ => Source::Header { name, default },
            },
            (None, None, Some(name)) => Source::Attribute { name, default },
            (None, None, None) => {
                return Err(node
                    .error(path, "there is no value")
                    .with_hint("give `value`, `from_context` or `from_attribute`"));
            }
            _ => return Err(node.error(path, "`value`, `from_context` and `from_attribute` exclude each other")),
        };
        Ok(Self { key, action: config.action, source })
    }
}
