//! Conditions on spans, resources and requests: the part of the Collector's OTTL that routing needs.
//!
//! ```text
//! condition  = term { "or" term }            term = factor { "and" factor }
//! factor     = "not" factor | "(" condition ")" | comparison | match | "true" | "false"
//! comparison = operand ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) operand
//! match      = "IsMatch" "(" operand "," string ")"
//! operand    = path | string | integer | float | "true" | "false" | "nil"
//! ```
//!
//! | context | paths |
//! |---|---|
//! | `resource` | `attributes["k"]`, the same as `resource.attributes["k"]`, `project`, `environment` |
//! | `span` | `attributes["k"]` = `span.attributes["k"]`, `resource.attributes["k"]`, `project`, `environment`, `name`, `kind`, `status.code`, `status.message`, `instrumentation_scope.name`, `instrumentation_scope.version` |
//! | `request` | `request["x"]`: a header, whatever its case, or `auth.…` |
//!
//! Comparing follows OTTL: an attribute that is not there is `nil`, which only `nil` is equal to, and so neither less nor
//! more; integers and floats compare as numbers; values of different kinds are not equal. `kind` and `status.code` are compared with `SPAN_KIND_…`, `STATUS_CODE_…` or a number.
//! `project` and `environment` are those of the data's owner ([`crate::tenant`]), which no attribute can change; `nil`
//! where it is not known. A comparison with `request["x"]` holds if it holds for any of the header's values, and never if there is none.
//!
//! Nothing here can fail once it was read: a condition that OTTL could only judge while data flows is refused.

mod eval;
mod lexer;
mod parse;
#[cfg(test)]
mod tests;

use regex::Regex;

pub use self::eval::Subject;
use crate::config::{ConfigError, Node};

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A resource and all that belongs to it.
    Resource,
    /// One span.
    Span,
    /// What the client said beside the data.
    Request,
}

impl Context {
    /// The name in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Span => "span",
            Self::Request => "request",
        }
    }
}

/// A condition that was read. See the [module](self).
#[derive(Debug, Clone)]
pub struct Condition(Expression);

impl Condition {
    /// Reads the condition that a node of the configuration at `path` holds.
    ///
    /// # Errors
    /// Where the condition stops making sense, and what can be written there.
    pub fn parse(node: &Node, path: &str, context: Context) -> Result<Self, ConfigError> {
        Self::located(node, path, |text| parse::condition(text, context))
    }

    /// Reads the condition of a statement: `route()` or `route() where …`.
    ///
    /// # Errors
    /// If it is another statement, or for what [`Self::parse`] refuses.
    pub fn parse_statement(node: &Node, path: &str, context: Context) -> Result<Self, ConfigError> {
        Self::located(node, path, |text| parse::statement(text, context))
    }

    fn located(
        node: &Node,
        path: &str,
        parse: impl FnOnce(&str) -> Result<Expression, Fault>,
    ) -> Result<Self, ConfigError> {
        let text = node.text().ok_or_else(|| node.error(path, "expected a condition, which is a text"))?;
        parse(text).map(Self).map_err(|fault| {
            let place = text.get(..fault.offset).map_or(1, |before| before.chars().count() + 1);
            let error = node.error(path, format!("at character {place} of the condition: {}", fault.message));
            match fault.hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })
    }

    #[cfg(test)]
    fn parse_text(text: &str, context: Context) -> Result<Self, Fault> {
        parse::condition(text, context).map(Self)
    }
}

/// What is wrong in a condition, and where.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// In bytes.
    offset: usize,
    message: String,
    hint: Option<String>,
}

#[derive(Debug, Clone)]
enum Expression {
    Constant(bool),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Compare(Operand, Operator, Operand),
    Matches(Operand, Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Text(Box<str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Nil,
    Path(Path),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    /// An attribute of the span.
    Attribute(Box<str>),
    ResourceAttribute(Box<str>),
    Header(Box<str>),
    Project,
    Environment,
    Name,
    Kind,
    StatusCode,
    StatusMessage,
    ScopeName,
    ScopeVersion,
}
