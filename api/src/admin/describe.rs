//! Operations with their descriptions: what is routed is what is described.
//!
//! Decision: the OpenAPI document (3.1) is put together here from the schemas that `schemars` derives, as those of the
//! configuration are. The crates that derive whole documents turn on features of crates beneath DataFusion, for the sake
//! of a few dozen lines.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::service::Shared;

type Describe = fn(&mut SchemaGenerator) -> Schema;

/// Something that can be asked for.
pub(super) struct Operation {
    method: &'static str,
    path: &'static str,
    handler: MethodRouter<Arc<Shared>>,
    tag: &'static str,
    summary: &'static str,
    query: Option<Describe>,
    body: Option<Describe>,
    answer: (StatusCode, Option<Describe>),
    problems: Vec<(StatusCode, &'static str)>,
}

impl Operation {
    pub(super) fn get<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Self {
        Self::new("get", path, routing::get(handler))
    }

    pub(super) fn post<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Self {
        Self::new("post", path, routing::post(handler))
    }

    pub(super) fn put<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Self {
        Self::new("put", path, routing::put(handler))
    }

    pub(super) fn patch<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Self {
        Self::new("patch", path, routing::patch(handler))
    }

    pub(super) fn delete<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Shared>>) -> Self {
        Self::new("delete", path, routing::delete(handler))
    }

    fn new(method: &'static str, path: &'static str, handler: MethodRouter<Arc<Shared>>) -> Self {
        let mut problems = vec![
            (StatusCode::BAD_REQUEST, "It cannot be read"),
            (StatusCode::UNAUTHORIZED, "The admin key is missing or wrong"),
            (StatusCode::SERVICE_UNAVAILABLE, "The store cannot be used now"),
        ];
        if path.contains('{') {
            problems.push((StatusCode::NOT_FOUND, "There is no such thing"));
        }
        let answer = (StatusCode::NO_CONTENT, None);
        Self { method, path, handler, tag: "", summary: "", query: None, body: None, answer, problems }
    }

    /// What it is about, and what it does.
    pub(super) fn about(self, tag: &'static str, summary: &'static str) -> Self {
        Self { tag, summary, ..self }
    }

    /// The query string that it reads.
    pub(super) fn asks<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    /// The body that it reads.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// The body of a good answer.
    pub(super) fn answers<T: JsonSchema>(self, status: StatusCode) -> Self {
        Self { answer: (status, Some(SchemaGenerator::subschema_for::<T>)), ..self }
    }

    /// A good answer has no body.
    pub(super) fn done(self) -> Self {
        Self { answer: (StatusCode::NO_CONTENT, None), ..self }
    }

    /// A reason for which it is not done.
    pub(super) fn refuses(mut self, status: StatusCode, why: &'static str) -> Self {
        self.problems.push((status, why));
        self
    }

    /// It makes something of a name.
    pub(super) fn names(self) -> Self {
        self.refuses(StatusCode::CONFLICT, "The slug is taken")
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "The name is none")
    }

    /// It reads or deletes data, for which there is not always room.
    pub(super) fn needs_room(self) -> Self {
        self.refuses(StatusCode::TOO_MANY_REQUESTS, "Too many read or delete data at once")
    }

    /// The name that generated clients call it by.
    fn id(&self) -> String {
        let words = self.path.trim_start_matches("/v2/").split('/');
        let words: Vec<&str> = words.map(|word| word.trim_matches(['{', '}'])).collect();
        format!("{}_{}", self.method, words.join("_"))
    }
}

/// The router of these operations, and the OpenAPI document about them.
pub(super) fn route(operations: impl IntoIterator<Item = Operation>) -> (Router<Arc<Shared>>, Value) {
    let place = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
    let mut read = SchemaSettings::draft2020_12().with(place).for_deserialize().into_generator();
    let mut written = SchemaSettings::draft2020_12().with(place).for_serialize().into_generator();
    let problem = written.subschema_for::<Problem>().to_value();
    let mut router = Router::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(&operation, &problem, &mut read, &mut written);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
        router = router.route(operation.path, operation.handler);
    }
    let mut schemas = written.take_definitions(true);
    schemas.extend(read.take_definitions(true));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Projects, environments, keys and retention. Errors are problem details (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "projects", "description": "Isolation boundaries: a query of one project sees no span of another"},
            {"name": "environments", "description": "Deployment stages, of all projects or of one"},
            {"name": "keys", "description": "What applications send spans with; a key decides project and environment"},
            {"name": "retention", "description": "How long spans are kept"},
        ],
        "security": [{"admin_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"admin_key": {"type": "http", "scheme": "bearer"}},
        },
    });
    (router, document)
}

fn describe(
    operation: &Operation,
    problem: &Value,
    read: &mut SchemaGenerator,
    written: &mut SchemaGenerator,
) -> Value {
    let parts = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = |name: &str| {
        let description = if name == "id" { "The key's id".to_owned() } else { format!("The {name}'s slug") };
        json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}})
    };
    let mut parameters: Vec<Value> = parts.map(in_path).collect();
    if let Some(query) = operation.query {
        let schema = query(read).to_value();
        let properties = schema["properties"].as_object().into_iter().flatten();
        // What may be left out is not `null` in a query string.
        parameters.extend(properties.map(|(name, schema)| {
            json!({"name": name, "in": "query", "description": schema["description"], "schema": {"type": "string"}})
        }));
    }
    let mut responses = Map::new();
    let (status, body) = operation.answer;
    let reason = |status: StatusCode| status.canonical_reason().unwrap_or_default();
    let mut answer = json!({"description": reason(status)});
    if let Some(body) = body {
        answer["content"] = json!({"application/json": {"schema": body(written).to_value()}});
    }
    responses.insert(status.as_str().to_owned(), answer);
    for (status, why) in &operation.problems {
        let content = json!({"application/problem+json": {"schema": problem}});
        responses.insert(status.as_str().to_owned(), json!({"description": why, "content": content}));
    }
    let mut described = json!({
        "operationId": operation.id(),
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = operation.body {
        let content = json!({"application/json": {"schema": body(read).to_value()}});
        described["requestBody"] = json!({"required": true, "content": content});
    }
    described
}
