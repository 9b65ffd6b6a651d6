//! Values that must not reach a log.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is printed in place of a secret; the Collector's `configopaque` prints the same.
pub(super) const REDACTED: &str = "[REDACTED]";

/// A value that prints as `[REDACTED]`, whichever way it is formatted or serialized, until it is asked for by name
/// with [`Secret::expose`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the place that sends or compares it. Do not format the result.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(REDACTED)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

// Only text is decoded: the errors of other types quote the value they could not take.
impl<'de> Deserialize<'de> for Secret<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn nothing_prints_it() {
        #[derive(Debug, serde::Serialize)]
        struct Auth {
            token: Secret,
        }
        let auth = Auth { token: Secret::new("hunter2".to_owned()) };
        assert_eq!(format!("{auth:?}"), "Auth { token: [REDACTED] }");
        assert_eq!(format!("{:#?}", auth.token), "[REDACTED]");
        assert_eq!(format!("{:>12}", auth.token), "  [REDACTED]");
        assert_eq!(serde_json::to_string(&auth).unwrap(), r#"{"token":"[REDACTED]"}"#);
        assert_eq!(auth.token.expose(), "hunter2");
    }
}
