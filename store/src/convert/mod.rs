//! From OTLP bytes to columns.
//!
//! ```text
//! requests ─► Rows::add ─► Rows::sort ─► Rows::partitions ─► Converter::convert ─► RecordBatch, sorted
//!             slices only   keys only                          one append per value
//! ```
//!
//! Spans are sorted while they are still slices of the requests, so that every value is copied once, to its final place.
//! Nothing here fails on what a client sent: what the columns cannot express goes to `otlp_rest` as it came.

pub(crate) mod any;
mod columns;
pub(crate) mod content;
mod known;
mod rows;
mod scan;
mod usage;

use std::ops::Range;

use deltalake::arrow::array::{Decimal128Builder, Float64Builder, Int64Builder, RecordBatch};
use deltalake::arrow::error::ArrowError;
use weir_pipeline::batch::wire::{self, Fields};

use self::any::Any;
use self::columns::{Columns, Texts, append_count, append_hex, append_nonempty, split_time};
use self::known::Slot;
pub use self::rows::{DEFAULT_ENVIRONMENT, Partition, Rows};
use self::rows::{ResourceRow, Row, ScopeRow};
use self::scan::SpanScan;
use self::usage::{Facts, Usage, money, span_type};

/// The prefix of the attributes that [`crate::schema`] calls association properties.
pub(crate) const ASSOCIATION: &str = "traceloop.association.properties.";

/// What is the same for all rows of a file.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// When the rows are written, in microseconds since the epoch.
    pub ingest_micros: i64,
    /// Who writes them: the application of the commit's transaction.
    pub source: String,
    /// The writer's count of flushes: the version of the commit's transaction, or below it.
    pub seq: i64,
}

/// Builds record batches of the [`spans`](crate::schema::spans) table. Keep it: buffers are used again.
pub struct Converter {
    columns: Columns,
    scratch: Vec<u8>,
    rest: Vec<u8>,
}

impl Default for Converter {
    fn default() -> Self {
        Self { columns: Columns::new(), scratch: Vec::new(), rest: Vec::new() }
    }
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Converter")
    }
}

impl Converter {
    /// Converts a range of rows.
    ///
    /// # Errors
    /// Only if a column would hold more than 2 GiB.
    pub fn convert(&mut self, rows: &Rows<'_>, range: Range<usize>, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
        // Text can grow six-fold when it becomes JSON, and no array may pass 2 GiB.
        if rows.bytes(range.clone()) > i32::MAX as usize / 6 {
            return Err(ArrowError::InvalidArgumentError("the spans are too large for one record batch".to_owned()));
        }
        let mut span = SpanScan::default();
        for row in rows.spans.get(range).unwrap_or_default() {
            span.read(row.span);
            let scope = rows.scopes.get(row.scope as usize);
            let resource = scope.and_then(|s| rows.resources.get(s.resource as usize));
            self.rest.clear();
            self.identity(row, rows.environment_of(row), &span, stamp);
            self.containers(scope.unwrap_or(&ScopeRow::default()), resource.unwrap_or(&ResourceRow::default()));
            self.content(&mut span);
            self.derived(&span);
            self.maps(&span);
            self.lists(&span);
            self.columns.span_bytes.append_value(i32::try_from(row.span.len()).unwrap_or(i32::MAX));
            append_bytes(&mut self.columns.otlp_rest, &self.rest);
        }
        self.columns.finish()
    }

    fn identity(&mut self, row: &Row<'_>, environment: &str, span: &SpanScan<'_>, stamp: &Stamp) {
        let c = &mut self.columns;
        c.environment.append_value(environment);
        c.date.append_value(row.date());
        append_hex(&mut c.trace_id, span.trace_id, &mut self.scratch);
        append_hex(&mut c.span_id, span.span_id, &mut self.scratch);
        if span.parent_span_id.is_empty() {
            c.parent_span_id.append_null();
        } else {
            append_hex(&mut c.parent_span_id, span.parent_span_id, &mut self.scratch);
        }
        let (micros, nanos) = split_time(span.start);
        c.start_time.append_value(micros);
        c.start_nanos.append_value(nanos);
        let duration = i128::from(span.end) - i128::from(span.start);
        let clamped = duration.clamp(i64::MIN.into(), i64::MAX.into());
        c.duration_ns.append_value(clamped as i64);
        if clamped != duration {
            wire::put_tag(&mut self.rest, 8, wire::FIXED64);
            self.rest.extend_from_slice(&span.end.to_le_bytes());
        }
        c.ingest_time.append_value(stamp.ingest_micros);
        c.source.append_value(&stamp.source);
        c.seq.append_value(stamp.seq);
        c.name.append_value(span.name);
        append_number(&mut c.kind, KINDS, span.kind);
        append_number(&mut c.status, STATUSES, span.status_code);
        append_nonempty(&mut c.status_message, span.status_message);
        c.has_status.append_value(span.has_status);
        append_nonempty(&mut c.trace_state, span.trace_state);
        self.rest.extend(span.unknown.iter().flat_map(|field| field.iter()));
        let counts = [
            (&mut c.flags, span.flags),
            (&mut c.dropped_attributes, span.dropped_attributes),
            (&mut c.dropped_events, span.dropped_events),
            (&mut c.dropped_links, span.dropped_links),
        ];
        for ((column, count), number) in counts.into_iter().zip([16, 10, 12, 14]) {
            if append_count(column, count) {
                continue;
            }
            if number == 16 {
                wire::put_tag(&mut self.rest, number, wire::FIXED32);
                self.rest.extend_from_slice(&count.to_le_bytes());
            } else {
                wire::put_uint(&mut self.rest, number, count.into());
            }
        }
    }

