//! The configuration layer: Collector-compatible YAML in, a located tree and typed structs out.
//!
//! ```text
//!   --config, --set ──provider──▶ text ──source──▶ Node tree ──merge──▶ one tree ──expand──▶ ${…} replaced
//!                                                                                              │ document
//!                               its own struct ◀── Node::parse_as ── per component ── Document ◀─┘
//!                                     │
//!                                     └── schema ──▶ what editors know, and what `print` leaves out
//! ```
//!
//! Every [`Node`] knows its file, line and column, so every error does too: `weir.yaml:12:7: receivers::otlp::protocols:
//! unknown key `htpp`: did you mean `http`? known keys: grpc, http`. Nothing here logs: warnings are returned.
//!
//! What component configurations use: `#[derive(Deserialize, JsonSchema)] #[serde(default, deny_unknown_fields)]` structs
//! (see [`schema`]), [`Optional`] for the Collector's `configoptional` sections, [`Secret`] for credentials, [`units`] for
//! durations and sizes, [`ComponentId`] for references to other components and [`Node`] itself for a part decoded later.
//!
//! Rules for a key without a value (`endpoint:`), as in the Collector:
//!
//! * for a struct, its defaults; for an [`Optional`] section, enabled with defaults;
//! * for any other field of a struct, as if the key were not there;
//! * as a text in a map or a list, the empty text.
//!
//! `#[serde(flatten)]` works, but serde buffers what it flattens: errors inside are then located at the enclosing
//! mapping, and a plain `0123` or `true` no longer fits a text field. Prefer naming the fields.

mod any_case;
mod de;
pub mod document;
mod error;
mod error_mode;
mod expand;
mod id;
mod merge;
mod node;
mod optional;
mod print;
mod provider;
mod scalar;
pub mod schema;
mod secret;
mod source;
pub(crate) mod suggest;
pub mod units;

pub use any_case::any_case;
pub use document::{Document, Pipeline, Reference, RefusedDocument, Service};
pub use error::{ConfigError, ConfigErrors, Location, Warning};
pub use error_mode::ErrorMode;
pub use id::{ComponentId, InvalidId, PipelineId};
pub use node::{Key, Node, Scalar, Style, Value};
pub use optional::{Optional, without_defaults};
pub use print::{Secrets, Tree};
pub use provider::Source;
pub use secret::Secret;
pub use suggest::closest;
