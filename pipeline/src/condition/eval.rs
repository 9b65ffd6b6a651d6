//! Whether a condition holds.

use std::cmp::Ordering;

use super::{Condition, Expression, Operand, Operator, Path};
use crate::batch::Span;
use crate::batch::view::{Resource, Value};
use crate::hex::Hex;
use crate::metadata::Metadata;
use crate::tenant::Tenant;

/// What a condition is asked about; of the kind that it was read for.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A resource, and whose it is if that is known.
    Resource(Resource<'a>, Option<&'a Tenant>),
    /// A span with its resource and scope.
    Span(Span<'a>),
    /// What the client said, if that is known.
    Request(Option<&'a Metadata>),
}

impl Condition {
    /// Whether the condition holds for this subject.
    pub fn holds(&self, subject: Subject<'_>) -> bool {
        self.0.holds(subject)
    }
}

impl Expression {
    fn holds(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::Not(inner) => !inner.holds(subject),
            Self::And(all) => all.iter().all(|e| e.holds(subject)),
            Self::Or(any) => any.iter().any(|e| e.holds(subject)),
            Self::Compare(left, operator, right) => match (header(left), header(right)) {
                (Some(name), _) => {
                    values(subject, name).any(|v| holds(Value::Str(v.into()), *operator, right.value(subject)))
                }
                (_, Some(name)) => {
                    values(subject, name).any(|v| holds(left.value(subject), *operator, Value::Str(v.into())))
                }
                _ => holds(left.value(subject), *operator, right.value(subject)),
            },
            Self::Matches(target, regex) => match header(target) {
                Some(name) => values(subject, name).any(|value| regex.is_match(value)),
                None => match target.value(subject) {
                    Value::Empty => false,
                    // OTTL makes a text of bytes in another way than the processors do.
                    Value::Bytes(bytes) => regex.is_match(&Hex(bytes).to_string()),
                    value => regex.is_match(&value.to_text()),
                },
            },
        }
    }
}

fn header(operand: &Operand) -> Option<&str> {
    if let Operand::Path(Path::Header(name)) = operand { Some(name) } else { None }
}

/// The values of a header, or the one of an authenticated sender's attribute.
fn values<'a>(subject: Subject<'a>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let metadata = if let Subject::Request(metadata) = subject { metadata } else { None };
    let identity = name.starts_with("auth.").then(|| metadata?.lookup(name)).flatten();
    metadata.into_iter().flat_map(move |m| m.values(name)).chain(identity)
}

impl Operand {
    /// `nil` is an empty value, as in OTTL.
    fn value<'a>(&'a self, subject: Subject<'a>) -> Value<'a> {
        match self {
            Self::Text(text) => Value::Str((&**text).into()),
            Self::Int(int) => Value::Int(*int),
            Self::Double(double) => Value::Double(*double),
            Self::Bool(value) => Value::Bool(*value),
            Self::Nil => Value::Empty,
            Self::Path(path) => path.value(subject).unwrap_or(Value::Empty),
        }
    }
}

impl Path {
    fn value<'a>(&'a self, subject: Subject<'a>) -> Option<Value<'a>> {
        let span = match subject {
            Subject::Span(span) => span,
            Subject::Resource(resource, tenant) => {
                return match self {
                    Self::ResourceAttribute(key) => resource.attributes().get(key),
                    Self::Project => tenant.map(Tenant::project_value),
                    Self::Environment => tenant.map(Tenant::environment_value),
                    _ => None,
                };
            }
            Subject::Request(_) => return None,
        };
        Some(match self {
            Self::Attribute(key) => return span.attr(key),
            Self::ResourceAttribute(key) => return span.resource_attributes().get(key),
            Self::Header(_) => return None,
            Self::Project => return span.tenant().map(Tenant::project_value),
            Self::Environment => return span.tenant().map(Tenant::environment_value),
            Self::Name => Value::Str(span.fields().name),
            Self::Kind => Value::Int(span.fields().kind.into()),
            Self::StatusCode => Value::Int(span.fields().status_code.into()),
            Self::StatusMessage => Value::Str(span.fields().status_message),
            Self::ScopeName => Value::Str(span.scope().name()),
            Self::ScopeVersion => Value::Str(span.scope().version()),
        })
    }
}

impl Tenant {
    fn project_value(&self) -> Value<'_> {
        Value::Str(self.project.as_str().into())
    }

    fn environment_value(&self) -> Value<'_> {
        Value::Str(self.environment.as_str().into())
    }
}

fn holds(left: Value<'_>, operator: Operator, right: Value<'_>) -> bool {
    let order = match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
        (Value::Int(a), Value::Double(b)) => (a as f64).partial_cmp(&b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(b as f64)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(&b),
        (Value::Str(a), Value::Str(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
        // `nil` is all that `nil` is compared with: neither less nor more, as in OTTL.
        (Value::Empty, Value::Empty) => Some(Ordering::Equal),
        // Others are equal or not, and neither is the larger one.
        (a, b) if a.is_same(b) && matches!(operator, Operator::Equal | Operator::NotEqual) => Some(Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::NotEqual => order != Some(Ordering::Equal),
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessOrEqual => order.is_some_and(Ordering::is_le),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}
