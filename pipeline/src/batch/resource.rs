//! Changing the attributes of a message that is kept whole: a resource, a span's event, a log record, a data point.
//!
//! Such a message is small or seldom changed, so an edit rewrites it at once. Whatever is not the edited attribute is
//! copied as it stands: unknown fields, duplicates of other keys, the order of everything.

use std::borrow::Cow;

use super::new_value::{AttributeEdit, NewValue, put_attribute, put_edited};
use super::rewrite::{Rewritten, edit_attributes, rewrite};
use super::view::{Attributes, KeyValue, Resource, Value};
use super::wire::{Fields, Repeated, bytes_field_len, put_bytes};
use crate::otlp::schema::{Message, RESOURCE};

/// The attributes of one message, to read and to change.
pub struct AttributesMut<'a> {
    message: Cow<'a, [u8]>,
    /// Field number of the repeated `KeyValue`.
    number: u32,
}

impl<'a> AttributesMut<'a> {
    pub(super) fn new(message: &'a [u8], number: u32) -> Self {
        Self { message: Cow::Borrowed(message), number }
    }

    /// The attributes of a message of this kind, if it can have any.
    pub(super) fn of(kind: &Message, message: &'a [u8]) -> Option<Self> {
        Some(Self::new(message, kind.attributes_number()?))
    }

    /// The message as it is now.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// The changed message, if it was changed.
    pub(super) fn into_changed(self) -> Option<Vec<u8>> {
        match self.message {
            Cow::Borrowed(_) => None,
            Cow::Owned(message) => Some(message),
        }
    }

    /// The attributes as they are now.
    pub fn view(&self) -> Attributes<'_> {
        Attributes { bytes: &self.message, number: self.number }
    }

    /// The last attribute with this key, with its value not yet read.
    pub fn raw_attr(&self, key: &str) -> Option<KeyValue<'_>> {
        Repeated::new(&self.message, self.number).map(KeyValue::parse).filter(|kv| kv.key == *key).last()
    }

    /// The value of the last attribute with this key.
    pub fn attr(&self, key: &str) -> Option<Value<'_>> {
        self.raw_attr(key).map(KeyValue::value)
    }

    /// Sets an attribute, whether or not the key is there.
    pub fn set(&mut self, key: &str, value: NewValue<'_>) {
        let mut message = self.without(key);
        put_attribute(&mut message, self.number, key, value);
        self.message = Cow::Owned(message);
    }

    /// Removes every attribute with this key.
    pub fn remove(&mut self, key: &str) {
        if self.raw_attr(key).is_some() {
            self.message = Cow::Owned(self.without(key));
        }
    }

    /// Calls `edit` for each attribute and does with it what that says; for many of them at once, in linear time.
    pub fn edit_each(&mut self, mut edit: impl FnMut(KeyValue<'_>) -> AttributeEdit) {
        let mut message = Vec::with_capacity(self.message.len());
        if put_edited(&mut message, &self.message, self.number, &mut edit) {
            let mut kept = 0;
            for field in Fields::new(&self.message).filter(|f| f.number == self.number) {
                message.extend_from_slice(&self.message[kept..field.start]);
                kept = field.end;
            }
            message.extend_from_slice(&self.message[kept..]);
            self.message = Cow::Owned(message);
        }
    }

    fn without(&self, key: &str) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.message.len() + 64);
        let mut kept = 0;
        for field in Fields::new(&self.message) {
            if field.number == self.number && KeyValue::parse(field.bytes).key == *key {
                message.extend_from_slice(&self.message[kept..field.start]);
                kept = field.end;
            }
        }
        message.extend_from_slice(&self.message[kept..]);
        message
    }
}

/// The attributes of a resource, to read and to change.
pub(super) fn edit_resource(resource: &[u8], edit: &mut dyn FnMut(&mut AttributesMut<'_>)) -> Rewritten {
    edit_attributes(&RESOURCE, resource, edit)
}

/// Edits the resources of a request whose points or records are not indexed.
pub(super) fn edit_resources(
    kind: &'static Message,
    request: &[u8],
    edit: &mut dyn FnMut(&mut AttributesMut<'_>),
) -> Rewritten {
    // Not one step further, because a container without a resource gets one if `edit` says so.
    rewrite(kind, request, CONTAINERS, &mut |_, container| {
        let own = Fields::new(container).find(|f| f.number == 1);
        let Rewritten::Changed(changed) = edit_resource(own.map_or(&[], |f| f.bytes), edit) else {
            return Rewritten::Same;
        };
        let (start, end) = own.map_or((0, 0), |f| (f.start, f.end));
        let mut out = Vec::with_capacity(container.len() + bytes_field_len(1, changed.len()));
        out.extend_from_slice(&container[..start]);
        put_bytes(&mut out, 1, &changed);
        out.extend_from_slice(&container[end..]);
        Rewritten::Changed(out)
    })
}

/// Leaves out the top-level containers whose resource is not wanted.
pub(super) fn retain_resources(
    kind: &'static Message,
    request: &[u8],
    keep: &mut dyn FnMut(Resource<'_>) -> bool,
) -> Rewritten {
    rewrite(kind, request, CONTAINERS, &mut |_, container| {
        if keep(resource_of(container)) { Rewritten::Same } else { Rewritten::Dropped }
    })
}

/// What a request holds for each resource.
const CONTAINERS: &[&[u32]] = &[&[1]];

/// The resource of a top-level container.
pub(super) fn resource_of(container: &[u8]) -> Resource<'_> {
    Resource(Fields::new(container).find(|f| f.number == 1).map_or(&[], |f| f.bytes))
}
