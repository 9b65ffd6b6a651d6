//! Where the texts of a configuration come from: the values of `--config` and `--set`.
//!
//! | `--config`                       | is                                                                   |
//! |----------------------------------|----------------------------------------------------------------------|
//! | `weir.yaml`, `file:weir.yaml`    | a file                                                               |
//! | `env:NAME`                       | the text that an environment variable holds                          |
//! | `yaml:processors::batch::timeout: 2s` | the text itself; `::` in a key at its top opens a mapping       |
//!
//! `--set processors.batch.timeout=2s` is the same as the last line, and is laid over everything else. What such a
//! text holds may be a secret, so messages name it by its keys.
//!
//! A file may be a pipe, which is read to its end, as long as it is read once: see [`file`].

#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Location};
use super::expand::is_variable_name;
use super::merge::merge;
use super::node::{Key, Node, Value};
use super::source::MAX_DEPTH;
use crate::file::{self, Reading};

/// The largest configuration text, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// One text of a configuration.
#[derive(Clone)]
pub struct Source {
    name: String,
    text: String,
    /// The keys that lead to where the text belongs; none for a whole configuration.
    place: Vec<String>,
    /// Whether `::` in a key at the top opens a mapping.
    nests: bool,
}

impl Source {
    /// The schemes that a configuration can be retrieved by.
    pub const SCHEMES: [&'static str; 3] = ["env", "file", "yaml"];

    /// A text under a name for messages.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), place: Vec::new(), nests: false }
    }

    /// What a `--config` value stands for; `env` is how a variable is looked up.
    ///
    /// # Errors
    /// If there is no such file or variable, it cannot be read another time, or the scheme is not supported.
    pub fn retrieve(uri: &str, env: &dyn Fn(&str) -> Option<String>, reading: Reading) -> Result<Self, ConfigError> {
        match scheme(uri) {
            None => retrieve_file(uri, reading),
            Some(("file", path)) => retrieve_file(path, reading),
            Some(("env", variable)) => {
                let (name, default) = match variable.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (variable, None),
                };
                if !is_variable_name(name) {
                    return Err(ConfigError::anywhere(format!(
                        "environment variable {name:?} has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"
                    )));
                }
                let text = env(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
                    ConfigError::anywhere(format!("environment variable `{name}` is not set"))
                        .with_hint(format!("it should hold a configuration, as `--config env:{name}` says"))
                })?;
                Ok(Self::text(format!("env:{name}"), text))
            }
            Some(("yaml", text)) => {
                let key = text.split([' ', '\n', '{', '"', '\'']).next().unwrap_or_default();
                let key = key.strip_suffix(':').filter(|key| is_printable(key)).unwrap_or_default();
                let name = if key.is_empty() { "yaml".to_owned() } else { format!("yaml:{key}") };
                Ok(Self { nests: true, ..Self::text(name, text) })
            }
            Some((scheme @ ("http" | "https"), _)) => Err(ConfigError::anywhere(format!(
                "scheme {scheme:?} is not supported: a configuration is not fetched over the network"
            ))
            .with_hint("download it, look at it, and give the file")),
            Some((scheme, rest)) => {
                let shown = if is_printable(uri) { format!(" for uri {uri:?}") } else { String::new() };
                let hint = if rest.starts_with(':') {
                    "a configuration itself is written after `yaml:`"
                } else {
                    "supported schemes: env, file, yaml; a file whose name looks like that is `file:…`"
                };
                Err(ConfigError::anywhere(format!("scheme {scheme:?} is not supported{shown}")).with_hint(hint))
            }
        }
    }

    /// The file that a `--config` value names, if it names one.
    pub fn file(uri: &str) -> Option<PathBuf> {
        match scheme(uri) {
            None => Some(uri.into()),
            Some(("file", path)) => Some(path.into()),
            Some(_) => None,
        }
    }

    /// What a `--set` value stands for: `processors.batch.timeout=2s`. A name that contains a dot cannot be written.
    ///
    /// # Errors
    /// If there is no `=`, or a key is missing before it.
    pub fn set(assignment: &str) -> Result<Self, ConfigError> {
        let advice = "write it as `processors.batch.timeout=2s`";
        let Some((key, value)) = assignment.split_once('=') else {
            let what = if is_printable(assignment) { format!("--set {assignment}") } else { "--set".to_owned() };
            return Err(ConfigError::anywhere(format!("{what}: missing equal sign")).with_hint(advice));
        };
        let key = key.trim();
        let place: Vec<String> = key.replace('.', "::").split("::").map(str::to_owned).collect();
        if place.iter().any(String::is_empty) {
            return Err(ConfigError::anywhere(format!("--set {key}: a key is missing")).with_hint(advice));
        }
        if place.len() > MAX_DEPTH {
            return Err(ConfigError::anywhere(format!("--set: nested more than {MAX_DEPTH} levels deep")));
        }
        if value.len() as u64 > MAX_TEXT {
            return Err(ConfigError::anywhere(format!("--set {key}: larger than {MAX_TEXT} bytes")));
        }
        Ok(Self { place, ..Self::text(format!("--set {key}"), value) })
    }

    /// What the source is called in messages. Tells nothing of its values.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as a tree.
    pub(super) fn parse(&self) -> Result<Node, ConfigError> {
        let mut node = Node::parse(&self.name, &self.text)?;
        if self.nests {
            node = opened(node)?;
        }
        if self.place.len() + node.measure().1 > MAX_DEPTH {
            return Err(node.error("", format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let location = Location::start_of(&self.name);
        Ok(self.place.iter().rev().fold(node, |node, key| below(key, &location, node)))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// The scheme of a URI and the rest; as in the Collector, one letter is none.
fn scheme(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    is_scheme.then_some((scheme, rest))
}

/// Whether a text can only be keys, and so may be shown.
fn is_printable(key: &str) -> bool {
    key.len() <= 200 && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-' | '/'))
}

fn retrieve_file(path: &str, reading: Reading) -> Result<Source, ConfigError> {
    let text =
        read(path.as_ref(), reading).map_err(|error| ConfigError::anywhere(format!("cannot read {path}: {error}")))?;
    Ok(Source::text(path, text))
}

fn read(path: &Path, reading: Reading) -> io::Result<String> {
    let mut bytes = Vec::new();
    file::open(path, reading)?.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_TEXT >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// The tree with `a::b: c` at its top made `a: {b: c}`.
fn opened(node: Node) -> Result<Node, ConfigError> {
    if !node.entries().iter().any(|(key, _)| key.text.contains("::")) {
        return Ok(node);
    }
    let mut root = Node::new(Value::Map(Vec::new()), node.location().clone());
    for (key, value) in node.into_entries() {
        let parts: Vec<&str> = key.text.split("::").collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(ConfigError::new(&key.location, "", format!("a key is missing in `{}`", key.text)));
        }
        if parts.len() + value.measure().1 > MAX_DEPTH {
            return Err(ConfigError::new(&key.location, "", format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let nested = parts.iter().rev().fold(value, |value, part| below(part, &key.location, value));
        merge(&mut root, nested, &mut Vec::new());
    }
    Ok(root)
}

fn below(key: &str, location: &Location, node: Node) -> Node {
    let key = Key { text: key.to_owned(), location: location.clone() };
    Node::new(Value::Map(vec![(key, node)]), location.clone())
}
