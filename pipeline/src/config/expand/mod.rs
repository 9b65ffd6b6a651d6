//! `${env:NAME}` and its relatives.
//!
//! | written                                | becomes                                                             |
//! |----------------------------------------|---------------------------------------------------------------------|
//! | `${env:NAME}`, `${NAME}`               | the variable; if it is not set, nothing, and a warning              |
//! | `${env:NAME:-text}`, `${NAME:-text}`   | the variable; if it is not set, the text, which may hold references |
//! | `${file:path}`                         | the content of a file, without its final newline                    |
//! | `${yaml:text}`                         | the text                                                            |
//! | `$$`                                   | `$`                                                                 |
//!
//! A value that is one reference and nothing else is read as YAML, so that a port becomes a number and `[a, b]` a list;
//! a text field still gets the text as it was. A reference inside a longer text makes a text. What a variable or file
//! holds is taken as it is, except that `${…}` in it is expanded in turn; at most 100 references go into one value, and
//! what takes their places in a whole configuration has a limit too. Keys are not expanded.

#[cfg(test)]
mod tests;

use std::io::Read;

use super::error::{ConfigError, Location, Warning};
use super::node::{Node, Scalar, Style, Value};
use super::scalar::{self, Typed};
use super::source::{self, MAX_COPIED, MAX_DEPTH};
use crate::file::{self, Reading};

/// How many references may go into one value, those inside variables included; the Collector's limit.
const MAX_REFERENCES: u32 = 100;

/// The largest file that `${file:…}` reads, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Replaces every reference in the tree. Values with an error stay as they were.
pub(crate) fn expand(
    root: &mut Node,
    env: &dyn Fn(&str) -> Option<String>,
    reading: Reading,
) -> (Vec<Warning>, Vec<ConfigError>) {
    let mut expander = Expander {
        env,
        reading,
        path: String::new(),
        location: root.location().clone(),
        references: 0,
        copied: 0,
        warnings: Vec::new(),
        errors: Vec::new(),
    };
    expander.tree(root, 1);
    (expander.warnings, expander.errors)
}

struct Expander<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    reading: Reading,
    /// The value at hand: where it is, and how many references went into it so far.
    path: String,
    location: Location,
    references: u32,
    /// Bytes that references have brought so far, in all values.
    copied: usize,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

/// Who wrote a text decides what a `$` in it means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The author of the configuration, who writes `$$` for `$`.
    Configuration,
    /// A variable or file, often a password, which knows nothing of our escapes.
    ///
    /// Decision: without a `${` in it, it is used byte for byte. The Collector halves `$$` here too.
    Outside,
}

impl Origin {
    fn has_references(self, text: &str) -> bool {
        text.contains(if self == Self::Configuration { "$" } else { "${" })
    }
}

