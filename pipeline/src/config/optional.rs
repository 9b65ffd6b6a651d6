//! Sections that are off unless they are there.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Visitor};

/// The name by which the configuration's deserializer knows an [`Optional`].
pub(crate) const OPTIONAL: &str = "$weir::config::Optional";
/// The same for one without defaults; see [`without_defaults`].
pub(crate) const WITHOUT_DEFAULTS: &str = "$weir::config::Optional without defaults";

/// A section as the Collector's `configoptional` reads it, for a field with `#[serde(default)]`:
///
/// | written                         | means                                                     |
/// |---------------------------------|-----------------------------------------------------------|
/// | nothing                         | disabled                                                  |
/// | `grpc:`                         | enabled with the defaults of `T`                          |
/// | `grpc: {endpoint: x}`           | enabled                                                   |
/// | `grpc: {enabled: false, …}`     | disabled; the rest is still checked                       |
///
/// `T` has no `enabled` key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Optional<T>(pub Option<T>);

impl<T> Optional<T> {
    /// The section, if it is enabled.
    pub fn into_inner(self) -> Option<T> {
        self.0
    }
}

impl<T> Default for Optional<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<T> for Optional<T> {
    fn from(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Optional<T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Optional<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(OPTIONAL, OptionalVisitor(PhantomData)).map(Self)
    }
}

/// Reads an [`Optional`] that has no defaults, so that a section of which everything is commented out (`tls:`) stays off:
/// for `#[serde(default, deserialize_with = "…")]`.
///
/// # Errors
/// As the section itself.
pub fn without_defaults<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Optional<T>, D::Error> {
    deserializer.deserialize_newtype_struct(WITHOUT_DEFAULTS, OptionalVisitor(PhantomData)).map(Optional)
}

struct OptionalVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionalVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::deserialize(deserializer).map(Some)
    }

    /// How the deserializer hands over a section of nothing that has no defaults.
    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    /// How the deserializer hands over a section with `enabled: false`: to be checked and forgotten.
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::deserialize(deserializer).map(|_| None)
    }
}
