//! Actions on attributes, shared by the `attributes` and `resource` processors.
//!
//! | action | what it does | needs |
//! |---|---|---|
//! | `insert` | adds the attribute where the key is absent | `key`, and one of `value`, `from_attribute`, `from_context`, `default_value` |
//! | `update` | changes it where the key is present | the same |
//! | `upsert` | both | the same |
//! | `delete` | removes it | `key` and/or `pattern` on keys |
//! | `hash` | replaces its value by the SHA-256 of it, in hexadecimal | `key` and/or `pattern` on keys |
//! | `extract` | sets one attribute for each named group of `pattern` that matches its text | `key`, `pattern` |
//! | `convert` | changes its type; a value that cannot be converted stays | `key`, `converted_type: int\|double\|string` |
//!
//! They run in the order of the list. `from_context` reads what the client said: `metadata.x-tenant` (several values
//! are joined with `;`), `auth.username`. Where the source has no value, `default_value` takes its place, and without
//! one nothing happens. Hashing covers texts, booleans and numbers, these as eight bytes, little endian; a list, mapping
//! or bytes become an empty text, as in the Collector. A key that is named and that the pattern matches is hashed once,
//! and of several attributes with one key the last counts and is left alone with it; the Collector hashes the one twice,
//! and takes the first of the other.

mod config;
#[cfg(test)]
mod tests;
mod value;

use foldhash::{HashMap, HashMapExt as _};
use regex::Regex;
use sha2::{Digest, Sha256};
use weir_pipeline::batch::view::{KeyValue, Value};
use weir_pipeline::batch::{AttributeEdit, AttributesMut, NewValue, SpanMut};
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::hex::Hex;
use weir_pipeline::metadata::Metadata;

pub(crate) use self::config::{RawAction, named_groups};
pub(crate) use self::value::{ConfiguredValue, kind_of};

/// Attributes that actions change.
pub(crate) trait Editable {
    /// The attribute with this key.
    fn raw_attr(&self, key: &str) -> Option<KeyValue<'_>>;
    /// Collects the keys that a pattern matches.
    fn matching(&self, pattern: &Regex, keys: &mut Vec<String>);
    /// Sets an attribute.
    fn set(&mut self, key: &str, value: NewValue<'_>);
    /// Adds an attribute that is known to be absent.
    fn insert_absent(&mut self, key: &str, value: NewValue<'_>);
    /// Removes an attribute.
    fn remove(&mut self, key: &str);
    /// Does with each attribute what `edit` says, in linear time.
    fn edit_each(&mut self, edit: &mut dyn FnMut(KeyValue<'_>) -> AttributeEdit);
}

impl Editable for SpanMut<'_> {
    fn raw_attr(&self, key: &str) -> Option<KeyValue<'_>> {
        self.view().raw_attr(key)
    }

    fn matching(&self, pattern: &Regex, keys: &mut Vec<String>) {
        let matching = self.view().raw_attributes().filter(|kv| pattern.is_match(kv.key.as_str()));
        keys.extend(matching.map(|kv| kv.key.to_string()));
    }

    fn set(&mut self, key: &str, value: NewValue<'_>) {
        self.set(key, value);
    }

    fn insert_absent(&mut self, key: &str, value: NewValue<'_>) {
        self.insert_absent(key, value);
    }

    fn remove(&mut self, key: &str) {
        self.remove(key);
    }

    fn edit_each(&mut self, edit: &mut dyn FnMut(KeyValue<'_>) -> AttributeEdit) {
        self.edit_attributes(edit);
    }
}

impl Editable for AttributesMut<'_> {
    fn raw_attr(&self, key: &str) -> Option<KeyValue<'_>> {
        self.raw_attr(key)
    }

    fn matching(&self, pattern: &Regex, keys: &mut Vec<String>) {
        let matching = self.view().iter().filter(|(key, _)| pattern.is_match(key.as_str()));
        keys.extend(matching.map(|(key, _)| key.to_string()));
    }

    fn set(&mut self, key: &str, value: NewValue<'_>) {
        self.set(key, value);
    }

    fn insert_absent(&mut self, key: &str, value: NewValue<'_>) {
        self.set(key, value);
    }

    fn remove(&mut self, key: &str) {
        self.remove(key);
    }

    fn edit_each(&mut self, edit: &mut dyn FnMut(KeyValue<'_>) -> AttributeEdit) {
        self.edit_each(edit);
    }
}

/// A list of actions, checked.
#[derive(Debug)]
pub(crate) struct Actions(Vec<Action>);

#[derive(Debug)]
enum Action {
    Insert(String, Source),
    Update(String, Source),
    Upsert(String, Source),
    Delete(Keys),
    Hash(Keys),
    Extract { key: String, pattern: Regex, names: Vec<String> },
    Convert { key: String, to: Kind },
}

/// Where a value comes from.
#[derive(Debug)]
struct Source {
    kind: SourceKind,
    /// Taken where the source has no value.
    default: Option<ConfiguredValue>,
}

#[derive(Debug)]
enum SourceKind {
    Value(ConfiguredValue),
    Attribute(String),
    Context(String),
    Nothing,
}

/// Attributes by key, if it is not empty, and by pattern.
#[derive(Debug)]
struct Keys {
    key: String,
    pattern: Option<Regex>,
}

/// A type to convert to.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Int,
    Double,
    Text,
}

impl Actions {
    /// Reads a list of actions, which stands at `path`.
    pub(crate) fn parse(nodes: &[Node], path: &str) -> Result<Self, ConfigError> {
        config::parse(nodes, path).map(Self)
    }

