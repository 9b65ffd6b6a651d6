//! The configuration as a tree in which everything knows where it was written.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, Visitor};

use super::error::{ConfigError, Location};
use super::scalar::{self, Typed};
use super::{de as config_de, source};

/// A value of the configuration and where it was written.
///
/// A mapping or list written below its key is located at the key, and so is a key without a value; everything else
/// where it starts. Formatting a node with `{:?}` shows its shape and never its texts, which may be secrets.
#[derive(Clone)]
pub struct Node {
    value: Value,
    location: Location,
    expansion: Option<Box<Expansion>>,
}

/// What a [`Node`] holds.
#[derive(Clone)]
pub enum Value {
    /// No value (`key:`), `null` or `~`.
    Null,
    /// A text that its target type interprets.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text; its keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A text of the configuration.
#[derive(Clone)]
pub struct Scalar {
    /// The text, without quotes and escapes.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written: what a plain one means depends on its target, the other is a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `4317`, `true`, `localhost`
    Plain,
    /// `"4317"`, `'true'`, a block, or a text with a `${…}` inside.
    Quoted,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key itself.
    pub text: String,
    /// Where it was written.
    pub location: Location,
}

/// Where a value that was not in the configuration itself came from.
#[derive(Clone)]
pub(crate) struct Expansion {
    /// The text with the reference, as written; it stands for the value in error messages.
    pub(crate) written: String,
    /// The text that took its place, as it was before YAML typed it: what a text field receives. None for the parts
    /// of a mapping or list that took the place of a reference.
    pub(crate) text: Option<String>,
}

impl Node {
    /// Parses one YAML document, without `${…}` expansion; an empty one is null.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        source::parse(file, text)
    }

    /// A node without a value at the beginning of `file`: the configuration of a component that was given none.
    pub fn null(file: &str) -> Self {
        Self::new(Value::Null, Location::start_of(file))
    }

    pub(crate) fn new(value: Value, location: Location) -> Self {
        Self { value, location, expansion: None }
    }

    /// Notes that this value took the place of a reference. The text of an inner reference is kept.
    pub(crate) fn set_expansion(&mut self, written: &str, text: Option<String>) {
        let text = self.expansion.take().and_then(|inner| inner.text).or(text);
        self.expansion = Some(Box::new(Expansion { written: written.to_owned(), text }));
    }

    /// Decodes the node. `path` is where it is in the configuration (`receivers::otlp`), for error messages.
    pub fn parse_as<T: DeserializeOwned>(&self, path: &str) -> Result<T, ConfigError> {
        config_de::parse(self, path)
    }

    /// Where the node was written.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// An error about this node, for what only the component can check.
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.location, path, message)
    }

    /// The value under a key; `None` if there is no such key or this is not a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(candidate, _)| candidate.text == key).map(|(_, node)| node)
    }

    /// The entries of a mapping in the order of the text; nothing if this is not a mapping.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; nothing if this is not a list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text that a text field would receive: that of a scalar, or what took the place of a `${…}`, even where
    /// YAML read more into it (`Basic: abc` is also a mapping).
    pub fn text(&self) -> Option<&str> {
        let expanded = self.expansion.as_ref().and_then(|expansion| expansion.text.as_deref());
        match &self.value {
            Value::Scalar(scalar) => Some(expanded.unwrap_or(&scalar.text)),
            _ => expanded,
        }
    }

    /// Whether a component that is built from the one would be built the same from the other: they have the same texts
    /// in the same order, wherever they were written.
    pub fn is_same(&self, other: &Self) -> bool {
        if self.text() != other.text() {
            return false;
        }
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text && a.style == b.style,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k.text == l.text && a.is_same(b))
            }
            _ => false,
        }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What the node holds.
    pub fn value(&self) -> &Value {
        &self.value
    }

    pub(crate) fn value_mut(&mut self) -> &mut Value {
        &mut self.value
    }

    pub(crate) fn into_entries(self) -> Vec<(Key, Node)> {
        match self.value {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        }
    }

    pub(crate) fn expansion(&self) -> Option<&Expansion> {
        self.expansion.as_deref()
    }

    /// What the node is, in words: for "expected …, found …".
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "no value",
            Value::Scalar(scalar) if scalar.style == Style::Quoted => "a text",
            Value::Scalar(scalar) => match scalar::resolve(&scalar.text) {
                Typed::Null => "no value",
                Typed::Bool(_) => "a boolean",
                Typed::Int(_) => "an integer",
                Typed::Float(_) => "a number",
                Typed::Text => "a text",
            },
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The number of nodes in the tree and its depth; a scalar has depth 1.
    pub(crate) fn measure(&self) -> (usize, usize) {
        let children: &mut dyn Iterator<Item = &Node> = match &self.value {
            Value::Null | Value::Scalar(_) => return (1, 1),
            Value::List(items) => &mut items.iter(),
            Value::Map(entries) => &mut entries.iter().map(|(_, node)| node),
        };
        let (nodes, depth) = children.map(Node::measure).fold((0, 0), |(n, d), (m, e)| (n + m, d.max(e)));
        (nodes + 1, depth + 1)
    }
}

impl Node {
    /// About how much memory a copy takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let expanded = self.expansion.as_ref().map_or(0, |expansion| {
            size_of::<Expansion>() + expansion.written.len() + expansion.text.as_ref().map_or(0, String::len)
        });
        let below = match &self.value {
            Value::Null => 0,
            Value::Scalar(scalar) => scalar.text.len(),
            Value::List(items) => items.iter().map(Self::weight).sum(),
            Value::Map(entries) => {
                entries.iter().map(|(key, node)| size_of::<Key>() + key.text.len() + node.weight()).sum()
            }
        };
        size_of::<Self>() + expanded + below
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("null"),
            Value::Scalar(_) => f.write_str("[REDACTED]"),
            Value::List(items) => f.debug_list().entries(items).finish(),
            Value::Map(entries) => f.debug_map().entries(entries.iter().map(|(k, v)| (&k.text, v))).finish(),
        }
    }
}

/// The name by which the configuration's deserializer knows a [`Node`] that wants to be kept as it is.
pub(crate) const CAPTURE: &str = "$weir::config::Node";

thread_local! {
    /// serde's data model has no room for a located tree, so the node waits here between [`capture`] and its visitor,
    /// which is the next thing to run.
    static CAPTURED: Cell<Option<Node>> = const { Cell::new(None) };
}

/// Hands a copy of the node to the visitor of [`Node`].
pub(crate) fn capture<'de, V: Visitor<'de>, E: de::Error>(node: &Node, visitor: V) -> Result<V::Value, E> {
    CAPTURED.set(Some(node.clone()));
    visitor.visit_unit()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(CAPTURE, NodeVisitor)
    }
}

struct NodeVisitor;

impl Visitor<'_> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a configuration")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        CAPTURED.take().ok_or_else(|| E::invalid_type(de::Unexpected::Unit, &self))
    }
}
