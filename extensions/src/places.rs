//! Where in a configuration an error is.

use weir_pipeline::config::{ConfigError, Node};

/// An error about the value that `keys` lead to from the component's node, or about the last of them that is there.
pub fn error_at(node: &Node, path: &str, keys: &[&str], message: impl Into<String>) -> ConfigError {
    let mut place = node;
    let mut full = path.to_owned();
    for key in keys {
        full = format!("{full}::{key}");
        place = place.get(key).unwrap_or(place);
    }
    place.error(&full, message)
}