impl Expander<'_> {
    fn tree(&mut self, node: &mut Node, depth: usize) {
        if self.copied > MAX_COPIED {
            // Said already, and the rest would be read for nothing.
            return;
        }
        let parent = self.path.len();
        match node.value_mut() {
            Value::Null => {}
            Value::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{i}]"));
                    self.tree(item, depth + 1);
                    self.path.truncate(parent);
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    if parent > 0 {
                        self.path.push_str("::");
                    }
                    self.path.push_str(&key.text);
                    self.tree(value, depth + 1);
                    self.path.truncate(parent);
                }
            }
            Value::Scalar(_) => {
                self.location = node.location().clone();
                self.references = 0;
                match self.value(node, Origin::Configuration, depth) {
                    Ok(()) => {}
                    Err(error) => self.errors.push(error),
                }
            }
        }
    }

    /// Expands one value and what came out of its references.
    fn value(&mut self, node: &mut Node, origin: Origin, depth: usize) -> Result<(), ConfigError> {
        match node.value_mut() {
            Value::Null => Ok(()),
            Value::List(items) => items.iter_mut().try_for_each(|item| self.value(item, origin, depth + 1)),
            Value::Map(entries) => entries.iter_mut().try_for_each(|(_, item)| self.value(item, origin, depth + 1)),
            Value::Scalar(scalar) if !origin.has_references(&scalar.text) => Ok(()),
            Value::Scalar(scalar) => {
                let written = scalar.text.clone();
                let style = scalar.style;
                let mut expanded = match whole_reference(&written) {
                    Some(body) => self.whole(body, depth)?,
                    None => {
                        let before = self.references;
                        let text = self.inline(&written)?;
                        let style = if self.references > before { Style::Quoted } else { style };
                        Node::new(Value::Scalar(Scalar { text, style }), node.location().clone())
                    }
                };
                if self.references > 0 {
                    mark(&mut expanded, &written);
                }
                *node = expanded;
                Ok(())
            }
        }
    }

    /// The value of a reference that stands alone, typed as YAML.
    fn whole(&mut self, body: &str, depth: usize) -> Result<Node, ConfigError> {
        let (text, origin) = self.reference(body)?;
        let mut node = typed(&self.location, &text);
        self.copy(node.weight())?;
        let collection = matches!(node.value(), Value::List(_) | Value::Map(_));
        if !origin.has_references(&text) {
            self.check_depth(&node, depth)?;
            node.set_expansion("", Some(text));
            return Ok(node);
        }
        if collection {
            // The target may yet be a text field, so the text is expanded beside the collection, without a second
            // round of warnings. Where that fails, there is no such text.
            let (warnings, references) = (self.warnings.len(), self.references);
            let text = self.inline(&text).ok();
            self.warnings.truncate(warnings);
            self.references = references;
            self.check_depth(&node, depth)?;
            self.value(&mut node, origin, depth)?;
            node.set_expansion("", text);
        } else {
            node = Node::new(Value::Scalar(Scalar { text, style: Style::Plain }), self.location.clone());
            self.value(&mut node, origin, depth)?;
        }
        Ok(node)
    }

    /// A text with its references replaced by texts, and `$$` by `$`.
    fn inline(&mut self, text: &str) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(open) = after.strip_prefix('{') {
                let Some((body, after)) = closing_brace(open) else {
                    return Err(self
                        .error("`${` without its `}`")
                        .with_hint("close the reference, or write `$${` for the characters themselves"));
                };
                let (value, origin) = self.reference(body)?;
                self.copy(value.len())?;
                if origin.has_references(&value) {
                    out.push_str(&self.inline(&value)?);
                } else {
                    out.push_str(&value);
                }
                rest = after;
            } else {
                // `$NAME` is no reference, in the Collector neither.
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What the inside of `${…}` refers to.
    fn reference(&mut self, body: &str) -> Result<(String, Origin), ConfigError> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(self
                .error(format!("more than {MAX_REFERENCES} references go into this value"))
                .with_hint("does a variable refer to itself?"));
        }
        let (scheme, rest) = match split_outside(body, ":") {
            None => ("env", body),
            // `${NAME:-default}`: the scheme may be left out.
            Some((name, rest)) if rest.starts_with('-') && !matches!(name, "env" | "file" | "yaml") => ("env", body),
            Some(parts) => parts,
        };
        match scheme {
            "env" => {
                let (name, default) = match split_outside(rest, ":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (rest, None),
                };
                self.variable(name, default)
            }
            "file" => self.file(rest),
            "yaml" => Ok((rest.to_owned(), Origin::Configuration)),
            _ => Err(self
                .error(format!("scheme {scheme:?} is not supported for uri {body:?}"))
                .with_hint("supported schemes: env, file, yaml; write `$${` for the characters themselves")),
        }
    }

    fn variable(&mut self, name: &str, default: Option<&str>) -> Result<(String, Origin), ConfigError> {
        let nested;
        let name = if name.contains("${") {
            nested = self.inline(name)?;
            &nested
        } else {
            name
        };
        if !is_variable_name(name) {
            return Err(self.error(format!(
                "environment variable {name:?} has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"
            )));
        }
        // Decision: a variable that is set but empty keeps its empty text, as in the Collector; a shell's `:-` would not.
        match ((self.env)(name), default) {
            (Some(value), _) => Ok((value, Origin::Outside)),
            (None, Some(default)) => Ok((default.to_owned(), Origin::Configuration)),
            (None, None) => {
                self.warnings.push(Warning {
                    location: self.location.clone(),
                    path: self.path.clone(),
                    message: format!("configuration references unset environment variable `{name}`"),
                });
                Ok((String::new(), Origin::Outside))
            }
        }
    }

    fn file(&mut self, path: &str) -> Result<(String, Origin), ConfigError> {
        let nested;
        let path = if path.contains("${") {
            nested = self.inline(path)?;
            &nested
        } else {
            path
        };
        let mut bytes = Vec::new();
        let opened = file::open(path.as_ref(), self.reading);
        let read = opened.and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Err(self.error(format!("cannot read file `{path}`: {error}")));
        }
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.error(format!("file `{path}` is larger than {MAX_FILE} bytes")));
        }
        let Ok(mut text) = String::from_utf8(bytes) else {
            return Err(self.error(format!("file `{path}` is not UTF-8 text")));
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok((text, Origin::Outside))
    }

    fn copy(&mut self, bytes: usize) -> Result<(), ConfigError> {
        self.copied = self.copied.saturating_add(bytes);
        if self.copied > MAX_COPIED {
            return Err(self.error(format!("more than {} MiB once references are replaced", MAX_COPIED >> 20)));
        }
        Ok(())
    }

    fn check_depth(&self, node: &Node, depth: usize) -> Result<(), ConfigError> {
        if depth + node.measure().1 > MAX_DEPTH + 1 {
            return Err(self.error(format!("nested more than {MAX_DEPTH} levels deep by a reference")));
        }
        Ok(())
    }

    fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.location, self.path.clone(), message)
    }
}