    /// Whether any of them takes a value from metadata.
    pub(crate) fn read_metadata(&self) -> bool {
        let Self(actions) = self;
        actions.iter().any(|action| match action {
            Action::Insert(_, source) | Action::Update(_, source) | Action::Upsert(_, source) => {
                matches!(source.kind, SourceKind::Context(_))
            }
            _ => false,
        })
    }

    /// The actions for data that came with this metadata.
    pub(crate) fn with<'a>(&'a self, metadata: Option<&'a Metadata>) -> Run<'a> {
        let context = |action: &'a Action| match action {
            Action::Insert(_, source) | Action::Update(_, source) | Action::Upsert(_, source) => match &source.kind {
                SourceKind::Context(path) => from_context(metadata?, path),
                _ => None,
            },
            _ => None,
        };
        Run {
            actions: self.0.iter().map(|action| (action, context(action))).collect(),
            value: Vec::new(),
            keys: Vec::new(),
        }
    }
}

/// What the client said under this path; several values are joined as the Collector joins them.
fn from_context(metadata: &Metadata, path: &str) -> Option<String> {
    if path.starts_with("auth.") {
        return metadata.lookup(path).map(str::to_owned);
    }
    let values: Vec<&str> = metadata.values(path.strip_prefix("metadata.").unwrap_or(path)).collect();
    (!values.is_empty()).then(|| values.join(";"))
}

/// Actions that run on one message after the other.
pub(crate) struct Run<'a> {
    /// Each with its value from the client's metadata.
    actions: Vec<(&'a Action, Option<String>)>,
    /// A value on its way from one attribute to another.
    value: Vec<u8>,
    /// Keys that a pattern has matched.
    keys: Vec<String>,
}

impl Run<'_> {
    /// Runs the actions in order.
    pub(crate) fn apply(&mut self, attributes: &mut impl Editable) {
        for (action, context) in &self.actions {
            match action {
                Action::Insert(key, source) => {
                    if attributes.raw_attr(key).is_none()
                        && source.read(attributes, context.as_deref(), &mut self.value)
                    {
                        attributes.insert_absent(key, NewValue::Raw(&self.value));
                    }
                }
                Action::Update(key, source) => {
                    if attributes.raw_attr(key).is_some()
                        && source.read(attributes, context.as_deref(), &mut self.value)
                    {
                        attributes.set(key, NewValue::Raw(&self.value));
                    }
                }
                Action::Upsert(key, source) => {
                    if source.read(attributes, context.as_deref(), &mut self.value) {
                        attributes.set(key, NewValue::Raw(&self.value));
                    }
                }
                Action::Delete(keys) => keys.change(attributes, &mut self.keys, Change::Delete),
                Action::Hash(keys) => keys.change(attributes, &mut self.keys, Change::Hash),
                Action::Extract { key, pattern, names } => extract(attributes, key, pattern, names),
                Action::Convert { key, to } => convert(attributes, key, *to),
            }
        }
    }
}

impl Source {
    /// Writes the encoded value; false if there is none.
    fn read(&self, attributes: &impl Editable, context: Option<&str>, out: &mut Vec<u8>) -> bool {
        out.clear();
        match &self.kind {
            SourceKind::Value(value) => {
                out.extend_from_slice(value.as_bytes());
                return true;
            }
            SourceKind::Attribute(key) => {
                if let Some(kv) = attributes.raw_attr(key) {
                    out.extend_from_slice(kv.any_value);
                    return true;
                }
            }
            SourceKind::Context(_) => {
                if let Some(text) = context {
                    weir_pipeline::batch::wire::put_bytes(out, 1, text.as_bytes());
                    return true;
                }
            }
            SourceKind::Nothing => {}
        }
        match &self.default {
            Some(value) => {
                out.extend_from_slice(value.as_bytes());
                true
            }
            None => false,
        }
    }
}

