//! Changing the attributes of a message that is kept whole: a resource, a span's event, a log record, a data point.
//!
//! Such a message is small or seldom changed, so an edit rewrites it at once. Whatever is not the edited attribute is
//! copied as it stands: unknown fields, duplicates of other keys, the order of everything.

use std::borrow::Cow;

use bytes::Bytes;

use super::new_value::{AttributeEdit, NewValue, put_attribute, put_edited};
use super::view::{Attributes, KeyValue, Resource, Value};
use super::wire::{Fields, Repeated, bytes_field_len, put_bytes};

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

/// Field number of `Resource.attributes`.
const RESOURCE_ATTRIBUTES: u32 = 1;

/// The attributes of a resource, to read and to change.
pub(super) fn edit_resource(resource: &[u8], edit: &mut dyn FnMut(&mut AttributesMut<'_>)) -> Option<Vec<u8>> {
    let mut attributes = AttributesMut::new(resource, RESOURCE_ATTRIBUTES);
    edit(&mut attributes);
    attributes.into_changed()
}

/// Edits the resources of a request whose spans, points or records are not indexed. `None`: nothing was changed.
pub(super) fn edit_resources(request: &[u8], edit: &mut dyn FnMut(&mut AttributesMut<'_>)) -> Option<Bytes> {
    rewrite(request, &[1], &mut |container| {
        let own = Fields::new(container).find(|f| f.number == 1);
        let changed = edit_resource(own.map_or(&[], |f| f.bytes), edit)?;
        let (start, end) = own.map_or((0, 0), |f| (f.start, f.end));
        let mut out = Vec::with_capacity(container.len() + bytes_field_len(1, changed.len()));
        out.extend_from_slice(&container[..start]);
        put_bytes(&mut out, 1, &changed);
        out.extend_from_slice(&container[end..]);
        Some(out)
    })
    .map(Bytes::from)
}

/// Writes a message again with some of the messages in it changed: those at the end of `path`, a list of field numbers.
/// `None`: `edit` changed none of them.
pub(super) fn rewrite(message: &[u8], path: &[u32], edit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let Some((number, rest)) = path.split_first() else { return edit(message) };
    let mut out = Vec::new();
    let mut kept = 0;
    for field in Fields::new(message).filter(|f| f.number == *number) {
        if let Some(changed) = rewrite(field.bytes, rest, edit) {
            out.extend_from_slice(&message[kept..field.start]);
            put_bytes(&mut out, *number, &changed);
            kept = field.end;
        }
    }
    if kept == 0 {
        return None;
    }
    out.extend_from_slice(&message[kept..]);
    Some(out)
}

/// Leaves out the top-level containers whose resource is not wanted. `None`: all are.
pub(super) fn retain_resources(request: &[u8], keep: &mut dyn FnMut(Resource<'_>) -> bool) -> Option<Bytes> {
    let mut out = Vec::new();
    let (mut kept, mut dropped) = (0, false);
    for container in Fields::new(request).filter(|f| f.number == 1) {
        let resource = Fields::new(container.bytes).filter(|f| f.number == 1).last();
        if !keep(Resource(resource.map_or(&[], |f| f.bytes))) {
            out.extend_from_slice(&request[kept..container.start]);
            kept = container.end;
            dropped = true;
        }
    }
    out.extend_from_slice(&request[kept..]);
    dropped.then(|| out.into())
}
