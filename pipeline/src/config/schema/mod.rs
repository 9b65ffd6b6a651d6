//! What a configuration may contain, as JSON Schema: for editors, and to know which values are secrets.
//!
//! It is generated from the structs that configurations are decoded into. A component adds [`JsonSchema`] to what it
//! derives, exports a function, and names that in the registry:
//!
//! ```
//! use schemars::{JsonSchema, Schema, SchemaGenerator};
//! use weir_pipeline::config::{Optional, Secret, units::GoDuration};
//!
//! #[derive(serde::Deserialize, JsonSchema)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     /// How long to wait for an answer.
//!     timeout: GoDuration,
//!     token: Secret,
//!     tls: Optional<TlsConfig>,
//! }
//! # impl Default for Config {
//! #     fn default() -> Self {
//! #         Self { timeout: std::time::Duration::from_secs(5).into(), token: Secret::default(), tls: Optional(None) }
//! #     }
//! # }
//! # #[derive(Default, serde::Deserialize, JsonSchema)]
//! # #[serde(default, deny_unknown_fields)]
//! # struct TlsConfig {}
//!
//! pub fn schema(generator: &mut SchemaGenerator) -> Schema {
//!     generator.subschema_for::<Config>()
//! }
//! ```
//!
//! * What the doc comments say is shown by editors, and so are the defaults.
//! * A [`Duration`](std::time::Duration) is described as [`units`](super::units) read it.
//! * A [`Node`](super::Node) says nothing about itself: write `#[schemars(with = "Vec<Policy>")]` with what it is
//!   decoded into. What nothing describes is taken for a secret when a configuration is printed.
//! * A hand-written `Deserialize` needs a hand-written `JsonSchema` beside it.
//! * An `alias` of a field is read and not described; `#[schemars(with = …)]` and `extend` can do that.

mod lenient;
mod types;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::units::GoDuration;
pub(crate) use view::View;

/// Where a schema keeps what it refers to.
const DEFINITIONS: &str = "definitions";

/// A generator that all components of a configuration share.
///
/// Decision: draft 7, the newest that the YAML language server of the common editors reads completely.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().into_generator()
}

/// The schema of a whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSchema(Value);

impl ConfigSchema {
    /// A schema whose `root` refers to what the generator has seen.
    pub fn new(mut generator: SchemaGenerator, root: Schema) -> Self {
        let mut definitions = generator.take_definitions(true);
        // Durations are never decoded as serde would, into seconds and nanoseconds.
        if let Some(duration) = definitions.get_mut(&*Duration::schema_name()) {
            *duration = GoDuration::json_schema(&mut generator).to_value();
        }
        let mut root = root.to_value();
        if let Value::Object(root) = &mut root {
            root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
            root.insert(DEFINITIONS.to_owned(), Value::Object(definitions));
        }
        lenient::each(&mut root, &mut readable_default);
        Self(root)
    }

    /// The schema as an editor needs it: with everything that a configuration may have in place of a value, which is
    /// nothing at all, or a reference such as `${env:PORT}`.
    pub fn for_editors(&self) -> Value {
        let mut schema = self.0.clone();
        lenient::each(&mut schema, &mut lenient::relax);
        schema
    }

    /// The schema of the root.
    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.0)
    }
}

/// Defaults as one writes them: durations in Go's words; no secrets, which print as such, and no nothing.
fn readable_default(schema: &mut Map<String, Value>) {
    let Some(default) = schema.get_mut("default") else { return };
    let part = |default: &Value, key: &str| default.get(key).and_then(Value::as_u64);
    if let (Some(secs), Some(nanos)) = (part(default, "secs"), part(default, "nanos")) {
        let duration = Duration::from_secs(secs).saturating_add(Duration::from_nanos(nanos));
        *default = json!(GoDuration(duration).to_string());
    }
    let is_secret = schema.get("writeOnly") == Some(&Value::Bool(true));
    if is_secret || schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}
