//! Looking up what a schema says of a place in a configuration.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use regex::Regex;
use serde_json::{Map, Value};

/// How many references, alternatives and the like may lead from one place to what describes it.
const MAX_HOPS: usize = 64;

/// What a schema says of one place: any of these may apply.
#[derive(Debug, Clone)]
pub(crate) struct View<'s> {
    root: &'s Value,
    alternatives: Vec<&'s Map<String, Value>>,
    patterns: Patterns<'s>,
}

/// Patterns for keys, compiled once. They are those of our own schemas; one that Rust cannot read describes nothing.
#[derive(Debug, Clone, Default)]
struct Patterns<'s>(Rc<RefCell<HashMap<&'s str, Option<Regex>>>>);

impl<'s> Patterns<'s> {
    fn matches(&self, pattern: &'s str, key: &str) -> bool {
        let mut compiled = self.0.borrow_mut();
        compiled.entry(pattern).or_insert_with(|| Regex::new(pattern).ok()).as_ref().is_some_and(|p| p.is_match(key))
    }
}

impl<'s> View<'s> {
    /// The view of the root of a schema.
    pub(super) fn new(root: &'s Value) -> Self {
        Self::of(root, [root], Patterns::default())
    }

    fn of(root: &'s Value, schemas: impl IntoIterator<Item = &'s Value>, patterns: Patterns<'s>) -> Self {
        let mut alternatives = Vec::new();
        let mut open: Vec<(&Value, usize)> = schemas.into_iter().map(|schema| (schema, 0)).collect();
        while let Some((schema, hops)) = open.pop() {
            let Value::Object(keywords) = schema else { continue };
            alternatives.push(keywords);
            if hops > MAX_HOPS {
                continue;
            }
            let target = keywords.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
            open.extend(target.and_then(|target| root.pointer(target)).map(|schema| (schema, hops + 1)));
            for keyword in ["anyOf", "oneOf", "allOf"] {
                if let Some(Value::Array(schemas)) = keywords.get(keyword) {
                    open.extend(schemas.iter().map(|schema| (schema, hops + 1)));
                }
            }
        }
        Self { root, alternatives, patterns }
    }

    /// What stands under a key.
    pub(crate) fn key(&self, key: &str) -> Self {
        let of = |alternative: &'s Map<String, Value>| -> Vec<&'s Value> {
            if let Some(schema) = alternative.get("properties").and_then(|properties| properties.get(key)) {
                return vec![schema];
            }
            let patterns = alternative.get("patternProperties").and_then(Value::as_object);
            let matching = patterns.into_iter().flatten().filter(|(pattern, _)| self.patterns.matches(pattern, key));
            let schemas: Vec<&Value> = matching.map(|(_, schema)| schema).collect();
            if schemas.is_empty() { alternative.get("additionalProperties").into_iter().collect() } else { schemas }
        };
        let schemas = self.alternatives.iter().flat_map(|alternative| of(alternative));
        Self::of(self.root, schemas, self.patterns.clone())
    }

    /// What the items of a list are.
    pub(crate) fn item(&self) -> Self {
        let items = self.alternatives.iter().filter_map(|alternative| alternative.get("items"));
        let schemas = items.flat_map(|items| items.as_array().map_or_else(|| vec![items], |all| all.iter().collect()));
        Self::of(self.root, schemas, self.patterns.clone())
    }

    /// Whether this may be a secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.get("writeOnly") == Some(&Value::Bool(true)))
    }

    /// Whether anything is known of this.
    pub(crate) fn is_described(&self) -> bool {
        let says = |keyword: &str| self.alternatives.iter().any(|alternative| alternative.contains_key(keyword));
        says("type") || says("enum") || says("const")
    }

    /// Whether this is a text and nothing else.
    pub(crate) fn is_text(&self) -> bool {
        let mut types = self.alternatives.iter().filter_map(|alternative| alternative.get("type"));
        let is_text = |kind: &Value| kind == "string" || kind == "null";
        let all =
            types.clone().all(|kind| kind.as_array().map_or_else(|| is_text(kind), |all| all.iter().all(is_text)));
        all && types
            .any(|kind| kind == "string" || kind.as_array().is_some_and(|all| all.iter().any(|k| k == "string")))
    }
}
