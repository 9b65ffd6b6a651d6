//! Headers of requests: those that are configured, and those that an authenticator decides on for each request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use weir_pipeline::config::{ConfigError, Node, Secret};
use weir_pipeline::extension::{Extensions, HeaderEdit, OutgoingHeaders};
use weir_pipeline::metadata::{Metadata, Reads};

use crate::queue::Failure;
use crate::queue::config::error_at;

/// `headers`: a mapping, or a list of `name` and `value`.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Checks names and values. Errors name a header, never its value.
    pub(super) fn validate(&self, node: &Node, path: &str) -> Result<HeaderMap, ConfigError> {
        let mut map = HeaderMap::new();
        for (at, (name, value)) in self.0.iter().enumerate() {
            if self.0.iter().take(at).any(|(other, _)| other == name) {
                return Err(error_at(node, path, &["headers"], format!("name {name:?} twice")));
            }
            let checked = checked_name(name).and_then(|header| Ok((header, checked_value(value.expose())?)));
            let (header, value) = checked.map_err(|message| error_at(node, path, &["headers", name], message))?;
            map.insert(header, value);
        }
        Ok(map)
    }
}

/// Headers that describe the request, which is not the user's to do.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn checked_name(name: &str) -> Result<HeaderName, &'static str> {
    let header = HeaderName::try_from(name).map_err(|_| "is not a name that a header can have")?;
    if RESERVED.contains(&header.as_str()) {
        return Err("cannot be set: the exporter sets it");
    }
    Ok(header)
}

fn checked_value(value: &str) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| "has a value that a header cannot have, such as one with a line break")?;
    // Kept out of HPACK's table and out of debug output.
    value.set_sensitive(true);
    Ok(value)
}

impl JsonSchema for Headers {
    fn schema_name() -> Cow<'static, str> {
        "Headers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<BTreeMap<String, Secret>>();
        let list = generator.subschema_for::<Vec<Header>>();
        json_schema!({"anyOf": [map, list]})
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Secret,
}

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of headers")
    }

    fn visit_unit<E>(self) -> Result<Headers, E> {
        Ok(Headers::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(entry) = map.next_entry()? {
            headers.push(entry);
        }
        Ok(Headers(headers))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(Header { name, value }) = list.next_element()? {
            headers.push((name, value));
        }
        Ok(Headers(headers))
    }
}

/// `auth`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthConfig {
    #[schemars(with = "String")]
    authenticator: Node,
}

impl AuthConfig {
    /// Finds the extension.
    pub(super) fn validate(&self, extensions: &Extensions, path: &str) -> Result<Auth, ConfigError> {
        let path = format!("{path}::auth::authenticator");
        extensions.outgoing_headers(&self.authenticator, &path).map(Auth)
    }
}

/// An extension that knows further headers of each request.
#[derive(Clone)]
pub(super) struct Auth(pub(super) Arc<dyn OutgoingHeaders>);

impl Auth {
    /// The changes to the headers of a request that carries data of a client who said `metadata`.
    ///
    /// # Errors
    /// Transient while the extension does not have what it needs; permanent if it is about what the client said, or if
    /// what the extension says is no header: neither ever changes.
    pub(super) fn edits(&self, metadata: Option<&Metadata>) -> Result<Vec<Edit>, Failure> {
        let edits = match self.0.edits(metadata) {
            // With nobody's data it works, and with these still not.
            Err(_) if metadata.is_some() && self.0.edits(None).is_ok() => {
                self.0.edits(metadata).map_err(|e| Failure::Permanent(format!("no headers can be made: {e}")))?
            }
            edits => edits.map_err(|e| Failure::transient(format!("no credentials: {e}")))?,
        };
        edits.iter().map(|edit| Edit::checked(edit).map_err(Failure::Permanent)).collect()
    }
}

impl Auth {
    /// What of what clients said is read of an exporter with this `auth`, if it has any.
    pub(super) fn reads(auth: Option<&Self>) -> Reads {
        auth.map_or_else(Reads::default, |auth| auth.0.reads())
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

/// A [`HeaderEdit`] whose name and value can be sent.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Insert(HeaderName, HeaderValue),
    Update(HeaderName, HeaderValue),
    Upsert(HeaderName, HeaderValue),
    Delete(HeaderName),
}

impl Edit {
    fn checked(edit: &HeaderEdit) -> Result<Self, String> {
        let (HeaderEdit::Insert(name, _)
        | HeaderEdit::Update(name, _)
        | HeaderEdit::Upsert(name, _)
        | HeaderEdit::Delete(name)) = edit;
        let failed = |message: &str| format!("the header {name:?} of the authenticator {message}");
        let header = checked_name(name).map_err(failed)?;
        let value = |value: &str| checked_value(value).map_err(failed);
        Ok(match edit {
            HeaderEdit::Insert(_, text) => Self::Insert(header, value(text)?),
            HeaderEdit::Update(_, text) => Self::Update(header, value(text)?),
            HeaderEdit::Upsert(_, text) => Self::Upsert(header, value(text)?),
            HeaderEdit::Delete(_) => Self::Delete(header),
        })
    }

    /// Changes `headers`.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Insert(name, value) => drop(headers.entry(name).or_insert_with(|| value.clone())),
            Self::Update(name, value) if headers.contains_key(name) => drop(headers.insert(name, value.clone())),
            Self::Update(..) => {}
            Self::Upsert(name, value) => drop(headers.insert(name, value.clone())),
            Self::Delete(name) => drop(headers.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(edit: &HeaderEdit) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert("there", HeaderValue::from_static("old"));
        Edit::checked(edit)?.apply(&mut headers);
        let mut pairs: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        pairs.sort();
        Ok(pairs.join(" "))
    }

    #[test]
    fn edits_do_what_their_names_say() {
        let of = |name: &str| (name.to_owned(), Box::from("new"));
        type Make = fn(String, Box<str>) -> HeaderEdit;
        let cases: [(Make, &str, &str); 3] = [
            (HeaderEdit::Insert, "new=new there=old", "there=old"),
            (HeaderEdit::Update, "there=old", "there=new"),
            (HeaderEdit::Upsert, "new=new there=old", "there=new"),
        ];
        for (make, absent, present) in cases {
            let ((a, b), (c, d)) = (of("New"), of("There"));
            assert_eq!(edit(&make(a, b)), Ok(absent.to_owned()));
            assert_eq!(edit(&make(c, d)), Ok(present.to_owned()));
        }
        assert_eq!(edit(&HeaderEdit::Delete("THERE".to_owned())), Ok(String::new()));
    }

    #[test]
    fn what_cannot_be_sent_is_named_without_its_value() {
        let error = edit(&HeaderEdit::Upsert("x-tenant".to_owned(), "se\ncret".into())).unwrap_err();
        assert!(error.contains("x-tenant") && !error.contains("cret\""), "{error}");
        assert!(edit(&HeaderEdit::Delete("content-type".to_owned())).is_err());
    }
}
