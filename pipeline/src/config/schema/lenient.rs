//! A schema of decoded values made one of what may be written for them.

use serde_json::{Map, Value, json};

/// A reference, somewhere in a text.
const REFERENCE: &str = r"\$\{";

/// Applies `change` to every schema inside this one, and to itself, the inner ones first.
pub(super) fn each(schema: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| each(schema, change));
            }
            ("anyOf" | "oneOf" | "allOf" | "items", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| each(schema, change));
            }
            ("additionalProperties" | "items" | "not", schema) => each(schema, change),
            _ => {}
        }
    }
    change(keywords);
}

/// Lets a value be absent after its key, or a reference; and a text be whatever YAML takes a plain one for.
pub(super) fn relax(schema: &mut Map<String, Value>) {
    // Names of Rust's types, which mean nothing to an editor.
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| ["uint", "int", "float", "double"].iter().any(|number| format.starts_with(number)))
    {
        schema.remove("format");
    }
    // One of a set of texts, each with a description.
    if schema.contains_key("const") {
        return;
    }
    if let Some(Value::Array(mut alternatives)) = schema.remove("oneOf") {
        // Any of them, since they overlap from here on.
        let numbers: Vec<Value> = alternatives.iter().filter_map(|one| number(one.get("const")?)).collect();
        alternatives.extend((!numbers.is_empty()).then(|| json!({"enum": numbers})));
        alternatives.push(json!({"type": ["string", "null"], "pattern": REFERENCE}));
        schema.insert("anyOf".to_owned(), Value::Array(alternatives));
    }
    let mut types: Vec<String> = match schema.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return,
    };
    let is_text = types.iter().any(|kind| kind == "string");
    let mut add = |kind: &str| {
        if !types.iter().any(|known| known == kind) {
            types.push(kind.to_owned());
        }
    };
    add("null");
    match (is_text, schema.get("pattern").and_then(Value::as_str)) {
        (true, Some(pattern)) => {
            schema.insert("pattern".to_owned(), json!(format!("({pattern})|{REFERENCE}")));
        }
        (true, None) => match schema.remove("enum") {
            Some(Value::Array(names)) => {
                let numbers: Vec<Value> = names.iter().filter_map(number).collect();
                let names: Vec<Value> = names.into_iter().chain(numbers).chain([Value::Null]).collect();
                schema.insert("anyOf".to_owned(), json!([{"enum": names}, {"type": "string", "pattern": REFERENCE}]));
                add("number");
            }
            _ => ["number", "boolean"].into_iter().for_each(add),
        },
        (false, _) => {
            add("string");
            schema.insert("pattern".to_owned(), json!(REFERENCE));
        }
    }
    schema.insert("type".to_owned(), json!(types));
}

/// The number that YAML takes a plain text for, as in `min_version: 1.2`.
fn number(text: &Value) -> Option<Value> {
    text.as_str()?.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| json!(number))
}
