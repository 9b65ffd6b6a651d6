//! As much of JSON Schema as `weir schema` uses; any other keyword fails the test.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weir_pipeline::config::{Node, Secrets, Tree, schema};

/// A configuration as an editor sees it: references are not expanded.
pub fn instance(yaml: &str) -> Value {
    let node = Node::parse("instance.yaml", yaml).unwrap();
    let blank = schema::ConfigSchema::new(schema::generator(), true.into());
    serde_json::to_value(Tree::of_config(&node, &blank, Secrets::Exposed)).unwrap()
}

/// The keys of a mapping, each with its schema.
pub fn properties(root: &Value, schema: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    if let Some(target) = schema["$ref"].as_str() {
        found.extend(properties(root, root.pointer(&target[1..]).unwrap()));
    }
    for alternative in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(properties(root, alternative));
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(key.clone(), value.clone());
    }
    found
}

/// What is wrong with an instance, each with its place.
pub fn problems(root: &Value, instance: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(root, root, instance, "", &mut problems);
    problems
}

fn check(root: &Value, schema: &Value, instance: &Value, path: &str, problems: &mut Vec<String>) {
    let Value::Object(keywords) = schema else {
        if *schema == json!(false) {
            problems.push(format!("{path}: is not allowed"));
        }
        return;
    };
    let fits = |schema: &Value| {
        let mut found = Vec::new();
        check(root, schema, instance, path, &mut found);
        found.is_empty()
    };
    for (keyword, value) in keywords {
        let mut wrong = |what: &str| problems.push(format!("{path}: {what}"));
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" | "writeOnly" => {}
            "$ref" => {
                let target = root.pointer(&value.as_str().unwrap()[1..]).unwrap();
                check(root, target, instance, path, problems);
            }
            "type" => {
                let one = [value.clone()];
                let types = value.as_array().map_or(&one[..], Vec::as_slice);
                if !types.iter().any(|kind| is_of(kind.as_str().unwrap(), instance)) {
                    wrong("has the wrong type");
                }
            }
            "const" if value != instance => wrong("is another text"),
            "const" => {}
            "enum" if !value.as_array().unwrap().contains(instance) => wrong("is none of the values"),
            "enum" => {}
            "anyOf" if !value.as_array().unwrap().iter().any(fits) => wrong("fits no alternative"),
            "anyOf" => {}
            "allOf" => {
                value.as_array().unwrap().iter().for_each(|schema| check(root, schema, instance, path, problems));
            }
            "pattern" => {
                if let Some(text) = instance.as_str()
                    && !matches(value.as_str().unwrap(), text)
                {
                    wrong("does not match");
                }
            }
            "minimum" if instance.as_f64().is_some_and(|number| number < value.as_f64().unwrap()) => {
                wrong("is too small");
            }
            "maximum" if instance.as_f64().is_some_and(|number| number > value.as_f64().unwrap()) => {
                wrong("is too large");
            }
            "minimum" | "maximum" => {}
            "required" => {
                for key in value.as_array().unwrap() {
                    if instance.is_object() && instance.get(key.as_str().unwrap()).is_none() {
                        wrong(&format!("has no {}", key.as_str().unwrap()));
                    }
                }
            }
            "items" => {
                for (i, item) in instance.as_array().into_iter().flatten().enumerate() {
                    check(root, value, item, &format!("{path}/{i}"), problems);
                }
            }
            "properties" => {
                for (key, instance) in instance.as_object().into_iter().flatten() {
                    if let Some(schema) = value.get(key) {
                        check(root, schema, instance, &format!("{path}/{key}"), problems);
                    }
                }
            }
            "patternProperties" => {
                for (key, instance) in instance.as_object().into_iter().flatten() {
                    for (_, schema) in value.as_object().unwrap().iter().filter(|(pattern, _)| matches(pattern, key)) {
                        check(root, schema, instance, &format!("{path}/{key}"), problems);
                    }
                }
            }
            "additionalProperties" => {
                for (key, instance) in instance.as_object().into_iter().flatten() {
                    if !is_named(keywords, key) {
                        check(root, value, instance, &format!("{path}/{key}"), problems);
                    }
                }
            }
            other => panic!("{path}: what is {other}?"),
        }
    }
}

fn is_named(keywords: &Map<String, Value>, key: &str) -> bool {
    let patterns = keywords.get("patternProperties").and_then(Value::as_object);
    keywords.get("properties").is_some_and(|properties| properties.get(key).is_some())
        || patterns.into_iter().flatten().any(|(pattern, _)| matches(pattern, key))
}

fn is_of(kind: &str, instance: &Value) -> bool {
    match kind {
        "null" => instance.is_null(),
        "boolean" => instance.is_boolean(),
        "integer" => instance.is_i64() || instance.is_u64(),
        "number" => instance.is_number(),
        "string" => instance.is_string(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        other => panic!("what is {other}?"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).unwrap().is_match(text)
}
