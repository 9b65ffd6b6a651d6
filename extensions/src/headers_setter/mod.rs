//! `headers_setter`: headers of outgoing requests, decided by what the client said whose data they carry.
//!
//! ```yaml
//! extensions:
//!   headers_setter:
//!     headers:
//!       - {key: X-Scope-OrgID, action: insert, from_context: x-tenant, default_value: nobody}
//!       - {key: X-User, from_attribute: username}     # of who proved to be whom (`basicauth`)
//!       - {key: X-Team, value: llm}
//!       - {key: X-Debug, action: delete}
//! exporters:
//!   otlp_http: {endpoint: https://backend.example, auth: {authenticator: headers_setter}}
//! ```
//!
//! `insert` adds a header unless it is there, `update` changes it if it is there, `upsert` (the default) does both,
//! `delete` takes it away. `from_context` reads a header of the client's request, which the receiver keeps with
//! `include_metadata: true`, and `auth.NAME` an attribute of the authenticated client. An exporter with a queue on disk
//! (`sending_queue::storage`) has there what the rules read, and no other header.
//!
//! A header without a value is not set: the client said nothing and there is no `default_value`. Where the client sent
//! one several times nobody can say which is meant: the request is not sent, as in the Collector.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use weir_pipeline::config::ConfigError;
use weir_pipeline::extension::{Extension, HeaderEdit, OutgoingHeaders};
use weir_pipeline::graph::Section;
use weir_pipeline::metadata::{Metadata, Reads};

pub use self::config::Settings;
pub use self::config::schema;
use self::config::{Action, Rule, Source};

/// Builds the extension from its configuration.
///
/// # Errors
/// If the settings are wrong.
pub fn build(section: &Section<'_>) -> Result<Arc<dyn Extension>, ConfigError> {
    Ok(Arc::new(HeadersSetter { settings: Settings::parse(section.node, section.path)? }))
}

struct HeadersSetter {
    settings: Settings,
}

#[async_trait]
impl Extension for HeadersSetter {
    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        Some(self)
    }
}

impl OutgoingHeaders for HeadersSetter {
    fn edits(&self, metadata: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        let mut edits = Vec::with_capacity(self.settings.rules.len());
        for Rule { key, action, source } in &self.settings.rules {
            let value = || value(source, metadata);
            edits.extend(match action {
                Action::Delete => Some(HeaderEdit::Delete(key.clone())),
                Action::Insert => value()?.map(|value| HeaderEdit::Insert(key.clone(), value)),
                Action::Update => value()?.map(|value| HeaderEdit::Update(key.clone(), value)),
                Action::Upsert => value()?.map(|value| HeaderEdit::Upsert(key.clone(), value)),
            });
        }
        Ok(edits)
    }

    fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        for rule in &self.settings.rules {
            match &rule.source {
                Source::Value(_) => {}
                Source::Header { name, .. } => reads.headers.push(name.to_ascii_lowercase()),
                Source::Attribute { name, .. } => reads.attributes.push(name.clone()),
            }
        }
        reads
    }
}

fn value(source: &Source, metadata: Option<&Metadata>) -> Result<Option<Box<str>>, String> {
    let (found, default) = match source {
        Source::Value(value) => return Ok(Some(value.clone())),
        Source::Header { name, default } => {
            let mut values = metadata.into_iter().flat_map(|metadata| metadata.values(name));
            let first = values.next();
            if values.next().is_some() {
                return Err(format!(
                    "the client sent the header {name} more than once: it is not clear which is meant"
                ));
            }
            (first, default)
        }
        Source::Attribute { name, default } => (metadata.and_then(|metadata| metadata.identity()?.get(name)), default),
    };
    let value = found.or(default.as_deref());
    // A client's header was one, but an attribute may come from anywhere.
    match value {
        Some(value) if HeaderValue::from_str(value).is_err() => {
            Err("a value has characters that a header cannot carry".to_owned())
        }
        value => Ok(value.map(Box::from)),
    }
}