/// As many attributes are changed one by one; each may mean a walk over all of them.
const FEW: usize = 4;

impl Keys {
    /// Changes each of the attributes, once. `matching` is scratch space.
    fn change(&self, attributes: &mut impl Editable, matching: &mut Vec<String>, change: Change) {
        if !self.key.is_empty() {
            change.one(attributes, &self.key);
        }
        let Some(pattern) = &self.pattern else { return };
        matching.clear();
        attributes.matching(pattern, matching);
        matching.retain(|key| self.key.is_empty() || *key != self.key);
        if matching.len() > FEW {
            return change.many(attributes, matching);
        }
        matching.sort_unstable();
        matching.dedup();
        matching.iter().for_each(|key| change.one(attributes, key));
    }
}

/// What becomes of attributes that are found.
#[derive(Debug, Clone, Copy)]
enum Change {
    Delete,
    Hash,
}

impl Change {
    /// Changes the attribute with this key, if there is one.
    fn one(self, attributes: &mut impl Editable, key: &str) {
        match self {
            Self::Delete => attributes.remove(key),
            Self::Hash => {
                let hashed = attributes.raw_attr(key).map(|kv| hash(kv.value()));
                if let Some(hashed) = hashed {
                    attributes.set(key, NewValue::Str(&hashed));
                }
            }
        }
    }

    /// The same for keys of which each is there as often as it occurs among them. In one pass: how many a client sends is
    /// up to the client.
    fn many(self, attributes: &mut impl Editable, keys: &[String]) {
        let mut left: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
        keys.iter().for_each(|key| *left.entry(key).or_default() += 1);
        attributes.edit_each(&mut |kv| match (left.get_mut(kv.key.as_str()), self) {
            (None, _) => AttributeEdit::Keep,
            (Some(_), Self::Delete) => AttributeEdit::Remove,
            (Some(left), Self::Hash) => {
                *left -= 1;
                if *left > 0 { AttributeEdit::Remove } else { AttributeEdit::Text(hash(kv.value())) }
            }
        });
    }
}

/// The SHA-256 of a value in hexadecimal.
fn hash(value: Value<'_>) -> String {
    let digest = match value {
        Value::Str(text) => Sha256::digest(text.as_bytes()),
        Value::Bool(value) => Sha256::digest([u8::from(value)]),
        Value::Int(value) => Sha256::digest(value.to_le_bytes()),
        Value::Double(value) => Sha256::digest(value.to_bits().to_le_bytes()),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::KvList(_) => return String::new(),
    };
    Hex(&digest).to_string()
}

fn extract(attributes: &mut impl Editable, key: &str, pattern: &Regex, names: &[String]) {
    // Copied, because the attributes change while its parts are written.
    let Some(text) = attributes.raw_attr(key).and_then(|kv| kv.value().as_str()).map(str::to_owned) else { return };
    let Some(captures) = pattern.captures(&text) else { return };
    for (n, name) in names.iter().enumerate() {
        attributes.set(name, NewValue::Str(captures.get(n + 1).map_or("", |group| group.as_str())));
    }
}

fn convert(attributes: &mut impl Editable, key: &str, to: Kind) {
    let Some(value) = attributes.raw_attr(key).map(KeyValue::value) else { return };
    match to {
        Kind::Text => {
            if !matches!(value, Value::Str(_)) {
                let text = value.to_text().into_owned();
                attributes.set(key, NewValue::Str(&text));
            }
        }
        Kind::Int => {
            let int = match value {
                Value::Double(double) => Some(double as i64),
                Value::Bool(value) => Some(i64::from(value)),
                Value::Str(text) => text.as_str().parse().ok(),
                _ => None,
            };
            if let Some(int) = int {
                attributes.set(key, NewValue::Int(int));
            }
        }
        Kind::Double => {
            let double = match value {
                Value::Int(int) => Some(int as f64),
                Value::Bool(value) => Some(f64::from(u8::from(value))),
                Value::Str(text) => crate::number::float(text.as_str()),
                _ => None,
            };
            if let Some(double) = double {
                attributes.set(key, NewValue::Double(double));
            }
        }
    }
}
