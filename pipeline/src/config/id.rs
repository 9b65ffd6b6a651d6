//! Names of components and pipelines: `type[/name]` and `signal[/name]`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::signal::Signal;

use super::suggest;

/// The name of a configured component, `type[/name]`, as the user wrote it: an alias of a type stays an alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    /// The type: which component this is (`otlp`). A letter, then up to 62 letters, digits and underscores.
    pub kind: String,
    /// What tells it from others of its type. 1 to 1024 bytes without spaces, control characters and symbols.
    pub name: Option<String>,
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, &self.kind, self.name.as_deref())
    }
}

impl FromStr for ComponentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (kind, name) = split(text)?;
        if !is_type(kind) {
            return Err(invalid(format!("in {text:?} id: invalid character(s) in type {kind:?}"))
                .with_hint("a type is a letter followed by up to 62 letters, digits and underscores"));
        }
        Ok(Self { kind: kind.to_owned(), name: name.map(str::to_owned) })
    }
}

impl<'de> Deserialize<'de> for ComponentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ComponentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a pipeline, `signal[/name]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    /// What flows through the pipeline.
    pub signal: Signal,
    /// What tells it from others of its signal.
    pub name: Option<String>,
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, self.signal.as_str(), self.name.as_deref())
    }
}

impl FromStr for PipelineId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (signal, name) = split(text)?;
        let names = Signal::ALL.map(Signal::as_str);
        match Signal::ALL.into_iter().find(|known| known.as_str() == signal) {
            Some(signal) => Ok(Self { signal, name: name.map(str::to_owned) }),
            None if signal == "profiles" => {
                Err(invalid(format!("in {text:?} id: the profiles signal is not supported"))
                    .with_hint(format!("supported signals: {}", names.join(", "))))
            }
            None => Err(InvalidId {
                message: format!("in {text:?} id: unknown signal {signal:?}"),
                hint: suggest::hint(signal, "signals", &names),
            }),
        }
    }
}

impl<'de> Deserialize<'de> for PipelineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for PipelineId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that names no component or pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidId {
    /// What is wrong, in the Collector's words.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl InvalidId {
    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn invalid(message: String) -> InvalidId {
    InvalidId { message, hint: None }
}

/// The two parts of an id, the second one checked.
fn split(text: &str) -> Result<(&str, Option<&str>), InvalidId> {
    let Some((kind, name)) = text.split_once('/') else {
        return if text.is_empty() { Err(invalid("id must not be empty".into())) } else { Ok((text, None)) };
    };
    if kind.is_empty() {
        return Err(invalid(format!("in {text:?} id: the part before / should not be empty")));
    }
    if name.is_empty() {
        return Err(invalid(format!("in {text:?} id: the part after / should not be empty")));
    }
    if name.len() > 1024 {
        return Err(invalid(format!("name of {} bytes is longer than 1024 characters", name.len())));
    }
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[^\pZ\pC\pS]+$").expect("the Collector's pattern, a constant, is valid"));
    if !NAME.is_match(name) {
        return Err(invalid(format!("in {text:?} id: invalid character(s) in name {name:?}"))
            .with_hint("a name has no spaces, control characters or symbols"));
    }
    Ok((kind, Some(name)))
}

/// `^[a-zA-Z][0-9a-zA-Z_]{0,62}$`
fn is_type(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn display(f: &mut fmt::Formatter<'_>, kind: &str, name: Option<&str>) -> fmt::Result {
    match name {
        Some(name) => write!(f, "{kind}/{name}"),
        None => f.write_str(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_ids_round_trip() {
        for text in ["otlp", "otlp/1", "Otlp_http/eu-west.1", "a/b/c", "otlp/é", "x/日本", "memory_limiter/!"] {
            assert_eq!(text.parse::<ComponentId>().unwrap().to_string(), text);
        }
        assert_eq!("otlp/a".parse(), Ok(ComponentId { kind: "otlp".into(), name: Some("a".into()) }));
    }

    #[test]
    fn wrong_component_ids_are_named() {
        let long_type = format!("a{}", "b".repeat(63));
        for (text, message) in [
            ("", "id must not be empty".to_owned()),
            ("/a", r#"in "/a" id: the part before / should not be empty"#.to_owned()),
            ("otlp/", r#"in "otlp/" id: the part after / should not be empty"#.to_owned()),
            ("1otlp", r#"in "1otlp" id: invalid character(s) in type "1otlp""#.to_owned()),
            ("otlp-http", r#"in "otlp-http" id: invalid character(s) in type "otlp-http""#.to_owned()),
            ("otlp/a b", r#"in "otlp/a b" id: invalid character(s) in name "a b""#.to_owned()),
            ("otlp/a+b", r#"in "otlp/a+b" id: invalid character(s) in name "a+b""#.to_owned()),
            ("otlp/\u{7f}", r#"in "otlp/\u{7f}" id: invalid character(s) in name "\u{7f}""#.to_owned()),
            (&long_type, format!("in {long_type:?} id: invalid character(s) in type {long_type:?}")),
            (&format!("a/{}", "b".repeat(1025)), "name of 1025 bytes is longer than 1024 characters".to_owned()),
        ] {
            assert_eq!(text.parse::<ComponentId>().unwrap_err().message, message);
        }
        assert!(format!("a{}", "b".repeat(62)).parse::<ComponentId>().is_ok());
    }

    #[test]
    fn pipeline_ids() {
        assert_eq!("traces".parse(), Ok(PipelineId { signal: Signal::Traces, name: None }));
        assert_eq!("logs/in".parse(), Ok(PipelineId { signal: Signal::Logs, name: Some("in".into()) }));
        let error = "trace/a".parse::<PipelineId>().unwrap_err();
        assert_eq!(error.message, r#"in "trace/a" id: unknown signal "trace""#);
        assert_eq!(error.hint.as_deref(), Some("did you mean `traces`? signals: traces, metrics, logs"));
        let error = "profiles".parse::<PipelineId>().unwrap_err();
        assert_eq!(error.message, r#"in "profiles" id: the profiles signal is not supported"#);
    }
}
