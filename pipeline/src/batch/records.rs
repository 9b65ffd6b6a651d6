//! Log records and metrics, to read, to change and to leave out.
//!
//! Requests of logs and metrics are not indexed: a pass over their records walks the request, and what is changed or left
//! out is written anew at once ([`rewrite`](super::rewrite)). A request of which nothing changes keeps its bytes.

use std::borrow::Cow;

use super::resource::{AttributesMut, resource_of};
use super::rewrite::{Rewritten, edit_attributes, rewrite};
use super::view::{Attributes, KeyValue, Resource, Scope, Text, Value};
use super::wire::{Fields, RawField, Repeated};
use super::{Batch, message_of};
use crate::otlp::schema::{LOG_RECORD, Message};
use crate::signal::Signal;
use crate::tenant::Tenant;

/// Where a record comes from.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    resource: Resource<'a>,
    scope: Scope<'a>,
    tenant: Option<&'a Tenant>,
}

/// A view of a log record.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    origin: Origin<'a>,
    message: &'a [u8],
}

/// A log record that can be changed.
pub struct LogRecordMut<'a> {
    origin: Origin<'a>,
    attributes: AttributesMut<'a>,
}

/// A view of a metric: its name, and the data points under it.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'a> {
    origin: Origin<'a>,
    message: &'a [u8],
}

/// A metric whose data points can be changed.
pub struct MetricMut<'a> {
    origin: Origin<'a>,
    kind: &'static Message,
    message: Cow<'a, [u8]>,
}

/// Field number of `LogRecord.attributes`.
const LOG_ATTRIBUTES: u32 = match LOG_RECORD.attributes_number() {
    Some(number) => number,
    None => panic!("log records have attributes"),
};

/// From a metric to its data points, whatever their type: gauge, sum, histogram, exponential histogram, summary.
const DATA_POINTS: &[&[u32]] = &[&[5, 7, 9, 10, 11], &[1]];

impl Batch {
    /// Calls `edit` for each log record, which may read it and change its attributes. Nothing for traces and metrics.
    pub fn for_each_log_record_mut(&mut self, mut edit: impl FnMut(&mut LogRecordMut<'_>)) {
        self.retain_log_records_mut(|record| {
            edit(record);
            true
        });
    }

    /// Keeps the log records for which `keep` is true, whose attributes it may change on the way, and returns how many
    /// were dropped. The caller counts them (I2).
    pub fn retain_log_records_mut(&mut self, mut keep: impl FnMut(&mut LogRecordMut<'_>) -> bool) -> usize {
        self.rewrite_items(Signal::Logs, &mut |origin, _, message| {
            let mut record = LogRecordMut { origin, attributes: AttributesMut::new(message, LOG_ATTRIBUTES) };
            if !keep(&mut record) {
                return Rewritten::Dropped;
            }
            record.attributes.into_changed().map_or(Rewritten::Same, Rewritten::Changed)
        })
    }

    /// Calls `edit` for each metric, which may change its data points. Nothing for traces and logs.
    pub fn for_each_metric_mut(&mut self, mut edit: impl FnMut(&mut MetricMut<'_>)) {
        self.rewrite_items(Signal::Metrics, &mut |origin, kind, message| {
            let mut metric = MetricMut { origin, kind, message: Cow::Borrowed(message) };
            edit(&mut metric);
            match metric.message {
                Cow::Borrowed(_) => Rewritten::Same,
                Cow::Owned(message) => Rewritten::Changed(message),
            }
        });
    }

    /// Keeps the metrics for which `keep` is true and returns how many data points the others had. The caller counts
    /// them (I2).
    pub fn retain_metrics(&mut self, mut keep: impl FnMut(Metric<'_>) -> bool) -> usize {
        self.rewrite_items(Signal::Metrics, &mut |origin, _, message| {
            if keep(Metric { origin, message }) { Rewritten::Same } else { Rewritten::Dropped }
        })
    }

    /// Does with each log record or metric of the batch, if it holds this signal, what `edit` says. Returns how many
    /// records fewer there are.
    fn rewrite_items(
        &mut self,
        signal: Signal,
        edit: &mut dyn FnMut(Origin<'_>, &'static Message, &[u8]) -> Rewritten,
    ) -> usize {
        if self.signal != signal {
            return 0;
        }
        let before = self.len();
        for chunk in &mut self.chunks {
            let tenant = chunk.tenant.as_deref();
            let rewritten = rewrite(message_of(signal), &chunk.bytes, &[&[1]], &mut |kind, container| {
                let resource = resource_of(container);
                rewrite(kind, container, &[&[2]], &mut |kind, group| {
                    let scope = Scope(Fields::new(group).find(|f| f.number == 1).map_or(&[], |f| f.bytes));
                    let origin = Origin { resource, scope, tenant };
                    rewrite(kind, group, &[&[2]], &mut |kind, item| edit(origin, kind, item))
                })
            });
            chunk.become_rewritten(signal, rewritten);
        }
        let after = self.len();
        if after < before {
            self.chunks.retain(|chunk| chunk.records > 0);
        }
        before - after
    }
}

impl<'a> LogRecord<'a> {
    /// The resource it belongs to.
    pub fn resource(self) -> Resource<'a> {
        self.origin.resource
    }

    /// The instrumentation scope it belongs to.
    pub fn scope(self) -> Scope<'a> {
        self.origin.scope
    }

    /// Whose it is, if that is known.
    pub fn tenant(self) -> Option<&'a Tenant> {
        self.origin.tenant
    }

    /// What it says.
    pub fn body(self) -> Value<'a> {
        self.last(5).map_or(Value::Empty, |field| Value::parse(field.bytes))
    }

