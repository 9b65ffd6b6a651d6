//! OTLP itself: the message tables, validation, JSON, and the small messages of responses.

pub mod json;
pub mod schema;
pub mod status;
