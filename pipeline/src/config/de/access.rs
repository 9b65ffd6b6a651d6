//! The inside of mappings, lists and enums.

use std::slice::Iter;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::super::node::{Key, Node};
use super::super::scalar;
use super::error::{DeError, Kind};
use super::{NodeDeserializer, Path, address};

/// The entries of a mapping, for a struct or a map.
pub(super) struct Entries<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    entries: Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
    of_struct: bool,
}

impl<'de, 'p> Entries<'de, 'p> {
    pub(super) fn new(of: NodeDeserializer<'de, 'p>, entries: &'de [(Key, Node)], of_struct: bool) -> Self {
        Self { of, entries: entries.iter(), value: None, of_struct }
    }
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let (of, of_struct) = (self.of, self.of_struct);
        let absent = |node: &Node| of_struct && of.absent.contains(&address(node));
        let Some(entry) = self.entries.find(|(key, node)| of.omit != Some(key.text.as_str()) && !absent(node)) else {
            return Ok(None);
        };
        self.value = Some(entry);
        seed.deserialize(KeyDeserializer(&entry.0.text))
            .map(Some)
            .map_err(|error| error.at_location(&entry.0.location, of.path))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let Some((key, node)) = self.value.take() else {
            return Err(DeError::ours("a value was asked for before its key"));
        };
        let path = Path::Key(self.of.path, &key.text);
        let deserializer =
            NodeDeserializer { node, path: &path, absent: self.of.absent, field: self.of_struct, omit: None };
        seed.deserialize(deserializer).map_err(|error| {
            let error = error.at(node, &path);
            match error.kind() {
                Kind::Blank if self.of_struct && node.is_null() => error.with_kind(Kind::BlankField(address(node))),
                _ => error,
            }
        })
    }
}

/// The items of a list.
pub(super) struct Items<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    items: std::iter::Enumerate<Iter<'de, Node>>,
}

impl<'de, 'p> Items<'de, 'p> {
    pub(super) fn new(of: NodeDeserializer<'de, 'p>, items: &'de [Node]) -> Self {
        Self { of, items: items.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some((i, node)) = self.items.next() else { return Ok(None) };
        let path = Path::Index(self.of.path, i);
        let deserializer = NodeDeserializer { node, path: &path, absent: self.of.absent, field: false, omit: None };
        seed.deserialize(deserializer).map(Some).map_err(|error| error.at(node, &path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a mapping as a list of pairs, which is how a `Vec<(K, V)>` keeps their order.
pub(super) struct Pairs<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    entries: Iter<'de, (Key, Node)>,
}

impl<'de, 'p> Pairs<'de, 'p> {
    pub(super) fn new(of: NodeDeserializer<'de, 'p>, entries: &'de [(Key, Node)]) -> Self {
        Self { of, entries: entries.iter() }
    }
}

impl<'de> SeqAccess<'de> for Pairs<'de, '_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        seed.deserialize(Pair { of: self.of, entry }).map(Some)
    }
}

struct Pair<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    entry: &'de (Key, Node),
}

impl<'de> Deserializer<'de> for Pair<'de, '_> {
    type Error = DeError;

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DeError> {
        if len != 2 {
            return self.deserialize_any(visitor);
        }
        visitor.visit_seq(PairParts { of: self.of, entry: self.entry, next: 0 })
    }

    // Whatever else the items are, a mapping is no list of them.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DeError> {
        Err(DeError::ours("expected a list, found a mapping").at(self.of.node, self.of.path))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple_struct map struct enum identifier ignored_any
    }
}

struct PairParts<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    entry: &'de (Key, Node),
    next: u8,
}

impl<'de> SeqAccess<'de> for PairParts<'de, '_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let (key, node) = self.entry;
        self.next += 1;
        match self.next {
            1 => seed
                .deserialize(KeyDeserializer(&key.text))
                .map(Some)
                .map_err(|error| error.at_location(&key.location, self.of.path)),
            2 => {
                let path = Path::Key(self.of.path, &key.text);
                let deserializer =
                    NodeDeserializer { node, path: &path, absent: self.of.absent, field: false, omit: None };
                seed.deserialize(deserializer).map(Some).map_err(|error| error.at(node, &path))
            }
            _ => Ok(None),
        }
    }
}

/// The key of a mapping: a text, or what a text can be read as.
struct KeyDeserializer<'de>(&'de str);

macro_rules! number_keys {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            match scalar::integer(self.0).and_then(|value| <$type>::try_from(value).ok()) {
                Some(value) => visitor.$visit(value),
                None => Err(DeError::ours(format!(
                    "expected an integer from {} to {} as the key, found `{}`", <$type>::MIN, <$type>::MAX, self.0
                ))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for KeyDeserializer<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_borrowed_str(self.0)
    }

    number_keys! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// An enum with settings: its name as the only key, the settings below.
pub(super) struct Variant<'de, 'p> {
    of: NodeDeserializer<'de, 'p>,
    key: &'de Key,
    node: &'de Node,
}

impl<'de, 'p> Variant<'de, 'p> {
    pub(super) fn new(of: NodeDeserializer<'de, 'p>, key: &'de Key, node: &'de Node) -> Self {
        Self { of, key, node }
    }

    fn settings<T>(self, read: impl FnOnce(NodeDeserializer<'de, '_>) -> Result<T, DeError>) -> Result<T, DeError> {
        let path = Path::Key(self.of.path, &self.key.text);
        let (node, absent) = (self.node, self.of.absent);
        read(NodeDeserializer { node, path: &path, absent, field: false, omit: None })
            .map_err(|error| error.at(node, &path))
    }
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = DeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DeError> {
        let value = seed
            .deserialize(KeyDeserializer(&self.key.text))
            .map_err(|error| error.at_location(&self.key.location, self.of.path))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        self.settings(|node| serde::Deserialize::deserialize(node))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DeError> {
        self.settings(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DeError> {
        self.settings(|node| node.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        self.settings(|node| node.deserialize_struct("", fields, visitor))
    }
}
