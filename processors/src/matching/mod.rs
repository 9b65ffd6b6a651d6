//! `include` and `exclude`: which spans a processor is for.
//!
//! ```yaml
//! include:
//!   match_type: strict                 # or regexp: patterns that match anywhere unless they are anchored
//!   services: [checkout]               # any of them is the resource's service.name
//!   span_names: [GET /health]          # any of them
//!   span_kinds: [SPAN_KIND_SERVER]     # any of them
//!   status_codes: [Error]              # any of Unset, Ok, Error (not in the Collector)
//!   attributes:                        # all of them; without a value, that the key is there
//!     - {key: env, value: prod}
//!   resources:                         # all of them
//!     - {key: host.type}
//!   projects: [web-app]                # any of them owns the span (not in the Collector, like the next)
//!   environments: [prd]                # any of them
//!   libraries:                         # any of them
//!     - {name: openai, version: 1.2.3} # without a version any, with an empty one only none
//! ```
//!
//! Everything that is given must hold. `exclude` is asked after `include`. With `strict`, values are equal if they are of
//! the same type and equal; with `regexp`, texts, booleans and numbers are matched as texts.
//!
//! `projects` and `environments` are those of the data's owner, as its API key says, and no attribute can change them; a span
//! that nobody is known to own has neither.
//!
//! Decision: the Collector asks that *all* of `libraries` match, which two different ones never can. Here any of them
//! does, as its documentation has it.

mod config;
#[cfg(test)]
mod tests;

pub(crate) use self::config::RawProperties;
use regex::Regex;
use weir_pipeline::batch::Span;
use weir_pipeline::batch::view::{Attributes, SpanFields, Value};

use crate::actions::ConfiguredValue;

/// The spans that a processor is for.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) include: Option<Properties>,
    pub(crate) exclude: Option<Properties>,
}

impl Selection {
    /// Whether the processor is for this span.
    pub(crate) fn selects(&self, span: Span<'_>) -> bool {
        self.include.as_ref().is_none_or(|include| include.matches(span))
            && self.exclude.as_ref().is_none_or(|exclude| !exclude.matches(span))
    }

    /// Whether it is for all spans.
    pub(crate) fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// Properties that a span has or has not; a list that is empty asks for nothing.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    projects: Texts,
    environments: Texts,
    services: Texts,
    span_names: Texts,
    span_kinds: Texts,
    status_codes: Texts,
    attributes: Vec<AttributeTest>,
    resources: Vec<AttributeTest>,
    libraries: Vec<Library>,
}

/// Texts of which any must match.
#[derive(Debug, Default)]
struct Texts(Vec<Text>);

#[derive(Debug)]
enum Text {
    Equal(String),
    Matches(Regex),
}

#[derive(Debug)]
struct AttributeTest {
    key: String,
    value: ValueTest,
}

#[derive(Debug)]
enum ValueTest {
    Present,
    Equal(ConfiguredValue),
    Matches(Regex),
}

#[derive(Debug)]
struct Library {
    name: Text,
    version: Option<Text>,
}

/// What the Collector compares services with where there is no service.name.
const NO_SERVICE: &str = "<nil-service-name>";

impl Properties {
    /// Whether the span has all of them.
    pub(crate) fn matches(&self, span: Span<'_>) -> bool {
        self.match_owner(span)
            && self.match_fields(span)
            && self.match_origin(span)
            && self.attributes.iter().all(|test| test.matches(span.attr(&test.key)))
    }

    fn match_owner(&self, span: Span<'_>) -> bool {
        if self.projects.0.is_empty() && self.environments.0.is_empty() {
            return true;
        }
        span.tenant().is_some_and(|tenant| {
            self.projects.allow(tenant.project.as_str()) && self.environments.allow(tenant.environment.as_str())
        })
    }

    fn match_fields(&self, span: Span<'_>) -> bool {
        if self.span_names.0.is_empty() && self.span_kinds.0.is_empty() && self.status_codes.0.is_empty() {
            return true;
        }
        let fields: SpanFields<'_> = span.fields();
        self.span_names.allow(fields.name.as_str())
            && self.span_kinds.allow(kind_name(fields.kind))
            && self.status_codes.allow(status_name(fields.status_code))
    }

    fn match_origin(&self, span: Span<'_>) -> bool {
        if !self.services.0.is_empty() || !self.resources.is_empty() {
            let resource: Attributes<'_> = span.resource_attributes();
            let service = || resource.get("service.name").map_or(NO_SERVICE.into(), Value::to_text);
            if !self.services.0.is_empty() && !self.services.allow(&service())
                || !self.resources.iter().all(|test| test.matches(resource.get(&test.key)))
            {
                return false;
            }
        }
        if self.libraries.is_empty() {
            return true;
        }
        let (name, version) = (span.scope().name(), span.scope().version());
        self.libraries.iter().any(|library| {
            library.name.matches(name.as_str())
                && library.version.as_ref().is_none_or(|wanted| wanted.matches(version.as_str()))
        })
    }
}

impl Texts {
    /// Whether any of them matches, or there is none.
    fn allow(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted.matches(text))
    }
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Equal(wanted) => wanted == text,
            Self::Matches(pattern) => pattern.is_match(text),
        }
    }
}

impl AttributeTest {
    fn matches(&self, value: Option<Value<'_>>) -> bool {
        let Some(value) = value else { return false };
        match (&self.value, value) {
            (ValueTest::Present, _) => true,
            (ValueTest::Equal(wanted), value) => wanted.view().is_same(value),
            (ValueTest::Matches(pattern), Value::Str(text)) => pattern.is_match(text.as_str()),
            (ValueTest::Matches(pattern), Value::Bool(_) | Value::Int(_) | Value::Double(_)) => {
                pattern.is_match(&value.to_text())
            }
            (ValueTest::Matches(_), _) => false,
        }
    }
}

/// The kinds of spans by their numbers.
const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

/// The status codes by their numbers, as the `span` processor writes them too.
pub(crate) const STATUS_CODES: [&str; 3] = ["Unset", "Ok", "Error"];

fn kind_name(kind: i32) -> &'static str {
    usize::try_from(kind).ok().and_then(|n| KINDS.get(n)).copied().unwrap_or("")
}

fn status_name(code: i32) -> &'static str {
    usize::try_from(code).ok().and_then(|n| STATUS_CODES.get(n)).copied().unwrap_or("")
}
