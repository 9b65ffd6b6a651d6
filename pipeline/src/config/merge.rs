//! Several configuration sources as one.

use super::error::Warning;
use super::node::{Node, Value};

/// Lays `upper`, the later source, over `lower`: mappings merge key by key, everything else replaces. Each node keeps
/// the location in the source that it came from. A source without any value changes nothing.
///
/// Decision: a key without a value replaces too, as in the Collector: `processors:` in a later source removes what
/// earlier ones say there, and so the same files mean the same here and there. Whoever only left the section empty is
/// warned; `processors: {}` removes nothing.
pub(crate) fn merge(lower: &mut Node, upper: Node, warnings: &mut Vec<Warning>) {
    if !upper.is_null() {
        lay(lower, upper, &mut String::new(), warnings);
    }
}

fn lay(lower: &mut Node, upper: Node, path: &mut String, warnings: &mut Vec<Warning>) {
    let both_maps = matches!((lower.value(), upper.value()), (Value::Map(_), Value::Map(_)));
    if !both_maps {
        if upper.is_null() && (!lower.entries().is_empty() || !lower.items().is_empty()) {
            warnings.push(Warning {
                location: upper.location().clone(),
                path: path.clone(),
                message: format!(
                    "no value here removes what {} says; to change nothing, remove the key",
                    lower.location()
                ),
            });
        }
        *lower = upper;
        return;
    }
    let Value::Map(entries) = lower.value_mut() else { return };
    for (key, node) in upper.into_entries() {
        match entries.iter_mut().find(|(existing, _)| existing.text == key.text) {
            None => entries.push((key, node)),
            Some((existing, below)) => {
                let parent = path.len();
                if parent > 0 {
                    path.push_str("::");
                }
                path.push_str(&key.text);
                // A replaced value is described by the key that replaced it.
                let replaced = !matches!(node.value(), Value::Map(_));
                lay(below, node, path, warnings);
                if replaced {
                    *existing = key;
                }
                path.truncate(parent);
            }
        }
    }
}
