//! YAML text into [`Node`]s.
//!
//! YAML as configurations use it: one document beside empty ones, text keys, anchors, aliases and merge keys (`<<`).
//! What YAML allows and nobody means (a second document, mappings as keys, private tags) is an error. The size and
//! depth of the tree are bounded, and so is the memory for what aliases repeat, so that a few of them cannot grow it
//! without end.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::error::{ConfigError, Location};
use super::node::{Key, Node, Scalar, Style, Value};
use super::scalar::{self, Typed};

/// How deep mappings and lists may be nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// How many values a document may have once its aliases are replaced.
const MAX_NODES: usize = 100_000;

/// Most bytes for copies of what is written once: what aliases repeat and anchors keep for them, or, in a whole
/// configuration, what takes the place of references.
pub(crate) const MAX_COPIED: usize = 64 << 20;

/// Parses one YAML document; an empty one is null.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, ConfigError> {
    Builder::new(text, Place::In(file.into())).document()
}

/// Parses a text that takes the place of a reference: everything in it is located at the reference.
pub(crate) fn parse_at(location: &Location, text: &str) -> Result<Node, ConfigError> {
    Builder::new(text, Place::At(location.clone())).document()
}

enum Place {
    In(Arc<str>),
    At(Location),
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    place: Place,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Bytes of copies.
    copied: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, place: Place) -> Self {
        Self { text, parser: Parser::new_from_str(text), place, anchors: HashMap::new(), nodes: 0, copied: 0 }
    }

    fn document(mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => {
                    let start = Marker::new(0, 1, 0);
                    return Ok(root.unwrap_or_else(|| Node::new(Value::Null, self.location(start))));
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    // What a generator leaves behind: a file that begins or ends with `---`. (The Collector reads the
                    // first document and never sees what comes after it.)
                    let is_empty = matches!(&event, Event::Scalar(text, ..) if text.is_empty());
                    if root.as_ref().is_none_or(Node::is_null) {
                        root = Some(self.node(event, place, None, 1)?);
                    } else if !is_empty {
                        return Err(self.error(span.start, "a second YAML document starts here").with_hint(
                            "give each document its own file; several files are merged in the order given",
                        ));
                    }
                }
                _ => {}
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'t>,
        span: Span,
        key: Option<&Location>,
        depth: usize,
    ) -> Result<Node, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(self.error(span.start, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.count(1, span)?;
        // Below its key, a collection is located at the key: that is the line a reader looks for.
        let location = match (self.location(span.start), key) {
            (own, Some(key)) if own.line > key.line => key.clone(),
            (own, _) => own,
        };
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let written_empty = text.is_empty() && style == ScalarStyle::Plain;
                let style = self.style(style, tag.as_deref(), span)?;
                let location = match key {
                    Some(key) if written_empty => key.clone(),
                    _ => self.location(span.start),
                };
                let value = if style == Style::Plain && scalar::resolve(&text) == Typed::Null {
                    Value::Null
                } else {
                    Value::Scalar(Scalar { text: text.into_owned(), style })
                };
                (anchor, Node::new(value, location))
            }
            Event::SequenceStart(anchor, tag) => {
                self.style(ScalarStyle::Plain, tag.as_deref(), span)?;
                (anchor, Node::new(Value::List(self.list(depth)?), location))
            }
            Event::MappingStart(anchor, tag) => {
                self.style(ScalarStyle::Plain, tag.as_deref(), span)?;
                (anchor, Node::new(Value::Map(self.map(depth)?), location))
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err(self.error(span.start, "the alias is inside the value it stands for"));
                };
                let ((nodes, height), weight) = (node.measure(), node.weight());
                if depth + height > MAX_DEPTH + 1 {
                    return Err(self.error(span.start, format!("nested more than {MAX_DEPTH} levels deep by aliases")));
                }
                let node = node.clone();
                self.count(nodes, span)?;
                self.copy(weight, span)?;
                (0, node)
            }
            _ => return Err(self.error(span.start, "expected a value")),
        };
        if anchor > 0 {
            self.copy(node.weight(), span)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, None, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, ConfigError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, Location> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let (text, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(self.error(span.start, "a key must be a text, not a mapping, a list or an alias")),
            };
            let location = self.location(span.start);
            if text.is_empty() && plain {
                return Err(self.error(span.start, "a key is missing before the `:`"));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, Some(&location), depth + 1)?;
            if text == "<<" && plain {
                match value.value() {
                    Value::Map(_) => merged.push(value),
                    Value::List(items) if items.iter().all(|item| matches!(item.value(), Value::Map(_))) => {
                        merged.extend(items.iter().cloned());
                    }
                    _ => return Err(self.error(value_span.start, "`<<` merges mappings: give it an alias of one")),
                }
                continue;
            }
            if let Some(first) = seen.insert(text.clone(), location.clone()) {
                return Err(self
                    .error(span.start, format!("mapping key `{text}` already defined at {first}"))
                    .with_hint("remove one of the two"));
            }
            entries.push((Key { text, location }, value));
        }
        // What is written here wins over what is merged in, and the first merged over the next.
        for source in merged {
            for (key, value) in source.entries() {
                if seen.insert(key.text.clone(), key.location.clone()).is_none() {
                    entries.push((key.clone(), value.clone()));
                }
            }
        }
        Ok(entries)
    }

    /// What a tag says about the style: `!!str` makes a text of anything, the other core tags say what is plain to see.
    fn style(&self, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Style, ConfigError> {
        let written = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
        match tag {
            None => Ok(written),
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => Ok(Style::Quoted),
                "null" | "bool" | "int" | "float" | "map" | "seq" => Ok(written),
                other => Err(self.error(span.start, format!("tag `!!{other}` is not supported"))),
            },
            Some(tag) => Err(self.error(span.start, format!("tag `{}{}` is not supported", tag.handle, tag.suffix))),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), ConfigError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.error(span.start, format!("more than {MAX_NODES} values once aliases are replaced")));
        }
        Ok(())
    }

    fn copy(&mut self, bytes: usize, span: Span) -> Result<(), ConfigError> {
        self.copied = self.copied.saturating_add(bytes);
        if self.copied > MAX_COPIED {
            let limit = MAX_COPIED >> 20;
            return Err(self.error(span.start, format!("more than {limit} MiB once aliases are replaced")));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), ConfigError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn location(&self, mark: Marker) -> Location {
        let from_one = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        match &self.place {
            Place::In(file) => {
                Location { file: file.clone(), line: from_one(mark.line()), column: from_one(mark.col() + 1) }
            }
            Place::At(location) => location.clone(),
        }
    }

    fn error(&self, mark: Marker, message: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.location(mark), "", message)
    }

    /// The parser's words, and advice for the mistakes that people make.
    fn syntax_error(&self, error: &ScanError) -> ConfigError {
        let info = error.info();
        let (mark, last) = (*error.marker(), self.text.lines().last().unwrap_or_default());
        let lines = self.text.lines().count();
        let at_end = mark.line() > lines || mark.line() == lines && mark.col() >= last.trim_end().chars().count();
        // The end of the text is after its last line; nobody has a line there to look at.
        let mark = if mark.line() > lines { Marker::new(0, lines, last.chars().count()) } else { mark };
        let line = self.text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
        let indentation = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
        let hint = if indentation.contains('\t') || info.contains("tab") {
            "YAML is indented with spaces: replace the tab"
        } else if line.contains("${") && info.contains("flow") {
            "inside `[]` and `{}`, quote a value with `${…}`"
        } else if at_end && (info.contains("flow") || info.contains("expected node content")) {
            "the text ends here, and a bracket is not closed"
        } else if info.contains("mapping values are not allowed") {
            "check the indentation, and quote a value that contains `: `"
        } else if info.contains("unknown anchor") {
            "define it before with `&name`"
        } else if info.contains("end of stream") {
            "a quote is not closed"
        } else if info.contains("',' or '}'") || info.contains("',' or ']'") || info.contains("flow construct") {
            "a bracket is not closed, or a comma is missing"
        } else if info.contains("escape") {
            "in double quotes `\\` starts an escape: double it, or use single quotes"
        } else if info.contains("cannot start any token") || info.contains("unexpected character") {
            "quote the value"
        } else if info.contains("expected key") || info.contains("simple key") || info.contains("indentation") {
            "check the indentation, and that each line is `key: value`"
        } else {
            "check the YAML around this line"
        };
        self.error(mark, format!("invalid YAML: {info}")).with_hint(hint)
    }
}
