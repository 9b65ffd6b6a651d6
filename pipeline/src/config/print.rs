//! A configuration for people and programs to read: merged, expanded, and with its secrets left out or not.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::node::{Node, Style, Value};
use super::scalar::{self, Typed};
use super::schema::{ConfigSchema, View};
use super::secret::REDACTED;

/// Whether secrets are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// As `[REDACTED]`: what the schema calls a secret, what it does not describe, and passwords and the values of a
    /// query in URLs.
    Redacted,
    /// As they are.
    Exposed,
}

/// Something to print, as YAML with [`to_yaml`](Self::to_yaml) or as JSON with serde; the order of keys is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// A configuration as its components receive it. `schema` tells texts from what only looks like a number, and
    /// which values are secrets.
    pub fn of_config(root: &Node, schema: &ConfigSchema, secrets: Secrets) -> Self {
        tree(root, &schema.view(), secrets)
    }

    /// YAML, in block style and with a newline at the end.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Map(entries) if !entries.is_empty() => write_map(entries, 0, false, &mut out),
            Self::List(items) if !items.is_empty() => write_list(items, 0, &mut out),
            single => {
                write_inline(single, &mut out);
                out.push('\n');
            }
        }
        out
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_u64(value),
                (_, Ok(value)) => serializer.serialize_i64(value),
                _ => serializer.collect_str(value),
            },
            Self::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Self::Float(value) => serializer.serialize_str(&float(*value)),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

fn tree(node: &Node, schema: &View<'_>, secrets: Secrets) -> Tree {
    let is_hidden = secrets == Secrets::Redacted && (schema.is_secret() || !schema.is_described());
    match (node.value(), node.text()) {
        (Value::Null, None) => Tree::Null,
        // With a text, even a mapping may be one secret: `Basic: abc` from a variable.
        (_, Some(_)) if is_hidden => REDACTED.into(),
        (_, Some(text)) if schema.is_text() => shown(text, secrets),
        (Value::Null, _) => Tree::Null,
        (Value::Scalar(scalar), _) if scalar.style == Style::Quoted => shown(&scalar.text, secrets),
        (Value::Scalar(scalar), _) => match scalar::resolve(&scalar.text) {
            Typed::Null => Tree::Null,
            Typed::Bool(value) => Tree::Bool(value),
            Typed::Int(value) => Tree::Int(value),
            Typed::Float(value) => Tree::Float(value),
            Typed::Text => shown(&scalar.text, secrets),
        },
        (Value::List(items), _) => {
            let schema = schema.item();
            Tree::List(items.iter().map(|item| tree(item, &schema, secrets)).collect())
        }
        (Value::Map(entries), _) => {
            let entry =
                |(key, value): &(super::Key, Node)| (key.text.clone(), tree(value, &schema.key(&key.text), secrets));
            Tree::Map(entries.iter().map(entry).collect())
        }
    }
}

fn shown(text: &str, secrets: Secrets) -> Tree {
    match secrets {
        Secrets::Redacted => Tree::Text(without_credentials(text)),
        Secrets::Exposed => text.into(),
    }
}

/// A text with what may be a secret in a URL left out: `https://user:[REDACTED]@host/path?key=[REDACTED]`.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let mut out = format!("{scheme}://");
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => out.extend([user, ":", REDACTED, "@", host]),
        None => out.push_str(authority),
    }
    let (tail, fragment) = tail.split_at(tail.find('#').unwrap_or(tail.len()));
    let (path, query) = tail.split_at(tail.find('?').unwrap_or(tail.len()));
    out.push_str(path);
    for parameter in query.split_inclusive('&') {
        match parameter.split_once('=') {
            Some((name, value)) if !matches!(value, "" | "&") => {
                out.extend([name, "=", REDACTED]);
                out.extend(value.ends_with('&').then_some('&'));
            }
            _ => out.push_str(parameter),
        }
    }
    out.push_str(fragment);
    out
}

fn write_map(entries: &[(String, Tree)], indent: usize, mut inline: bool, out: &mut String) {
    for (key, value) in entries {
        // The first key of a mapping in a list stands behind the dash.
        if !std::mem::take(&mut inline) {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        write_text(key, out);
        out.push(':');
        match value {
            Tree::Null => out.push('\n'),
            Tree::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                write_map(entries, indent + 2, false, out);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                write_list(items, indent + 2, out);
            }
            single => {
                out.push(' ');
                write_inline(single, out);
                out.push('\n');
            }
        }
    }
}

fn write_list(items: &[Tree], indent: usize, out: &mut String) {
    for item in items {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push('-');
        match item {
            Tree::Map(entries) if !entries.is_empty() => {
                out.push(' ');
                write_map(entries, indent + 2, true, out);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                write_list(items, indent + 2, out);
            }
            single => {
                out.push(' ');
                write_inline(single, out);
                out.push('\n');
            }
        }
    }
}

fn write_inline(value: &Tree, out: &mut String) {
    match value {
        Tree::Null => out.push_str("null"),
        Tree::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Tree::Int(value) => out.push_str(&value.to_string()),
        Tree::Float(value) => out.push_str(&float(*value)),
        Tree::Text(text) => write_text(text, out),
        Tree::List(_) => out.push_str("[]"),
        Tree::Map(_) => out.push_str("{}"),
    }
}

fn float(value: f64) -> String {
    if value.is_nan() {
        ".nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { ".inf".to_owned() } else { "-.inf".to_owned() }
    } else {
        format!("{value:?}")
    }
}

/// A text so that YAML reads it as that text: plain where nothing else could be meant, else in double quotes.
fn write_text(text: &str, out: &mut String) {
    let is_plain_char = |c: char| c.is_alphanumeric() || "_-./:+=@%~^*()<>|;,$ ".contains(c);
    let is_plain = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '$' | '+' | '^'))
        && text.chars().all(is_plain_char)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !text.starts_with("...")
        && text.len() < 200
        && !is_yaml_11(text)
        && scalar::resolve(text) == Typed::Text;
    if is_plain {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Line breaks to some, and invisible to all.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether an older reader of YAML would take a text for something else.
fn is_yaml_11(text: &str) -> bool {
    let word = ["y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    // A time of day, a date, a number with `_`; a version or an address has more dots.
    let is_numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'_' | b':' | b'.' | b'-' | b'+' | b'e' | b'E');
    let number = text.bytes().all(is_numeric) && text.matches('.').count() < 2;
    word || number || scalar::has_leading_zero(text)
}