/// `^[a-zA-Z_][a-zA-Z0-9_]*$`
pub(super) fn is_variable_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// Reads a text as YAML; what YAML takes for a text, or cannot read, stays as it is.
fn typed(location: &Location, text: &str) -> Node {
    let verbatim = |style| Node::new(Value::Scalar(Scalar { text: text.to_owned(), style }), location.clone());
    match source::parse_at(location, text) {
        Ok(node) => match node.value() {
            Value::Scalar(scalar) if scalar.style == Style::Quoted => verbatim(Style::Quoted),
            Value::Scalar(scalar) if scalar::resolve(&scalar.text) == Typed::Text => verbatim(Style::Plain),
            _ => node,
        },
        Err(_) => verbatim(Style::Quoted),
    }
}

/// Notes on every value that it stands for `written`. The outermost reference is marked last and names them all.
fn mark(node: &mut Node, written: &str) {
    match node.value_mut() {
        Value::Null | Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| mark(item, written)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, item)| mark(item, written)),
    }
    node.set_expansion(written, None);
}

/// The inside of a text that is one reference and nothing else.
fn whole_reference(text: &str) -> Option<&str> {
    closing_brace(text.strip_prefix("${")?).filter(|(_, after)| after.is_empty()).map(|(body, _)| body)
}

/// Splits a text that follows `${` at the brace that closes it.
fn closing_brace(text: &str) -> Option<(&str, &str)> {
    split_outside(text, "}")
}

/// Splits at the first `separator` that is outside inner references.
fn split_outside<'t>(text: &'t str, separator: &str) -> Option<(&'t str, &'t str)> {
    let mut depth = 0_usize;
    for (i, c) in text.char_indices() {
        let (head, tail) = text.split_at(i);
        if depth == 0
            && let Some(after) = tail.strip_prefix(separator)
        {
            return Some((head, after));
        }
        if tail.starts_with("${") {
            depth += 1;
        } else if c == '}' {
            depth = depth.saturating_sub(1);
        }
    }
    None
}
