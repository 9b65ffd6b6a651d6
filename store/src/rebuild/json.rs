//! The way back from the JSON that [`crate::convert`] writes.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use weir_pipeline::batch::wire::{put_bytes, put_uint};

use super::{put_attribute, put_double};
use crate::convert::any::{BYTES_KEY, DOUBLE_KEY};

/// An object's members in order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyObject;
        impl<'de> Visitor<'de> for AnyObject {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(AnyObject).map(Members)
    }
}

/// The `AnyValue` that [`crate::convert::any::write_json`] wrote.
pub(super) fn any_of_json(json: &str) -> Result<Vec<u8>, serde_json::Error> {
    use serde::de::Error as _;
    let mut any = Vec::new();
    match json.as_bytes().first() {
        Some(b'"') => put_bytes(&mut any, 1, serde_json::from_str::<String>(json)?.as_bytes()),
        Some(b't' | b'f') => put_uint(&mut any, 2, u64::from(serde_json::from_str::<bool>(json)?)),
        Some(b'[') => {
            let mut array = Vec::new();
            for item in serde_json::from_str::<Vec<&RawValue>>(json)? {
                put_bytes(&mut array, 1, &any_of_json(item.get())?);
            }
            put_bytes(&mut any, 5, &array);
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(json)?;
            match &members[..] {
                [(key, value)] if key == BYTES_KEY => {
                    use base64::Engine as _;
                    let text: String = serde_json::from_str(value.get())?;
                    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                    put_bytes(&mut any, 7, &bytes.map_err(serde_json::Error::custom)?);
                }
                [(key, value)] if key == DOUBLE_KEY => {
                    let name: String = serde_json::from_str(value.get())?;
                    put_double(&mut any, if name == "NaN" { f64::NAN } else { parse(&name)? });
                }
                _ => {
                    let mut list = Vec::new();
                    put_attributes(&mut list, 1, json)?;
                    put_bytes(&mut any, 6, &list);
                }
            }
        }
        Some(b'n') => {}
        // Not through serde_json, whose floating-point numbers may be off in the last bit.
        _ if json.contains(['.', 'e', 'E']) => put_double(&mut any, parse(json)?),
        _ => put_uint(&mut any, 3, parse::<i64>(json)? as u64),
    }
    Ok(any)
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(text: &str) -> Result<T, serde_json::Error> {
    text.parse().map_err(serde::de::Error::custom)
}

/// Writes the members of an object as `KeyValue`s. Nothing for an empty text.
pub(super) fn put_attributes(out: &mut Vec<u8>, number: u32, object: &str) -> Result<(), serde_json::Error> {
    if object.is_empty() {
        return Ok(());
    }
    let Members(members) = serde_json::from_str(object)?;
    for (key, value) in members {
        let value = any_of_json(value.get())?;
        put_attribute(out, number, &key, |any| any.extend_from_slice(&value));
    }
    Ok(())
}

/// The attributes of which [`crate::convert::content::assemble`] made `json`.
pub(super) fn take_apart(
    json: &str,
    prefix: &str,
    second: Option<&str>,
    leaves: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), serde_json::Error> {
    let mut child = |name: &str, value: &RawValue| {
        let second = second.map_or(String::new(), |second| format!("{second}."));
        let text = value.get();
        let path = format!("{prefix}{name}");
        if text.starts_with(['[', '{']) {
            take_apart(text, &format!("{path}.{second}"), None, leaves)
        } else {
            leaves.push((path, any_of_json(text)?));
            Ok(())
        }
    };
    if json.starts_with('[') {
        let items = serde_json::from_str::<Vec<&RawValue>>(json)?;
        items.iter().enumerate().try_for_each(|(n, item)| child(&n.to_string(), item))
    } else {
        let Members(members) = serde_json::from_str(json)?;
        members.iter().try_for_each(|(name, value)| child(name, value))
    }
}
