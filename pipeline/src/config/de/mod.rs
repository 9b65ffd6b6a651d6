//! Nodes into typed structs, with serde.
//!
//! Every error leaves here with the place it is about: each deserializer knows its node and the path to it, and fills
//! them into errors that have none yet, so the innermost place wins.

mod access;
mod error;

#[cfg(test)]
mod tests;

use serde::de::value::{SeqDeserializer, StringDeserializer};
use serde::de::{Deserialize as _, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::any_case::ANY_CASE;
use super::error::ConfigError;
use super::node::{self, Node, Style, Value};
use super::optional::{OPTIONAL, WITHOUT_DEFAULTS};
use super::scalar::{self, Typed};
use super::suggest;
use access::{Entries, Items, Pairs, Variant};
use error::{DeError, Kind};

/// Decodes a node that is at `path`.
pub(crate) fn parse<T: DeserializeOwned>(node: &Node, path: &str) -> Result<T, ConfigError> {
    // A key without a value counts as absent, but whether it has a value is only known once its type is: `grpc:` is
    // one for an optional section and none for a number. So a field that cannot take "no value" stops the attempt,
    // and the next one leaves it out. There are as many attempts as such keys, which is few.
    let mut absent = Vec::new();
    loop {
        let path = Path::Root(path);
        let deserializer = NodeDeserializer { node, path: &path, absent: &absent, field: false, omit: None };
        match T::deserialize(deserializer) {
            Ok(value) => return Ok(value),
            Err(error) => match error.kind() {
                Kind::BlankField(field) if !absent.contains(field) => absent.push(*field),
                _ => return Err(error.at(node, &path).into_config_error()),
            },
        }
    }
}

/// The way to a node, as a list that grows inwards on the stack.
pub(super) enum Path<'a> {
    Root(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn render(&self) -> String {
        match self {
            Path::Root(root) => (*root).to_owned(),
            Path::Key(parent, key) => match parent.render() {
                parent if parent.is_empty() => (*key).to_owned(),
                parent => format!("{parent}::{key}"),
            },
            Path::Index(parent, index) => format!("{}[{index}]", parent.render()),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
    /// The fields that count as absent, by the address of their node.
    absent: &'p [usize],
    /// Whether this is the field of a struct, which may be absent, or an item, which may not.
    field: bool,
    /// A key that was dealt with already.
    omit: Option<&'static str>,
}

/// What tells a node from every other while the tree is borrowed.
fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

impl<'de, 'p> NodeDeserializer<'de, 'p> {
    /// Runs a visitor and places its error here.
    fn place<T>(self, result: Result<T, DeError>) -> Result<T, DeError> {
        result.map_err(|error| error.at(self.node, self.path))
    }

    fn expected<T>(self, what: &str) -> Result<T, DeError> {
        self.expected_with(what, None)
    }

    fn expected_with<T>(self, what: &str, hint: Option<String>) -> Result<T, DeError> {
        let error = if self.node.is_null() {
            DeError::blank(what)
        } else {
            DeError::ours(format!("expected {what}, found {}", self.found())).with_hint(hint)
        };
        Err(error.at(self.node, self.path))
    }

    /// What is here, in words that give nothing away: outside values by their reference, long ones by their kind.
    fn found(self) -> String {
        match (self.node.expansion(), self.node.value()) {
            (Some(expansion), _) => format!("the value of `{}`", expansion.written),
            (None, Value::Scalar(scalar)) if scalar.text.len() > 60 => self.node.describe().to_owned(),
            (None, Value::Scalar(scalar)) if scalar.style == Style::Quoted => format!("the text {:?}", scalar.text),
            (None, Value::Scalar(scalar)) => format!("`{}`", scalar.text),
            (None, _) => self.node.describe().to_owned(),
        }
    }

    /// The kind of what is here, for places where a text may be a secret.
    fn found_kind(self) -> String {
        match self.node.expansion() {
            Some(expansion) => format!("the value of `{}`", expansion.written),
            None => self.node.describe().to_owned(),
        }
    }

    fn plain(self) -> Option<&'de str> {
        match self.node.value() {
            Value::Scalar(scalar) if scalar.style == Style::Plain => Some(&scalar.text),
            _ => None,
        }
    }

    fn integer(self, min: i128, max: i128) -> Result<i128, DeError> {
        let in_range = |value: &i128| (min..=max).contains(value);
        match self.plain().and_then(|text| scalar::integer(text).or_else(|| scalar::whole(text))) {
            Some(value) if in_range(&value) => Ok(value),
            Some(_) => self.expected(&format!("an integer from {min} to {max}")),
            None => {
                let text = self.node.text().unwrap_or_default();
                let hint = if scalar::has_leading_zero(text) {
                    Some("leading zeros are ambiguous in YAML: drop them, or write 0o for octal".to_owned())
                } else if self.plain().is_none() && scalar::integer(text).is_some() {
                    Some("remove the quotes".to_owned())
                } else {
                    None
                };
                self.expected_with("an integer", hint)
            }
        }
    }

    /// The mapping of a struct or map; no value is an empty one.
    fn entries<V: Visitor<'de>>(self, visitor: V, of_struct: bool) -> Result<V::Value, DeError> {
        self.place(visitor.visit_map(Entries::new(self, self.node.entries(), of_struct)))
    }

    fn optional<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, DeError> {
        let enabled = match self.node.get("enabled") {
            None => true,
            Some(node) => {
                let path = Path::Key(self.path, "enabled");
                let switch = NodeDeserializer { node, path: &path, field: false, omit: None, ..self };
                bool::deserialize(switch)?
            }
        };
        self.omit = Some("enabled");
        self.place(if enabled { visitor.visit_newtype_struct(self) } else { visitor.visit_some(self) })
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            let value = self.integer(<$type>::MIN as i128, <$type>::MAX as i128)?;
            match <$type>::try_from(value) {
                Ok(value) => self.place(visitor.$visit(value)),
                Err(_) => self.expected("an integer"),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de, '_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let text = self.node.text().unwrap_or_default();
        let typed = match self.node.value() {
            Value::Null => Typed::Null,
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.entries(visitor, false),
            Value::Scalar(scalar) if scalar.style == Style::Quoted => Typed::Text,
            Value::Scalar(scalar) => scalar::resolve(&scalar.text),
        };
        self.place(match typed {
            Typed::Null => visitor.visit_unit(),
            Typed::Bool(value) => visitor.visit_bool(value),
            Typed::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(value),
            },
            Typed::Float(value) => visitor.visit_f64(value),
            Typed::Text => visitor.visit_str(text),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.plain().map(scalar::resolve) {
            Some(Typed::Bool(value)) => self.place(visitor.visit_bool(value)),
            _ => self.expected("`true` or `false`"),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.plain().map(scalar::resolve) {
            Some(Typed::Float(value)) => self.place(visitor.visit_f64(value)),
            Some(Typed::Int(value)) => self.place(visitor.visit_f64(value as f64)),
            _ => self.expected("a number"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.text() {
            Some(text) => self.place(visitor.visit_str(text)),
            None if self.node.is_null() && !self.field => self.place(visitor.visit_str("")),
            None if self.node.is_null() => Err(DeError::blank("a text").at(self.node, self.path)),
            None => {
                Err(DeError::ours(format!("expected a text, found {}", self.found_kind())).at(self.node, self.path))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.place(if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value() {
            Value::Null => self.place(visitor.visit_unit()),
            Value::Map(entries) if entries.is_empty() => self.place(visitor.visit_unit()),
            _ => self.expected("no value"),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, DeError> {
        match name {
            ANY_CASE if let Some(text) = self.node.text() => {
                let lower: StringDeserializer<DeError> = text.to_lowercase().into_deserializer();
                self.place(visitor.visit_newtype_struct(lower))
            }
            WITHOUT_DEFAULTS if self.node.is_null() => self.place(visitor.visit_none()),
            OPTIONAL | WITHOUT_DEFAULTS => self.optional(visitor),
            node::CAPTURE => self.place(node::capture(self.node, visitor)),
            _ => self.place(visitor.visit_newtype_struct(self)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value() {
            Value::List(items) => self.place(visitor.visit_seq(Items::new(self, items))),
            Value::Map(entries) => self.place(visitor.visit_seq(Pairs::new(self, entries))),
            Value::Null if !self.field => self.place(visitor.visit_seq(Items::new(self, &[]))),
            _ if self.node.is_null() => self.expected("a list"),
            _ => {
                // As in the Collector, a text is a list of texts with commas between them. Of nothing else.
                let items =
                    self.node.text().into_iter().flat_map(|text| text.split(',')).filter(|item| !item.is_empty());
                let list: SeqDeserializer<_, DeError> = SeqDeserializer::new(items);
                visitor.visit_seq(list).map_err(|_| {
                    DeError::ours(format!("expected a list, found {}", self.found_kind()))
                        .with_hint(Some("a list of one is written `[item]`".to_owned()))
                        .at(self.node, self.path)
                })
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value() {
            Value::List(items) => self.place(visitor.visit_seq(Items::new(self, items))),
            _ => self.expected("a list"),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.value() {
            Value::Map(_) => self.entries(visitor, false),
            Value::Null if !self.field => self.entries(visitor, false),
            Value::Null => self.expected("a mapping"),
            _ => {
                Err(DeError::ours(format!("expected a mapping, found {}", self.found_kind())).at(self.node, self.path))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match self.node.value() {
            Value::Map(_) | Value::Null => self.entries(visitor, true),
            _ => {
                let hint = (!fields.is_empty()).then(|| format!("known keys: {}", fields.join(", ")));
                Err(DeError::ours(format!("expected a mapping, found {}", self.found_kind()))
                    .with_hint(hint)
                    .at(self.node, self.path))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match (self.node.value(), self.node.text()) {
            (Value::Map(entries), _) => match entries.as_slice() {
                [(key, value)] => self.place(visitor.visit_enum(Variant::new(self, key, value))),
                _ => self.expected("one of the variants as the only key"),
            },
            (_, Some(text)) => self.place(visitor.visit_enum(text.into_deserializer())),
            _ => self.expected_with("a name", suggest::hint("", "accepted values", variants)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }
}
