//! What serde has to say, until it is a [`ConfigError`].

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::super::error::{ConfigError, Location};
use super::super::node::{Node, Value};
use super::super::suggest;
use super::Path;

#[derive(Debug)]
pub(crate) struct DeError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    located: bool,
    /// Whether the message may quote the value, as those of the types being decoded do.
    may_quote: bool,
    error: ConfigError,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Other,
    /// The key is not one of the struct's.
    UnknownKey(String),
    /// There is no value here, and the target needs one.
    Blank,
    /// The same for the field of a struct, by its address: it counts as absent.
    BlankField(usize),
}

impl DeError {
    fn new(kind: Kind, message: String, hint: Option<String>) -> Self {
        let error = ConfigError { location: None, path: String::new(), message, hint };
        Self(Box::new(Inner { kind, located: false, may_quote: true, error }))
    }

    /// An error of the deserializer itself, which minds what it quotes.
    pub(super) fn ours(message: impl Into<String>) -> Self {
        let mut error = Self::new(Kind::Other, message.into(), None);
        error.0.may_quote = false;
        error
    }

    pub(super) fn blank(expected: &str) -> Self {
        Self::new(Kind::Blank, format!("expected {expected}, found no value"), None)
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.0.error.hint = hint;
        self
    }

    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Places the error at a node, unless it has a place.
    pub(super) fn at(mut self, node: &Node, path: &Path<'_>) -> Self {
        if self.0.located {
            return self;
        }
        // A flattened struct is read after its keys: the key is found again by its name.
        let key = match &self.0.kind {
            Kind::UnknownKey(name) => node.entries().iter().find(|(key, _)| key.text == *name),
            _ => None,
        };
        let location = key.map_or_else(|| node.location(), |(key, _)| &key.location).clone();
        if self.0.may_quote {
            self.0.error.message = redact(node, std::mem::take(&mut self.0.error.message));
        }
        self.at_location(&location, path)
    }

    pub(super) fn at_location(mut self, location: &Location, path: &Path<'_>) -> Self {
        if !self.0.located {
            self.0.located = true;
            self.0.error.location = Some(location.clone());
            self.0.error.path = path.render();
        }
        self
    }

    pub(super) fn into_config_error(self) -> ConfigError {
        self.0.error
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.error, f)
    }
}

impl std::error::Error for DeError {}

impl Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        // How serde says it of a struct with flattened fields, which knows no list of its keys.
        match message.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) {
            Some(key) => Self::new(Kind::UnknownKey(key.to_owned()), format!("unknown key `{key}`"), None),
            None => Self::new(Kind::Other, message, None),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Unit | Unexpected::Option => Self::blank(&expected.to_string()),
            _ => Self::custom(format_args!("expected {expected}, found {}", describe(unexpected))),
        }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {length} items"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = suggest::hint(variant, "accepted values", expected);
        Self::new(Kind::Other, format!("unknown value `{variant}`"), hint)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match suggest::known_elsewhere(field, expected) {
            Some(advice) => advice.to_owned(),
            None => suggest::hint(field, "known keys", expected).unwrap_or_else(|| "there are no keys here".to_owned()),
        };
        Self::new(Kind::UnknownKey(field.to_owned()), format!("unknown key `{field}`"), Some(hint))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("missing key `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("key `{field}` is given twice, once under another name"))
    }
}

/// Replaces values from outside the configuration by their references: a component's message may quote what it did
/// not like, and what came from the environment is not ours to show.
fn redact(node: &Node, mut message: String) -> String {
    match node.value() {
        Value::List(items) => message = items.iter().fold(message, |message, item| redact(item, message)),
        Value::Map(entries) => message = entries.iter().fold(message, |message, (_, item)| redact(item, message)),
        Value::Null | Value::Scalar(_) => {}
    }
    // What is shorter than this is no secret, and could be any part of a word.
    const SHORTEST: usize = 4;
    match (node.expansion(), node.text()) {
        (Some(expansion), Some(text)) if text.len() >= SHORTEST => {
            message.replace(text, &expansion.written).replace(&text.escape_debug().to_string(), &expansion.written)
        }
        _ => message,
    }
}

/// A wrong value in words; a text may be a secret and is not quoted.
fn describe(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "another text".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        Unexpected::UnitVariant => "a name without settings".to_owned(),
        other => other.to_string(),
    }
}
