//! Names that the Collector takes in any case: `Detailed`, `INFO`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};

/// The name by which the configuration's deserializer knows such a field.
pub(crate) const ANY_CASE: &str = "$weir::config::any_case";

/// Reads a name of lower case that may be written otherwise: for `#[serde(deserialize_with = "…")]`.
///
/// # Errors
/// As the type itself.
pub fn any_case<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(ANY_CASE, AnyCaseVisitor(PhantomData))
}

struct AnyCaseVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AnyCaseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}
