//! Settings of the Collector's that change nothing.

use weir_pipeline::config::{Node, Warning};

/// Says in the log that a setting, which stands at `path`, has nothing that it could change, and why.
pub(crate) fn warn_of_moot(setting: &Node, path: &str, why: &str) {
    let location = setting.location().clone();
    tracing::warn!("{}", Warning { location, path: path.to_owned(), message: format!("has no effect: {why}") });
}
