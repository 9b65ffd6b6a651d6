//! `include` and `exclude`: which spans, log records or metrics a processor is for.
//!
//! ```yaml
//! include:
//!   match_type: strict                 # or regexp: patterns that match anywhere unless they are anchored
//!   services: [checkout]               # spans: any of them is the resource's service.name
//!   span_names: [GET /health]          # spans: any of them
//!   span_kinds: [SPAN_KIND_SERVER]     # spans: any of them
//!   status_codes: [Error]              # spans: any of Unset, Ok, Error (not in the Collector)
//!   log_bodies: [timeout]              # log records: any of them; a body that is no text is matched as JSON
//!   log_severity_texts: [WARN]         # log records: any of them
//!   log_severity_number:               # log records: this SeverityNumber or a higher one
//!     min: 13
//!     match_undefined: false           # whether those without a severity match too
//!   metric_names: [http.duration]      # metrics: any of them
//!   attributes:                        # spans and log records: all of them; without a value, that the key is there
//!     - {key: env, value: prod}
//!   resources:                         # all of them
//!     - {key: host.type}
//!   projects: [web-app]                # any of them owns the data (not in the Collector, like the next)
//!   environments: [prd]                # any of them
//!   libraries:                         # spans and log records: any of them
//!     - {name: openai, version: 1.2.3} # without a version any, with an empty one only none
//! ```
//!
//! Everything that is given must hold. `exclude` is asked after `include`. With `strict`, values are equal if they are of
//! the same type and equal; with `regexp`, texts, booleans and numbers are matched as texts, without exponents. A property
//! that the records of a pipeline cannot have, or are not chosen by, is an error, as in the Collector. So a processor
//! that stands in pipelines of several signals can only ask for what they have in common.
//!
//! `projects` and `environments` are those of the data's owner, as its API key says, and no attribute can change them; a
//! record that nobody is known to own has neither.
//!
//! Decision: the Collector asks that *all* of `libraries` match, which two different ones never can, and looks at no
//! `resources` of metrics. Here any library does, and resources count, as its documentation has it.

mod config;
mod reader;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use regex::Regex;
use weir_pipeline::batch::view::{Resource, Scope, SpanFields, Value};
use weir_pipeline::batch::{LogRecord, Metric, Span};
use weir_pipeline::tenant::Tenant;

pub(crate) use self::config::RawProperties;
pub(crate) use self::reader::{RawAttribute, Reader, RegexpCache};
use crate::actions::ConfiguredValue;

/// The records of one signal that a processor is for.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) include: Option<Properties>,
    pub(crate) exclude: Option<Properties>,
}

/// The records of each signal that a processor is for.
#[derive(Debug, Default)]
pub(crate) struct Selections {
    pub(crate) spans: Selection,
    pub(crate) log_records: Selection,
    pub(crate) metrics: Selection,
}

impl Selection {
    /// Whether the processor is for this span.
    pub(crate) fn selects(&self, span: Span<'_>) -> bool {
        self.selects_by(|properties| properties.matches(span))
    }

    /// Whether the processor is for this log record.
    pub(crate) fn selects_log_record(&self, record: LogRecord<'_>) -> bool {
        self.selects_by(|properties| properties.matches_log_record(record))
    }

    /// Whether the processor is for this metric.
    pub(crate) fn selects_metric(&self, metric: Metric<'_>) -> bool {
        self.selects_by(|properties| properties.matches_metric(metric))
    }

    /// Whether a record is kept that has the properties which `matches` says; counts one that is not included.
    pub(crate) fn keeps(&self, matches: impl Fn(&Properties) -> bool, outside: &mut usize) -> bool {
        if self.include.as_ref().is_some_and(|include| !matches(include)) {
            *outside += 1;
            return false;
        }
        !self.exclude.as_ref().is_some_and(matches)
    }

    fn selects_by(&self, matches: impl Fn(&Properties) -> bool) -> bool {
        self.include.as_ref().is_none_or(&matches) && !self.exclude.as_ref().is_some_and(&matches)
    }

    /// Whether it is for all of them.
    pub(crate) fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// Properties that a record has or has not; a list that is empty asks for nothing.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) projects: Texts,
    pub(crate) environments: Texts,
    pub(crate) services: Texts,
    pub(crate) span_names: Texts,
    pub(crate) span_kinds: Texts,
    pub(crate) status_codes: Texts,
    pub(crate) log_bodies: Texts,
    pub(crate) log_severity_texts: Texts,
    pub(crate) log_severity_number: Option<LeastSeverity>,
    pub(crate) metric_names: Texts,
    pub(crate) attributes: Vec<AttributeTest>,
    pub(crate) resources: Vec<AttributeTest>,
    pub(crate) libraries: Vec<Library>,
}

