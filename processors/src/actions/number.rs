//! Texts as numbers, for `convert`.

pub(super) use crate::number::float;