    fn containers(&mut self, scope: &ScopeRow<'_>, resource: &ResourceRow<'_>) {
        let c = &mut self.columns;
        c.service_name.append_option(resource.service_name.as_deref());
        c.scope_name.append_option(scope.name);
        append_nonempty(&mut c.scope_version, scope.version);
        append_nonempty(&mut c.resource_schema_url, resource.schema_url);
        append_nonempty(&mut c.scope_schema_url, scope.schema_url);
        for (key, value) in resource.attributes.iter().flatten() {
            c.resource_attributes.keys.append_value(key);
            c.resource_attributes.values.append_value(value);
        }
        c.resource_attributes.end(resource.attributes.is_some());
        append_bytes(&mut c.otlp_resource, resource.otlp.unwrap_or_default());
        append_bytes(&mut c.otlp_scope, scope.otlp.unwrap_or_default());
    }

    /// The content columns; marks the attributes that moved there.
    fn content(&mut self, span: &mut SpanScan<'_>) {
        let c = &mut self.columns;
        let mut bytes = 0;
        let targets = [
            (&mut c.input, &mut c.input_key),
            (&mut c.output, &mut c.output_key),
            (&mut c.tool_definitions, &mut c.tool_definitions_key),
        ];
        for (((column, key_column), spec), id) in targets.into_iter().zip(&content::COLUMNS).zip(0u8..) {
            let name = span.take_content(spec, id, &mut self.scratch, |text| {
                bytes += text.len();
                column.append_value(text);
            });
            if name.is_none() {
                column.append_null();
            }
            key_column.append_option(name.as_deref());
        }
        c.content_bytes.append_value(bytes as i64);
    }

    /// Columns that repeat what some attribute says.
    fn derived(&mut self, span: &SpanScan<'_>) {
        let c = &mut self.columns;
        c.span_type.append_value(span_type(span));
        let texts: [(&mut Texts, Slot); 15] = [
            (&mut c.workflow_name, Slot::WorkflowName),
            (&mut c.entity_name, Slot::EntityName),
            (&mut c.entity_path, Slot::EntityPath),
            (&mut c.agent_name, Slot::AgentName),
            (&mut c.prompt_key, Slot::PromptKey),
            (&mut c.prompt_version, Slot::PromptVersion),
            (&mut c.conversation_id, Slot::ConversationId),
            (&mut c.session_id, Slot::SessionId),
            (&mut c.user_id, Slot::UserId),
            (&mut c.provider, Slot::Provider),
            (&mut c.request_model, Slot::RequestModel),
            (&mut c.response_model, Slot::ResponseModel),
            (&mut c.price_key, Slot::PriceKey),
            (&mut c.price_version, Slot::PriceVersion),
            (&mut c.operation, span.operation()),
        ];
        for (column, slot) in texts {
            let appended =
                span.value(slot).and_then(|value| value.with_text(&mut self.scratch, |t| column.append_value(t)));
            if appended.is_none() {
                column.append_null();
            }
        }
        append_finish_reason(&mut c.finish_reason, span.value(Slot::FinishReason), &mut self.scratch);
        c.streaming.append_option(span.streaming());
        let doubles: [(&mut Float64Builder, Slot); 2] =
            [(&mut c.temperature, Slot::Temperature), (&mut c.top_p, Slot::TopP)];
        for (column, slot) in doubles {
            column.append_option(span.value(slot).and_then(Any::as_double));
        }
        c.max_tokens.append_option(span.value(Slot::MaxTokens).and_then(Any::as_count));
        c.ttft_ns.append_option(span.time_to_first_token());
        let usage = Usage::of(span);
        let counts: [(&mut Int64Builder, Option<i64>); 8] = [
            (&mut c.input_tokens, usage.input),
            (&mut c.output_tokens, usage.output),
            (&mut c.cache_read_tokens, usage.cache_read),
            (&mut c.cache_write_tokens, usage.cache_write),
            (&mut c.reasoning_tokens, usage.reasoning),
            (&mut c.audio_input_tokens, usage.audio_input),
            (&mut c.audio_output_tokens, usage.audio_output),
            (&mut c.total_tokens, usage.total),
        ];
        counts.into_iter().for_each(|(column, count)| column.append_option(count));
        let costs: [(&mut Decimal128Builder, Slot); 5] = [
            (&mut c.input_cost, Slot::InputCost),
            (&mut c.output_cost, Slot::OutputCost),
            (&mut c.cache_read_cost, Slot::CacheReadCost),
            (&mut c.cache_write_cost, Slot::CacheWriteCost),
            (&mut c.total_cost, Slot::TotalCost),
        ];
        costs.into_iter().for_each(|(column, slot)| column.append_option(span.value(slot).and_then(money)));
    }

