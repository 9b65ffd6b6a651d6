//! Writing a message again with some of the messages in it changed or left out.
//!
//! What an edit does not touch is copied as it stands: unknown fields, the order of everything, the spelling of lengths.
//! Only the length prefixes above an edit are written anew. The tables of [`schema`](crate::otlp::schema) say what a
//! field holds, so that whoever edits a message knows where its attributes are.

use super::resource::AttributesMut;
use super::wire::{Fields, put_bytes};
use crate::otlp::schema::Message;

/// What has become of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// Nothing: its bytes stay.
    Same,
    /// It has these bytes now.
    Changed(Vec<u8>),
    /// It is left out.
    Dropped,
    /// It has lost all that it was there for, and is left out of what it is in. These bytes are the rest, which a whole
    /// request keeps.
    Emptied(Vec<u8>),
}

/// Calls `edit` for each message that `path` leads to, and does with it what that says. A step of the path are numbers
/// of fields that hold messages, any of which is followed. A message that loses the last one of those that the path
/// leads through is left out itself; one that never had any stays.
pub(super) fn rewrite(
    kind: &'static Message,
    message: &[u8],
    path: &[&[u32]],
    edit: &mut dyn FnMut(&'static Message, &[u8]) -> Rewritten,
) -> Rewritten {
    let Some((numbers, rest)) = path.split_first() else { return edit(kind, message) };
    let mut out = Vec::new();
    let (mut copied, mut left, mut has_changed) = (0, 0, false);
    for field in Fields::new(message).filter(|field| numbers.contains(&field.number)) {
        let Some(inner) = kind.field(field.number).and_then(|field| field.kind.message()) else { continue };
        let rewritten = rewrite(inner, field.bytes, rest, edit);
        if !matches!(rewritten, Rewritten::Dropped | Rewritten::Emptied(_)) {
            left += 1;
        }
        if rewritten == Rewritten::Same {
            continue;
        }
        if !has_changed {
            // Edits mostly add a little.
            out.reserve(message.len() + message.len() / 8);
            has_changed = true;
        }
        out.extend_from_slice(&message[copied..field.start]);
        if let Rewritten::Changed(bytes) = rewritten {
            put_bytes(&mut out, field.number, &bytes);
        }
        copied = field.end;
    }
    if !has_changed {
        return Rewritten::Same;
    }
    out.extend_from_slice(&message[copied..]);
    if left == 0 { Rewritten::Emptied(out) } else { Rewritten::Changed(out) }
}

/// Shows the attributes of a message of this kind to `edit`, which may change them.
pub(super) fn edit_attributes(
    kind: &'static Message,
    message: &[u8],
    edit: &mut dyn FnMut(&mut AttributesMut<'_>),
) -> Rewritten {
    let Some(mut attributes) = AttributesMut::of(kind, message) else { return Rewritten::Same };
    edit(&mut attributes);
    attributes.into_changed().map_or(Rewritten::Same, Rewritten::Changed)
}
