//! Errors at the place they are about.

use weir_pipeline::config::{ConfigError, Node};

/// A place in the configuration: the keys that lead there, and the deepest node on that way that is written.
#[derive(Debug, Clone)]
pub(in crate::otlp) struct At<'n> {
    node: &'n Node,
    path: String,
    is_written: bool,
}

impl<'n> At<'n> {
    pub(super) fn new(node: &'n Node, path: &str) -> Self {
        Self { node, path: path.to_owned(), is_written: true }
    }

    /// The place under a key.
    pub(in crate::otlp) fn key(&self, key: &str) -> Self {
        let child = if self.is_written { self.node.get(key) } else { None };
        Self { node: child.unwrap_or(self.node), path: format!("{}::{key}", self.path), is_written: child.is_some() }
    }

    /// The place of an item of a list.
    pub(in crate::otlp) fn item(&self, index: usize) -> Self {
        let child = if self.is_written { self.node.items().get(index) } else { None };
        Self { node: child.unwrap_or(self.node), path: format!("{}[{index}]", self.path), is_written: child.is_some() }
    }

    pub(super) fn node(&self) -> &'n Node {
        self.node
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong here.
    pub(in crate::otlp) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.node.error(&self.path, message)
    }
}