    /// The open part.
    fn maps(&mut self, span: &SpanScan<'_>) {
        let c = &mut self.columns;
        for (attribute, fate) in span.attributes.iter().zip(&span.fates) {
            let key = attribute.key;
            if fate.rest {
                wire::put_bytes(&mut self.rest, 9, attribute.raw);
            }
            if fate.superseded || fate.moved {
                continue;
            }
            let mut exact = true;
            let association = key.strip_prefix(ASSOCIATION.as_bytes());
            if let Some(property) = association {
                let map = &mut c.association_properties;
                map.keys.append_value(property);
                let text = attribute.value.with_text(&mut self.scratch, |t| map.values.append_value(t));
                if text.is_none() {
                    map.values.append_null();
                }
            }
            match attribute.value {
                Any::Str(_) if association.is_some() => {}
                Any::Str(s) => {
                    c.attributes_string.keys.append_value(key);
                    c.attributes_string.values.append_value(s);
                }
                Any::Int(i) => {
                    c.attributes_int.keys.append_value(key);
                    c.attributes_int.values.append_value(i);
                }
                Any::Double(d) => {
                    c.attributes_double.keys.append_value(key);
                    c.attributes_double.values.append_value(d);
                }
                Any::Bool(b) => {
                    c.attributes_bool.keys.append_value(key);
                    c.attributes_bool.values.append_value(b);
                }
                other => {
                    self.scratch.clear();
                    exact = any::write_json(&mut self.scratch, other);
                    c.attributes_json.keys.append_value(key);
                    c.attributes_json.values.append_value(&self.scratch);
                }
            }
            if !exact && !fate.rest {
                wire::put_bytes(&mut self.rest, 9, attribute.raw);
            }
        }
        c.association_properties.end(true);
        c.attributes_string.end(true);
        c.attributes_int.end(true);
        c.attributes_double.end(true);
        c.attributes_bool.end(true);
        c.attributes_json.end(true);
    }

    fn lists(&mut self, span: &SpanScan<'_>) {
        if !self.columns.events.append(&span.events, &mut self.scratch) {
            span.events.iter().for_each(|event| wire::put_bytes(&mut self.rest, 11, event));
        }
        if !self.columns.links.append(&span.links, &mut self.scratch) {
            span.links.iter().for_each(|link| wire::put_bytes(&mut self.rest, 13, link));
        }
    }
}

/// Names of span kinds by number.
pub(crate) const KINDS: &[&str] = &["unspecified", "internal", "server", "client", "producer", "consumer"];
/// Names of status codes by number.
pub(crate) const STATUSES: &[&str] = &["unset", "ok", "error"];

fn append_number(column: &mut Texts, names: &[&str], number: i32) {
    match usize::try_from(number).ok().and_then(|n| names.get(n)) {
        Some(name) => column.append_value(name),
        None => column.append_value(&number.to_string()),
    }
}

fn append_bytes(column: &mut deltalake::arrow::array::BinaryBuilder, bytes: &[u8]) {
    if bytes.is_empty() { column.append_null() } else { column.append_value(bytes) }
}

/// The first finish reason: some conventions send a list, some a list in a string.
fn append_finish_reason(column: &mut Texts, value: Option<Any<'_>>, scratch: &mut Vec<u8>) {
    match value {
        Some(Any::Array(array)) => {
            let first = Fields::new(array).next().and_then(|f| Any::read(f.bytes).0.as_str());
            column.append_option(first);
        }
        Some(Any::Str(s)) if s.starts_with(b"[\"") => {
            let list: Vec<String> = serde_json::from_slice(s).unwrap_or_default();
            column.append_option(list.first());
        }
        Some(other) => {
            if other.with_text(scratch, |text| column.append_value(text)).is_none() {
                column.append_null();
            }
        }
        None => column.append_null(),
    }
}

#[cfg(test)]
mod tests;