    /// `SeverityNumber`; 0 where nothing is said.
    pub fn severity_number(self) -> i32 {
        self.last(2).map_or(0, |field| field.scalar as i32)
    }

    /// The severity in the words of its source.
    pub fn severity_text(self) -> Text<'a> {
        self.last(3).map_or(Text::default(), |field| Text(field.bytes))
    }

    /// 16 bytes where it belongs to a trace; whatever was sent otherwise.
    pub fn trace_id(self) -> &'a [u8] {
        self.last(9).map_or(&[], |field| field.bytes)
    }

    /// Its attributes.
    pub fn attributes(self) -> Attributes<'a> {
        Attributes { bytes: self.message, number: LOG_ATTRIBUTES }
    }

    /// The value of the last attribute with this key.
    pub fn attr(self, key: &str) -> Option<Value<'a>> {
        let with_key = Repeated::new(self.message, LOG_ATTRIBUTES).map(KeyValue::parse).filter(|kv| kv.key == *key);
        with_key.last().map(KeyValue::value)
    }

    fn last(self, number: u32) -> Option<RawField<'a>> {
        last(self.message, number)
    }
}

/// Protobuf: of a field that occurs several times, the last one counts.
fn last(message: &[u8], number: u32) -> Option<RawField<'_>> {
    Fields::new(message).filter(|field| field.number == number).last()
}

impl<'a> LogRecordMut<'a> {
    /// The record as it is now.
    pub fn view(&self) -> LogRecord<'_> {
        LogRecord { origin: self.origin, message: self.attributes.message() }
    }

    /// Its attributes, to change.
    pub fn attributes(&mut self) -> &mut AttributesMut<'a> {
        &mut self.attributes
    }
}

impl<'a> Metric<'a> {
    /// The resource it belongs to.
    pub fn resource(self) -> Resource<'a> {
        self.origin.resource
    }

    /// The instrumentation scope it belongs to.
    pub fn scope(self) -> Scope<'a> {
        self.origin.scope
    }

    /// Whose it is, if that is known.
    pub fn tenant(self) -> Option<&'a Tenant> {
        self.origin.tenant
    }

    /// The metric's name.
    pub fn name(self) -> Text<'a> {
        last(self.message, 1).map_or(Text::default(), |field| Text(field.bytes))
    }
}

impl MetricMut<'_> {
    /// The metric as it is now.
    pub fn view(&self) -> Metric<'_> {
        Metric { origin: self.origin, message: &self.message }
    }

    /// Calls `edit` with the attributes of each data point, which it may change.
    pub fn for_each_data_point(&mut self, mut edit: impl FnMut(&mut AttributesMut<'_>)) {
        let mut edit_point = |kind: &'static Message, point: &[u8]| edit_attributes(kind, point, &mut edit);
        if let Rewritten::Changed(message) = rewrite(self.kind, &self.message, DATA_POINTS, &mut edit_point) {
            self.message = Cow::Owned(message);
        }
    }
}