/// A severity and all above it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeastSeverity {
    /// A `SeverityNumber`.
    pub(crate) min: i32,
    /// Whether records match of which no severity is known.
    pub(crate) match_undefined: bool,
}

/// Texts of which any must match.
#[derive(Debug, Default)]
pub(crate) struct Texts(Vec<Text>);

#[derive(Debug)]
enum Text {
    Equal(String),
    Matches(Regex),
}

/// That an attribute is there, or what it is.
#[derive(Debug)]
pub(crate) struct AttributeTest {
    key: String,
    value: ValueTest,
}

#[derive(Debug)]
enum ValueTest {
    Present,
    Equal(ConfiguredValue),
    Matches(Regex),
}

/// An instrumentation scope by name, and by version if that matters.
#[derive(Debug)]
pub(crate) struct Library {
    name: Text,
    version: Option<Text>,
}

/// What the Collector compares services with where there is no service.name.
const NO_SERVICE: &str = "<nil-service-name>";

impl Properties {
    /// Whether the span has all of them.
    pub(crate) fn matches(&self, span: Span<'_>) -> bool {
        self.match_owner(span.tenant())
            && self.match_fields(span)
            && self.match_origin(|| span.resource(), || span.scope())
            && self.attributes.iter().all(|test| test.matches(span.attr(&test.key)))
    }

    /// Whether the log record has all of them.
    pub(crate) fn matches_log_record(&self, record: LogRecord<'_>) -> bool {
        self.match_owner(record.tenant())
            && self.log_severity_number.is_none_or(|least| least.allows(record.severity_number()))
            && self.log_severity_texts.allow_text(|| record.severity_text().as_str().into())
            && self.log_bodies.allow_text(|| record.body().to_text())
            && self.match_origin(|| record.resource(), || record.scope())
            && self.attributes.iter().all(|test| test.matches(record.attr(&test.key)))
    }

    /// Whether the metric has all of them.
    pub(crate) fn matches_metric(&self, metric: Metric<'_>) -> bool {
        self.match_owner(metric.tenant())
            && self.metric_names.allow_text(|| metric.name().as_str().into())
            && self.match_origin(|| metric.resource(), || metric.scope())
    }

    fn match_owner(&self, tenant: Option<&Tenant>) -> bool {
        if self.projects.is_empty() && self.environments.is_empty() {
            return true;
        }
        tenant.is_some_and(|tenant| {
            self.projects.allow(tenant.project.as_str()) && self.environments.allow(tenant.environment.as_str())
        })
    }

    fn match_fields(&self, span: Span<'_>) -> bool {
        if self.span_names.is_empty() && self.span_kinds.is_empty() && self.status_codes.is_empty() {
            return true;
        }
        let fields: SpanFields<'_> = span.fields();
        self.span_names.allow(fields.name.as_str())
            && self.span_kinds.allow(kind_name(fields.kind))
            && self.status_codes.allow(status_name(fields.status_code))
    }

    fn match_origin<'a>(&self, resource: impl Fn() -> Resource<'a>, scope: impl Fn() -> Scope<'a>) -> bool {
        if !self.services.is_empty() || !self.resources.is_empty() {
            let resource = resource().attributes();
            let service = || resource.get("service.name").map_or(NO_SERVICE.into(), Value::to_text);
            if !self.services.allow_text(service)
                || !self.resources.iter().all(|test| test.matches(resource.get(&test.key)))
            {
                return false;
            }
        }
        if self.libraries.is_empty() {
            return true;
        }
        let (name, version) = (scope().name(), scope().version());
        self.libraries.iter().any(|library| {
            library.name.matches(name.as_str())
                && library.version.as_ref().is_none_or(|wanted| wanted.matches(version.as_str()))
        })
    }
}

impl LeastSeverity {
    fn allows(self, severity_number: i32) -> bool {
        if severity_number == 0 { self.match_undefined } else { severity_number >= self.min }
    }
}

impl Texts {
    /// Whether any of them matches, or there is none.
    fn allow(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted.matches(text))
    }

    /// The same for a text that is made only if it is looked at.
    fn allow_text<'t>(&self, text: impl FnOnce() -> Cow<'t, str>) -> bool {
        self.0.is_empty() || self.allow(&text())
    }

    /// Whether there is none, so that nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
                pattern.is_match(&value.to_plain_text())
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
