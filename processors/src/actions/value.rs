//! A value of the configuration as it will stand in an attribute.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use weir_pipeline::batch::view::Value;
use weir_pipeline::batch::wire::{FIXED64, put_bytes, put_tag, put_uint};

/// The bytes of an `AnyValue`: a text, boolean, number, list or mapping, as YAML types it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredValue(Vec<u8>);

impl ConfiguredValue {
    /// A text.
    pub(crate) fn text(text: &str) -> Self {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, 1, text.as_bytes());
        Self(bytes)
    }

    /// The encoded `AnyValue`.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value.
    pub(crate) fn view(&self) -> Value<'_> {
        Value::parse(&self.0)
    }
}

/// Values may be secrets, such as a key to insert: only their kind is shown.
impl fmt::Debug for ConfiguredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(kind_of(self.view()))
    }
}

/// What a value is, in the words of configurations.
pub(crate) const fn kind_of(value: Value<'_>) -> &'static str {
    match value {
        Value::Empty => "no value",
        Value::Str(_) => "a text",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an integer",
        Value::Double(_) => "a number",
        Value::Array(_) => "a list",
        Value::KvList(_) => "a mapping",
        Value::Bytes(_) => "bytes",
    }
}

impl<'de> Deserialize<'de> for ConfiguredValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl ValueVisitor {
    fn build<E>(put: impl FnOnce(&mut Vec<u8>)) -> Result<ConfiguredValue, E> {
        let mut out = Vec::new();
        put(&mut out);
        Ok(ConfiguredValue(out))
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = ConfiguredValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, boolean, number, list or mapping")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<ConfiguredValue, E> {
        Ok(ConfiguredValue::text(value))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<ConfiguredValue, E> {
        Self::build(|out| put_uint(out, 2, u64::from(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<ConfiguredValue, E> {
        Self::build(|out| put_uint(out, 3, value as u64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<ConfiguredValue, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::custom(format_args!("{value} is too large for an integer attribute"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<ConfiguredValue, E> {
        Self::build(|out| {
            put_tag(out, 4, FIXED64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ConfiguredValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<ConfiguredValue>()? {
            put_bytes(&mut list, 1, &item.0);
        }
        Self::build(|out| put_bytes(out, 5, &list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ConfiguredValue, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, ConfiguredValue>()? {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, &value.0);
            put_bytes(&mut map, 1, &entry);
        }
        Self::build(|out| put_bytes(out, 6, &map))
    }
}
