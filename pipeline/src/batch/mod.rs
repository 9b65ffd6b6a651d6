//! What moves through Weir: OTLP bytes as they arrived, and views into them.

pub mod validate;
pub mod view;
pub mod wire;
