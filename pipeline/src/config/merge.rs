//! Several configuration sources as one.

use super::node::{Node, Value};

/// Lays `upper`, the later source, over `lower`: mappings merge key by key, lists and other values replace.
///
/// Decision: a key without a value in a later source changes nothing. In the Collector it deletes what earlier sources
/// said under that key, which its documentation lists among the surprises; nothing deletes here. Each node keeps the
/// location in the file that it came from.
pub(crate) fn merge(lower: &mut Node, upper: Node) {
    if upper.is_null() {
        return;
    }
    let both_maps = matches!((lower.value(), upper.value()), (Value::Map(_), Value::Map(_)));
    if !both_maps {
        *lower = upper;
        return;
    }
    let Value::Map(entries) = lower.value_mut() else { return };
    for (key, node) in upper.into_entries() {
        match entries.iter_mut().find(|(existing, _)| existing.text == key.text) {
            None => entries.push((key, node)),
            Some((existing, below)) => {
                // A replaced value is described by the key that replaced it.
                let replaced = !node.is_null() && !matches!(node.value(), Value::Map(_));
                merge(below, node);
                if replaced {
                    *existing = key;
                }
            }
        }
    }
}
