//! `weir schema`: the configuration of this build as JSON Schema.
//!
//! Editors that know the YAML language server complete keys and show what they mean, if the file begins with
//! `# yaml-language-server: $schema=weir.schema.json`.

use std::process::ExitCode;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use weir_pipeline::config::ComponentId;
use weir_pipeline::config::schema::{ConfigSchema, generator};
use weir_pipeline::graph::{Component, Components};
use weir_pipeline::signal::Signal;

use super::answer;
use crate::components;

pub(super) fn print_schema() -> anyhow::Result<ExitCode> {
    answer(&format!("{}\n", serde_json::to_string_pretty(&schema().for_editors())?))
}

/// The schema of a whole configuration.
pub(super) fn schema() -> ConfigSchema {
    let mut generator = generator();
    let g = &mut generator;
    let Components { receivers, processors, exporters, extensions, connectors, missing: _ } = components::all();
    let root = json_schema!({
        "title": format!("Configuration of weir {}", env!("CARGO_PKG_VERSION")),
        "type": "object",
        "properties": {
            "receivers": section(g, "Where telemetry comes in", &receivers),
            "processors": section(g, "What is done to it on the way", &processors),
            "exporters": section(g, "Where it goes", &exporters),
            "connectors": section(g, "What joins pipelines: an exporter of one and a receiver of the next", &connectors),
            "extensions": section(g, "What runs beside the pipelines", &extensions),
            "service": service(g),
        },
        "additionalProperties": false,
    });
    ConfigSchema::new(generator, root)
}

/// A mapping from `type` or `type/name` to the configuration of that type.
fn section<T>(generator: &mut SchemaGenerator, description: &str, types: &[Component<T>]) -> Value {
    let (mut plain, mut named) = (Map::new(), Map::new());
    for component in types {
        let schema = (component.schema)(generator).to_value();
        for name in std::iter::once(&component.name).chain(component.aliases) {
            // Once more without a pattern: that is what editors complete.
            plain.insert((*name).to_owned(), schema.clone());
            named.insert(format!("^{name}/"), schema.clone());
        }
    }
    mapping(description, &plain, &named)
}

fn mapping(description: &str, plain: &Map<String, Value>, named: &Map<String, Value>) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": plain,
        "patternProperties": named,
        "additionalProperties": false,
    })
}

fn service(generator: &mut SchemaGenerator) -> Value {
    let mut ids = |description: &str| {
        let mut schema: Schema = generator.subschema_for::<Vec<ComponentId>>();
        schema.insert("description".to_owned(), json!(description));
        schema.to_value()
    };
    let pipeline = json!({
        "type": "object",
        "properties": {
            "receivers": ids("What feeds the pipeline: receivers, and connectors that another pipeline exports to"),
            "processors": ids("What the telemetry passes through, in this order"),
            "exporters": ids("What the pipeline feeds: exporters, and connectors that another pipeline receives from"),
        },
        "required": ["receivers", "exporters"],
        "additionalProperties": false,
    });
    let extensions = ids("The extensions to start, in this order");
    let plain: Map<String, Value> = Signal::ALL.iter().map(|signal| (signal.to_string(), pipeline.clone())).collect();
    let named: Map<String, Value> =
        Signal::ALL.iter().map(|signal| (format!("^{signal}/"), pipeline.clone())).collect();
    let telemetry = crate::telemetry::schema(generator).to_value();
    json!({
        "description": "What is started, and how it is connected",
        "type": "object",
        "properties": {
            "extensions": extensions,
            "pipelines": mapping("What flows where: `traces`, `metrics`, `logs`, or one of these and `/name`", &plain, &named),
            "telemetry": telemetry,
        },
        "required": ["pipelines"],
        "additionalProperties": false,
    })
}
