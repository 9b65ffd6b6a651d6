//! Where in the configuration something is, and what is wrong there.

use std::fmt;
use std::sync::Arc;

use super::Node;

/// A place in a configuration source. Lines and columns count from 1, columns in characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The name of the source: a file path as the user gave it, or what stands for one (`--set`).
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Location {
    /// The beginning of a source.
    pub fn start_of(file: &str) -> Self {
        Self { file: file.into(), line: 1, column: 1 }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something wrong in the configuration. Displayed on one line, as `file:line:column: path: message: hint`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it is, when it is somewhere.
    pub location: Option<Location>,
    /// The keys that lead there, joined with `::` as the Collector does; empty at the top.
    pub path: String,
    /// What is wrong. Values that came from the environment or a file are named by their reference, not quoted.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ConfigError {
    /// An error at a place.
    pub fn new(location: &Location, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location: Some(location.clone()), path: path.into(), message: message.into(), hint: None }
    }

    /// An error that is nowhere in a configuration.
    pub(crate) fn anywhere(message: impl Into<String>) -> Self {
        Self { location: None, path: String::new(), message: message.into(), hint: None }
    }

    /// The same error with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, ": {hint}")?;
        }
        Ok(())
    }
}

/// Everything wrong in a configuration, in the order of the document; one error per line when displayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// Something the user should know that does not stop the configuration from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it is.
    pub location: Location,
    /// The keys that lead there.
    pub path: String,
    /// What it is.
    pub message: String,
}

impl Warning {
    /// Says in the log that a setting, which stands at `path`, has nothing that it could change, and why.
    pub fn of_moot(setting: &Node, path: &str, why: &str) {
        let location = setting.location().clone();
        let warning = Self { location, path: path.to_owned(), message: format!("has no effect: {why}") };
        tracing::warn!("{warning}");
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.location, self.path, self.message)
    }
}
