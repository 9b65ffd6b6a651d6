//! The schemas of the types that configurations are made of.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::super::units::{ByteSize, GoDuration};
use super::super::{ComponentId, Node, Optional, PipelineId, Secret};

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration such as `200ms`, `1.5s` or `1h30m`; a bare number is nanoseconds",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size such as `64MiB`, `64 MB` or `65536`",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": "^([0-9]+\\.?[0-9]*|\\.[0-9]+) ?([KMGT]i?B|kB|[KMGT]i|B)?$",
        })
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }
}

impl JsonSchema for ComponentId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ComponentId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^[a-zA-Z][0-9a-zA-Z_]{0,62}(/\S+)?$"})
    }
}

impl JsonSchema for PipelineId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PipelineId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^(traces|metrics|logs)(/\S+)?$"})
    }
}

/// Anything at all: what it is decoded into, nobody here knows.
impl JsonSchema for Node {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Node".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl<T: JsonSchema> JsonSchema for Optional<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Optional_{}", T::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("Optional<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        let section = schema.ensure_object();
        if section.get("type").is_some_and(|kind| kind == "object") {
            let properties = section.entry("properties").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(properties) = properties {
                let enabled = json!({
                    "description": "`false`: as if the section were not there",
                    "type": "boolean",
                    "default": true,
                });
                properties.insert("enabled".to_owned(), enabled);
            }
        }
        schema
    }
}
