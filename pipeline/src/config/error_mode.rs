//! `error_mode`, beside conditions.

use schemars::JsonSchema;
use serde::Deserialize;

/// What the Collector does with a condition that fails. Here none can, so it is checked and no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// The condition does not hold, and the failure is logged.
    #[default]
    Ignore,
    /// The data is refused.
    Propagate,
    /// The condition does not hold.
    Silent,
}
